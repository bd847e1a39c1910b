"""Engine: what runs in Ray's worker processes, and the pool of workers that serves one node."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from orveil.pipeline.artifact import Key, Store
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.execute import NodePlan, Work, run_work, set_up
from orveil.pipeline.graph import Node
from orveil.pipeline.stage import Inputs, Resources, Shard, Stage

__all__ = ["Board", "Outcome", "Worker", "WorkerPool"]

REPORT_EVERY_S = 0.5
RESTARTS, RETRIES = 3, 2
"""How often a crashed model worker comes back, and a shard is tried again, before the run gives up."""


@dataclass(frozen=True)
class Outcome:
    """What a shard came to. Errors return as values: Ray would wrap a raised one in types of its own."""

    host: str
    error: OrveilError | None = None


class Board:
    """An actor that keeps the newest progress of each shard until the driver asks."""

    def __init__(self) -> None:
        self._news: dict[tuple[str, str], tuple[int, int, str]] = {}

    def post(self, node: str, shard: str, done: int, total: int, unit: str) -> None:
        """A shard reports."""
        self._news[node, shard] = (done, total, unit)

    def drain(self) -> list[tuple[str, str, int, int, str]]:
        """All news since the last call: node, shard, done, total, unit."""
        news, self._news = self._news, {}
        return [(*place, *state) for place, state in news.items()]


class Worker:
    """Does shards of one node; keeps the stage, and so its loaded model, between them."""

    def __init__(self, root: str, board: Any) -> None:
        self._store, self._board = Store(Path(root)), board
        self._stage: Stage | None = None

    def work(self, shared: tuple[Node, Inputs], shard: Shard, key: Key) -> Outcome:
        """Do one shard; the artifact is in the store afterwards, or the error in the outcome."""
        node, inputs = shared
        work = Work(node, inputs, shard, key)
        progress = _Reporter(self._board, node.name, shard.name)
        try:
            if self._stage is None:
                set_up(self._store, node.stage, work, progress)
                self._stage = node.stage
            run_work(self._store, self._stage, work, progress)
        except OrveilError as error:
            return Outcome(platform.node(), error)
        return Outcome(platform.node())


class _Reporter:
    """The `progress` of a context: sends at most two messages a second."""

    def __init__(self, board: Any, node: str, shard: str) -> None:
        self._board, self._node, self._shard = board, node, shard
        self._last = 0.0

    def __call__(self, done: int, total: int, unit: str) -> None:
        now = time.monotonic()
        if self._board is not None and now - self._last >= REPORT_EVERY_S:
            self._last = now
            self._board.post.remote(self._node, self._shard, done, total, unit)


def _work_once(root: str, board: Any, shared: tuple[Node, Inputs], shard: Shard, key: Key) -> Outcome:
    return Worker(root, board).work(shared, shard, key)


class WorkerPool:
    """Workers for one node: actors that keep their model, or tasks where there is no model to keep."""

    def __init__(self, store: Store, plan: NodePlan, shards: int, board: Any) -> None:
        needs = _affordable(plan.node.stage.needs)
        total = ray.cluster_resources()  # type: ignore[no-untyped-call]
        places = total.get("CPU", 1.0) / max(needs.cpus, 1)
        if needs.gpus:
            places = min(places, total.get("GPU", 0.0) / needs.gpus)
        self._free = min(shards, max(int(places), 1))
        self._options = {"num_cpus": needs.cpus, "num_gpus": needs.gpus}
        self._actors_wanted = needs.loads_model
        self._arguments = (str(store.root), board)
        # One copy in the object store instead of one per shard: a node may have thousands of inputs.
        self._shared = ray.put((plan.node, plan.inputs))
        self._idle: list[Any] = []
        self._busy: dict[Any, Any] = {}

    @property
    def free(self) -> bool:
        """Whether a worker can take a shard."""
        return self._free > 0

    def submit(self, work: Work) -> Any:
        """Start a shard; returns Ray's reference to its `Outcome`."""
        self._free -= 1
        if not self._actors_wanted:
            task = ray.remote(_work_once).options(max_retries=RETRIES, **self._options)
            reference = task.remote(*self._arguments, self._shared, work.shard, work.key)
            self._busy[reference] = None
            return reference
        actor = self._idle.pop() if self._idle else self._new_actor()
        reference = actor.work.remote(self._shared, work.shard, work.key)
        self._busy[reference] = actor
        return reference

    def release(self, reference: Any) -> None:
        """A shard is done; its worker is free for the next."""
        self._free += 1
        actor = self._busy.pop(reference)
        if actor is not None:
            self._idle.append(actor)

    def dismiss_idle(self) -> None:
        """Stop workers that have nothing to do: they hold CPUs that workers of other nodes wait for."""
        while self._idle:
            ray.kill(self._idle.pop())

    def close(self) -> None:
        """Stop all workers of the node, finished or not."""
        for reference, actor in self._busy.items():
            if actor is None:
                ray.cancel(reference, force=True)
        for actor in [*self._idle, *self._busy.values()]:
            if actor is not None:
                ray.kill(actor)
        self._idle, self._busy = [], {}

    def _new_actor(self) -> Any:
        actor = ray.remote(Worker).options(max_restarts=RESTARTS, max_task_retries=RETRIES, **self._options)
        return actor.remote(*self._arguments)


def _affordable(needs: Resources) -> Resources:
    """What the largest machine can give: a stage that asks for more runs slower instead of never."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    cpus = max((int(machine.get("CPU", 0)) for machine in machines), default=1)
    gpus = max((float(machine.get("GPU", 0.0)) for machine in machines), default=0.0)
    return replace(needs, cpus=min(needs.cpus, max(cpus, 1)), gpus=min(needs.gpus, gpus))
