"""Renders a whole site: one video per camera and the ground truth.

    python -m orveil.sim.site --seed 7 --cameras 4 --people 6 --seconds 20 --fps 10 --out DIR

The result depends only on the options: not on the number of processes, and the same options give the same
bytes with the same MuJoCo, Mesa and x264.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from orveil.pipeline.errors import OrveilError
from orveil.sim.audio import or_sound
from orveil.sim.coco import PARTS, FrameRecord, Json, PersonRecord, assemble, frame_dict, write_gt
from orveil.sim.filmed import Site
from orveil.sim.lens import LensCamera, Warp
from orveil.sim.maths import Array
from orveil.sim.or_site import or_site
from orveil.sim.post import Sensor
from orveil.sim.render import Frame, Renderer, load_mujoco
from orveil.sim.site_options import CameraPlan, SiteOptions, plan_cameras
from orveil.sim.source_site import source_site
from orveil.sim.truth import Truth, View
from orveil.sim.video import VideoWriter, read_pts

ALONE = 1.6
"""How much wider than the picture the pass is that shows one person alone."""
LARGE = 4_000_000
"""Ground truth above this many characters is compressed."""
Progress = Callable[[int, int], None]
"""Called with the pictures done and the pictures in all."""


class CameraFilm:
    """Films a site with one camera, picture by picture."""

    def __init__(self, site: Site, renderer: Renderer, truth: Truth, plan: CameraPlan, seed: int) -> None:
        self.site, self.renderer, self.truth, self.plan = site, renderer, truth, plan
        self.pinhole = site.pinholes[plan.id - 1]
        self.warp = Warp(plan.lens, self.pinhole.focal, plan.size)
        self.covered = None if plan.lens.identity else self.warp.covered
        self.camera = LensCamera(self.pinhole, self.warp)
        self.sensor = Sensor(plan.look, *plan.size, np.random.default_rng([seed, 77, plan.id]))

    def picture(self, t: float) -> tuple[Array, tuple[PersonRecord, ...]]:
        """RGB picture (h, w, 3) at t seconds on the scene's clock, and who is in it."""
        poses = self.site.poses(t)
        self.renderer.pose(poses)
        drawn = self.renderer.draw(self.pinhole)
        shown, w = drawn, self.warp
        if not self.plan.lens.identity:
            shown = Frame(
                w.picture(drawn.rgb), w.labels(drawn.person_id), w.labels(drawn.part), w.labels(drawn.depth)
            )
        people = self.truth.records(View(shown, self.camera, drawn, self.pinhole, self.covered), poses)
        return self.sensor.compressed(self.sensor.expose(shown.rgb)), people

    def film(self, seconds: float, drops: str) -> Iterator[tuple[int, Array, tuple[PersonRecord, ...]]]:
        """Slot, picture and people of every picture that goes into the file."""
        last: tuple[Array, tuple[PersonRecord, ...]] | None = None
        for slot in range(self.plan.slots(seconds)):
            gone = slot in self.plan.missing
            if gone and drops == "gaps":
                continue
            if gone and drops == "black":
                yield slot, np.zeros((self.plan.size[1], self.plan.size[0], 3), np.uint8), ()
                continue
            if not gone or last is None:
                last = self.picture(slot / float(self.plan.fps) + self.plan.offset)
            yield slot, *last


def build_site(options: SiteOptions) -> Site:
    """The site of these options, not yet compiled."""
    return source_site(options) if options.domain == "source" else or_site(options)


def open_site(options: SiteOptions) -> tuple[Site, Renderer, Truth]:
    """The site of these options, compiled and ready to draw."""
    site = build_site(options)
    sizes = [c.width for c in site.pinholes], [c.height for c in site.pinholes]
    renderer = Renderer(site.scene, (max(sizes[0]), max(sizes[1])), samples=options.samples, alone=ALONE)
    for pid, tints in site.tints.items():
        renderer.tint(pid, tints)
    return site, renderer, Truth(renderer, exact=True)


