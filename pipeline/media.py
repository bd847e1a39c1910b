"""Engine: video files as exactly indexed frames: probing, sequential reading, random access.

A frame's `index` is its position in presentation order, from 0; its `pts` counts ticks of the stream's
time base. Pictures come out upright (display rotation applied), BGR, uint8, (H, W, 3); boxes everywhere
else in orveil refer to these upright pictures. A damaged picture raises; the redaction path, which must
go on, reads `orveil.pipeline.decode.Pictures` instead.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from orveil.pipeline.decode import REPAIR, Picture, Pictures
from orveil.pipeline.errors import OrveilError

__all__ = [
    "FrameReader", "Probe", "ToArray", "damaged_frame", "external_name", "frames", "locate", "probe",
    "rotation_of", "upright_size",
]  # fmt: skip

Image = NDArray[np.uint8]
BLIND_SEEK = 300
"""Frames that must lie ahead before seeking pays where keyframes are not known."""


def external_name(session: str, camera: str) -> str:
    """The name under which a camera's video path travels in `Context.externals`."""
    return f"video/{session}/{camera}"


def locate(files: Any, session: str, camera: str, externals: Mapping[str, str]) -> Path:
    """Where a camera's video lies now.

    Args:
        files: `MediaFiles`; its path is where the video lay when it was first read.
        externals: `Context.externals`; what it says comes first, so that a moved folder changes nothing.

    Raises:
        OrveilError: unknown camera, or the file is gone.
    """
    rows = np.flatnonzero((files.session == session) & (files.camera == camera))
    known = [str(files.path[row]) for row in rows]
    path = externals.get(external_name(session, camera), known[0] if known else "")
    if path and Path(path).is_file():
        return Path(path)
    raise OrveilError(
        "the video of this camera is not there",
        where=f"{path or 'no path known'}, camera {session}/{camera}",
        remedy="put it back, or name its new place in the site file; identical bytes are not read again",
    )


@dataclass(frozen=True)
class Probe:
    """What a file holds.

    Attributes:
        width, height: of the pictures as decoded, px, before rotation.
        rotation: degrees clockwise that turn a decoded picture upright: 0, 90, 180 or 270.
        time_base: seconds per tick of `pts`.
        packets: pictures the stream holds, counted by reading it; damaged ones count.
        duration_s: from the first picture to the end of the last.
        rate: mean pictures per second.
        tail: what the file declares but does not hold, "" if nothing.
    """

    path: Path
    width: int
    height: int
    rotation: int
    time_base: Fraction
    packets: int
    duration_s: float
    rate: Fraction
    codec: str
    pixel_format: str
    audio: bool
    interlaced: bool
    tail: str


def rotation_of(frame: av.VideoFrame) -> int:
    """Degrees clockwise that turn this decoded picture upright; FFmpeg states them counterclockwise."""
    return (-round(frame.rotation / 90) * 90) % 360


def upright_size(width: int, height: int, rotation: int) -> tuple[int, int]:
    """(width, height) after turning by `rotation` degrees."""
    return (height, width) if rotation % 180 else (width, height)


def probe(path: Path, where: str = "") -> Probe:
    """Read the whole file without decoding it (but for the first picture).

    Args:
        path: the video file; where: camera or other context for messages.

    Raises:
        OrveilError: missing, unreadable, without video, or without any picture.
    """
    with Pictures(path, where) as source:
        first = next((p.frame for p in source if p.frame is not None), None)
        if first is None:
            raise OrveilError("the video holds no picture that can be decoded",
                              where=f"{path} {where}".strip(), remedy=REPAIR)  # fmt: skip
        audio, codec = bool(source.container.streams.audio), source.stream.codec_context.name
        rate = source.stream.average_rate
    with Pictures(path, where) as source:
        stamps, end = [], 0
        try:
            for packet in source.container.demux(source.stream):
                pts = packet.pts if packet.pts is not None else packet.dts
                if packet.size and not packet.is_discard and pts is not None:
                    stamps.append(pts)
                    end = max(end, stamps[-1] + (packet.duration or 0))
        except av.error.FFmpegError as error:
            tail = f"reading stops with: {error.strerror}"
        else:
            tail = ""
        duration = float((end - min(stamps)) * source.time_base) if stamps else 0.0
        return Probe(
            path=path, width=first.width, height=first.height, rotation=rotation_of(first),
            time_base=source.time_base, packets=len(stamps), duration_s=duration,
            rate=rate or Fraction(max(len(stamps), 1)) / Fraction(duration or 1).limit_denominator(1000),
            codec=codec, pixel_format=first.format.name, audio=audio,
            interlaced=first.interlaced_frame, tail=tail,
        )  # fmt: skip


