"""Trackers: evidence that two tracks of different cameras show one person, from their places on the floor.

Places err by the same amount as long as nobody moves, so that a pair of tracks has few independent looks at
them; steps err anew every second.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from orveil.trackers.ground import Ground
from orveil.trackers.ground_align import meetings
from orveil.trackers.ground_sight import Heads, Sight, place_ratio, step_ratio
from orveil.trackers.pairing import Pairs, Scene, calibrate

__all__ = ["FloorTracks", "floor_tracks", "weigh_floor"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

PRIOR_SHARE = 0.15
"""Share of right pairs among all pairs of tracks, before anything is known."""
EVERY_S = 0.2
"""Boxes nearer in time than this say the same."""
PLACE_S, MOST_PLACES = 5.0, 3.0
STEP_S, MOST_STEPS = 1.0, 12.0
"""Seconds per independent look at places and at steps, and the most looks that count."""


@dataclass(frozen=True)
class FloorTracks:
    """Per placed camera: rows of the scene (N,), what they say on the common floor and what their mirror
    image says where it fits best."""

    rows: dict[int, Ints]
    sights: dict[int, Sight]
    mirror: dict[int, Sight]


def floor_tracks(scene: Scene, ground: Ground, heads: Heads) -> FloorTracks:
    """The boxes of all tracks of the placed cameras, thinned in time."""
    chosen = np.zeros(len(scene.tick_s), np.bool_)
    if len(chosen):
        slot = np.floor((scene.tick_s - scene.tick_s[0]) / EVERY_S + 1e-6)
        chosen[np.unique(slot, return_index=True)[1]] = True
    rows = {c: np.flatnonzero((scene.camera == c) & chosen[scene.tick]) for c in sorted(ground.poses)}
    both = {c: ground.sights(c, scene, r, heads) for c, r in rows.items()}
    return FloorTracks(rows, {c: s[0] for c, s in both.items()}, {c: s[1] for c, s in both.items()})


def weigh_floor(scene: Scene, tracks: FloorTracks) -> tuple[Pairs, Doubles]:
    """All pairs of tracks that share a tick and of which one is sure, and their log-likelihood ratios (P,).

    What a sum is worth is measured against the same sums with one camera of each pair mirrored: people
    stand as close and move as much, but nobody is in the right place. Shifted clocks would not do, because
    who stands still for the whole clip matches at every shift.
    """
    views = list(combinations(sorted(tracks.rows), 2))
    pairs = _joined([_sum_views(scene, tracks, a, b, tracks.sights[a], tracks.sights[b]) for a, b in views])
    null = _joined(
        [_sum_views(scene, tracks, a, b, tracks.mirror[a], tracks.sights[b]) for a, b in views]
        + [_sum_views(scene, tracks, a, b, tracks.sights[a], tracks.mirror[b]) for a, b in views]
    )
    both, null_both = (scene.sure[p.a] & scene.sure[p.b] for p in (pairs, null))
    trust = calibrate(pairs.score[both], null.score[null_both], PRIOR_SHARE)
    return pairs, trust.log_ratio(pairs.score)


def _joined(parts: list[Pairs]) -> Pairs:
    if not parts:
        return Pairs.empty()
    return Pairs(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("a", "b", "score", "support")))


def _sum_views(scene: Scene, tracks: FloorTracks, a: int, b: int, one: Sight, other: Sight) -> Pairs:
    """Sums for two cameras, given what their boxes say."""
    met = meetings(one.tick, other.tick)
    first, second = scene.track[tracks.rows[a][met.row_a]], scene.track[tracks.rows[b][met.row_b]]
    use = scene.sure[first] | scene.sure[second]
    i, j, first, second = met.row_a[use], met.row_b[use], first[use], second[use]
    if not len(i):
        return Pairs.empty()
    key, where = np.unique(first * len(scene.sure) + second, return_inverse=True)
    support = np.bincount(where)
    stepped = np.bincount(where, one.stepped[i] & other.stepped[j])
    moment = scene.tick_s[one.tick[i]]
    begin, end = np.full(len(key), np.inf), np.full(len(key), -np.inf)
    np.minimum.at(begin, where, moment)
    np.maximum.at(end, where, moment)
    span = end - begin
    places = np.minimum(np.minimum(support, 1.0 + span / PLACE_S), MOST_PLACES)
    steps = np.minimum(np.minimum(stepped, 0.5 + span * stepped / support / STEP_S), MOST_STEPS)
    place = np.bincount(where, place_ratio(one, other, i, j)) / support
    step = np.bincount(where, step_ratio(one, other, i, j)) / np.maximum(stepped, 1)
    return Pairs(key // len(scene.sure), key % len(scene.sure), place * places + step * steps, support)
