"""Trackers: what a camera sees of people on its own floor: positions and steps, each with its uncertainty.

Two boxes of one person lie on one spot of the common floor and move alike. Positions err by much, because
heights and cameras are guessed, but by the same amount all the time; steps within a track are exact.
Symmetric matrices (2, 2) are kept as their elements xx, yy, xy. On many poses at once, what depends on the
pose has the axes of the poses before its own.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orveil.trackers.ground_body import HEADS, BoxShapes, stands
from orveil.trackers.ground_camera import GroundCamera, Pose, Poses

__all__ = ["Heads", "Sight", "floor_sight", "place_ratio", "step_ratio"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

SLACK = 0.2
"""Error of a position besides its own uncertainty (m): a lens that bends, clocks, loose boxes."""
KERNEL = 0.7
"""Bandwidth of the density of anybody's positions, metres."""
PACES = np.array([0.03, 0.12, 0.4, 1.0])
"""Deviations (m) of the steps that people make: standing, swaying, turning, walking."""
JITTER = np.array([0.0042, 0.0072])
"""Error of the difference of two smoothed heads, across and down, as a share of the picture."""
STRETCH = 0.2
"""Relative error of a step: the distance it was seen from is a guess."""
LEAST_DROP = 0.3
"""From less above the heads (m), a camera cannot tell steps towards it from the height of the head."""
ASTRAY_PLACE, ASTRAY_STEP = 0.03, 0.25
"""Share of boxes of one person whose places or steps have nothing to do with each other: boxes that jump,
heads that are hidden."""
BEST = 6.0
"""Log-likelihood ratios of one pair of boxes stay below."""


@dataclass(frozen=True)
class Heads:
    """Smoothed middle of the upper edge (N, 2) of N boxes half a second earlier and later, and where both
    are known (N,); relative to the longer side of the picture, 0 in its middle."""

    before: Doubles
    after: Doubles
    known: Bools

    def select(self, rows: Ints) -> Heads:
        """The rows chosen."""
        return Heads(self.before[rows], self.after[rows], self.known[rows])


@dataclass(frozen=True)
class Sight:
    """N boxes of one camera on its own floor.

    `tick` (N,); `weight` (N,) how probable a person is; `place` (N, 2) metres with covariance `cover`
    (N, 3), and `crowd` (N,), the log density of anybody's position there; `step` (N, 2) metres per second
    with covariance `doubt` (N, 3), `usual` (N,), the log density of anybody's step, `stepped` (N,) where
    it is known; `paces`, the shares of the PACES.
    """

    tick: Ints
    weight: Doubles
    place: Doubles
    cover: Doubles
    crowd: Doubles
    step: Doubles
    doubt: Doubles
    usual: Doubles
    stepped: Bools
    paces: Doubles

    def mirrored(self) -> Sight:
        """The same with left and right exchanged: it fits another camera only by chance."""
        flip, cross = np.array([1.0, -1.0]), np.array([1.0, 1.0, -1.0])
        return replace(
            self, place=self.place * flip, cover=self.cover * cross, step=self.step * flip,
            doubt=self.doubt * cross,
        )  # fmt: skip

    def at(self, tick: Ints) -> Sight:
        """The same boxes at other ticks (N,)."""
        return replace(self, tick=tick)

    def on(self, pose: Pose | Poses) -> Sight:
        """The same on a floor where this camera has the given pose, or each of several."""
        cos, sin = np.asarray(np.cos(pose.yaw)), np.asarray(np.sin(pose.yaw))
        turn = np.moveaxis(np.array([[cos, sin], [-sin, cos]]), (0, 1), (-2, -1))
        cos, sin = cos[..., None], sin[..., None]
        return replace(
            self, place=self.place @ turn + pose.place[..., None, :], step=self.step @ turn,
            cover=_turned(self.cover, cos, sin), doubt=_turned(self.doubt, cos, sin),
        )  # fmt: skip


