"""OpenMMLab room, training data of the pose model: a crop and its SimCC targets."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.stages.mm_data import Augment, PoseSample, vary_colour

__all__ = ["FLIP_ORDER", "PADDING", "crop_view", "simcc_targets"]

Floats = NDArray[np.float32]
PADDING = 1.25


def _flip_order() -> NDArray[np.int64]:
    """Index of each COCO-WholeBody keypoint's mirror image: `mirrored = keypoints[FLIP_ORDER]`."""
    order = np.arange(133)
    pairs = [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)]
    pairs += [(17, 20), (18, 21), (19, 22)]
    # Face, 68 points from 23: jaw line, brows, nostrils, eyes, outer and inner lips.
    pairs += [(23 + i, 39 - i) for i in range(8)]
    pairs += [(40 + i, 49 - i) for i in range(5)]
    pairs += [(54, 58), (55, 57)]
    pairs += [(59, 68), (60, 67), (61, 66), (62, 65), (63, 70), (64, 69)]
    pairs += [(71, 77), (72, 76), (73, 75), (78, 82), (79, 81), (83, 87), (84, 86), (88, 90)]
    pairs += [(91 + i, 112 + i) for i in range(21)]
    for a, b in pairs:
        order[a], order[b] = b, a
    return order


FLIP_ORDER = _flip_order()


def crop_view(
    sample: PoseSample, rng: np.random.Generator, augment: Augment, size: tuple[int, int]
) -> PoseSample:
    """One varied crop of (width, height) px around the person; keypoints in crop pixels."""
    w, h = size
    x0, y0, x1, y1 = sample.xyxy.tolist()
    span = max(x1 - x0, (y1 - y0) * w / h, 1.0) * PADDING * float(np.exp(rng.uniform(*np.log(augment.scale))))
    centre = np.array([x0 + x1, y0 + y1]) / 2
    centre = centre + rng.uniform(-1, 1, 2) * augment.shift * np.array([span, span * h / w])
    angle = np.deg2rad(rng.uniform(-1, 1) * augment.rotate) if rng.random() < 0.6 else 0.0
    scale = w / span
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.concatenate([turn, (np.array([w / 2, h / 2]) - turn @ centre)[:, None]], 1)
    source, image_matrix = sample.image, matrix
    if scale < 0.5:
        source = np.asarray(cv2.resize(source, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
        image_matrix = matrix @ np.diag([2.0, 2.0, 1.0])
    image = np.asarray(cv2.warpAffine(source, image_matrix, size, flags=cv2.INTER_LINEAR), np.uint8)
    points = sample.keypoints @ turn.T + matrix[:, 2]
    weights, levels = sample.weights, sample.levels
    if rng.random() < augment.flip:
        image = np.ascontiguousarray(image[:, ::-1])
        points = points[FLIP_ORDER]
        points[:, 0] = w - points[:, 0]
        weights, levels = weights[FLIP_ORDER], levels[FLIP_ORDER]
    image = vary_colour(image, rng, augment)
    return PoseSample(image, sample.xyxy, points.astype(np.float32), weights, levels)


def simcc_targets(
    view: PoseSample, size: tuple[int, int], ratio: float, sigma: tuple[float, float]
) -> tuple[Floats, Floats, Floats]:
    """SimCC vectors of a crop (Li et al., SimCC, 2022), each a Gaussian as high as the keypoint's level.

    Args:
        view: keypoints in crop pixels.
        size: (width, height) of the crop.
        ratio: bins per pixel.
        sigma: width of the Gaussian along x and y, in bins.

    Returns:
        x targets (133, W * ratio), y targets (133, H * ratio), weights (133,); a keypoint outside of the crop
        has level 0 there: nothing is to be found.
    """
    inside = ((view.keypoints >= 0) & (view.keypoints < np.array(size))).all(1)
    height = (view.levels * inside)[:, None]
    targets = []
    for axis in (0, 1):
        bins = np.arange(round(size[axis] * ratio), dtype=np.float32)
        offset = (bins[None] - view.keypoints[:, axis : axis + 1] * ratio) / sigma[axis]
        targets.append((height * np.exp(-0.5 * offset**2)).astype(np.float32))
    return targets[0], targets[1], view.weights.astype(np.float32)
