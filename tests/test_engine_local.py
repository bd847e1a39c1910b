"""Tests: the local executor: what is redone and what is not, what errors say, interrupts, threads, seeds."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from engine_stages import Find, FindParams, JoinParams, Probe, ProbeParams, Sum, make_graph

from orveil.pipeline.artifact import MANIFEST, Store
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.graph import Graph
from orveil.pipeline.kinds import MetricsKind
from orveil.pipeline.local import run_local
from orveil.pipeline.settings import Params
from orveil.pipeline.stage import Context, Inputs, Resources, Shard

EVERYTHING = 1 + 2 * 6 + 2 * 2 + 1 + 2  # media, find, join, total, and two setups


class Log:
    """What was really run since the last look."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def read(self) -> list[str]:
        path = Path(self.path)
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "work")


def digests(store: Store, graph: Graph) -> dict[str, str]:
    return {name: ref.digest for name, ref in run_local(graph, store).items()}


def test_a_second_run_does_nothing_and_gives_the_same(store: Store, log: Log) -> None:
    first = digests(store, make_graph(log=log.path))
    assert len(log.read()) == EVERYTHING
    assert digests(store, make_graph(log=log.path)) == first
    assert log.read() == []
    assert set(first) == {"media", "find_1", "join_1", "find_2", "join_2", "total"}
    assert list((store.root / "scratch").iterdir()) == []


def test_digests_do_not_depend_on_the_place_or_on_volatile_files(tmp_path: Path) -> None:
    one = digests(Store(tmp_path / "a"), make_graph())
    two = digests(Store(tmp_path / "elsewhere" / "b"), make_graph(other="external"))
    assert one == two
    where = [next((tmp_path / p / "artifacts" / "probe").glob("*/where.json")) for p in ("a", "elsewhere/b")]
    assert where[0].read_bytes() != where[1].read_bytes()


def test_a_changed_parameter_redoes_exactly_what_depends_on_it(store: Store, log: Log) -> None:
    before = digests(store, make_graph(log=log.path))
    log.read()
    after = digests(store, make_graph(find2=FindParams(scale=3.0), log=log.path))
    assert sorted({line.split()[0] for line in log.read()}) == ["find", "join", "sum"]
    assert {name for name in after if after[name] != before[name]} == {"find_2", "join_2", "total"}
    digests(store, make_graph(find2=FindParams(scale=3.0), join=JoinParams(gap=2), log=log.path))
    assert sorted(log.read()) == sorted(2 * ["join main/cam0", "join main/cam1"] + ["sum all"])
    assert digests(store, make_graph(log=log.path)) == before
    assert log.read() == []


def test_equal_content_stops_the_redoing(store: Store, log: Log) -> None:
    before = digests(store, make_graph(log=log.path))
    log.read()
    assert digests(store, make_graph(join=JoinParams(remark="other"), log=log.path)) == before
    assert sorted(log.read()) == sorted(2 * ["join main/cam0", "join main/cam1"])


def test_equal_work_of_two_nodes_is_done_once(store: Store, log: Log) -> None:
    result = digests(store, make_graph(find2=FindParams(), log=log.path))
    assert result["find_1"] == result["find_2"] and result["join_1"] == result["join_2"]
    lines = log.read()
    assert len(lines) == len(set(lines)) == 1 + 1 + 6 + 2 + 1


def test_the_seed_changes_what_it_is_given_to(tmp_path: Path) -> None:
    zero = digests(Store(tmp_path / "0"), make_graph())
    one = digests(Store(tmp_path / "1"), make_graph(seed=1))
    assert zero["media"] == one["media"] and zero["find_1"] != one["find_1"]


def test_a_missing_or_damaged_shard_alone_is_redone(store: Store, log: Log) -> None:
    before = digests(store, make_graph(log=log.path))
    log.read()
    damaged = sorted((store.root / "artifacts" / "find").iterdir())
    (damaged[0] / MANIFEST).write_text("{")
    (damaged[1] / "detections.parquet").unlink()
    assert digests(store, make_graph(log=log.path)) == before
    lines = [line for line in log.read() if line != "find setup"]
    assert len(lines) == 2 and all(line.startswith("find") for line in lines)


def test_a_stage_that_fails_is_named_with_shard_and_cause(store: Store, log: Log) -> None:
    with pytest.raises(OrveilError) as caught:
        run_local(make_graph(fail_at="main/cam1/4-8", log=log.path), store)
    assert "ZeroDivisionError: no reason" in caught.value.what
    assert caught.value.where == "node find_1, shard main/cam1/4-8"
    details = Path(caught.value.remedy.split("are in ")[1].split(";")[0])
    assert "raise ZeroDivisionError" in details.read_text()
    done = len([line for line in log.read() if line.startswith("find main")])
    assert done == 5  # four before it, and itself
    digests(store, make_graph(log=log.path))
    assert len([line for line in log.read() if line.startswith("find main")]) == 12 - 4


