"""Stages: other ways to carry detections over time than tracks, to compare with: none, and FaceOff's kernel.

FaceOff (Flouty, Zisimopoulos, Stoyanov: FaceOff: Anonymizing Videos in the Operating Rooms, OR 2.0, 2018)
slides a window of k = 3, 5 or 7 frames over the video and averages the boxes in it. Here: the boxes of the
window are put together by overlap, nearest in time to its middle first; each group covers its mean box in the
middle frame, whether or not there was a detection in that very frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import as_boxes, iou
from orveil.stages.redaction.temporal import Covered, Known, Origin, Scored, Temporal, targets

__all__ = ["KERNELS", "SlidingAverage", "Smoother", "make_smoother"]

KERNELS = ("tracks", "faceoff3", "faceoff5", "faceoff7", "none")
SAME = 0.3
"""Boxes of neighbouring frames that overlap by more than this IoU are of one face."""


class Smoother(Protocol):
    """Detections of a stream in, what is covered out, frame by frame, a bounded time later."""

    def push(self, frame: int, time: float, found: Mapping[str, Scored] | None) -> None:
        """Next frame; `found` maps label to (boxes, scores), None where no detector ran."""
        ...

    def ready(self, end: bool = False) -> Iterator[Covered]:
        """Frames that are decided; at the end of the stream all."""
        ...

    def longest_gap(self) -> dict[str, float]:
        """The longest gap that was bridged: runs of the detector, and seconds."""
        ...


def make_smoother(kernel: str, thresholds: Mapping[str, float], target: str, hold_s: float) -> Smoother:
    """A smoother by name, one of KERNELS; thresholds are the scores per label that count."""
    if kernel == "tracks":
        return Temporal(thresholds, target, hold_s)
    return SlidingAverage(thresholds, target, int(kernel[-1]) if kernel != "none" else 1)


class SlidingAverage:
    """Mean boxes over a window of `size` frames around each frame; size 1 changes nothing.

    Args:
        thresholds: score per label that counts; target: face, head or body.
        size: frames in the window, odd.
    """

    def __init__(self, thresholds: Mapping[str, float], target: str, size: int) -> None:
        self.thresholds, self.target, self.half = dict(thresholds), target, size // 2
        self._window: deque[tuple[int, Mapping[str, Scored]]] = deque()
        self._middle = 0

    def push(self, frame: int, time: float, found: Mapping[str, Scored] | None) -> None:
        """Next frame; the time does not matter, a window counts frames."""
        kept = {}
        for name, (xyxy, score) in (found or {}).items():
            good = score >= self.thresholds[name]
            kept[name] = as_boxes(xyxy[good]), score[good]
        self._window.append((frame, kept))

    def ready(self, end: bool = False) -> Iterator[Covered]:
        """Frames with half a window behind them."""
        while self._middle < len(self._window) - (0 if end else self.half):
            known = {name: self._averaged(name) for name in self.thresholds}
            yield Covered(self._window[self._middle][0], *targets(known, self.target))
            if self._middle == self.half:
                self._window.popleft()
            else:
                self._middle += 1

    def longest_gap(self) -> dict[str, float]:
        """None is bridged by tracks."""
        return {}

    def _averaged(self, name: str) -> Known:
        last = min(len(self._window), self._middle + self.half + 1)
        near = sorted(range(last), key=lambda place: (abs(place - self._middle), place))
        groups: list[list[NDArray[np.float32]]] = []
        scores: list[float] = []
        for place in near:
            xyxy, score = self._window[place][1].get(name, (as_boxes([]), np.zeros(0, np.float32)))
            mine = np.nan if place != self._middle else None
            _gather(groups, scores, xyxy, [float(s) if mine is None else mine for s in score])
        origins = [Origin(name, "filled" if np.isnan(s) else "detected", -1, s) for s in scores]
        return as_boxes([np.mean(group, axis=0) for group in groups]), origins


def _gather(
    groups: list[list[NDArray[np.float32]]], scores: list[float], xyxy: NDArray[np.float32], own: list[float]
) -> None:
    """Add the boxes of one frame to the groups they overlap most with, each group at most once."""
    overlap = iou(xyxy, as_boxes([group[0] for group in groups]))
    free = set(range(len(groups)))
    for row in range(len(xyxy)):
        fits = [column for column in free if overlap[row, column] > SAME]
        if fits:
            best = max(fits, key=lambda column: float(overlap[row, column]))
            groups[best].append(xyxy[row])
            free.discard(best)
        else:
            groups.append([xyxy[row]])
            scores.append(own[row])
