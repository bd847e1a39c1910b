"""Trackers: how the floors of two cameras lie to each other, by the agreement of people seen at one time.

Every synchronous pair of boxes votes for the turns and shifts that would put both persons on one spot
(a generalised Hough transform). The best places are judged again with at most one partner per box, all at
once, and moved to where the agreement is best by expectation-maximisation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from orveil.trackers.ground_camera import Pose, Poses
from orveil.trackers.ground_sight import ASTRAY_PLACE, ASTRAY_STEP, Sight, place_ratio, step_ratio
from orveil.trackers.matching import match_marginals

__all__ = ["Meetings", "agreement", "best_poses", "evidence_at", "meetings"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

PLACES_COUNT = 0.25
STEPS_COUNT = 0.5
"""How much the positions and the steps of one tick add: neighbouring ticks repeat each other."""
TURNS = 48
CELL = 0.3
REACH = 10.0
"""Votes: directions in a full turn, cell and largest shift in metres."""
CANDIDATES = 24
REFINED, ROUNDS = 4, 7
"""Candidates that are refined, and for how many rounds."""
HELD = np.array([50.0, 5.0, 5.0])
LONGEST = np.array([0.3, 0.8, 0.8])
"""What holds yaw (rad) and place (m) back in a round (inverse variances), and the longest steps."""
BATCH = 20_000
"""Pairs of boxes that are looked at in one go, over all poses."""


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


def agreement(a: Sight, b: Sight, met: Meetings) -> tuple[Doubles, Doubles]:
    """Log evidence (...) that two cameras on one floor see the same people; probability (..., M) of pairs.

    The second camera may have many poses at once.
    """
    look = _look(a, b, met)
    return look.evidence, look.probability


@dataclass(frozen=True)
class _Look:
    """Two cameras on one floor, the second at P poses: evidence (P,), and per pair (P, M) the probability
    and the ratios of places and steps."""

    evidence: Doubles
    probability: Doubles
    place: Doubles
    step: Doubles


def _look(a: Sight, b: Sight, met: Meetings) -> _Look:
    i, j = met.row_a, met.row_b
    place, step = place_ratio(a, b, i, j), step_ratio(a, b, i, j)
    odds = PLACES_COUNT * place + STEPS_COUNT * step
    odds += np.log(a.weight[i] * b.weight[j] + 1e-9) - met.log_crowd
    table = np.full((*odds.shape[:-1], *met.shape), -np.inf)
    table[..., met.frame, met.slot_a, met.slot_b] = odds
    probability, evidence = match_marginals(table)
    return _Look(evidence.sum(axis=-1), probability[..., met.frame, met.slot_a, met.slot_b], place, step)


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
    start = _votes(known, new, met)
    rough = evidence_at(known, new, met, start)
    chosen: list[int] = []
    for k in np.argsort(-rough, kind="stable"):
        if len(chosen) < count and not any(_near(start.one(k), start.one(c)) for c in chosen):
            chosen.append(int(k))
    best, pose = _refined(known, new, met, start.select(chosen))
    return [(float(best[k]), pose.one(k)) for k in np.argsort(-best, kind="stable")]


def evidence_at(known: list[Sight], new: Sight, met: list[Meetings], poses: Poses) -> Doubles:
    """Agreement (P,) of a camera with those placed, at each of P poses."""
    total = np.zeros(len(poses.place))
    pairs = max((len(m.row_a) for m in met), default=0)
    step = max(1, BATCH // max(pairs, 1))
    for first in range(0, len(total), step):
        part = slice(first, first + step)
        there = new.on(poses.select(part))
        total[part] = sum(agreement(sight, there, m)[0] for sight, m in zip(known, met, strict=True))
    return total


def _refined(known: list[Sight], new: Sight, met: list[Meetings], poses: Poses) -> tuple[Doubles, Poses]:
    """Evidence (P,) and poses after rounds of expectation-maximisation: who is whom, then the pose that fits
    best (one Gauss-Newton step); a step that makes it worse is halved."""
    best, at, trial = np.full(len(poses.place), -np.inf), poses, poses
    step = np.zeros((len(poses.place), 3))
    for _ in range(ROUNDS):
        there = new.on(trial)
        looks = [_look(sight, there, m) for sight, m in zip(known, met, strict=True)]
        evidence = np.sum([look.evidence for look in looks], axis=0)
        better = evidence > best
        best = np.where(better, evidence, best)
        at = Poses(np.where(better[:, None], trial.place, at.place), np.where(better, trial.yaw, at.yaw))
        step = np.where(better[:, None], _uphill(known, there, met, looks, trial), 0.5 * step)
        trial = Poses(at.place + step[:, 1:], at.yaw + step[:, 0])
    return best, at


def _uphill(
    known: list[Sight], there: Sight, met: list[Meetings], looks: list[_Look], poses: Poses
) -> Doubles:
    """The step (P, 3) of yaw and place that brings pairs together, weighted by how probable they are."""
    pull = np.zeros((len(poses.place), 3))
    held = np.tile(np.diag(HELD), (len(poses.place), 1, 1))
    for a, m, look in zip(known, met, looks, strict=True):
        i, j = m.row_a, m.row_b
        # The share of a ratio that is not owed to boxes gone astray.
        place = PLACES_COUNT * look.probability * (1.0 - ASTRAY_PLACE * np.exp(-look.place))
        step = STEPS_COUNT * look.probability * (1.0 - ASTRAY_STEP * np.exp(-look.step))
        step *= a.stepped[i] & there.stepped[j]
        at, arm = there.place[:, j], (there.place - poses.place[:, None])[:, j]
        _add_normal(pull, held, place, a.place[i] - at, a.cover[i] + there.cover[:, j], arm, slides=True)
        stride = there.step[:, j]
        _add_normal(
            pull, held, step, a.step[i] - stride, a.doubt[i] + there.doubt[:, j], stride, slides=False
        )
    return np.clip(np.linalg.solve(held, pull[..., None])[..., 0], -LONGEST, LONGEST)


def _add_normal(
    pull: Doubles, held: Doubles, weight: Doubles, off: Doubles, cover: Doubles, arm: Doubles, *, slides: bool
) -> None:
    """Add the normal equations, pull (P, 3) and held (P, 3, 3), of M weighted offsets (P, M, 2) with
    covariances (P, M, 3), of vectors `arm` that turn and, if they are places, slide with the camera."""
    gain = weight / np.maximum(cover[..., 0] * cover[..., 1] - cover[..., 2] ** 2, 1e-12)
    xx, yy, xy = gain * cover[..., 1], gain * cover[..., 0], -gain * cover[..., 2]
    columns = [(-arm[..., 1], arm[..., 0])]
    if slides:
        one = np.ones_like(gain)
        columns += [(one, 0.0 * one), (0.0 * one, one)]
    for q, (x, y) in enumerate(columns):
        along, across = xx * x + xy * y, xy * x + yy * y
        pull[:, q] += (along * off[..., 0] + across * off[..., 1]).sum(axis=1)
        for r, (u, v) in enumerate(columns):
            held[:, q, r] += (along * u + across * v).sum(axis=1)


def _near(one: Pose, other: Pose) -> bool:
    turn = abs((one.yaw - other.yaw + np.pi) % (2 * np.pi) - np.pi)
    return bool(turn < 0.25 and np.hypot(*(one.place - other.place)) < 0.6)


def _votes(known: list[Sight], new: Sight, met: list[Meetings]) -> Poses:
    """The CANDIDATES turns and shifts with the most votes."""
    yaw = np.arange(TURNS) * 2 * np.pi / TURNS
    bins = int(2 * REACH / CELL)
    counts = np.zeros(TURNS * bins * bins)
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    for sight, pairs in zip(known, met, strict=True):
        a, b = pairs.row_a, pairs.row_b
        x, y = new.place[:, 0], new.place[:, 1]
        i = (sight.place[a, 0] + REACH) / CELL - ((cos * x - sin * y) / CELL)[:, b]
        j = (sight.place[a, 1] + REACH) / CELL - ((sin * x + cos * y) / CELL)[:, b]
        inside = (i >= 0) & (i < bins) & (j >= 0) & (j < bins)
        # Votes in crowded places count less: there agreement is easy.
        vote = sight.weight[a] * new.weight[b] * np.exp(-0.5 * (sight.crowd[a] + new.crowd[b]))
        cell = (np.arange(TURNS)[:, None] * bins + i.astype(np.int64)) * bins + j.astype(np.int64)
        cell[~inside] = 0
        counts += np.bincount(cell.ravel(), (vote * inside).ravel(), len(counts))
    edge = ("wrap", "constant", "constant")
    grid = gaussian_filter(counts.reshape(TURNS, bins, bins), (0.7, 0.5 / CELL, 0.5 / CELL), mode=edge)
    top = np.where(grid == maximum_filter(grid, 3, mode=edge), grid, 0.0)
    best = np.argsort(-top.ravel(), kind="stable")[:CANDIDATES]
    turn, i, j = np.unravel_index(best, grid.shape)
    return Poses(np.stack([(i + 0.5) * CELL - REACH, (j + 0.5) * CELL - REACH], axis=1), yaw[turn])
