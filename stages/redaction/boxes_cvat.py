"""Stages, redaction: boxes to and from CVAT ("CVAT for video 1.1", XML). Standard library and numpy only.

CVAT keeps a track's keyframes and interpolates linearly between them; a track lasts until a keyframe says
`outside`, or until the end of the video. Frames are counted from 0 over the whole video. Files are read with
expat, as a stream; a document type declaration, and so every entity, is refused.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.stages.redaction.boxes_convert import Drawn, DrawnBox
from orveil.stages.redaction.boxes_file import BoxesFile
from orveil.stages.redaction.boxes_schema import Header
from orveil.stages.redaction.temporal import LABELS

__all__ = ["read_cvat", "write_cvat"]

TOLERANCE_PX = 0.01
"""Frames between two keyframes are left out where interpolation misses their box by no more than this."""
MAX_DEPTH, MAX_TOKEN, CHUNK = 16, 1 << 20, 1 << 16
EXPORT = (
    "export the whole video as `CVAT for video 1.1`, with rectangles as tracks, and unpack annotations.xml"
)


@dataclass
class _Path:
    """Where one track's boxes are: frame numbers (K,) rising, and their sides (4 K,)."""

    label: str
    frames: array[int] = field(default_factory=lambda: array("q"))
    sides: array[float] = field(default_factory=lambda: array("f"))


def write_cvat(boxes: BoxesFile, path: Path) -> int:
    """Write all boxes as tracks; boxes without a track become tracks of one frame. Returns their number.

    Memory: 24 bytes a box. Frames that are covered as a whole, sources and scores are not written; they come
    back from the boxes file (`boxes_convert.write_edited`).
    """
    tracks = _tracks(boxes)
    head = boxes.header
    labels = "".join(f"<label><name>{name}</name><type>rectangle</type></label>" for name in LABELS)
    meta = (
        f"<task><name>orveil</name><size>{head.frames}</size><mode>interpolation</mode>"
        f"<start_frame>0</start_frame><stop_frame>{head.frames - 1}</stop_frame><labels>{labels}</labels>"
        f"<original_size><width>{head.width}</width><height>{head.height}</height></original_size></task>"
    )
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
            file.write(f"<meta>{meta}</meta>\n")
            for number, track in tracks.items():
                file.write(f'<track id="{number}" label={quoteattr(track.label)} source="auto">\n')
                file.writelines(_lines(track, head.frames))
                file.write("</track>\n")
            file.write("</annotations>\n")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise explain_os_error(error, str(path)) from error
    return len(tracks)


def _tracks(boxes: BoxesFile) -> dict[int, _Path]:
    """Track number -> its boxes; what has no number, or a second label, gets a number of its own."""
    tracks: dict[tuple[int, str], _Path] = {}
    lone: list[_Path] = []
    for frame in boxes.frames():
        for xyxy, origin in zip(frame.xyxy, frame.origins, strict=True):
            if origin.track < 0:
                lone.append(_Path(origin.label))
                track = lone[-1]
            else:
                track = tracks.setdefault((origin.track, origin.label), _Path(origin.label))
            track.frames.append(frame.index)
            track.sides.extend(xyxy.tolist())
    numbered: dict[int, _Path] = {}
    second: list[_Path] = []
    for (number, _), track in tracks.items():
        if number in numbered:
            second.append(track)
        else:
            numbered[number] = track
    free = max(numbered, default=-1) + 1
    return numbered | dict(enumerate([*second, *lone], free))


def _lines(track: _Path, frames: int) -> Iterator[str]:
    index = np.frombuffer(track.frames, np.int64)
    sides = np.frombuffer(track.sides, np.float32).reshape(-1, 4)
    breaks = np.flatnonzero(np.diff(index) > 1) + 1
    for first, last in zip([0, *breaks.tolist()], [*breaks.tolist(), len(index)], strict=True):
        for row in first + keyframes(sides[first:last]):
            yield _line(int(index[row]), sides[row], outside=False)
        if index[last - 1] + 1 < frames:
            yield _line(int(index[last - 1]) + 1, sides[last - 1], outside=True)


def _line(frame: int, sides: NDArray[np.float32], *, outside: bool) -> str:
    x0, y0, x1, y1 = (str(np.float32(side)) for side in sides)
    return (
        f'<box frame="{frame}" outside="{int(outside)}" occluded="0" keyframe="1" '
        f'xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}" z_order="0"></box>\n'
    )


def keyframes(sides: NDArray[Any], tolerance: float = TOLERANCE_PX) -> NDArray[np.int64]:
    """Rows of (K, 4), equally spaced in time, from which linear interpolation gives all rows within
    `tolerance`: first, last, and wherever the error is largest (Douglas and Peucker, 1973)."""
    keys, todo = {0, len(sides) - 1}, [(0, len(sides) - 1)]
    values = np.asarray(sides, np.float64)
    while todo:
        first, last = todo.pop()
        if last - first < 2:
            continue
        share = np.arange(1, last - first)[:, None] / (last - first)
        line = values[first] + share * (values[last] - values[first])
        error = np.abs(values[first + 1 : last] - line).max(axis=1)
        worst = int(error.argmax())
        if error[worst] > tolerance:
            middle = first + 1 + worst
            keys.add(middle)
            todo += [(first, middle), (middle, last)]
    return np.array(sorted(keys), np.int64)