def floor_sight(tick: Ints, weight: Doubles, boxes: BoxShapes, heads: Heads, camera: GroundCamera) -> Sight:
    """Boxes (N) of a camera as positions and steps on its floor, in normal approximation."""
    found = stands(boxes, camera)
    share = np.exp(found.weight)
    place = (share[..., None] * found.point[..., :2]).sum(axis=1)
    off = found.point[..., :2] - place[:, None]
    pairs = np.stack([off[..., 0] ** 2, off[..., 1] ** 2, off[..., 0] * off[..., 1]], axis=2)
    cover = (share[..., None] * pairs).sum(axis=1) + SLACK**2 * np.array([1.0, 1.0, 0.0])
    step, doubt = _steps(heads, camera, np.hypot(place[:, 0], place[:, 1]))
    known = heads.known & ~boxes.cut_top
    paces = _fit_paces(step[known], doubt[known])
    usual = _log_paces(step, doubt, paces)
    return Sight(tick, weight, place, cover, _log_crowd(place, weight), step, doubt, usual, known, paces)


def _log_crowd(place: Doubles, weight: Doubles) -> Doubles:
    """Log density of anybody's position, at most 800 boxes asked."""
    some = np.arange(0, len(place), max(1, -(-len(place) // 800)))
    square = (place**2).sum(axis=1)
    apart = square[:, None] + square[some][None, :] - 2 * place @ place[some].T
    kernel = np.exp(-0.5 * apart / KERNEL**2) @ (weight[some] / max(weight[some].sum(), 1e-9))
    return np.asarray(np.log(kernel / (2 * np.pi * KERNEL**2) + 1e-4))


def _steps(heads: Heads, camera: GroundCamera, distance: Doubles) -> tuple[Doubles, Doubles]:
    """Steps (N, 2) on the floor and their covariances (N, 3), heads moving at one height."""
    first, last = camera.rays(heads.before), camera.rays(heads.after)
    turn = np.arctan2(last[:, 1], last[:, 0]) - np.arctan2(first[:, 1], first[:, 0])
    turn = (turn + np.pi) % (2 * np.pi) - np.pi
    drop = camera.height - HEADS[0][1]
    across, down = JITTER / camera.focal
    if drop >= LEAST_DROP:
        far = [drop * np.hypot(r[:, 0], r[:, 1]) / np.maximum(-r[:, 2], 0.05) for r in (first, last)]
        distance, nearer = (far[0] + far[1]) / 2, far[1] - far[0]
        error = (distance**2 + drop**2) / drop * down
    else:
        nearer, error = np.zeros(len(turn)), np.ones(len(turn))
    polar = np.stack([nearer, distance * turn], axis=1)
    size = (polar**2).sum(axis=1) * STRETCH**2 + 0.03**2
    spread = np.stack([error**2 + size, (distance * across) ** 2 + size, np.zeros(len(turn))], axis=1)
    middle = camera.rays((heads.before + heads.after) / 2)
    flat = np.maximum(np.hypot(middle[:, 0], middle[:, 1]), 1e-6)
    cos, sin = middle[:, 0] / flat, middle[:, 1] / flat
    step = np.stack([cos * polar[:, 0] - sin * polar[:, 1], sin * polar[:, 0] + cos * polar[:, 1]], axis=1)
    return step, _turned(spread, cos, sin)


def _fit_paces(step: Doubles, doubt: Doubles) -> Doubles:
    """Shares of the PACES among N steps, by expectation-maximisation; every pace was seen once before."""
    share = np.full(len(PACES), 1.0 / len(PACES))
    if not len(step):
        return share
    value = np.stack([_log_normal(step, _wider(doubt, p)) for p in PACES], axis=1)
    value = np.exp(value - value.max(axis=1, keepdims=True))
    for _ in range(30):
        part = value * share
        part /= part.sum(axis=1, keepdims=True)
        share = (part.sum(axis=0) + 1.0) / (len(step) + len(PACES))
    return share


def _log_paces(step: Doubles, doubt: Doubles, share: Doubles) -> Doubles:
    """Log density (N,) of steps that anybody makes."""
    parts = [np.log(s) + _log_normal(step, _wider(doubt, p)) for s, p in zip(share, PACES, strict=True)]
    top = functools.reduce(np.maximum, parts)  # many times as fast as logaddexp
    return np.asarray(top + np.log(sum(np.exp(part - top) for part in parts)))


def place_ratio(a: Sight, b: Sight, i: Ints, j: Ints) -> Doubles:
    """Log-likelihood ratios (..., M) of one spot against two; rows i of a with rows j of b, on one floor."""
    together = _log_normal(_rows(a.place, i) - _rows(b.place, j), _rows(a.cover, i) + _rows(b.cover, j))
    return _doubted(together - 0.5 * (a.crowd[i] + b.crowd[j]), ASTRAY_PLACE)


def step_ratio(a: Sight, b: Sight, i: Ints, j: Ints) -> Doubles:
    """Log-likelihood ratios (..., M) of one step against two; 0 where one is not known."""
    known = a.stepped[i] & b.stepped[j]
    i, j = i[known], j[known]
    first, second, one, other = (
        _rows(v, k) for v, k in ((a.step, i), (b.step, j), (a.doubt, i), (b.doubt, j))
    )
    both = one + other
    area = both[..., 0] * both[..., 1] - both[..., 2] ** 2
    # The common step: its mean, weighted by exactness, and its covariance.
    gain = np.stack([both[..., 1], both[..., 0], -both[..., 2]], axis=-1) / area[..., None]
    mean = first + _times(one, _times(gain, second - first))
    cover = _product(one, gain, other)
    together = _log_normal(first - second, both)
    common = _log_paces(mean, cover, 0.5 * (a.paces + b.paces))
    ratio = _doubted(together + common - a.usual[i] - b.usual[j], ASTRAY_STEP)
    out = np.zeros((*ratio.shape[:-1], len(known)))
    out[..., known] = ratio
    return out


def _rows(values: Doubles, rows: Ints) -> Doubles:
    return np.take(values, rows, axis=-2)


def _doubted(ratio: Doubles, astray: float) -> Doubles:
    return np.log((1 - astray) * np.exp(np.minimum(ratio, BEST)) + astray)


def _turned(cover: Doubles, cos: Doubles, sin: Doubles) -> Doubles:
    xx, yy, xy = cover[..., 0], cover[..., 1], cover[..., 2]
    both = 2 * cos * sin * xy
    turned = [
        cos * cos * xx + sin * sin * yy - both,
        sin * sin * xx + cos * cos * yy + both,
        cos * sin * (xx - yy) + (cos * cos - sin * sin) * xy,
    ]
    return np.stack(turned, axis=-1)


def _wider(cover: Doubles, deviation: float) -> Doubles:
    return np.asarray(cover + deviation**2 * np.array([1.0, 1.0, 0.0]))


def _log_normal(off: Doubles, cover: Doubles) -> Doubles:
    """Log density (...) of offsets (..., 2) under centred normal distributions with covariances (..., 3)."""
    xx, yy, xy = cover[..., 0], cover[..., 1], cover[..., 2]
    area = np.maximum(xx * yy - xy**2, 1e-12)
    x, y = off[..., 0], off[..., 1]
    apart = (yy * x**2 - 2 * xy * x * y + xx * y**2) / area
    return np.asarray(-0.5 * apart - 0.5 * np.log(area) - np.log(2 * np.pi))


def _times(matrix: Doubles, vector: Doubles) -> Doubles:
    x, y = vector[..., 0], vector[..., 1]
    rows = [matrix[..., 0] * x + matrix[..., 2] * y, matrix[..., 2] * x + matrix[..., 1] * y]
    return np.stack(rows, axis=-1)


def _product(one: Doubles, gain: Doubles, other: Doubles) -> Doubles:
    """The symmetric product one @ gain @ other, gain the inverse of their sum: (..., 3)."""
    left, right = one[..., [0, 2]], one[..., [2, 1]]
    x, y = _times(gain, other[..., [0, 2]]), _times(gain, other[..., [2, 1]])
    return np.stack([(left * x).sum(axis=-1), (right * y).sum(axis=-1), (left * y).sum(axis=-1)], axis=-1)
