"""Stage: the before/after table, from ground truth that no other stage reads.

Rows: the off-the-shelf detector, the detector after each round, the offline path (labels and poses of the
last round) and the student as it ran in the blurring stage. Operating points: detectors at a fixed score,
the offline path where a label is positive, the student at the thresholds of its bundle. `metrics.py` says
how boxes are matched, `exposure.py` how the coverage of blurred faces is measured, `tracking.py` how the
tracks behind the labels are judged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.pipeline.kinds import (
    BlurredKind,
    BundleKind,
    DetectionsKind,
    MediaKind,
    MetricsKind,
    PosesKind,
    PseudoLabelsKind,
)
from orveil.pipeline.settings import EvaluateParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import read_table, read_tables
from orveil.pipeline.types import (
    FACE,
    HEAD,
    PERSON,
    POSITIVE,
    Detections,
    MediaFiles,
    MediaIndex,
    Poses,
    PseudoLabels,
)
from orveil.stages import metrics
from orveil.stages.exposure import measure_exposure
from orveil.stages.metrics import Predicted
from orveil.stages.tracking import tracking
from orveil.stages.truth import Truth, load_truth

__all__ = ["Evaluate", "evaluate_row", "round_names"]

Json = dict[str, Any]
Boxes = Mapping[int, Predicted]
"""Label -> predicted boxes; a label that a method does not predict is missing."""


def round_names(rounds: int) -> list[tuple[str, str]]:
    """(input name, row name) of the detector runs: round k's detector made the candidates of round k + 1."""
    inputs = [f"candidates_{r}" for r in range(1, rounds + 2)]
    names = ["off-the-shelf"] + [f"round {r}" for r in range(1, rounds + 1)]
    return list(zip(inputs, names, strict=True))


@dataclass(frozen=True)
class Row:
    """One method: its name, the input it was read from, and its boxes."""

    name: str
    source: str
    operating_point: str
    boxes: Boxes


