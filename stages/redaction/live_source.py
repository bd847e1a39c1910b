"""Stages: where live pictures come from: a camera, a network stream, or a file played at its own pace."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import av
import av.error

from orveil.pipeline.decode import REPAIR
from orveil.pipeline.errors import OrveilError
from orveil.stages.redaction.look import Look

__all__ = ["LiveSource", "Shot"]

Shot = tuple[Any, str]
"""A decoded frame and "", or (frame or None) and why it must be covered as a whole."""
NETWORK = ("rtsp", "rtsps", "rtmp", "udp", "srt", "http", "https", "tcp")
CAMERAS = {
    "linux": ("v4l2", "/dev/video{}"),
    "darwin": ("avfoundation", "{}"),
    "win32": ("dshow", "video={}"),
}
AGAIN_S = 1.0
"""A network source that broke is opened again after this time."""


class LiveSource:
    """Frames as they come, in an endless loop for cameras and streams, to its end for a file.

    Args:
        name: `camera`, `camera:NUMBER_OR_NAME`, a URL, or a file.
        timeout_s: a network that gives nothing for so long is connected again.

    Attributes:
        look: of its pictures, from the first sound one.
        stopped: set it to end the iteration at the next picture.

    Raises:
        OrveilError: it cannot be opened at the start, or holds no picture that can be decoded.
    """

    def __init__(self, name: str, timeout_s: float = 5.0) -> None:
        self.name, self.timeout_s = name, timeout_s
        self.endless = name.split(":", 1)[0] in ("camera", *NETWORK)
        self.stopped = threading.Event()
        self._container: Any = self._open()
        self._shots = self._all()
        self._ahead = next((shot for shot in self._shots if shot[0] is not None), None)
        if self._ahead is None:
            self.close()
            raise OrveilError("the source holds no picture that can be decoded", where=name, remedy=REPAIR)
        self.look = Look.of(self._ahead[0], self._container.streams.video[0])

    def __iter__(self) -> Iterator[Shot]:
        """Pictures until `stopped`, or the file ends; a broken network is connected again."""
        if self._ahead is not None:
            yield self._ahead
        yield from self._shots

    def _open(self) -> Any:
        kind, _, rest = self.name.partition(":")
        # FFmpeg would look at five seconds of a stream before it gives the first picture.
        options = {"fflags": "nobuffer", "analyzeduration": "1000000", "probesize": "1000000"}
        form, target = None, self.name
        if kind == "camera":
            form, pattern = CAMERAS.get(sys.platform, CAMERAS["linux"])
            target, options = pattern.format(rest or "0"), {}
        elif kind in ("rtsp", "rtsps"):
            options |= {"rtsp_transport": "tcp"}
        elif not self.endless:
            options = {}
        try:
            container = av.open(target, format=form, options=options, timeout=self.timeout_s)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise OrveilError(
                f"the source cannot be opened: {getattr(error, 'strerror', None) or error}", where=self.name,
                remedy="give camera, camera:1, an address such as rtsp://HOST/PATH, or a video file",
            ) from error  # fmt: skip
        if not container.streams.video:
            container.close()
            raise OrveilError("the source has no pictures", where=self.name, remedy="give one with video")
        return container

    def _stream(self) -> Any:
        stream = self._container.streams.video[0]
        stream.thread_type, stream.thread_count = "SLICE", 1
        return stream

    def _all(self) -> Iterator[Shot]:
        while not self.stopped.is_set():
            try:
                if self._container is None:
                    self._container = self._open()
                yield from self._run()
            except (av.error.FFmpegError, OSError, OrveilError):
                pass  # what follows is covered, because nothing comes
            if not self.endless:
                return
            self.close()
            self.stopped.wait(AGAIN_S)

    def _run(self) -> Iterator[Shot]:
        stream, sound = self._stream(), False
        begin: float | None = None
        for packet in self._container.demux(stream):
            if self.stopped.is_set() or (self.endless and packet.size == 0):
                return  # what a decoder still holds when a stream breaks is old
            broken = packet.is_corrupt
            try:
                frames = packet.decode()
            except av.error.EOFError:
                frames = []
            except av.error.FFmpegError:
                frames, broken = [], True
            sound = sound and not broken
            for frame in frames:
                # After damage nothing can be trusted before the next picture that stands for itself.
                sound = (sound or bool(frame.key_frame)) and not frame.is_corrupt
                if not self.endless and frame.time is not None:
                    begin = time.monotonic() - frame.time if begin is None else begin
                    time.sleep(max(0.0, begin + frame.time - time.monotonic()))
                yield (frame, "") if sound else (None, "damaged")
            if broken and not frames:
                yield None, "damaged"

    def close(self) -> None:
        """Let go of camera, network or file."""
        if self._container is not None:
            self._container.close()
            self._container = None
