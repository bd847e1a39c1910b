"""The whole adaptation, wired from top to bottom: read this file to see how data flows.

media -> motion, once
media -> candidates -> tracks -> associations -> pseudo labels -> poses -> weights -> guard   (each round)
weights -> student -> bundle -> blurred video; evaluation and report at the side
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orveil.pipeline.graph import Graph, Node
from orveil.pipeline.settings import EvaluateParams, Params, SiteSettings
from orveil.pipeline.stage import Stage
from orveil.stages.associate import Associate
from orveil.stages.blur import Blur
from orveil.stages.detect import Detect
from orveil.stages.distil import Distil
from orveil.stages.evaluate import Evaluate
from orveil.stages.export import Export
from orveil.stages.finetune import Finetune
from orveil.stages.guard import Guard
from orveil.stages.ingest import Ingest
from orveil.stages.models import resolve
from orveil.stages.motion import FindMotion
from orveil.stages.pose import Pose
from orveil.stages.pose_train import PoseTrain
from orveil.stages.pseudolabel import PseudoLabel
from orveil.stages.report import Report
from orveil.stages.sources import site_media
from orveil.stages.steady import Steady
from orveil.stages.track import Track
from orveil.stages.weights import ImportWeights, file_sha256, import_weights_node

__all__ = ["build_graph"]

DRAWS_NUMBERS = ("associations", "labels", "weights", "pose_weights", "student")
"""Nodes whose result depends on the site's seed."""


def build_graph(site: SiteSettings) -> Graph:
    """The graph of `orveil adapt`: unrolled rounds, then student, bundle, blurred video and report.

    Args:
        site: settings with absolute paths, as `load_site` returns them.

    Raises:
        OrveilError: missing videos or weights, or weights that no config describes.
    """
    plan = _Plan(site)
    plan.media()
    plan.motion()
    detector = plan.weights(
        "detector", "weights_0", site.detector, site.detector_config, site.detect.long_side
    )
    pose = plan.weights("pose", "pose_weights_0", site.pose_model, site.pose_config)

    start = detector
    plan.find_people("1", detector, 1)
    for number in range(1, site.rounds + 1):
        plan.poses(str(number), pose, scope="train")
        plan.steady(str(number), detector)
        trained = plan.finetune(str(number), detector, anchor=start)
        plan.find_people(str(number + 1), trained, number + 1)
        detector = plan.guard(number, before=detector, after=trained)

    plan.find_people("final", detector, site.rounds + 1)
    plan.steady("final", detector)
    plan.poses("final", pose, scope="train", name="poses_train")
    pose = plan.train_pose(pose)
    plan.poses("final", pose, scope="all")

    student = plan.distil(detector)
    plan.export(student)
    plan.blur()
    plan.evaluate()
    plan.report()
    return plan.graph


