"""Stage: which boxes stand still under a second look, hold something that moves, and may therefore teach.

Labels are made from the detector's own answers. Training on boxes that miss the body's outline teaches the
detector that they are right, and its score no longer says how well a box fits.
The score itself cannot tell them, but a second look can: the same detector sees the mirrored picture at
another size. Boxes whose place does not hang on such details come back; the others become positive with
weight 0: that somebody is there, and the head, is still taught, how far the body reaches is not. (A form of
the box-variance test of Xu et al., End-to-End Semi-Supervised Object Detection with Soft Teacher, 2021,
section 3.4, with one view instead of jittered proposals.)

What never moves, a monitor or a coat on its hook, is no person for training either, however sure the detector
is: a box whose pixels are those of the camera's median picture teaches nothing. It is not taught to be
background, because a patient under anaesthesia keeps still as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import iou
from orveil.pipeline.kinds import MediaKind, PseudoLabelsKind, WeightsKind
from orveil.pipeline.settings import SteadyParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import read_table, read_tables, write_table
from orveil.pipeline.types import PERSON, POSITIVE, FrameLabels, MediaIndex, PseudoLabels
from orveil.stages.datasets import walk_frames
from orveil.stages.weights import CLASS_LABELS

__all__ = ["Steady", "moved", "second_look", "steadiness"]

BATCH = 8
LEAST_SCORE = 0.05
LEAST_IOU = 0.4
"""A box of the second look that overlaps less is another person's."""
SMALL = 240
"""Longer side, px, of the pictures in which motion is looked for: averaging takes the noise away."""
OTHER = 12.0
"""A pixel that differs by this much (of 255) from the median picture, in any colour, shows something else."""
FEWEST_PICTURES = 8
"""Fewer pictures of a camera have no telling median: then everything counts as moved."""

Boxes = NDArray[np.float32]
Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Steady:
    """labels and the detector they come from -> the same labels, boxes that must not teach with weight 0.

    Only frames that are trained on are looked at; on all others the labels stay as they are. One shard per
    camera.
    """

    name: ClassVar[str] = "steady"
    version: ClassVar[int] = 1
    needs: ClassVar[Resources] = Resources(cpus=2, threads=2, loads_model=True)
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {
        "media": MediaKind,
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
        if params.least > 0 or params.least_motion > 0:
            taught = self._taught(params, inputs["media"].path, labels, used, shard, context)
            labels = replace(labels, weight=np.where(taught, labels.weight, 0.0).astype(np.float32))
        write_table(labels, out)
        write_table(used, out)

    def _taught(
        self,
        params: SteadyParams,
        media: Path,
        labels: PseudoLabels,
        used: FrameLabels,
        shard: Shard,
        context: Context,
    ) -> NDArray[np.bool_]:
        """Which labels (N,) keep their weight: all on frames that are not trained on."""
        person = (labels.state == POSITIVE) & (labels.label == PERSON)
        trained = used.index[used.split == "train"].tolist()
        rows = {at: np.flatnonzero(person & (labels.index == at)) for at in trained}
        wanted = sorted(at for at, mine in rows.items() if len(mine))
        found, small = np.ones(len(labels), np.float32), []
        batch: list[tuple[int, Picture]] = []
        for done, (at, picture) in enumerate(
            walk_frames(media, shard.session, shard.camera, wanted, context.externals), start=1
        ):
            if params.least > 0:
                batch.append((at, picture))
            small.append(_small(picture))
            if batch and (len(batch) == BATCH or done == len(wanted)):
                looks = second_look(self._detector, [image for _, image in batch])
                for (index, _), (boxes, scores) in zip(batch, looks, strict=True):
                    found[rows[index]] = steadiness(labels.xyxy[rows[index]], boxes, scores)
                batch = []
            context.progress(done, len(wanted), "frames")
        motion = np.ones(len(labels), np.float32)
        if len(small) >= FEWEST_PICTURES:
            scale = max(small[0].shape[:2]) / max(picture.shape[:2])
            shares = moved(small, [labels.xyxy[rows[at]] * np.float32(scale) for at in wanted])
            for at, share in zip(wanted, shares, strict=True):
                motion[rows[at]] = share
        return np.asarray((found >= params.least) & (motion >= params.least_motion))


def _small(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    scale = min(1.0, SMALL / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def moved(pictures: Sequence[Picture], boxes: Sequence[Boxes]) -> list[Floats]:
    """Share of each box whose pixels are not those of the median of all pictures.

    Args:
        pictures: of one camera, (H, W, 3) each.
        boxes: for each picture (K, 4), px of the picture.

    Returns:
        For each picture (K,) in [0, 1]; 1 for a box outside the picture.
    """
    stack = np.stack(pictures)
    usual = np.median(stack, axis=0)
    shares = []
    for picture, own in zip(stack, boxes, strict=True):
        other = (np.abs(picture - usual) > OTHER).any(axis=-1)
        corners = np.round(own).astype(int).clip(0)
        parts = [other[y0:y1, x0:x1] for x0, y0, x1, y1 in corners.tolist()]
        shares.append(np.array([part.mean() if part.size else 1.0 for part in parts], np.float32))
    return shares


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
    return (np.where(overlap >= LEAST_IOU, overlap, 0.0) * scores).max(axis=1, initial=0.0).astype(np.float32)
