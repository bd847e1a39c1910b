"""Trackers: how far each camera's clock is off, from people who are seen by two cameras at once.

Where a clock is late, everybody it shows lags behind where the other views say they are. The lag at which
matched tracks agree best is found for every pair of cameras; the lags are then reconciled into one offset
per camera. Standing people say nothing: what counts is how much better than no lag the best one is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orveil.trackers.crossview import CrossView
from orveil.trackers.pairing import Pairs, Scene

__all__ = ["ClockOffset", "clock_offsets", "reconcile"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

LAGS = np.arange(-10, 11) * 0.1
"""Lags tried, in seconds: half a second is found with room to see that it is a peak."""
MATCHED = 2.0
"""Log odds from which two tracks are taken for one person."""
MOST_LOOKS = 1500
"""Pairs of boxes looked at per pair of cameras, evenly chosen."""
GAP_S = 0.6
"""Positions are interpolated between boxes of a track that are at most so far apart in time."""
BLOCK_S = 2.0
"""Looks within this time of one person count as one."""
LEAST_BLOCKS = 12
CERTAIN = 3.0
"""Standard errors by which the best lag must be better than none, for a clock to be off."""
LEAST_S = 0.06
"""Smaller offsets are not worth a word."""
AGREED = 2.0
"""Nor are those that are not so many times as large as what the lags of pairs disagree by: a late clock is
late against everybody, by the same time."""


@dataclass(frozen=True)
class ClockOffset:
    """What is known about one camera's clock.

    Attributes:
        late_s: seconds by which its pictures are late against the reference camera; 0 where unknown.
        known: whether enough moving people were seen together with other cameras.
        off: whether the clock is off beyond doubt.
    """

    late_s: float
    known: bool
    off: bool


def clock_offsets(
    scene: Scene, model: CrossView, pairs: Pairs, odds: Doubles, moved: Collection[int] = ()
) -> list[ClockOffset]:
    """Clock offset of each camera against the first one that could be compared.

    Args:
        scene: boxes and tracks.
        model: what was learned about the views.
        pairs: pairs of tracks; odds: (P,) their log odds of being one person.
        moved: cameras about whose clocks nothing can be said: what was learned about them is a mixture of
            two places, in which people seem to lag.
    """
    cameras = len(model.scales)
    lags: dict[tuple[int, int], tuple[float, float]] = {}
    for a, b in sorted(model.pairs):
        if a in moved or b in moved:
            continue
        found = _pair_lag(scene, model, a, b, pairs, odds)
        if found is not None:
            lags[a, b] = found
    return reconcile(cameras, lags)


def _pair_lag(
    scene: Scene, model: CrossView, a: int, b: int, pairs: Pairs, odds: Doubles
) -> tuple[float, float] | None:
    """Seconds by which camera b is late against a, and the gain over no lag in standard errors."""
    chosen = (scene.track_camera[pairs.a] == a) & (scene.track_camera[pairs.b] == b) & (odds > MATCHED)
    chosen &= scene.sure[pairs.a] & scene.sure[pairs.b]
    every_look = (
        _looks(scene, int(t), int(u)) for t, u in zip(pairs.a[chosen], pairs.b[chosen], strict=True)
    )
    looks = [look for look in every_look if look is not None]
    if not looks:
        return None
    rows = np.concatenate([look[0] for look in looks])
    boxes = np.concatenate([look[1] for look in looks])
    person = np.repeat(np.arange(len(looks)), [len(look[0]) for look in looks])
    kept = np.unique(np.linspace(0, len(rows) - 1, MOST_LOOKS).astype(int))
    rows, boxes, person = rows[kept], boxes[kept], person[kept]
    one = model.code(a, scene.xyxy[rows])
    every = np.arange(len(rows))
    ratio = np.empty((len(LAGS), len(rows)))
    for k in range(len(LAGS)):
        other = model.code(b, boxes[:, k])
        if one is None or other is None:
            return None
        ratio[k] = model.log_ratio(a, b, one, other, every, every)
    block = np.floor(scene.tick_s[scene.tick[rows]] / BLOCK_S).astype(np.int64)
    where = np.unique(np.stack([person, block]), axis=1, return_inverse=True)[1].reshape(-1)
    size = np.bincount(where)
    if len(size) < LEAST_BLOCKS:
        return None
    mean = np.stack([np.bincount(where, r) / size for r in ratio])
    return _peak(mean)


def _looks(scene: Scene, t: int, u: int) -> tuple[Ints, Doubles] | None:
    """Rows (M,) of track t, and boxes (M, L, 4) of track u at their times and every lag."""
    rows, others = np.flatnonzero(scene.track == t), np.flatnonzero(scene.track == u)
    others = others[np.argsort(scene.tick[others], kind="stable")]
    when, known = scene.tick_s[scene.tick[rows]], scene.tick_s[scene.tick[others]]
    wanted = when[:, None] + LAGS[None, :]
    right = np.searchsorted(known, wanted)
    inside = (right > 0) & (right < len(known))
    right = np.clip(right, 1, max(len(known) - 1, 1))
    if len(known) < 2:
        return None
    inside &= known[right] - known[right - 1] <= GAP_S
    usable = inside.all(axis=1)
    if not usable.any():
        return None
    box = np.asarray(scene.xyxy[others], np.float64)
    at = wanted[usable]
    columns = [np.interp(at, known, box[:, q]) for q in range(4)]
    return rows[usable], np.stack(columns, axis=2)


def _peak(mean: Doubles) -> tuple[float, float] | None:
    """Best lag of curves (L, B) of B independent looks, and its gain in standard errors; None at a border."""
    curve = mean.mean(axis=1)
    k = int(np.argmax(curve))
    if k in (0, len(LAGS) - 1):
        return None
    left, top, right = curve[k - 1 : k + 2]
    bend = left - 2 * top + right
    step = 0.5 * (left - right) / bend if bend < 0 else 0.0
    gain = mean[k] - mean[len(LAGS) // 2]
    error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    return float(LAGS[k] + step * (LAGS[1] - LAGS[0])), float(gain.mean() / max(error, 1e-9))


def reconcile(cameras: int, lags: dict[tuple[int, int], tuple[float, float]]) -> list[ClockOffset]:
    """One offset per camera from the lags of pairs, by least squares; the first camera is the reference."""
    if not lags:
        return [ClockOffset(0.0, known=False, off=False)] * cameras
    design, seen = np.zeros((len(lags), cameras)), np.zeros(cameras, np.bool_)
    value, gain = np.zeros(len(lags)), np.zeros(cameras)
    for row, ((a, b), (lag, better)) in enumerate(lags.items()):
        design[row, a], design[row, b], value[row] = -1.0, 1.0, lag
        seen[[a, b]] = True
        gain[[a, b]] = np.maximum(gain[[a, b]], better)
    late = np.linalg.lstsq(design, value, rcond=None)[0]
    spare = len(lags) - (int(seen.sum()) - 1)
    apart = float(np.sqrt(((value - design @ late) ** 2).sum() / spare)) if spare > 0 else 0.0
    # Most clocks are right: the middle one is, and offsets are against it.
    late -= np.median(late[seen])
    off = seen & (np.abs(late) >= max(LEAST_S, AGREED * apart)) & (gain >= CERTAIN)
    return [
        ClockOffset(float(late[c]) if seen[c] else 0.0, bool(seen[c]), bool(off[c])) for c in range(cameras)
    ]
