"""Trackers: whether a camera was moved during the recording.

What the first or the last part of a recording teaches about a pair of views fits the rest of it less well
if one of the two cameras was moved. People who go to places where nobody was before look the same, but
then one model of the whole recording fits both sides as well as a model of each side; if a camera was
moved, it cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orveil.trackers.crossview import CrossView
from orveil.trackers.pairing import Scene

__all__ = ["Move", "find_move"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_S = 5.0
LEAST_BLOCKS = 6
"""Blocks of time on either side of a move, for it to be seen."""
WORST, BEST = -4.0, 8.0
"""What the best partner of one box can say for or against a fit."""
DROP = 1.0
"""Least loss of fit, in units of log-likelihood per box."""
CERTAIN = 4.0
"""Standard errors that the loss must have."""
ADVANTAGE = 0.4
"""By how much a model of each side alone must fit that side better than the model of both."""
PART = 0.4
"""Share of the recording at its beginning, and at its end, that is learned by itself."""


@dataclass(frozen=True)
class Move:
    """A camera and the second at which it was moved; `cameras` are all those it may have been."""

    cameras: tuple[int, ...]
    at_s: float


def find_move(scene: Scene, model: CrossView, relearn: Callable[[Bools], CrossView]) -> Move | None:
    """The clearest move of a camera, if there is one.

    Args:
        scene: boxes and tracks.
        model: what was learned from the whole recording.
        relearn: learns from a choice (K,) of ticks only.
    """
    if len(scene.tick_s) < 2 or not model.pairs:
        return None
    span = scene.tick_s[-1] - scene.tick_s[0]
    early = scene.tick_s <= scene.tick_s[0] + PART * span
    late = scene.tick_s >= scene.tick_s[-1] - PART * span
    for core in (early, late):
        found = _move_against(scene, model, relearn(core), relearn)
        if found is not None:
            return found
    return None


def _move_against(
    scene: Scene, model: CrossView, part: CrossView, relearn: Callable[[Bools], CrossView]
) -> Move | None:
    """A move that shows against the model of a part of the recording."""
    fits = {pair: _fit(scene, part, *pair) for pair in sorted(part.pairs)}
    breaks = {pair: found for pair, fit in fits.items() if (found := _break(fit)) is not None}
    suspects = _suspects(set(fits), set(breaks)) if breaks else ()
    involved = [pair for pair in breaks if set(suspects) & {*pair}]
    if not involved:
        return None
    at_s = float(scene.tick_s[0] + np.median([breaks[pair][0] for pair in involved]) * BLOCK_S)
    before = scene.tick_s < at_s
    for side in (before, ~before):
        alone = relearn(side)
        better = [_better(scene, alone, model, pair, side) for pair in involved]
        if np.median(better) < ADVANTAGE:
            return None
    return Move(suspects, at_s)


def _fit(scene: Scene, model: CrossView, a: int, b: int) -> Doubles:
    """How well the best partners fit, mean of every block of time; nan where nobody is seen by both."""
    rows_a = np.flatnonzero((scene.camera == a) & scene.sure[scene.track])
    rows_b = np.flatnonzero((scene.camera == b) & scene.sure[scene.track])
    blocks = int((scene.tick_s[-1] - scene.tick_s[0]) / BLOCK_S) + 1
    one, other = model.code(a, scene.xyxy[rows_a]), model.code(b, scene.xyxy[rows_b])
    if one is None or other is None:
        return np.full(blocks, np.nan)
    order = np.argsort(scene.tick[rows_b], kind="stable")
    low = np.searchsorted(scene.tick[rows_b][order], scene.tick[rows_a])
    count = np.searchsorted(scene.tick[rows_b][order], scene.tick[rows_a], "right") - low
    i = np.repeat(np.arange(len(rows_a)), count)
    j = order[np.repeat(low, count) + np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)]
    ratio = np.clip(model.log_ratio(a, b, one, other, i, j), WORST, BEST)
    best_a, best_b = np.full(len(rows_a), -np.inf), np.full(len(rows_b), -np.inf)
    np.maximum.at(best_a, i, ratio)
    np.maximum.at(best_b, j, ratio)
    # Who is seen by one camera only has no partner: the side with fewer people says more.
    mean_a, mean_b = (
        _by_tick(scene, rows[best > -np.inf], best[best > -np.inf])
        for rows, best in ((rows_a, best_a), (rows_b, best_b))
    )
    per_tick = np.maximum(mean_a, mean_b)
    block = ((scene.tick_s - scene.tick_s[0]) / BLOCK_S).astype(np.int64)
    seen = ~np.isnan(per_tick)
    total = np.bincount(block[seen], per_tick[seen], blocks)
    number = np.bincount(block[seen], minlength=blocks)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _by_tick(scene: Scene, rows: Ints, value: Doubles) -> Doubles:
    number = np.bincount(scene.tick[rows], minlength=len(scene.tick_s))
    total = np.bincount(scene.tick[rows], value, len(scene.tick_s))
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _break(fit: Doubles) -> tuple[int, float] | None:
    """Block at which the level of the fit changes most, and the change; None where it hardly does."""
    best: tuple[float, int, float] | None = None
    for block in range(LEAST_BLOCKS, len(fit) - LEAST_BLOCKS + 1):
        before, after = fit[:block], fit[block:]
        before, after = before[~np.isnan(before)], after[~np.isnan(after)]
        if min(len(before), len(after)) < LEAST_BLOCKS:
            continue
        change = float(after.mean() - before.mean())
        error = float(np.sqrt(before.var(ddof=1) / len(before) + after.var(ddof=1) / len(after)))
        if best is None or abs(change) / (error + 0.05) > best[0]:
            best = (abs(change) / (error + 0.05), block, change)
    if best is None or best[0] < CERTAIN or abs(best[2]) < DROP:
        return None
    return best[1], best[2]


def _suspects(pairs: set[tuple[int, int]], broken: set[tuple[int, int]]) -> tuple[int, ...]:
    """Cameras all of whose pairs broke, or the most of them; none where breaks have no camera in common."""
    cameras = sorted({c for pair in pairs for c in pair})
    share = {c: np.mean([pair in broken for pair in pairs if c in pair]) for c in cameras}
    top = max(share.values())
    if top <= 0.5:
        return ()
    return tuple(c for c in cameras if share[c] == top)


def _better(scene: Scene, one: CrossView, other: CrossView, pair: tuple[int, int], side: Bools) -> float:
    """By how much one model of a pair fits a choice (K,) of ticks better than another."""
    if pair not in one.pairs or pair not in other.pairs:
        return 0.0
    first, second = _fit(scene, one, *pair), _fit(scene, other, *pair)
    blocks = ((scene.tick_s - scene.tick_s[0]) / BLOCK_S).astype(np.int64)
    inside = np.zeros(len(first), np.bool_)
    inside[blocks[side]] = True
    inside &= ~np.isnan(first) & ~np.isnan(second)
    return float((first - second)[inside].mean()) if inside.any() else 0.0
