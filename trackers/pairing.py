"""Trackers: evidence that two tracks of different cameras show one person, summed over time, calibrated.

Every pair of boxes at a common tick gives a log-likelihood ratio. Neighbouring frames say nearly the
same, so a pair of tracks counts once per `CORRELATION_S` seconds. How far the sum may be trusted is then
measured: the same sums between tracks whose clocks were shifted against each other are the null, and the
density of the synchronous sums must be the null tilted exponentially, `1 - share + share * exp(k s + b)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orveil.trackers.crossview import CrossView

__all__ = ["Calibration", "Pairs", "Scene", "calibrate", "sum_ratios"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

CORRELATION_S = 1.0
LONGEST = 12.0
"""A pair of tracks counts as at most so many independent looks."""
CAP = 15.0


@dataclass(frozen=True)
class Scene:
    """All boxes of all tracks of one session that have a tick: B rows, T tracks, K ticks."""

    camera: Ints
    tick: Ints
    track: Ints
    """Number of the track over all cameras, 0..T-1."""
    xyxy: NDArray[np.floating]
    score: NDArray[np.floating]
    """0 where the box was filled in."""
    sure: Bools
    """(T,): the track has confident boxes; pairs of two doubtful tracks are not looked at."""
    track_camera: Ints
    """(T,)"""
    tick_s: Doubles
    """(K,) time of every tick."""


@dataclass(frozen=True)
class Pairs:
    """P pairs of tracks (a, b), a in the camera with the lower number: evidence and common ticks."""

    a: Ints
    b: Ints
    score: Doubles
    support: Ints

    @staticmethod
    def empty() -> Pairs:
        """No pairs."""
        none = np.zeros(0, np.int64)
        return Pairs(none, none, np.zeros(0), none)


def sum_ratios(scene: Scene, model: CrossView, shift: int = 0) -> Pairs:
    """Evidence for every pair of tracks that share a tick.

    Args:
        scene: boxes and tracks.
        model: what was learned about the views.
        shift: ticks by which the second camera of each pair is delayed (modulo the recording), for the
            null, which is about pairs of sure tracks only; 0 is the truth.
    """
    parts = [_sum_views(scene, model, a, b, shift) for a, b in sorted(model.pairs)]
    if not parts:
        return Pairs.empty()
    return Pairs(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("a", "b", "score", "support")))


def _sum_views(scene: Scene, model: CrossView, a: int, b: int, shift: int) -> Pairs:
    wanted = scene.sure[scene.track] | (shift == 0)
    rows_a, rows_b = (np.flatnonzero((scene.camera == c) & wanted) for c in (a, b))
    one, other = model.code(a, scene.xyxy[rows_a]), model.code(b, scene.xyxy[rows_b])
    if one is None or other is None or not len(rows_a) or not len(rows_b):
        return Pairs.empty()
    tick_b = (scene.tick[rows_b] + shift) % max(len(scene.tick_s), 1)
    order = np.argsort(tick_b, kind="stable")
    low = np.searchsorted(tick_b[order], scene.tick[rows_a])
    high = np.searchsorted(tick_b[order], scene.tick[rows_a], "right")
    count = high - low
    i = np.repeat(np.arange(len(rows_a)), count)
    within = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    j = order[np.repeat(low, count) + within]
    first, second = scene.track[rows_a[i]], scene.track[rows_b[j]]
    use = scene.sure[first] | scene.sure[second]
    i, j, first, second = i[use], j[use], first[use], second[use]
    if not len(i):
        return Pairs.empty()
    ratio = model.log_ratio(a, b, one, other, i, j)
    key, where = np.unique(first * len(scene.sure) + second, return_inverse=True)
    support = np.bincount(where)
    # Looks that are independent: limited by the number of frames and by the time they span.
    moment = scene.tick_s[scene.tick[rows_a[i]]]
    begin, end = np.full(len(key), np.inf), np.full(len(key), -np.inf)
    np.minimum.at(begin, where, moment)
    np.maximum.at(end, where, moment)
    looks = np.minimum(np.minimum(support, 1.0 + (end - begin) / CORRELATION_S), LONGEST)
    score = np.bincount(where, ratio) / support * looks
    return Pairs(key // len(scene.sure), key % len(scene.sure), score, support)


@dataclass(frozen=True)
class Calibration:
    """How much a summed ratio is worth: log odds of a match = log(share / (1 - share)) + slope s + offset."""

    share: float
    slope: float
    offset: float

    def log_ratio(self, score: Doubles) -> Doubles:
        """Calibrated log-likelihood ratio of a match (any shape)."""
        return self.slope * np.clip(score, -CAP, CAP) + self.offset

    def log_odds(self, score: Doubles) -> Doubles:
        """Log odds of a match (any shape)."""
        return self.log_ratio(score) + float(np.log(self.share) - np.log1p(-self.share))


def calibrate(score: Doubles, null: Doubles, share: float) -> Calibration:
    """Fit the tilted null to synchronous sums.

    Args:
        score: (P,) sums of synchronous pairs, right and wrong ones.
        null: (Q,) sums of pairs with shifted clocks.
        share: expected share of right pairs, used as it is where there is too little to fit.
    """
    if len(score) < 20 or len(null) < 20:
        return Calibration(share, 0.7, 0.0)
    s, n = np.clip(score, -CAP, CAP), np.clip(null, -CAP, CAP)
    best, chosen = -np.inf, Calibration(share, 0.7, 0.0)
    for slope in np.geomspace(0.15, 1.2, 16):
        top = slope * n.max()
        offset = -float(top + np.log(np.exp(slope * n - top).mean()))
        tilt = np.exp(np.minimum(slope * s + offset, 40.0))
        part = share
        for _ in range(30):
            part = float(np.clip(np.mean(part * tilt / (1 - part + part * tilt)), 1e-3, 0.9))
        fit = float(np.mean(np.log(1 - part + part * tilt)))
        if fit > best:
            best, chosen = fit, Calibration(part, float(slope), offset)
    return chosen
