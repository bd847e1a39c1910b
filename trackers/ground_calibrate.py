"""Trackers: a camera's focal length, tilt, roll and height from the boxes of people that it sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from orveil.trackers.ground_body import BoxShapes, stands
from orveil.trackers.ground_camera import GroundCamera

__all__ = ["PRIOR_MEAN", "PRIOR_SPREAD", "calibrate_camera", "camera_of"]

Doubles = NDArray[np.float64]

PRIOR_MEAN = np.array([np.log(1.05), np.radians(20.0), 0.0, np.log(2.3)])
"""Of log focal length (in longer sides), tilt, roll, log height (m): a camera on a wall or a high stand."""
PRIOR_SPREAD = np.array([0.25, np.radians(12.0), np.radians(4.0), 0.25])

MOST_BOXES = 60
"""So many boxes, evenly chosen, stand for all: the guess is a start, and the same people stand about."""


def camera_of(parameters: Doubles, size: Doubles) -> GroundCamera:
    """The camera of parameters (4,): log focal length, tilt, roll, log height."""
    focal, tilt, roll, height = parameters
    return GroundCamera(
        size, float(np.exp(np.clip(focal, -2, 2))), float(tilt), float(roll), float(np.exp(height))
    )


def calibrate_camera(boxes: BoxShapes, weight: Doubles, size: Doubles) -> Doubles:
    """The most probable parameters of a camera, given how its boxes end and how wide they are.

    Args:
        boxes: N boxes.
        weight: (N,) independent looks that each box stands for.
        size: (2,) picture size in pixels.

    Returns:
        Parameters (4,).
    """

    some = np.unique(np.linspace(0, len(weight) - 1, min(len(weight), MOST_BOXES)).astype(np.int64))
    boxes = boxes.select(some)
    share = weight[some] * (weight.sum() / max(float(weight[some].sum()), 1e-9))

    def cost(scaled: Doubles) -> float:
        camera = camera_of(PRIOR_MEAN + scaled * PRIOR_SPREAD, size)
        return 0.5 * float(scaled @ scaled) - float(share @ stands(boxes, camera).shape)

    starts = [np.array([0.0, tilt, 0.0, 0.0]) for tilt in (-1.2, -0.4, 0.4, 1.2)]
    start = min(starts, key=cost)
    options = {
        "maxfev": 80, "xatol": 0.05, "fatol": 0.1,
        "initial_simplex": start + np.vstack([np.zeros(4), 0.7 * np.eye(4)]),
    }  # fmt: skip
    best = minimize(cost, start, method="Nelder-Mead", options=options)
    return np.asarray(PRIOR_MEAN + best.x * PRIOR_SPREAD)
