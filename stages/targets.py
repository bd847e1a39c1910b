"""Learning: what the pseudo labels and poses of a site ask of each training frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import as_boxes, expand, iou
from orveil.pipeline.stage import InputRef
from orveil.pipeline.tables import read_tables
from orveil.pipeline.types import HEAD, PERSON, POSITIVE, FrameLabels, Poses, PseudoLabels

__all__ = ["ALL_CLASSES", "FrameTargets", "by_frame", "frame_targets", "training_record", "training_targets"]

Boxes = NDArray[np.float32]

ALL_CLASSES = -1
"""Label of an ignored place that hides every class."""
SURE_HEAD = 0.5
"""A head below this score is no label: its surroundings are ignored for the head class."""
HEAD_MARGIN = 0.3


@dataclass(frozen=True, eq=False)
class FrameTargets:
    """What is known about one frame; boxes in source pixels.

    Attributes:
        xyxy: (K, 4); labels: (K,) PERSON or HEAD; weights: (K,) in the loss.
        ignored: (M, 4) places that are neither object nor background.
        ignored_labels: (M,) PERSON, HEAD or `ALL_CLASSES`.
        ignored_scores: (M,) how likely there is something of that class after all.
    """

    session: str
    camera: str
    index: int
    xyxy: Boxes
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    ignored: Boxes
    ignored_labels: NDArray[np.int64]
    ignored_scores: NDArray[np.float32]


def frame_targets(
    used: FrameLabels, labels: PseudoLabels, poses: Poses | None, split: str = "train"
) -> list[FrameTargets]:
    """The targets of every frame of a split, in the order of `used`; frames without labels included.

    Heads come from the poses of positive persons, and from head rows of the labels where no such head lies.
    A head that is not sure is ignored, and so are the heads of a person without a pose. A positive person of
    weight 0 teaches its head alone: who is there is known, how far the body reaches is not.
    """
    chosen = used.select(used.split == split)
    rows = by_frame(labels)
    heads = {} if poses is None else by_frame(poses)
    nothing = np.zeros(0, dtype=np.int64)
    targets = []
    for key in zip(chosen.session.tolist(), chosen.camera.tolist(), chosen.index.tolist(), strict=True):
        own = labels.select(rows.get(key, nothing))
        own_poses = None if poses is None else poses.select(heads.get(key, nothing))
        targets.append(_one_frame(key, own, own_poses))
    return targets


def by_frame(table: Any) -> dict[tuple[str, str, int], NDArray[np.int64]]:
    """Row numbers of each frame (session, camera, index) of a table with a frame key."""
    keys = zip(table.session.tolist(), table.camera.tolist(), table.index.tolist(), strict=True)
    found: dict[tuple[str, str, int], list[int]] = {}
    for row, key in enumerate(keys):
        found.setdefault(key, []).append(row)
    return {key: np.array(members, dtype=np.int64) for key, members in found.items()}


def _one_frame(key: tuple[str, str, int], labels: PseudoLabels, poses: Poses | None) -> FrameTargets:
    positive = labels.state == POSITIVE
    taught = positive & (labels.weight > 0)
    person = taught & (labels.label == PERSON)
    boxes, kinds, weights = [labels.xyxy[person]], [labels.label[person]], [labels.weight[person]]
    hidden = ~taught
    ignored = [labels.xyxy[hidden]]
    # A doubtful person hides a doubtful head as well.
    ignored_kinds = [np.where(labels.label[hidden] == PERSON, ALL_CLASSES, labels.label[hidden])]
    head, trust, unsure, chance = _pose_heads(labels.select(positive & (labels.label == PERSON)), poses)
    boxes.append(head)
    kinds.append(np.full(len(head), HEAD))
    weights.append(trust)
    ignored.append(unsure)
    ignored_kinds.append(np.full(len(unsure), HEAD))
    rest = np.flatnonzero(taught & (labels.label == HEAD))
    if len(rest):
        new = rest[iou(labels.xyxy[rest], head).max(axis=1, initial=0.0) < 0.3]
        boxes.append(labels.xyxy[new])
        kinds.append(labels.label[new])
        weights.append(labels.weight[new])
    return FrameTargets(
        *key,
        as_boxes(np.concatenate(boxes)),
        np.concatenate(kinds).astype(np.int64),
        np.concatenate(weights).astype(np.float32),
        as_boxes(np.concatenate(ignored)),
        np.concatenate(ignored_kinds).astype(np.int64),
        np.concatenate([labels.score[hidden], chance]).astype(np.float32),
    )


def _pose_heads(
    persons: PseudoLabels, poses: Poses | None
) -> tuple[Boxes, NDArray[np.float32], Boxes, NDArray[np.float32]]:
    """Sure heads (K, 4) with their weights (K,); places (M, 4) where a head may be, and how likely (M,)."""
    if poses is None:
        return as_boxes([]), np.zeros(0, np.float32), persons.xyxy, persons.score
    row_of = {label: row for row, label in enumerate(poses.label_id.tolist())}
    rows = np.array([row_of.get(label, -1) for label in persons.label_id.tolist()], dtype=np.int64)
    alone = rows < 0
    rows, chance_of_person = rows[~alone], persons.score[~alone]
    score = poses.head_score[rows]
    sure = score >= SURE_HEAD
    unsure = expand(poses.head_xyxy[rows[~sure]], HEAD_MARGIN)
    trust = (chance_of_person * score)[sure].astype(np.float32)
    places = as_boxes(np.concatenate([persons.xyxy[alone], unsure]))
    chance = np.concatenate([persons.score[alone], score[~sure]]).astype(np.float32)
    return poses.head_xyxy[rows[sure]], trust, places, chance


def training_targets(
    labels: InputRef, poses: InputRef | None, split: str = "train"
) -> tuple[list[FrameTargets], np.ndarray[Any, np.dtype[np.float32]]]:
    """Targets of the frames of a split, and the sampling weight of each frame."""
    directories = [path for _, path in labels.shards]
    used = read_tables(FrameLabels, directories)
    pose_table = None if poses is None else read_tables(Poses, [path for _, path in poses.shards])
    targets = frame_targets(used, read_tables(PseudoLabels, directories), pose_table, split)
    return targets, used.weight[used.split == split]


def training_record(params: Any, targets: Sequence[FrameTargets]) -> dict[str, Any]:
    """What `weights.json` says about a training; nothing in it depends on a kill and a new start."""
    return {
        "iterations": params.iterations,
        "frames": len(targets),
        "boxes": int(sum(len(target.labels) for target in targets)),
        "ignored": int(sum(len(target.ignored) for target in targets)),
    }
