"""Tests: status and explain say what is done, and which change of which node is behind the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from engine_stages import Find, FindParams, Join, JoinParams, ProbeParams, Sum, SumParams, make_graph

from orveil.pipeline.artifact import MANIFEST, Store
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.explain import explain, root_causes, status
from orveil.pipeline.graph import Graph
from orveil.pipeline.kinds import TracksKind
from orveil.pipeline.local import run_local
from orveil.pipeline.stage import Context, Inputs, Shard
from orveil.pipeline.tables import read_tables, write_table
from orveil.pipeline.types import Tracks


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "work")


def causes(graph: Graph, store: Store, node: str) -> list[tuple[str, str, str, str | None, str | None]]:
    return [(n, c.what, c.name, c.old, c.new) for n, c in root_causes(explain(graph, store, node))]


def states(graph: Graph, store: Store) -> dict[str, tuple[str, int, int | None]]:
    return {s.node: (s.state, s.done, s.total) for s in status(graph, store)}


def test_before_the_first_run_the_first_node_is_ready(store: Store) -> None:
    graph = make_graph()
    at = states(graph, store)
    assert at["media"] == ("ready", 0, 1) and at["find_1"] == ("waiting", 0, None)
    assert {s.node: s.waits_for for s in status(graph, store)}["total"] == ("join_1", "join_2")
    told = explain(graph, store, "find_1")
    assert told.compared_node is None and told.changes == ()
    assert not store.root.exists()  # a look makes nothing


def test_after_a_run_all_is_done(store: Store) -> None:
    refs = run_local(make_graph(), store)
    for line in status(make_graph(), store):
        assert (line.state, line.digest) == ("done", refs[line.node].digest)
        assert line.done == line.total and line.seconds > 0 and line.waits_for == ()
    assert causes(make_graph(), store, "total") == []


def test_a_half_done_node_is_partial(store: Store) -> None:
    with pytest.raises(OrveilError):
        run_local(make_graph(fail_at="main/cam1/4-8"), store)
    at = states(make_graph(), store)
    assert at["find_1"] == ("partial", 4, 6) and at["join_1"] == ("waiting", 0, None)


def test_a_changed_parameter_is_found_from_far_downstream(store: Store) -> None:
    run_local(make_graph(), store)
    graph = make_graph(find2=FindParams(scale=3.0))
    expected = [("find_2", "parameter", "scale", "2.0", "3.0")]
    assert causes(graph, store, "total") == causes(graph, store, "find_2") == expected
    assert causes(graph, store, "join_1") == []
    told = explain(graph, store, "join_2")
    assert [(c.what, c.name, c.new) for c in told.changes] == [("input unfinished", "candidates", None)]
    run_local(graph, store)
    # Afterwards the same question is answered against what was there before.
    assert causes(graph, store, "total") == expected
    told = explain(graph, store, "join_2")
    assert told.state == "done" and told.compared_node == "join_2"
    assert [c.what for c in told.changes] == ["input"] and told.changes[0].new is not None


def test_several_causes_are_all_named_once(store: Store) -> None:
    run_local(make_graph(), store)
    graph = make_graph(probe=ProbeParams(cameras=3), join=JoinParams(gap=4), seed=9)
    assert sorted(causes(graph, store, "total")) == [
        ("find_1", "seed", "", "0", "9"),
        ("find_2", "seed", "", "0", "9"),
        ("join_1", "parameter", "gap", "1", "4"),
        ("join_2", "parameter", "gap", "1", "4"),
        ("media", "parameter", "cameras", "2", "3"),
    ]


def test_a_new_version_of_a_stage_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_local(make_graph(), store)
    monkeypatch.setattr(Find, "version", 2)
    assert causes(make_graph(), store, "join_1") == [("find_1", "stage version", "", "1", "2")]


def test_damage_is_named_with_its_folder(store: Store) -> None:
    run_local(make_graph(), store)
    broken = next((store.root / "artifacts" / "join").iterdir())
    (broken / MANIFEST).write_text("{")
    told = [explain(make_graph(), store, name) for name in ("join_1", "join_2")]
    named = [(c.what, c.name) for explanation in told for c in explanation.changes]
    assert named == [("damaged", str(broken))]


def test_inputs_that_come_and_go_are_named(store: Store) -> None:
    graph = make_graph()
    run_local(graph, store)
    fewer = make_graph()
    fewer._nodes.pop("total")
    renamed = {"tracks_1": fewer.node("join_1"), "tracks_x": fewer.node("join_2")}
    fewer.add("total", Sum(*renamed), SumParams(), inputs=renamed)
    assert [(w, n) for _, w, n, _, _ in causes(fewer, store, "total")] == [
        ("input removed", "tracks_2"),
        ("input added", "tracks_x"),
    ]


def test_a_node_that_never_ran_is_compared_with_the_latest_of_its_stage(store: Store) -> None:
    run_local(make_graph(), store)
    graph = make_graph()
    graph.add("find_3", Find(), FindParams(scale=9.0), inputs={"media": graph.node("media")})
    told = explain(graph, store, "find_3")
    assert told.compared_node in ("find_1", "find_2")
    assert [(c.name, c.new) for c in told.changes] == [("scale", "9.0")]


def test_the_last_used_artifact_counts_and_not_the_last_made(store: Store) -> None:
    a, b, c = (make_graph(find=FindParams(scale=s)) for s in (1.0, 1.1, 1.2))
    for graph in (a, b, a):
        run_local(graph, store)
    assert causes(c, store, "find_1") == [("find_1", "parameter", "scale", "1.0", "1.2")]


class Chain(Join):
    """Takes the same tracks twice and passes them on."""

    name: ClassVar[str] = "chain"
    consumes: ClassVar[dict[str, Any]] = {"a": TracksKind, "b": TracksKind}

    def shards(self, params: Any, inputs: Inputs) -> list[Shard]:
        return [Shard()]

    def run(self, params: Any, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        write_table(read_tables(Tracks, inputs["a"].paths()), out)


def test_a_graph_with_very_many_paths_is_explained(store: Store) -> None:
    def long(scale: float) -> Graph:
        graph = make_graph(find=FindParams(scale=scale))
        last = graph.node("join_1")
        for number in range(40):  # following each path of the 2**40 would never end
            last = graph.add(f"c{number}", Chain(), JoinParams(), inputs={"a": last, "b": last})
        return graph

    run_local(long(1.0), store)
    expected = [("find_1", "parameter", "scale", "1.0", "5.0")]
    assert causes(long(5.0), store, "c39") == expected
    run_local(long(5.0), store)
    assert causes(long(5.0), store, "c39") == expected
