"""Stages: clock offsets between uncalibrated cameras, estimated from when things move in each picture.

Two cameras see the same people from other sides, so where motion appears differs, but when it starts,
stops and peaks does not. Per camera, frame differences are summed over the cells of a coarse grid; the
main components of those series, with flattened spectra, are cross-correlated for every lag (generalised
cross-correlation: Knapp and Carter, 1976, summed over all pairs of components). What a lag's score means is
judged against the same score at lags far outside the permitted range, which cannot be true. Pairwise lags
that pass are reconciled by least squares; a camera that no reliable pair reaches keeps offset 0, "none".
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Motion", "MotionMeter", "Offset", "PairLag", "estimate_offsets", "pair_lag"]

Doubles = NDArray[np.float64]

LONG_SIDE = 96
"""Pictures are measured at this long side, px: motion survives, noise and coding do not."""
GRID = 8, 6
COMPONENTS = 6
NOISE_LEVELS = 6.0
"""Frame differences up to this many grey levels count as noise."""
TREND_S = 1.5
TAPER = 0.15
"""Share of the series that fades in and out; without it the jump at the wrap matches at lag 0."""
MIN_SECONDS = 8.0
MAX_CHANCE = 1e-3
"""A pair counts if chance gives so good a peak with less than this probability ..."""
MAX_CHANCE_ALONE = 1e-4
"""... or less than this, where no second pair confirms the camera."""
MAX_RESIDUAL_S = 0.08
"""Pairwise lags that contradict the others by more than this are dropped."""


@dataclass(frozen=True)
class Motion:
    """Motion of one camera: `time_s` (T,) on the file's clock, between two frames; `cells` (T, C) >= 0;
    `kinds` (T,) tells how the two frames were coded (codecs make pictures of some kinds sharper)."""

    time_s: Doubles
    cells: Doubles
    kinds: NDArray[np.int64]


@dataclass(frozen=True)
class PairLag:
    """Offset of camera `b` minus offset of camera `a` in seconds, and the chance of such a peak."""

    a: int
    b: int
    seconds: float
    chance: float


@dataclass(frozen=True)
class Offset:
    """Seconds to add to a file's time; `source` is estimated or none; `pairs` that support it."""

    seconds: float
    source: str
    pairs: int = 0


class MotionMeter:
    """Collects the motion of one camera from small grey pictures, in order."""

    def __init__(self) -> None:
        self._previous: NDArray[np.float32] | None = None
        self._last = 0.0
        self._times: list[float] = []
        self._cells: list[Doubles] = []
        self._kinds: list[int] = []
        self._kind = 0

    @staticmethod
    def size(width: int, height: int) -> tuple[int, int]:
        """(width, height) at which pictures of this size are to be given."""
        scale = LONG_SIDE / max(width, height)
        return max(16, round(width * scale)), max(16, round(height * scale))

    def push(self, time_s: float, grey: NDArray[np.uint8], kind: int = 0) -> None:
        """Add the picture (H, W) shown at `time_s`; `kind` is its coding type (I, P, B as numbers)."""
        picture = grey.astype(np.float32)
        if self._previous is not None and time_s > self._last:
            moved = np.maximum(np.abs(picture - self._previous) - NOISE_LEVELS, 0.0)
            columns, rows = GRID if picture.shape[1] >= picture.shape[0] else GRID[::-1]
            down = np.linspace(0, picture.shape[0], rows + 1).astype(int)[:-1]
            across = np.linspace(0, picture.shape[1], columns + 1).astype(int)[:-1]
            cells = np.add.reduceat(np.add.reduceat(moved, down, axis=0), across, axis=1)
            self._cells.append(cells.ravel().astype(np.float64))
            self._times.append((time_s + self._last) / 2)
            self._kinds.append(10 * self._kind + kind)
        self._previous, self._last, self._kind = picture, time_s, kind

    def motion(self) -> Motion:
        """What was collected."""
        cells = np.array(self._cells).reshape(len(self._times), GRID[0] * GRID[1])
        return Motion(np.array(self._times), cells, np.array(self._kinds, dtype=np.int64))


