"""Benchmark part: simulated rooms rendered and searched for people once, then read back as tables.

A folder holds one folder per seed: `cam01.mp4 ...` and `gt.json` from the simulator, `work/` with the
artifacts of the pipeline (media, motion, candidates), and `tables/NAME/` with the same tables of the detector
NAME in one file each. What is there and still right is not made again: an interrupted run goes on, and other
weights are detected anew.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from orveil.pipeline.artifact import Store
from orveil.pipeline.graph import Graph
from orveil.pipeline.local import run_local
from orveil.pipeline.settings import DetectParams, MotionParams, SiteSettings
from orveil.pipeline.stage import InputRef
from orveil.pipeline.tables import read_table, read_tables, write_table
from orveil.pipeline.types import HEAD, PERSON, Detections, MediaFiles, MediaIndex, Motion
from orveil.stages.detect import Detect
from orveil.stages.ingest import Ingest
from orveil.stages.models import resolve
from orveil.stages.motion import FindMotion
from orveil.stages.sources import site_media
from orveil.stages.truth import Truth, load_truth
from orveil.stages.weights import ImportWeights, import_weights_node

__all__ = ["Detector", "Recording", "find_candidates", "open_recording", "prepare", "rendered"]


@dataclass(frozen=True)
class Detector:
    """Where candidates come from: a registry name, or a path of weights with the name of its config."""

    model: str = "embedded-detector"
    config: str | None = None
    long_side: int = 512

    @property
    def name(self) -> str:
        """Short name, for a folder."""
        return Path(self.model).stem


@dataclass(frozen=True)
class Recording:
    """One simulated session, with its ground truth; `heads` is None for detectors without."""

    name: str
    files: MediaFiles
    frames: MediaIndex
    motion: Motion
    persons: Detections
    heads: Detections | None
    truth: Truth


def rendered(root: Path, seed: int) -> Path:
    """The folder of a room, rendered first if it is not there."""
    site = root / str(seed)
    if not any((site / name).exists() for name in ("gt.json", "gt.json.gz")):
        subprocess.run(
            [sys.executable, "-m", "orveil.sim.site", "--seed", str(seed), "--out", str(site)], check=True
        )
    return site


def prepare(root: Path, seed: int, detector: Detector) -> Path:
    """Render and detect whatever is missing; returns the folder of the tables."""
    site = rendered(root, seed)
    made = find_candidates(site, site / "work", detector)
    tables = site / "tables" / detector.name
    tables.mkdir(parents=True, exist_ok=True)
    write_table(read_table(MediaFiles, made["media"].path), tables)
    write_table(read_table(MediaIndex, made["media"].path), tables)
    write_table(read_tables(Motion, made["motion"].paths()), tables)
    write_table(read_tables(Detections, made["candidates"].paths()), tables)
    return tables


def find_candidates(videos: Path, work: Path, detector: Detector) -> dict[str, InputRef]:
    """The first nodes of an adaptation: `media`, `motion` and `candidates` of a folder of videos."""
    graph, settings = Graph(), SiteSettings(name=videos.name, work=work, videos=videos)
    source, externals = site_media(settings)
    media = graph.add("media", Ingest(), source, externals=externals)
    graph.add("motion", FindMotion(), MotionParams(), inputs={"media": media})
    found = resolve(detector.model, detector.config)
    size = detector.long_side
    params, files = import_weights_node("detector", found.name, found.weights, found.config, size)
    weights = graph.add("weights", ImportWeights(), params, externals=files)
    inputs = {"media": media, "weights": weights}
    graph.add("candidates", Detect(), DetectParams(long_side=size), inputs=inputs)
    return run_local(graph, Store(work))


def open_recording(root: Path, seed: int, detector: Detector) -> Recording:
    """Read what `prepare` made, with the ground truth.

    Raises:
        OrveilError: it is not there, or damaged.
    """
    tables = root / str(seed) / "tables" / detector.name
    files, frames = read_table(MediaFiles, tables), read_table(MediaIndex, tables)
    motion, candidates = read_table(Motion, tables), read_table(Detections, tables)
    truth = next(p for n in ("gt.json", "gt.json.gz") if (p := root / str(seed) / n).exists())
    persons, heads = (candidates.select(candidates.label == label) for label in (PERSON, HEAD))
    known = heads if len(heads) else None
    return Recording(str(seed), files, frames, motion, persons, known, load_truth(truth, files, frames))
