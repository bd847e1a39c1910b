"""Engine: decoding of one video file in presentation order, with an account of which pictures are damaged."""

from __future__ import annotations

import heapq
import sys
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import av.error

from orveil.pipeline.errors import OrveilError, explain_os_error

__all__ = ["Picture", "Pictures", "open_video"]

_LATE = sys.maxsize
MAX_HELD = 17
"""H.264 and HEVC reorder at most 16 pictures."""
REPAIR = "copy the file again from its source, or repair it with `ffmpeg -i IN -c:v libx264 -crf 16 OUT.mp4`"


@dataclass(frozen=True)
class Picture:
    """One picture: `pts` in ticks of the stream's time base; `frame` is None where it cannot be trusted."""

    pts: int
    frame: av.VideoFrame | None


def open_video(path: Path, where: str = "") -> tuple[av.container.InputContainer, av.VideoStream]:
    """Open a file and choose its first video stream that is not a still cover picture.

    Decoding is synchronous (no frame threads), so that an error belongs to the packet that caused it.

    Raises:
        OrveilError: missing, unreadable, or without video.
    """
    place = f"{path}{' of ' + where if where else ''}"
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise OrveilError("the video file is empty", where=place, remedy="copy the file again")
        # Absolute: FFmpeg takes a relative name with a colon for an address.
        container = av.open(str(path.absolute()))
    except av.error.FFmpegError as error:
        if isinstance(error, OSError) and error.errno and error.errno > 0:
            raise explain_os_error(OSError(error.errno, error.strerror), place) from error
        raise OrveilError(f"cannot read this file as video: {error.strerror}", where=place,
                          remedy=f"check that it is a video and whole; {REPAIR}") from error  # fmt: skip
    except OSError as error:
        raise explain_os_error(error, place) from error
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & av.stream.Disposition.attached_pic:
            stream.thread_type, stream.thread_count = "SLICE", 1
            return container, stream
    container.close()
    raise OrveilError("the file has no video stream that can be decoded", where=place,
                      remedy="give a file with video; `ffprobe FILE` lists what it holds")  # fmt: skip


class Pictures:
    """All pictures of a file from the current position on, in presentation order.

    After damage, every picture up to the next keyframe is distrusted too: the decoder conceals what it
    cannot know and reports success. A picture is handed out only once everything decoded before it is
    known to be sound, because a damaged reference is often shown later than the pictures built on it.

    Args:
        path: the video file; where: camera or other context for messages.
        check: only whether the pictures are sound is of interest: decodes on two threads and leaves out the
            loop filter, so that their samples are not exact, and which packet was damaged is not either.

    Attributes:
        tail: after the end, what the file declares but does not hold ("" if nothing).
    """

    def __init__(self, path: Path, where: str = "", *, check: bool = False) -> None:
        self.path, self.where, self.tail = path, where, ""
        self.container, self.stream = open_video(path, where)
        if check:
            self.stream.thread_type, self.stream.thread_count = "FRAME", 2
            self.stream.codec_context.options = {"skip_loop_filter": "all"}
        if self.stream.time_base is None:
            raise OrveilError("the video stream has no time base", where=str(path), remedy=REPAIR)
        self.time_base: Fraction = self.stream.time_base

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def seek(self, pts: int) -> None:
        """Go to the last keyframe at or before `pts`; iterate afresh afterwards."""
        self.container.seek(pts, stream=self.stream, backward=True)

    def __iter__(self) -> Iterator[Picture]:
        """Decode on from the current position."""
        account = _Account()
        try:
            for packet in self.container.demux(self.stream):
                key = account.send(packet)
                try:
                    frames = packet.decode()
                except av.error.EOFError:
                    frames = []
                except av.error.FFmpegError:
                    frames = []
                    account.lose(key)
                yield from account.receive(frames)
        except av.error.FFmpegError as error:
            self.tail = f"reading stops with: {error.strerror}"
        yield from account.finish()
        self.tail = self.tail or _missing_tail(self.stream, account)


