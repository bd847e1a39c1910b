"""sim, ground truth: the 133 COCO-WholeBody keypoints of a person, and which of them a camera sees.

Each point is fixed to one bone in the rest pose (person at the origin, facing +x, own left side at +y) and
carried by that bone. Face points are where the face texture paints them: they are looked up on the head mesh
by texture coordinate. Order and names follow COCO-WholeBody (Jin et al., 2020), the face iBUG's 68 points.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from orveil.sim.body import Build, hands
from orveil.sim.head import HEAD, head_centre, head_surface
from orveil.sim.maths import Array
from orveil.sim.mesh import Mesh
from orveil.sim.skeleton import BONE, SIDES

_BODY = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee",
    "left_ankle", "right_ankle",
)  # fmt: skip
_FEET = ("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")
FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")


def _hand_names(side: str) -> tuple[str, ...]:
    return (f"{side}_hand_root", *(f"{side}_{finger}{i}" for finger in FINGERS for i in range(1, 5)))


NAMES = (*_BODY, *_FEET, *(f"face-{i}" for i in range(68)), *_hand_names("left"), *_hand_names("right"))
INDEX = {name: i for i, name in enumerate(NAMES)}

# Skin, gloves or a mask may lie this far (metres) in front of a point that still counts as visible. Points on
# the surface need little; joint centres lie inside the body, half a limb with its clothes below the surface.
_INSIDE = {
    "nose": 0.035, "eye": 0.03, "ear": 0.04, "shoulder": 0.14, "elbow": 0.09, "wrist": 0.06, "hip": 0.17,
    "knee": 0.11, "ankle": 0.10, "toe": 0.05, "heel": 0.06, "face": 0.035, "hand": 0.05, "thumb": 0.03,
    "finger": 0.03,
}  # fmt: skip


def _tolerance(name: str) -> float:
    return next(depth for part, depth in _INSIDE.items() if part in name)


TOLERANCE = np.array([_tolerance(name) for name in NAMES])
"""(133,) metres that the rendered surface may lie in front of a visible keypoint."""


class Body(Protocol):
    """What a person must remember of its making for its keypoints to be found again."""

    @property
    def build(self) -> Build:
        """Size and proportions."""

    @property
    def head_scale(self) -> float:
        """Relative size of the head."""

    @property
    def curl(self) -> tuple[float, float]:
        """How far the fingers of the left and the right hand are bent."""


class Camera(Protocol):
    """A camera, with a distorting lens or without."""

    @property
    def width(self) -> int:
        """Picture width in pixels."""

    @property
    def height(self) -> int:
        """Picture height in pixels."""

    def project(self, points: Array) -> tuple[Array, Array]:
        """World points (N, 3) -> pixels (N, 2), a pixel's centre at .5, and metres along the axis (N,)."""


class Landmarks(NamedTuple):
    """Keypoints at rest: points (133, 3) in metres and the index of the bone that carries each (133,)."""

    points: Array
    bones: Array


# ------------------------------------------------------------------------------------------ face
# Angle round the head in degrees (0 = front, + = own left) and height above the head centre in head heights,
# as in the texture; the own right side comes first in iBUG's order.

_JAW = ((88, 0.000), (86, -0.012), (82, -0.024), (75, -0.036), (66, -0.046), (54, -0.053), (40, -0.0585),
        (22, -0.062), (0, -0.0635))  # fmt: skip
_BROW = ((41, 0.0120), (33, 0.0140), (25, 0.0146), (17, 0.0140), (9, 0.0125))
_EYE = ((35, 0.003), (28, 0.0048), (20, 0.0048), (13, 0.003), (20, 0.0012), (28, 0.0012))
_LIPS = ((22, -0.0375), (14, -0.0354), (5, -0.0346), (0, -0.0350), (5, -0.0400), (14, -0.0394))
# Nose, in head heights from the head centre: x forward, y to the left, z up.
_BRIDGE = ((0.0565, 0, 0.004), (0.0585, 0, -0.003), (0.0635, 0, -0.010), (0.0675, 0, -0.0165))
_NOSTRILS = ((0.056, 0.0095, -0.0205), (0.060, 0.005, -0.0220), (0.0635, 0, -0.0225))


def _right(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(-angle, z) for angle, z in points]


