#!/usr/bin/env python
"""Benchmark: what the engine costs over a plain loop that makes the same calls.

    scripts/bench_engine.py                                          fixed compute, realistic tables
    scripts/bench_engine.py --real site.toml --until candidates_1    the site's own stages and models

Both ways call the same stages on the same inputs, in turns, in one process: the plain loop calls `shards`,
`setup` and `run` and writes into bare folders; the engine adds keys, checks, hashes, syncs and manifests.
The printed ratio is of the sums over all turns. Models are loaded in both ways each time.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from orveil.pipeline.artifact import Store
from orveil.pipeline.graph import Graph
from orveil.pipeline.kinds import DetectionsKind, MediaKind, TracksKind
from orveil.pipeline.local import run_local
from orveil.pipeline.settings import Params, load_site
from orveil.pipeline.stage import ArtifactType, Context, InputRef, Inputs, Resources, Shard
from orveil.pipeline.tables import read_table, read_tables, write_table
from orveil.pipeline.threads import limit_threads
from orveil.pipeline.types import Detections, MediaFiles, MediaIndex, Tracks

BOXES = 20
"""Candidates per frame at a low threshold: persons and heads."""


class MediaParams(Params):
    """How many cameras, and frames of each."""

    cameras: int
    frames: int


class WorkParams(Params):
    """How much is computed per frame, and how many frames make a shard."""

    products: int
    chunk: int


def compute(products: int) -> float:
    """A fixed amount of arithmetic: matrix products in the cache, as a detector's layers are."""
    a = np.full((128, 128), 0.5, np.float32)
    for _ in range(products):
        a = np.tanh(a @ a)
    return float(a[0, 0])


class _Bench:
    version: ClassVar[int] = 1
    needs: ClassVar[Resources] = Resources()
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {}
    volatile: ClassVar[frozenset[str]] = frozenset()

    def setup(self, params: Any, inputs: Inputs, context: Context) -> None:
        """Nothing to load."""


