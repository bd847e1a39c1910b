"""Stages: what the first sound picture says about a video: the form of the output follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from orveil.pipeline.decode import REPAIR, Pictures
from orveil.pipeline.encode import Colour, colour_of
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.media import rotation_of, upright_size
from orveil.pipeline.planes import editable_format

__all__ = ["Look"]


@dataclass(frozen=True)
class Look:
    """Form of a video.

    Attributes:
        size: (width, height) of the upright pictures, px; decoded: before rotation.
        rotation: degrees clockwise that turn a decoded picture upright; it is baked in.
        pixel_format, colour, aspect: of the upright pictures, see `encode.Writer`.
        interlaced: pictures are made of two fields: motion shows as combs, in the output too.
        frames: number of pictures that the header promises, 0 where it does not say.
    """

    size: tuple[int, int]
    decoded: tuple[int, int]
    rotation: int
    pixel_format: str
    colour: Colour
    aspect: Any
    time_base: Fraction
    rate: Fraction
    audio: bool
    interlaced: bool
    frames: int

    @property
    def step(self) -> int:
        """Pixels across that share a chroma sample."""
        return 1 if "444" in self.pixel_format else 2

    @classmethod
    def at(cls, source: Path) -> Look:
        """Look at a file.

        Raises:
            OrveilError: it cannot be read, or holds no picture that can be decoded.
        """
        with Pictures(source) as pictures:
            first = next((p.frame for p in pictures if p.frame is not None), None)
            if first is None:
                raise OrveilError(
                    "the video holds no picture that can be decoded", where=str(source), remedy=REPAIR
                )
            return cls.of(first, pictures.stream)

    @classmethod
    def of(cls, first: Any, stream: Any) -> Look:
        """What a sound picture of a stream says."""
        turned, aspect = rotation_of(first), stream.sample_aspect_ratio
        return cls(
            size=upright_size(first.width, first.height, turned), decoded=(first.width, first.height),
            rotation=turned, pixel_format=editable_format(first), colour=colour_of(first),
            aspect=1 / aspect if aspect and turned % 180 else aspect, time_base=stream.time_base,
            rate=Fraction(stream.average_rate or 25), audio=bool(stream.container.streams.audio),
            interlaced=bool(first.interlaced_frame), frames=stream.frames,
        )  # fmt: skip
