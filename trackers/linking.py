"""Trackers: optimal linking of tracklets end to start, judged by the motion on both sides of the gap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from orveil.pipeline.geometry import area, expand
from orveil.trackers.base import TrackerSettings
from orveil.trackers.gaps import Edges, edge_motion
from orveil.trackers.kalman import corners

__all__ = ["link", "row_iou"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUNDS = (0.25, 1.0)
"""Share of the longest gap that each round of linking may bridge: short gaps first."""
GROWTH_PER_S = 0.4
"""How much wrong a prediction may be: growth of the boxes per second of gap, in box sizes."""
GAP_COST = 0.15
"""Added to the cost of the longest gap; a shorter one costs its share."""
PROPOSED = (0.15, 0.08)
"""Taken off the cost where the forward, and where the backward pass joined the two: they knew the whole past.
They weigh unequally, so that people who cross are not left to chance where the passes disagree."""


@dataclass(frozen=True)
class _Boxes:
    """The boxes of one camera by time, and the ids that the two causal passes gave them; all (N, ...)."""

    times: Doubles
    xyxy: Doubles
    score: Doubles
    proposed: tuple[Ints, ...]


def link(
    ids: Ints,
    times: Doubles,
    boxes: Doubles,
    scores: Doubles,
    settings: TrackerSettings,
    proposed: tuple[Ints, ...],
) -> Ints:
    """Join tracklets of one camera.

    Args:
        ids: (N,) tracklet of each box, rows sorted by time.
        times: (N,) seconds.
        boxes: (N, 4).
        scores: (N,).
        settings: gap, least overlap and noise.
        proposed: ids (N,) of the forward and of the backward pass, -1 for none.

    Returns:
        New ids (N,): the id of the earliest tracklet of each chain.
    """
    table = _Boxes(times, boxes, scores, proposed)
    for share in ROUNDS:
        if len(ids):
            ids = _round(ids, table, settings, share * settings.max_gap_s)
    return ids


def _round(ids: Ints, table: _Boxes, settings: TrackerSettings, longest: float) -> Ints:
    """One optimal assignment of ends to starts over gaps up to `longest` seconds."""
    times = table.times
    order = np.lexsort((times, ids))
    change = np.flatnonzero(np.diff(ids[order]))
    first = order[np.concatenate([[0], change + 1])]
    last = order[np.concatenate([change, [len(order) - 1]])]
    a, b = _candidates(times[last], times[first], longest)
    earned = _earned(ids, times, settings)[ids]
    worth = times[first[b]] - times[last[a]] <= earned[last[a]] + earned[first[b]] + 1e-9
    a, b = a[worth], b[worth]
    if not len(a):
        return ids
    place = np.empty(len(ids), np.int64)
    place[order] = np.arange(len(ids))
    ends = edge_motion(last, -1, ids, order, place, times, table.xyxy, settings.motion)
    starts = edge_motion(first, 1, ids, order, place, times, table.xyxy, settings.motion)
    gap, limit = times[first[b]] - times[last[a]], 1.0 - settings.min_iou
    cost = 1.0 + GAP_COST * gap / settings.max_gap_s
    cost += _unequal(ids, table.score, settings, ids[last[a]], ids[first[b]])
    for worth, names in zip(PROPOSED, table.proposed, strict=True):
        cost -= worth * ((names[last[a]] == names[first[b]]) & (names[last[a]] >= 0))
    near = (cost < limit) | _touch(ends, starts, a, b, gap) | _touch(starts, ends, b, a, -gap)
    a, b, gap, cost = a[near], b[near], gap[near], cost[near]
    cost -= _overlap(ends.at(a), starts.at(b), gap)
    return _merge(ids, ids[last], ids[first], _solve(a, b, cost, limit))


def _growth(gap: Doubles) -> Doubles:
    """By how much boxes are grown on every side for gaps (K,), in their sizes."""
    return np.minimum(0.1 + GROWTH_PER_S * np.abs(gap), 0.5)


def _touch(one: Edges, other: Edges, a: Ints, b: Ints, gap: Doubles) -> NDArray[np.bool_]:
    """Whether the grown boxes of `a`, carried over the gap, and of `b` can overlap at all (K,)."""
    moved = one.value[a] + gap[:, None] * one.velocity[a]
    size = np.maximum(moved[:, 2:], 1.0) + np.maximum(other.value[b, 2:], 1.0)
    way = np.abs(moved[:, :2] - other.value[b, :2])
    return np.asarray((way <= size * (0.5 + _growth(gap))[:, None] + 1.0).all(axis=1))


def _overlap(ends: Edges, starts: Edges, gap: Doubles) -> Doubles:
    """Mean overlap (K,) of grown boxes, each side's motion carried to the other side of the gap."""
    growth, overlap = _growth(gap), np.zeros(len(gap))
    for one, other, way in ((ends, starts, gap), (starts, ends, -gap)):
        carried = corners((one.value + way[:, None] * one.velocity).T)
        overlap += 0.5 * row_iou(expand(carried, growth), expand(corners(other.value.T), growth))
    return overlap


