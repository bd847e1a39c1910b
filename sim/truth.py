"""Turns a drawn frame into ground-truth records: boxes, visibility, head, face and keypoints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from orveil.sim.camera import Camera
from orveil.sim.coco import HeadRecord, PersonRecord
from orveil.sim.keypoints import Landmarks, carry, project_visible, rest_landmarks
from orveil.sim.maths import Array, unit
from orveil.sim.person import Person
from orveil.sim.render import FACE, HEAD, Frame, Poses, Renderer

Box = tuple[int, int, int, int]
SILHOUETTE_CELLS = 72.0
MIN_PERSON, MIN_HEAD, MIN_FACE = 80, 16, 20


def clean_box(mask: Array, min_area: float) -> Box | None:
    """Tight xyxy box (exclusive maximum) of a mask, ignoring specks under `min_area` pixels."""
    ys, xs = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    if len(ys) == 0:
        return None
    y0, x0 = int(ys[0]), int(xs[0])
    sub = mask[y0 : ys[-1] + 1, x0 : xs[-1] + 1].astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(sub, connectivity=8)
    big = stats[1:][stats[1:, 4] >= min_area]
    if len(big) == 0:
        return None
    right, bottom = (big[:, 0] + big[:, 2]).max(), (big[:, 1] + big[:, 3]).max()
    return int(x0 + big[:, 0].min()), int(y0 + big[:, 1].min()), int(x0 + right), int(y0 + bottom)


def amodal_box(points: Array, camera: Projecting) -> tuple[float, float, float, float]:
    """Box of all projected vertices (n, 3), also outside the picture, limited to one picture beyond it."""
    uv, z = camera.project(points)
    uv = uv[z > 0.15]
    if len(uv) == 0:
        return (0.0, 0.0, 0.0, 0.0)
    w, h = camera.width, camera.height
    low = np.maximum(uv.min(0), [-w, -h])
    high = np.minimum(uv.max(0), [2 * w, 2 * h])
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def silhouette_area(points: Array, camera: Camera) -> float:
    """Estimated pixels covered by a cloud of surface points (n, 3): splatted, closed and counted.

    The cloud is drawn on a grid some 72 cells high, so the cost does not depend on the picture. Parts
    behind the camera are left out.
    """
    uv, z = camera.project(points)
    uv = uv[z > 0.15]
    if len(uv) < 3:
        return 1.0
    low = uv.min(0)
    cell = max(float((uv.max(0) - low).max()) / SILHOUETTE_CELLS, 1e-6)
    ij = ((uv - low) / cell).astype(int) + 6
    grid = np.zeros((ij[:, 1].max() + 7, ij[:, 0].max() + 7), np.uint8)
    grid[ij[:, 1], ij[:, 0]] = 1
    closed = cv2.morphologyEx(grid, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    # A cell on the outline is covered about half: count the inside fully and the outline by half.
    inside = cv2.erode(closed, np.ones((3, 3), np.uint8))
    return max(1.0, (float(inside.sum()) + float(closed.sum())) / 2 * cell * cell)


class Projecting(Protocol):
    """A camera with a lens or without."""

    @property
    def width(self) -> int:
        """Picture width in pixels."""

    @property
    def height(self) -> int:
        """Picture height in pixels."""

    def project(self, points: Array) -> tuple[Array, Array]:
        """World points (n, 3) to pixels (n, 2) and metres along the axis (n,)."""


@dataclass(frozen=True)
class View:
    """A picture as shown, and as drawn before the lens bent it.

    `covered` (h, w) bool marks the drawn pixels that the bent picture still shows; None means all.
    Visible fractions are counted in the drawn picture, boxes and points lie in the shown one.
    """

    shown: Frame
    camera: Projecting
    drawn: Frame
    pinhole: Camera
    covered: Array | None = None

    def count(self, pid: int) -> Array:
        """Visible drawn pixels of one person: all, head with face, face."""
        mine = self.drawn.person_id == pid
        if self.covered is not None:
            mine &= self.covered
        parts = np.bincount(self.drawn.part[mine], minlength=4)
        return np.array([parts.sum(), parts[HEAD] + parts[FACE], parts[FACE]], float)


def plain_view(frame: Frame, camera: Camera) -> View:
    """The view of a camera without a lens."""
    return View(frame, camera, frame, camera)


class Truth:
    """Makes the records of one scene's people. Rest landmarks are computed once per person.

    `exact` renders every person alone to know its full area (Renderer must be made with `alone` > 0);
    without it the area is the estimate of `silhouette_area`.
    """

    def __init__(self, renderer: Renderer, *, exact: bool, keypoints: bool = True) -> None:
        self.renderer, self.exact = renderer, exact
        self.landmarks: dict[int, Landmarks] = {}
        if keypoints:
            for p in renderer.people:
                self.landmarks[p.pid] = rest_landmarks(p.build, p.head_scale, p.curl)

    def records(self, view: View, poses: Poses) -> tuple[PersonRecord, ...]:
        """Records of everybody seen in the picture that was drawn last."""
        out = [self._person(p, view, poses[p.pid]) for p in self.renderer.people if p.pid in poses]
        return tuple(r for r in out if r is not None)

    def _areas(self, pid: int, camera: Camera, vertices: Array) -> tuple[float, float, float]:
        """Pixels of person, head and face if nothing hid them."""
        if self.exact:
            return self.renderer.alone_counts(pid, camera)
        head, face = self.renderer.vertices(pid, (HEAD, FACE)), self.renderer.vertices(pid, (FACE,))
        # A face seen from behind has no visible side: its silhouette only bounds what could be seen.
        return silhouette_area(vertices, camera), silhouette_area(head, camera), silhouette_area(face, camera)

    def _person(self, p: Person, view: View, pose: tuple[Array, Array]) -> PersonRecord | None:
        frame = view.shown
        mask = frame.person_id == p.pid
        pixels = int(mask.sum())
        if pixels < MIN_PERSON:
            return None
        box = clean_box(mask, max(10, 0.004 * pixels))
        if box is None:
            return None
        vertices = self.renderer.vertices(p.pid)
        seen = view.count(p.pid) / np.maximum(self._areas(p.pid, view.pinhole, vertices), 1.0)
        points = None
        if p.pid in self.landmarks:
            world = carry(self.landmarks[p.pid], p.J, *pose)
            points = project_visible(world, view.camera, p.pid, frame.depth, frame.person_id)
        face = mask & (frame.part == FACE)
        head = mask & (frame.part >= HEAD)
        return PersonRecord(
            track_id=p.pid,
            role=p.role,
            box=box,
            full_box=amodal_box(vertices, view.camera),
            visible_fraction=float(min(1.0, seen[0])),
            pixels=pixels,
            keypoints=points,
            head=_head(head, int(face.sum()), box, seen, face_angle(p, view.pinhole, pose)),
            face_mask=face if face.any() else None,
        )


def _head(mask: Array, face_pixels: int, body: Box, seen: Array, angle: float) -> HeadRecord | None:
    """The head's record; `seen` are the visible fractions of person, head and face."""
    n = int(mask.sum())
    found = clean_box(mask, max(6, 0.01 * n)) if n >= MIN_HEAD else None
    if found is None:
        return None
    x0, y0 = max(found[0], body[0]), max(found[1], body[1])
    x1, y1 = min(found[2], body[2]), min(found[3], body[3])
    if x1 <= x0 or y1 <= y0:
        return None
    visible = angle <= 100 and face_pixels >= MIN_FACE and seen[2] >= 0.45
    return HeadRecord((x0, y0, x1, y1), float(min(1.0, seen[1])), bool(visible), angle)


def face_angle(p: Person, camera: Camera, pose: tuple[Array, Array]) -> float:
    """Degrees between where the head points and the direction to the camera."""
    X, R = pose
    centre = X[4] + R[4] @ np.array([0, 0, 0.05 * p.H])
    cosine = float(np.clip(R[4][:, 0] @ unit(camera.position - centre), -1, 1))
    return math.degrees(math.acos(cosine))
