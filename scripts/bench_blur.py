#!/usr/bin/env python
"""Benchmark of the redaction path, side by side with deface in one run.

    scripts/bench_blur.py --bundle demo-out/work/results/bundle --work bench-out
    scripts/bench_blur.py --quick                     a look in about a minute, once rooms are rendered
    scripts/bench_blur.py --hour                      memory over an hour of looped input

Speed: whole commands on the same 1920x1080 clip at 30 fps, two cores, the same x264 preset, in turns,
medians. Recall, precision and exposure: simulated rooms with ground truth (scripts/setup_sim), which the
student was not adapted to. Rooms, deface's environment and detections are kept in --work. Figures are printed
as Markdown and written to --work/bench.json. Needs a package registry for deface on first use.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import bench_blur_faces as faces
import bench_blur_speed as speed
import numpy as np
from bench_blur_data import CLIP_SECONDS, CLIP_SEED, Site, looped, open_site, render, shrunk, speed_clip

from orveil.stages.redaction.kernels import KERNELS
from orveil.stages.runtime import Bundle

SIZE, FPS = (960, 540), 10
HOUR_SIZE = 480, 270
"""Small pictures, so that an hour of them takes minutes."""
ORDER = ("none", "faceoff3", "faceoff5", "faceoff7", "tracks")
Methods = list[tuple[Site, faces.Method]]
"""What one method gives, site by site."""


def main() -> int:
    """Measure what was asked for and print it."""
    options = _options()
    if options.floor:
        speed.floor(*options.floor)
        return 0
    options.work.mkdir(parents=True, exist_ok=True)
    work, bundle = options.work.resolve(), Bundle.load(options.bundle)
    known = work / "bench.json"
    result: dict[str, Any] = {"bundle": bundle.sha256, "long_side": bundle.long_side}
    if known.exists():  # parts that were measured before, with the same student
        before = json.loads(known.read_text("utf-8"))
        result = before if before.get("bundle") == bundle.sha256 else result
    print(f"student of {options.bundle}, {bundle.long_side} px\n")
    if options.hour:
        result["hour"] = _hour(work, options)
    if "speed" in options.parts:
        result["speed"] = _speed(work, options)
    if "faces" in options.parts:
        result |= _faces(work, bundle, options)
    known.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("demo-out/work/results/bundle"))
    parser.add_argument("--work", type=Path, default=Path("bench-out"), help="kept between runs")
    parser.add_argument("--parts", nargs="*", default=["speed", "faces"], choices=["speed", "faces"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[920, 921, 922, 923, 924])
    parser.add_argument("--seconds", type=float, default=10.0, help="per room and camera")
    parser.add_argument(
        "--every", nargs="+", type=int, default=[1, 2, 3, 5], help="detector on every n-th frame"
    )
    parser.add_argument("--adapted", type=Path, default=Path(__file__).parent.parent / "sim" / "embedded",
                        help="the room that the student was adapted to, with gt.json")  # fmt: skip
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one room, one turn, 60 frames")
    parser.add_argument("--hour", action="store_true", help="an hour of looped input, memory only")
    parser.add_argument("--hour-s", type=float, default=3600.0, help=argparse.SUPPRESS)
    parser.add_argument("--floor", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.turns = options.seeds[:1], 1
    if options.hour:
        options.parts = []
    return options


def _speed(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    frames = 60 if options.quick else 300
    clip = speed_clip(work, frames)
    jobs = speed.commands(clip, options.bundle, work, options.every)
    runs = speed.side_by_side(jobs, options.turns)
    print(f"\n{speed.table(runs, frames, 30)}\n", flush=True)
    return {
        name: {"seconds": run.seconds, "cpu": run.cpu, "peak_mb": max(run.megabytes)}
        for name, run in runs.items()
    }


def _hour(work: Path, options: argparse.Namespace) -> dict[str, float]:
    room = render(work, options.seeds[0], 4, options.seconds, FPS, SIZE)
    small = shrunk(room / "cam01.mp4", work / "shrunk.mp4", HOUR_SIZE)
    video = looped(small, work / f"looped-{HOUR_SIZE[0]}px-{options.hour_s:g}s.mp4", options.hour_s)
    words = speed.commands(video, options.bundle, work, [FPS // 2])[f"orveil --every {FPS // 2}"]
    figures = speed.long_run(words, 60.0 * min(1.0, options.hour_s / 3600))
    print(
        f"{options.hour_s:g} s of video in {figures['seconds']:.0f} s: {figures['at_minute_mb']:.0f} MB "
        f"after a minute, at most {figures['most_mb']:.0f} MB later (+{figures['growth_mb']:.1f} MB)\n"
    )
    return figures


def _faces(work: Path, bundle: Bundle, options: argparse.Namespace) -> dict[str, Any]:
    sites = [open_site(render(work, seed, 4, options.seconds, FPS, SIZE)) for seed in options.seeds]
    raw = {site.name: faces.student_boxes(work, site, bundle) for site in sites}

    def student(kernel: str) -> Methods:
        return [(s, faces.over_time(raw[s.name], bundle, FPS, kernel)) for s in sites]

    def orveil(every: int = 1) -> Methods:
        return [(s, faces.analysed(s, bundle, every)) for s in sites]

    def rival(scale: str, as_masked: bool) -> Methods:
        return [(s, faces.deface(work, s, scale, as_masked)) for s in sites]

    named: dict[str, Methods] = {
        "student alone": [(s, faces.detector_alone(raw[s.name], bundle)) for s in sites],
        "orveil without second looks": student("tracks"),
        "orveil": orveil(),
        "deface": rival("", as_masked=False),
        "deface, mask's box": rival("", as_masked=True),
        "deface --scale 640x360": rival("640x360", as_masked=False),
        "deface --scale 640x360, mask's box": rival("640x360", as_masked=True),
    }
    print(f"\nRooms {options.seeds}, {FPS} fps, heads at IoU {faces.HEAD_IOU}:\n\n{HEADINGS}")
    result: dict[str, Any] = {"heads": {name: _row(name, methods) for name, methods in named.items()}}
    print(f"\nDetector on every k-th frame, {FPS} fps:\n\n{HEADINGS}")
    result["every"] = {str(k): _row(f"k = {k}", orveil(k)) for k in options.every}
    if not options.quick:
        result["every_30fps"] = _at_30_fps(work, bundle, options)
        result["adapted"] = _adapted(work, bundle, options.adapted)
    kernels = {kernel: student(kernel) for kernel in sorted(KERNELS, key=ORDER.index)}
    result["kernels"] = _kernel_table(kernels)
    print(f"\n{HEADINGS}")
    result["kernel_exposure"] = {name: _row(name, methods) for name, methods in kernels.items()}
    result["kernel_exposure"]["tracks and second looks"] = _row("tracks and second looks", named["orveil"])
    return result


def _at_30_fps(work: Path, bundle: Bundle, options: argparse.Namespace) -> dict[str, Any]:
    """The same on the clip that speed is measured with."""
    site = open_site(render(work, CLIP_SEED, 1, CLIP_SECONDS, 30, (1920, 1080)))
    print(f"\nDetector on every k-th frame, 30 fps, one camera of {CLIP_SECONDS} s:\n\n{HEADINGS}")
    return {str(k): _row(f"k = {k}", [(site, faces.analysed(site, bundle, k))]) for k in options.every}


def _adapted(work: Path, bundle: Bundle, folder: Path) -> dict[str, Any]:
    """The room that the student was adapted to, without labels."""
    site = open_site(folder)
    raw = faces.student_boxes(work, site, bundle)
    print(f"\nThe room that the student was adapted to ({folder.name}), {FPS} fps:\n\n{HEADINGS}")
    return {
        "student alone": _row("student alone", [(site, faces.detector_alone(raw, bundle))]),
        "orveil": _row("orveil", [(site, faces.analysed(site, bundle))]),
    }


HEADINGS = (
    "| | head recall | precision | coverage of face pixels | longest exposure, frames | the same, faces over "
    f"{faces.LARGE_PX} px | of the picture covered |\n|---|---|---|---|---|---|---|"
)


def _row(name: str, methods: Methods) -> dict[str, Any]:
    counts = np.sum([faces.head_counts(site, method, faces.HEAD_IOU) for site, method in methods], axis=0)
    shown = faces.exposure(methods)
    recall, precision = _share(counts[0], counts[1]), _share(counts[2], counts[3])
    cells = []
    for figures in (shown["all"], shown["large"]):
        longest = figures["longest_exposure"] or {"frames": 0}
        cells += [f"{100 * (figures['coverage'] or 0):.2f}", str(longest["frames"])]
    print(f"| {name} | {100 * recall:.1f} | {100 * precision:.1f} | {cells[0]} | {cells[1]} | "
          f"{cells[2]} / {cells[3]} | {100 * shown['picture']:.1f} |", flush=True)  # fmt: skip
    return {"recall": recall, "precision": precision, "heads": int(counts[1]), "exposure": shown}


def _kernel_table(kernels: dict[str, Methods]) -> dict[str, Any]:
    """Precision, recall and F1 by IoU, as in FaceOff's table."""
    result: dict[str, Any] = {}
    print("\nHeads, precision / recall / F1 by IoU:\n")
    print("| kernel | " + " | ".join(f"{iou:g}" for iou in faces.IOUS) + " |")
    print("|---" * (len(faces.IOUS) + 1) + "|")
    for kernel, methods in kernels.items():
        rows = [_f1(methods, iou) for iou in faces.IOUS]
        result[kernel] = {f"{iou:g}": row for iou, row in zip(faces.IOUS, rows, strict=True)}
        cells = " | ".join("/".join(f"{100 * v:.0f}" for v in row) for row in rows)
        print(f"| {kernel} | {cells} |", flush=True)
    return result


def _f1(methods: Methods, iou: float) -> tuple[float, float, float]:
    counts = np.sum([faces.head_counts(site, method, iou) for site, method in methods], axis=0)
    recall, precision = _share(counts[0], counts[1]), _share(counts[2], counts[3])
    return precision, recall, _share(2 * precision * recall, precision + recall)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


if __name__ == "__main__":
    sys.exit(main())
