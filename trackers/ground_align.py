"""Trackers: how the floors of two cameras lie to each other, by the agreement of people seen at one time.

Every synchronous pair of boxes votes for the turns and shifts that would put both persons on one spot
(a generalised Hough transform). The best places are judged again with at most one partner per box, and
moved to where the agreement is best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.optimize import minimize

from orveil.trackers.ground_camera import Pose
from orveil.trackers.ground_sight import Sight, place_ratio, step_ratio
from orveil.trackers.matching import match_marginals

__all__ = ["Meetings", "agreement", "best_poses", "meetings"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

PLACES_COUNT = 0.25
STEPS_COUNT = 0.5
"""How much the positions and the steps of one tick add: neighbouring ticks repeat each other."""
TURNS = 48
CELL = 0.3
REACH = 10.0
"""Votes: directions in a full turn, cell and largest shift in metres."""
CANDIDATES = 40
REFINED = 4


@dataclass(frozen=True)
class Meetings:
    """All pairs (M,) of boxes of two cameras at common ticks, and where they stand in a padded (F, A, B)."""

    row_a: Ints
    row_b: Ints
    frame: Ints
    slot_a: Ints
    slot_b: Ints
    shape: tuple[int, int, int]
    log_crowd: Doubles


def meetings(a: Ints, b: Ints) -> Meetings:
    """Pairs of boxes with equal ticks (A,) and (B,)."""
    common = np.intersect1d(a, b)
    order = np.argsort(b, kind="stable")
    low, high = np.searchsorted(b[order], a), np.searchsorted(b[order], a, "right")
    count = high - low
    row_a = np.repeat(np.arange(len(a)), count)
    within = np.arange(len(row_a)) - np.repeat(np.cumsum(count) - count, count)
    row_b = order[np.repeat(low, count) + within]
    slot_a, slot_b = _slot(a)[row_a], _slot(b)[row_b]
    shape = (len(common), int(slot_a.max(initial=-1)) + 1, int(slot_b.max(initial=-1)) + 1)
    frame = np.searchsorted(common, a[row_a])
    crowd = 0.5 * np.log(np.maximum(np.bincount(frame, minlength=len(common)), 1))[frame]
    return Meetings(row_a, row_b, frame, slot_a, slot_b, shape, crowd)


def _slot(tick: Ints) -> Ints:
    order = np.argsort(tick, kind="stable")
    slot = np.empty(len(tick), np.int64)
    slot[order] = np.arange(len(tick)) - np.searchsorted(tick[order], tick[order])
    return slot


def agreement(a: Sight, b: Sight, met: Meetings) -> tuple[float, Doubles]:
    """Log evidence that two cameras on one floor see the same people; probability of each pair (M,)."""
    if not len(met.row_a):
        return 0.0, np.zeros(0)
    i, j = met.row_a, met.row_b
    odds = PLACES_COUNT * place_ratio(a, b, i, j) + STEPS_COUNT * step_ratio(a, b, i, j)
    odds += np.log(a.weight[i] * b.weight[j] + 1e-9) - met.log_crowd
    table = np.full(met.shape, -np.inf)
    table[met.frame, met.slot_a, met.slot_b] = odds
    probability, evidence = match_marginals(table)
    return float(evidence.sum()), probability[met.frame, met.slot_a, met.slot_b]


def best_poses(
    known: list[Sight], new: Sight, met: list[Meetings], count: int = REFINED
) -> list[tuple[float, Pose]]:
    """Poses of a camera on a floor that others share, best first, with their evidence.

    Args:
        known: what the other cameras see, on the common floor.
        new: what the camera to place sees, on its own floor.
        met: meetings of each of `known` with `new`.
        count: candidates that are refined.
    """

    def evidence(x: Doubles) -> float:
        there = new.on(Pose(x[1:], float(x[0])))
        return sum(agreement(sight, there, m)[0] for sight, m in zip(known, met, strict=True))

    rough = [(evidence(x), x) for x in _votes(known, new, met)]
    rough.sort(key=lambda r: -r[0])
    found: list[tuple[float, Pose]] = []
    for _, start in rough:
        if len(found) >= count:
            break
        if any(_near(start, pose) for _, pose in found):
            continue
        corners = start + np.vstack([np.zeros(3), np.diag([0.12, 0.3, 0.3])])
        options = {"maxfev": 45, "initial_simplex": corners, "fatol": 0.05, "xatol": 0.01}
        best = minimize(lambda x: -evidence(x), start, method="Nelder-Mead", options=options)
        found.append((-float(best.fun), Pose(best.x[1:], float(best.x[0]))))
    return sorted(found, key=lambda f: -f[0])


def _near(x: Doubles, pose: Pose) -> bool:
    turn = abs((x[0] - pose.yaw + np.pi) % (2 * np.pi) - np.pi)
    return bool(turn < 0.25 and np.hypot(*(x[1:] - pose.place)) < 0.6)


def _votes(known: list[Sight], new: Sight, met: list[Meetings]) -> Doubles:
    """Turns and shifts (CANDIDATES, 3) with the most votes."""
    yaw = np.arange(TURNS) * 2 * np.pi / TURNS
    bins = int(2 * REACH / CELL)
    counts = np.zeros(TURNS * bins * bins)
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    for sight, pairs in zip(known, met, strict=True):
        a, b = pairs.row_a, pairs.row_b
        x, y = new.place[b, 0], new.place[b, 1]
        i = np.floor((sight.place[a, 0] - (cos * x - sin * y) + REACH) / CELL)
        j = np.floor((sight.place[a, 1] - (sin * x + cos * y) + REACH) / CELL)
        inside = (i >= 0) & (i < bins) & (j >= 0) & (j < bins)
        # Votes in crowded places count less: there agreement is easy.
        vote = sight.weight[a] * new.weight[b] * np.exp(-0.5 * (sight.crowd[a] + new.crowd[b]))
        cell = ((np.arange(TURNS)[:, None] * bins + i) * bins + j)[inside].astype(np.int64)
        counts += np.bincount(cell, np.broadcast_to(vote, i.shape)[inside], len(counts))
    edge = ("wrap", "constant", "constant")
    grid = gaussian_filter(counts.reshape(TURNS, bins, bins), (0.7, 0.5 / CELL, 0.5 / CELL), mode=edge)
    top = np.where(grid == maximum_filter(grid, 3, mode=edge), grid, 0.0)
    best = np.argsort(-top.ravel(), kind="stable")[:CANDIDATES]
    turn, i, j = np.unravel_index(best, grid.shape)
    return np.stack([yaw[turn], (i + 0.5) * CELL - REACH, (j + 0.5) * CELL - REACH], axis=1)
