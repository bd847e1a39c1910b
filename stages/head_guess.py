"""Pose: where a head must be, guessed from the keypoints of face, ears or shoulders.

Proportions are those of an adult head with a cap, 1 = chin to crown; they were checked on held-out scenes of
the simulator's source domain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FACE", "TRUST", "HeadGuess", "guess_head"]

Doubles = NDArray[np.float64]

NOSE, EYES, EARS, SHOULDERS, HIPS = 0, [1, 2], [3, 4], [5, 6], [11, 12]
FACE = np.arange(23, 91)
UPPER_FACE = np.r_[23 + 17 : 23 + 27, 23 + 36 : 23 + 48]
LOWER_FACE = np.r_[23 + 5 : 23 + 12, 23 + 48 : 23 + 68]

FACE_HEIGHT = 0.56
"""Brow to chin."""
FACE_WIDTH = 0.60
EAR_TO_EAR = 0.64
EYE_TO_EYE = 0.27
NOSE_TO_EAR = 0.52
SHOULDER_WIDTH = 1.40
TORSO = 2.0
SHOULDERS_TO_HEAD = 0.85
"""Middle of the shoulders to the middle of the head."""
BREADTH, LENGTH = 0.72, 0.90
"""Head from the front and from the side, with a cap."""

TRUST = {"face": 0.95, "ears": 0.85, "detector": 0.9, "shoulders": 0.6, "track": 0.55, "body": 0.3}


@dataclass(frozen=True)
class HeadGuess:
    """A head as an ellipse in its own axes: centre, chin-to-crown height, breadth, and where up is."""

    centre: Doubles
    height: float
    breadth: float
    up: Doubles
    score: float
    source: str

    @property
    def box(self) -> Doubles:
        """Axis-aligned box (4,) around the ellipse."""
        side = np.array([-self.up[1], self.up[0]])
        half = np.hypot(self.up * self.height / 2, side * self.breadth / 2)
        return np.concatenate([self.centre - half, self.centre + half])


def guess_head(points: Doubles, min_score: float) -> HeadGuess | None:
    """The best guess that this person's keypoints allow: (133, 3) -> face, else ears, else shoulders."""
    seen = (points[:, 2] >= min_score) & np.isfinite(points).all(1)
    return _from_face(points, seen) or _from_ears(points, seen) or _from_shoulders(points, seen)


def _from_face(points: Doubles, seen: NDArray[np.bool_]) -> HeadGuess | None:
    upper, lower = UPPER_FACE[seen[UPPER_FACE]], LOWER_FACE[seen[LOWER_FACE]]
    if len(upper) < 5 or len(lower) < 5:
        return None
    up = _unit(points[upper, :2].mean(0) - points[lower, :2].mean(0))
    if up is None:
        return None
    side = np.array([-up[1], up[0]])
    landmarks = points[FACE[seen[FACE]]]
    along, across = landmarks[:, :2] @ up, landmarks[:, :2] @ side
    face_height = along.max() - along.min()
    height = max(face_height / FACE_HEIGHT, _local_height(points, seen))
    width = across.max() - across.min()
    turned = float(np.clip(1 - width / (FACE_WIDTH * height), 0, 1))
    breadth = (BREADTH + (LENGTH - BREADTH) * turned) * height
    middle = (across.max() + across.min()) / 2
    # A face turned to one side: the skull lies behind it, on the side that the nose points away from.
    nose = points[23 + 30, :2] @ side if seen[23 + 30] else middle
    ahead = np.sign(nose - middle)
    front = middle + ahead * width / 2
    lateral = (1 - turned) * middle + turned * (front - ahead * breadth / 2)
    centre = side * lateral + up * (along.min() + 0.5 * height)
    score = TRUST["face"] * float(landmarks[:, 2].mean())
    return HeadGuess(centre, height, breadth, up, min(score, 1.0), "face")


def _from_ears(points: Doubles, seen: NDArray[np.bool_]) -> HeadGuess | None:
    ears = [i for i in EARS if seen[i]]
    eyes = [i for i in EYES if seen[i]]
    used = [*([NOSE] if seen[NOSE] else []), *eyes, *ears]
    if len(used) < 2:
        return None
    height = max(_local_height(points, seen), _body_height(points, seen))
    up = _upward(points, seen)
    ear = points[ears, :2].mean(0) if ears else None
    if ear is not None and len(ears) == 1 and seen[NOSE]:
        centre = 0.6 * ear + 0.4 * points[NOSE, :2]
    else:
        centre = ear if ear is not None else points[eyes or [NOSE], :2].mean(0)
    centre = centre + up * 0.05 * height
    profile = len(ears) == 1 and seen[NOSE]
    breadth = height * (LENGTH if profile else (BREADTH + LENGTH) / 2)
    score = TRUST["ears"] * float(points[used, 2].mean()) * min(1.0, 0.6 + 0.1 * len(used))
    return HeadGuess(centre, height, breadth, up, min(score, 1.0), "ears") if height > 0 else None


def _from_shoulders(points: Doubles, seen: NDArray[np.bool_]) -> HeadGuess | None:
    both = [i for i in SHOULDERS if seen[i]]
    height = _body_height(points, seen)
    if not both or height <= 0:
        return None
    up = _upward(points, seen)
    middle = points[both, :2].mean(0)
    centre = middle + up * SHOULDERS_TO_HEAD * height
    score = TRUST["shoulders"] * float(points[both, 2].mean()) * (1.0 if len(both) == 2 else 0.6)
    breadth = height * (BREADTH + LENGTH) / 2
    return HeadGuess(centre, height, breadth, up, min(score, 1.0), "shoulders")


def _local_height(points: Doubles, seen: NDArray[np.bool_]) -> float:
    """Chin-to-crown height that the points of the head ask for; foreshortening only makes it too small."""
    heights = [0.0]
    if seen[EARS].all():
        heights.append(_distance(points, *EARS) / EAR_TO_EAR)
    if seen[EYES].all():
        heights.append(_distance(points, *EYES) / EYE_TO_EYE)
    heights += [_distance(points, NOSE, ear) / NOSE_TO_EAR for ear in EARS if seen[ear] and seen[NOSE]]
    return max(heights)


def _body_height(points: Doubles, seen: NDArray[np.bool_]) -> float:
    """Chin-to-crown height from the width of the shoulders and the length of the torso."""
    heights = [0.0]
    if seen[SHOULDERS].all():
        heights.append(_distance(points, *SHOULDERS) / SHOULDER_WIDTH)
    for shoulder, hip in zip(SHOULDERS, HIPS, strict=True):
        if seen[shoulder] and seen[hip]:
            heights.append(_distance(points, shoulder, hip) / TORSO)
    return max(heights)


def _upward(points: Doubles, seen: NDArray[np.bool_]) -> Doubles:
    """Unit vector from the body to the head; the picture's up where nothing tells."""
    shoulders = [i for i in SHOULDERS if seen[i]]
    head = [i for i in (*EARS, *EYES) if seen[i]]
    hips = [i for i in HIPS if seen[i]]
    if len(shoulders) == 2 and head:
        lower, upper = shoulders, head
    elif shoulders and hips:
        lower, upper = hips, shoulders
    else:
        return np.array([0.0, -1.0])
    up = _unit(points[upper, :2].mean(0) - points[lower, :2].mean(0))
    return np.array([0.0, -1.0]) if up is None else up


def _unit(vector: Doubles) -> Doubles | None:
    length = float(np.hypot(*vector))
    return vector / length if length > 1e-6 else None


def _distance(points: Doubles, a: int, b: int) -> float:
    return float(np.hypot(*(points[a, :2] - points[b, :2])))
