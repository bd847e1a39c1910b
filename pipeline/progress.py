"""Engine: what a run tells its user: time left per node and overall, on a terminal, in a log, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

__all__ = ["QUIET", "Events", "PlainEvents", "QuietEvents", "RichEvents", "TimeLeft", "make_events"]


class Events(Protocol):
    """What executors report. Calls come from one thread, in order; none may raise."""

    def begin(self, nodes: Mapping[str, str], past: Mapping[str, float]) -> None:
        """A run starts: node name -> stage name in order, and seconds each node took before, if known."""

    def node_started(self, node: str, done: int, total: int) -> None:
        """A node starts with `done` of `total` shards finished by earlier runs."""

    def progress(self, node: str, shard: str, done: int, total: int, unit: str) -> None:
        """A shard has done so much of its work; total 0 where unknown."""

    def shard_finished(self, node: str, shard: str) -> None:
        """A shard is committed."""

    def node_finished(self, node: str, seconds: float, digest: str) -> None:
        """All shards of a node are there; `seconds` of wall time in this run."""

    def end(self) -> None:
        """The run is over, whether well or not."""


class QuietEvents:
    """Says nothing."""

    def begin(self, nodes: Mapping[str, str], past: Mapping[str, float]) -> None:
        """Nothing."""

    def node_started(self, node: str, done: int, total: int) -> None:
        """Nothing."""

    def progress(self, node: str, shard: str, done: int, total: int, unit: str) -> None:
        """Nothing."""

    def shard_finished(self, node: str, shard: str) -> None:
        """Nothing."""

    def node_finished(self, node: str, seconds: float, digest: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


QUIET = QuietEvents()


@dataclass
class _Running:
    begin: float
    reused: int
    total: int
    finished: int = 0
    partial: dict[str, float] = field(default_factory=dict)

    def fraction(self) -> float:
        """Share of this run's work on the node that is done, 0 to 1."""
        work = self.total - self.reused
        return (self.finished + sum(self.partial.values())) / work if work else 1.0


