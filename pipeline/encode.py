"""Engine: H.264 writing with exact timestamps; a file appears under its name only once it was verified.

Timestamps are written in the source's time base (variable rates and gaps are kept), metadata is not written,
audio packets of a source can be copied as they are. Same pictures, same settings: same bytes.
"""

from __future__ import annotations

import contextlib
import os
from array import array
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import av.error
from av.codec.context import Flags
from numpy.typing import NDArray

from orveil.pipeline.codecs import encoder_options
from orveil.pipeline.decode import Pictures
from orveil.pipeline.errors import OrveilError, explain_os_error

__all__ = ["Colour", "Writer", "colour_of", "output_format"]

Colour = tuple[int, int, int, int]
"""(range, matrix, primaries, transfer), as FFmpeg numbers them."""

ENCODABLE = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le")
"""Formats that libx264 encodes and numpy can hold as planes."""


def output_format(frame: av.VideoFrame) -> str:
    """The encodable format nearest to a frame's own: it loses neither bit depth (up to 10) nor chroma."""
    name = frame.format.name.replace("yuvj", "yuv")
    odd = frame.width % 2 or frame.height % 2
    if name in ENCODABLE and not odd:
        return name
    luma = frame.format.components[0]
    deep = "10le" if luma.bits > 8 else ""
    chroma = frame.format.components[min(1, len(frame.format.components) - 1)]
    halved = chroma.is_chroma and chroma.width < frame.width
    quartered = halved and chroma.height < frame.height
    shape = "444" if odd or not halved else "420" if quartered else "422"
    return f"yuv{shape}p{deep}"


def colour_of(frame: av.VideoFrame) -> Colour:
    """How the numbers of a frame mean colours; `yuvj` formats mean full range."""
    full = 2 if frame.format.name.startswith("yuvj") else frame.color_range
    return int(full), int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc)


class Writer:
    """Writes one H.264 file (mp4). Use as a context manager: on an error nothing is left behind.

    Args:
        target: final path; its folder exists. The file is written beside it under a temporary name.
        width, height: of the pictures, px.
        time_base: seconds per tick of the `pts` given to `write`.
        pixel_format: one of `ENCODABLE`.
        colour: see `colour_of`; aspect: of one pixel, width to height, None where square or unknown.
        rate: mean pictures per second, a hint to the rate control.
        crf, preset, threads: of x264; the bytes depend on all three, and on nothing else.
        audio: a file whose audio packets are copied, or None.
        codec: name of an encoder that works here, see `codecs.choose_encoder`.
    """

    def __init__(
        self, target: Path, width: int, height: int, time_base: Fraction, *,
        pixel_format: str = "yuv420p", colour: Colour = (0, 2, 2, 2), aspect: Fraction | None = None,
        rate: Fraction = Fraction(25), crf: int = 20, preset: str = "veryfast", threads: int = 2,
        audio: Path | None = None, codec: str = "libx264",
    ) -> None:  # fmt: skip
        self.target, self.time_base, self.pixel_format = target, time_base, pixel_format
        self.partial = target.with_name(f".{target.name}.partial")
        self.pts = array("q")
        self._waiting: av.VideoFrame | None = None
        self._step = max(1, round(1 / (rate * time_base)))
        self._sounds: Any = None
        self._stream: Any
        # The mp4 track counts in 1/denominator, so that every timestamp is a whole number of ticks.
        options = {"movflags": "+faststart", "fflags": "+bitexact",
                   "video_track_timescale": str(time_base.denominator)}  # fmt: skip
        encoding = encoder_options(codec, crf, preset, threads)
        try:
            self.partial.touch()  # FFmpeg would open it only with the first packet
            self._container = av.open(str(self.partial.absolute()), "w", format="mp4", options=options)
            self._stream = self._container.add_stream(codec, rate=rate, options=encoding)
        except (av.error.FFmpegError, OSError) as error:
            raise self._explain(error) from error
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, pixel_format
        context = self._stream.codec_context
        context.time_base, context.flags = time_base, context.flags | Flags.bitexact | Flags.frame_duration
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = colour
        if aspect:
            context.sample_aspect_ratio = aspect
        if audio is not None:
            self._sounds = _AudioCopy(audio, self._container)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    @property
    def seconds(self) -> float:
        """From the first picture to the end of the last, as long as that is the one before."""
        return float((self.pts[-1] - self.pts[0] + self._step) * self.time_base) if self.pts else 0.0

    def write(self, picture: NDArray[Any], pts: int) -> None:
        """Append one picture.

        Args:
            picture: as `av.VideoFrame.from_ndarray` takes it for `pixel_format`, or BGR (H, W, 3) uint8.
            pts: rising from call to call.
        """
        bgr = picture.ndim == 3 and picture.shape[2] == 3
        self.write_frame(
            av.VideoFrame.from_ndarray(picture, format="bgr24" if bgr else self.pixel_format), pts
        )

    def write_frame(self, frame: av.VideoFrame, pts: int) -> None:
        """Append one frame; `pts` rises from call to call. The frame belongs to the writer afterwards."""
        if pts < 0:
            raise OrveilError(
                "the video has pictures before time 0, which an mp4 cannot show", where=str(self.target),
                remedy="shift it first: `ffmpeg -i IN -c copy -avoid_negative_ts make_zero OUT`",
            )  # fmt: skip
        frame.pts, frame.time_base = pts, self.time_base
        frame.pict_type = 0
        if self.pts:
            self._step = pts - self.pts[-1]
        self.pts.append(pts)
        try:
            self._encode_waiting()
        except (av.error.FFmpegError, OSError) as error:
            raise self._explain(error) from error
        self._waiting = frame

    def _encode_waiting(self) -> None:
        # A frame's duration is the way to the next one. The muxer would guess the last one as 0 and
        # then cut that frame off by its edit list.
        if self._waiting is not None:
            self._waiting.duration = self._step
            self._mux(self._stream.encode(self._waiting))
            self._waiting = None

    def close(self) -> Path:
        """Finish, verify and publish the file.

        Raises:
            OrveilError: the file could not be written, or does not hold exactly what was given.
        """
        try:
            self._encode_waiting()
            self._mux(self._stream.encode(None))
            if self._sounds is not None:
                self._sounds.copy_until(None)
            self._container.close()
            self._stream = None  # the encoder's pictures go before the check decodes
            self._verify()
            with self.partial.open("rb+") as file:
                os.fsync(file.fileno())
            self.partial.replace(self.target)
        except (av.error.FFmpegError, OSError) as error:
            self.abandon()
            raise self._explain(error) from error
        except BaseException:
            self.abandon()
            raise
        return self.target

    def abandon(self) -> None:
        """Give up: remove what was written."""
        with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
            self._container.close()
        if self._sounds is not None:
            self._sounds.close()
        self.partial.unlink(missing_ok=True)

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            if self._sounds is not None and packet.dts is not None:
                self._sounds.copy_until(packet.dts * packet.time_base)
            self._container.mux(packet)

    def _verify(self) -> None:
        with Pictures(self.partial, check=True) as source:
            problem = self._difference(source) or _traces(source.container)
        if problem:
            raise OrveilError(f"the written video failed its check: {problem}", where=str(self.target),
                              remedy="nothing was published; check the disk and run again")  # fmt: skip

    def _difference(self, source: Pictures) -> str:
        """How the pictures of a file differ from those given, "" if they do not."""
        ratio = source.time_base / self.time_base
        count = 0
        for picture in source:
            if picture.frame is None:
                return "a frame cannot be decoded again"
            if count < len(self.pts) and picture.pts * ratio != self.pts[count]:
                return "a timestamp changed"
            count += 1
        if count != len(self.pts):
            return f"{len(self.pts)} frames went in, {count} came out"
        return f"a frame cannot be decoded again: {source.tail}" if source.tail else ""

    def _explain(self, error: Exception) -> OrveilError:
        number = getattr(error, "errno", None)
        if isinstance(number, int) and number > 0:
            return explain_os_error(OSError(number, getattr(error, "strerror", None)), str(self.target))
        return OrveilError(
            f"cannot encode the video: {error}", where=str(self.target),
            remedy="check the disk, and that frame size and preset are ones x264 takes",
        )  # fmt: skip


