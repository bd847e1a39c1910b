"""Export: the site's labelled frames, by which the exported models are judged and calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import as_boxes
from orveil.pipeline.stage import Context, Inputs
from orveil.pipeline.types import PERSON
from orveil.stages.datasets import read_pictures
from orveil.stages.operating_point import Hits, count_hits
from orveil.stages.runtime import Boxes
from orveil.stages.targets import ALL_CLASSES, FrameTargets, training_targets
from orveil.stages.weights import CLASS_LABELS

__all__ = ["calibration_pictures", "hits_of", "judged_frames", "spread"]

JUDGED_FRAMES, CALIBRATION_FRAMES = 80, 40
ENOUGH_LABELS = 30
MIN_IOU = {"person": 0.5, "head": 0.3, "face": 0.3}
Pictures = Sequence[NDArray[np.uint8]]


def judged_frames(inputs: Inputs, long_side: int, context: Context) -> tuple[list[FrameTargets], Pictures]:
    """Labelled frames to judge by, with targets in picture pixels: those held out if they are enough."""
    held, _ = training_targets(inputs["labels"], inputs["poses"], "holdout")
    if sum(int((target.labels == PERSON).sum()) for target in held) < ENOUGH_LABELS:
        held += training_targets(inputs["labels"], inputs["poses"], "train")[0]
    chosen = [held[i] for i in spread(len(held), JUDGED_FRAMES)]
    keys = [(target.session, target.camera, target.index) for target in chosen]
    pictures = read_pictures(inputs["media"].path, keys, long_side, context.externals)
    scaled = [
        replace(
            target,
            xyxy=pictures.boxes(number, target.xyxy),
            ignored=pictures.boxes(number, target.ignored),
        )
        for number, target in enumerate(chosen)
    ]
    return scaled, pictures.images


def calibration_pictures(inputs: Inputs, long_side: int, context: Context) -> Pictures:
    """Training frames, evenly spread over sessions, cameras and time."""
    used, _ = training_targets(inputs["labels"], inputs["poses"], "train")
    keys = sorted((target.session, target.camera, target.index) for target in used)
    chosen = [keys[i] for i in spread(len(keys), CALIBRATION_FRAMES)]
    return read_pictures(inputs["media"].path, chosen, long_side, context.externals).images


def hits_of(found: Sequence[Boxes], targets: Sequence[FrameTargets], number: int, name: str) -> Hits:
    """Hits of one label of the model, by its number and name."""
    label = CLASS_LABELS[name]
    frames = []
    for boxes, target in zip(found, targets, strict=True):
        mine = boxes.label == number
        hidden = np.isin(target.ignored_labels, (ALL_CLASSES, label))
        frames.append(
            (boxes.xyxy[mine], boxes.score[mine], target.xyxy[target.labels == label],
             as_boxes(target.ignored[hidden]), target.ignored_scores[hidden])
        )  # fmt: skip
    return count_hits(frames, MIN_IOU[name])


def spread(count: int, most: int) -> list[int]:
    """At most `most` numbers below `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist() if count else []
