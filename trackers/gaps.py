"""Trackers: how a track moves at its ends, and the boxes to fill into its gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orveil.trackers.base import TrackerSettings
from orveil.trackers.kalman import Motion, centre_size, corners

__all__ = ["Edges", "Fill", "edge_motion", "fill_gaps"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

WINDOW = 8
"""Boxes on one side that tell the motion at a gap."""
WINDOW_S = 0.5
"""Boxes farther away in time than this say nothing about it."""
SPEED = 1.0
"""Prior standard deviation of the velocity at a gap, sides per second ..."""
RESIZE = 0.5
"""... and how much slower sizes change than positions."""


@dataclass(frozen=True)
class Fill:
    """M boxes filled into gaps: track, position of the frame, box (M, 4), and length of the whole gap."""

    track_id: Ints
    frame: Ints
    xyxy: Doubles
    gap_s: Doubles


@dataclass(frozen=True)
class Edges:
    """Smoothed motion at one end of K stretches: (cx, cy, w, h) and its change per second, each (K, 4)."""

    value: Doubles
    velocity: Doubles

    def at(self, rows: Ints) -> Edges:
        """The ends chosen by an index array."""
        return Edges(self.value[rows], self.velocity[rows])


def edge_motion(
    rows: Ints,
    offset: int,
    ids: Ints,
    order: Ints,
    place: Ints,
    times: Doubles,
    boxes: Doubles,
    motion: Motion,
) -> Edges:
    """Motion at each of K boxes, from up to WINDOW boxes of its track on one side.

    A straight line is fitted with the prior of `Motion` on its slope, so that a single box gives a track
    at rest and two close boxes do not give an absurd velocity.

    Args:
        rows: (K,) box rows where the stretches end.
        offset: -1 looks at earlier boxes of the track, +1 at later ones.
        ids: (N,) track ids.
        order: (N,) rows sorted by (track, time).
        place: (N,) position of each row in `order`.
        times: (N,) seconds.
        boxes: (N, 4).
        motion: noise model.
    """
    steps = place[rows][:, None] + offset * np.arange(WINDOW)[None, :]
    inside = (steps >= 0) & (steps < len(order))
    near = order[np.clip(steps, 0, max(len(order) - 1, 0))]
    lag = times[near] - times[rows][:, None]
    used = inside & (ids[near] == ids[rows][:, None]) & (np.abs(lag) <= WINDOW_S)
    weight = used.astype(np.float64)
    value = centre_size(boxes[near.ravel()]).T.reshape(len(rows), WINDOW, 4)
    total = weight.sum(axis=1)
    mean_lag = (weight * lag).sum(axis=1) / total
    mean = (weight[..., None] * value).sum(axis=1) / total[:, None]
    spread = weight * (lag - mean_lag[:, None])
    prior = np.array([1.0, 1.0, RESIZE, RESIZE]) * SPEED
    ridge = (motion.measurement / prior) ** 2
    slope = (spread[..., None] * (value - mean[:, None])).sum(axis=1) / (
        (spread * lag).sum(axis=1)[:, None] + ridge
    )
    return Edges(mean - slope * mean_lag[:, None], slope)


def fill_gaps(ids: Ints, clock: Doubles, at: Ints, boxes: Doubles, settings: TrackerSettings) -> Fill:
    """Boxes for the frames that a track passes without one, in gaps of at most `max_gap_s`.

    Cubic Hermite curves through the smoothed ends; sizes stay between those of the two ends.

    Args:
        ids: (N,) track of each box; at most one box per track and frame.
        clock: (F,) seconds of every frame.
        at: (N,) position in `clock`, sorted.
        boxes: (N, 4).
        settings: gap and noise.
    """
    order = np.lexsort((at, ids))
    place = np.empty(len(ids), np.int64)
    place[order] = np.arange(len(ids))
    left, right = order[:-1], order[1:]
    missing = at[right] - at[left] - 1
    gap = clock[at[right]] - clock[at[left]] if len(at) else np.zeros(0)
    chosen = (ids[left] == ids[right]) & (missing > 0) & (gap <= settings.max_gap_s + 1e-9)
    left, right, missing, gap = left[chosen], right[chosen], missing[chosen], gap[chosen]
    times = clock[at]
    before = edge_motion(left, -1, ids, order, place, times, boxes, settings.motion)
    after = edge_motion(right, 1, ids, order, place, times, boxes, settings.motion)
    which = np.repeat(np.arange(len(left)), missing)
    step = np.arange(len(which)) - np.repeat(np.cumsum(missing) - missing, missing)
    frame = at[left][which] + 1 + step
    u = ((clock[frame] - times[left][which]) / gap[which])[:, None] if len(which) else np.zeros((0, 1))
    value = _hermite(before, after, which, gap, u)
    bounds = np.stack([before.value[which, 2:], after.value[which, 2:]])
    value[:, 2:] = np.clip(value[:, 2:], bounds.min(axis=0), bounds.max(axis=0))
    return Fill(ids[left][which], frame, corners(value.T), gap[which])


def _hermite(before: Edges, after: Edges, which: Ints, gap: Doubles, u: Doubles) -> Doubles:
    span = gap[which][:, None]
    return (
        (2 * u**3 - 3 * u**2 + 1) * before.value[which]
        + (u**3 - 2 * u**2 + u) * span * before.velocity[which]
        + (3 * u**2 - 2 * u**3) * after.value[which]
        + (u**3 - u**2) * span * after.velocity[which]
    )
