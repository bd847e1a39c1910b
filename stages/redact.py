"""Stages: one video + bundle -> blurred video + redaction log: what the appliance runs.

decode -> detect -> temporal -> mask -> encode, in three threads with bounded queues. It fails closed: frames
in = frames out with the same timestamps; a frame that could not be decoded, or on which the model failed, is
covered as a whole and logged; nothing appears under the output's name before it was verified.
Imports no torch, Ray, pydantic, OpenMMLab or pyarrow.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from orveil.pipeline.decode import REPAIR, Pictures
from orveil.pipeline.encode import Writer, colour_of
from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.pipeline.media import ToArray, rotation_of, upright_size
from orveil.pipeline.planes import bits_of, editable_format, planes_of, upright_copy
from orveil.stages.redaction.log import BlurSettings, Observer, RedactionLog, settings_of
from orveil.stages.redaction.mask import cover_planes, fill_planes, regions_px
from orveil.stages.redaction.temporal import Covered, Temporal
from orveil.stages.runtime import Bundle, ModelError, OnnxDetector, sha256_of

__all__ = ["BlurSettings", "Observer", "RedactionLog", "blur_video"]

Progress = Callable[[int, int, str], None]
QUEUE_BYTES = 128 << 20
"""Decoded frames that wait between two threads take at most about this much."""


def blur_video(
    source: Path,
    target: Path,
    bundle: Bundle,
    params: Any,
    progress: Progress | None = None,
    *,
    observer: Observer | None = None,
    limit: int = 0,
    threads: int = 2,
) -> RedactionLog:
    """Blur one video.

    Args:
        source: video; target: mp4 to write, in a folder that exists.
        bundle: see `runtime.Bundle`.
        params: `BlurSettings`, or anything with its attributes.
        progress: called with (frames done, frames expected or 0, "frames").
        observer: told what was found and covered.
        limit: only the first frames; 0: all.
        threads: of ONNX Runtime and of x264; the result depends on it, keep it fixed.

    Returns:
        The log; `log.complete` is False where a fault made the tool cover whole frames, or the input is cut
        off. The output exists then too, and the caller must exit with a nonzero status.

    Raises:
        OrveilError: nothing could be written; no file is left behind.
    """
    settings = _checked(source, target, params)
    started = time.perf_counter()
    look = _Look.at(source)
    log = RedactionLog(settings, {"sha256": sha256_of(source)}, {"sha256": bundle.sha256, **bundle.files})
    with Writer(
        target, *look.size, look.time_base, pixel_format=look.pixel_format, colour=look.colour,
        aspect=look.aspect, rate=look.rate, crf=settings.crf, preset=settings.preset, threads=threads,
        audio=source if settings.audio == "keep" and look.audio else None,
    ) as writer:  # fmt: skip
        detector = OnnxDetector(bundle, threads)
        _Redaction(settings, look, detector, writer, log, observer or Observer(), progress).run(source, limit)
        log.frames["out"] = len(writer.pts)
        verified = time.perf_counter()
    done = time.perf_counter()
    log.timings |= {"verify": round(done - verified, 3), "total": round(done - started, 3)}
    sound = "none" if not look.audio else "kept" if settings.audio == "keep" else "dropped"
    log.output = {"sha256": sha256_of(target), "width": look.size[0], "height": look.size[1], "audio": sound}
    return log


def _checked(source: Path, target: Path, params: Any) -> BlurSettings:
    if target.suffix.lower() != ".mp4":
        raise OrveilError("the output must be an .mp4 file", where=str(target), remedy="name it NAME.mp4")
    try:
        if target.exists() and source.exists() and target.samefile(source):
            raise OrveilError("the output would replace the input", where=str(target),
                              remedy="write to another name or folder")  # fmt: skip
    except OSError as error:
        raise explain_os_error(error, str(target)) from error
    try:
        return settings_of(params)
    except ValueError as error:
        raise OrveilError(f"wrong blur setting: {error}", remedy="see `orveil blur --help`") from error


@dataclass(frozen=True)
class _Look:
    """What the first sound picture says about a video: the output's form follows from it."""

    size: tuple[int, int]
    decoded: tuple[int, int]
    pixel_format: str
    colour: tuple[int, int, int, int]
    aspect: Any
    time_base: Any
    rate: Any
    audio: bool
    frames: int

    @classmethod
    def at(cls, source: Path) -> _Look:
        with Pictures(source) as pictures:
            first = next((p.frame for p in pictures if p.frame is not None), None)
            if first is None:
                raise OrveilError(
                    "the video holds no picture that can be decoded", where=str(source), remedy=REPAIR
                )
            stream, turned = pictures.stream, rotation_of(first)
            aspect = stream.sample_aspect_ratio
            return cls(
                size=upright_size(first.width, first.height, turned), decoded=(first.width, first.height),
                pixel_format=editable_format(first), colour=colour_of(first),
                aspect=1 / aspect if aspect and turned % 180 else aspect, time_base=pictures.time_base,
                rate=stream.average_rate or 25, audio=bool(pictures.container.streams.audio),
                frames=stream.frames,
            )  # fmt: skip


@dataclass
class _Item:
    """A frame on its way through: `fault` says why it must be covered as a whole."""

    index: int
    pts: int
    frame: av.VideoFrame | None
    fault: str = ""
    covered: Covered | None = None


