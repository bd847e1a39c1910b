"""Tests: what a graph refuses before anything runs."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from engine_stages import Find, FindParams, Join, JoinParams, Probe, ProbeParams, Sum, SumParams, make_graph

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.graph import Graph
from orveil.pipeline.settings import Params


def refused(what: str, node: str) -> Any:
    """Expect an error that says `what` and names the node."""
    return pytest.raises(OrveilError, match=rf"(?s){what}.*node {node}")


def test_nodes_keep_their_order_and_wiring() -> None:
    graph = make_graph()
    assert [n.name for n in graph] == ["media", "find_1", "join_1", "find_2", "join_2", "total"]
    assert len(graph) == 6 and graph.node("join_2").inputs == {"media": "media", "candidates": "find_2"}


def test_an_unknown_node_is_answered_with_the_names() -> None:
    with pytest.raises(OrveilError, match=r"no node nothing.*\n.*find_1, join_1"):
        make_graph().node("nothing")


def test_a_part_of_a_graph_has_what_it_needs_and_nothing_else() -> None:
    graph = make_graph()
    part = graph.upto("join_1", "find_2")
    assert [n.name for n in part] == ["media", "find_1", "join_1", "find_2"]
    assert part.node("join_1") is graph.node("join_1") and len(graph) == 6
    with pytest.raises(OrveilError, match="no node nothing"):
        graph.upto("nothing")


def test_wrong_names_are_refused() -> None:
    graph = Graph()
    graph.add("media", Probe(), ProbeParams())
    with refused("two nodes of this name", "media"):
        graph.add("media", Probe(), ProbeParams())
    for name in ("", "a b", "../a", "a/b", ".a"):
        with pytest.raises(OrveilError, match="node name"):
            graph.add(name, Probe(), ProbeParams())


def test_inputs_must_be_exactly_the_declared_ones() -> None:
    graph = Graph()
    media = graph.add("media", Probe(), ProbeParams())
    with refused(r"input `media` \(media\) is not connected", "found"):
        graph.add("found", Find(), FindParams())
    with refused(r"has no input `extra` \(it has: media\)", "found"):
        graph.add("found", Find(), FindParams(), inputs={"media": media, "extra": media})
    with refused("has no input `media` \\(it has: none\\)", "again"):
        graph.add("again", Probe(), ProbeParams(), inputs={"media": media})
    assert len(graph) == 1


def test_kinds_must_match() -> None:
    graph = Graph()
    media = graph.add("media", Probe(), ProbeParams())
    with refused("input `candidates` must be detections, but media makes media", "joined"):
        graph.add("joined", Join(), JoinParams(), inputs={"media": media, "candidates": media})


def test_an_input_of_another_graph_is_refused() -> None:
    stranger = Graph().add("media", Probe(), ProbeParams())
    graph = Graph()
    with refused("comes from media, which is not in this graph", "found"):
        graph.add("found", Find(), FindParams(), inputs={"media": stranger})
    graph.add("media", Probe(), ProbeParams())
    with refused("comes from media, which is not in this graph", "found"):  # the same name, another node
        graph.add("found", Find(), FindParams(), inputs={"media": stranger})


def test_params_must_be_of_the_type_that_run_takes() -> None:
    graph = Graph()
    with refused("params of probe are FindParams, not ProbeParams", "media"):
        graph.add("media", Probe(), FindParams())
    with refused("params of probe are dict, not a settings model", "media"):
        graph.add("media", Probe(), {"cameras": 2})  # type: ignore[arg-type]


def test_a_stage_instance_may_take_a_varying_number_of_inputs() -> None:
    graph = make_graph()
    joined = graph.node("join_1")
    one = graph.add("one", Sum("a"), SumParams(), inputs={"a": joined})
    none = graph.add("none", Sum(), SumParams())
    assert (one.inputs, none.inputs) == ({"a": "join_1"}, {})
    with refused(r"input `b` \(tracks\) is not connected", "two"):
        graph.add("two", Sum("a", "b"), SumParams(), inputs={"a": joined})


class Nameless(Probe):
    name: ClassVar[str] = "a/b"


class Unversioned(Probe):
    version: ClassVar[int] = 0


class Needless(Probe):
    needs: ClassVar[Any] = None


@pytest.mark.parametrize(
    ("stage", "what"),
    [(Nameless(), "stage name 'a/b'"), (Unversioned(), "has no version"), (Needless(), "what it needs")],
)
def test_malformed_stages_are_refused(stage: Any, what: str) -> None:
    with refused(what, "media"):
        Graph().add("media", stage, ProbeParams())


def test_settings_of_any_stage_do_without_annotation() -> None:
    class Loose(Probe):
        name: ClassVar[str] = "loose"

        def run(self, params, inputs, shard, out, context):  # type: ignore[no-untyped-def]
            pass

    class Own(Params):
        pass

    assert Graph().add("any", Loose(), Own()).params == Own()