def _render_camera(task: tuple[SiteOptions, CameraPlan, str]) -> int:
    """One camera's video and its records as json, both named by `stem`; returns the camera's id."""
    options, plan, stem = task
    site, renderer, truth = open_site(options)
    film = CameraFilm(site, renderer, truth, plan, options.seed)
    sound = or_sound(options.seed, options.seconds, plan.offset) if plan.sound else None
    writer = VideoWriter(Path(stem + ".mp4"), plan.size, plan.fps, plan.crf, sound)
    frames: list[tuple[int, tuple[PersonRecord, ...]]] = []
    for slot, picture, people in film.film(options.seconds, options.drops):
        writer.write(picture, slot)
        frames.append((slot, people))
        _count()
    writer.close()
    renderer.close()
    pts = read_pts(Path(stem + ".mp4"), len(frames))
    records: list[Json] = []
    for index, ((slot, people), stamp) in enumerate(zip(frames, pts, strict=True)):
        name, t = f"cam{plan.id:02d}/{index:06d}", slot / float(plan.fps) + plan.offset
        records.append(frame_dict(FrameRecord(name, plan.id, index, t, stamp, *plan.size, people)))
    Path(stem + ".json").write_text(json.dumps(records, separators=(",", ":")))
    return plan.id


_counter: list[Any] = []


def _share(counter: Any) -> None:
    """Give a worker process the counter of pictures done."""
    _counter[:] = [counter]


def _count() -> None:
    for counter in _counter:
        with counter.get_lock():
            counter.value += 1


def render_site(options: SiteOptions, out: Path, progress: Progress | None = None) -> Path:
    """Render the site into `out` (cam01.mp4 ..., gt.json or gt.json.gz) and return the ground truth's path.

    Files appear under their final names when all of them are complete.

    Raises:
        OrveilError: OpenGL is missing, or a video does not hold the frames that were written.

    """
    load_mujoco()
    work = out / ".partial"
    shutil.rmtree(work, ignore_errors=True)  # What an interrupted run left, perhaps of other options.
    work.mkdir(parents=True)
    plans = plan_cameras(options)
    stems = [work / f"cam{plan.id:02d}" for plan in plans]
    tasks = [(options, plan, str(stem)) for plan, stem in zip(plans, stems, strict=True)]
    total = sum(plan.pictures(options.seconds, options.drops) for plan in plans)
    context = multiprocessing.get_context("spawn")
    counter = context.Value("i", 0)
    with context.Pool(max(1, min(options.jobs, len(tasks))), _share, (counter,)) as pool:
        result = pool.map_async(_render_camera, tasks, chunksize=1)
        while not result.ready():
            result.wait(1.0)
            if progress is not None:
                progress(counter.value, total)
        result.get()
    frames: list[Json] = []
    for stem in stems:
        frames += json.loads(stem.with_suffix(".json").read_text())
    gt = _ground_truth(options, plans, frames)
    for stem in stems:
        stem.with_suffix(".mp4").replace(out / f"{stem.name}.mp4")
        stem.with_suffix(".json").unlink()
    work.rmdir()
    return _write(gt, out)


def _write(gt: Json, out: Path) -> Path:
    large = len(json.dumps(gt)) > LARGE
    plain, packed = out / "gt.json", out / "gt.json.gz"
    path, other = (packed, plain) if large else (plain, packed)
    if large:
        _whole_pixels(gt)
    other.unlink(missing_ok=True)
    write_gt(gt, path)
    return path


def _whole_pixels(gt: Json) -> None:
    """Round the points of feet, faces and hands, which make up most of a large ground truth."""
    for annotation in gt["annotations"]:
        for part in PARTS:
            if f"{part}_kpts" in annotation:
                annotation[f"{part}_kpts"] = [round(v) for v in annotation[f"{part}_kpts"]]


def _ground_truth(options: SiteOptions, plans: list[CameraPlan], frames: list[Json]) -> Json:
    site = build_site(options)
    cameras = []
    for plan, pinhole in zip(plans, site.pinholes, strict=True):
        warp = Warp(plan.lens, pinhole.focal, plan.size)
        slots = sorted(plan.missing)
        cameras.append(
            {
                **LensCamera(pinhole, warp).describe(),
                "time_offset": plan.offset,
                "fps": float(plan.fps),
                "dropped": {"kind": options.drops, "slots": slots} if slots else None,
            }
        )
    info = {"description": "simulated site", "options": asdict(replace(options, jobs=0))}
    return assemble(frames, info, cameras, site.describe_people())


