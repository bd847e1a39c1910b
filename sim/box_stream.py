"""Simulation: what a detector says about people on smooth paths, without pictures; for trackers alone.

Boxes of people who stay in view, moving to and fro along sines, with what detectors do to them: missing
boxes, doubtful scores, noise and clutter. Neither occlusion nor scene: `scene.py` and its like have those.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BoxStream", "box_stream"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

WIDTH, HEIGHT = 640, 480
SIDE = (16.0, 40.0)
"""Widths of people, px."""
ASPECT = (2.0, 2.5)
"""Their heights, widths."""
PERIOD_S = (8.0, 30.0)
"""Seconds of one way there and back."""
REACH = (0.25, 0.5)
"""Half of the way, as a share of the picture."""


@dataclass(frozen=True)
class BoxStream:
    """F frames of P people and the N boxes that a detector reports, by frame.

    Attributes:
        time_s: (F,) seconds; truth: (P, F, 4) xyxy px.
        frame: (N,) from 0 to F - 1, sorted; xyxy: (N, 4) float32 px; score: (N,) float32.
        person: (N,) who it is, -1 for clutter.
    """

    time_s: Doubles
    truth: Doubles
    frame: Ints
    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    person: Ints

    def at(self, frame: int) -> slice:
        """Rows of one frame."""
        return slice(*np.searchsorted(self.frame, (frame, frame + 1)).tolist())


def box_stream(
    people: int,
    frames: int,
    seed: int,
    *,
    fps: float = 30.0,
    pace: float = 1.0,
    missing: float = 0.1,
    doubtful: float = 0.15,
    clutter: float = 0.05,
    noise_px: float = 1.5,
) -> BoxStream:
    """A stream of 640x480 pictures; boxes of one frame come in random order.

    Args:
        people: in view all the time; frames: number; seed: of all that is random.
        fps: frames per second; pace: people move so many times as fast.
        missing: share of boxes that the detector does not report.
        doubtful: share of scores in [.11, .5); the others lie in [.5, .99).
        clutter: boxes of nobody per person and frame.
        noise_px: standard deviation of every side of a box.
    """
    rng = np.random.default_rng(seed)
    times = np.arange(frames) / fps
    width = rng.uniform(*SIDE, people)
    size = np.stack([width, width * rng.uniform(*ASPECT, people)], axis=1)
    middle = np.stack([_path(rng, times * pace, people, extent) for extent in (WIDTH, HEIGHT)], axis=2)
    truth = np.concatenate([middle - size[:, None] / 2, middle + size[:, None] / 2], axis=2)
    seen = rng.random((frames, people)) >= missing
    frame, person = np.nonzero(seen)
    boxes = truth[person, frame] + rng.normal(0.0, noise_px, (len(frame), 4))
    extra = np.repeat(np.arange(frames), rng.binomial(people, clutter, frames))
    wide = rng.uniform(*SIDE, len(extra))
    sides = np.stack([wide, wide * rng.uniform(*ASPECT, len(extra))], axis=1)
    corner = rng.random((len(extra), 2)) * (np.array([WIDTH, HEIGHT]) - sides)
    frame = np.concatenate([frame, extra])
    order = np.lexsort((rng.random(len(frame)), frame))
    xyxy = np.concatenate([boxes, np.concatenate([corner, corner + sides], axis=1)])[order]
    low = rng.random(len(frame)) < doubtful
    score = np.where(low, rng.uniform(0.11, 0.5, len(frame)), rng.uniform(0.5, 0.99, len(frame)))
    who = np.concatenate([person, np.full(len(extra), -1)])[order]
    return BoxStream(times, truth, frame[order], xyxy.astype(np.float32), score.astype(np.float32), who)


def _path(rng: np.random.Generator, times: Doubles, people: int, extent: float) -> Doubles:
    """Positions (P, F) along one axis, between 0 and `extent`."""
    reach = rng.uniform(*REACH, people)[:, None] * extent
    centre = reach + rng.random(people)[:, None] * (extent - 2 * reach)
    phase = 2 * np.pi * (times / rng.uniform(*PERIOD_S, people)[:, None] + rng.random(people)[:, None])
    return np.asarray(centre + reach * np.sin(phase))
