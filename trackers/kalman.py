"""Trackers: a constant-velocity Kalman filter in seconds, vectorised over tracks.

Position and size of a box are four coordinates (cx, cy, w, h) that move independently of each other. Noise
grows with time and scales with the size of the box, as in SORT (Bewley et al., 2016) and DeepSORT (Wojke et
al., 2017), but in seconds instead of frames. In units of the box's own size the covariance of (value,
velocity) is the same for all four coordinates, so that a track needs three numbers for it, no matrix is
inverted, and a gap of any length is one prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ROWS", "Motion", "begin", "centre_size", "corners", "predict", "update"]

Doubles = NDArray[np.float64]

ROWS = 11
"""A state is a table (11, N): cx, cy, w, h, their changes per second, and the covariance p00, p01, p11."""


@dataclass(frozen=True)
class Motion:
    """How people and detectors move boxes; lengths in units of the box's mean side, time in seconds."""

    measurement: float = 0.06
    """Standard deviation of a detector's box."""
    velocity: float = 2.0
    """Standard deviation of the velocity of a track that has just begun, sides per second."""
    agility: float = 1.2
    """Standard deviation by which a velocity changes within one second, sides per second."""


def centre_size(xyxy: NDArray[np.floating]) -> Doubles:
    """(x0, y0, x1, y1) (N, 4) to columns (cx, cy, w, h), float64 (4, N)."""
    box = np.asarray(xyxy, np.float64).reshape(-1, 4).T
    value = np.empty(box.shape)
    np.add(box[:2], box[2:], out=value[:2])
    value[:2] *= 0.5
    np.subtract(box[2:], box[:2], out=value[2:])
    return value


def corners(value: Doubles) -> Doubles:
    """Columns (cx, cy, w, h) (4, N) to boxes (N, 4) xyxy; sizes below one pixel become one pixel."""
    half = np.maximum(value[2:4], 1.0)
    half *= 0.5
    box = np.empty((4, half.shape[1]))
    np.subtract(value[:2], half, out=box[:2])
    np.add(value[:2], half, out=box[2:])
    return box.T


def begin(value: Doubles, motion: Motion) -> Doubles:
    """New tracks at rest (11, N) at measured (cx, cy, w, h) (4, N)."""
    state = np.zeros((ROWS, value.shape[1]))
    state[:4] = value
    state[8], state[10] = motion.measurement**2, motion.velocity**2
    return state


def predict(state: Doubles, dt: float, motion: Motion) -> None:
    """Move a state (11, N) `dt` seconds on, in place; white-noise acceleration."""
    state[:4] += dt * state[4:8]
    step = np.array([[1.0, 2 * dt, dt * dt], [0.0, 1.0, dt], [0.0, 0.0, 1.0]])
    noise = motion.agility**2 * np.array([[dt**3 / 3], [dt**2 / 2], [dt]])
    state[8:11] = step @ state[8:11] + noise


def update(state: Doubles, value: Doubles, score: Doubles, motion: Motion) -> None:
    """Correct N tracks (11, N) with one measured (cx, cy, w, h) each (4, N), in place.

    The noise of a measurement grows as its score (N,) falls, the idea of NSA Kalman (Du et al., 2021).
    """
    doubt = 3.0 - 2.0 * score
    gain = state[8:10] / (state[8] + (motion.measurement * doubt) ** 2)
    error = value - state[:4]
    state[:4] += gain[0] * error
    state[4:8] += gain[1] * error
    state[10] -= gain[1] * state[9]
    state[8:10] *= 1.0 - gain[0]
