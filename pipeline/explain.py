"""Engine: what is done, what is not, and why something must be done again; pure functions over a store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orveil.pipeline.artifact import Artifact, Manifest, Store
from orveil.pipeline.execute import NodePlan, plan_node
from orveil.pipeline.graph import Graph, Node
from orveil.pipeline.stage import InputRef

__all__ = ["Change", "Explanation", "NodeStatus", "State", "explain", "finished", "root_causes", "status"]

State = Literal["done", "partial", "ready", "waiting"]
"""done: all shards; partial: some; ready: none, but all inputs are there; waiting: for inputs."""
What = Literal[
    "stage version", "parameter", "seed",
    "input", "input added", "input removed", "input unfinished", "damaged",
]  # fmt: skip


@dataclass(frozen=True)
class NodeStatus:
    """How far one node is.

    Attributes:
        total: number of shards; None where it is not known before the inputs are finished.
        seconds: work that the finished shards took, whenever that was.
        digest: of the whole node, once it is done.
        waits_for: unfinished nodes that feed this one.
    """

    node: str
    stage: str
    state: State
    done: int
    total: int | None
    seconds: float
    digest: str | None
    waits_for: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """One part of a key that differs from the artifact it is compared with.

    Attributes:
        what: which part.
        name: parameter (dotted path), input, or folder of a damaged artifact; "" for version and seed.
        old, new: values as text; None where there is none (added, removed, not finished yet).
        because: for an input, the same question about the node that feeds it.
    """

    what: What
    name: str
    old: str | None
    new: str | None
    because: Explanation | None = None


@dataclass(frozen=True)
class Explanation:
    """Why a node is what it is.

    Attributes:
        compared_node: name of the node that made the artifact it is compared with: this one, or, where this
            one never ran, the latest of the same stage; None where the stage never ran.
        compared_created: when that artifact was made, ISO 8601.
        changes: empty where nothing changed since, or nothing was there before.
    """

    node: str
    stage: str
    state: State
    done: int
    total: int | None
    compared_node: str | None
    compared_created: str | None
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class _Seen:
    plan: NodePlan | None
    artifacts: tuple[Artifact | None, ...]
    ref: InputRef | None
    waits_for: tuple[str, ...]

    @property
    def found(self) -> list[Artifact]:
        return [artifact for artifact in self.artifacts if artifact is not None]

    @property
    def state(self) -> State:
        if self.ref is not None:
            return "done"
        if self.plan is None:
            return "waiting"
        return "partial" if self.found else "ready"

    @property
    def total(self) -> int | None:
        return None if self.plan is None else len(self.plan.works)


def status(graph: Graph, store: Store) -> tuple[NodeStatus, ...]:
    """State of every node, in the order of the graph. Reads only; works while a run is going on."""
    seen = _look(graph, store)
    return tuple(
        NodeStatus(
            node.name,
            node.stage.name,
            at.state,
            len(at.found),
            at.total,
            sum((artifact.manifest.seconds for artifact in at.found), 0.0),
            at.ref.digest if at.ref else None,
            at.waits_for,
        )
        for node, at in ((node, seen[node.name]) for node in graph)
    )


def finished(graph: Graph, store: Store) -> dict[str, InputRef]:
    """The nodes that are done, by name. Reads only; works while a run is going on."""
    return {name: at.ref for name, at in _look(graph, store).items() if at.ref is not None}


def explain(graph: Graph, store: Store, name: str) -> Explanation:
    """Which part of the node's key differs from its latest other artifact, followed upstream to the cause.

    Raises:
        OrveilError: there is no such node.
    """
    return _Explainer(graph, store).explain(graph.node(name))


def root_causes(explanation: Explanation) -> tuple[tuple[str, Change], ...]:
    """The changes that started it all, with their nodes: inputs are followed up to what changed by itself."""
    visited: set[str] = set()

    def roots(at: Explanation) -> Iterator[tuple[str, Change]]:
        if at.node in visited:  # a node that feeds several others
            return
        visited.add(at.node)
        for change in at.changes:
            if change.because is not None and (change.because.changes or change.because.node in visited):
                yield from roots(change.because)
            else:
                yield at.node, change

    return tuple(roots(explanation))


def _look(graph: Graph, store: Store) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    finished: dict[str, InputRef] = {}
    for node in graph:
        waits = tuple(sorted({up for up in node.inputs.values() if up not in finished}))
        if waits:
            seen[node.name] = _Seen(None, (), None, waits)
            continue
        plan = plan_node(node, finished, store)
        artifacts = tuple(store.find(work.key) for work in plan.works)
        whole = [artifact for artifact in artifacts if artifact is not None]
        ref = plan.result(whole) if len(whole) == len(artifacts) else None
        seen[node.name] = _Seen(plan, artifacts, ref, ())
        if ref is not None:
            finished[node.name] = ref
    return seen


class _Explainer:
    """Explains nodes, each once: in a graph of many rounds the paths between nodes are beyond counting."""

    def __init__(self, graph: Graph, store: Store) -> None:
        self._graph, self._store, self._seen = graph, store, _look(graph, store)
        self._explained: dict[str, Explanation] = {}
        self._made: dict[str, list[Manifest]] = {}

    def explain(self, node: Node) -> Explanation:
        if node.name not in self._explained:
            self._explained[node.name] = self._explain(node)
        return self._explained[node.name]

    def _explain(self, node: Node) -> Explanation:
        at = self._seen[node.name]
        upstream = {key: self._seen[name].ref for key, name in node.inputs.items()}
        inputs = {key: ref.digest if ref else None for key, ref in upstream.items()}
        params = node.params.model_dump(mode="json")
        before = self._previous(node, params, inputs)
        changes = _damage(at, self._store)
        if before is not None:
            changes += _own_changes(node, params, before)
            changes += self._input_changes(node, inputs, before)
        return Explanation(
            node.name,
            node.stage.name,
            at.state,
            len(at.found),
            at.total,
            before.node if before else None,
            before.created if before else None,
            tuple(changes),
        )

    def _previous(
        self, node: Node, params: dict[str, Any], inputs: Mapping[str, str | None]
    ) -> Manifest | None:
        """The latest artifact with another key: of this node if it has any artifact, else of its stage."""
        now = (node.stage.version, params, node.seed, dict(inputs))
        if node.stage.name not in self._made:
            self._made[node.stage.name] = [a.manifest for a in self._store.artifacts(node.stage.name)]
        manifests = self._made[node.stage.name]
        own = [manifest for manifest in manifests if manifest.node == node.name]
        for manifest in own or manifests:
            if (manifest.version, manifest.params, manifest.site_seed, manifest.inputs) != now:
                return manifest
        return None

    def _input_changes(self, node: Node, inputs: Mapping[str, str | None], before: Manifest) -> list[Change]:
        changes: list[Change] = []
        for name in sorted(inputs.keys() | before.inputs.keys()):
            old, new = before.inputs.get(name), inputs.get(name)
            if name not in inputs:
                changes.append(Change("input removed", name, old, None))
            elif old != new:
                kind: What = "input added" if old is None else "input unfinished" if new is None else "input"
                upstream = self.explain(self._graph.node(node.inputs[name]))
                changes.append(Change(kind, name, old, new, upstream))
        return changes


def _damage(at: _Seen, store: Store) -> list[Change]:
    works = at.plan.works if at.plan else ()
    return [
        Change("damaged", str(store.path(work.key)), None, None)
        for work, artifact in zip(works, at.artifacts, strict=True)
        if artifact is None and store.path(work.key).exists()
    ]


def _own_changes(node: Node, params: dict[str, Any], before: Manifest) -> list[Change]:
    changes: list[Change] = []
    if node.stage.version != before.version:
        changes.append(Change("stage version", "", str(before.version), str(node.stage.version)))
    if node.seed != before.site_seed:
        changes.append(Change("seed", "", str(before.site_seed), str(node.seed)))
    old, new = dict(_flat(before.params)), dict(_flat(params))
    changes += [
        Change("parameter", name, old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    return changes


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Nested parameters as (dotted path, text) pairs."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, repr(value)
