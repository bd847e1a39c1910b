"""Trackers: all cameras of a site on one floor, in metres, from the boxes of a few seconds.

Every camera guesses its own lens and place from the people it sees, the cameras are joined where people
stand and move alike, and guess and places are then settled together. What the others cannot vouch for
against its own mirror image is left out; with fewer than two cameras nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from orveil.trackers.ground_align import agreement
from orveil.trackers.ground_body import BoxShapes, shapes, stands
from orveil.trackers.ground_calibrate import PRIOR_MEAN, PRIOR_SPREAD, calibrate_camera, camera_of
from orveil.trackers.ground_camera import GroundCamera, Pose
from orveil.trackers.ground_network import Joiner, Placement
from orveil.trackers.ground_sight import Heads, Sight, floor_sight
from orveil.trackers.pairing import Scene

__all__ = ["Ground", "learn_ground", "smooth_heads", "teaching_ticks"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

TICK_S = 0.5
MOST_TICKS = 60
"""Ticks that teach: at least so far apart, at most so many."""
LEAST_TICKS = 8
LEAST_BOXES = 16
"""A camera with fewer is not placed."""
LOOKS = 20.0
"""Independent looks at how boxes end that a whole recording is worth: the same people stand about."""
LEAST_MARGIN = 7.0
"""A camera is placed if it agrees with the others by so much more than its mirror image. Cameras of
different rooms reached 5 at most; of one room, cameras placed wrongly reached 6, rightly placed ones 1 to
21."""
SPAN_S, REACH_S = 0.5, 0.26
"""Heads are averaged over REACH_S to either side of the moments SPAN_S before and after."""
EARLY_MARGIN = 8.5
"""Below this, on average over the cameras before they are settled, there is no hope: where cameras were
placed in the end it was 8.7 at least, with boxes of any quality."""
LEAST_SHARE = 1 / 3
"""And by so large a share of the median margin of all: where the others fit very well, a camera of another
room gets more than `LEAST_MARGIN` by chance."""
EVALUATIONS = 90
"""Of one camera, while it is settled."""


@dataclass(frozen=True)
class Ground:
    """Cameras that were placed: lens and height, pose on the common floor, margin over the mirror image,
    and the pose at which the mirror image fits best."""

    cameras: dict[int, GroundCamera]
    poses: dict[int, Pose]
    margin: dict[int, float]
    mirror: dict[int, Pose]

    def sights(self, camera: int, scene: Scene, rows: Ints, heads: Heads) -> tuple[Sight, Sight]:
        """What boxes of one placed camera say on the common floor, and what their mirror image does."""
        view = self.cameras[camera]
        boxes = shapes(scene.xyxy[rows], view.size)
        weight = np.clip(scene.score[rows].astype(np.float64), 0.1, 1.0)
        seen = floor_sight(scene.tick[rows], weight, boxes, heads.select(rows), view)
        return seen.on(self.poses[camera]), seen.mirrored().on(self.mirror[camera])


@dataclass(frozen=True)
class _Teacher:
    """The teaching boxes of one camera."""

    tick: Ints
    weight: Doubles
    boxes: BoxShapes
    heads: Heads
    size: Doubles

    def sight(self, parameters: Doubles) -> Sight:
        camera = camera_of(parameters, self.size)
        return floor_sight(self.tick, self.weight, self.boxes, self.heads, camera)

    def log_posterior(self, parameters: Doubles) -> float:
        """How well the camera explains where its boxes end, and how usual it is."""
        shape = stands(self.boxes, camera_of(parameters, self.size)).shape
        return LOOKS * float(shape.mean()) - 0.5 * float(
            (((parameters - PRIOR_MEAN) / PRIOR_SPREAD) ** 2).sum()
        )


def teaching_ticks(tick_s: Doubles) -> NDArray[np.bool_]:
    """Ticks (K,) that teach: MOST_TICKS at most, evenly over the recording, TICK_S apart or more."""
    chosen = np.zeros(len(tick_s), np.bool_)
    if len(tick_s):
        step = max(TICK_S, float(tick_s[-1] - tick_s[0]) / MOST_TICKS)
        slot = np.floor((tick_s - tick_s[0]) / step + 1e-6)
        chosen[np.unique(slot, return_index=True)[1]] = True
    return chosen


def smooth_heads(scene: Scene, sizes: list[Doubles]) -> Heads:
    """Upper edges of all boxes' tracks around half a second before and after each box."""
    size = np.array(sizes).reshape(-1, 2)[scene.camera]
    unit = size.max(axis=1, initial=1.0)[:, None]
    box = scene.xyxy.astype(np.float64)
    head = (np.stack([(box[:, 0] + box[:, 2]) / 2, box[:, 1]], axis=1) - size / 2) / unit
    moment = scene.tick_s[scene.tick] - scene.tick_s[0] if len(scene.tick_s) else np.zeros(0)
    # Tracks follow each other on one line of time, so far apart that windows never reach the next.
    clock = scene.track * (float(moment.max(initial=0.0)) + 10.0) + moment
    order = np.argsort(clock, kind="stable")
    line, total = clock[order], np.vstack([np.zeros(2), np.cumsum(head[order], axis=0)])
    mean, known = [], np.ones(len(clock), np.bool_)
    for shift in (-SPAN_S, SPAN_S):
        low = np.searchsorted(line, clock + shift - REACH_S)
        high = np.searchsorted(line, clock + shift + REACH_S, "right")
        count = high - low
        known &= count > 0
        mean.append((total[high] - total[low]) / np.maximum(count, 1)[:, None])
    return Heads(mean[0], mean[1], known)


