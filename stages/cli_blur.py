"""Command line: what `orveil blur` does; imports no torch, Ray, pydantic or pyarrow."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.pipeline.progress import Events, make_events
from orveil.stages.redact import BlurSettings, RedactionLog, blur_video
from orveil.stages.runtime import Bundle

__all__ = ["BlurSettings", "run_blur"]


@dataclass(frozen=True)
class _Job:
    """One video, where its blurred copy and its log go."""

    source: Path
    video: Path
    log: Path


def run_blur(
    videos: Sequence[Path], bundle: Path, out: Path, settings: BlurSettings, threads: int, quiet: bool
) -> int:
    """Blur videos into `out`; returns the exit status: 0, 1 (frames covered as a whole) or 2 (a failure).

    Raises:
        OrveilError: nothing can be started: wrong bundle, no output folder, two videos of one name.
    """
    return _run(_jobs(videos, out), Bundle.load(bundle), settings, threads, quiet)


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


def _run(jobs: Sequence[_Job], bundle: Bundle, settings: BlurSettings, threads: int, quiet: bool) -> int:
    """Do all jobs; a failing one does not stop the others. Returns the exit status."""
    events = make_events(quiet=quiet)
    events.begin({job.source.name: "blur" for job in jobs}, {})
    results = []
    try:
        for job in jobs:
            results.append(_blur_one(job, bundle, settings, threads, events))
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


def _blur_one(job: _Job, bundle: Bundle, settings: BlurSettings, threads: int, events: Events) -> _Result:
    name, begin = job.source.name, time.perf_counter()
    events.node_started(name, 0, 1)

    def progress(done: int, total: int, unit: str) -> None:
        events.progress(name, "all", done, total, unit)

    said = "failed"
    try:
        log = blur_video(job.source, job.video, bundle, settings, progress, threads=threads)
        log.write(job.log)
        said = f"{log.frames['out']} frames"
        result = _judged(job, log)
    except OrveilError as error:
        result = _Result(2, f"error: {error}")
    except OSError as error:
        result = _Result(2, f"error: {explain_os_error(error, str(job.source))}")
    events.shard_finished(name, "all")
    events.node_finished(name, time.perf_counter() - begin, said)
    return result


def _judged(job: _Job, log: RedactionLog) -> _Result:
    counts = f"{log.frames['out']} frames, {log.frames['with_boxes']} of them with somebody covered"
    if log.complete:
        return _Result(0, f"{job.video}: {counts}")
    first = log.faults[0]
    return _Result(
        1,
        f"warning: {job.source} was not whole: {log.frames['covered']} frames are covered as a whole, first "
        f"frame {first['first']} ({first['reason']}) [{job.video}]\n"
        f"  remedy: look at {job.log}; repair the file or record it again",
    )
