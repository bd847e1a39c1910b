"""Engine: the graph of a run: named nodes, wired in plain Python and checked before anything runs."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from orveil.pipeline.artifact import SAFE_NAME
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.stage import Resources, Stage

__all__ = ["Graph", "Node"]


@dataclass(frozen=True, eq=False)
class Node:
    """One use of a stage in a run.

    Attributes:
        name: unique in the graph; never part of a key, so equal work of two nodes is done once.
        inputs: input name -> name of the node that feeds it.
        externals: locations that are not content (video paths, ground truth); not part of a key.
        seed: the site's seed where the stage draws random numbers, else 0; part of the key.
    """

    name: str
    stage: Stage
    params: BaseModel
    inputs: Mapping[str, str] = field(default_factory=dict)
    externals: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0


class Graph:
    """Nodes in the order of their definition, which is an order in which they can run.

    A node can only name nodes that were added before it, so there are no cycles by construction.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def add(
        self,
        name: str,
        stage: Stage,
        params: BaseModel,
        *,
        inputs: Mapping[str, Node] | None = None,
        externals: Mapping[str, str] | None = None,
        seed: int = 0,
    ) -> Node:
        """Add a node and return the handle by which later nodes name it as an input.

        `stage.consumes` is read from the instance: a stage that takes a varying number of inputs
        (evaluate, report) sets `self.consumes` in its constructor.

        Raises:
            OrveilError: wrong name, input, kind or parameter type; names the node and the input.
        """
        if not SAFE_NAME.fullmatch(name):
            raise _wrong(f"node name {name!r} must be letters, digits, - and _", name)
        if name in self._nodes:
            raise _wrong("there are two nodes of this name", name)
        _check_stage(name, stage)
        _check_params(name, stage, params)
        given = dict(inputs or {})
        self._check_inputs(name, stage, given)
        wired = {key: upstream.name for key, upstream in given.items()}
        node = Node(name, stage, params, wired, dict(externals or {}), seed)
        self._nodes[name] = node
        return node

    def _check_inputs(self, name: str, stage: Stage, inputs: Mapping[str, Node]) -> None:
        wanted = stage.consumes
        for missing in sorted(set(wanted) - set(inputs)):
            raise _wrong(f"input `{missing}` ({wanted[missing].name}) is not connected", name)
        for key, upstream in sorted(inputs.items()):
            if key not in wanted:
                names = ", ".join(sorted(wanted)) or "none"
                raise _wrong(f"stage {stage.name} has no input `{key}` (it has: {names})", name)
            if self._nodes.get(upstream.name) is not upstream:
                raise _wrong(f"input `{key}` comes from {upstream.name}, which is not in this graph", name)
            made = upstream.stage.produces
            if made is not wanted[key]:
                raise _wrong(
                    f"input `{key}` must be {wanted[key].name}, but {upstream.name} makes {made.name}", name
                )

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, upstream first."""
        return tuple(self._nodes.values())

    def node(self, name: str) -> Node:
        """The node of that name.

        Raises:
            OrveilError: there is none; lists the names there are.
        """
        try:
            return self._nodes[name]
        except KeyError:
            names = ", ".join(self._nodes)
            raise OrveilError(f"there is no node {name}", where="graph", remedy=f"nodes: {names}") from None

    def upto(self, *names: str) -> Graph:
        """The graph without the nodes that none of `names` needs.

        Raises:
            OrveilError: there is no node of such a name.
        """
        wanted = {self.node(name).name for name in names}
        for node in reversed(self.nodes):
            if node.name in wanted:
                wanted |= set(node.inputs.values())
        cut = Graph()
        cut._nodes = {name: node for name, node in self._nodes.items() if name in wanted}
        return cut

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self._nodes)


def _wrong(what: str, node: str) -> OrveilError:
    return OrveilError(what, where=f"node {node}", remedy="the graph is wired wrongly: report this bug")


def _check_stage(node: str, stage: Stage) -> None:
    if not SAFE_NAME.fullmatch(stage.name):
        raise _wrong(f"stage name {stage.name!r} must be letters, digits, - and _", node)
    if not isinstance(stage.version, int) or stage.version < 1:
        raise _wrong(f"stage {stage.name} has no version", node)
    if not isinstance(stage.needs, Resources):
        raise _wrong(f"stage {stage.name} does not say what it needs", node)


def _check_params(node: str, stage: Stage, params: Any) -> None:
    """`params` must be what `run` is annotated with; a stage without annotation takes any model."""
    if not isinstance(params, BaseModel):
        raise _wrong(f"params of {stage.name} are {type(params).__name__}, not a settings model", node)
    try:
        wanted = typing.get_type_hints(stage.run).get("params")
    except NameError:  # an annotation that exists for type checkers only
        return
    if inspect.isclass(wanted) and issubclass(wanted, BaseModel) and not isinstance(params, wanted):
        raise _wrong(f"params of {stage.name} are {type(params).__name__}, not {wanted.__name__}", node)