class BenchMedia(_Bench):
    """An index of frames without videos."""

    name: ClassVar[str] = "bench-media"
    produces: ClassVar[type[ArtifactType]] = MediaKind

    def shards(self, params: MediaParams, inputs: Inputs) -> list[Shard]:
        """One."""
        return [Shard()]

    def run(self, params: MediaParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Write both tables."""
        cameras = [f"cam{number}" for number in range(params.cameras)]
        per_file = {
            "session": "main", "path": "", "sha256": "0" * 64, "width": 640, "height": 480, "rotation": 0,
            "time_base_num": 1, "time_base_den": 10, "frames": params.frames,
            "duration_s": params.frames / 10, "offset_s": 0.0, "offset_source": "given",
        }  # fmt: skip
        columns = {name: [value] * len(cameras) for name, value in per_file.items()}
        write_table(MediaFiles(camera=cameras, **columns), out)
        index = np.tile(np.arange(params.frames), len(cameras))
        camera = np.repeat(cameras, params.frames)
        session = np.full(len(index), "main")
        write_table(
            MediaIndex(session=session, camera=camera, index=index, pts=index, time_s=index / 10), out
        )


class BenchDetect(_Bench):
    """Computes for each frame, then writes a table of candidates."""

    name: ClassVar[str] = "bench-detect"
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {"media": MediaKind}
    produces: ClassVar[type[ArtifactType]] = DetectionsKind

    def shards(self, params: WorkParams, inputs: Inputs) -> list[Shard]:
        """Camera by chunk."""
        files = read_table(MediaFiles, inputs["media"].path)
        return [
            Shard("main", str(camera), start, min(start + params.chunk, int(count)))
            for camera, count in zip(files.camera, files.frames, strict=True)
            for start in range(0, int(count), params.chunk)
        ]

    def run(self, params: WorkParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Do the frames of a shard."""
        frames = np.arange(shard.start, shard.stop)
        for done, _ in enumerate(frames):
            compute(params.products)
            context.progress(done + 1, len(frames), "frames")
        index = np.repeat(frames, BOXES)
        generator = np.random.default_rng(context.seed)
        corner = generator.uniform(0, 400, (len(index), 2))
        table = Detections(
            session=np.full(len(index), shard.session), camera=np.full(len(index), shard.camera),
            index=index, pts=index, det_id=np.arange(len(index)) + shard.start * BOXES,
            xyxy=np.concatenate([corner, corner + 40], axis=1), score=generator.uniform(0, 1, len(index)),
            label=index % 2,
        )  # fmt: skip
        write_table(table, out)


class BenchTrack(_Bench):
    """Reads the candidates of a camera and writes as many track rows."""

    name: ClassVar[str] = "bench-track"
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {"media": MediaKind, "candidates": DetectionsKind}
    produces: ClassVar[type[ArtifactType]] = TracksKind

    def shards(self, params: WorkParams, inputs: Inputs) -> list[Shard]:
        """One per camera."""
        return [Shard(s, c) for s, c in read_table(MediaFiles, inputs["media"].path).view_keys()]

    def run(self, params: WorkParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Do one camera."""
        found = read_tables(Detections, inputs["candidates"].paths(shard.session, shard.camera))
        for _ in range(len(found) // BOXES):
            compute(params.products // 4)
        table = Tracks(
            session=found.session, camera=found.camera, index=found.index, pts=found.pts,
            track_id=found.det_id % BOXES, det_id=found.det_id, xyxy=found.xyxy, score=found.score,
            interpolated=np.zeros(len(found), bool),
        )  # fmt: skip
        write_table(table, out)


def synthetic_graph(cameras: int, frames: int, chunk: int, products: int) -> Graph:
    """media -> candidates -> tracks, twice: two rounds."""
    graph, work = Graph(), WorkParams(products=products, chunk=chunk)
    media = graph.add("media", BenchMedia(), MediaParams(cameras=cameras, frames=frames))
    for number in (1, 2):  # the seed keeps the second round from being the first one again
        found = graph.add(f"candidates_{number}", BenchDetect(), work, inputs={"media": media}, seed=number)
        graph.add(f"tracks_{number}", BenchTrack(), work, inputs={"media": media, "candidates": found})
    return graph


def real_graph(site_file: Path, until: str) -> Graph:
    """The part of a site's graph that `until` needs."""
    from orveil.stages.adapt import build_graph
    from orveil.stages.cli_run import upstream_of

    return upstream_of(build_graph(load_site(site_file)), until)


def plain_loop(graph: Graph, folder: Path) -> int:
    """All shards of all nodes, one after the other; returns their number."""
    finished: dict[str, InputRef] = {}
    count = 0
    for node in graph:
        inputs = {name: finished[upstream] for name, upstream in node.inputs.items()}
        stage = copy.copy(node.stage)
        scratch = folder / "scratch" / node.name
        scratch.mkdir(parents=True)
        context = Context(node.seed, scratch, lambda done, total, unit: None, dict(node.externals))
        limit_threads(stage.needs.threads)
        stage.setup(node.params, inputs, context)
        limit_threads(stage.needs.threads)
        done = []
        for number, shard in enumerate(stage.shards(node.params, inputs)):
            out = folder / node.name / str(number)
            out.mkdir(parents=True)
            stage.run(node.params, inputs, shard, out, context)
            done.append((shard, out))
        finished[node.name] = InputRef(node.name, "", tuple(done))
        count += len(done)
    return count


def calibrate(frame_ms: float) -> int:
    """Matrix products that take about `frame_ms` of CPU here; only the size of the work depends on it."""
    compute(200)
    begin = time.process_time()
    compute(1000)
    return max(int(frame_ms / (time.process_time() - begin)), 4)


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> int:
    """Measure in turns and print; the exit status is 1 where the ratio is above `--limit`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=3, help="how often each way is run (default 3)")
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--frames", type=int, default=200, help="per camera")
    parser.add_argument("--chunk", type=int, default=100, help="frames per shard")
    parser.add_argument("--frame-ms", type=float, default=10.0, help="compute per frame, ms")
    parser.add_argument("--real", type=Path, metavar="SITE.toml", help="use a site's own stages")
    parser.add_argument("--until", default="candidates_1", help="last node of --real (default candidates_1)")
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--limit", type=float, default=1.05)
    options = parser.parse_args()

    if options.real:
        graph = real_graph(options.real, options.until)
    else:
        limit_threads(1)
        products = calibrate(options.frame_ms)
        graph = synthetic_graph(options.cameras, options.frames, options.chunk, products)
    wall, cpu, shards = {"plain": 0.0, "engine": 0.0}, {"plain": 0.0, "engine": 0.0}, 0
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as name:
        root = Path(name)
        shards = plain_loop(graph, root / "warm-up")  # imports and caches of the first use
        for turn in range(options.turns):
            place = root / str(turn)
            calls: dict[str, Callable[[], Any]] = {
                "plain": lambda place=place: plain_loop(graph, place / "plain"),  # type: ignore[misc]
                "engine": lambda place=place: run_local(graph, Store(place / "engine")),  # type: ignore[misc]
            }
            for way in sorted(calls, reverse=bool(turn % 2)):  # take turns in going first
                seconds = timed(calls[way])
                wall[way] += seconds[0]
                cpu[way] += seconds[1]
            print(
                f"turn {turn + 1}: so far plain {wall['plain']:.2f} s, engine {wall['engine']:.2f} s",
                flush=True,
            )
            shutil.rmtree(place)
    ratio = wall["engine"] / wall["plain"]
    extra_ms = (wall["engine"] - wall["plain"]) / options.turns / shards * 1000
    print(f"{shards} shards in {len(graph)} nodes, {options.turns} turns")
    print(f"wall: engine / plain loop = {ratio:.4f}, {extra_ms:+.1f} ms per shard")
    print(f"CPU:  engine / plain loop = {cpu['engine'] / cpu['plain']:.4f}")
    return int(ratio > options.limit)


if __name__ == "__main__":
    sys.exit(main())
