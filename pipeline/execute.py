"""Engine: how one shard of one node is done. Both executors call this, so they cannot differ."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.metadata
import os
import platform
import random
import re
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from orveil.pipeline.artifact import Artifact, Key, Store, content_digest
from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.pipeline.graph import Graph, Node
from orveil.pipeline.stage import Context, InputRef, Inputs, Shard, Stage
from orveil.pipeline.threads import limit_threads

__all__ = ["NodePlan", "Work", "past_seconds", "plan_node", "run_work", "set_up"]

Progress = Callable[[int, int, str], None]
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True, eq=False)
class Work:
    """One shard to do. Holds references and digests only, so it can travel to another machine."""

    node: Node
    inputs: Inputs
    shard: Shard
    key: Key


@dataclass(frozen=True, eq=False)
class NodePlan:
    """A node whose inputs are finished: its shards in their fixed order."""

    node: Node
    inputs: Inputs
    works: tuple[Work, ...]

    def missing(self, store: Store) -> tuple[Work, ...]:
        """The shards that no artifact holds yet."""
        return tuple(work for work in self.works if store.find(work.key) is None)

    def result(self, artifacts: Sequence[Artifact]) -> InputRef:
        """The finished node; `artifacts` in the order of `works`."""
        parts = [[asdict(w.shard), a.digest] for w, a in zip(self.works, artifacts, strict=True)]
        shards = tuple((w.shard, a.path) for w, a in zip(self.works, artifacts, strict=True))
        return InputRef(self.node.name, content_digest(parts), shards)

    def finished(self, store: Store) -> InputRef | None:
        """The finished node, or None where a shard is missing."""
        found = [store.find(work.key) for work in self.works]
        artifacts = [artifact for artifact in found if artifact is not None]
        return self.result(artifacts) if len(artifacts) == len(found) else None


def plan_node(node: Node, finished: Mapping[str, InputRef], store: Store) -> NodePlan:
    """Ask the stage for its shards and give each its key.

    Raises:
        OrveilError: the stage failed to say its shards, or said one twice.
    """
    inputs = {name: finished[upstream] for name, upstream in node.inputs.items()}
    with _located(node.name, "planning", store):
        shards = list(node.stage.shards(node.params, inputs))
        if len(set(shards)) != len(shards):
            raise OrveilError(f"stage {node.stage.name} listed a shard twice", remedy="report this bug")
    works = tuple(Work(node, inputs, shard, _key(node, inputs, shard)) for shard in shards)
    return NodePlan(node, inputs, works)


def _key(node: Node, inputs: Inputs, shard: Shard) -> Key:
    params = node.params.model_dump(mode="json")
    digests = {name: ref.digest for name, ref in inputs.items()}
    return Key(node.stage.name, node.stage.version, params, digests, shard, node.seed)


def set_up(store: Store, stage: Stage, work: Work, progress: Progress) -> None:
    """Call `stage.setup` for the node of `work`; once per worker, on the worker's own copy of the stage.

    Raises:
        OrveilError: with the node in `where`, whatever went wrong.
    """
    node = work.node
    # One seed for all workers of the node: setup must not depend on which shard comes first.
    key = _key(node, work.inputs, Shard())
    with _located(node.name, "setup", store):
        if (stage.name, stage.version) != (work.key.stage, work.key.version):
            raise OrveilError(
                f"machine {platform.node()} has version {stage.version} of stage {stage.name}, "
                f"the run needs version {work.key.version}",
                remedy="install the same orveil on every machine of the cluster",
            )
        _prepare(stage, key.seed)
        stage.setup(node.params, work.inputs, _context(store, work, key.seed, progress))


def run_work(store: Store, stage: Stage, work: Work, progress: Progress) -> Artifact:
    """Do one shard and commit it; what is committed already is returned as it is.

    Raises:
        OrveilError: with node and shard in `where`, whatever went wrong.
    """
    existing = store.find(work.key)
    if existing is not None:
        return existing
    node = work.node
    with _located(node.name, f"shard {work.shard.name}", store), store.writing(work.key) as out:
        _prepare(stage, work.key.seed)
        _reset_peak()
        begin = time.perf_counter()
        context = _context(store, work, work.key.seed, progress)
        stage.run(node.params, work.inputs, work.shard, out, context)
        artifact = store.commit(
            work.key, out, node=node.name, produces=stage.produces, volatile=stage.volatile,
            seconds=time.perf_counter() - begin, peak_rss_bytes=_peak(), versions=_versions(),
        )  # fmt: skip
    store.drop_scratch(work.key)
    return artifact


def past_seconds(graph: Graph, store: Store) -> dict[str, float]:
    """Seconds of work that the last artifacts of each node took, where there are any: for time left."""
    seconds: dict[str, float] = {}
    for stage in {node.stage.name for node in graph}:
        newest: dict[tuple[str, Shard], float] = {}
        for artifact in store.artifacts(stage):
            manifest = artifact.manifest
            newest.setdefault((manifest.node, manifest.shard), manifest.seconds)
        for (node, _), spent in newest.items():
            seconds[node] = seconds.get(node, 0.0) + spent
    return seconds


def _context(store: Store, work: Work, seed: int, progress: Progress) -> Context:
    return Context(seed, store.scratch(work.key), progress, dict(work.node.externals))


def _prepare(stage: Stage, seed: int) -> None:
    """Fix thread counts, and the global random states that a library may use unasked."""
    limit_threads(stage.needs.threads)
    random.seed(seed)
    np.random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


@contextlib.contextmanager
def _located(node: str, place: str, store: Store) -> Iterator[None]:
    """Every error leaves as an `OrveilError` that names node and shard."""
    here = f"node {node}, {place}"
    try:
        yield
    except OrveilError as error:
        error.where = f"{error.where}; {here}" if error.where else here
        raise
    except Exception as error:
        system = _disk_error(error)
        if system is not None:
            told = explain_os_error(system, "")
            raise OrveilError(
                told.what, where=f"{told.where}; {here}".lstrip("; "), remedy=told.remedy
            ) from error
        log = _write_traceback(error, store, f"{node}-{place}")
        raise OrveilError(
            f"the stage failed: {type(error).__name__}: {error}",
            where=here,
            remedy=f"the details are in {log}; finished work is kept and is not redone",
        ) from error


def _disk_error(error: BaseException) -> OSError | None:
    """The operating-system error behind `error`: itself, or a full disk that a library wrapped."""
    if isinstance(error, OSError):
        return error
    cause = error.__cause__ or error.__context__
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in DISK_ERRORS:
            return cause
        cause = cause.__cause__ or cause.__context__
    if "No space left on device" in str(error):  # torch and safetensors say so in words only
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return None


def _write_traceback(error: BaseException, store: Store, name: str) -> Path:
    path = store.root / "logs" / ("failed-" + re.sub(r"[^A-Za-z0-9_-]+", "-", name) + ".txt")
    with contextlib.suppress(OSError):  # the log is a help; its own failure must not hide the error
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)), "utf-8")
    return path


@functools.cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("orveil", "numpy", "pyarrow", "torch", "onnxruntime", "av", "opencv-python-headless"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _reset_peak() -> None:
    """Start the kernel's high-water mark of this process anew (Linux; elsewhere it is of the process)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", "ascii")


def _peak() -> int:
    """Highest resident memory of this process since `_reset_peak`, bytes."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
