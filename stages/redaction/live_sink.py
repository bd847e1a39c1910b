"""Stages: where live pictures go: a stream or file, a window, or a virtual camera."""

from __future__ import annotations

import contextlib
import importlib
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import av.error

from orveil.pipeline.codecs import choose_encoder, encoder_options
from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.stages.redaction.look import Look

__all__ = ["Sink", "open_sink"]

FORMATS = {
    "udp": "mpegts",
    "srt": "mpegts",
    "tcp": "mpegts",
    "rtsp": "rtsp",
    ".ts": "mpegts",
    ".mkv": "matroska",
}


class Sink(Protocol):
    """Takes pictures at a constant rate."""

    def show(self, frame: Any, tick: int) -> bool:
        """Show one frame (planar YUV) at tick / rate; False where the viewer wants to stop."""
        ...

    def close(self, whole: bool) -> None:
        """The end; `whole` is False after an error."""
        ...


def open_sink(name: str, look: Look, rate: float, *, crf: int = 23, codec: str = "libx264") -> Sink:
    """A sink by name: `window`, `virtual`, a URL (udp, srt, tcp, rtsp) or a file (.ts, .mkv).

    Raises:
        OrveilError: it cannot be opened, or needs a package that is not installed.
    """
    if name == "window":
        return _Window()
    if name.split(":", 1)[0] == "virtual":
        return _VirtualCamera(name.partition(":")[2], look, rate)
    return _Stream(name, look, rate, crf, codec)


class _Stream:
    """H.264 without delay, as a stream or a file; a file gets its name when it is whole."""

    def __init__(self, name: str, look: Look, rate: float, crf: int, codec: str) -> None:
        scheme = name.split(":", 1)[0] if "://" in name else Path(name).suffix.lower()
        if scheme not in FORMATS:
            raise OrveilError(
                "this is no sink", where=name,
                remedy="give window, virtual, udp://HOST:PORT, rtsp://HOST/PATH, NAME.ts or NAME.mkv",
            )  # fmt: skip
        self.name = name
        self.path = None if "://" in name else Path(name)
        self.partial = self.path and self.path.with_name(f".{self.path.name}.partial")
        width, height = look.size
        encoder = choose_encoder(codec, width, height, look.pixel_format)
        options = {**encoder_options(encoder.name, crf, "veryfast", 2)}
        if encoder.name == "libx264":
            options["tune"] = "zerolatency"
        self._stream: Any
        self.base = Fraction(1, 90000)
        self.step = round(90000 / rate)
        try:
            if self.partial:
                self.partial.touch()  # FFmpeg would open it only with the first packet
            place = str(self.partial.absolute()) if self.partial else name
            flags = {"fflags": "+bitexact+flush_packets"}
            self._container = av.open(place, "w", format=FORMATS[scheme], options=flags)
            self._stream = self._container.add_stream(
                encoder.name, rate=Fraction(rate).limit_denominator(1001), options=options
            )
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, look.pixel_format
            self._stream.gop_size = max(1, round(rate))
            self._stream.codec_context.time_base = self.base
        except (av.error.FFmpegError, OSError) as error:
            raise self._explain(error) from error

    def show(self, frame: Any, tick: int) -> bool:
        frame.pts, frame.time_base, frame.pict_type = tick * self.step, self.base, 0
        try:
            self._container.mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            raise self._explain(error) from error
        return True

    def close(self, whole: bool) -> None:
        try:
            if whole:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            if self.partial and self.path and whole:
                self.partial.replace(self.path)
        except (av.error.FFmpegError, OSError) as error:
            if whole:
                raise self._explain(error) from error
        finally:
            if self.partial:
                self.partial.unlink(missing_ok=True)

    def _explain(self, error: Exception) -> OrveilError:
        number = getattr(error, "errno", None)
        if isinstance(number, int) and number > 0:
            return explain_os_error(OSError(number, getattr(error, "strerror", None)), self.name)
        return OrveilError(f"the sink takes nothing: {error}", where=self.name, remedy="check the address")


class _Window:
    """A window on this machine; q or Escape ends."""

    def __init__(self) -> None:
        import cv2

        try:
            cv2.namedWindow("orveil", cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise OrveilError(
                "this OpenCV cannot open windows", where="window",
                remedy="install opencv-python in place of opencv-python-headless; without a screen use "
                "another sink",
            ) from error  # fmt: skip

    def show(self, frame: Any, tick: int) -> bool:
        import cv2

        cv2.imshow("orveil", frame.to_ndarray(format="bgr24"))
        return cv2.waitKey(1) & 0xFF not in (27, ord("q"))

    def close(self, whole: bool) -> None:
        import cv2

        with contextlib.suppress(cv2.error):
            cv2.destroyWindow("orveil")


class _VirtualCamera:
    """A camera that other programs on this machine can open."""

    def __init__(self, device: str, look: Look, rate: float) -> None:
        try:
            pyvirtualcam = importlib.import_module("pyvirtualcam")
        except ImportError as error:
            raise OrveilError(
                "a virtual camera needs the Python package pyvirtualcam, which is not installed",
                where="virtual",
                remedy="pip install pyvirtualcam; on Linux also load v4l2loopback, elsewhere install OBS",
            ) from error  # fmt: skip
        try:
            self._camera = pyvirtualcam.Camera(
                width=look.size[0], height=look.size[1], fps=rate, device=device or None,
                fmt=pyvirtualcam.PixelFormat.BGR,
            )  # fmt: skip
        except RuntimeError as error:
            raise OrveilError(f"the virtual camera cannot be opened: {error}", where=device or "virtual",
                              remedy="on Linux: modprobe v4l2loopback") from error  # fmt: skip

    def show(self, frame: Any, tick: int) -> bool:
        self._camera.send(frame.to_ndarray(format="bgr24"))
        return True

    def close(self, whole: bool) -> None:
        self._camera.close()