class _Pipe:
    """A bounded queue between two threads that ends, or breaks, on both sides at once."""

    def __init__(self, size: int, broken: threading.Event) -> None:
        self._queue: queue.Queue[_Item | None] = queue.Queue(size)
        self._broken = broken

    def put(self, item: _Item | None) -> None:
        while not self._broken.is_set():
            try:
                return self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue
        return None

    def __iter__(self) -> Iterator[_Item]:
        while not self._broken.is_set():
            try:
                item = self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
            if item is None:
                return
            yield item


class _Redaction:
    """One run: a thread that decodes, one that masks and encodes, and the caller's, which detects."""

    def __init__(
        self, settings: BlurSettings, look: _Look, detector: OnnxDetector, writer: Writer, log: RedactionLog,
        observer: Observer, progress: Progress | None,
    ) -> None:  # fmt: skip
        self.settings, self.look, self.detector, self.writer = settings, look, detector, writer
        self.log, self.observer, self.progress = log, observer, progress
        self.broken = threading.Event()
        self.error: BaseException | None = None
        size = max(2, min(64, QUEUE_BYTES // (3 * look.size[0] * look.size[1])))
        self.decoded, self.masked = _Pipe(size, self.broken), _Pipe(size, self.broken)
        # The detector's step must fit into the time over which tracks are joined.
        step = settings.every / float(look.rate)
        hold = settings.hold_s if settings.every == 1 else max(settings.hold_s, 1.5 * step)
        self.temporal = Temporal(detector.bundle.thresholds, settings.target, hold)
        self.to_array, self.healthy, self.due = ToArray(), True, True
        self.tail = ""

    def run(self, source: Path, limit: int) -> None:
        """Do it; raises what any of the threads raised."""
        workers = [
            threading.Thread(target=self._guard, args=(self._decode, source, limit), name="decode"),
            threading.Thread(target=self._guard, args=(self._encode,), name="encode"),
        ]
        for worker in workers:
            worker.start()
        try:
            self._detect()
        except BaseException as error:
            self.error = self.error or error
            self.broken.set()
        for worker in workers:
            worker.join()
        if self.error is not None:
            raise self.error
        self.log.longest_gap = self.temporal.longest_gap()
        if self.tail:
            self.log.faults.append(
                {"first": self.log.frames["in"], "last": None, "reason": f"cut off: {self.tail}"}
            )

    def _guard(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:
            self.error = self.error or error
            self.broken.set()

    def _clock(self, name: str, since: float) -> float:
        now = time.perf_counter()
        self.log.timings[name] = round(self.log.timings.get(name, 0.0) + now - since, 6)
        return now

    def _decode(self, source: Path, limit: int) -> None:
        with Pictures(source) as pictures:
            since = time.perf_counter()
            for index, picture in enumerate(pictures):
                if limit and index >= limit:
                    break
                frame = picture.frame
                wrong = frame is not None and (frame.width, frame.height) != self.look.decoded
                fault = "damaged" if frame is None else "another picture size" if wrong else ""
                self._clock("decode", since)
                self.decoded.put(_Item(index, picture.pts, None if wrong else frame, fault))
                since = time.perf_counter()
            else:
                self.tail = pictures.tail
        self.decoded.put(None)

    def _detect(self) -> None:
        waiting: deque[_Item] = deque()
        for item in self.decoded:
            self.log.frames["in"] += 1
            found = self._infer(item)
            if not self.healthy and not item.fault:
                item.fault = "the model failed"
            waiting.append(item)
            self.temporal.push(item.index, float(item.pts * self.look.time_base), found)
            self._pass_on(waiting, end=False)
        self._pass_on(waiting, end=True)
        self.masked.put(None)

    def _pass_on(self, waiting: deque[_Item], end: bool) -> None:
        for covered in self.temporal.ready(end):
            item = waiting.popleft()
            item.covered = covered
            self.masked.put(item)

    def _infer(self, item: _Item) -> dict[str, Any] | None:
        self.due = self.due or item.index % self.settings.every == 0
        if not self.due or item.frame is None:
            return None
        since = time.perf_counter()
        picture = self.to_array(item.frame)
        since = self._clock("prepare", since)
        try:
            [boxes] = self.detector.detect([picture])
        except ModelError:
            self.healthy = False
            return None
        finally:
            self._clock("inference", since)
        self.healthy, self.due = True, False
        self.log.frames["inferred"] += 1
        self.observer.found(item.index, item.pts, boxes)
        names = self.detector.bundle.labels
        rows = {name: boxes.label == number for number, name in enumerate(names)}
        return {name: (boxes.xyxy[mine], boxes.score[mine]) for name, mine in rows.items()}

    def _encode(self) -> None:
        for item in self.masked:
            since = time.perf_counter()
            frame = self._masked(item)
            since = self._clock("mask", since)
            self.writer.write_frame(frame, item.pts)
            self._clock("encode", since)
            if self.progress and (item.index + 1) % 10 == 0:
                self.progress(item.index + 1, max(self.look.frames, item.index + 1), "frames")

    def _masked(self, item: _Item) -> av.VideoFrame:
        bits = bits_of(self.look.pixel_format)
        if item.frame is None or item.fault or item.covered is None:
            frame = av.VideoFrame(*self.look.size, self.look.pixel_format)
            fill_planes(planes_of(frame), bits)
            self.log.fault(item.index, item.fault)
            self.observer.covered(item.index, None)
            return frame
        frame = upright_copy(item.frame, self.look.pixel_format)
        regions = regions_px(item.covered.xyxy, self.settings.margin, *self.look.size)
        cover_planes(planes_of(frame), regions, self.settings.style, self.settings.shape, bits)
        self.log.boxes.update(item.covered.sources)
        self.log.frames["with_boxes"] += bool(len(regions))
        self.observer.covered(item.index, regions)
        return frame
