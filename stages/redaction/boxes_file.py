"""Stages, redaction: boxes.json, what is covered in every frame of one video, to be edited and rendered.

The form is described in docs/boxes-json.md and docs/boxes.schema.json. Boxes are px of the upright picture;
what is in the file is covered and nothing else. Files are written and read frame by frame, so that memory
does not grow with the recording. No names, no pixels. Imports numpy and the standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.stages.redaction.boxes_schema import (
    KIND,
    SCHEMA,
    Frame,
    Header,
    Order,
    box_json,
    check_inside,
    read_frame,
    read_header,
)
from orveil.stages.redaction.json_stream import JsonError, JsonStream
from orveil.stages.redaction.temporal import Covered

__all__ = ["BoxSource", "BoxesFile", "BoxesWriter", "Frame", "Header"]

COUNT_DIGITS = 12
REMEDY = "docs/boxes-json.md describes the form; `orveil analyse` makes such a file"


class BoxesWriter:
    """Writes a boxes file frame by frame; it appears under its name only when it is complete.

    Use as a context manager: on an error nothing is left behind.

    Args:
        path: of the file; header: `frames` in it is not used, it is counted.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.partial, self.count = path, path.with_name(f".{path.name}.partial"), 0
        base = [header.time_base.numerator, header.time_base.denominator]
        video = {"sha256": header.sha256, "width": header.width, "height": header.height, "time_base": base}
        start = f'{{"schema": {SCHEMA}, "kind": "{KIND}",\n "video": {json.dumps(video)[:-1]}, "frames": '
        made_by = json.dumps(dict(header.made_by), sort_keys=True)
        self._place = len(start)
        try:
            self._file = self.partial.open("w", encoding="utf-8", newline="\n")
            # The number of frames is put here at the end: white space is free in JSON.
            self._file.write(f'{start}{" " * COUNT_DIGITS}}},\n "made_by": {made_by},\n "frames": [')
        except OSError as error:
            raise explain_os_error(error, str(path)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def write(self, frame: Frame) -> None:
        """Append a frame; `index` counts from 0, `pts` rises."""
        boxes = [box_json(box, origin) for box, origin in zip(frame.xyxy, frame.origins, strict=True)]
        content = {"index": frame.index, "pts": frame.pts, "boxes": boxes}
        if frame.whole:
            content["whole"] = frame.whole
        line = json.dumps(content, allow_nan=False)
        try:
            self._file.write(f"{',' if self.count else ''}\n  {line}")
        except OSError as error:
            raise explain_os_error(error, str(self.path)) from error
        self.count += 1

    def close(self) -> None:
        """Finish and publish the file."""
        try:
            self._file.write("\n]}\n")
            self._file.seek(self._place)
            self._file.write(f"{self.count:>{COUNT_DIGITS}}")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self.partial.replace(self.path)
        except OSError as error:
            self.abandon()
            raise explain_os_error(error, str(self.path)) from error

    def abandon(self) -> None:
        """Give up: remove what was written."""
        with contextlib.suppress(OSError):  # a full disk: what was buffered cannot be written now either
            self._file.close()
        self.partial.unlink(missing_ok=True)


class BoxesFile:
    """A boxes file that was read once as a whole and found right.

    Raises:
        OrveilError: unreadable, not of this form, a wrong box, a frame missing or out of order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._place = "header"
        header: dict[str, Any] = {}
        count = 0
        try:
            with path.open("rb") as file:
                stream = JsonStream(file, "frames")
                order = Order()
                for key, value in stream.members():
                    if key == "frames":
                        self._place = f"frame {count}"
                        order.check(read_frame(value))
                        count += 1
                    else:
                        self._place = key
                        header[key] = value
                self._place = "header"
                self.header = read_header(header, count)
                self.sha256 = stream.sha256
        except ValueError as error:
            raise self._wrong(error) from error
        except OSError as error:
            raise explain_os_error(error, str(path)) from error
        # The size of the picture may stand behind the frames: only now can boxes be held against it.
        for _ in self.frames():
            pass

    def _wrong(self, error: ValueError) -> OrveilError:
        return OrveilError(
            f"the boxes file is not right: {error}", where=f"{self.path}, {self._place}", remedy=REMEDY
        )

    def check_video(self, sha256: str, size: tuple[int, int], where: str) -> None:
        """Refuse a video that the file was not made for.

        Args:
            sha256: of the video file; size: (width, height) of its upright picture; where: its path.

        Raises:
            OrveilError: another digest or picture size.
        """
        made_for = self.header.width, self.header.height
        if self.header.sha256 != sha256:
            raise OrveilError(
                "the boxes were made for another video: its sha256 differs", where=f"{self.path} and {where}",
                remedy="give the very file that was analysed, or analyse this one",
            )  # fmt: skip
        if made_for != size:
            raise OrveilError(
                "the boxes are for pictures of {}x{}, the video has {}x{}".format(*made_for, *size),
                where=str(self.path), remedy="put the size back as `orveil analyse` wrote it",
            )  # fmt: skip

    def frames(self) -> Iterator[Frame]:
        """All frames in order.

        Raises:
            OrveilError: the file was changed since it was opened.
        """
        order, size = Order(), (self.header.width, self.header.height)
        try:
            with self.path.open("rb") as file:
                stream = JsonStream(file, "frames")
                for key, value in stream.members():
                    if key == "frames":
                        self._place = f"frame {order.index + 1}"
                        frame = read_frame(value)
                        order.check(frame)
                        check_inside(frame, *size)
                        yield frame
                if stream.sha256 != self.sha256:
                    raise JsonError("it was changed while it was read")
        except ValueError as error:
            raise self._wrong(error) from error
        except OSError as error:
            raise explain_os_error(error, str(self.path)) from error


class BoxSource:
    """Hands the frames of a boxes file to the renderer, each for the picture it was made for."""

    def __init__(self, boxes: BoxesFile) -> None:
        self.boxes, self._frames = boxes, boxes.frames()

    def at(self, index: int, pts: int) -> Covered | None:
        """What to cover in the next picture; None for all of it.

        Raises:
            OrveilError: the file has no frame for this picture.
        """
        frame = next(self._frames, None)
        if frame is None or (frame.index, frame.pts) != (index, pts):
            raise self._other(f"picture {index} has the timestamp {pts}, the file {frame and frame.pts}")
        return None if frame.whole else Covered(index, frame.xyxy, frame.origins)

    def finish(self, frames: int) -> None:
        """Called after the last picture.

        Raises:
            OrveilError: the file has more frames than the video.
        """
        if frames != self.boxes.header.frames:
            raise self._other(f"the video has {frames} pictures, the file {self.boxes.header.frames}")

    def _other(self, what: str) -> OrveilError:
        return OrveilError(f"the boxes do not fit the video: {what}", where=str(self.boxes.path),
                           remedy="put `index` and `pts` back as `orveil analyse` wrote them")  # fmt: skip
