"""Benchmark part: the graph of an adaptation with its supervised twin, cut to what is to be scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adapt_truth import KeepSources, SourceParams, TrueHeads, TrueLabels, TruthParams

from orveil.pipeline.graph import Graph, Node
from orveil.pipeline.settings import SiteSettings
from orveil.stages.adapt import build_graph
from orveil.stages.detect import Detect
from orveil.stages.finetune import Finetune
from orveil.stages.weights import file_sha256

__all__ = ["ROUNDS", "Start", "needed", "result_names", "sources_names", "truth_of"]

ROUNDS = 2
STUDENT_SCORE = 0.05
SOURCES = {
    "detected": ("detected",),
    "detected, temporal": ("detected", "temporal"),
    "detected, cross-view": ("detected", "cross_view"),
}


@dataclass(frozen=True)
class Start:
    """What an adaptation starts from, and how it differs from the defaults."""

    detector: str = "embedded-detector"
    config: str | None = None
    long_side: int = 512
    rounds: int = ROUNDS
    rate: float = 0.25

    @property
    def name(self) -> str:
        """Short name, for a folder."""
        return Path(self.detector).stem

    def site(self, folder: Path, work: Path) -> SiteSettings:
        """Settings of one room, as a site file would give them."""
        size = {"long_side": self.long_side}
        return SiteSettings.model_validate(
            {
                "name": f"room-{folder.name}",
                "work": work,
                "videos": folder,
                "rounds": self.rounds,
                "detector": self.detector,
                "detector_config": self.config,
                "detect": size,
                "finetune": size,
                "distil": {"model": self.detector, "config": self.config},
                "pseudolabel": {"false_discovery_rate": self.rate},
            }
        )


def truth_of(folder: Path) -> Path:
    """The ground truth of a rendered room."""
    return next(path for name in ("gt.json", "gt.json.gz") if (path := folder / name).exists())


def needed(folder: Path, work: Path, start: Start, sources: bool) -> Graph:
    """What has to run for the table of one room."""
    site = start.site(folder, work)
    graph = build_graph(site)
    names = set(result_names(start.rounds).values()) | {"labels_final", "poses_train", "poses_final"}
    _add_student(graph, site)
    _add_ceiling(graph, site, truth_of(folder))
    if sources:
        _add_sources(graph, site)
        names |= set(sources_names().values())
    return graph.upto(*names)


def result_names(rounds: int = ROUNDS) -> dict[str, str]:
    """Method -> node of its candidates, in the order of the table."""
    return {
        "off-the-shelf": "candidates_1",
        **{f"round {number}": f"candidates_{number + 1}" for number in range(1, rounds + 1)},
        "adapted, as the guard has it": "candidates_final",
        "student": "candidates_student",
        "supervised ceiling": "candidates_ceiling",
    }


def sources_names() -> dict[str, str]:
    """The same for one round of training on some sources only."""
    return {f"one round of {name}": f"candidates_only_{at}" for at, name in enumerate(SOURCES)}


def _add_student(graph: Graph, site: SiteSettings) -> None:
    params = site.detect.model_copy(
        update={"long_side": site.distil.long_side, "score_threshold": STUDENT_SCORE}
    )
    _detect(graph, "candidates_student", site, graph.node("student"), params)


def _add_ceiling(graph: Graph, site: SiteSettings, truth: Path) -> None:
    """The rounds once more, on the same frames, by the same schedule, with true labels."""
    params = TruthParams(ground_truth_sha256=file_sha256(truth))
    external = {"ground_truth": str(truth)}
    media, weights = graph.node("media"), graph.node("weights_0")
    for number in range(1, site.rounds + 1):
        inputs = {"media": media, "labels": graph.node(f"labels_{number}")}
        labels = graph.add(f"truth_{number}", TrueLabels(), params, inputs=inputs, externals=external)
        inputs = {"media": media, "labels": labels}
        heads = graph.add(f"heads_{number}", TrueHeads(), params, inputs=inputs, externals=external)
        weights = _train(graph, f"ceiling_{number}", site, labels, heads, weights)
    _detect(graph, "candidates_ceiling", site, weights)


def _add_sources(graph: Graph, site: SiteSettings) -> None:
    media, labels, poses = (graph.node(name) for name in ("media", "steady_1", "poses_1"))
    for at, kept in enumerate(SOURCES.values()):
        params = SourceParams(sources=kept)
        some = graph.add(f"only_{at}", KeepSources(), params, inputs={"media": media, "labels": labels})
        weights = _train(graph, f"weights_only_{at}", site, some, poses, graph.node("weights_0"))
        _detect(graph, f"candidates_only_{at}", site, weights)


def _train(graph: Graph, name: str, site: SiteSettings, labels: Node, poses: Node, start: Node) -> Node:
    inputs = {
        "media": graph.node("media"),
        "labels": labels,
        "poses": poses,
        "weights": start,
        "anchor": graph.node("weights_0"),
    }
    return graph.add(name, Finetune(), site.finetune, inputs=inputs, seed=site.seed)


def _detect(graph: Graph, name: str, site: SiteSettings, weights: Node, params: object = None) -> None:
    inputs = {"media": graph.node("media"), "weights": weights}
    graph.add(name, Detect(), params or site.detect, inputs=inputs)
