"""Trackers: from evidence of pairs of tracks to log odds of being one person.

What a sum of ratios is worth is measured against the same sums with shifted clocks; then all pairs are
judged together, across cameras and against their rivals.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from orveil.trackers.agreement import agree, link
from orveil.trackers.pairing import Calibration, Pairs, Scene, calibrate

__all__ = ["judge", "spans", "trust_in", "weigh_pairs"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

SHIFTS = (0.23, 0.41, 0.59, 0.77)
"""Delays for the null, as shares of the recording; far from each other and from 0."""
PRIOR_SHARE = 0.15
"""Share of right pairs among all pairs of tracks, before anything is known."""
HOPELESS = -8.0
"""Pairs with a lower log-likelihood ratio on their own can neither be right nor rivals of others."""
MOST_NULL = 200_000
"""Pairs with shifted clocks that are looked at, about: fewer shifts in a crowd, and then every n-th pair."""
POSSIBLE_SHARE = 0.5
"""Share of people of one view seen in another, before anything is known."""


def weigh_pairs(scene: Scene, sums: Callable[[int], Pairs]) -> tuple[Pairs, Doubles]:
    """All pairs of tracks with the calibrated log-likelihood ratio (P,) of each on its own.

    Args:
        scene: boxes and tracks.
        sums: gives the evidence of all pairs with the clocks shifted by a number of ticks.
    """
    pairs = sums(0)
    return pairs, trust_in(scene, sums, pairs).log_ratio(pairs.score)


def trust_in(scene: Scene, sums: Callable[[int], Pairs], pairs: Pairs) -> Calibration:
    """What sums are worth, given those of all pairs with the true clocks; arguments as in `weigh_pairs`."""
    both = scene.sure[pairs.a] & scene.sure[pairs.b]
    null = _null(scene, sums, pairs)
    null_both = scene.sure[null.a] & scene.sure[null.b]
    # Doubtful tracks are right less often, but what a sum is worth can only be seen in sure ones.
    return calibrate(pairs.score[both], null.score[null_both], PRIOR_SHARE)


def judge(scene: Scene, pairs: Pairs, ratio: Doubles) -> Doubles:
    """Log odds (P,) that each pair of tracks is one person, given all ratios (P,)."""
    links = link(pairs.a, pairs.b, scene.track_camera, *spans(scene), ratio > HOPELESS)
    # Pairs with a doubtful track are right less often: how often is found for them alone.
    doubtful = ~(scene.sure[pairs.a] & scene.sure[pairs.b])
    return agree(links, ratio, doubtful.astype(np.int64), POSSIBLE_SHARE)


def spans(scene: Scene) -> tuple[Ints, Ints]:
    """First and last tick (T,) of every track."""
    first, last = np.full(len(scene.sure), len(scene.tick_s)), np.full(len(scene.sure), -1)
    np.minimum.at(first, scene.track, scene.tick)
    np.maximum.at(last, scene.track, scene.tick)
    return first, last


def _null(scene: Scene, sums: Callable[[int], Pairs], pairs: Pairs) -> Pairs:
    """Sums between tracks whose clocks are shifted, without pairs that the true clocks make likely.

    Someone who stands still all the time matches at every shift; such right pairs are no null.
    """
    count = len(scene.tick_s)
    enough = SHIFTS[: max(1, MOST_NULL // max(len(pairs.a), 1))]
    parts = [sums(shift) for shift in sorted({int(share * count) for share in enough} - {0})]
    if not parts:
        return Pairs.empty()
    null = Pairs(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("a", "b", "score", "support")))
    tracks = len(scene.sure)
    likely = (pairs.a * tracks + pairs.b)[pairs.score > 0]
    kept = ~np.isin(null.a * tracks + null.b, likely)
    return Pairs(null.a[kept], null.b[kept], null.score[kept], null.support[kept])
