"""Stage: which boxes stand still under a second look, hold something that moves, and may therefore teach.

Labels are made from the detector's own answers. Training on boxes that miss the body's outline teaches the
detector that they are right, and its score no longer says how well a box fits.
The score itself cannot tell them, but a second look can: the same detector sees the mirrored picture at
another size. Boxes whose place does not hang on such details come back; the others become positive with
weight 0: that somebody is there, and the head, is still taught, how far the body reaches is not. (A form of
the box-variance test of Xu et al., End-to-End Semi-Supervised Object Detection with Soft Teacher, 2021,
section 3.4, with one view instead of jittered proposals.)

What never moves, a monitor or a coat on its hook, is no person for training either, however sure the detector
is: a box that shows what the camera usually shows (`motion.py`) teaches nothing. It is not taught to be
background, because a patient under anaesthesia keeps still as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import iou
from orveil.pipeline.kinds import MediaKind, MotionKind, PseudoLabelsKind, WeightsKind
from orveil.pipeline.settings import SteadyParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import read_table, read_tables, write_table
from orveil.pipeline.types import PERSON, POSITIVE, FrameLabels, MediaFiles, MediaIndex, Motion, PseudoLabels
from orveil.stages.chunks import of_chunk
from orveil.stages.datasets import walk_frames
from orveil.stages.motion import moved_share
from orveil.stages.weights import CLASS_LABELS

__all__ = ["Steady", "second_look", "steadiness"]

BATCH = 8
LEAST_SCORE = 0.05
LEAST_IOU = 0.4
"""A box of the second look that overlaps less is another person's."""
Boxes = NDArray[np.float32]
Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
T = TypeVar("T")


class Steady:
    """motion, labels and the detector they come from -> the same labels; what must not teach has weight 0.

    Only frames that are trained on are looked at; on all others the labels stay as they are. One shard per
    camera.
    """

    name: ClassVar[str] = "steady"
    version: ClassVar[int] = 3
    needs: ClassVar[Resources] = Resources(cpus=2, threads=2, loads_model=True)
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {
        "media": MediaKind,
        "motion": MotionKind,
        "labels": PseudoLabelsKind,
        "weights": WeightsKind,
    }
    produces: ClassVar[type[ArtifactType]] = PseudoLabelsKind
    volatile: ClassVar[frozenset[str]] = frozenset()

    _detector: Any = None

    def shards(self, params: SteadyParams, inputs: Inputs) -> Sequence[Shard]:
        """Every camera of the media."""
        del params
        keys = read_table(MediaIndex, inputs["media"].path).view_keys()
        return [Shard(session, camera) for session, camera in keys]

    def setup(self, params: SteadyParams, inputs: Inputs, context: Context) -> None:
        """Build the detector, unless no second look is asked for."""
        del context
        if params.least == 0:
            return
        from orveil.stages import mm  # OpenMMLab loads slowly, and the graph is built without it

        directory = inputs["weights"].path
        self._detector = mm.Detector(
            mm.load_config(directory / "config.py"),
            directory / "model.safetensors",
            long_side=round(params.zoom * params.long_side),
            score_threshold=LEAST_SCORE,
        )

    def run(self, params: SteadyParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Write the labels of one camera."""
        paths = inputs["labels"].paths(shard.session, shard.camera)
        labels = read_tables(PseudoLabels, paths).view(shard.session, shard.camera)
        used = read_tables(FrameLabels, paths).view(shard.session, shard.camera)
        mine = _trained_persons(labels, used)
        taught = np.ones(len(labels), np.bool_)
        if params.least_motion > 0:
            taught[mine] &= self._moved(inputs, labels.select(mine), shard) >= params.least_motion
        if params.least > 0:
            value = self._looked_at(inputs, labels.select(mine), shard, context)
            taught[mine] &= value >= max(params.least, _lowest_of_best(value, params.most_boxes))
        labels = replace(labels, weight=np.where(taught, labels.weight, 0.0).astype(np.float32))
        write_table(labels, out)
        write_table(used, out)

    def _moved(self, inputs: Inputs, labels: PseudoLabels, shard: Shard) -> Doubles:
        """Share (N,) of each label's box that shows something unusual; 1 where that is not known."""
        files = read_table(MediaFiles, inputs["media"].path)
        pieces = (read_table(Motion, path) for path in of_chunk(inputs["motion"], shard).paths())
        motion = Motion.concat([piece.select(np.isin(piece.index, labels.index)) for piece in pieces])
        return np.nan_to_num(moved_share(motion, files, labels, labels.xyxy), nan=1.0)

    def _looked_at(self, inputs: Inputs, labels: PseudoLabels, shard: Shard, context: Context) -> Floats:
        """How well a second look bears out each label (N,)."""
        found = np.ones(len(labels), np.float32)
        wanted = np.unique(labels.index).tolist()
        media = inputs["media"].path
        pictures = walk_frames(media, shard.session, shard.camera, wanted, context.externals)
        for batch in batched(pictures, BATCH):
            looks = second_look(self._detector, [picture for _, picture in batch])
            for (at, _), look in zip(batch, looks, strict=True):
                rows = labels.index == at
                found[rows] = steadiness(labels.xyxy[rows], *look)
            context.progress(wanted.index(batch[-1][0]) + 1, len(wanted), "frames")
        return found


def _trained_persons(labels: PseudoLabels, used: FrameLabels) -> NDArray[np.int64]:
    """Rows of the positive persons on frames that are trained on."""
    trained = np.isin(labels.index, used.index[used.split == "train"])
    return np.flatnonzero(trained & (labels.state == POSITIVE) & (labels.label == PERSON))


def _lowest_of_best(value: Floats, share: float) -> float:
    """The lowest of the best `share` of the values."""
    count = max(round(share * len(value)), 1)
    return float(np.sort(value)[::-1][:count].min(initial=1.0))


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items; the last may be shorter."""
    walk = iter(items)
    while batch := list(islice(walk, size)):
        yield batch


def second_look(detector: Any, pictures: Sequence[Picture]) -> list[tuple[Boxes, Floats]]:
    """Persons that a detector finds in mirrored pictures.

    Args:
        detector: `orveil.stages.mm.Detector`, at another size than that of the first look.
        pictures: (H, W, 3) each.

    Returns:
        For each picture boxes (K, 4), mirrored back, and scores (K,).
    """
    person = [number for number, name in enumerate(detector.classes) if CLASS_LABELS[name] == PERSON]
    results = []
    mirrored = [np.ascontiguousarray(picture[:, ::-1]) for picture in pictures]
    for picture, (boxes, scores, labels) in zip(pictures, detector.predict(mirrored), strict=True):
        mine = np.isin(labels, person)
        back = boxes[mine].copy()
        back[:, [0, 2]] = picture.shape[1] - boxes[mine][:, [2, 0]]
        results.append((back, scores[mine]))
    return results


def steadiness(labelled: Boxes, found: Boxes, scores: Floats) -> Floats:
    """Overlap with the box of the second look that fits best, times its score: (N,) in [0, 1].

    Args:
        labelled: (N, 4); found: (K, 4) and scores (K,) of the second look.
    """
    overlap = iou(labelled, found)
    fits = np.where(overlap >= LEAST_IOU, overlap, 0.0) * scores
    return np.asarray(fits.max(axis=1, initial=0.0), np.float32)
