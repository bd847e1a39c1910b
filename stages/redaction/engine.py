"""Stages: the threads of a redaction: decode -> judge, decode -> sink, with bounded queues."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from orveil.pipeline.decode import Pictures
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.planes import bits_of
from orveil.stages.redaction.clock import Clock
from orveil.stages.redaction.judge import Judge
from orveil.stages.redaction.log import RedactionLog
from orveil.stages.redaction.look import Look
from orveil.stages.redaction.pipes import Crew, Item, Pipe, taken

__all__ = ["frame_bytes", "run_threads"]

Progress = Callable[[int, int, str], None]
QUEUE_BYTES = 8 << 20
"""Frames that wait between two threads take at most about this much: enough to even out unequal frames."""


def frame_bytes(look: Look) -> int:
    """Memory of one upright frame."""
    samples = {"420": 1.5, "422": 2.0, "444": 3.0}[look.pixel_format[3:6]]
    return int(samples * look.size[0] * look.size[1]) * (2 if bits_of(look.pixel_format) > 8 else 1)


def run_threads(
    source: Path, look: Look, judge: Judge, sink: Callable[[Item], None], clock: Clock, log: RedactionLog,
    *, limit: int = 0, progress: Progress | None = None, again: bool = False,
) -> None:  # fmt: skip
    """Take a file through: one thread decodes, the caller's judges, one masks and encodes (`sink`).

    Raises what the first of them raised. A fault of the input is noted in the log instead.

    Args:
        again: items come back from the judge without their frames: decode them a second time.
    """
    crew = Crew()
    size = max(2, min(64, QUEUE_BYTES // frame_bytes(look)))
    decoded, decided = Pipe(size, crew), Pipe(64 if again else size, crew)
    tail: list[str] = []

    def decode() -> None:
        with Pictures(source) as pictures:
            since = time.perf_counter()
            for index, picture in enumerate(pictures):
                if limit and index >= limit:
                    break
                clock.add("start", time.perf_counter() - since)
                with clock.measure("crop"):
                    item = taken(index, picture.pts, picture.frame, look, copy=not again)
                decoded.put(item)
                since = time.perf_counter()
            else:
                tail.append(pictures.tail)
        decoded.put(None)

    def judged() -> None:
        for item in decoded:
            log.frames["in"] += 1
            for done in judge.push(item):
                decided.put(done)
        for done in judge.finish(log.frames["in"]) if not crew.broken.is_set() else ():
            decided.put(done)
        decided.put(None)

    def pour() -> None:
        for item in _with_frames(decided, source, look, clock) if again else decided:
            sink(item)
            if progress and (item.index + 1) % 10 == 0:
                progress(item.index + 1, max(look.frames, item.index + 1), "frames")

    crew.start("decode", decode)
    crew.start("sink", pour)
    crew.guard(judged)
    crew.join()
    if any(tail):
        log.faults.append({"first": log.frames["in"], "last": None, "reason": f"cut off: {tail[0]}"})


def _with_frames(items: Iterable[Item], source: Path, look: Look, clock: Clock) -> Iterator[Item]:
    """Decided items with frames to draw on, decoded in the same order."""
    with Pictures(source) as pictures:
        frames = iter(pictures)
        for item in items:
            since = time.perf_counter()
            picture = next(frames, None)
            if picture is None or picture.pts != item.pts:
                raise OrveilError("the file changed while it was read", where=str(source),
                                  remedy="blur it once nothing writes to it any more")  # fmt: skip
            again = taken(item.index, picture.pts, picture.frame, look)
            item.frame, item.fault = again.frame, item.fault or again.fault
            clock.add("second reading", time.perf_counter() - since)
            yield item
