"""Trackers: tracks of a whole recording of one camera: both time directions, linked and with gaps filled.

Forward and backward passes of the causal tracker each propose, for every box, which box follows it.
Only the links on which both agree make tracklets; an optimal assignment over the ends and starts of
tracklets, judged by the motion on both sides, then decides the disputed ones and bridges gaps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orveil.trackers.base import TrackerSettings
from orveil.trackers.causal import CausalTracker
from orveil.trackers.gaps import Fill, fill_gaps
from orveil.trackers.linking import link, row_iou

__all__ = ["Tracklets", "track_recording"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

SHORT = 2
"""A track of at most so many boxes may fill the gap of a longer one that passes through it."""
ABSORB_IOU = 0.4
"""Least overlap of a box with the interpolated box whose place it takes."""


@dataclass(frozen=True)
class Tracklets:
    """Tracks of one camera: an id for each of N boxes, and M boxes filled into gaps."""

    track_id: Ints
    """(N,), in the order of the boxes given; every box has one, from 0 in order of first appearance."""
    fill: Fill


def track_recording(
    times: NDArray[np.floating],
    frame: NDArray[np.integer],
    xyxy: NDArray[np.floating],
    score: NDArray[np.floating],
    settings: TrackerSettings | None = None,
) -> Tracklets:
    """Track all boxes of one camera's recording.

    Args:
        times: (F,) seconds of every frame, increasing; frames without boxes included.
        frame: (N,) position in `times` of each box, in any order.
        xyxy: (N, 4) pixels.
        score: (N,) in [0, 1].
        settings: see `TrackerSettings`.

    Returns:
        Ids in the order of the boxes given, and the boxes filled into gaps of at most `max_gap_s`.
    """
    settings = settings or TrackerSettings()
    order = np.argsort(frame, kind="stable")
    at, boxes = np.asarray(frame, np.int64)[order], np.asarray(xyxy, np.float64).reshape(-1, 4)[order]
    scores, clock = np.asarray(score, np.float64)[order], increasing(times)
    both = tuple(_one_way(clock, at, boxes, scores, settings, direction) for direction in (1, -1))
    ids = link(_agreed(*both), clock[at], boxes, scores, settings, both)
    fill = fill_gaps(ids, clock, at, boxes, settings)
    ids = _absorb(ids, at, boxes, fill)
    fill = fill_gaps(ids, clock, at, boxes, settings)
    ids, fill = _renumber(ids, fill)
    unsorted = np.empty(len(ids), np.int64)
    unsorted[order] = ids
    return Tracklets(unsorted, fill)


def increasing(times: NDArray[np.floating]) -> Doubles:
    """Times (F,) that increase strictly, whatever a damaged file says; right ones stay as they are."""
    clock = np.array(times, np.float64)
    for k in range(1, len(clock)):
        if clock[k] <= clock[k - 1]:
            clock[k] = clock[k - 1] + 1e-3
    return clock


def _one_way(
    clock: Doubles, at: Ints, boxes: Doubles, scores: Doubles, settings: TrackerSettings, direction: int
) -> Ints:
    """Ids (N,) of one causal pass, forward (1) or backward (-1) in time; boxes sorted by frame."""
    tracker = CausalTracker(settings)
    ids = np.full(len(at), -1, np.int64)
    starts = np.flatnonzero(np.diff(at, prepend=-1))
    stops = np.append(starts[1:], len(at))
    for k in range(len(starts))[::direction]:
        rows = slice(starts[k], stops[k])
        ids[rows] = tracker.update(direction * clock[at[starts[k]]], boxes[rows], scores[rows])
    return ids


def successors(ids: Ints) -> Ints:
    """For each of N boxes sorted by frame, the next box of its track, or -1."""
    after = np.full(len(ids), -1, np.int64)
    order = np.argsort(ids, kind="stable")
    same = (ids[order][1:] == ids[order][:-1]) & (ids[order][1:] >= 0)
    after[order[:-1][same]] = order[1:][same]
    return after


def chains(after: Ints) -> Ints:
    """Ids (N,) of the chains that successors (N,) form, in order of their first box."""
    ids = np.full(len(after), -1, np.int64)
    count = 0
    before = np.full(len(after), -1, np.int64)
    before[after[after >= 0]] = np.flatnonzero(after >= 0)
    # A successor always has a higher row, so one pass in row order reaches every chain from its start.
    for row in range(len(after)):
        if before[row] >= 0:
            ids[row] = ids[before[row]]
        else:
            ids[row] = count
            count += 1
    return ids


def _agreed(forward: Ints, backward: Ints) -> Ints:
    """Tracklets made only of the links that both directions propose."""
    one, other = successors(forward), successors(backward)
    return chains(np.where(one == other, one, -1))


def _absorb(ids: Ints, at: Ints, boxes: Doubles, fill: Fill) -> Ints:
    """Give boxes of very short tracks to the longer track whose gap they fill."""
    ids = ids.copy()
    length = np.bincount(ids, minlength=int(ids.max(initial=-1)) + 1)
    short = np.flatnonzero(length[ids] <= SHORT) if len(ids) else np.zeros(0, np.int64)
    starts, stops = np.searchsorted(at[short], fill.frame), np.searchsorted(at[short], fill.frame, "right")
    count = np.where(length[fill.track_id] > SHORT, stops - starts, 0)
    k = np.repeat(np.arange(len(count)), count)
    rows = short[np.repeat(starts, count) + np.arange(len(k)) - np.repeat(np.cumsum(count) - count, count)]
    overlap = row_iou(fill.xyxy[k], boxes[rows])
    fits = overlap >= ABSORB_IOU
    k, rows, overlap = k[fits], rows[fits], overlap[fits]
    taken, filled = set(), set()
    # Shorter gaps choose first, each the box that fits best.
    for pair in np.lexsort((rows, -overlap, k, fill.gap_s[k])).tolist():
        place, row = int(k[pair]), int(rows[pair])
        if place not in filled and row not in taken:
            ids[row] = fill.track_id[place]
            filled.add(place)
            taken.add(row)
    return ids


def _renumber(ids: Ints, fill: Fill) -> tuple[Ints, Fill]:
    """Ids from 0 in order of first appearance; rows are sorted by frame."""
    names, first = np.unique(ids, return_index=True)
    rank = np.empty(len(names), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(names))
    new = rank[np.searchsorted(names, ids)]
    return new, Fill(rank[np.searchsorted(names, fill.track_id)], fill.frame, fill.xyxy, fill.gap_s)
