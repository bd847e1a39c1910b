"""Engine: the executor for Ray, on one machine or many; it leaves the same artifacts as one process does.

What travels is small: a shard, its key, and references to finished artifacts. Workers read frames and
tables from, and commit artifacts to, the work directory, which all machines must see at the same path.
Every machine needs the same orveil installed; a worker that has another version of a stage refuses.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.exceptions

from orveil.pipeline.artifact import Artifact, Store
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.execute import NodePlan, Work, past_seconds, plan_node
from orveil.pipeline.graph import Graph, Node
from orveil.pipeline.progress import QUIET, Events
from orveil.pipeline.ray_workers import Board, Outcome, WorkerPool
from orveil.pipeline.runlock import run_lock
from orveil.pipeline.stage import InputRef

__all__ = ["connected", "run_ray"]

OBJECT_STORE_BYTES = 120 * 2**20
"""Only references travel; Ray's own minimum is 75 MiB."""
POLL_S = 0.25
STARTS = 3


def run_ray(
    graph: Graph, store: Store, events: Events = QUIET, *, workers: int = 1, address: str | None = None
) -> dict[str, InputRef]:
    """Run what is missing: independent nodes and shards at the same time, as far as CPUs and GPUs go.

    Args:
        workers: CPUs of the cluster that is started here; without effect where `address` is given.
        address: a running Ray cluster ("auto", "host:port"); None starts one for this run. A process that
            is connected to Ray already keeps its connection.

    Returns:
        Node name -> its finished artifacts and their joint digest; the same as of `run_local`.

    Raises:
        OrveilError: a stage failed, workers died repeatedly, the disk is full, the cluster cannot be
            reached, or another run holds the work directory.
    """
    with run_lock(store.root):
        store.clean_leftovers()
        with connected(store.root / "logs" / "ray", workers, address):
            driver = _Driver(graph, store, events)
            events.begin({node.name: node.stage.name for node in graph}, past_seconds(graph, store))
            try:
                return driver.run()
            finally:
                driver.stop()
                events.end()
                store.clean_leftovers()


@dataclass
class _Active:
    """A node that is being worked on."""

    plan: NodePlan
    done: dict[str, Artifact]
    waiting: deque[Work]
    pool: WorkerPool | None
    begin: float = field(default_factory=time.perf_counter)


class _Driver:
    """Starts nodes whose inputs are finished, hands out shards, and collects manifests."""

    def __init__(self, graph: Graph, store: Store, events: Events) -> None:
        self._graph, self._store, self._events = graph, store, events
        self._finished: dict[str, InputRef] = {}
        self._active: dict[str, _Active] = {}
        self._running: dict[Any, tuple[_Active, Work]] = {}
        self._board: Any = None if events is QUIET else ray.remote(Board).options(num_cpus=0).remote()

    def run(self) -> dict[str, InputRef]:
        """All nodes, or the first error."""
        while len(self._finished) < len(self._graph):
            self._start_nodes()
            self._hand_out()
            self._collect()
        return {node.name: self._finished[node.name] for node in self._graph}

    def stop(self) -> None:
        """Stop whatever still runs."""
        for active in self._active.values():
            if active.pool is not None:
                active.pool.close()
        if self._board is not None:
            ray.kill(self._board)

    def _start_nodes(self) -> None:
        for node in self._graph:
            known = node.name in self._finished or node.name in self._active
            if not known and all(name in self._finished for name in node.inputs.values()):
                self._start(node)

    def _start(self, node: Node) -> None:
        plan = plan_node(node, self._finished, self._store)
        done, waiting = {}, []
        for work in plan.works:
            artifact = self._store.find(work.key)
            if artifact is None:
                waiting.append(work)
            else:
                self._store.mark_used(artifact)
                done[work.key.hex] = artifact
        self._events.node_started(node.name, len(done), len(plan.works))
        pool = WorkerPool(self._store, plan, len(waiting), self._board) if waiting else None
        active = self._active[node.name] = _Active(plan, done, deque(waiting), pool)
        self._finish_if_done(active)

    def _hand_out(self) -> None:
        """Give free workers a shard. Equal work of two nodes is done once: the second waits for it."""
        busy = {work.key.hex for _, work in self._running.values()}
        for active in list(self._active.values()):
            for _ in range(len(active.waiting)):
                if active.pool is None or not active.pool.free:
                    break
                work = active.waiting.popleft()
                existing = self._store.find(work.key)
                if existing is not None:
                    self._accept(active, work, existing)
                elif work.key.hex in busy:
                    active.waiting.append(work)
                else:
                    busy.add(work.key.hex)
                    self._running[active.pool.submit(work)] = (active, work)
            if active.pool is not None:
                active.pool.dismiss_idle()
            self._finish_if_done(active)

    def _collect(self) -> None:
        """Wait a moment for finished shards, take them in, and pass progress on."""
        if self._running:
            ready, _ = ray.wait(list(self._running), num_returns=1, timeout=POLL_S)
            for reference in ready:
                active, work = self._running.pop(reference)
                artifact = self._visible(_outcome(reference, work), work)
                if active.pool is not None:
                    active.pool.release(reference)
                self._accept(active, work, artifact)
                self._finish_if_done(active)
        if self._board is not None:
            for node, shard, done, total, unit in ray.get(self._board.drain.remote()):
                if node in self._active:
                    self._events.progress(node, shard, done, total, unit)

    def _visible(self, outcome: Outcome, work: Work) -> Artifact:
        if outcome.error is not None:
            raise outcome.error
        artifact = self._store.find(work.key)
        if artifact is None:
            raise OrveilError(
                f"machine {outcome.host} finished a shard, but its artifact is not to be seen here",
                where=f"node {work.node.name}, {self._store.path(work.key)}",
                remedy="put the work directory on a file system that all machines of the cluster share",
            )
        return artifact

    def _accept(self, active: _Active, work: Work, artifact: Artifact) -> None:
        active.done[work.key.hex] = artifact
        self._events.shard_finished(work.node.name, work.shard.name)

    def _finish_if_done(self, active: _Active) -> None:
        name = active.plan.node.name
        if name in self._finished or len(active.done) < len(active.plan.works):
            return
        if active.pool is not None:
            active.pool.close()
        result = active.plan.result([active.done[work.key.hex] for work in active.plan.works])
        self._finished[name] = result
        del self._active[name]
        self._events.node_finished(name, time.perf_counter() - active.begin, result.digest)


