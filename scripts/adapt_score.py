"""Benchmark part: the figures of one adapted room, every method at the same precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.stage import InputRef
from orveil.pipeline.tables import read_tables
from orveil.pipeline.types import HEAD, PERSON, Detections, Poses, PseudoLabels
from orveil.stages import metrics
from orveil.stages.metrics import Predicted
from orveil.stages.truth import Truth

__all__ = ["COLUMNS", "OFFLINE", "Row", "rows_of"]

BODY_IOU, HEAD_IOU = 0.5, 0.3
BODY_PRECISION, HEAD_PRECISION = 0.9, 0.8
OFFLINE = "offline path"
COLUMNS = ("body", "hard", "views", "AP50", "head")


@dataclass(frozen=True)
class Row:
    """Figures of one method in one room.

    Attributes:
        body: recall at precision 0.9; hard, views: at the same score, of hard people, and in all views.
        ap: average precision at IoU 0.5.
        head: recall at precision 0.8; 0 where the method finds no heads.
    """

    body: float
    hard: float
    views: float
    ap: float
    head: float

    def values(self) -> tuple[float, ...]:
        """In the order of `COLUMNS`."""
        return astuple(self)


def rows_of(truth: Truth, made: Mapping[str, InputRef], names: Mapping[str, str]) -> dict[str, Row]:
    """Score the candidates of every method, and the offline path before the student."""
    rows: dict[str, Row] = {}
    for name, node in names.items():
        if name == "student":
            rows[OFFLINE] = _offline(truth, made["labels_final"], made["poses_final"])
        table = read_tables(Detections, made[node].paths())
        persons, heads = (table.select(table.label == label) for label in (PERSON, HEAD))
        rows[name] = _row(
            truth,
            Predicted.of(truth.frames, persons, persons.xyxy, persons.score, True),
            Predicted.of(truth.frames, heads, heads.xyxy, heads.score, True),
        )
    return rows


def _offline(truth: Truth, labels: InputRef, poses: InputRef) -> Row:
    """Labels by their probability; heads of the positive ones by the product of both scores."""
    persons = read_tables(PseudoLabels, labels.paths())
    persons = persons.select(persons.label == PERSON)
    heads = read_tables(Poses, poses.paths())
    score = dict(zip(_keys(persons), persons.score.tolist(), strict=True))
    chance = heads.head_score * np.array([score[key] for key in _keys(heads)])
    return _row(
        truth,
        Predicted.of(truth.frames, persons, persons.xyxy, persons.score, True),
        Predicted.of(truth.frames, heads, heads.head_xyxy, chance, True),
    )


def _keys(table: PseudoLabels | Poses) -> list[tuple[str, str, int]]:
    return list(zip(table.session.tolist(), table.camera.tolist(), table.label_id.tolist(), strict=True))


def _row(truth: Truth, bodies: Predicted, heads: Predicted) -> Row:
    persons = truth.boxes[PERSON]
    body = metrics.match(persons, bodies, BODY_IOU)
    at = replace(body, operating=body.score >= _lowest(body, BODY_PRECISION))
    head = metrics.match(truth.boxes[HEAD], heads, HEAD_IOU)
    return Row(
        body=metrics.recall(at) or 0.0,
        hard=metrics.recall(at, persons.is_hard) or 0.0,
        views=metrics.all_views_recall(truth.frames, persons, at.found) or 0.0,
        ap=metrics.average_precision(body) or 0.0,
        head=metrics.recall_at_precision(head, HEAD_PRECISION) or 0.0,
    )


def _lowest(result: metrics.Match, least: float) -> float:
    """The lowest score from which precision is at least `least`; infinite where none is."""
    used = result.truth > -2
    score: NDArray[np.float64] = result.score[used]
    right = np.cumsum(result.truth[used] >= 0)
    last_of_tie = np.append(score[1:] != score[:-1], True)[: len(score)]
    good = last_of_tie & (right / np.arange(1, len(score) + 1) >= least)
    return float(score[good].min()) if good.any() else np.inf