class Evaluate:
    """Compares every method of a run of `rounds` rounds with ground truth.

    `externals["ground_truth"]` is the path of the ground truth; its sha256 is in the parameters.
    """

    name: ClassVar[str] = "evaluate"
    version: ClassVar[int] = 2
    needs: ClassVar[Resources] = Resources(cpus=1, threads=1)
    produces: ClassVar[type[ArtifactType]] = MetricsKind
    volatile: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.consumes: Mapping[str, type[ArtifactType]] = {
            "media": MediaKind,
            **{name: DetectionsKind for name, _ in round_names(rounds)},
            "labels_final": PseudoLabelsKind,
            "poses_final": PosesKind,
            "blurred": BlurredKind,
            "bundle": BundleKind,
        }

    def shards(self, params: EvaluateParams, inputs: Inputs) -> Sequence[Shard]:
        """One for the whole site."""
        return [Shard()]

    def setup(self, params: EvaluateParams, inputs: Inputs, context: Context) -> None:
        """Nothing to load."""

    def run(self, params: EvaluateParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Write metrics.json."""
        path = _checked(Path(context.externals["ground_truth"]), params.ground_truth_sha256)
        media = inputs["media"].path
        truth = load_truth(path, read_table(MediaFiles, media), read_table(MediaIndex, media))
        makers = self._rows(truth, params, inputs)
        rows = []
        for done, make in enumerate(makers):
            context.progress(done, len(makers) + 1, "rows")
            rows.append(evaluate_row(truth, make(), params))
        context.progress(len(makers), len(makers) + 1, "rows")
        result = {
            "format": 1,
            "ground_truth": _describe(truth, params.ground_truth_sha256),
            "settings": params.model_dump(mode="json", exclude={"ground_truth_sha256"}),
            "rows": rows,
            "tracking": tracking(truth, _labels(inputs)),
            "blur": measure_exposure(truth, inputs["blurred"], params.covered),
        }
        text = json.dumps(result, indent=1, sort_keys=True, allow_nan=False)
        (out / "metrics.json").write_text(text + "\n", "utf-8")

    def _rows(self, truth: Truth, params: EvaluateParams, inputs: Inputs) -> list[Callable[[], Row]]:
        def detector(source: str, name: str) -> Callable[[], Row]:
            return lambda: _detector_row(truth, name, source, inputs, params.detector_score)

        return [
            *(detector(source, name) for source, name in round_names(self.rounds)),
            lambda: _offline_row(truth, inputs),
            lambda: _student_row(truth, inputs),
        ]


def _checked(path: Path, sha256: str) -> Path:
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise explain_os_error(error, str(path)) from error
    if found != sha256:
        raise OrveilError(
            "the ground truth changed while the run was going on",
            where=str(path),
            remedy="run the same command again; only the evaluation is redone",
        )
    return path


def _describe(truth: Truth, sha256: str) -> Json:
    counts = {name: len(truth.boxes[label]) for name, label in LABELS}
    persons = truth.boxes[PERSON]
    views = _views(truth)
    return {
        "sha256": sha256,
        "frames": len(truth.frames),
        "images_outside_the_site": truth.unmatched,
        "cameras": [f"{session}/{camera}" for session, camera in views],
        "boxes": counts,
        "hard_persons": int(persons.is_hard.sum()),
        "visible_faces": int(truth.boxes[FACE].face_visible.sum()),
    }


def _views(truth: Truth) -> list[tuple[str, str]]:
    """The (session, camera) pairs that have ground truth, sorted."""
    return sorted(set(zip(truth.frames.session.tolist(), truth.frames.camera.tolist(), strict=True)))


LABELS = (("person", PERSON), ("head", HEAD), ("face", FACE))


def _detector_row(truth: Truth, name: str, source: str, inputs: Inputs, threshold: float) -> Row:
    table = read_tables(Detections, (path for _, path in inputs[source].shards))
    return Row(name, source, f"score >= {threshold:g}", _detections(truth, table, lambda _: threshold))


def _detections(truth: Truth, table: Detections, threshold: Callable[[int], float]) -> Boxes:
    boxes = {}
    for label in np.unique(table.label).tolist():
        rows = table.select(table.label == label)
        operating = rows.score >= np.float32(threshold(label))
        boxes[label] = Predicted.of(truth.frames, rows, rows.xyxy, rows.score, operating)
    boxes.setdefault(PERSON, _none())
    return boxes


def _none() -> Predicted:
    empty = np.zeros(0)
    return Predicted(empty.astype(np.int64), np.zeros((0, 4), np.float32), empty, empty.astype(bool))


def _labels(inputs: Inputs) -> PseudoLabels:
    return read_tables(PseudoLabels, (path for _, path in inputs["labels_final"].shards))


def _offline_row(truth: Truth, inputs: Inputs) -> Row:
    """Positive labels; heads and faces from their poses."""
    labels = _labels(inputs)
    poses = read_tables(Poses, (path for _, path in inputs["poses_final"].shards))
    positive = labels.select((labels.state == POSITIVE) & (labels.label == PERSON))
    known = set(
        zip(positive.session.tolist(), positive.camera.tolist(), positive.label_id.tolist(), strict=True)
    )
    keys = zip(poses.session.tolist(), poses.camera.tolist(), poses.label_id.tolist(), strict=True)
    poses = poses.select(np.array([key in known for key in keys], dtype=bool))
    seen = poses.select(poses.face_score > 0)
    everything = np.array(True)
    return Row("offline path", "labels_final", "positive labels", {
        PERSON: Predicted.of(truth.frames, positive, positive.xyxy, positive.score, everything),
        HEAD: Predicted.of(truth.frames, poses, poses.head_xyxy, poses.head_score, everything),
        FACE: Predicted.of(truth.frames, seen, seen.face_xyxy, seen.face_score, everything),
    })  # fmt: skip


def _label_keys(table: PseudoLabels | Poses) -> list[tuple[str, str, int]]:
    return list(zip(table.session.tolist(), table.camera.tolist(), table.label_id.tolist(), strict=True))


def _student_row(truth: Truth, inputs: Inputs) -> Row:
    table = read_tables(Detections, (path for _, path in inputs["blurred"].shards))
    thresholds = _bundle_thresholds(inputs["bundle"].path / "bundle.json")
    boxes = _detections(truth, table, lambda label: thresholds.get(label, 1.0))
    said = ", ".join(f"{name} >= {thresholds[label]:.2f}" for name, label in LABELS if label in thresholds)
    return Row("student", "blurred", said, boxes)


def _bundle_thresholds(path: Path) -> dict[int, float]:
    """Label -> score threshold, from the bundle."""
    bundle = json.loads(path.read_text("utf-8"))
    named = dict(LABELS)
    return {named[name]: float(value) for name, value in bundle["thresholds"].items() if name in named}


def evaluate_row(truth: Truth, row: Row, params: EvaluateParams) -> Json:
    """All figures of one method; a figure is None where it has no meaning (no such boxes, no truth)."""
    body = metrics.match(truth.boxes[PERSON], row.boxes[PERSON], params.body_iou)
    persons = truth.boxes[PERSON]
    result: Json = {
        "name": row.name,
        "source": row.source,
        "operating_point": row.operating_point,
        "body": {
            "recall": metrics.recall(body),
            "precision": metrics.precision(body),
            "ap50": metrics.average_precision(body),
            "ap": metrics.coco_ap(persons, row.boxes[PERSON]),
            "hard_recall": metrics.recall(body, persons.is_hard),
            "all_views_recall": metrics.all_views_recall(truth.frames, persons, body.found),
            "recall_at_precision_90": metrics.recall_at_precision(body, 0.9),
        },
        "cameras": _by_camera(truth, row, params.body_iou),
    }
    for name, label, iou in (("head", HEAD, params.head_iou), ("face", FACE, params.face_iou)):
        if label in row.boxes and label in truth.categories:
            result[name] = _part(truth, row.boxes[label], label, iou)
        else:
            result[name] = {"recall": None, "precision": None}
    return result


def _part(truth: Truth, predicted: Predicted, label: int, iou: float) -> Json:
    """Heads, or faces that are turned to the camera; precision where all faces are in the truth."""
    boxes = truth.boxes[label]
    found = metrics.match(boxes, predicted, iou)
    visible = boxes.face_visible if label == FACE else np.ones(len(boxes), dtype=bool)
    return {"recall": metrics.recall(found, visible), "precision": metrics.precision(found)}


def _by_camera(truth: Truth, row: Row, iou: float) -> Json:
    """The body figures of each camera, so that no camera is lost in the mean."""
    frames, persons, predicted = truth.frames, truth.boxes[PERSON], row.boxes[PERSON]
    result = {}
    for session, camera in sorted(set(zip(frames.session.tolist(), frames.camera.tolist(), strict=True))):
        here = (frames.session == session) & (frames.camera == camera)
        found = metrics.match(
            persons.select(here[persons.frame]), predicted.select(here[predicted.frame]), iou
        )
        result[f"{session}/{camera}"] = {
            "persons": int(found.wanted.sum()),
            "recall": metrics.recall(found),
            "precision": metrics.precision(found),
            "ap50": metrics.average_precision(found),
        }
    return result