def _painted() -> tuple[Array, Array]:
    """Indices 0..67 of the face points that lie on the head surface, and their (angle, z)."""
    right_eye = _right(_EYE)
    left_eye = [_EYE[i] for i in (3, 2, 1, 0, 5, 4)]
    upper = [*_right(_LIPS[:3]), _LIPS[3], *_LIPS[2::-1]]
    lower = [(14, -0.0394), (5, -0.0404), (0, -0.0407), (-5, -0.0404), (-14, -0.0394)]
    inner = [(-17, -0.0375), (-7, -0.0368), (0, -0.0370), (7, -0.0368),
             (17, -0.0375), (7, -0.0382), (0, -0.0384), (-7, -0.0382)]  # fmt: skip
    groups = [
        (range(0, 17), [*_right(_JAW[:8]), *_JAW[::-1]]),
        (range(17, 27), [*_right(_BROW), *_BROW[::-1]]),
        (range(36, 48), [*right_eye, *left_eye]),
        (range(48, 68), [*upper, *lower, *inner]),
    ]
    where = [i for rows, _ in groups for i in rows]
    return np.array(where), np.array([p for _, points in groups for p in points], float)


def _nose() -> Array:
    """(9, 3) bridge 27..30 from the top, then nostrils 31..35 from the own right."""
    right = [(x, -y, z) for x, y, z in _NOSTRILS[:2]]
    return np.array([*_BRIDGE, *right, *_NOSTRILS[::-1]], float)


def surface_points(mesh: Mesh, uv: Array) -> Array:
    """Points (N, 3) of a mesh at texture coordinates (N, 2), linear within its triangles.

    Raises:
        ValueError: a coordinate lies on no triangle.

    """
    a, b, c = (mesh.UV[mesh.F[:, i]] for i in range(3))
    ab, ac = b - a, c - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    usable = np.abs(area) > 1e-12
    a, ab, ac, area, faces = a[usable], ab[usable], ac[usable], area[usable], mesh.F[usable]
    out = np.zeros((len(uv), 3))
    for i, q in enumerate(uv):
        d = q - a
        s = (d[:, 0] * ac[:, 1] - d[:, 1] * ac[:, 0]) / area
        t = (ab[:, 0] * d[:, 1] - ab[:, 1] * d[:, 0]) / area
        inside = np.minimum(np.minimum(s, t), 1 - s - t)
        k = int(np.argmax(inside))
        if inside[k] < -1e-6:
            raise ValueError(f"no triangle at texture coordinate {q}")
        out[i] = np.array([1 - s[k] - t[k], s[k], t[k]]) @ mesh.V[faces[k]]
    return out


def _face_points(build: Build, scale: float) -> Array:
    """(68, 3) iBUG points on the head at rest."""
    where, painted = _painted()
    low, high = HEAD[0, 0], HEAD[-1, 0]
    uv = np.stack([0.5 + painted[:, 0] / 360, (painted[:, 1] - low) / (high - low)], 1)
    points = np.zeros((68, 3))
    points[where] = surface_points(head_surface(build, scale), uv)
    points[27:36] = head_centre(build) + _nose() * build.H * scale
    return points


# ------------------------------------------------------------------------------------------ hands and feet

# How far along a finger (fraction of its length) the joints lie: knuckle, two joints, tip.
_FINGER_JOINTS = (0.0, 0.46, 0.74, 1.0)
_THUMB_JOINTS = (0.0, 0.40, 0.70, 1.0)
# Toes and heel from the ankle joint, in units of H: forward, outward; height above the floor.
_FOOT = ((0.094, -0.012, 0.018), (0.076, 0.022, 0.018), (-0.036, 0.0, 0.020))


def _axis(mesh: Mesh, segments: int = 7) -> Array:
    """Ring centres (n, 3) of a loft with two caps."""
    rings = mesh.V[:-2].reshape(-1, segments + 1, 3)[:, :-1]
    return np.asarray(rings.mean(1))


