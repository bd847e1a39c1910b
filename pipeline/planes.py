"""Engine: the planes of a frame as arrays, to edit pictures without leaving their colour space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.encode import output_format
from orveil.pipeline.media import rotation_of, upright_size

__all__ = ["bits_of", "blank", "cut", "editable_format", "planes_of", "steps_of", "upright_copy"]


def bits_of(pixel_format: str) -> int:
    """Bits per sample of one of `encode.ENCODABLE`."""
    return 10 if pixel_format.endswith("10le") else 8


def editable_format(frame: av.VideoFrame) -> str:
    """Format in which `upright_copy` gives frames like this one."""
    name = output_format(frame)
    # Turned by a quarter, chroma that is halved in width only would be halved in height only.
    return name.replace("422", "444") if rotation_of(frame) % 180 else name


def planes_of(frame: av.VideoFrame) -> list[NDArray[Any]]:
    """Writable views of the planes (Y, U, V), uint8 or uint16; the frame must be planar YUV."""
    kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    views = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, dtype=kind).reshape(plane.height, -1)  # type: ignore[call-overload]
        views.append(rows[:, : plane.width])
    return views


def upright_copy(frame: av.VideoFrame, pixel_format: str) -> av.VideoFrame:
    """A new frame with the same samples, upright, in `pixel_format`.

    Samples are copied as they are where the format has the same layout: full-range `yuvj` formats keep
    their numbers, the range travels in the file's header.
    """
    turns = (-rotation_of(frame) // 90) % 4
    width, height = upright_size(frame.width, frame.height, rotation_of(frame))
    copy = blank(width, height, pixel_format, frame)
    if frame.format.name.replace("yuvj", "yuv") != pixel_format:
        frame = frame.reformat(format=pixel_format, threads=1)
    for target, samples in zip(planes_of(copy), planes_of(frame), strict=True):
        target[...] = np.rot90(samples, turns)
    return copy


def blank(width: int, height: int, pixel_format: str, like: av.VideoFrame | None = None) -> av.VideoFrame:
    """A new frame of unset samples whose numbers mean the same colours as those of `like`."""
    frame = av.VideoFrame(width, height, pixel_format)
    if like is not None:
        full = like.format.name.startswith("yuvj")
        frame.colorspace, frame.color_range = like.colorspace, 2 if full else like.color_range
    return frame


def steps_of(planes: Sequence[NDArray[Any]]) -> list[tuple[int, int]]:
    """For each plane, how many rows and columns of the picture one of its samples stands for."""
    height, width = planes[0].shape
    return [(-(-height // plane.shape[0]), -(-width // plane.shape[1])) for plane in planes]


def cut(frame: av.VideoFrame, x: int, y: int, width: int, height: int) -> av.VideoFrame:
    """A copy of a rectangle, px; the frame must be planar YUV, x and y multiples of its chroma's steps."""
    part = blank(width, height, frame.format.name, frame)
    planes = planes_of(frame)
    for target, samples, (down, across) in zip(planes_of(part), planes, steps_of(planes), strict=True):
        top, left = y // down, x // across
        target[...] = samples[top : top + target.shape[0], left : left + target.shape[1]]
    return part
