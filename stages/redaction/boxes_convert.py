"""Stages, redaction: from the boxes of an annotation tool back to a boxes file.

What such tools do not keep (the video's digest, timestamps, frames that are covered as a whole, sources and
scores) comes from the boxes file that was exported, or from the video itself.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.decode import Pictures
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.geometry import as_boxes
from orveil.pipeline.media import rotation_of, upright_size
from orveil.stages.redaction.boxes_file import BoxesWriter
from orveil.stages.redaction.boxes_schema import Frame, Header, check_inside
from orveil.stages.redaction.temporal import Origin
from orveil.stages.runtime import sha256_of

__all__ = ["Drawn", "DrawnBox", "from_video", "write_edited"]

SAME_PX = 0.02
"""Tools round to 0.01 px: a box this close to one of the exported file was not edited."""


class DrawnBox(NamedTuple):
    """A box from an annotation tool: px, label, number of its track (-1: none)."""

    xyxy: tuple[float, float, float, float]
    label: str
    track: int


@dataclass
class Drawn:
    """The boxes of all frames, as an annotation tool gave them; kept flat, 45 bytes a box."""

    _sides: array[float] = field(default_factory=lambda: array("f"))
    _frame: array[int] = field(default_factory=lambda: array("q"))
    _track: array[int] = field(default_factory=lambda: array("q"))
    _label: list[str] = field(default_factory=list)

    def add(self, frame: int, box: DrawnBox) -> None:
        """Note a box."""
        self._sides.extend(box.xyxy)
        self._frame.append(frame)
        self._track.append(box.track)
        self._label.append(box.label)

    def by_frame(self, frames: int) -> Iterator[list[DrawnBox]]:
        """The boxes of frames 0 to `frames` - 1."""
        number = np.frombuffer(self._frame, np.int64) if self._frame else np.zeros(0, np.int64)
        order = np.argsort(number, kind="stable")
        bounds = np.searchsorted(number[order], np.arange(frames + 1))
        sides = np.frombuffer(self._sides, np.float32).reshape(-1, 4) if self._sides else np.zeros((0, 4))
        for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            yield [
                DrawnBox(tuple(sides[row].tolist()), self._label[row], self._track[row])
                for row in order[first:last].tolist()
            ]


def from_video(video: Path) -> tuple[Header, list[Frame]]:
    """Header and frames without boxes of a video, by decoding it.

    Raises:
        OrveilError: it cannot be read, or holds no picture.
    """
    size, stamps = (0, 0), []
    with Pictures(video) as pictures:
        for picture in pictures:
            stamps.append(picture.pts)
            if picture.frame is not None and size == (0, 0):
                frame = picture.frame
                size = upright_size(frame.width, frame.height, rotation_of(frame))
        base = pictures.time_base
    if size == (0, 0):
        raise OrveilError("the video holds no picture that can be decoded", where=str(video),
                          remedy="give the video that the boxes were drawn on")  # fmt: skip
    empty = as_boxes([])
    frames = [Frame(index, pts, empty, ()) for index, pts in enumerate(stamps)]
    return Header(sha256_of(video), len(stamps), *size, base), frames


def write_edited(
    drawn: Drawn, header: Header, before: Iterable[Frame], path: Path, where: str
) -> dict[str, int]:
    """Write a boxes file of what was drawn.

    Args:
        drawn: boxes; header, before: of the exported file, or of the video with frames without boxes.
        path: of the new file; where: the file that was drawn, for messages.

    Returns:
        Counts: frames, boxes, edited (boxes that are not in `before`).

    Raises:
        OrveilError: two boxes of a track in one frame, a box without extent or outside the picture.
    """
    count = {"frames": 0, "boxes": 0, "edited": 0}
    made = Header(header.sha256, header.frames, header.width, header.height, header.time_base,
                  {**header.made_by, "edited": True})  # fmt: skip
    with BoxesWriter(path, made) as writer:
        for old, boxes in zip(before, drawn.by_frame(header.frames), strict=True):
            frame = _filled(old, boxes)
            _check(frame, header, where)
            writer.write(frame)
            count["frames"] += 1
            count["boxes"] += len(boxes)
            count["edited"] += sum(origin.source == "edited" for origin in frame.origins)
    return count


def _filled(old: Frame, boxes: list[DrawnBox]) -> Frame:
    """The frame with other boxes; those that it had keep source and score."""
    origins, free = [], list(range(len(old.origins)))
    for box in boxes:
        same = next((row for row in free if _same(old.xyxy[row], old.origins[row], box)), None)
        if same is None:
            origins.append(Origin(box.label, "edited", box.track, math.nan))
        else:
            free.remove(same)
            origins.append(old.origins[same]._replace(track=box.track))
    return Frame(old.index, old.pts, as_boxes([box.xyxy for box in boxes]), tuple(origins), old.whole)


def _same(xyxy: NDArray[np.float32], origin: Origin, box: DrawnBox) -> bool:
    return origin.label == box.label and bool(np.abs(xyxy - as_boxes([box.xyxy])[0]).max() <= SAME_PX)


def _check(frame: Frame, header: Header, where: str) -> None:
    tracks = [(o.track, o.label) for o in frame.origins if o.track >= 0]
    problem = ""
    if not (frame.xyxy[:, :2] < frame.xyxy[:, 2:]).all():
        problem = "a box has no extent"
    elif len(set(tracks)) != len(tracks):
        problem = "a track has two boxes in one frame"
    else:
        try:
            check_inside(frame, header.width, header.height)
        except ValueError as error:
            problem = str(error)
    if problem:
        raise OrveilError(problem, where=f"{where}, frame {frame.index}",
                          remedy="correct it in the tool and export again")  # fmt: skip
