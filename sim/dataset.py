"""Training data from the source domain: JPEG pictures and one COCO json.

    python -m orveil.sim.dataset --domain source --seeds 10000-10399 --images 4000 --size 512x288 \
        --jobs 2 --out DIR

Every seed is one room with its own people; its pictures differ in pose, clothes, light and camera. A seed's
json is written last, so an interrupted run goes on with the seeds that lack it.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from orveil.pipeline.errors import OrveilError
from orveil.sim.coco import FrameRecord, Json, PersonRecord, assemble, frame_dict, pose_annotations, write_gt
from orveil.sim.post import Sensor, any_camera_look, auto_exposed
from orveil.sim.render import Renderer
from orveil.sim.source_room import SourceRoom, source_room
from orveil.sim.source_shot import randomise, sample_camera, sample_poses
from orveil.sim.textures import Rng
from orveil.sim.truth import Truth, plain_view

PEOPLE_PER_ROOM = 8
SHADOW_SIZE = 1024


@dataclass(frozen=True)
class DatasetOptions:
    """What to render; `sizes` (width, height) are used in turn, `images` is over all seeds."""

    seeds: tuple[int, ...]
    images: int
    sizes: tuple[tuple[int, int], ...]
    domain: str = "source"
    jobs: int = 2

    def count(self, index: int) -> int:
        """Pictures of the seed at this position in `seeds`."""
        n = len(self.seeds)
        return self.images * (index + 1) // n - self.images * index // n


def parse_seeds(text: str) -> tuple[int, ...]:
    """`3,7,10-12` to (3, 7, 10, 11, 12)."""
    out: list[int] = []
    try:
        for piece in text.split(","):
            first, dash, last = piece.partition("-")
            out += range(int(first), int(last if dash else first) + 1)
    except ValueError as error:
        raise OrveilError(
            f"not a list of seeds: {text!r}", where="--seeds", remedy="write 10000-10399 or 3,7,9"
        ) from error
    return tuple(out)


def parse_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """`512x288,384x384` to ((512, 288), (384, 384))."""
    try:
        pairs = [tuple(int(v) for v in piece.lower().split("x")) for piece in text.split(",")]
        return tuple((w, h) for w, h in pairs)
    except ValueError as error:
        raise OrveilError(
            f"not a size: {text!r}", where="--size", remedy="write 512x288 or 512x288,288x512"
        ) from error


def render_seed(seed: int, count: int, options: DatasetOptions, out: Path) -> None:
    """Render all pictures of one seed into `out`/images and its json into `out`/parts."""
    room = source_room(np.random.default_rng([seed, 1]), PEOPLE_PER_ROOM)
    largest = (max(w for w, _ in options.sizes), max(h for _, h in options.sizes))
    renderer = Renderer(room.scene, largest, samples=0, shadow_size=SHADOW_SIZE)
    truth = Truth(renderer, exact=False)
    frames = []
    for k in range(count):
        rng = np.random.default_rng([seed, 2, k])
        size = options.sizes[int(rng.integers(len(options.sizes)))]
        picture, people = _picture(renderer, truth, room, rng, size)
        name = f"images/{seed}_{k:04d}.jpg"
        (out / name).write_bytes(picture)
        frames.append(FrameRecord(name, seed, k, 0.0, k, *size, people))
    renderer.close()
    part = out / "parts" / f"{seed}.json"
    partial = part.with_suffix(".partial")
    partial.write_text(json.dumps([frame_dict(f) for f in frames], separators=(",", ":")))
    partial.replace(part)


def _picture(
    renderer: Renderer, truth: Truth, room: SourceRoom, rng: Rng, size: tuple[int, int]
) -> tuple[bytes, tuple[PersonRecord, ...]]:
    """JPEG bytes and ground truth of one picture."""
    poses = sample_poses(room, rng)
    camera = sample_camera(room, rng, size, poses)
    randomise(renderer, room, rng, poses)
    renderer.pose(poses)
    frame = renderer.draw(camera, shadows=bool(rng.random() < 0.75))
    sensor = Sensor(any_camera_look(rng), *size, rng)
    picture = sensor.jpeg(sensor.expose(auto_exposed(frame.rgb, float(rng.uniform(65, 150)))))
    return picture, truth.records(plain_view(frame, camera), poses)


def _work(task: tuple[int, int, DatasetOptions, str]) -> int:
    seed, count, options, out = task
    render_seed(seed, count, options, Path(out))
    return count


def render_dataset(options: DatasetOptions, out: Path, progress: Callable[[str], None] = print) -> Path:
    """Render what is missing and write `out`/ann.json and `out`/pose.json; returns the former.

    Each worker process owns one OpenGL context; results do not depend on how many there are.

    Raises:
        OrveilError: the folder holds a data set made with other options, or OpenGL is missing.

    """
    for folder in ("images", "parts"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    _check_same(options, out)
    todo, total = [], 0
    for i, seed in enumerate(options.seeds):
        if options.count(i) and not (out / "parts" / f"{seed}.json").exists():
            todo.append((seed, options.count(i), options, str(out)))
            total += options.count(i)
    done, start = 0, time.monotonic()
    progress(f"{options.images - total} of {options.images} pictures are there; rendering {total}")
    context = multiprocessing.get_context("spawn")
    with context.Pool(max(1, options.jobs), maxtasksperchild=40) as pool:
        for count in pool.imap_unordered(_work, todo):
            done += count
            rate = done / (time.monotonic() - start)
            progress(f"{done}/{total} pictures, {rate:.1f} per second, {(total - done) / rate:.0f} s left")
    if total:
        seconds = time.monotonic() - start
        progress(
            f"{total} pictures in {seconds:.0f} s: {total / seconds:.1f} per second, {options.jobs} processes"
        )
    return _collect(options, out)


def _check_same(options: DatasetOptions, out: Path) -> None:
    """Refuse to mix pictures of different options in one folder."""
    text = json.dumps({**asdict(options), "jobs": 0}, default=list)
    note = out / "options.json"
    if note.exists() and note.read_text() != text:
        raise OrveilError(
            "the folder holds a data set made with other options",
            where=str(out),
            remedy="give another --out or delete the folder",
        )
    note.write_text(text)


def _collect(options: DatasetOptions, out: Path) -> Path:
    frames: list[Json] = []
    for i, seed in enumerate(options.seeds):
        if options.count(i):
            frames += json.loads((out / "parts" / f"{seed}.json").read_text())
    info = {
        "description": "orveil source domain, visible_fraction estimated (fast mode)",
        "domain": options.domain,
        "seeds": list(options.seeds),
    }
    gt = assemble(frames, info)
    write_gt(gt, out / "ann.json")
    write_gt(pose_annotations(gt), out / "pose.json")
    return out / "ann.json"


def main(
    out: Annotated[Path, typer.Option(help="Folder to write or to complete.")],
    seeds: Annotated[str, typer.Option(help="Rooms, as 10000-10399 or 3,7,9.")] = "10000-10399",
    images: Annotated[int, typer.Option(help="Pictures over all seeds.", min=1)] = 4000,
    size: Annotated[str, typer.Option(help="One or more WIDTHxHEIGHT, chosen by chance.")] = "512x288",
    jobs: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
    domain: Annotated[
        str, typer.Option(help="Only `source` so far: sites are made by orveil.sim.site.")
    ] = "source",
) -> None:
    """Render training pictures with ground truth; run again to go on where it was interrupted."""
    try:
        if domain != "source":
            raise OrveilError(f"unknown domain {domain!r}", where="--domain", remedy="use source")
        options = DatasetOptions(parse_seeds(seeds), images, parse_sizes(size), domain, jobs)
        path = render_dataset(options, out, lambda line: print(line, file=sys.stderr, flush=True))
    except OrveilError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    print(path)


if __name__ == "__main__":
    typer.run(main)
