"""Stages: frames on their way through a redaction, and the threads they pass between."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from orveil.pipeline.planes import upright_copy
from orveil.stages.redaction.look import Look
from orveil.stages.redaction.temporal import Covered

__all__ = ["Crew", "Item", "Pipe", "taken"]


@dataclass
class Item:
    """A frame on its way through.

    Attributes:
        index, pts: position in presentation order from 0, and ticks of the stream's time base.
        frame: upright, planar YUV, writable; None where it could not be decoded.
        fault: why it must be covered as a whole, "" if it need not.
        covered: what is to be covered, once that is known.
    """

    index: int
    pts: int
    frame: Any
    fault: str = ""
    covered: Covered | None = None


def taken(index: int, pts: int, frame: Any, look: Look, copy: bool = True) -> Item:
    """A decoded picture (None where damaged) as an item: upright, or the reason why not.

    Args:
        copy: the item's frame is its own, to draw on; else it may be the decoder's, to be read only.
    """
    if frame is None:
        return Item(index, pts, None, "damaged")
    if (frame.width, frame.height) != look.decoded:
        return Item(index, pts, None, "another picture size")
    if not copy and frame.format.name == look.pixel_format and not look.rotation:
        return Item(index, pts, frame)
    # The decoder still refers to its frames: masks are drawn on copies.
    return Item(index, pts, upright_copy(frame, look.pixel_format))


class Crew:
    """The threads of one run: where one fails, all end, and the caller gets its error."""

    def __init__(self) -> None:
        self.broken = threading.Event()
        self.error: BaseException | None = None
        self._workers: list[threading.Thread] = []

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Run `work` in a thread."""
        worker = threading.Thread(target=self.guard, args=(work,), name=name)
        self._workers.append(worker)
        worker.start()

    def guard(self, work: Callable[[], None]) -> None:
        """Run `work` here; its error breaks the crew."""
        try:
            work()
        except BaseException as error:
            self.error = self.error or error
            self.broken.set()

    def join(self) -> None:
        """Wait for all; raises what the first of them raised."""
        for worker in self._workers:
            worker.join()
        if self.error is not None:
            raise self.error


class Pipe:
    """A bounded queue between two threads of a crew, so that the faster one waits."""

    def __init__(self, size: int, crew: Crew) -> None:
        self._queue: queue.Queue[Item | None] = queue.Queue(size)
        self._crew = crew

    def put(self, item: Item | None) -> None:
        """Hand on an item, None after the last; waits for room."""
        while not self._crew.broken.is_set():
            try:
                return self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue
        return None

    def __iter__(self) -> Iterator[Item]:
        while not self._crew.broken.is_set():
            try:
                item = self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
            if item is None:
                return
            yield item
