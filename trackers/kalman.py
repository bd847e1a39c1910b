"""Trackers: a constant-velocity Kalman filter in seconds, vectorised over tracks.

Position and size of a box are four coordinates (cx, cy, w, h) that move independently of each other, so
that the filter is 4N two-state filters (value, velocity) in closed form: no matrix is inverted, and a
gap of any length is one prediction. Noise grows with time and scales with the size of the box, as in
SORT (Bewley et al., 2016) and DeepSORT (Wojke et al., 2017), but in seconds instead of frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Motion", "State", "begin", "centre_size", "corners", "join", "predict", "update"]

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """How people and detectors move boxes; lengths in units of the box's mean side, time in seconds."""

    measurement: float = 0.06
    """Standard deviation of a detector's box."""
    velocity: float = 1.0
    """Standard deviation of the velocity of a track that has just begun, sides per second."""
    agility: float = 1.2
    """Standard deviation by which a velocity changes within one second, sides per second."""
    resize: float = 0.5
    """How much slower sizes change than positions."""


@dataclass(frozen=True)
class State:
    """N tracks: means and covariances of (value, velocity), each (N, 4) for (cx, cy, w, h)."""

    value: Doubles
    velocity: Doubles
    p00: Doubles
    p01: Doubles
    p11: Doubles

    def __len__(self) -> int:
        return len(self.value)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> State:
        """The tracks chosen by a mask (N,) or an index array."""
        return State(
            self.value[rows], self.velocity[rows], self.p00[rows], self.p01[rows], self.p11[rows]
        )  # fmt: skip

    def boxes(self) -> Doubles:
        """Boxes (N, 4) xyxy in pixels; sizes never fall below one pixel."""
        return corners(self.value)


def centre_size(xyxy: NDArray[np.floating]) -> Doubles:
    """(x0, y0, x1, y1) to (cx, cy, w, h), float64 (N, 4)."""
    box = np.asarray(xyxy, np.float64).reshape(-1, 4)
    return np.concatenate([(box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]], axis=1)


def corners(value: Doubles) -> Doubles:
    """(cx, cy, w, h) to (x0, y0, x1, y1), float64 (N, 4); sizes below one pixel become one pixel."""
    half = np.maximum(value[:, 2:], 1.0) / 2
    return np.concatenate([value[:, :2] - half, value[:, :2] + half], axis=1)


def begin(xyxy: NDArray[np.floating], motion: Motion) -> State:
    """New tracks (N) at rest at the given boxes (N, 4)."""
    value = centre_size(xyxy)
    side = _sides(value, motion)
    zero = np.zeros_like(value)
    return State(value, zero, (motion.measurement * side) ** 2, zero, (motion.velocity * side) ** 2)


def join(states: list[State]) -> State:
    """All tracks of several states, in order."""
    return State(
        *(
            np.concatenate([getattr(s, name) for s in states])
            for name in ("value", "velocity", "p00", "p01", "p11")
        )
    )


def predict(state: State, dt: float | Doubles, motion: Motion) -> State:
    """The state `dt` seconds later (a number, or one per track (N,)); white-noise acceleration."""
    step = np.asarray(dt, np.float64)
    step = step[:, None] if step.ndim else step
    q = (motion.agility * _sides(state.value, motion)) ** 2
    return State(
        state.value + step * state.velocity,
        state.velocity,
        state.p00 + step * (2 * state.p01 + step * state.p11) + q * step**3 / 3,
        state.p01 + step * state.p11 + q * step**2 / 2,
        state.p11 + q * step,
    )


def update(state: State, xyxy: NDArray[np.floating], score: NDArray[np.floating], motion: Motion) -> State:
    """Correct N tracks with one measured box each, (N, 4); a doubtful box (low score (N,)) counts less.

    The noise of a measurement grows as its score falls, the idea of NSA Kalman (Du et al., 2021).
    """
    doubt = 1.0 + 2.0 * (1.0 - np.asarray(score, np.float64)[:, None])
    noise = (motion.measurement * doubt * _sides(state.value, motion)) ** 2
    gain0 = state.p00 / (state.p00 + noise)
    gain1 = state.p01 / (state.p00 + noise)
    error = centre_size(xyxy) - state.value
    return State(
        state.value + gain0 * error,
        state.velocity + gain1 * error,
        (1 - gain0) * state.p00,
        (1 - gain0) * state.p01,
        state.p11 - gain1 * state.p01,
    )


def _sides(value: Doubles, motion: Motion) -> Doubles:
    """Length scale (N, 4): the mean side of each box, smaller for the sizes than for the position."""
    side = np.sqrt(np.maximum(value[:, 2], 1.0) * np.maximum(value[:, 3], 1.0))
    return np.asarray(side[:, None] * np.array([1.0, 1.0, motion.resize, motion.resize]))