@dataclass
class _Plan:
    """The graph while it is being wired; `made` holds every node by its name."""

    site: SiteSettings
    graph: Graph = field(default_factory=Graph)
    made: dict[str, Node] = field(default_factory=dict)

    def media(self) -> Node:
        params, externals = site_media(self.site)
        self.made["media"] = self.graph.add("media", Ingest(), params, externals=externals)
        return self.made["media"]

    def motion(self) -> Node:
        return self._add("motion", "", FindMotion(), self.site.motion, {})

    def weights(self, kind: str, name: str, model: str, config: str | None, long_side: int = 0) -> Node:
        found = resolve(model, config)
        params, externals = import_weights_node(kind, found.name, found.weights, found.config, long_side)
        self.made[name] = self.graph.add(name, ImportWeights(), params, externals=externals)
        return self.made[name]

    def find_people(self, suffix: str, detector: Node, number: int) -> None:
        """Candidates of one detector, joined over time and across cameras, weighed into labels."""
        site = self.site
        self._add("candidates", suffix, Detect(), site.detect, {"weights": detector})
        self._add("tracks", suffix, Track(), site.track, self._of(suffix, "candidates"))
        self._add("associations", suffix, Associate(), site.associate, self._of(suffix, "tracks"))
        params = site.pseudolabel.model_copy(update={"round": number})
        evidence = self._of(suffix, "candidates", "tracks", "associations")
        evidence["motion"] = self.made["motion"]
        self._add("labels", suffix, PseudoLabel(), params, evidence)

    def poses(self, suffix: str, pose: Node, scope: str, name: str = "") -> None:
        params = self.site.pose.model_copy(update={"scope": scope})
        inputs = {**self._of(suffix, "candidates", "labels"), "weights": pose}
        self._add("poses", suffix, Pose(), params, inputs, name=name)

    def steady(self, suffix: str, detector: Node) -> None:
        """The labels to train on: those of the pass, less boxes that do not move or fail a second look."""
        params = self.site.steady.model_copy(update={"long_side": self.site.detect.long_side})
        inputs = {**self._of(suffix, "labels"), "motion": self.made["motion"], "weights": detector}
        self._add("steady", suffix, Steady(), params, inputs)

    def taught(self, suffix: str) -> Mapping[str, Node]:
        """What a training learns from."""
        return {"labels": self.made[f"steady_{suffix}"], **self._of(suffix, "poses")}

    def finetune(self, suffix: str, detector: Node, anchor: Node) -> Node:
        inputs = {**self.taught(suffix), "weights": detector, "anchor": anchor}
        return self._add("weights", suffix, Finetune(self.site.finetune.workers), self.site.finetune, inputs)

    def guard(self, number: int, before: Node, after: Node) -> Node:
        """The better of two detectors, by what each found and what its labels say."""
        name, now, then = f"guard_{number}", str(number), str(number + 1)
        inputs = {"before": before, "after": after}
        inputs |= {f"{kind}_before": self.made[f"{kind}_{now}"] for kind in ("candidates", "labels")}
        inputs |= {f"{kind}_after": self.made[f"{kind}_{then}"] for kind in ("candidates", "labels")}
        self.made[name] = self.graph.add(name, Guard(), self.site.guard, inputs=inputs)
        return self.made[name]

    def train_pose(self, pose: Node) -> Node:
        inputs = {"labels": self.made["labels_final"], "poses": self.made["poses_train"], "weights": pose}
        return self._add("pose_weights", "", PoseTrain(), self.site.pose_train, inputs)

    def distil(self, teacher: Node) -> Node:
        params = self.site.distil
        start = self.weights("detector", "student_0", params.model, params.config, params.long_side)
        inputs = {**self.taught("final"), "teacher": teacher, "start": start}
        return self._add("student", "", Distil(), params, inputs)

    def export(self, student: Node) -> Node:
        inputs = {**self._of("final", "labels", "poses"), "student": student}
        return self._add("bundle", "", Export(), self.site.export, inputs)

    def blur(self) -> Node:
        return self._add("blurred", "", Blur(), self.site.blur, {"bundle": self.made["bundle"]})

    def evaluate(self) -> None:
        """Only where the site file names ground truth; nothing else reads it."""
        truth = self.site.evaluate.ground_truth
        if truth is None:
            return
        stage = Evaluate(self.site.rounds)
        self.made["metrics"] = self.graph.add(
            "metrics",
            stage,
            EvaluateParams(ground_truth_sha256=file_sha256(truth)),
            inputs={name: self.made[name] for name in stage.consumes},
            externals={"ground_truth": str(truth)},
        )

    def report(self) -> None:
        stage = Report(self.site.rounds, with_metrics="metrics" in self.made)
        params = self.site.report.model_copy(update={"title": self.site.report.title or self.site.name})
        self.graph.add("report", stage, params, inputs={name: self.made[name] for name in stage.consumes})

    def _of(self, suffix: str, *names: str) -> dict[str, Node]:
        """Inputs called `names`, fed by the nodes of one pass."""
        return {name: self.made[f"{name}_{suffix}"] for name in names}

    def _add(
        self,
        kind: str,
        suffix: str,
        stage: Stage,
        params: Params,
        inputs: Mapping[str, Node],
        name: str = "",
    ) -> Node:
        """Add a node that also reads the media."""
        name = name or (f"{kind}_{suffix}" if suffix else kind)
        seed = self.site.seed if kind in DRAWS_NUMBERS else 0
        node = self.graph.add(name, stage, params, inputs={"media": self.made["media"], **inputs}, seed=seed)
        self.made[name] = node
        return node
