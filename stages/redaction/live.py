"""Stages: live redaction: what comes in late, damaged or not at all is covered; nothing is shown unmasked.

Three threads: one takes pictures from the source, one searches and masks them, the caller's shows one picture
per tick. A picture is shown `hold_s` after it came, because what is seen next covers what came before. Where
searching is too slow, pictures are dropped before they are searched, and the last masked one stays; where
nothing new comes for `stall_s`, a covered picture is shown.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from orveil.pipeline.planes import bits_of, blank, planes_of
from orveil.stages.redaction.clock import Clock
from orveil.stages.redaction.judge import Judge, make_detecting
from orveil.stages.redaction.live_sink import Sink
from orveil.stages.redaction.live_source import Shot
from orveil.stages.redaction.log import BlurSettings, Observer, RedactionLog
from orveil.stages.redaction.look import Look
from orveil.stages.redaction.mask import fill_planes
from orveil.stages.redaction.paint import Painter
from orveil.stages.redaction.pipes import Crew, Item, taken
from orveil.stages.redaction.search import limits_of
from orveil.stages.runtime import Bundle, OnnxDetector

__all__ = ["TICKS", "Live", "LiveReport", "Source", "live_parts"]

TICKS = Fraction(1, 1_000_000)
"""Live pictures have the time at which they came, in microseconds."""
UNSEARCHED, UNSHOWN = 2, 4
"""Pictures that may wait for the search, and masked ones that may wait to be shown."""
LATELY = 256
"""Latency is told over so many pictures."""


class Source(Protocol):
    """Pictures as they come; see `live_source.LiveSource`."""

    look: Look
    stopped: threading.Event

    def __iter__(self) -> Iterator[Shot]: ...


@dataclass
class LiveReport:
    """Counts of one live run, and how long pictures took from the source to the sink.

    Attributes:
        counts: shown, repeated, covered (whole pictures), dropped (never shown).
        error: of a thread that failed, "" if none.
    """

    counts: Counter[str] = field(default_factory=Counter)
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATELY))
    error: str = ""

    def latency_ms(self) -> tuple[float, float]:
        """Median and 95th percentile over the last pictures."""
        if not self.latencies:
            return 0.0, 0.0
        middle, high = np.percentile(array("d", self.latencies), [50, 95]) * 1e3
        return float(middle), float(high)

    def line(self) -> str:
        """For the console."""
        middle, high = self.latency_ms()
        names = ("shown", "repeated", "covered", "dropped")
        counts = ", ".join(f"{self.counts[name]} {name}" for name in names)
        return f"latency {middle:.0f} ms (95 %: {high:.0f} ms); {counts}"


def live_parts(
    look: Look, bundle: Bundle, settings: BlurSettings, threads: int
) -> tuple[Callable[[], Judge], Painter, RedactionLog]:
    """What a live run needs besides source and sink: makes judges, covers, notes faults.

    Raises:
        OrveilError: the model cannot be loaded, or a region of interest is not inside the picture.
    """
    detector = OnnxDetector(bundle, max(1, threads // 2))
    log, limits = RedactionLog(settings, {}, {}), limits_of(settings.roi, *look.size, look.step)

    def make_judge() -> Judge:
        return make_detecting(look, TICKS, detector, settings, log, Observer(), Clock())

    return make_judge, Painter(settings, look, limits, log, Observer()), log


class Live:
    """One live run.

    Args:
        source, sink: where pictures come from and go to.
        make_judge, painter: say what is covered, and cover it. A judge that fails is replaced by a new one.
        rate: pictures shown per second; stall_s: without a new picture for so long, a covered one is shown.
        late_s: a picture that came longer ago than this is not shown any more.
    """

    def __init__(
        self, source: Source, sink: Sink, make_judge: Callable[[], Judge], painter: Painter, *,
        rate: float, stall_s: float = 0.5, late_s: float = 1.5,
    ) -> None:  # fmt: skip
        self.source, self.sink, self.look, self.painter = source, sink, source.look, painter
        self.make_judge, self.rate, self.stall_s, self.late_s = make_judge, rate, stall_s, late_s
        self.report = LiveReport()
        self._crew = Crew()
        self._change = threading.Condition()
        self._fresh: deque[Item] = deque()
        self._masked: deque[tuple[float, Any, bool]] = deque()
        self._ended, self._done = False, False
        self._begin = time.monotonic()

    def run(self, seconds: float = 0.0, tell: Callable[[LiveReport], None] | None = None) -> LiveReport:
        """Show pictures until the source ends, the viewer stops, or `seconds` are over (0: never).

        Raises:
            OrveilError: the sink failed.
        """
        whole = False
        self._crew.start("live source", self._read)
        self._crew.start("live search", self._work)
        try:
            self._show(seconds, tell)
            whole = True
        finally:
            # A thread that hangs in a network cannot be waited for; what it still gets goes nowhere.
            self._crew.broken.set()
            self.source.stopped.set()
            with self._change:
                self._change.notify_all()
            self.sink.close(whole)
        if self._crew.error is not None:
            self.report.error = f"{type(self._crew.error).__name__}: {self._crew.error}"
        return self.report

    def _going(self) -> bool:
        return not self._crew.broken.is_set()

    def _read(self) -> None:
        try:
            for index, (frame, fault) in enumerate(self.source):
                if not self._going():
                    return
                pts = int((time.monotonic() - self._begin) / TICKS)
                item = taken(index, pts, frame, self.look)
                item.fault = fault or item.fault
                with self._change:
                    if len(self._fresh) >= UNSEARCHED:
                        self._fresh.popleft()
                        self.report.counts["dropped"] += 1
                    self._fresh.append(item)
                    self._change.notify_all()
        finally:
            with self._change:
                self._ended = True
                self._change.notify_all()

    def _next(self) -> Item | None:
        with self._change:
            while self._going() and not self._fresh and not self._ended:
                self._change.wait(0.2)
            return self._fresh.popleft() if self._fresh and self._going() else None

    def _work(self) -> None:
        count, judge = 0, self.make_judge()
        try:
            while (item := self._next()) is not None:
                item.index, count = count, count + 1  # pictures that were dropped do not count
                try:
                    decided = list(judge.push(item))
                except Exception as error:  # what it kept back is never shown
                    item.fault, decided, judge = f"{type(error).__name__}: {error}", [item], self.make_judge()
                self._hand_on(decided)
            self._hand_on(list(judge.finish(count)))
        finally:
            self._done = True

    def _hand_on(self, decided: list[Item]) -> None:
        for item in decided:
            covered = bool(item.fault) or item.frame is None
            try:
                frame = self.painter(item)
            except Exception as error:
                frame, covered = self._black(), True
                self.painter.log.fault(item.index, f"{type(error).__name__}: {error}")
            self._queue(item, frame, covered)

    def _queue(self, item: Item, frame: Any, covered: bool) -> None:
        with self._change:
            self._masked.append((float(item.pts * TICKS) + self._begin, frame, covered))
            while len(self._masked) > UNSHOWN:
                self._masked.popleft()
                self.report.counts["dropped"] += 1

    def _show(self, seconds: float, tell: Callable[[LiveReport], None] | None) -> None:
        last, last_time, tick = self._black(), -1e9, 0
        begin = time.monotonic()
        while not (seconds and tick >= seconds * self.rate):
            time.sleep(max(0.0, begin + tick / self.rate - time.monotonic()))
            entry, now = self._newest(), time.monotonic()
            if entry is not None:
                came, last, covered = entry
                last_time = now
                self.report.latencies.append(now - came)
                self.report.counts["covered" if covered else "shown"] += 1
            elif self._done:
                return
            elif now - last_time > self.stall_s:
                last = self._black()
                self.report.counts["covered"] += 1
            else:
                self.report.counts["repeated"] += 1
            if not self.sink.show(last, tick):
                return
            tick += 1
            if tell and tick % max(1, round(self.rate)) == 0:
                tell(self.report)

    def _newest(self) -> tuple[float, Any, bool] | None:
        """The next masked picture that is not too late."""
        with self._change:
            while self._masked:
                entry = self._masked.popleft()
                if time.monotonic() - entry[0] <= self.late_s:
                    return entry
                self.report.counts["dropped"] += 1
        return None

    def _black(self) -> Any:
        frame = blank(*self.look.size, self.look.pixel_format)
        fill_planes(planes_of(frame), bits_of(self.look.pixel_format))
        return frame
