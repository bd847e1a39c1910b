"""Stages, redaction: the parts of a boxes file (docs/boxes-json.md): types, and the checks of what was read.

Whatever is not exactly of the form is refused: a box that was misspelt would silently cover nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import as_boxes
from orveil.stages.redaction.json_stream import JsonError
from orveil.stages.redaction.temporal import LABELS, SOURCES, Origin

__all__ = [
    "KIND", "MAX_BOXES", "SCHEMA", "Frame", "Header", "Order", "box_json",
    "check_inside", "read_frame", "read_header",
]  # fmt: skip

SCHEMA, KIND = 1, "orveil-boxes"
MAX_BOXES = 4096
"""Per frame: beyond this a file is taken for broken."""
BIG = 1 << 62
FRAME_KEYS, BOX_KEYS = {"index", "pts", "boxes", "whole"}, {"xyxy", "label", "source", "track", "score"}


@dataclass(frozen=True)
class Header:
    """What a boxes file says about its video.

    Attributes:
        sha256: of the video file; frames: how many pictures it has; width, height: of the upright picture,
            px; time_base: seconds per tick of `pts`.
        made_by: free record of what made the file (tool, model digest, settings).
    """

    sha256: str
    frames: int
    width: int
    height: int
    time_base: Fraction
    made_by: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """One frame: its boxes (N, 4), their origins, and `whole`: why all of it is covered ("": it is not)."""

    index: int
    pts: int
    xyxy: NDArray[np.float32]
    origins: tuple[Origin, ...]
    whole: str = ""


def box_json(xyxy: Any, origin: Origin) -> dict[str, Any]:
    """The shortest numbers that give the same float32 again."""
    return {
        "xyxy": [float(str(np.float32(value))) for value in xyxy],
        "label": origin.label,
        "source": origin.source,
        "track": origin.track if origin.track >= 0 else None,
        "score": None if math.isnan(origin.score) else round(float(origin.score), 5),
    }


@dataclass
class Order:
    """Frames follow each other without a gap, in index and in time."""

    index: int = -1
    pts: int | None = None

    def check(self, frame: Frame) -> None:
        """Take the next frame; raises JsonError where it does not follow."""
        if frame.index != self.index + 1:
            _fail(f"`index` is {frame.index}, {self.index + 1} must come next: no frame may be missing")
        if self.pts is not None and frame.pts <= self.pts:
            _fail(f"`pts` is {frame.pts} after {self.pts}: time must rise")
        self.index, self.pts = frame.index, frame.pts


def _fail(what: str) -> NoReturn:
    raise JsonError(what)


def read_header(content: Mapping[str, Any], frames: int) -> Header:
    """The header of all members but the frames, of which there were `frames`; raises JsonError."""
    if content.get("kind") != KIND:
        _fail(f'`kind` is not "{KIND}"')
    if type(content.get("schema")) is not int or content["schema"] != SCHEMA:
        _fail(f"schema {content.get('schema')} is not {SCHEMA}, the one this version reads")
    if unknown := set(content) - {"schema", "kind", "video", "made_by"}:
        _fail(f"unknown key {min(unknown)!r}")
    video, made_by = content.get("video"), content.get("made_by", {})
    keys = {"sha256", "frames", "width", "height", "time_base"}
    if not isinstance(video, dict) or set(video) != keys:
        _fail(f"`video` does not have exactly the keys {', '.join(sorted(keys))}")
    if not isinstance(made_by, dict):
        _fail("`made_by` is not an object")
    digest, base = video["sha256"], video["time_base"]
    if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        _fail("`video.sha256` is not 64 hexadecimal digits")
    if not isinstance(base, list) or len(base) != 2:
        _fail("`video.time_base` is not [numerator, denominator]")
    ticks = [_whole(number, "`video.time_base`", 1, 1 << 31) for number in base]
    size = [_whole(video[name], f"`video.{name}`", 1, 1 << 15) for name in ("width", "height")]
    if _whole(video["frames"], "`video.frames`", 1, BIG) != frames:
        _fail(f"`video.frames` says {video['frames']}, the file holds {frames}: none may be missing")
    return Header(digest, frames, size[0], size[1], Fraction(*ticks), made_by)


def _whole(value: Any, name: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        _fail(f"{name} is not a whole number from {low} to {high}")
    return value


def read_frame(value: Any) -> Frame:
    """One element of `frames`; raises JsonError."""
    if not isinstance(value, dict) or not {"index", "pts", "boxes"} <= set(value):
        _fail("a frame is not an object with `index`, `pts` and `boxes`")
    if unknown := set(value) - FRAME_KEYS:
        _fail(f"unknown key {min(unknown)!r}")
    boxes, whole = value["boxes"], value.get("whole", "")
    if not isinstance(boxes, list) or len(boxes) > MAX_BOXES:
        _fail(f"`boxes` is not a list of at most {MAX_BOXES}")
    if not isinstance(whole, str) or len(whole) > 200 or ("whole" in value and not whole):
        _fail("`whole` is not a short reason")
    pairs = [_box(box, number) for number, box in enumerate(boxes)]
    tracks = [(o.track, o.label) for _, o in pairs if o.track >= 0]
    if len(set(tracks)) != len(tracks):
        _fail("a track has two boxes in one frame")
    index, pts = _whole(value["index"], "`index`", 0, BIG), _whole(value["pts"], "`pts`", -BIG, BIG)
    return Frame(index, pts, as_boxes([xyxy for xyxy, _ in pairs]), tuple(o for _, o in pairs), whole)


def _box(value: Any, number: int) -> tuple[list[float], Origin]:
    name = f"box {number}:"
    if not isinstance(value, dict) or not {"xyxy", "label"} <= set(value):
        _fail(f"{name} not an object with `xyxy` and `label`")
    if unknown := set(value) - BOX_KEYS:
        _fail(f"{name} unknown key {min(unknown)!r}")
    xyxy, label, source = value["xyxy"], value["label"], value.get("source", "edited")
    if not isinstance(xyxy, list) or len(xyxy) != 4 or not all(_number(side) for side in xyxy):
        _fail(f"{name} `xyxy` is not four numbers within 1e6 px")
    x0, y0, x1, y1 = as_boxes([xyxy])[0].tolist()
    if not (x0 < x1 and y0 < y1):
        _fail(f"{name} `xyxy` is left, top, right, bottom: right and bottom must be larger")
    if label not in LABELS:
        _fail(f"{name} `label` is none of {', '.join(LABELS)}")
    if source not in SOURCES:
        _fail(f"{name} `source` is none of {', '.join(SOURCES)}")
    track, score = value.get("track"), value.get("score")
    number = -1 if track is None else _whole(track, f"{name} `track`", 0, BIG)
    if score is not None and not (_number(score) and 0 <= score <= 1):
        _fail(f"{name} `score` is not within 0 and 1")
    return [x0, y0, x1, y1], Origin(label, source, number, math.nan if score is None else float(score))


def _number(value: Any) -> bool:
    return type(value) in (int, float) and -1e6 <= value <= 1e6


def check_inside(frame: Frame, width: int, height: int) -> None:
    """Raise JsonError for a box outside the picture: it would cover nothing."""
    out = (frame.xyxy[:, :2] >= [width, height]).any(axis=1) | (frame.xyxy[:, 2:] <= 0).any(axis=1)
    if out.any():
        _fail(f"box {int(np.argmax(out))}: it lies outside the picture of {width}x{height}")
