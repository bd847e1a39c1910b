"""Tests: time left, and what a log, a terminal and a quiet run show."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from orveil.pipeline.progress import (
    QUIET,
    PlainEvents,
    QuietEvents,
    RichEvents,
    TimeLeft,
    clock_text,
    make_events,
)  # fmt: skip

NODES = {"media": "ingest", "find_1": "detect", "find_2": "detect", "report": "report"}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_known_at_first() -> None:
    left = TimeLeft(NODES, {}, Clock())
    assert left.node_left("find_1") is None and left.total_left() is None
    left.start("find_1", 0, 4)
    assert left.node_left("find_1") is None


def test_a_node_is_extrapolated_from_its_shards_and_parts_of_them() -> None:
    clock = Clock()
    left = TimeLeft(NODES, {}, clock)
    left.start("find_1", 0, 4)
    clock.now = 10
    left.finish_shard("find_1", "a")
    assert left.node_left("find_1") == pytest.approx(30)
    left.advance("find_1", "b", 50, 100)
    assert left.node_left("find_1") == pytest.approx(10 / 0.375 * 0.625)
    left.advance("find_1", "b", 5, 0)  # a shard that does not know its total changes nothing
    assert left.node_left("find_1") == pytest.approx(10 / 0.375 * 0.625)


def test_shards_of_earlier_runs_do_not_make_it_look_fast() -> None:
    clock = Clock()
    left = TimeLeft(NODES, {"find_1": 100.0}, clock)
    left.start("find_1", 8, 10)
    assert left.node_left("find_1") == pytest.approx(20)
    clock.now = 5
    left.finish_shard("find_1", "i")
    assert left.node_left("find_1") == pytest.approx(5)


def test_other_nodes_of_the_stage_and_earlier_runs_fill_in() -> None:
    clock = Clock()
    left = TimeLeft(NODES, {"report": 7.0}, clock)
    left.start("media", 0, 1)
    left.finish_shard("media", "all")
    left.finish("media", 2.0)
    left.start("find_1", 0, 1)
    clock.now = 40
    left.finish_shard("find_1", "all")
    left.finish("find_1", 40.0)
    assert left.node_left("find_2") == 40 and left.node_left("report") == 7
    assert left.node_left("media") == 0 and left.total_left() == 47


def test_nodes_of_which_nothing_is_known_count_as_the_mean() -> None:
    left = TimeLeft(NODES, {"media": 10.0, "find_1": 20.0}, Clock())
    assert left.total_left() == pytest.approx(10 + 20 + 2 * 15)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0.2, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_times_are_short(seconds: float | None, text: str) -> None:
    assert clock_text(seconds) == text


def play(events: QuietEvents | PlainEvents | RichEvents, clock: Clock) -> None:
    events.begin({"media": "ingest", "find": "detect"}, {})
    events.node_started("media", 1, 1)
    events.node_finished("media", 0.0, "a" * 64)
    events.node_started("find", 1, 3)
    clock.now += 40
    events.progress("find", "main/cam0", 50, 100, "frames")
    clock.now += 1
    events.progress("find", "main/cam0", 60, 100, "frames")
    events.shard_finished("find", "main/cam0")
    events.shard_finished("find", "main/cam1")
    events.node_finished("find", 99.0, "b" * 64)
    events.end()


def test_a_log_gets_a_line_per_node_and_now_and_then_one_within() -> None:
    clock, stream = Clock(), io.StringIO()
    play(PlainEvents(stream, every_s=30, clock=clock), clock)
    assert stream.getvalue().splitlines() == [
        "[0/2] media: already done, aaaaaaaaaaaa, overall ? left".replace("0/2", "1/2"),
        "[1/2] find: started, 1 of 3 shards done before",
        "[1/2] find [main/cam0]: 50 of 100 frames, 2 min 0 s left, overall 2 min 0 s",
        "[2/2] find: 99.0 s, bbbbbbbbbbbb, overall 0 s left",
    ]


def test_a_terminal_gets_bars() -> None:
    stream = io.StringIO()
    play(RichEvents(Console(file=stream, force_terminal=True, width=120)), Clock())
    shown = stream.getvalue()
    assert "find: 99.0 s" in shown and "all nodes" in shown and "2/2" in shown


def test_the_right_kind_is_chosen() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert make_events(quiet=True, stream=Terminal()) is QUIET
    assert isinstance(make_events(stream=Terminal()), RichEvents)
    assert isinstance(make_events(stream=io.StringIO()), PlainEvents)
    play(QuietEvents(), Clock())
