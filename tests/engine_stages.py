"""Tests: small real stages over the typed tables, for tests of the engine.

`Probe` makes media tables, `Find` boxes per camera and chunk (with a model to set up), `Join` tracks per
session from two inputs, `Sum` a report. They are importable by name, so that worker processes find them.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from orveil.pipeline.artifact import Store
from orveil.pipeline.graph import Graph
from orveil.pipeline.kinds import DetectionsKind, MediaKind, MetricsKind, TracksKind
from orveil.pipeline.settings import Params
from orveil.pipeline.stage import Context, Inputs, Resources, Shard
from orveil.pipeline.tables import read_table, read_tables, write_table
from orveil.pipeline.types import Detections, MediaFiles, MediaIndex, Tracks


class ProbeParams(Params):
    cameras: int = 2
    frames: int = 12


class FindParams(Params):
    scale: float = 1.0
    chunk: int = 4
    sleep_s: float = 0.0


class JoinParams(Params):
    gap: int = 1
    remark: str = ""  # changes the key, never the result


class SumParams(Params):
    title: str = "sum"


def note(externals: Any, what: str) -> None:
    """Append a line to the log named in `externals`: what was really run, over all processes."""
    if externals.get("log"):
        with Path(externals["log"]).open("a") as stream:
            stream.write(what + "\n")


class Probe:
    name, version = "probe", 1
    needs = Resources()
    consumes: ClassVar[dict[str, Any]] = {}
    produces = MediaKind
    volatile = frozenset({"where.json"})

    def shards(self, params: ProbeParams, inputs: Inputs) -> list[Shard]:
        return [Shard()]

    def setup(self, params: ProbeParams, inputs: Inputs, context: Context) -> None:
        pass

    def run(self, params: ProbeParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        note(context.externals, f"probe {shard.name}")
        cameras = [f"cam{c}" for c in range(params.cameras)]
        n = len(cameras)
        write_table(
            MediaFiles(
                session=["main"] * n, camera=cameras, path=[""] * n, sha256=["0"] * n, width=[64] * n,
                height=[48] * n, rotation=[0] * n, time_base_num=[1] * n, time_base_den=[10] * n,
                frames=[params.frames] * n, duration_s=[1.0] * n, offset_s=[0.0] * n,
                offset_source=["given"] * n,
            ),
            out,
        )  # fmt: skip
        index = np.tile(np.arange(params.frames), n)
        write_table(
            MediaIndex(
                session=["main"] * len(index), camera=np.repeat(cameras, params.frames), index=index,
                pts=index, time_s=index / 10,
            ),
            out,
        )  # fmt: skip
        (out / "where.json").write_text(json.dumps({"now": time.time()}))


class Find:
    name, version = "find", 1
    needs = Resources(loads_model=True)
    consumes: ClassVar[dict[str, Any]] = {"media": MediaKind}
    produces = DetectionsKind
    volatile: frozenset[str] = frozenset()
    model: float | None = None

    def shards(self, params: FindParams, inputs: Inputs) -> list[Shard]:
        files = read_table(MediaFiles, inputs["media"].path)
        return [
            Shard(str(session), str(camera), start, min(start + params.chunk, int(count)))
            for session, camera, count in zip(files.session, files.camera, files.frames, strict=True)
            for start in range(0, int(count), params.chunk)
        ]

    def setup(self, params: FindParams, inputs: Inputs, context: Context) -> None:
        note(context.externals, "find setup")
        self.model = params.scale

    def run(self, params: FindParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        assert self.model is not None
        note(context.externals, f"find {shard.name}")
        if context.externals.get("die_at") == shard.name and once(context):
            (out / "detections.parquet").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        if context.externals.get("fail_at") == shard.name:
            raise ZeroDivisionError("no reason")
        time.sleep(params.sleep_s)
        generator = np.random.default_rng(context.seed)
        n, index = shard.stop - shard.start, np.arange(shard.start, shard.stop)
        corner = generator.uniform(0, 20, (n, 2))
        context.progress(n, n, "frames")
        write_table(
            Detections(
                session=[shard.session] * n, camera=[shard.camera] * n, index=index,
                pts=index, det_id=index,
                xyxy=np.concatenate([corner, corner + 20 * self.model], 1), score=generator.uniform(0, 1, n),
                label=[0] * n, meta={"model": str(self.model)},
            ),
            out,
        )  # fmt: skip


def once(context: Context) -> bool:
    """True the first time only: a crash that does not repeat after a restart."""
    marker = Path(context.externals["marker"])
    if marker.exists():
        return False
    marker.touch()
    return True


class Join:
    name, version = "join", 1
    needs = Resources()
    consumes: ClassVar[dict[str, Any]] = {"media": MediaKind, "candidates": DetectionsKind}
    produces = TracksKind
    volatile: frozenset[str] = frozenset()

    def shards(self, params: JoinParams, inputs: Inputs) -> list[Shard]:
        return [Shard(s, c) for s, c in read_table(MediaFiles, inputs["media"].path).view_keys()]

    def setup(self, params: JoinParams, inputs: Inputs, context: Context) -> None:
        pass

    def run(self, params: JoinParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        note(context.externals, f"join {shard.name}")
        found = read_tables(Detections, inputs["candidates"].paths(shard.session, shard.camera))
        found = found.view(shard.session, shard.camera)
        write_table(
            Tracks(
                session=found.session, camera=found.camera, index=found.index, pts=found.pts,
                track_id=found.index // (1 + params.gap), det_id=found.det_id, xyxy=found.xyxy,
                score=found.score, interpolated=[False] * len(found),
            ),
            out,
        )  # fmt: skip


class Sum:
    name, version = "sum", 1
    needs = Resources()
    produces = MetricsKind
    volatile: frozenset[str] = frozenset()

    def __init__(self, *names: str) -> None:
        self.consumes = dict.fromkeys(names, TracksKind)

    def shards(self, params: SumParams, inputs: Inputs) -> list[Shard]:
        return [Shard()]

    def setup(self, params: SumParams, inputs: Inputs, context: Context) -> None:
        pass

    def run(self, params: SumParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        note(context.externals, f"sum {shard.name}")
        totals = {
            name: float(read_tables(Tracks, ref.paths()).xyxy.sum(dtype=np.float64))
            for name, ref in sorted(inputs.items())
        }
        (out / "metrics.json").write_text(json.dumps({params.title: totals}))


def make_graph(
    *,
    probe: ProbeParams | None = None,
    find: FindParams | None = None,
    find2: FindParams | None = None,
    join: JoinParams | None = None,
    seed: int = 0,
    **externals: str,
) -> Graph:
    """probe -> find1, find2 -> join1, join2 -> sum: a model stage, two branches, several inputs of a kind."""
    graph = Graph()
    media = graph.add("media", Probe(), probe or ProbeParams(), externals=externals)
    joined = {}
    for number, params in ((1, find or FindParams()), (2, find2 or FindParams(scale=2.0))):
        found = graph.add(
            f"find_{number}", Find(), params, inputs={"media": media}, externals=externals, seed=seed
        )
        joined[f"tracks_{number}"] = graph.add(
            f"join_{number}", Join(), join or JoinParams(), inputs={"media": media, "candidates": found},
            externals=externals,
        )  # fmt: skip
    graph.add("total", Sum(*joined), SumParams(), inputs=joined, externals=externals)
    return graph


def main() -> None:
    """Run the graph in a process of its own: `engine_stages.py EXECUTOR WORK KEY=VALUE...` (externals)."""
    import sys

    executor, work, *pairs = sys.argv[1:]
    externals = dict(pair.split("=", 1) for pair in pairs)
    find = FindParams(sleep_s=float(externals.pop("sleep_s", "0")))
    graph, store = make_graph(find=find, **externals), Store(Path(work))
    if executor == "ray":
        from orveil.pipeline.cluster import run_ray

        results = run_ray(graph, store, workers=2)
    else:
        from orveil.pipeline.local import run_local

        results = run_local(graph, store)
    print(json.dumps({name: ref.digest for name, ref in results.items()}))


if __name__ == "__main__":
    main()
