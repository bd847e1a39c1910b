"""Benchmark part: stages that put ground truth, or fewer sources, where an adaptation has its pseudo labels.

With them a benchmark trains the same detector on the same frames by the same schedule, once more with true
labels: the supervised ceiling. Nothing in the package imports this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from orveil.pipeline.kinds import MediaKind, PosesKind, PseudoLabelsKind
from orveil.pipeline.settings import Params
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import read_table, read_tables, write_table
from orveil.pipeline.types import (
    HEAD,
    IGNORE,
    KEYPOINTS,
    PERSON,
    POSITIVE,
    FrameLabels,
    MediaFiles,
    MediaIndex,
    Poses,
    PseudoLabels,
)
from orveil.stages.coco import write_coco
from orveil.stages.truth import Truth, load_truth

__all__ = ["KeepSources", "SourceParams", "TrueHeads", "TrueLabels", "TruthParams"]


class TruthParams(Params):
    """Which ground truth."""

    ground_truth_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the ground-truth file")


class SourceParams(Params):
    """Which pseudo labels may teach."""

    sources: tuple[str, ...] = Field(description="detected, temporal, cross_view; others are to be ignored")


class _OneShard:
    """Base of the stages here: one shard, nothing to load."""

    version: ClassVar[int] = 1
    needs: ClassVar[Resources] = Resources()
    produces: ClassVar[type[ArtifactType]] = PseudoLabelsKind
    volatile: ClassVar[frozenset[str]] = frozenset()

    def shards(self, params: Params, inputs: Inputs) -> Sequence[Shard]:
        """One for the whole site."""
        del params, inputs
        return [Shard()]

    def setup(self, params: Params, inputs: Inputs, context: Context) -> None:
        """Nothing to load."""


class TrueLabels(_OneShard):
    """The frames of `labels` with the persons of the ground truth, all positive; crowds are ignored."""

    name: ClassVar[str] = "true-labels"
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {"media": MediaKind, "labels": PseudoLabelsKind}

    def run(self, params: TruthParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Write labels and frames."""
        del params, shard
        files, frames = _media(inputs)
        labels = _true_labels(_truth(context, files, frames), frames)
        write_table(labels, out)
        write_table(read_tables(FrameLabels, inputs["labels"].paths()), out)
        write_coco(files, frames, labels, out)


class TrueHeads(_OneShard):
    """Head boxes of the true labels, where a head is in the ground truth."""

    name: ClassVar[str] = "true-heads"
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {"media": MediaKind, "labels": PseudoLabelsKind}
    produces: ClassVar[type[ArtifactType]] = PosesKind

    def run(self, params: TruthParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Write poses that hold nothing but heads."""
        del params, shard
        files, frames = _media(inputs)
        labels = read_tables(PseudoLabels, inputs["labels"].paths())
        write_table(_true_heads(_truth(context, files, frames), labels), out)


class KeepSources(_OneShard):
    """Pseudo labels of some sources; places of the others are ignored in training."""

    name: ClassVar[str] = "keep-sources"
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {"media": MediaKind, "labels": PseudoLabelsKind}

    def run(self, params: SourceParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Write labels and frames."""
        del shard, context
        labels = read_tables(PseudoLabels, inputs["labels"].paths())
        kept = np.isin(labels.source, params.sources) & (labels.state == POSITIVE)
        labels = replace(
            labels,
            state=np.where(kept, POSITIVE, IGNORE),
            weight=np.where(kept, labels.weight, 0.0).astype(np.float32),
        )
        write_table(labels, out)
        write_table(read_tables(FrameLabels, inputs["labels"].paths()), out)
        write_coco(*_media(inputs), labels, out)


def _media(inputs: Inputs) -> tuple[MediaFiles, MediaIndex]:
    return read_table(MediaFiles, inputs["media"].path), read_table(MediaIndex, inputs["media"].path)


def _truth(context: Context, files: MediaFiles, frames: MediaIndex) -> Truth:
    return load_truth(Path(context.externals["ground_truth"]), files, frames)


def _true_labels(truth: Truth, frames: MediaIndex) -> PseudoLabels:
    """Every person of the ground truth, by camera and frame; `track_id` is the person's."""
    persons, views = truth.boxes[PERSON], truth.frames
    at = persons.frame
    order = np.lexsort((persons.track_id, views.index[at], views.camera[at], views.session[at]))
    at, ignore = at[order], persons.ignore[order]
    keys = zip(frames.session.tolist(), frames.camera.tolist(), frames.index.tolist(), strict=True)
    pts = dict(zip(keys, frames.pts.tolist(), strict=True))
    own = zip(views.session[at].tolist(), views.camera[at].tolist(), views.index[at].tolist(), strict=True)
    count = len(order)
    return PseudoLabels(
        session=views.session[at],
        camera=views.camera[at],
        index=views.index[at],
        pts=np.array([pts[key] for key in own], np.int64),
        label_id=np.arange(count),
        track_id=persons.track_id[order],
        person_id=persons.track_id[order],
        xyxy=persons.xyxy[order],
        label=np.full(count, PERSON),
        score=np.ones(count, np.float32),
        weight=np.where(ignore, 0.0, 1.0).astype(np.float32),
        state=np.where(ignore, IGNORE, POSITIVE),
        source=np.full(count, "detected"),
        round=np.ones(count, np.int64),
    )


def _true_heads(truth: Truth, labels: PseudoLabels) -> Poses:
    heads = truth.boxes[HEAD]
    row_of = {
        key: row
        for row, key in enumerate(zip(heads.frame.tolist(), heads.track_id.tolist(), strict=True))
        if not heads.ignore[row]
    }
    keys = zip(truth.frames.rows(labels).tolist(), labels.track_id.tolist(), strict=True)
    found = np.array([row_of.get(key, -1) for key in keys], np.int64)
    shown, boxes = labels.select(found >= 0), heads.xyxy[found[found >= 0]]
    sure = np.ones(len(shown), np.float32)
    return Poses(
        session=shown.session,
        camera=shown.camera,
        index=shown.index,
        pts=shown.pts,
        label_id=shown.label_id,
        keypoints=np.zeros((len(shown), KEYPOINTS, 3), np.float32),
        head_xyxy=boxes,
        head_score=sure,
        head_source=np.full(len(shown), "detector"),
        face_xyxy=boxes,
        face_score=np.zeros(len(shown), np.float32),
    )