def _traces(container: Any) -> str:
    """What a file still says about where it comes from, "" if nothing."""
    titles = set(container.metadata) - {"major_brand", "minor_version", "compatible_brands"}
    for stream in container.streams:
        if stream.type not in ("video", "audio"):
            titles.add(f"a {stream.type} stream")
        # What every mp4 has: names of the muxer's own handlers, and "und" where there is no language.
        ours = {"handler_name": ("VideoHandler", "SoundHandler"), "language": ("und",)}
        titles |= {
            key
            for key, value in stream.metadata.items()
            if value not in ours.get(key, ()) and not (key == "vendor_id" and value == "[0][0][0][0]")
        }
    if container.chapters():
        titles.add("chapters")
    return f"metadata was written: {sorted(titles)}" if titles else ""


class _AudioCopy:
    """Copies the audio packets of a file in step with the video, byte for byte."""

    def __init__(self, path: Path, output: Any) -> None:
        self._source = av.open(str(path.absolute()))
        self._output = output
        streams = self._source.streams.audio
        try:
            self._streams = {s.index: output.add_stream_from_template(s) for s in streams}
        except (av.error.FFmpegError, ValueError) as error:
            self._source.close()
            raise OrveilError(
                f"the sound of this file cannot be kept in an mp4: {error}", where=str(path),
                remedy="blur with `audio = \"drop\"`, or convert the sound to AAC first",
            ) from error  # fmt: skip
        for stream in self._streams.values():
            stream.metadata.clear()
        self._packets = self._source.demux(*streams) if streams else iter(())
        self._next: deque[Any] = deque()

    def copy_until(self, seconds: Fraction | None) -> None:
        """Copy what is decoded before this time; None copies the rest and closes the source."""
        while True:
            if not self._next:
                try:
                    packet = next(self._packets, None)
                except av.error.FFmpegError:
                    packet = None  # cut off; decoding the pictures finds that out too, and says so
                if packet is None:
                    break
                if packet.dts is None:
                    continue
                self._next.append(packet)
            packet = self._next[0]
            if seconds is not None and packet.dts * packet.time_base > seconds:
                return
            self._next.popleft()
            packet.stream = self._streams[packet.stream_index]
            self._output.mux(packet)
        if seconds is None:
            self.close()

    def close(self) -> None:
        """Close the source."""
        self._source.close()
