"""Engine: which H.264 encoder writes a video: by name, with a fallback and the reason for it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.error

__all__ = ["CODECS", "Encoder", "choose_encoder", "encoder_options"]

SOFTWARE = "libx264"
HARDWARE = ("h264_nvenc", "h264_vaapi", "h264_v4l2m2m")
CODECS = (SOFTWARE, *HARDWARE, "auto")
"""Names that can be asked for; `auto` takes the first piece of hardware that works."""
FLAT = 3
"""Without the macroblock tree x264 spends about twice the bits at the same `crf`, and a fifth more time; this
much more `crf` gives files of the usual size."""


@dataclass(frozen=True)
class Encoder:
    """The encoder that is used, and why."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"encoder {self.name}: {self.why}"


def choose_encoder(asked: str, width: int, height: int, pixel_format: str) -> Encoder:
    """The encoder asked for if it works here for such pictures, else libx264.

    A name in the list of a library says little: the driver or the device may be missing, or the layout not be
    supported. So the encoder is opened and has to encode a picture of this size.
    """
    if asked == SOFTWARE:
        return Encoder(SOFTWARE, "as asked for; its output is the same on every run")
    refused = []
    for name in HARDWARE if asked == "auto" else (asked,):
        problem = _problem(name, width, height, pixel_format)
        if not problem:
            return Encoder(name, "as asked for" if asked == name else "the first hardware encoder that works")
        refused.append(f"{name}: {problem}")
    return Encoder(SOFTWARE, f"no hardware encoder ({'; '.join(refused)})")


def encoder_options(name: str, crf: int, preset: str, threads: int) -> dict[str, str]:
    """Options for a quality of about x264's `crf`; presets are x264's and mean nothing elsewhere."""
    if name == "h264_nvenc":
        return {"rc": "vbr", "cq": str(crf), "b": "0"}
    if name == "h264_vaapi":
        return {"rc_mode": "CQP", "qp": str(crf)}
    if name == "h264_v4l2m2m":  # the kernel's interface knows bit rates only
        return {"b": str(16_000_000 >> max(0, (crf - 20) // 6))}
    # x264's macroblock tree reads memory it never wrote (its SIMD code runs past the end of rows), so
    # that the bytes would depend on what was in the heap before.
    # One B-frame in a row instead of three: a quarter less memory in the encoder, files a tenth larger.
    return {
        "crf": str(min(crf + FLAT, 51)), "preset": preset, "threads": str(threads), "mbtree": "0", "bf": "1",
    }  # fmt: skip


def _problem(name: str, width: int, height: int, pixel_format: str) -> str:
    """Why this encoder cannot be used here, "" if it can."""
    if name not in av.codecs_available:
        return "not part of this FFmpeg build"
    try:
        context: Any = av.CodecContext.create(name, "w")
        formats = {f.name for f in context.codec.video_formats or ()}  # empty: known only to the driver
        if formats and pixel_format not in formats:
            return f"does not take {pixel_format}"
        context.width, context.height, context.pix_fmt = width, height, pixel_format
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.options = encoder_options(name, 20, "", 1)
        frame = av.VideoFrame(width, height, pixel_format)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        return "" if [*context.encode(frame), *context.encode(None)] else "gave no picture"
    except (av.error.FFmpegError, OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
