"""Fixture factory: real video files, written with PyAV, whose pictures say which frame they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

BITS, CELL = 12, 8
"""A frame number is painted as 12 black or white cells of 8 px along the top edge."""


def stamp(picture: Picture, number: int) -> Picture:
    """Paint `number` into the top left corner (96 x 8 px) of a BGR picture, in place."""
    for bit in range(BITS):
        picture[:CELL, bit * CELL : (bit + 1) * CELL] = 255 if number >> bit & 1 else 0
    return picture


def read_stamp(picture: Picture) -> int:
    """The number that `stamp` painted, from a decoded BGR or grey picture of the original size."""
    grey = picture.mean(axis=2) if picture.ndim == 3 else picture
    cells = [grey[2:6, bit * CELL + 2 : (bit + 1) * CELL - 2].mean() for bit in range(BITS)]
    return sum(1 << bit for bit, level in enumerate(cells) if level > 128)


def scene(count: int, width: int = 128, height: int = 96, seed: int = 0) -> list[Picture]:
    """Stamped BGR pictures of a disc that wanders over a textured background."""
    generator = np.random.default_rng(seed)
    background = generator.integers(60, 140, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    background = background.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    y, x = np.mgrid[:height, :width]
    pictures = []
    for number in range(count):
        angle = number / 9.0 + seed
        cx, cy = width * (0.5 + 0.3 * np.cos(angle)), height * (0.6 + 0.25 * np.sin(1.7 * angle))
        picture = background.copy()
        picture[(x - cx) ** 2 + (y - cy) ** 2 < (height / 7) ** 2] = (40, 200, 230)
        pictures.append(stamp(picture, number))
    return pictures


def write_video(
    path: Path,
    pictures: Iterable[Picture],
    *,
    fps: int | Fraction = 10,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    gop: int = 12,
    rotation: int = 0,
    audio: bool = False,
    metadata: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """Write BGR pictures as a video.

    Args:
        path: its suffix chooses the container.
        fps: rate; pts: one per picture in `time_base`, default a constant rate.
        rotation: degrees clockwise by which a player must turn the pictures.
        audio: add a 440 Hz tone (AAC) of the same length.
        options: of the encoder; container: of the muxer.
    """
    images = list(pictures)
    base = time_base or 1 / Fraction(fps)
    ticks = list(range(len(images))) if pts is None else list(pts)
    muxer = dict(container or {})
    if path.suffix in (".mp4", ".mov") and "video_track_timescale" not in muxer:
        muxer["video_track_timescale"] = str(base.denominator)
    with av.open(str(path), "w", options=muxer) as output:
        output.metadata.update(metadata or {})
        defaults = {"preset": "veryfast", "crf": "16"} if codec == "libx264" else {}
        stream = output.add_stream(codec, rate=Fraction(fps), options={**defaults, **(options or {})})
        stream.height, stream.width = images[0].shape[:2] if images else (96, 128)
        stream.pix_fmt, stream.codec_context.time_base, stream.gop_size = pixel_format, base, gop
        stream.thread_count = 1
        if rotation:
            stream.set_display_rotation(-rotation)
        sound = output.add_stream("aac", rate=16000, layout="mono") if audio else None
        for image, tick in zip(images, ticks, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = tick, base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if sound is not None:
            _tone(output, sound, float(len(images) / Fraction(fps)))
    return path


def _tone(output: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    samples = np.sin(2 * np.pi * 440 * np.arange(int(seconds * 16000)) / 16000).astype(np.float32)
    for start in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def truncate(path: Path, share: float) -> Path:
    """Cut the file's end off, keeping this share of its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def damage(path: Path, packet: int, length: int = 200) -> int:
    """Overwrite the inside of the n-th video packet (in file order) with noise; returns its pts."""
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        packets = [(p.pos, p.size, p.pts) for p in source.demux(stream) if p.size]
    position, size, pts = packets[packet]
    data = bytearray(path.read_bytes())
    begin = position + size * 6 // 10
    end = min(begin + length, position + size)
    data[begin:end] = np.random.default_rng(1).integers(0, 256, end - begin, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    return int(pts)


def write_sound(path: Path, seconds: float) -> Path:
    """A file with a tone and no video."""
    with av.open(str(path), "w") as output:
        _tone(output, output.add_stream("aac", rate=16000, layout="mono"), seconds)
    return path


def room(
    seconds: float, fps: float, offset_s: float, camera: int, seed: int = 0, people: int = 4
) -> list[Picture]:
    """What one of several cameras of a room sees: people who walk, stop and turn, as bright discs.

    Frame k shows the room at time k / fps + offset_s, as in the simulator. Cameras differ in direction,
    size, texture and noise; people of another `seed` move differently.
    """
    generator = np.random.default_rng([seed, 1])
    times = np.arange(int(seconds * fps)) / fps + offset_s
    clock = np.arange(-5.0, seconds + 5.0, 0.02)
    paths = []
    for _ in range(people):
        pace = np.repeat(generator.random(len(clock) // 40 + 1) < 0.5, 40)[: len(clock)]
        pace = np.convolve(pace, np.ones(15) / 15, "same") * generator.uniform(0.4, 1.2)
        turn = np.repeat(generator.normal(0, 1.5, len(clock) // 60 + 1), 60)[: len(clock)]
        heading = np.cumsum(turn) * 0.02 + generator.uniform(0, 6)
        walk = np.cumsum(np.stack([np.cos(heading), np.sin(heading)]) * pace * 0.02, axis=1)
        walk = np.abs((walk + generator.uniform(0, 2, (2, 1))) % 4 - 2) - 1  # reflected at walls
        paths.append(np.stack([np.interp(times, clock, w) for w in walk], axis=1))
    own = np.random.default_rng([seed, 2, camera])
    angle = own.uniform(0, 6)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    width, height = [(128, 96), (160, 96), (96, 128)][camera % 3]
    background = own.integers(60, 140, (height // 8, width // 8, 3), dtype=np.uint8)
    background = background.repeat(8, axis=0).repeat(8, axis=1)
    grain = own.normal(0, 2, (height * 2, width * 2, 1)).astype(np.int16)
    pictures = []
    for number in range(len(times)):
        dy, dx = own.integers(0, height), own.integers(0, width)
        picture = background + grain[dy : dy + height, dx : dx + width]
        picture = np.ascontiguousarray(np.clip(picture, 0, 255).astype(np.uint8))
        for person, path in enumerate(paths):
            px, py = turned @ path[number]
            centre = round((0.5 + 0.35 * px) * width * 16), round((0.5 + 0.35 * py) * height * 16)
            axes = round(0.06 * width * 16), round(0.12 * height * 16)
            colour = (40 + 50 * person, 220 - 40 * person, 200)
            cv2.ellipse(picture, centre, axes, 0, 0, 360, colour, -1, cv2.LINE_AA, 4)
        pictures.append(picture)
    return pictures


def repeat(path: Path, target: Path, times: int) -> Path:
    """The same pictures over and over in one file, without encoding them again."""
    with av.open(str(target), "w") as output:
        shift, stream = 0, None
        for _ in range(times):
            with av.open(str(path)) as source:
                given = source.streams.video[0]
                stream = stream or output.add_stream_from_template(given)
                end = 0
                for packet in source.demux(given):
                    if packet.dts is None or packet.pts is None:
                        continue
                    end = max(end, packet.pts + (packet.duration or 1))
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = stream
                    output.mux(packet)
                shift += end
    return target
