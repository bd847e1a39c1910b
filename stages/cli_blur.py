"""Command line of the appliance: `orveil blur` and `orveil export --verify`.

Imports no torch, Ray, pydantic, pyarrow or typer (which needs pydantic).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.pipeline.progress import Events, make_events
from orveil.stages.bundle_check import verify_bundle
from orveil.stages.cli_options import DECISIONS, add_decisions, add_look, add_run_options, number
from orveil.stages.redact import BlurSettings, RedactionLog, blur_video
from orveil.stages.redaction.boxes_file import BoxesFile, BoxSource
from orveil.stages.redaction.clock import timing_table
from orveil.stages.redaction.heap import give_pictures_back
from orveil.stages.redaction.log import CHOICES
from orveil.stages.redaction.look import Look
from orveil.stages.runtime import Bundle, sha256_of

__all__ = ["blur", "export"]


BLUR = """
frames in = frames out. A frame that cannot be decoded or analysed is covered as a whole, noted in NAME.json,
and makes the exit status 1. A video that cannot be blurred at all leaves no file, the others are still done,
and the exit status is 2.

examples:
  orveil blur cam1.mp4 cam2.mp4 --bundle bundle --out blurred --target head
  orveil blur cam1.mp4 --boxes cam1.boxes.json --out blurred
