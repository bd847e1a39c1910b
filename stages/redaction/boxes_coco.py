"""Stages, redaction: boxes to and from COCO json. Standard library and numpy only.

One image per frame with `frame_index` (or a number at the end of `file_name`, as annotation tools write),
one annotation per box with `track_id`, `source` and `score` beside COCO's own keys. Read and written record
by record.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.stages.redaction.boxes_convert import Drawn, DrawnBox
from orveil.stages.redaction.boxes_file import BoxesFile
from orveil.stages.redaction.boxes_schema import Frame, Header, box_json
from orveil.stages.redaction.json_stream import JsonError, JsonStream
from orveil.stages.redaction.temporal import LABELS

__all__ = ["read_coco", "write_coco"]

REMEDY = "export again: an image per frame of the whole video, a bbox per annotation"


def write_coco(boxes: BoxesFile, path: Path) -> int:
    """Write every frame as an image and every box as an annotation; returns the number of annotations.

    Frames that are covered as a whole are marked `whole` on their image.
    """
    partial = path.with_name(f".{path.name}.partial")
    categories = [{"id": number, "name": name} for number, name in enumerate(LABELS, 1)]
    info = {"description": "orveil", "video_sha256": boxes.header.sha256}
    count = 0
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write(f'{{"info": {json.dumps(info)},\n"categories": {json.dumps(categories)},\n"images": [')
            for frame in boxes.frames():
                file.write(f"{',' if frame.index else ''}\n{json.dumps(_image(frame, boxes.header))}")
            file.write('\n],\n"annotations": [')
            for frame in boxes.frames():
                for annotation in _annotations(frame, count):
                    file.write(f"{',' if count else ''}\n{json.dumps(annotation)}")
                    count += 1
            file.write("\n]}\n")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise explain_os_error(error, str(path)) from error
    return count


def _image(frame: Frame, head: Header) -> dict[str, Any]:
    known = {
        "id": frame.index + 1, "file_name": f"frame_{frame.index:06d}", "frame_index": frame.index,
        "frame_pts": frame.pts, "width": head.width, "height": head.height,
    }  # fmt: skip
    return {**known, "whole": frame.whole} if frame.whole else known


def _annotations(frame: Frame, count: int) -> Iterator[dict[str, Any]]:
    for number, (xyxy, origin) in enumerate(zip(frame.xyxy, frame.origins, strict=True), count + 1):
        box = box_json(xyxy, origin)
        # Differences of float32 numbers are exact in the float64 of JSON, so that the way back is too.
        x0, y0, x1, y1 = (float(side) for side in xyxy)
        yield {
            "id": number, "image_id": frame.index + 1, "category_id": LABELS.index(origin.label) + 1,
            "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0,
            "track_id": box["track"], "source": box["source"], "score": box["score"],
        }  # fmt: skip


@dataclass
class _Records:
    """What was read, before images and categories are known (they may stand behind the annotations)."""

    frame_of: dict[int, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    ids: array[int] = field(default_factory=lambda: array("q"))
    sides: array[float] = field(default_factory=lambda: array("d"))


def read_coco(path: Path, header: Header) -> Drawn:
    """The boxes of every frame.

    Args:
        path: COCO json; header: of the video that they were drawn on.

    Raises:
        OrveilError: not JSON, frames without an image, unknown categories, another size, wrong values.
    """
    records = _Records()
    readers = {"images": _read_image, "categories": _read_category, "annotations": _read_annotation}
    place = "the file"
    try:
        with path.open("rb") as file:
            for key, value in JsonStream(file, *readers).members():
                if key in readers:
                    if not isinstance(value, dict):
                        _fail(f"an element of `{key}` is not an object")
                    place = f"{key}, id {value.get('id')}"
                    readers[key](value, records, header)
        place = "images"
        if len(records.frame_of) != header.frames:
            _fail(
                f"{len(records.frame_of)} images, the video has {header.frames} frames: none may be missing"
            )
        place = "annotations"
        return _joined(records)
    except ValueError as error:
        raise OrveilError(
            f"cannot take this file as COCO: {error}", where=f"{path}, {place}", remedy=REMEDY
        ) from error
    except OSError as error:
        raise explain_os_error(error, str(path)) from error


def _fail(what: str) -> NoReturn:
    raise JsonError(what)


def _id(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        _fail(f"`{name}` is not a whole number from 0")
    return value


def _read_image(image: dict[str, Any], records: _Records, header: Header) -> None:
    number = _id(image.get("id"), "id")
    if number in records.frame_of:
        _fail("two images have this id")
    digits = re.findall(r"[0-9]{1,12}", PurePosixPath(str(image.get("file_name", ""))).stem)
    frame = _id(image.get("frame_index", int(digits[-1]) if digits else None), "frame_index")
    if frame >= header.frames:
        _fail(f"frame {frame}, the video has {header.frames}")
    for key, size in (("width", header.width), ("height", header.height)):
        if image.get(key, size) != size:
            _fail(f"`{key}` is {image[key]}, the video has {size}")
    records.frame_of[number] = frame


def _read_category(category: dict[str, Any], records: _Records, header: Header) -> None:
    records.names[_id(category.get("id"), "id")] = str(category.get("name", "")).lower()


def _read_annotation(annotation: dict[str, Any], records: _Records, header: Header) -> None:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_small(side) for side in box):
        _fail("`bbox` is not four numbers within 1e6 px")
    track = annotation.get("track_id")
    image, category = (_id(annotation.get(name), name) for name in ("image_id", "category_id"))
    records.ids.extend([image, category, -1 if track is None else _id(track, "track_id")])
    records.sides.extend([box[0], box[1], box[0] + box[2], box[1] + box[3]])


def _small(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= 1e6


def _joined(records: _Records) -> Drawn:
    if len(set(records.frame_of.values())) != len(records.frame_of):
        _fail("two images are the same frame")
    drawn = Drawn()
    for row in range(len(records.ids) // 3):
        image, category, track = records.ids[3 * row : 3 * row + 3]
        x0, y0, x1, y1 = records.sides[4 * row : 4 * row + 4]
        if image not in records.frame_of:
            _fail(f"an annotation names the image {image}, which is not there")
        if records.names.get(category) not in LABELS:
            _fail(f"category {category} is none of {', '.join(LABELS)}")
        drawn.add(records.frame_of[image], DrawnBox((x0, y0, x1, y1), records.names[category], track))
    return drawn
