"""Stage: fine-tune the pose model on its own confident keypoints; keep the result only if it is no worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import clip, expand
from orveil.pipeline.kinds import MediaKind, PosesKind, PseudoLabelsKind, WeightsKind
from orveil.pipeline.settings import PoseTrainParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Shard
from orveil.pipeline.tables import read_tables
from orveil.pipeline.types import FrameLabels, Poses, PseudoLabels
from orveil.stages.datasets import walk_frames
from orveil.stages.mm_data import PoseSample
from orveil.stages.mm_pose_data import FLIP_ORDER
from orveil.stages.training import TrainingStage
from orveil.stages.weights import copy_weights, keep_log, write_weights_dir

__all__ = ["PersonCrops", "PoseTrain", "agreement", "drift", "keypoint_weights", "mirrored_answers"]

Floats = NDArray[np.float32]

SURROUNDINGS = 0.4
"""A kept crop reaches this share of the person box beyond it on each side: views shift and zoom."""
KEPT_ZOOM = 1.25
MIN_KEYPOINTS = 8
MIRROR_TOLERANCE = 0.03
"""Two answers this share of the box's height apart halve (nearly) the weight of a keypoint."""
HOLDOUT_PERSONS = 96
MAY_DIFFER = 1.05
MAY_MOVE = 0.05
"""A model whose answers moved this share of a person's height on average learned something else."""