def parse_offsets(text: str, cameras: int) -> tuple[float, ...] | None:
    """`0,0.1,-0.2` to numbers; `auto` to None (the seed chooses).

    Raises:
        OrveilError: not numbers, or more of them than cameras.

    """
    if text == "auto":
        return None
    try:
        offsets = tuple(float(v) for v in text.split(",") if v.strip())
    except ValueError as error:
        raise OrveilError(
            f"not a list of seconds: {text!r}", where="--offsets", remedy="write 0,0.1,-0.2"
        ) from error
    if len(offsets) > cameras:
        raise OrveilError(
            f"{len(offsets)} offsets for {cameras} cameras", where="--offsets", remedy="give fewer"
        )
    return offsets


def parse_cameras(text: str, cameras: int) -> tuple[int, ...]:
    """`1,3` to (1, 3); `all` to every camera; empty to none.

    Raises:
        OrveilError: a camera that does not exist.

    """
    if text == "all":
        return tuple(range(1, cameras + 1))
    ids = tuple(int(v) for v in text.split(",") if v.strip().isdigit())
    if any(not 1 <= i <= cameras for i in ids) or len(ids) != len([v for v in text.split(",") if v.strip()]):
        raise OrveilError(
            f"no such cameras: {text!r}", where="--audio", remedy=f"write all, or ids from 1 to {cameras}"
        )
    return ids


def main(
    out: Annotated[Path, typer.Option(help="Folder for cam01.mp4 ... and gt.json.")],
    seed: Annotated[int, typer.Option(help="Decides everything.")] = 7,
    cameras: Annotated[int, typer.Option(help="1 to 7.")] = 4,
    people: Annotated[int, typer.Option(help="Staff; a patient is added. 0: nobody at all.")] = 6,
    seconds: Annotated[float, typer.Option(help="Length.")] = 20.0,
    fps: Annotated[float, typer.Option(help="Pictures per second.")] = 10.0,
    width: Annotated[int, typer.Option(help="Pixels.")] = 960,
    height: Annotated[int, typer.Option(help="Pixels.")] = 540,
    domain: Annotated[str, typer.Option(help="or: operating room; source: everyday room.")] = "or",
    layout: Annotated[str, typer.Option(help="wide, partial, narrow or split.")] = "wide",
    distortion: Annotated[bool, typer.Option(help="Lens distortion.")] = False,
    offsets: Annotated[str, typer.Option(help="Clock offsets in seconds, as 0,0.1,-0.2, or auto.")] = "",
    drop: Annotated[str, typer.Option(help="Drop-outs: none, gaps, black or frozen.")] = "none",
    audio: Annotated[str, typer.Option(help="Cameras with sound: 1,3 or all.")] = "",
    mixed: Annotated[bool, typer.Option(help="Other sizes and rates on every second camera.")] = False,
    crf: Annotated[
        int | None, typer.Option(help="H.264 quality; by default each camera has its own.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
    preview: Annotated[
        bool, typer.Option(help="Only write preview.png with the ground truth drawn.")
    ] = False,
) -> None:
    """Render a synthetic operating room seen by several cameras, with ground truth."""
    try:
        options = SiteOptions(
            seed=seed, cameras=cameras, people=people, seconds=seconds, fps=fps, width=width, height=height,
            domain=domain, layout=layout, distortion=distortion, drops=drop,
            offsets=parse_offsets(offsets, cameras), audio=parse_cameras(audio, cameras),
            mixed=mixed, crf=crf, jobs=jobs,
        )  # fmt: skip
        if preview:
            from orveil.sim.preview import render_preview

            print(render_preview(options, out))
            return
        print(render_site(options, out, TimeLeft()))
    except OrveilError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error


class TimeLeft:
    """Prints the share done and the time left, at most every ten seconds."""

    def __init__(self) -> None:
        self.start = self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Report `done` of `total` pictures."""
        now = time.monotonic()
        if done and (now - self.last > 10 or done == total):
            self.last = now
            left = (now - self.start) / done * (total - done)
            print(f"{done}/{total} pictures, {left:.0f} s left", file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