def _outcome(reference: Any, work: Work) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
        return outcome
    except ray.exceptions.RayError as error:
        # What a stage raises comes back inside the outcome: this is a worker that died, again and again.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise OrveilError(
            f"the worker process failed: {type(error).__name__}: {lines[0] if lines else 'no reason given'}",
            where=f"node {work.node.name}, shard {work.shard.name}",
            remedy="it often ran out of memory: use fewer workers, or see logs/ray in the work directory",
        ) from error


@contextlib.contextmanager
def connected(logs: Path, workers: int, address: str | None) -> Iterator[None]:
    """A connection to Ray: the one that this process has, or one for the time of the block.

    Args:
        logs: folder for the logs of a cluster that is started here; what it holds is removed first.
        workers: CPUs of a cluster that is started here.
        address: of a running cluster; None starts one.

    Raises:
        OrveilError: the cluster cannot be reached or started.
    """
    if ray.is_initialized():
        yield
        return
    # Nothing about a hospital's runs may leave its network: no usage reports, no dashboard.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with contextlib.ExitStack() as stack:
        if address is None:
            common |= {
                "num_cpus": workers,
                "object_store_memory": OBJECT_STORE_BYTES,
                "include_dashboard": False,
                "_temp_dir": str(stack.enter_context(_short_path(logs))),
            }
        _connect(address, common)
        stack.callback(ray.shutdown)
        yield


def _connect(address: str | None, options: dict[str, Any]) -> None:
    """Start or reach a cluster. On a busy machine a start may outlast Ray's patience: it is tried again."""
    for attempt in range(STARTS):
        try:
            ray.init(address=address or "local", **options)
            return
        except Exception as error:  # Ray raises the bare class where a start takes too long
            if address is None and attempt + 1 < STARTS:
                continue
            raise OrveilError(
                f"cannot connect to Ray: {error}",
                where=address or "a cluster on this machine",
                remedy="check `address` under [run] in the site file and the load of the machine, or use "
                'executor = "local"',
            ) from error


@contextlib.contextmanager
def _short_path(logs: Path) -> Iterator[Path]:
    """A short name for the log folder: Ray puts sockets there, whose paths may have 107 characters only."""
    for link in Path(tempfile.gettempdir()).glob("orveil-*/ray"):
        with contextlib.suppress(OSError):  # a killed run on this work directory left its link
            if link.is_symlink() and link.readlink() == logs:
                shutil.rmtree(link.parent)
    shutil.rmtree(logs, ignore_errors=True)  # of earlier runs on this work directory; it is ours alone
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="orveil-") as folder:
        link = Path(folder) / "ray"
        link.symlink_to(logs, target_is_directory=True)
        yield link