class TimeLeft:
    """Estimates time left from progress so far, from earlier runs, and from other nodes of the same stage."""

    def __init__(
        self,
        nodes: Mapping[str, str],
        past: Mapping[str, float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.nodes, self._past, self._clock = dict(nodes), dict(past), clock
        self.running: dict[str, _Running] = {}
        self.finished: dict[str, float] = {}
        self._worked: dict[str, float] = {}

    def start(self, node: str, done: int, total: int) -> None:
        """A node starts."""
        self.running[node] = _Running(self._clock(), done, total)

    def advance(self, node: str, shard: str, done: int, total: int) -> None:
        """A shard has done a part."""
        if total > 0 and node in self.running:
            self.running[node].partial[shard] = min(max(done / total, 0.0), 1.0)

    def finish_shard(self, node: str, shard: str) -> None:
        """A shard is done."""
        self.running[node].partial.pop(shard, None)
        self.running[node].finished += 1

    def finish(self, node: str, seconds: float) -> None:
        """A node is done."""
        run = self.running.pop(node)
        self.finished[node] = seconds
        if run.reused == 0:  # only a whole node says how long its like will take
            self._worked[node] = seconds

    def node_left(self, node: str) -> float | None:
        """Seconds left of a node, None where nothing is known."""
        run = self.running.get(node)
        if run is None:
            return 0.0 if node in self.finished else self._expected(node)
        elapsed, fraction = self._clock() - run.begin, run.fraction()
        if fraction >= 0.02:
            return elapsed * (1 - fraction) / fraction
        expected = self._expected(node)
        if expected is None:
            return None
        return max(expected * (run.total - run.reused) / max(run.total, 1) - elapsed, 0.0)

    def _expected(self, node: str) -> float | None:
        if node in self._past:
            return self._past[node]
        alike = [s for n, s in self._worked.items() if self.nodes[n] == self.nodes[node]]
        return alike[-1] if alike else None

    def total_left(self) -> float | None:
        """Seconds left of the run; nodes of which nothing is known count as the mean of the known ones."""
        left = [self.node_left(node) for node in self.nodes if node not in self.finished]
        known = [value for value in left if value is not None]
        whole = [s for s in (self._expected(n) for n in self.nodes) if s is not None] or known
        if len(known) == len(left):
            return sum(known)
        return sum(known) + sum(whole) / len(whole) * (len(left) - len(known)) if whole else None


def clock_text(seconds: float | None) -> str:
    """Time left in few letters: "?", "45 s", "3 min 20 s", "2 h 5 min"."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class PlainEvents:
    """One line per node, and one every `every_s` seconds within a long one: for logs and pipes."""

    def __init__(
        self,
        stream: TextIO | None = None,
        every_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._every, self._clock = stream or sys.stderr, every_s, clock
        self._left = TimeLeft({}, {}, clock)
        self._last = 0.0

    def begin(self, nodes: Mapping[str, str], past: Mapping[str, float]) -> None:
        """Start counting."""
        self._left = TimeLeft(nodes, past, self._clock)
        self._last = self._clock()

    def node_started(self, node: str, done: int, total: int) -> None:
        """Announce a node that has work to do."""
        self._left.start(node, done, total)
        if done < total:
            kept = f", {done} of {total} shards done before" if done else ""
            self._say(f"{self._count()} {node}: started{kept}")

    def progress(self, node: str, shard: str, done: int, total: int, unit: str) -> None:
        """Say now and then how far a shard is."""
        self._left.advance(node, shard, done, total)
        if self._clock() - self._last >= self._every:
            of = f" of {total}" if total else ""
            left = clock_text(self._left.node_left(node))
            self._say(
                f"{self._count()} {node} [{shard}]: {done}{of} {unit}, {left} left, "
                f"overall {clock_text(self._left.total_left())}"
            )

    def shard_finished(self, node: str, shard: str) -> None:
        """Count it."""
        self._left.finish_shard(node, shard)

    def node_finished(self, node: str, seconds: float, digest: str) -> None:
        """Say how long it took, or that it was there."""
        reused = self._left.running[node].reused == self._left.running[node].total
        self._left.finish(node, seconds)
        took = "already done" if reused else f"{seconds:.1f} s"
        left = clock_text(self._left.total_left())
        self._say(f"{self._count()} {node}: {took}, {digest[:12]}, overall {left} left")

    def end(self) -> None:
        """Nothing to close."""

    def _count(self) -> str:
        return f"[{len(self._left.finished)}/{len(self._left.nodes)}]"

    def _say(self, line: str) -> None:
        self._last = self._clock()
        print(line, file=self._stream, flush=True)


class RichEvents:
    """Bars on a terminal: one for the run and one for each running node, with time left."""

    def __init__(self, console: Console | None = None) -> None:
        self._left = TimeLeft({}, {})
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console or Console(stderr=True),
            transient=False,
        )
        self._tasks: dict[str, TaskID] = {}
        self._overall: TaskID | None = None

    def begin(self, nodes: Mapping[str, str], past: Mapping[str, float]) -> None:
        """Show the overall bar."""
        self._left = TimeLeft(nodes, past)
        self._overall = self._bars.add_task("all nodes", total=len(nodes), state=f"0/{len(nodes)}", left="")
        self._bars.start()

    def node_started(self, node: str, done: int, total: int) -> None:
        """Show a bar for a node that has work to do."""
        self._left.start(node, done, total)
        if done < total:
            self._tasks[node] = self._bars.add_task(node, total=1.0, state=f"{done}/{total}", left="")

    def progress(self, node: str, shard: str, done: int, total: int, unit: str) -> None:
        """Move the node's bar."""
        self._left.advance(node, shard, done, total)
        self._show(node, f"{shard}: {done}{f'/{total}' if total else ''} {unit}")

    def shard_finished(self, node: str, shard: str) -> None:
        """Move the node's bar by a shard."""
        self._left.finish_shard(node, shard)
        run = self._left.running[node]
        self._show(node, f"{run.reused + run.finished}/{run.total} shards")

    def node_finished(self, node: str, seconds: float, digest: str) -> None:
        """Replace the node's bar by a line."""
        self._left.finish(node, seconds)
        if node in self._tasks:
            self._bars.remove_task(self._tasks.pop(node))
            self._bars.console.print(f"{node}: {seconds:.1f} s", highlight=False)
        self._show_overall()

    def end(self) -> None:
        """Leave the terminal as it was."""
        self._bars.stop()

    def _show(self, node: str, state: str) -> None:
        if node in self._tasks:
            left = clock_text(self._left.node_left(node))
            done = self._left.running[node].fraction()
            self._bars.update(self._tasks[node], completed=done, state=state, left=f"{left} left")
        self._show_overall()

    def _show_overall(self) -> None:
        if self._overall is not None:
            done, total = len(self._left.finished), len(self._left.nodes)
            left = "" if done == total else f"{clock_text(self._left.total_left())} left"
            self._bars.update(self._overall, completed=done, state=f"{done}/{total}", left=left)


def make_events(*, quiet: bool = False, stream: TextIO | None = None) -> Events:
    """Bars on a terminal, plain lines elsewhere, nothing if `quiet`."""
    target = stream or sys.stderr
    if quiet:
        return QUIET
    return RichEvents(Console(file=target)) if target.isatty() else PlainEvents(target)