def pair_lag(a: Motion, b: Motion, max_lag_s: float) -> tuple[float, float] | None:
    """Lag between two cameras.

    Args:
        a, b: their motion; max_lag_s: largest lag that is permitted.

    Returns:
        (offset of b minus offset of a in seconds, probability of such a peak by chance), or None where the
        recordings are too short for the range or nothing moves.
    """
    if min(len(a.time_s), len(b.time_s)) < 16:
        return None
    step = float(max(min(np.median(np.diff(a.time_s)), np.median(np.diff(b.time_s))), 1 / 30))
    begin, end = max(a.time_s[0], b.time_s[0]), min(a.time_s[-1], b.time_s[-1])
    grid = np.arange(begin, end, step)
    reach = int(np.ceil(max_lag_s / step))
    if len(grid) * step < max(MIN_SECONDS, 8 * max_lag_s):
        return None
    first, second = (_components(_resample(m, grid), step) for m in (a, b))
    if first is None or second is None:
        return None
    score = _scores(first, second)
    lags = (np.arange(len(score)) + len(score) // 2) % len(score) - len(score) // 2
    inside, outside = np.abs(lags) <= reach, np.abs(lags) > reach + max(reach, round(1 / step))
    best = int(np.flatnonzero(inside)[np.argmax(score[inside])])
    chance = _chance(score[best], score[outside], int(inside.sum()))
    lag = lags[best] + _vertex(score[best - 1], score[best], score[(best + 1) % len(score)])
    return -float(lag) * step, chance


def _resample(motion: Motion, grid: Doubles) -> Doubles:
    level = np.log1p(motion.cells)
    spread = level.std(axis=0)
    for kind in np.unique(motion.kinds):
        # A rhythm of coding that two files share must not show, neither in level nor in spread.
        rows = motion.kinds == kind
        part = level[rows] - level[rows].mean(axis=0)
        level[rows] = part * (spread / np.maximum(part.std(axis=0), 0.1 * spread + 1e-9))
    columns = [np.interp(grid, motion.time_s, column) for column in level.T]
    return np.stack(columns, axis=1)


def _components(series: Doubles, step: float) -> Doubles | None:
    """Main components (T, K) without slow trends, each with a flat spectrum; None where nothing moves."""
    half = max(2, round(TREND_S / step))
    total = np.cumsum(np.vstack([np.zeros((1, series.shape[1])), series]), axis=0)
    low = np.maximum(np.arange(len(series)) - half, 0)
    high = np.minimum(np.arange(len(series)) + half + 1, len(series))
    detrended = series - (total[high] - total[low]) / (high - low)[:, None]
    edge = max(4, round(TAPER * len(series)))
    window = np.ones(len(series))
    window[:edge] = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
    window[-edge:] = window[:edge][::-1]
    tapered = (detrended - detrended.mean(axis=0)) * window[:, None]
    left, strength, _ = np.linalg.svd(tapered, full_matrices=False)
    count = int((strength[:COMPONENTS] > 1e-2 * np.sqrt(len(series))).sum())
    if count == 0:
        return None
    spectrum = np.fft.fft(left[:, :count], axis=0)
    power = np.abs(spectrum) ** 2
    smooth = sum(np.roll(power, shift, axis=0) for shift in range(-4, 5)) / 9
    return np.asarray(np.fft.ifft(spectrum / np.sqrt(smooth + 1e-12), axis=0).real)


def _scores(a: Doubles, b: Doubles) -> Doubles:
    """For every circular lag, the sum of squared correlations over all pairs of components (T,)."""
    crossed = np.conj(np.fft.fft(a, axis=0))[:, :, None] * np.fft.fft(b, axis=0)[:, None, :]
    return np.asarray((np.fft.ifft(crossed, axis=0).real ** 2).sum(axis=(1, 2)))


def _chance(peak: float, null: Doubles, tries: int) -> float:
    """Probability that the best of `tries` null scores reaches `peak`: exponential tail of the null."""
    start = float(np.quantile(null, 0.9))
    scale = float((null[null > start] - start).mean()) if (null > start).any() else 0.0
    if peak <= start or scale <= 0:
        return 1.0
    return float(min(1.0, tries * 0.1 * np.exp(-(peak - start) / scale)))


def _vertex(before: Any, at: Any, after: Any) -> float:
    """Where between its neighbours the parabola through three scores has its top, in steps."""
    bend = before - 2 * at + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def estimate_offsets(motions: Sequence[Motion], max_offset_s: float) -> tuple[list[Offset], list[PairLag]]:
    """Offsets of all cameras of a session to the first one.

    Args:
        motions: one per camera, the reference first; max_offset_s: offsets beyond it are not believed.

    Returns:
        Offsets in the order given (the reference has 0), and the pairwise lags that were accepted.
    """
    pairs = []
    for a, b in itertools.combinations(range(len(motions)), 2):
        found = pair_lag(motions[a], motions[b], max_offset_s * (1 if a == 0 else 2))
        if found is not None and found[1] <= MAX_CHANCE:
            pairs.append(PairLag(a, b, *found))
    offsets, pairs = _reconcile(len(motions), pairs)
    result = [Offset(0.0, "none")]
    for camera in range(1, len(motions)):
        seconds, support = offsets.get(camera, 0.0), [p.chance for p in pairs if camera in (p.a, p.b)]
        believed = camera in offsets and abs(seconds) <= max_offset_s
        if believed and (len(support) > 1 or min(support) <= MAX_CHANCE_ALONE):
            result.append(Offset(seconds, "estimated", len(support)))
        else:
            result.append(Offset(0.0, "none"))
    return result, pairs


def _reconcile(cameras: int, pairs: list[PairLag]) -> tuple[dict[int, float], list[PairLag]]:
    """Least squares over the pairs that hang together with camera 0; the worst contradiction goes first."""
    while True:
        reached = _reached(pairs)
        pairs = [pair for pair in pairs if pair.a in reached]
        if not pairs:
            return {}, []
        design = np.zeros((len(pairs), cameras))
        for row, pair in enumerate(pairs):
            design[row, [pair.a, pair.b]] = -1.0, 1.0
        weight = np.sqrt([-np.log(max(pair.chance, 1e-30)) for pair in pairs])
        lag = np.array([pair.seconds for pair in pairs])
        solution = np.linalg.lstsq(design[:, 1:] * weight[:, None], lag * weight, rcond=None)[0]
        residual = np.abs(design[:, 1:] @ solution - lag)
        worst = int(np.argmax(residual))
        if residual[worst] <= MAX_RESIDUAL_S:
            return {camera: float(solution[camera - 1]) for camera in sorted(reached - {0})}, pairs
        # Of contradicting pairs the one that chance explains best is the likely culprit.
        doubtful = [row for row in range(len(pairs)) if residual[row] > residual[worst] / 2]
        del pairs[max(doubtful, key=lambda row: pairs[row].chance)]


def _reached(pairs: Sequence[PairLag]) -> set[int]:
    reached = {0}
    while True:
        more = {c for p in pairs if {p.a, p.b} & reached for c in (p.a, p.b)} - reached
        if not more:
            return reached
        reached |= more