class PoseTrain(TrainingStage):
    """Train the pose model of `weights` on `poses`, that is on its own answers."""

    name: ClassVar[str] = "pose-train"
    version: ClassVar[int] = 1
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {
        "media": MediaKind,
        "labels": PseudoLabelsKind,
        "poses": PosesKind,
        "weights": WeightsKind,
    }

    def run(self, params: PoseTrainParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Train and compare on the frames held out; write the better weights."""
        del shard
        start = inputs["weights"].path
        if params.iterations == 0:
            copy_weights(start, out, "iterations = 0")
            return
        from orveil.stages import mm  # OpenMMLab loads slowly, and the graph is built without it

        config = mm.load_config(start / "config.py")
        before = mm.PoseEstimator(config, start / "model.safetensors", batch_size=params.batch_size)
        crops = _read_crops(inputs, before, params, context)
        train, held = crops.split("train"), crops.split("holdout")
        if len(train) == 0:
            copy_weights(start, out, "no person with enough confident keypoints")
            return
        work_dir = context.scratch / "pose"
        result = mm.train_pose(
            config,
            train,
            work_dir,
            self.options(params, context, augment=mm.Augment(scale=(0.8, 1.25), shift=0.05, rotate=30.0)),
            init=start / "model.safetensors",
            progress=context.progress,
        )
        after = mm.PoseEstimator(config, result.weights, batch_size=params.batch_size)
        judged = (held if len(held) else train).first(HOLDOUT_PERSONS)
        scores = {
            "mirror_error_before": agreement(before, judged),
            "mirror_error_after": agreement(after, judged),
            "moved": drift(before, after, judged),
        }
        keep_log(work_dir, out)
        worse = scores["mirror_error_after"] > MAY_DIFFER * scores["mirror_error_before"]
        if worse or scores["moved"] > MAY_MOVE:
            copy_weights(start, out, f"training made it worse: {scores}")
            return
        record = {"iterations": params.iterations, "persons": len(train), **scores}
        write_weights_dir(
            out,
            config,
            mm.read_weights(result.weights),
            {"source": self.name, "training": record},
        )


@dataclass(frozen=True, eq=False)
class PersonCrops:
    """Persons cut out of their frames, with what is believed of their keypoints: samples for training."""

    samples: tuple[PoseSample, ...]
    splits: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> PoseSample:
        return self.samples[index]

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """(width, height) of every crop."""
        return [(s.image.shape[1], s.image.shape[0]) for s in self.samples]

    def split(self, name: str) -> PersonCrops:
        """The persons of one split."""
        rows = [i for i, split in enumerate(self.splits) if split == name]
        return PersonCrops(tuple(self.samples[i] for i in rows), tuple(self.splits[i] for i in rows))

    def first(self, count: int) -> PersonCrops:
        """`count` persons spread over all of them."""
        rows = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)).tolist()
        return PersonCrops(tuple(self.samples[i] for i in rows), tuple(self.splits[i] for i in rows))


def keypoint_weights(points: Floats, mirrored: Floats, height: float, min_score: float) -> Floats:
    """How far each keypoint may be learned from.

    Args:
        points: (133, 3) x, y, confidence.
        mirrored: (133, 3) the model's answer to the mirrored person, mirrored back.
        height: of the person box, px.
        min_score: keypoints below it weigh nothing.

    Returns:
        (133,) in [0, 1]: the confidence, less where the two answers differ.
    """
    confidence = np.minimum(points[:, 2], mirrored[:, 2])
    apart = np.hypot(*(points[:, :2] - mirrored[:, :2]).T) / max(height, 1.0)
    weights = confidence * np.exp(-((apart / MIRROR_TOLERANCE) ** 2))
    return np.where(confidence >= min_score, weights, 0).astype(np.float32)


def mirrored_answers(estimator: Any, image: NDArray[np.uint8], xyxy: Floats) -> Floats:
    """What the model says of the mirror image, mirrored back.

    Args:
        estimator: `orveil.stages.mm.PoseEstimator`; image: (H, W, 3); xyxy: (N, 4) persons.

    Returns:
        (N, 133, 3) x, y, confidence.
    """
    width = image.shape[1]
    turned = np.stack([width - xyxy[:, 2], xyxy[:, 1], width - xyxy[:, 0], xyxy[:, 3]], 1)
    found = estimator.predict(np.ascontiguousarray(image[:, ::-1]), turned)[:, FLIP_ORDER]
    # Column c of the mirror image is column width - 1 - c.
    found[..., 0] = width - 1 - found[..., 0]
    return np.asarray(found, dtype=np.float32)


def agreement(estimator: Any, persons: PersonCrops) -> float:
    """Label-free error: how far the answers to a person and its mirror image lie apart.

    Returns:
        Mean distance over keypoints, weighted by confidence, as a share of the box's height.
    """
    pairs = []
    for sample in persons.samples:
        plain = estimator.predict(sample.image, sample.xyxy[None])[0]
        pairs.append((plain, mirrored_answers(estimator, sample.image, sample.xyxy[None])[0]))
    return _distance(persons, pairs)


def drift(before: Any, after: Any, persons: PersonCrops) -> float:
    """How far the answers of two models lie apart, measured as in `agreement`."""
    pairs = []
    for sample in persons.samples:
        box = sample.xyxy[None]
        pairs.append((before.predict(sample.image, box)[0], after.predict(sample.image, box)[0]))
    return _distance(persons, pairs)


def _distance(persons: PersonCrops, pairs: Sequence[tuple[Floats, Floats]]) -> float:
    total = weight = 0.0
    for sample, (one, two) in zip(persons.samples, pairs, strict=True):
        height = max(float(sample.xyxy[3] - sample.xyxy[1]), 1.0)
        trust = np.minimum(one[:, 2], two[:, 2])
        total += float((np.hypot(*(one[:, :2] - two[:, :2]).T) / height * trust).sum())
        weight += float(trust.sum())
    return total / max(weight, 1e-6)


def _read_crops(inputs: Inputs, estimator: Any, params: PoseTrainParams, context: Context) -> PersonCrops:
    """Cut out the persons of the used frames and weigh their keypoints."""
    directories = [path for _, path in inputs["labels"].shards]
    boxes = _person_boxes(read_tables(PseudoLabels, directories))
    split = _splits(read_tables(FrameLabels, directories))
    poses = read_tables(Poses, [path for _, path in inputs["poses"].shards])
    samples, splits = [], []
    for session, camera in poses.view_keys():
        own = poses.view(session, camera)
        own = own.select(np.array([(session, camera, i) in split for i in own.index.tolist()], dtype=bool))
        wanted = sorted(set(own.index.tolist()))
        for at, picture in walk_frames(inputs["media"].path, session, camera, wanted, context.externals):
            rows = np.flatnonzero(own.index == at)
            persons = np.stack([boxes[session, camera, label] for label in own.label_id[rows].tolist()])
            mirrored = mirrored_answers(estimator, picture, persons)
            for box, points, other in zip(persons, own.keypoints[rows], mirrored, strict=True):
                sample = _sample(picture, box, points, other, estimator.input_size[1], params)
                if sample is not None:
                    samples.append(sample)
                    splits.append(split[session, camera, at])
            context.progress(len(samples), len(poses), "persons read")
    return PersonCrops(tuple(samples), tuple(splits))


def _person_boxes(labels: PseudoLabels) -> dict[tuple[str, str, int], Floats]:
    keys = zip(labels.session.tolist(), labels.camera.tolist(), labels.label_id.tolist(), strict=True)
    return {key: labels.xyxy[row] for row, key in enumerate(keys)}


def _splits(used: FrameLabels) -> dict[tuple[str, str, int], str]:
    """Split of every frame that is used."""
    keys = zip(used.session.tolist(), used.camera.tolist(), used.index.tolist(), strict=True)
    return {key: name for key, name in zip(keys, used.split.tolist(), strict=True) if name != "unused"}


def _sample(
    picture: NDArray[np.uint8],
    box: Floats,
    points: Floats,
    mirrored: Floats,
    input_height: int,
    params: PoseTrainParams,
) -> PoseSample | None:
    """One person with its surroundings, at the size that training needs; None where too little is known."""
    weights = keypoint_weights(points, mirrored, float(box[3] - box[1]), params.min_keypoint_score)
    size = (picture.shape[1], picture.shape[0])
    x0, y0, x1, y1 = np.round(clip(expand(box[None], SURROUNDINGS), *size)[0]).astype(int).tolist()
    if (weights > 0).sum() < MIN_KEYPOINTS or x1 - x0 < 8 or y1 - y0 < 8:
        return None
    zoom = min(1.0, KEPT_ZOOM * input_height / max(float(box[3] - box[1]), 1.0))
    sides = max(1, round((x1 - x0) * zoom)), max(1, round((y1 - y0) * zoom))
    image = np.asarray(cv2.resize(picture[y0:y1, x0:x1], sides, interpolation=cv2.INTER_AREA), np.uint8)
    scale = np.array(sides, np.float32) / np.array([x1 - x0, y1 - y0], np.float32)
    shift = np.array([x0, y0], np.float32)
    between = ((points[:, :2] + mirrored[:, :2]) / 2 - shift) * scale
    own_box = ((box.reshape(2, 2) - shift) * scale).reshape(4)
    levels = np.minimum(points[:, 2], 1.0)
    return PoseSample(image, own_box.astype(np.float32), between.astype(np.float32), weights, levels)
