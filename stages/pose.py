"""Stage: whole-body keypoints of every labelled person, and where head and face are: never nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.kinds import DetectionsKind, MediaKind, PosesKind, PseudoLabelsKind, WeightsKind
from orveil.pipeline.settings import PoseParams
from orveil.pipeline.stage import ArtifactType, Context, InputRef, Inputs, Resources, Shard
from orveil.pipeline.tables import read_table, read_tables, write_table
from orveil.pipeline.types import (
    HEAD,
    KEYPOINTS,
    PERSON,
    POSITIVE,
    Detections,
    FrameLabels,
    MediaIndex,
    Poses,
    PseudoLabels,
)
from orveil.stages.datasets import walk_frames
from orveil.stages.heads import HeadBoxes, head_boxes, heads_from_tracks

__all__ = ["Pose"]

MIN_HEAD_SCORE = 0.1


class Pose:
    """Run the pose model of `weights` on the positive persons of `labels`; one shard per camera."""

    name: ClassVar[str] = "pose"
    version: ClassVar[int] = 1
    needs: ClassVar[Resources] = Resources(cpus=2, threads=2, loads_model=True)
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {
        "media": MediaKind,
        "candidates": DetectionsKind,
        "labels": PseudoLabelsKind,
        "weights": WeightsKind,
    }
    produces: ClassVar[type[ArtifactType]] = PosesKind
    volatile: ClassVar[frozenset[str]] = frozenset()

    _estimator: Any = None

    def shards(self, params: PoseParams, inputs: Inputs) -> Sequence[Shard]:
        """Every camera of the media."""
        keys = read_table(MediaIndex, inputs["media"].path).view_keys()
        return [Shard(session, camera) for session, camera in keys]

    def setup(self, params: PoseParams, inputs: Inputs, context: Context) -> None:
        """Build the pose model."""
        from orveil.stages import mm  # OpenMMLab loads slowly, and the graph is built without it

        directory = inputs["weights"].path
        config = mm.load_config(directory / "config.py")
        self._estimator = mm.PoseEstimator(
            config, directory / "model.safetensors", batch_size=params.batch_size
        )

    def run(self, params: PoseParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Write the poses of one camera, in frame order, as the labels are ordered within a frame."""
        persons = _persons(inputs["labels"], shard, params.scope)
        heads = _heads(inputs["candidates"], shard)
        if not len(persons):
            write_table(Poses.empty(), out)
            return
        rows_of = _rows_by_frame(persons.index)
        keypoints = np.zeros((len(persons), KEYPOINTS, 3), np.float32)
        parts: list[tuple[NDArray[np.int64], HeadBoxes]] = []
        size = (1, 1)
        media = inputs["media"].path
        for at, picture in walk_frames(media, shard.session, shard.camera, list(rows_of), context.externals):
            rows, size = rows_of[at], (picture.shape[1], picture.shape[0])
            keypoints[rows] = self._estimator.predict(picture, persons.xyxy[rows])
            own = heads.select(heads.index == at)
            found = head_boxes(
                keypoints[rows], persons.xyxy[rows], own.xyxy, own.score, size, params.min_keypoint_score
            )
            parts.append((rows, found))
            context.progress(len(parts), len(rows_of), "frames")
        together = heads_from_tracks(
            _join(parts, len(persons)), persons.xyxy, persons.track_id, _times(media, persons), size
        )
        write_table(_table(persons, keypoints, together), out)


def _persons(labels: InputRef, shard: Shard, scope: str) -> PseudoLabels:
    """Positive persons of one camera, in frame order; with scope "train" those of frames that are used."""
    directories = labels.paths(shard.session, shard.camera)
    table = read_tables(PseudoLabels, directories).view(shard.session, shard.camera)
    chosen = (table.label == PERSON) & (table.state == POSITIVE)
    if scope == "train":
        used = read_tables(FrameLabels, directories).view(shard.session, shard.camera)
        chosen &= np.isin(table.index, used.index[used.split != "unused"])
    table = table.select(chosen)
    return table.select(np.argsort(table.index, kind="stable"))


def _heads(candidates: InputRef, shard: Shard) -> Detections:
    table = read_tables(Detections, candidates.paths(shard.session, shard.camera))
    table = table.view(shard.session, shard.camera)
    return table.select((table.label == HEAD) & (table.score >= MIN_HEAD_SCORE))


def _rows_by_frame(index: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Row numbers of each frame; `index` is sorted."""
    frames, first = np.unique(index, return_index=True)
    groups = np.split(np.arange(len(index)), first[1:])
    return dict(zip(frames.tolist(), groups, strict=True))


def _join(parts: Sequence[tuple[NDArray[np.int64], HeadBoxes]], count: int) -> HeadBoxes:
    """Heads of all frames; the frames' rows follow each other without gaps."""
    heads = [heads for _, heads in parts]
    joined = HeadBoxes(
        np.concatenate([h.head_xyxy for h in heads]),
        np.concatenate([h.head_score for h in heads]),
        np.concatenate([h.source for h in heads]),
        np.concatenate([h.face_xyxy for h in heads]),
        np.concatenate([h.face_score for h in heads]),
    )
    assert len(joined) == count, "a frame with labels was not read"
    return joined


def _times(media: Path, persons: PseudoLabels) -> NDArray[np.float64]:
    """(N,) time of each person's frame, s."""
    index = read_table(MediaIndex, media).view(str(persons.session[0]), str(persons.camera[0]))
    return np.asarray(index.time_s[np.searchsorted(index.index, persons.index)], dtype=np.float64)


def _table(persons: PseudoLabels, keypoints: NDArray[np.float32], heads: HeadBoxes) -> Poses:
    return Poses(
        session=persons.session,
        camera=persons.camera,
        index=persons.index,
        pts=persons.pts,
        label_id=persons.label_id,
        keypoints=keypoints,
        head_xyxy=heads.head_xyxy,
        head_score=heads.head_score,
        head_source=heads.source,
        face_xyxy=heads.face_xyxy,
        face_score=heads.face_score,
    )
