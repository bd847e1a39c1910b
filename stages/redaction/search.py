"""Stages: one frame -> detections: regions of interest, scaling straight from YUV, the detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.geometry import Fit, as_boxes
from orveil.pipeline.media import ToArray
from orveil.pipeline.planes import cut
from orveil.stages.redaction.clock import Clock
from orveil.stages.runtime import PAD, Boxes, ModelError, OnnxDetector

__all__ = ["LARGER", "TURNED", "UPRIGHT", "Place", "Search", "View", "limits_of",
    "turned_back",
]  # fmt: skip

Place = tuple[int, int, int, int] | None
"""Rectangle x0, y0, x1, y1 in px, or None for the whole picture."""


class View(NamedTuple):
    """How a picture is shown to the detector: quarter turns counterclockwise, size as a share of its own."""

    turns: int = 0
    size: float = 1.0


UPRIGHT, LARGER, TURNED = View(), View(size=1.5), (View(1), View(2), View(3))


def limits_of(
    rois: Sequence[tuple[int, int, int, int]], width: int, height: int, step: int = 2
) -> NDArray[np.float32]:
    """Where a picture may be searched and changed: xyxy (N, 4) px, the whole picture without regions.

    Regions (x, y, width, height) are widened to multiples of `step`, because a chroma sample belongs to that
    many pixels.

    Raises:
        OrveilError: a region is empty or leaves the picture.
    """
    limits = []
    for x, y, w, h in rois or [(0, 0, width, height)]:
        if min(x, y) < 0 or min(w, h) < 1 or x + w > width or y + h > height:
            raise OrveilError(
                f"the region of interest {x},{y},{w},{h} is not inside the picture",
                where=f"pictures of {width}x{height}",
                remedy="give x,y,width,height in pixels, after rotation",
            )
        right, bottom = -(-(x + w) // step) * step, -(-(y + h) // step) * step
        limits.append((x // step * step, y // step * step, min(right, width), min(bottom, height)))
    return as_boxes(limits)


class Search:
    """Detects in upright planar frames.

    Args:
        detector: of a bundle; clock: told where the time goes.
        places: each is searched on its own.

    Scaling goes from the frame's planes to the detector's input in one step: converting the whole picture to
    BGR first costs three times as much, and scaling that without averaging makes aliases of fine patterns.
    One frame at a time: on a CPU a batch costs as much as its frames one by one.
    """

    def __init__(self, detector: OnnxDetector, clock: Clock, places: Sequence[Place] = (None,)) -> None:
        self.detector, self.clock, self.places = detector, clock, places
        self._inputs: dict[Any, tuple[ToArray, NDArray[np.uint8], Fit]] = {}

    def __call__(self, frame: Any, view: View = UPRIGHT) -> Boxes:
        """Detections of all rectangles in one view, in px of the frame, upright again.

        Raises:
            ModelError: the detector failed in any way.
        """
        try:
            found = [self._one(frame, place, view) for place in self.places]
        except ModelError:
            raise
        except Exception as error:  # whatever it was, this frame has not been searched
            raise ModelError(f"{type(error).__name__}: {error}") from error
        if len(found) == 1:
            return found[0]
        return Boxes(*(np.concatenate(columns) for columns in zip(*found, strict=True)))

    def _one(self, frame: Any, place: Place, view: View) -> Boxes:
        x, y = 0, 0
        if place is not None:
            with self.clock.measure("crop"):
                x, y, right, bottom = place
                frame = cut(frame, x, y, right - x, bottom - y)
        with self.clock.measure("preprocessing"):
            batch, fit = self._input(frame, view)
        with self.clock.measure("inference"):
            [boxes] = self.detector.infer(batch, fit)
        upright = turned_back(boxes.xyxy, view.turns, frame.width, frame.height)
        return Boxes(as_boxes(upright + np.array([x, y, x, y], np.float32)), boxes.score, boxes.label)

    def _input(self, frame: Any, view: View) -> tuple[NDArray[np.uint8], Fit]:
        size = frame.width, frame.height
        if (size, view) not in self._inputs:
            side = round(self.detector.bundle.long_side * view.size)
            fit = Fit.of(*(size[::-1] if view.turns % 2 else size), side)
            grey = np.full((1, fit.padded[1], fit.padded[0], 3), PAD, np.uint8)
            scaled = fit.resized[::-1] if view.turns % 2 else fit.resized
            self._inputs[size, view] = ToArray(scaled), grey, fit
        scale, batch, fit = self._inputs[size, view]
        batch[0, : fit.resized[1], : fit.resized[0]] = np.rot90(scale(frame), view.turns)
        return batch, fit


def turned_back(xyxy: NDArray[Any], turns: int, width: int, height: int) -> NDArray[np.float32]:
    """Boxes (N, 4) px of a picture that was turned as `np.rot90` does, in px of the picture before that.

    Args:
        turns: quarters counterclockwise; width, height: of the picture before it was turned.
    """
    x0, y0, x1, y1 = as_boxes(xyxy).T
    columns = {
        0: (x0, y0, x1, y1),
        1: (width - y1, x0, width - y0, x1),
        2: (width - x1, height - y1, width - x0, height - y0),
        3: (y0, height - x1, y1, height - x0),
    }
    return as_boxes(np.stack(columns[turns % 4], axis=1))