def _along(line: Array, fractions: Sequence[float]) -> Array:
    """Points on a polyline (n, 3) at fractions of its length."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = np.asarray(fractions) * length[-1]
    return np.stack([np.interp(at, length, line[:, i]) for i in range(3)], 1)


def _hand_points(build: Build, curl: tuple[float, float]) -> Array:
    """(2, 21, 3) left and right hand at rest: root, then thumb to little finger from knuckle to tip."""
    pieces = hands(build, curl)
    per_hand = len(pieces) // 2
    out = np.zeros((2, 21, 3))
    for i, (_, n) in enumerate(SIDES):
        _, *fingers, thumb = (Mesh(p.V, p.UV, p.F) for p in pieces[i * per_hand : (i + 1) * per_hand])
        out[i, 0] = build.joints[BONE["ha_" + n]]
        out[i, 1:5] = _along(_axis(thumb), _THUMB_JOINTS)
        for k, finger in enumerate(fingers):
            out[i, 5 + 4 * k : 9 + 4 * k] = _along(_axis(finger), _FINGER_JOINTS)
    return out


def _foot_points(build: Build, side: int, bone: int) -> Array:
    """(3, 3) big toe, small toe and heel of one foot at rest."""
    x, y, _ = build.joints[bone]
    H = build.H
    return np.array([(x + dx * H, y + side * dy * H, z * H) for dx, dy, z in _FOOT])


# ------------------------------------------------------------------------------------------ whole body

_JOINTS = {"shoulder": "ua", "elbow": "fa", "wrist": "ha", "hip": "th", "knee": "sh", "ankle": "ft"}


@lru_cache(maxsize=256)
def rest_landmarks(build: Build, head_scale: float, curl: tuple[float, float]) -> Landmarks:
    """The keypoints of a person standing at rest, and the bone that carries each (read-only, remembered)."""
    points, bones = np.zeros((133, 3)), np.full(133, BONE["head"])
    face = _face_points(build, head_scale)
    points[23:91] = face
    points[INDEX["nose"]] = face[30]
    points[INDEX["right_eye"]], points[INDEX["left_eye"]] = face[36:42].mean(0), face[42:48].mean(0)
    hand = _hand_points(build, curl)
    for i, (s, n) in enumerate(SIDES):
        side = ("left", "right")[i]
        ear = np.array([-0.002, s * 0.047, -0.006]) * build.H * head_scale
        points[INDEX[f"{side}_ear"]] = head_centre(build) + ear
        for joint, bone in _JOINTS.items():
            bones[INDEX[f"{side}_{joint}"]] = BONE[f"{bone}_{n}"]
            points[INDEX[f"{side}_{joint}"]] = build.joints[BONE[f"{bone}_{n}"]]
        foot, palm = INDEX[f"{side}_big_toe"], INDEX[f"{side}_hand_root"]
        bones[foot : foot + 3] = BONE["ft_" + n]
        points[foot : foot + 3] = _foot_points(build, s, BONE["ft_" + n])
        bones[palm : palm + 21] = BONE["ha_" + n]
        points[palm : palm + 21] = hand[i]
    points.setflags(write=False)
    bones.setflags(write=False)
    return Landmarks(points, bones)


def carry(landmarks: Landmarks, joints: Array, X: Array, R: Array) -> Array:
    """Landmarks at rest -> (133, 3) metres in the world, for bones at X (17, 3) turned by R (17, 3, 3)."""
    points, bones = landmarks
    return np.asarray(X[bones] + np.einsum("nij,nj->ni", R[bones], points - joints[bones]))


def wholebody_keypoints(person: Body, X: Array, R: Array) -> Array:
    """The 133 keypoints (133, 3) in world metres of a person posed by X (17, 3) and R (17, 3, 3)."""
    landmarks = rest_landmarks(person.build, person.head_scale, person.curl)
    return carry(landmarks, person.build.joints, X, R)


def project_visible(points: Array, camera: Camera, person_id: int, depth: Array, person_ids: Array) -> Array:
    """Where a camera sees the keypoints of one person.

    Args:
        points: (133, 3) world metres, as `wholebody_keypoints` gives them.
        camera: gives size and `project`.
        person_id: the value of this person in `person_ids`.
        depth: (height, width) metres along the optical axis of what is rendered at each pixel.
        person_ids: (height, width) person at each pixel, 0 for none.

    Returns:
        (133, 3) x, y in pixels and v: 0 outside the picture or behind the camera, 1 hidden by something or
        by the person's own body, 2 visible. A point is visible where one of the nine pixels round it shows
        this person, at most TOLERANCE in front of the point.

    """
    uv, z = camera.project(points)
    with np.errstate(invalid="ignore"):
        inside = (z > 0.05) & (uv >= 0).all(1) & (uv[:, 0] < camera.width) & (uv[:, 1] < camera.height)
    out = np.zeros((len(points), 3))
    out[inside, :2], out[inside, 2] = uv[inside], 1
    column, row = np.floor(uv[inside]).astype(int).T
    seen = np.zeros(len(row), bool)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            y, x = np.clip(row + dy, 0, camera.height - 1), np.clip(column + dx, 0, camera.width - 1)
            near = depth[y, x] > z[inside] - TOLERANCE[inside]
            seen |= (person_ids[y, x] == person_id) & near
    out[inside, 2] += seen
    return out
