"""Stage: keep a round of training only if the detector agrees better with tracks and other views.

No ground truth: the reference are the pseudo labels, made from tracks and several views, of the detector
before the round and of the one after it. A detector that finds alone, in one frame, what time and the other
cameras say is there, has learned something; one that finds less, or shouts at everything, has not. Both are
judged by both references, because each set of labels favours the detector whose candidates it was made from,
and only on frames that the round was not trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import iou
from orveil.pipeline.kinds import DetectionsKind, PseudoLabelsKind, WeightsKind
from orveil.pipeline.settings import GuardParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import read_tables
from orveil.pipeline.types import PERSON, Detections, FrameLabels, PseudoLabels
from orveil.stages.targets import by_frame
from orveil.stages.weights import copy_weights, pass_weights, read_info

__all__ = ["VERDICT", "Guard", "agreement", "judge"]

Doubles = NDArray[np.float64]
Key = tuple[str, str, int]
VERDICT = "guard.json"
NOTHING_LEARNED: Mapping[str, Any] = {"kept": "after", "reason": "", "gain": 0.0, "cameras": {}}
MATCH_IOU = 0.5
RECALL_STEPS = np.linspace(0, 1, 101)


class Guard:
    """weights before and after a round, with what each found -> the weights to go on with.

    Accepted weights are passed on byte for byte, so that what was computed with them counts for the guard's
    output as well. `guard.json` has the figures.
    """

    name: ClassVar[str] = "guard"
    version: ClassVar[int] = 1
    needs: ClassVar[Resources] = Resources()
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {
        "before": WeightsKind,
        "after": WeightsKind,
        "candidates_before": DetectionsKind,
        "candidates_after": DetectionsKind,
        "labels_before": PseudoLabelsKind,
        "labels_after": PseudoLabelsKind,
    }
    produces: ClassVar[type[ArtifactType]] = WeightsKind
    volatile: ClassVar[frozenset[str]] = frozenset({VERDICT, "losses.jsonl"})

    def shards(self, params: GuardParams, inputs: Inputs) -> Sequence[Shard]:
        """One: a round is kept or not for the whole site."""
        del params, inputs
        return [Shard()]

    def setup(self, params: GuardParams, inputs: Inputs, context: Context) -> None:
        """Nothing to load."""

    def run(self, params: GuardParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Judge, and pass on the weights of the better detector."""
        del shard, context
        before, after = inputs["before"].path, inputs["after"].path
        learned = read_info(before).sha256 != read_info(after).sha256
        verdict = judge(*_evidence(inputs), params) if learned else NOTHING_LEARNED
        if verdict["kept"] == "after":
            pass_weights(after, out)
        else:
            copy_weights(before, out, f"rolled back: {verdict['reason']}", stopped=True)
        (out / VERDICT).write_text(json.dumps(verdict, indent=1, sort_keys=True) + "\n", "utf-8")


def _evidence(inputs: Inputs) -> tuple[list[Detections], list[PseudoLabels], set[Key]]:
    def rows(kind: type[Any], name: str) -> Any:
        return read_tables(kind, inputs[name].paths())

    candidates = [rows(Detections, f"candidates_{when}") for when in ("before", "after")]
    labels = [rows(PseudoLabels, f"labels_{when}") for when in ("before", "after")]
    used = rows(FrameLabels, "labels_before")
    return candidates, labels, set(by_frame(used.select(used.split == "train")))


def judge(
    candidates: Sequence[Detections],
    labels: Sequence[PseudoLabels],
    trained: set[Key],
    params: GuardParams,
) -> dict[str, Any]:
    """Compare the detector after a round with the one before.

    Args:
        candidates: of the detector before and of the one after, all cameras.
        labels: made from the candidates of each.
        trained: frames (session, camera, index) that the round was trained on; they do not count.
        params: how much may be lost.

    Returns:
        `kept` ("before" or "after"), `reason`, and under `cameras` for each "session/camera" the agreement
        `before` and `after`. A camera on which nobody is labelled says nothing and is not listed.
    """
    persons = [table.select(table.label == PERSON) for table in candidates]
    references = [table.select(table.label == PERSON) for table in labels]
    cameras: dict[str, dict[str, float]] = {}
    for session, camera in sorted({view for table in references for view in table.view_keys()}):
        scores = [
            [agreement(found.view(session, camera), reference.view(session, camera), trained)
             for reference in references]
            for found in persons
        ]  # fmt: skip
        means = [float(np.mean([s for s in each if s is not None] or [np.nan])) for each in scores]
        if np.isfinite(means).all():
            cameras[f"{session}/{camera}"] = {"before": round(means[0], 4), "after": round(means[1], 4)}
    gains = {name: value["after"] - value["before"] for name, value in cameras.items()}
    worst = min(gains, key=lambda name: gains[name], default="")
    mean = float(np.mean(list(gains.values()))) if gains else 0.0
    reason = ""
    if mean < -params.may_lose:
        reason = f"agreement fell by {-mean:.3f} on average"
    elif gains and gains[worst] < -params.camera_may_lose:
        reason = f"agreement of {worst} fell by {-gains[worst]:.3f}"
    return {
        "kept": "before" if reason else "after",
        "reason": reason,
        "gain": round(mean, 4),
        "cameras": cameras,
    }


def agreement(found: Detections, labels: PseudoLabels, trained: set[Key]) -> float | None:
    """Expected average precision of person boxes, if every label is right with its probability.

    A box counts for as much as the label that it overlaps (IoU 0.5, each label once, boxes by falling
    score) is probable; doubtful labels count for little either way.

    Returns:
        In [0, 1]; None where there are no labels on the frames that count.
    """
    own, theirs = (
        {key: rows for key, rows in by_frame(table).items() if key not in trained}
        for table in (found, labels)
    )
    total = float(sum(labels.score[rows].sum() for rows in theirs.values()))
    if total == 0:
        return None
    worth = np.zeros(len(found))
    counts = np.zeros(len(found), np.bool_)
    for key, rows in own.items():
        ordered = rows[np.argsort(-found.score[rows], kind="stable")]
        counts[ordered] = True
        places = theirs.get(key)
        if places is not None:
            worth[ordered] = _worth(iou(found.xyxy[ordered], labels.xyxy[places]), labels.score[places])
    best_first = np.flatnonzero(counts)[np.argsort(-found.score[counts], kind="stable")]
    right = np.cumsum(worth[best_first])
    if not len(right):
        return 0.0
    precision = np.maximum.accumulate((right / np.arange(1, len(right) + 1))[::-1])[::-1]
    position = np.searchsorted(right / total, RECALL_STEPS, side="left")
    return float(np.append(precision, 0.0)[np.minimum(position, len(precision))].mean())


def _worth(overlap: Doubles, probability: NDArray[np.float32]) -> Doubles:
    """Probability (N,) of the label that each box, best first, finds; 0 where it finds none."""
    worth = np.zeros(len(overlap))
    free = np.ones(overlap.shape[1], np.bool_)
    for row, values in enumerate(overlap):
        best = int(np.argmax(np.where(free, values, -1.0)))
        if free[best] and values[best] >= MATCH_IOU:
            worth[row], free[best] = probability[best], False
    return worth
