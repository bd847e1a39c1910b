"""Stages: one video + bundle -> blurred video + redaction log: what the appliance runs.

decode -> detect -> temporal, and, some time behind, decode -> mask -> encode, in threads with bounded queues;
the parts are in `redaction/`. Reading a file twice costs less than keeping the pictures in between.
It fails closed: frames in = frames out with the same timestamps; a frame that could not be decoded, or on
which the model failed, is covered as a whole and logged; nothing appears under the output's name before it
was verified. Imports no torch, Ray, pydantic, OpenMMLab or pyarrow.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orveil.pipeline.codecs import choose_encoder
from orveil.pipeline.encode import Writer
from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.stages.redaction.clock import Clock
from orveil.stages.redaction.engine import run_threads
from orveil.stages.redaction.judge import BoxSource, Given, Judge, make_detecting
from orveil.stages.redaction.log import BlurSettings, Observer, RedactionLog, settings_of
from orveil.stages.redaction.look import Look
from orveil.stages.redaction.paint import Painter
from orveil.stages.redaction.pipes import Item
from orveil.stages.redaction.profile import ProfiledDetector
from orveil.stages.redaction.search import limits_of
from orveil.stages.runtime import Bundle, OnnxDetector, sha256_of

__all__ = ["BlurSettings", "BoxSource", "Observer", "RedactionLog", "analyse_video", "blur_video"]

Progress = Callable[[int, int, str], None]
AHEAD_S = 20.0
"""A file is searched so far ahead of the frame that is masked: who is found once is covered before, too."""


def blur_video(
    source: Path,
    target: Path,
    bundle: Bundle | None,
    params: Any,
    progress: Progress | None = None,
    *,
    boxes: BoxSource | None = None,
    observer: Observer | None = None,
    limit: int = 0,
    threads: int = 2,
    timings: bool = False,
) -> RedactionLog:
    """Blur one video.

    Args:
        source: video; target: mp4 to write, in a folder that exists.
        bundle: see `runtime.Bundle`; not needed where `boxes` are given.
        params: `BlurSettings`, or anything with its attributes.
        progress: called with (frames done, frames expected or 0, "frames").
        boxes: covers exactly these, without detector, tracks and margin.
        observer: told what was found and covered.
        limit: only the first frames; 0: all.
        threads: of x264, and twice those of ONNX Runtime; the result depends on it, keep it fixed.
        timings: note median and 95th percentile of every section too.

    Returns:
        The log; `log.complete` is False where a fault made the tool cover whole frames, or the input is cut
        off. The output exists then too, and the caller must exit with a nonzero status.

    Raises:
        OrveilError: nothing could be written; no file is left behind.
    """
    settings = _settings(params)
    _check_target(source, target)
    started = time.perf_counter()
    look, clock, observer = Look.at(source), Clock(timings), observer or Observer()
    limits = limits_of(settings.roi, *look.size, look.step)
    log = _new_log(source, look, settings, bundle)
    encoder = choose_encoder(settings.codec, *look.size, look.pixel_format)
    with Writer(
        target, *look.size, look.time_base, pixel_format=look.pixel_format, colour=look.colour,
        aspect=look.aspect, rate=look.rate, crf=settings.crf, preset=settings.preset, threads=threads,
        audio=source if settings.audio == "keep" and look.audio else None, codec=encoder.name,
    ) as writer:  # fmt: skip
        judge = _judge(look, bundle, settings, boxes, log, observer, clock, threads)
        paint = Painter(settings, look, limits, log, observer, exact=boxes is not None)

        def sink(item: Item) -> None:
            with clock.measure("blur"):
                frame = paint(item)
            with clock.measure("save"):
                writer.write_frame(frame, item.pts)

        run_threads(
            source, look, judge, sink, clock, log, limit=limit, progress=progress, again=boxes is None
        )
        log.frames["out"] = len(writer.pts)
        log.input["seconds"] = round(writer.seconds, 6)
        verified = time.perf_counter()
    clock.add("verify", time.perf_counter() - verified)
    clock.add("total", time.perf_counter() - started)
    log.timings, log.spread = clock.seconds(), clock.spread()
    log.notes.append(str(encoder))
    sound = "none" if not look.audio else "kept" if settings.audio == "keep" else "dropped"
    log.output = {"sha256": sha256_of(target), "width": look.size[0], "height": look.size[1], "audio": sound,
                  "encoder": encoder.name}  # fmt: skip
    return log


def analyse_video(
    source: Path,
    bundle: Bundle,
    params: Any,
    observer: Observer,
    progress: Progress | None = None,
    *,
    limit: int = 0,
    threads: int = 2,
) -> RedactionLog:
    """As `blur_video` with all its decisions (`observer.decided`), but writes no video."""
    settings = _settings(params)
    started = time.perf_counter()
    look, clock = Look.at(source), Clock()
    log = _new_log(source, look, settings, bundle)
    judge = _judge(look, bundle, settings, None, log, observer, clock, threads)

    def sink(item: Item) -> None:
        covered = None if item.fault else item.covered
        if covered is None:
            log.fault(item.index, item.fault)
        else:
            log.cover(covered, len(covered.xyxy))
        observer.decided(item.index, item.pts, covered, item.fault)

    run_threads(source, look, judge, sink, clock, log, limit=limit, progress=progress)
    clock.add("total", time.perf_counter() - started)
    log.timings = clock.seconds()
    return log


def _settings(params: Any) -> BlurSettings:
    try:
        return settings_of(params)
    except ValueError as error:
        raise OrveilError(f"wrong blur setting: {error}", remedy="see `orveil blur --help`") from error


def _check_target(source: Path, target: Path) -> None:
    if target.suffix.lower() != ".mp4":
        raise OrveilError("the output must be an .mp4 file", where=str(target), remedy="name it NAME.mp4")
    try:
        if target.exists() and source.exists() and target.samefile(source):
            raise OrveilError("the output would replace the input", where=str(target),
                              remedy="write to another name or folder")  # fmt: skip
    except OSError as error:
        raise explain_os_error(error, str(target)) from error


def _new_log(source: Path, look: Look, settings: BlurSettings, bundle: Bundle | None) -> RedactionLog:
    given = {"sha256": sha256_of(source), "rotation": look.rotation, "interlaced": look.interlaced}
    model = {"sha256": bundle.sha256, **bundle.files} if bundle else {}
    log = RedactionLog(settings, given, model)
    if look.interlaced:
        log.notes.append("the input is interlaced: moving edges are combs, in the output too")
    return log


def _judge(
    look: Look, bundle: Bundle | None, settings: BlurSettings, boxes: BoxSource | None, log: RedactionLog,
    observer: Observer, clock: Clock, threads: int,
) -> Judge:  # fmt: skip
    if boxes is not None:
        return Given(boxes)
    if bundle is None:
        raise OrveilError("nothing says what to cover", remedy="give a bundle, or a list of boxes")
    cores = max(1, threads // 2)
    detector = again = OnnxDetector(bundle, cores)
    if clock.single is not None:  # second looks are no frame's time
        detector = ProfiledDetector(bundle, cores, clock)
    return make_detecting(
        look, look.time_base, detector, settings, log, observer, clock, again=again, ahead_s=AHEAD_S
    )
