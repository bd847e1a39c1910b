"""OpenMMLab room, the model card of the embedded models; every figure in it was measured by the script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from orveil.stages.mm_scratch import Plan
    from orveil.stages.mm_train import TrainOptions

__all__ = ["write_card"]

_TEXT = """# Embedded models

Written by `scripts/train_models`; the figures below were measured by it.

| | detector | pose model |
|---|---|---|
| file | `embedded-detector.safetensors` | `embedded-pose.safetensors` |
| sha256 | `{detector_sha}` | `{pose_sha}` |
| config | `configs/detector_embedded.py` | `configs/pose_embedded.py` |
| model | RTMDet, CSPNeXt at width 0.25 and depth 0.167, neck and head of 48 channels | RTMPose on the \
detector's backbone and neck, 160x192 crops |
| output | boxes of persons and heads | 133 COCO-WholeBody keypoints with confidence |
| stored as | float16 | float16 |
| licence | Apache-2.0, as the project | Apache-2.0, as the project |

## Intended use
They play the off-the-shelf models that a hospital starts from, small enough for the demo and the tests on two
CPU cores. They are not for patients' video: for a real site, fetch larger models with `orveil models pull`.

## Data
{pictures} simulated pictures (`python -m orveil.sim.dataset --domain source`, rooms with seeds from 10000,
8 pictures of each; sizes {sizes}) of offices and corridors with people in everyday clothes. No
operating room, gown, cap or mask, no photograph, and no weights of others: the detector starts from random
numbers, the backbone and neck of the pose model from the detector at iteration {start}.
A person or head of which less than 10 % is in sight, or that is smaller than 8 px (head: 4 px), is neither a
label nor background.

## Schedule
| | detector | detector, second phase | pose model | pose model, second phase |
|---|---|---|---|---|
{schedule}

The second phase starts from the result of the first. AdamW, cosine decay, moving average of the weights,
bfloat16 mixed precision; PyTorch {torch}. Losses: quality focal and GIoU (RTMDet); divergence of the SimCC
vectors (RTMPose), a cross-entropy over the cells of the keypoints' maps, and a squared error that teaches the
confidence: 1 for a keypoint in sight, 0.3 behind something, 0 out of the picture. In its second phase the
pose model weighs body, feet, face and the two hands by {weights}.

## On held-out source scenes
{heldout} pictures of rooms with seeds from 20000, none of them seen in training, with the files as stored.

| figure | value |
|---|---|
{figures}

AP is COCO's, over all sizes, hard and partly hidden people included; boxes that are neither label nor
background count neither for nor against. `clear`: without people and heads that the ground truth calls hard
(less than 35 % in sight, or a box lower than 60 px), which then count neither for nor against. `recall30`:
recall at IoU 0.5 of detections with a score of at least 0.3. `pck`: share of the keypoints in sight that are
found within 0.05 of the box's longer side, given the true box.

## Limits
Trained on rendered people: on photographs expect far less. Faces and hands of people lower than about 80 px
are a few pixels in size and their keypoints follow the head and the wrist. {long}
"""


def _schedule(phases: Sequence[TrainOptions]) -> str:
    rows = []
    for label, name in (
        ("iterations", "iterations"),
        ("batch size", "batch_size"),
        ("highest learning rate", "learning_rate"),
        ("seed", "seed"),
        ("threads", "threads"),
    ):
        values = " | ".join(str(getattr(phase, name)) for phase in phases)
        rows.append(f"| {label} | {values} |")
    return "\n".join(rows)


def write_card(
    path: Path, plan: Plan, figures: Mapping[str, Mapping[str, float]], digests: Mapping[str, str]
) -> None:
    """Write the card.

    Args:
        path: of the Markdown file.
        plan: what was rendered and trained.
        figures: measured figures of "detector" and "pose".
        digests: sha256 of the two files.
    """
    from orveil.stages.mm_scratch import (
        DETECTOR,
        DETECTOR_AGAIN,
        PART_WEIGHTS,
        POSE,
        POSE_AGAIN,
        POSE_START,
        SIZES,
    )

    phases = (DETECTOR, DETECTOR_AGAIN, POSE, POSE_AGAIN)

    rows = [f"| {kind}: {name} | {value} |" for kind, part in figures.items() for name, value in part.items()]
    longer = (
        "A longer run on more pictures is one command: `--long 4 --pictures 20000`, best on a GPU."
        if plan.long == 1
        else f"This run is {plan.long:g} times the usual length."
    )
    text = _TEXT.format(
        detector_sha=digests["detector"],
        pose_sha=digests["pose"],
        pictures=plan.pictures,
        heldout=plan.heldout,
        sizes=SIZES,
        start=POSE_START,
        schedule=_schedule([plan.options(phase) for phase in phases]),
        weights="{:g}, {:g}, {:g}, {:g} and {:g}".format(*PART_WEIGHTS),
        torch=torch.__version__.split("+")[0],
        figures="\n".join(rows),
        long=longer,
    )
    path.write_text(text, "utf-8")