def read_cvat(path: Path, header: Header) -> Drawn:
    """The boxes of every frame, interpolated between keyframes as CVAT does.

    Args:
        path: annotations.xml; header: of the video that they were drawn on.

    Raises:
        OrveilError: not XML, a document type declaration, images instead of video, other shapes than
            rectangles, unknown labels, another number of frames or size, wrong values.
    """
    reader = _Reader(header)
    parser = expat.ParserCreate()
    parser.buffer_text, parser.buffer_size = True, 4096
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    fed = 0
    try:
        with path.open("rb") as file:
            while data := file.read(CHUNK):
                parser.Parse(data, False)
                fed += len(data)
                if fed - parser.CurrentByteIndex > MAX_TOKEN:
                    _fail("a piece of the file is too large")
            parser.Parse(b"", True)
        reader.finish()
    except (expat.ExpatError, ValueError) as error:
        line = f"{path}, line {parser.CurrentLineNumber}"
        raise OrveilError(f"cannot take this file as CVAT XML: {error}", where=line, remedy=EXPORT) from error
    except OSError as error:
        raise explain_os_error(error, str(path)) from error
    return reader.drawn


def _fail(what: str) -> NoReturn:
    raise ValueError(what)


class _Reader:
    """Handlers for expat: collects one track at a time and interpolates it when it ends."""

    def __init__(self, header: Header) -> None:
        self.header, self.drawn = header, Drawn()
        self._open: list[str] = []
        self._text, self._sized = "", False
        self._numbers: set[int] = set()
        self._label, self._number = "", -1
        self._keys: dict[int, tuple[tuple[float, float, float, float], bool]] = {}

    def doctype(self, *_: Any) -> None:
        _fail("it has a document type declaration, which may hide entities")

    def start(self, name: str, values: dict[str, str]) -> None:
        parent = self._open[-1] if self._open else ""
        self._open.append(name)
        self._text = ""
        if len(self._open) > MAX_DEPTH:
            _fail("nested too deep")
        if not parent and name != "annotations":
            _fail(f"the document is <{name}>, not <annotations>")
        if parent == "annotations" and name == "image":
            _fail("it is a file for images, not for video")
        if parent == "annotations" and name == "track":
            self._begin(values)
        elif parent == "track" and name == "box":
            self._box(values)
        elif parent == "track":
            _fail(f"track {self._number} holds a <{name}>, not a rectangle")

    def text(self, data: str) -> None:
        if "meta" in self._open or self._open[-1] == "version":
            self._text = (self._text + data)[:200]

    def end(self, name: str) -> None:
        if name == "track" and len(self._open) == 2:
            self._interpolate()
        elif "meta" in self._open or self._open == ["annotations", "version"]:
            self._meta("/".join(self._open[-2:]), self._text.strip())
        self._open.pop()
        self._text = ""

    def finish(self) -> None:
        if not self._sized:
            _fail("it does not say how many frames the task has (<meta>)")

    def _meta(self, place: str, text: str) -> None:
        head = self.header
        wanted = {"task/size": head.frames, "job/size": head.frames, "original_size/width": head.width,
                  "original_size/height": head.height, "task/start_frame": 0,
                  "job/start_frame": 0}  # fmt: skip
        if place == "annotations/version" and text != "1.1":
            _fail(f"version {text!r} is not 1.1")
        if place.endswith("/frame_filter") and text:
            _fail("the task leaves frames out (frame_filter)")
        if place in wanted and text != str(wanted[place]):
            _fail(f"<{place}> is {text!r}, the video has {wanted[place]}")
        if place in ("task/size", "job/size"):
            self._sized = True

    def _begin(self, values: dict[str, str]) -> None:
        self._number, self._keys = _integer(values, "id"), {}
        if self._number in self._numbers:
            _fail(f"two tracks have the id {self._number}")
        self._numbers.add(self._number)
        self._label = values.get("label", "").lower()
        if self._label not in LABELS:
            _fail(f"track {self._number} has the label {self._label!r}, none of {', '.join(LABELS)}")

    def _box(self, values: dict[str, str]) -> None:
        frame = _integer(values, "frame")
        if frame >= self.header.frames:
            _fail(f"track {self._number} has a box in frame {frame}, the video has {self.header.frames}")
        if values.get("keyframe", "1") != "1":
            return  # CVAT computes it again
        if frame in self._keys:
            _fail(f"track {self._number} has two keyframes in frame {frame}")
        self._keys[frame] = _rectangle(values), values.get("outside", "0") == "1"

    def _interpolate(self) -> None:
        order = sorted(self._keys)
        if not order:
            _fail(f"track {self._number} has no keyframe")
        ends = [*order[1:], self.header.frames]
        for first, last in zip(order, ends, strict=True):
            sides, outside = self._keys[first]
            if outside:
                continue
            goal = self._keys.get(last, self._keys[first])[0]
            for frame in range(first, last):
                share = (frame - first) / (last - first)
                x0, y0, x1, y1 = ((1 - share) * a + share * b for a, b in zip(sides, goal, strict=True))
                self.drawn.add(frame, DrawnBox((x0, y0, x1, y1), self._label, self._number))


def _integer(values: dict[str, str], name: str) -> int:
    text = values.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        _fail(f"{name}={text!r} is not a whole number from 0")
    return int(text)


def _rectangle(values: dict[str, str]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom; of a turned rectangle the upright one around it."""
    numbers = []
    for name in ("xtl", "ytl", "xbr", "ybr", "rotation"):
        value = float(values.get(name, "0" if name == "rotation" else "nan"))
        if not -1e6 <= value <= 1e6:
            _fail(f"{name}={values.get(name)!r} is not a number within 1e6")
        numbers.append(value)
    x0, y0, x1, y1, degrees = numbers
    if degrees % 360:
        cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
        wide, high = (x1 - x0) * cos + (y1 - y0) * sin, (x1 - x0) * sin + (y1 - y0) * cos
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        x0, y0, x1, y1 = x - wide / 2, y - high / 2, x + wide / 2, y + high / 2
    return x0, y0, x1, y1
