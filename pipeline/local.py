"""Engine: the executor for one machine: in this process, one shard after the other."""

from __future__ import annotations

import copy
import functools
import time

from orveil.pipeline.artifact import Artifact, Store
from orveil.pipeline.execute import NodePlan, past_seconds, plan_node, run_work, set_up
from orveil.pipeline.graph import Graph
from orveil.pipeline.progress import QUIET, Events
from orveil.pipeline.runlock import run_lock
from orveil.pipeline.stage import InputRef

__all__ = ["run_local"]


def run_local(graph: Graph, store: Store, events: Events = QUIET) -> dict[str, InputRef]:
    """Run what is missing; what is finished is reused.

    Safe to interrupt at any point: only whole artifacts count, and the next run goes on from them.

    Returns:
        Node name -> its finished artifacts and their joint digest.

    Raises:
        OrveilError: a stage failed, the disk is full, or another run holds the work directory.
    """
    finished: dict[str, InputRef] = {}
    with run_lock(store.root):
        store.clean_leftovers()
        events.begin({node.name: node.stage.name for node in graph}, past_seconds(graph, store))
        try:
            for node in graph:
                finished[node.name] = _run_node(plan_node(node, finished, store), store, events)
        finally:
            events.end()
    return finished


def _run_node(plan: NodePlan, store: Store, events: Events) -> InputRef:
    name = plan.node.name
    begin = time.perf_counter()
    found = {work.key.hex: store.find(work.key) for work in plan.works}
    done: dict[str, Artifact] = {key: artifact for key, artifact in found.items() if artifact is not None}
    for artifact in done.values():
        store.mark_used(artifact)
    events.node_started(name, len(done), len(plan.works))
    # A copy per node: setup keeps models on the stage, and they must go when the node is done.
    stage = copy.copy(plan.node.stage)
    ready = False
    for work in plan.works:
        if work.key.hex in done:
            continue
        progress = functools.partial(events.progress, name, work.shard.name)
        if not ready:
            set_up(store, stage, work, progress)
            ready = True
        done[work.key.hex] = run_work(store, stage, work, progress)
        events.shard_finished(name, work.shard.name)
    result = plan.result([done[work.key.hex] for work in plan.works])
    events.node_finished(name, time.perf_counter() - begin, result.digest)
    return result
