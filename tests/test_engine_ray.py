"""Tests: the Ray executor gives the digests of the local one, survives dying workers, and tells errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_stages import FindParams, make_graph

from orveil.pipeline.artifact import Store
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.graph import Graph
from orveil.pipeline.local import run_local
from orveil.pipeline.progress import QuietEvents

ray = pytest.importorskip("ray", reason="Ray is not installed")
cluster = pytest.importorskip("orveil.pipeline.cluster")


@pytest.fixture(scope="module", autouse=True)
def one_cluster() -> Iterator[None]:
    """One small cluster for all tests of the file; workers must find the test's stages by name."""
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "RAY_USAGE_STATS_ENABLED")}
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20,
        log_to_driver=False, logging_level="ERROR",
    )  # fmt: skip
    yield
    ray.shutdown()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def digests(graph: Graph, store: Store) -> dict[str, str]:
    return {name: ref.digest for name, ref in cluster.run_ray(graph, store).items()}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    store = Store(tmp_path_factory.mktemp("local"))
    return {name: ref.digest for name, ref in run_local(make_graph(), store).items()}


class Recorder(QuietEvents):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def node_started(self, node: str, done: int, total: int) -> None:
        self.told.append(("started", node, str(done), str(total)))

    def progress(self, node: str, shard: str, done: int, total: int, unit: str) -> None:
        self.told.append(("progress", node, unit))

    def shard_finished(self, node: str, shard: str) -> None:
        self.told.append(("shard", node))

    def node_finished(self, node: str, seconds: float, digest: str) -> None:
        self.told.append(("finished", node, digest))

    def end(self) -> None:
        self.told.append(("end",))


def test_digests_are_those_of_the_local_executor(tmp_path: Path, local: dict[str, str]) -> None:
    log, store, events = tmp_path / "log", Store(tmp_path / "work"), Recorder()
    refs = cluster.run_ray(make_graph(log=str(log)), store, events)
    assert {name: ref.digest for name, ref in refs.items()} == local and list(refs) == list(local)
    ran = [line for line in lines(log) if line != "find setup"]
    assert len(ran) == 1 + 2 * 6 + 2 * 2 + 1
    assert events.told.count(("shard", "find_1")) == 6 and ("started", "join_1", "0", "2") in events.told
    assert ("finished", "total", local["total"]) in events.told and events.told[-1] == ("end",)
    assert ("progress", "find_1", "frames") in events.told
    # Either executor goes on from the other's work.
    log.unlink()
    assert digests(make_graph(log=str(log)), store) == local and lines(log) == []
    assert {name: ref.digest for name, ref in run_local(make_graph(log=str(log)), store).items()} == local
    assert lines(log) == []


def test_equal_work_of_two_nodes_is_done_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    result = digests(make_graph(find2=FindParams(), log=str(log)), Store(tmp_path / "work"))
    assert result["find_1"] == result["find_2"] and result["join_1"] == result["join_2"]
    ran = [line for line in lines(log) if line != "find setup"]
    assert len(ran) == len(set(ran)) == 1 + 6 + 2 + 1


def test_a_worker_that_is_killed_is_replaced_and_its_shard_repeated(
    tmp_path: Path, local: dict[str, str]
) -> None:
    log, store = tmp_path / "log", Store(tmp_path / "work")
    graph = make_graph(die_at="main/cam0/4-8", marker=str(tmp_path / "marker"), log=str(log))
    assert digests(graph, store) == local
    assert (tmp_path / "marker").exists()
    assert lines(log).count("find main/cam0/4-8") == 3  # killed, repeated, and once for the other node
    assert list((store.root / "artifacts" / ".tmp").iterdir()) == []


def test_an_error_in_a_worker_comes_back_as_the_users_error(tmp_path: Path) -> None:
    store = Store(tmp_path / "work")
    with pytest.raises(OrveilError) as caught:
        cluster.run_ray(make_graph(fail_at="main/cam1/4-8"), store)
    assert "ZeroDivisionError: no reason" in caught.value.what
    assert caught.value.where in ("node find_1, shard main/cam1/4-8", "node find_2, shard main/cam1/4-8")
    digests(make_graph(), store)  # the lock is free, workers and what they held are gone


def test_a_worker_that_always_dies_ends_the_run(tmp_path: Path) -> None:
    marker = tmp_path / "not" / "there"  # cannot be made: the stage dies each time it is tried
    with pytest.raises(OrveilError) as caught:
        cluster.run_ray(make_graph(die_at="main/cam0/0-4", marker=str(marker)), Store(tmp_path / "work"))
    assert "No such file" in caught.value.what and "node find_" in caught.value.where


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path) -> None:
    ray_is_up = ray.is_initialized
    cluster.ray.is_initialized = lambda: False
    try:
        with pytest.raises(OrveilError, match="cannot connect to Ray"):
            cluster.run_ray(make_graph(), Store(tmp_path), address="bad address")
    finally:
        cluster.ray.is_initialized = ray_is_up