"""


def blur(arguments: Sequence[str]) -> int:
    """Run `orveil blur ARGUMENTS`; returns the exit status.

    Raises:
        OrveilError: nothing can be started: wrong bundle, no output folder, two videos of one name.
    """
    given = _blur_parser().parse_args(arguments)
    give_pictures_back()
    given.roi = tuple(given.roi)
    settings = BlurSettings(**{name: getattr(given, name) for name in BlurSettings.__dataclass_fields__})
    what: Bundle | BoxesFile
    if given.boxes:
        what, settings = _listed(given, settings)
    else:
        what = Bundle.load(given.bundle)
    return _run(_jobs(given.video, given.out), what, settings, given)


def _listed(given: argparse.Namespace, settings: BlurSettings) -> tuple[BoxesFile, BlurSettings]:
    """The boxes file, and settings that add nothing to it.

    Raises:
        OrveilError: a wrong file, several videos, or settings that only an analysis can obey.
    """
    known = BlurSettings()
    vain = [name for name in DECISIONS if getattr(settings, name) != getattr(known, name)]
    if vain or len(given.video) > 1:
        what = f"--{vain[0].replace('_', '-')} decides what is found" if vain else "there are several videos"
        raise OrveilError(
            f"a boxes file covers what it says in one video: {what}", where=str(given.boxes),
            remedy="give this option to `orveil analyse`" if vain else "blur them one by one",
        )  # fmt: skip
    return BoxesFile(given.boxes), replace(settings, margin=0.0, feather=0.0)


def export(arguments: Sequence[str]) -> int:
    """Run `orveil export ARGUMENTS`; returns the exit status.

    Raises:
        OrveilError: the bundle is not whole, or does not detect what it did when it was exported.
    """
    parser = argparse.ArgumentParser(
        "orveil export",
        description="Check a bundle on this machine: its files, and that it still detects what it did when "
        "it was exported. `orveil adapt` makes bundles; run this after copying one to an appliance.",
    )
    parser.add_argument("--verify", metavar="BUNDLE", type=Path, required=True, help="bundle folder to check")
    folder = parser.parse_args(arguments).verify
    for row in verify_bundle(folder):
        print(
            f"{folder}: {row['model']}{' (used)' if row['used'] else ''}, batches of {row['batch']}: right; "
            f"{row['boxes']:.0f} boxes, at most {row['max_box_error_px']:.2g} px and "
            f"{row['max_score_error']:.2g} in score from those of the export"
        )
    return 0


def _blur_parser() -> argparse.ArgumentParser:
    known = BlurSettings()
    parser = argparse.ArgumentParser(
        "orveil blur",
        description="Blur people, heads or faces in videos with an exported bundle; no GPU, no network.",
        epilog=BLUR,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("video", nargs="+", type=Path, help="videos to blur")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--bundle", type=Path, help="bundle folder that `orveil adapt` made")
    how.add_argument("--boxes", type=Path, metavar="BOXES.json",
                     help="cover exactly what this file says (`orveil analyse`)")  # fmt: skip
    add("--out", type=Path, required=True, help="folder for NAME.mp4 and its log NAME.json")
    add_decisions(parser)
    add_look(parser)
    add("--feather", type=number(float, 0, 1), default=known.feather, metavar="SHARE",
        help="share of the margin in which the mask fades in (%(default)s)")  # fmt: skip
    add("--cells", type=number(int, 1), default=known.cells, metavar="N",
        help="averages kept across a region: fewer blur more (%(default)s)")  # fmt: skip
    add("--audio", choices=("keep", "drop"), default=known.audio,
        help="voices identify people too (%(default)s)")  # fmt: skip
    add("--crf", type=number(int, 0, 51), default=known.crf, metavar="N",
        help="H.264 quality, 0 to 51; lower is better and larger (%(default)s)")  # fmt: skip
    add("--preset", default=known.preset, help="of the x264 encoder (%(default)s)")
    add("--codec", choices=CHOICES["codec"], default=known.codec,
        help="H.264 encoder; one that does not work here is replaced by libx264 (%(default)s)")  # fmt: skip
    add("--timings", action="store_true", help="say where the time went, per frame")
    add_run_options(parser)
    return parser


@dataclass(frozen=True)
class _Job:
    """One video, where its blurred copy and its log go."""

    source: Path
    video: Path
    log: Path


def _jobs(videos: Sequence[Path], out: Path) -> list[_Job]:
    """Where each video goes; two of one name would overwrite each other."""
    names: dict[str, Path] = {}
    for video in videos:
        other = names.setdefault(video.stem, video)
        if other is not video:
            raise OrveilError(
                f"two videos would both be written to {video.stem}.mp4",
                where=f"{other} and {video}",
                remedy="blur them in two calls with different --out folders",
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, str(out)) from error
    return [_Job(path, out / f"{name}.mp4", out / f"{name}.json") for name, path in names.items()]


def _run(
    jobs: Sequence[_Job], what: Bundle | BoxesFile, settings: BlurSettings, given: argparse.Namespace
) -> int:
    """Do all jobs; a failing one does not stop the others. Returns the exit status."""
    events = make_events(quiet=given.quiet)
    events.begin({job.source.name: "blur" for job in jobs}, {})
    results = []
    try:
        for job in jobs:
            results.append(_blur_one(job, what, settings, given, events))
    finally:
        events.end()
    for result in results:
        print(result.message, file=sys.stderr if result.status else sys.stdout)
    return max(result.status for result in results)


@dataclass(frozen=True)
class _Result:
    """Exit status of one video (0 right, 1 frames covered as a whole, 2 no output), and what to say."""

    status: int
    message: str


def _blur_one(
    job: _Job, what: Bundle | BoxesFile, settings: BlurSettings, given: argparse.Namespace, events: Events
) -> _Result:
    name, begin = job.source.name, time.perf_counter()
    events.node_started(name, 0, 1)

    def progress(done: int, total: int, unit: str) -> None:
        events.progress(name, "all", done, total, unit)

    said = "failed"
    try:
        bundle, boxes = (what, None) if isinstance(what, Bundle) else (None, _fitting(what, job.source))
        log = blur_video(job.source, job.video, bundle, settings, progress, boxes=boxes,
                         threads=given.threads, timings=given.timings)  # fmt: skip
        log.boxes_file = boxes.boxes.sha256 if boxes else ""
        log.write(job.log)
        said = f"{log.frames['out']} frames"
        result = _judged(job, log, given.timings)
    except OrveilError as error:
        result = _Result(2, f"error: {error}")
    except OSError as error:
        result = _Result(2, f"error: {explain_os_error(error, str(job.source))}")
    events.shard_finished(name, "all")
    events.node_finished(name, time.perf_counter() - begin, said)
    return result


def _fitting(boxes: BoxesFile, video: Path) -> BoxSource:
    size = Look.at(video).size
    boxes.check_video(sha256_of(video), size, str(video))
    return BoxSource(boxes)


def _judged(job: _Job, log: RedactionLog, timings: bool) -> _Result:
    counts = f"{log.frames['out']} frames, {log.frames['with_boxes']} of them with somebody covered"
    said = [f"{job.video}: {counts}", *(f"  {note}" for note in log.notes)]
    if timings:
        said.append(timing_table(log.spread, log.timings["total"], log.input["seconds"], log.frames["out"]))
    if log.complete:
        return _Result(0, "\n".join(said))
    reasons = "; ".join(dict.fromkeys(str(fault["reason"]) for fault in log.faults))
    warning = (
        f"warning: {job.source} was not whole: {log.frames['covered']} frames are covered as a whole, first "
        f"frame {log.faults[0]['first']} ({reasons}) [{job.video}]",
        f"  remedy: look at {job.log}; repair the file or record it again",
    )
    return _Result(1, "\n".join([*warning, *said[1:]]))