def learn_ground(scene: Scene, rows: Ints, sizes: list[Doubles], heads: Heads) -> Ground:
    """Place the cameras on one floor.

    Args:
        scene: boxes and tracks.
        rows: boxes that teach; of those only the ones at teaching ticks are used.
        sizes: (2,) picture size in pixels of each camera.
        heads: of all boxes of the scene.
    """
    rows = rows[teaching_ticks(scene.tick_s)[scene.tick[rows]]]
    teachers: list[_Teacher | None] = []
    for camera, size in enumerate(sizes):
        mine = rows[scene.camera[rows] == camera]
        tick, weight = scene.tick[mine], np.clip(scene.score[mine].astype(np.float64) / 0.6, 0.1, 1.0)
        enough = len(mine) >= LEAST_BOXES and len(np.unique(tick)) >= LEAST_TICKS
        boxes = shapes(scene.xyxy[mine], size)
        teachers.append(_Teacher(tick, weight, boxes, heads.select(mine), size) if enough else None)
    known = {c: t for c, t in enumerate(teachers) if t is not None}
    parameters = {
        c: calibrate_camera(t.boxes, np.full(len(t.tick), LOOKS / len(t.tick)), t.size)
        for c, t in known.items()
    }
    joiner = Joiner({c: t.sight(parameters[c]) for c, t in known.items()})
    found = joiner.search()
    # Settling costs more than all before it, and only adds to the margins of cameras that fit already.
    if found is None or np.mean([joiner.margin(c, found)[0] for c in found.poses]) < EARLY_MARGIN:
        return Ground({}, {}, {}, {})
    for camera in sorted(found.poses):
        found, parameters[camera] = _settle(joiner, found, camera, known[camera], parameters[camera])
    return _vouched(joiner, found, known, parameters)


def _settle(
    joiner: Joiner, found: Placement, camera: int, teacher: _Teacher, parameters: Doubles
) -> tuple[Placement, Doubles]:
    """Improve lens, height and pose of one camera, the others held."""
    known, met = joiner.partners(camera, found.seen)

    def cost(x: Doubles) -> float:
        there = teacher.sight(x[:4]).on(Pose(x[5:], float(x[4])))
        shared = float(sum(agreement(s, there, m)[0] for s, m in zip(known, met, strict=True)))
        return -shared - teacher.log_posterior(x[:4])

    pose = found.poses[camera]
    start = np.concatenate([parameters, [pose.yaw], pose.place])
    stride = np.concatenate([0.45 * PRIOR_SPREAD, [0.08, 0.3, 0.3]])
    options = {
        "maxfev": EVALUATIONS, "initial_simplex": start + np.vstack([np.zeros(7), np.diag(stride)]),
        "fatol": 0.05, "xatol": 0.01,
    }  # fmt: skip
    best = minimize(cost, start, method="Nelder-Mead", options=options)
    joiner.sights[camera] = teacher.sight(best.x[:4])
    return joiner.moved(found, camera, Pose(best.x[5:], float(best.x[4]))), best.x[:4]


def _vouched(
    joiner: Joiner, found: Placement, teachers: dict[int, _Teacher], parameters: dict[int, Doubles]
) -> Ground:
    """The cameras that agree with each other better than their mirror images do."""
    while len(found.poses) > 1:
        tested = {c: joiner.margin(c, found) for c in sorted(found.poses)}
        margin = {c: value for c, (value, _) in tested.items()}
        if max(margin.values()) < LEAST_MARGIN:
            break  # Not one of them can be told from its mirror image: what is left of them cannot either.
        worst = min(margin, key=lambda c: margin[c])
        if margin[worst] >= max(LEAST_MARGIN, LEAST_SHARE * float(np.median(list(margin.values())))):
            cameras = {c: camera_of(parameters[c], teachers[c].size) for c in margin}
            return Ground(cameras, found.poses, margin, {c: pose for c, (_, pose) in tested.items()})
        found = found.without(worst)
    return Ground({}, {}, {}, {})