@dataclass
class _Account:
    """Which packets went in, which pictures came out, and what each picture depends on."""

    packets: int = 0
    last: int | None = None
    end: int = 0
    orders: dict[int, int] = field(default_factory=dict)  # pts -> position in decoding order
    waiting: set[int] = field(default_factory=set)
    keys: list[tuple[int, int]] = field(default_factory=list)
    damage: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    held: deque[tuple[int, av.VideoFrame]] = field(default_factory=deque)

    def send(self, packet: Any) -> int | None:
        """Note a packet before it is decoded; its timestamp, None for the one that flushes."""
        pts: int | None = packet.pts if packet.pts is not None else packet.dts
        if pts is None or packet.size == 0:
            return None
        order, self.packets = self.packets, self.packets + 1
        self.end = max(self.end, pts + (packet.duration or 0))
        if packet.is_discard:
            return None
        self.orders[pts] = order
        self.waiting.add(order)
        if packet.is_keyframe:
            self.keys.append((order, pts))
        if packet.is_corrupt:
            insort(self.damage, order)
        return pts

    def lose(self, pts: int | None) -> None:
        """The packet of this timestamp gave an error."""
        order = self.packets - 1 if pts is None else self.orders[pts]
        insort(self.damage, order)
        if pts is not None:
            self.waiting.discard(order)
            heapq.heappush(self.lost, pts)

    def receive(self, frames: list[av.VideoFrame]) -> Iterator[Picture]:
        """Pictures that may be handed out after these came out of the decoder."""
        for frame in frames:
            pts = frame.pts if frame.pts is not None else frame.dts
            order = self.orders.get(pts, self.packets - 1) if pts is not None else self.packets - 1
            self.waiting.discard(order)
            if frame.is_corrupt:
                insort(self.damage, order)
            self.held.append((order, frame))
        self.waiting -= {order for order in self.waiting if order < self.packets - 4 * MAX_HELD}
        while self.held and (
            len(self.held) > MAX_HELD or min(self.waiting, default=self.packets) > self.held[0][0]
        ):
            yield from self._release()

    def finish(self) -> Iterator[Picture]:
        """What is left at the end of the file."""
        while self.held:
            yield from self._release()
        while self.lost:
            yield self._picture(heapq.heappop(self.lost), None)

    def _release(self) -> Iterator[Picture]:
        order, frame = self.held.popleft()
        pts = frame.pts if frame.pts is not None else frame.dts
        while self.lost and pts is not None and self.lost[0] < pts:
            yield self._picture(heapq.heappop(self.lost), None)
        if pts is not None:
            self.orders.pop(pts, None)
        sound = not self._tainted(order, pts if pts is not None else 0)
        yield self._picture(pts, frame if sound else None)

    def _tainted(self, order: int, pts: int) -> bool:
        """Whether damage before this picture, in decoding order, was not yet healed by a keyframe."""
        place = bisect_right(self.damage, order)
        if place == 0:
            return False
        last = self.damage[place - 1]
        # Pictures shown before a keyframe but decoded after it may still refer to what came before it.
        between = self.keys[bisect_right(self.keys, (last, _LATE)) : bisect_right(self.keys, (order, _LATE))]
        return not any(key_pts <= pts for _, key_pts in between)

    def _picture(self, pts: int | None, frame: av.VideoFrame | None) -> Picture:
        # Files without usable timestamps get rising ones: later stages rely on a strict order.
        stamp = pts if pts is not None else 0 if self.last is None else self.last + 1
        self.last = stamp if self.last is None else max(stamp, self.last + 1)
        return Picture(self.last, frame)


def _missing_tail(stream: av.VideoStream, account: _Account) -> str:
    """What header or tags promise beyond the last packet. Only containers that are exact about it count."""
    name = stream.container.format.name
    if "mp4" in name and stream.frames > account.packets:
        return f"the header declares {stream.frames} frames, the file holds {account.packets}"
    declared = _seconds(stream.metadata.get("DURATION", ""))
    held = float(account.end * (stream.time_base or 0))
    if "matroska" in name and declared - held > 0.5 + 2.0 / float(stream.average_rate or 25):
        return f"the header declares {declared:.2f} s, the file holds {held:.2f} s"
    return ""


def _seconds(text: str) -> float:
    """Matroska's HH:MM:SS.fraction; 0 where it is none."""
    parts = text.split(":")
    try:
        return float(sum(float(part) * 60**power for power, part in enumerate(reversed(parts))))
    except ValueError:
        return 0.0