class Failing(Sum):
    """Raises what it is told to."""

    name: ClassVar[str] = "failing"

    def __init__(self, error: Callable[[], BaseException]) -> None:
        super().__init__()
        self.error = error

    def run(self, params: Any, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        (out / "metrics.json").write_text("{")
        raise self.error()


def run_failing(store: Store, error: Callable[[], BaseException]) -> dict[str, Any]:
    graph = Graph()
    graph.add("bad", Failing(error), Params())
    return dict(run_local(graph, store))


def test_a_users_error_passes_through_with_the_node_added(store: Store) -> None:
    with pytest.raises(OrveilError) as caught:
        run_failing(store, lambda: OrveilError("no frame", where="a.mp4", remedy="look"))
    error = caught.value
    assert (error.what, error.where, error.remedy) == ("no frame", "a.mp4; node bad, shard all", "look")


def wrapped() -> Exception:
    error = RuntimeError("cannot write")
    error.__cause__ = OSError(errno.ENOSPC, "full")
    return error


@pytest.mark.parametrize(
    "error",
    [
        lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/file"),
        wrapped,
        lambda: RuntimeError("unexpected: No space left on device (os error 28)"),
        lambda: pa.ArrowIOError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_a_full_disk_is_recognised_however_it_comes(store: Store, error: Callable[[], Exception]) -> None:
    with pytest.raises(OrveilError) as caught:
        run_failing(store, error)
    assert "free some space" in caught.value.remedy and "node bad" in caught.value.where
    assert list((store.root / "artifacts" / ".tmp").iterdir()) == []
    assert not (store.root / "artifacts" / "failing").exists()


def test_an_interrupt_leaves_nothing_half_done(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_failing(store, KeyboardInterrupt)
    assert list((store.root / "artifacts" / ".tmp").iterdir()) == []
    with pytest.raises(OrveilError, match="again"):  # and the lock is free
        run_failing(store, lambda: OrveilError("again"))


def test_output_of_the_wrong_kind_is_refused(store: Store) -> None:
    class Empty(Sum):
        name: ClassVar[str] = "empty"

        def run(self, params: Any, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
            (out / "else.json").write_text("{}")

    graph = Graph()
    graph.add("bad", Empty(), Params())
    with pytest.raises(OrveilError, match=r"did not write metrics\.json.*node bad"):
        run_local(graph, store)


def test_a_shard_listed_twice_is_refused(store: Store) -> None:
    class Twice(Probe):
        name: ClassVar[str] = "twice"

        def shards(self, params: Any, inputs: Inputs) -> list[Shard]:
            return [Shard("a"), Shard("a")]

    graph = Graph()
    graph.add("bad", Twice(), ProbeParams())
    with pytest.raises(OrveilError, match=r"shard twice.*node bad, planning"):
        run_local(graph, store)


class Nosy:
    """Writes down the surroundings that the executor gives a shard."""

    name: ClassVar[str] = "nosy"
    version: ClassVar[int] = 1
    needs: ClassVar[Resources] = Resources(threads=3)
    consumes: ClassVar[dict[str, Any]] = {}
    produces = MetricsKind
    volatile: ClassVar[frozenset[str]] = frozenset()

    def shards(self, params: Params, inputs: Inputs) -> list[Shard]:
        return [Shard("a"), Shard("b")]

    def setup(self, params: Params, inputs: Inputs, context: Context) -> None:
        self.seed = context.seed

    def run(self, params: Params, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        cv2 = sys.modules["cv2"]
        seen = {
            "threads": [os.environ["OMP_NUM_THREADS"], cv2.getNumThreads()],
            "seeds": [self.seed, context.seed, int(np.random.randint(2**31))],
            "scratch": context.scratch.is_dir(),
        }
        (out / "metrics.json").write_text(json.dumps(seen))


def test_threads_and_seeds_are_the_stages_and_not_the_machines(tmp_path: Path) -> None:
    import cv2

    before = cv2.getNumThreads(), {k: os.environ.get(k) for k in os.environ if k.endswith("NUM_THREADS")}
    seen = []
    try:
        for place in ("1", "2"):
            graph, stage = Graph(), Nosy()
            graph.add("nosy", stage, Params())
            ref = run_local(graph, Store(tmp_path / place))["nosy"]
            seen.append([json.loads((path / "metrics.json").read_text()) for path in ref.paths()])
            assert not hasattr(stage, "seed")  # setup worked on a copy, which is gone
    finally:
        cv2.setNumThreads(before[0])
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.pop(name, None)
        os.environ.update({k: v for k, v in before[1].items() if v is not None})
    assert seen[0] == seen[1]
    a, b = seen[0]
    assert a["threads"] == ["3", 3] and a["scratch"]
    assert a["seeds"][0] == b["seeds"][0] and a["seeds"][1:] != b["seeds"][1:]


def test_manifests_say_what_was_run(store: Store) -> None:
    ref = run_local(make_graph(seed=5), store)["find_1"]
    manifest = json.loads((ref.shards[0][1] / MANIFEST).read_text())
    assert (manifest["node"], manifest["stage"], manifest["version"]) == ("find_1", Find.name, 1)
    assert manifest["params"] == {"scale": 1.0, "chunk": 4, "sleep_s": 0.0} and manifest["site_seed"] == 5
    assert manifest["shard"] == {"session": "main", "camera": "cam0", "start": 0, "stop": 4}
    assert manifest["peak_rss_bytes"] > 10e6 and manifest["seconds"] > 0
    assert manifest["versions"]["numpy"] == np.__version__
