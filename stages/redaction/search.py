"""Stages: one frame -> detections: regions of interest, scaling straight from YUV, the detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.geometry import Fit, as_boxes
from orveil.pipeline.media import ToArray
from orveil.pipeline.planes import cut
from orveil.stages.redaction.clock import Clock
from orveil.stages.runtime import PAD, Boxes, ModelError, OnnxDetector

__all__ = ["Place", "Search", "limits_of"]

Place = tuple[int, int, int, int] | None
"""Rectangle x0, y0, x1, y1 in px, or None for the whole picture."""


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

    def __call__(self, frame: Any) -> Boxes:
        """Detections of all rectangles, in px of the frame.

        Raises:
            ModelError: the detector failed in any way.
        """
        try:
            found = [self._one(frame, place) for place in self.places]
        except ModelError:
            raise
        except Exception as error:  # whatever it was, this frame has not been searched
            raise ModelError(f"{type(error).__name__}: {error}") from error
        if len(found) == 1:
            return found[0]
        return Boxes(*(np.concatenate(columns) for columns in zip(*found, strict=True)))

    def _one(self, frame: Any, place: Place) -> Boxes:
        x, y = 0, 0
        if place is not None:
            with self.clock.measure("crop"):
                x, y, right, bottom = place
                frame = cut(frame, x, y, right - x, bottom - y)
        with self.clock.measure("preprocessing"):
            batch, fit = self._input(frame)
        with self.clock.measure("inference"):
            [boxes] = self.detector.infer(batch, fit)
        return Boxes(as_boxes(boxes.xyxy + np.array([x, y, x, y], np.float32)), boxes.score, boxes.label)

    def _input(self, frame: Any) -> tuple[NDArray[np.uint8], Fit]:
        size = frame.width, frame.height
        if size not in self._inputs:
            fit = Fit.of(*size, self.detector.bundle.long_side)
            grey = np.full((1, fit.padded[1], fit.padded[0], 3), PAD, np.uint8)
            self._inputs[size] = ToArray(fit.resized), grey, fit
        scale, batch, fit = self._inputs[size]
        batch[0, : fit.resized[1], : fit.resized[0]] = scale(frame)
        return batch, fit