def _earned(ids: Ints, times: Doubles, settings: TrackerSettings) -> Doubles:
    """Half of the gap, s, that each tracklet may bridge: by its number of boxes, as in the causal pass.

    Clutter is not strung together this way. Two missing frames can always be bridged.
    """
    steps = np.diff(np.unique(times))
    least = 1.75 * float(np.median(steps)) if len(steps) else 0.0
    return np.asarray(np.maximum(settings.tentative_gap_s * np.bincount(ids), least))


def _candidates(ends: Doubles, starts: Doubles, longest: float) -> tuple[Ints, Ints]:
    """Pairs (end, start) of tracklets with a gap in (0, longest] seconds."""
    by_start = np.argsort(starts, kind="stable")
    low = np.searchsorted(starts[by_start], ends, "right")
    high = np.searchsorted(starts[by_start], ends + longest + 1e-9, "right")
    count = high - low
    a = np.repeat(np.arange(len(ends)), count)
    within = np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count)
    return a, by_start[np.repeat(low, count) + within]


def _unequal(ids: Ints, scores: Doubles, settings: TrackerSettings, one: Ints, other: Ints) -> Doubles:
    """A cost for joining a tracklet that has a confident box to one that has none."""
    best = np.zeros(int(ids.max()) + 1)
    np.maximum.at(best, ids, scores)
    sure = best >= settings.high_score
    return np.where(sure[one] != sure[other], 0.1, 0.0)


def row_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> Doubles:
    """IoU (N,) of boxes a (N, 4) and b (N, 4), row by row."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=1)
    return np.asarray(shared / np.maximum(area(a) + area(b) - shared, 1e-9))


def _solve(a: Ints, b: Ints, cost: Doubles, limit: float) -> list[tuple[int, int]]:
    """Optimal one-to-one pairs, each cheaper than `limit`; sparse, so that long recordings stay cheap."""
    use = cost < limit
    a, b, cost = a[use], b[use], cost[use]
    alone = (np.bincount(a)[a] == 1) & (np.bincount(b)[b] == 1)
    pairs = list(zip(a[alone].tolist(), b[alone].tolist(), strict=True))
    a, b, cost = a[~alone], b[~alone], cost[~alone]
    if len(a):
        rows, i = np.unique(a, return_inverse=True)
        columns, j = np.unique(b, return_inverse=True)
        # Every row may stay alone, with a column of its own at the limit; a cost of 0 would be no edge.
        own = np.arange(len(rows))
        edges = (np.concatenate([i, own]), np.concatenate([j, len(columns) + own]))
        value = np.concatenate([cost - limit - 1.0, np.full(len(rows), -1.0)])
        shape = (len(rows), len(columns) + len(rows))
        row, column = min_weight_full_bipartite_matching(csr_matrix((value, edges), shape=shape))
        made = column < len(columns)
        pairs += zip(rows[row[made]].tolist(), columns[column[made]].tolist(), strict=True)
    return pairs


def _merge(ids: Ints, end_ids: Ints, start_ids: Ints, pairs: list[tuple[int, int]]) -> Ints:
    """Give every tracklet of a chain the id of its earliest part."""
    previous = {int(start_ids[b]): int(end_ids[a]) for a, b in pairs}
    root = np.arange(int(ids.max()) + 1)
    # Gaps are positive, so chains follow time and have no cycles.
    for name in previous:
        top = name
        while top in previous:
            top = previous[top]
        root[name] = top
    return np.asarray(root[ids])
