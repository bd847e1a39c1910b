"""Benchmark part: does the guard's agreement, which knows no labels, rise and fall with the truth?

One point per room, camera and detector: the agreement that the guard worked out for it, beside its true
recall at precision 0.9 and its true average precision there.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from adapt_score import BODY_IOU, BODY_PRECISION
from scipy.stats import spearmanr

from orveil.pipeline.stage import InputRef
from orveil.pipeline.tables import read_tables
from orveil.pipeline.types import PERSON, Detections
from orveil.stages import metrics
from orveil.stages.guard import VERDICT
from orveil.stages.metrics import Predicted
from orveil.stages.truth import Truth

__all__ = ["Point", "guard_points", "show_guard"]


@dataclass(frozen=True)
class Point:
    """One detector on one camera: agreement, and true recall and average precision, all in [0, 1]."""

    camera: str
    agreement: float
    recall: float
    ap: float


def guard_points(truth: Truth, made: Mapping[str, InputRef], rounds: int) -> list[Point]:
    """The detector at the start and after every round, on every camera that the guard judged."""
    persons, frames = truth.boxes[PERSON], truth.frames
    points = []
    for number in range(1, rounds + 1):
        verdict = json.loads((made[f"guard_{number}"].path / VERDICT).read_text("utf-8"))
        for when, run in (("before", number), ("after", number + 1)):
            if when == "before" and number > 1:
                continue  # judged already, as "after" of the round before
            table = read_tables(Detections, made[f"candidates_{run}"].paths())
            table = table.select(table.label == PERSON)
            boxes = Predicted.of(frames, table, table.xyxy, table.score, True)
            for camera, agreed in verdict["cameras"].items():
                session, _, name = camera.partition("/")
                here = (frames.session == session) & (frames.camera == name)
                found = metrics.match(
                    persons.select(here[persons.frame]), boxes.select(here[boxes.frame]), BODY_IOU
                )
                recall = metrics.recall_at_precision(found, BODY_PRECISION) or 0.0
                points.append(Point(camera, agreed[when], recall, metrics.average_precision(found) or 0.0))
    return points


def show_guard(rooms: list[list[Point]]) -> None:
    """Rank correlations within a room, on average and in the worst, and over everything."""

    def correlation(points: list[Point], part: str) -> float:
        values = [getattr(point, part) for point in points]
        return float(spearmanr([point.agreement for point in points], values).statistic)

    everything = [point for room in rooms for point in room]
    print(f"\nguard against the truth, rank correlation over {len(everything)} cameras and detectors")
    for part, name in (("ap", "average precision"), ("recall", "recall at precision 0.9")):
        each = [correlation(room, part) for room in rooms]
        print(
            f"{name:34s}{correlation(everything, part):10.2f} over all rooms, "
            f"{np.mean(each):.2f} within a room (worst {np.min(each):.2f})",
            flush=True,
        )
        right = [same for room in rooms for same in _same_direction(room, part)]
        print(f"{'':34s}{np.mean(right):10.2f} of {len(right)} changes in the right direction", flush=True)


def _same_direction(points: list[Point], part: str) -> list[bool]:
    """For each round on each camera: whether agreement and truth moved the same way."""
    out = []
    for camera in sorted({point.camera for point in points}):
        own = [point for point in points if point.camera == camera]
        for before, after in itertools.pairwise(own):
            gain = getattr(after, part) - getattr(before, part)
            out.append((after.agreement - before.agreement) * gain > 0)
    return out
