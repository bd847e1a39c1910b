"""Renders a whole site: one video per camera and the ground truth.

    python -m orveil.sim.site --seed 7 --cameras 4 --people 6 --seconds 20 --fps 10 --out DIR

The result depends only on the options: not on the number of processes, and the same options give the same
bytes with the same MuJoCo, Mesa and x264.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from orveil.sim.audio import or_sound
from orveil.sim.coco import FrameRecord, Json, PersonRecord, assemble, frame_dict, write_gt
from orveil.sim.lens import LensCamera, Warp
from orveil.sim.maths import Array
from orveil.sim.or_site import Site, or_site
from orveil.sim.post import Sensor
from orveil.sim.render import Frame, Renderer, load_mujoco
from orveil.sim.site_options import CameraPlan, SiteOptions, plan_cameras
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


def open_site(options: SiteOptions) -> tuple[Site, Renderer, Truth]:
    """The site of these options, compiled and ready to draw."""
    site = or_site(options)
    sizes = [c.width for c in site.pinholes], [c.height for c in site.pinholes]
    renderer = Renderer(site.room.scene, (max(sizes[0]), max(sizes[1])), samples=options.samples, alone=ALONE)
    return site, renderer, Truth(renderer, exact=True)


def _render_camera(task: tuple[SiteOptions, CameraPlan, str, str]) -> tuple[int, int]:
    """One camera's video and records, unless both are there already."""
    options, plan, video, part = task
    site, renderer, truth = open_site(options)
    film = CameraFilm(site, renderer, truth, plan, options.seed)
    sound = or_sound(options.seed, options.seconds, plan.offset) if plan.sound else None
    writer = VideoWriter(Path(video), plan.size, plan.fps, plan.crf, sound)
    frames: list[tuple[int, tuple[PersonRecord, ...]]] = []
    for slot, picture, people in film.film(options.seconds, options.drops):
        writer.write(picture, slot)
        frames.append((slot, people))
    writer.close()
    renderer.close()
    pts = read_pts(Path(video), len(frames))
    records: list[Json] = []
    for index, ((slot, people), stamp) in enumerate(zip(frames, pts, strict=True)):
        name, t = f"cam{plan.id:02d}/{index:06d}", slot / float(plan.fps) + plan.offset
        records.append(frame_dict(FrameRecord(name, plan.id, index, t, stamp, *plan.size, people)))
    Path(part).write_text(json.dumps(records, separators=(",", ":")))
    return plan.id, plan.slots(options.seconds)


def render_site(options: SiteOptions, out: Path, progress: Progress | None = None) -> Path:
    """Render the site into `out` (cam01.mp4 ..., gt.json or gt.json.gz) and return the ground truth's path.

    Videos appear under their final names when all of them are complete.

    Raises:
        OrveilError: OpenGL is missing, or a video does not hold the frames that were written.

    """
    load_mujoco()
    out.mkdir(parents=True, exist_ok=True)
    work = out / ".partial"
    work.mkdir(exist_ok=True)
    plans = plan_cameras(options)
    names = [f"cam{plan.id:02d}" for plan in plans]
    tasks = [
        (options, plan, str(work / f"{n}.mp4"), str(work / f"{n}.json"))
        for plan, n in zip(plans, names, strict=True)
    ]
    total = done = 0
    total = sum(plan.slots(options.seconds) for plan in plans)
    context = multiprocessing.get_context("spawn")
    with context.Pool(max(1, min(options.jobs, len(tasks))), maxtasksperchild=1) as pool:
        for _, pictures in pool.imap_unordered(_render_camera, tasks):
            done += pictures
            if progress is not None:
                progress(done, total)
    frames: list[Json] = []
    for n in names:
        frames += json.loads((work / f"{n}.json").read_text())
    gt = _ground_truth(options, plans, frames)
    for n in names:
        (work / f"{n}.mp4").replace(out / f"{n}.mp4")
        (work / f"{n}.json").unlink()
    work.rmdir()
    large = len(json.dumps(gt)) > LARGE
    path = out / ("gt.json.gz" if large else "gt.json")
    (out / ("gt.json" if large else "gt.json.gz")).unlink(missing_ok=True)
    write_gt(gt, path)
    return path


def _ground_truth(options: SiteOptions, plans: list[CameraPlan], frames: list[Json]) -> Json:
    site = or_site(options)
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
    info = {
        "description": "simulated site",
        "options": asdict(replace(options, jobs=0)),
    }
    return assemble(frames, info, cameras, site.describe_people())