def damaged_frame(path: Path, index: int, where: str = "") -> OrveilError:
    """The error for a picture that cannot be decoded."""
    return OrveilError("a frame is damaged and cannot be decoded",
                       where=f"{path}{', camera ' + where if where else ''}, frame {index}",
                       remedy=REPAIR)  # fmt: skip


class ToArray:
    """Turns decoded frames into upright arrays; keeps the scaler between frames.

    Args:
        size: (width, height) of the upright result, default as decoded; shrinking averages over areas.
        pixel_format: `bgr24` gives (H, W, 3), `gray` gives (H, W).
    """

    def __init__(self, size: tuple[int, int] | None = None, pixel_format: str = "bgr24") -> None:
        self.size, self.pixel_format = size, pixel_format
        self._scaler = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> Image:
        """The picture as uint8 (H, W, 3) or (H, W)."""
        rotation = rotation_of(frame)
        width, height = upright_size(
            *(self.size or upright_size(frame.width, frame.height, rotation)), rotation
        )
        scaled = self._scaler.reformat(
            frame, width, height, self.pixel_format,
            interpolation=Interpolation.AREA if self.size else Interpolation.BICUBIC, threads=1,
        )  # fmt: skip
        array = scaled.to_ndarray()
        return np.ascontiguousarray(np.rot90(array, (-rotation // 90) % 4), dtype=np.uint8)


class _Cursor:
    """A position in a file: hands out decoded frames by index, seeking only where that saves decoding."""

    def __init__(self, path: Path, pts: Sequence[int] | NDArray[Any] | None, where: str) -> None:
        self.path, self.where = path, where
        self.pts = None if pts is None else [int(p) for p in pts]
        self._open(None)
        keys = [e.timestamp for e in self.source.stream.index_entries if e.is_keyframe]
        self.keys = sorted(keys)

    def _open(self, pts: int | None) -> None:
        self.source = Pictures(self.path, self.where)
        if pts is not None:
            self.source.seek(pts)
        self.iterator, self.next = iter(self.source), 0 if pts is None else -1

    def close(self) -> None:
        self.source.close()

    def at(self, index: int) -> Picture:
        """The picture at `index`, as decoded."""
        picture, sought = None, False
        if index >= self.next and not self._worth_seeking(index):
            picture = self._advance(index)
        elif self.pts and index < len(self.pts):
            # Some containers land behind the keyframe that a frame needs: then begin further ahead of it.
            for early in (0, BLIND_SEEK):
                if index > early and (picture is None or picture.frame is None):
                    picture, sought = self._restart(self.pts[index - early], index), early > 0
        if picture is None or picture.frame is None:
            # Only a read from the start is proof of damage: after seeking, references may be missing.
            picture = self._restart(None, index)
            self.pts = None if sought else self.pts
        if picture is None:
            raise OrveilError(
                f"the video has only {self.next} frames", where=f"{self.path}, frame {index} {self.where}",
                remedy="the file changed or lost its end since it was ingested: run ingest again",
            )  # fmt: skip
        if picture.frame is None:
            raise damaged_frame(self.path, index, self.where)
        return picture

    def _restart(self, pts: int | None, index: int) -> Picture | None:
        self.close()
        self._open(pts)
        return self._advance(index)

    def _worth_seeking(self, index: int) -> bool:
        if self.pts is None or index >= len(self.pts) or index - self.next < 2:
            return False
        if not self.keys:  # the container has no index
            return index - self.next > BLIND_SEEK
        here, there = self.pts[max(self.next, 0)], self.pts[index]
        return bisect_right(self.keys, there) > bisect_right(self.keys, here)

    def _advance(self, index: int) -> Picture | None:
        for picture in self.iterator:
            if self.next < 0:
                place = bisect_right(self.pts or [], picture.pts) - 1
                if place < 0 or (self.pts or [])[place] != picture.pts or place > index:
                    return None
                self.next = place
            self.next += 1
            if self.next - 1 == index:
                return picture
        return None


def frames(
    path: Path,
    start: int = 0,
    stop: int | None = None,
    wanted: Iterable[int] | None = None,
    *,
    pts: Sequence[int] | NDArray[Any] | None = None,
    size: tuple[int, int] | None = None,
    pixel_format: str = "bgr24",
    where: str = "",
) -> Iterator[tuple[int, int, Image]]:
    """Read a range of frames in order.

    Args:
        path: the video file.
        start, stop: range of indices; stop None (or negative) reads to the end.
        wanted: only these indices within the range, rising; others are decoded where needed, not converted.
        pts: of all frames of the file (`MediaIndex.pts`); with it a late start seeks, without it decoding
            begins at the first frame.
        size, pixel_format: see `ToArray`.
        where: "session/camera" for messages.

    Yields:
        (index, pts, picture): pictures are upright, BGR uint8 (H, W, 3) unless asked otherwise.

    Raises:
        OrveilError: a frame in the range is damaged, or a wanted one does not exist.
    """
    convert = ToArray(size, pixel_format)
    last = stop if stop is not None and stop >= 0 else len(pts) if pts is not None else None
    cursor = _Cursor(path, pts, where)
    try:
        if wanted is not None or last is not None:
            chosen = range(start, last or 0) if wanted is None else wanted
            for index in chosen:
                if index >= start and (last is None or index < last):
                    picture = cursor.at(index)
                    yield index, picture.pts, convert(picture.frame)  # type: ignore[arg-type]
            return
        for index, picture in enumerate(cursor.source):
            if index >= start:
                if picture.frame is None:
                    raise damaged_frame(path, index, where)
                yield index, picture.pts, convert(picture.frame)
    finally:
        cursor.close()


class FrameReader:
    """Random access to frames by index, with a bounded cache; cheapest for rising indices.

    The file is opened on first use, so that an instance can be sent to a worker process.

    Args:
        path: the video file; pts: of all its frames (`MediaIndex.pts`), enables seeking.
        cache_bytes: least recently used pictures beyond this are dropped.
        size, pixel_format: see `ToArray`; where: "session/camera" for messages.
    """

    def __init__(
        self,
        path: Path,
        pts: Sequence[int] | NDArray[Any] | None = None,
        *,
        cache_bytes: int = 256 << 20,
        size: tuple[int, int] | None = None,
        pixel_format: str = "bgr24",
        where: str = "",
    ) -> None:
        self.path, self.pts, self.where = path, pts, where
        self.cache_bytes, self.size, self.pixel_format = cache_bytes, size, pixel_format
        self._reset()

    def _reset(self) -> None:
        self._cursor: _Cursor | None = None
        self._convert = ToArray(self.size, self.pixel_format)
        self._cache: OrderedDict[int, Image] = OrderedDict()
        self._held = 0

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and forget the cache; the next read opens it again."""
        if self._cursor is not None:
            self._cursor.close()
        self._reset()

    def read(self, index: int) -> Image:
        """The upright picture at `index`; do not write into it, it is shared with the cache."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        if self._cursor is None:
            self._cursor = _Cursor(self.path, self.pts, self.where)
        picture = self._convert(self._cursor.at(index).frame)  # type: ignore[arg-type]
        picture.setflags(write=False)
        self._cache[index] = picture
        self._held += picture.nbytes
        while self._held > self.cache_bytes and len(self._cache) > 1:
            self._held -= self._cache.popitem(last=False)[1].nbytes
        return picture
