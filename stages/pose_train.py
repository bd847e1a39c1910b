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
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import read_tables
from orveil.pipeline.types import FrameLabels, Poses, PseudoLabels
from orveil.stages.datasets import walk_frames
from orveil.stages.mm_data import PoseSample
from orveil.stages.mm_pose_data import FLIP_ORDER
from orveil.stages.weights import copy_weights, write_weights_dir

__all__ = ["PersonCrops", "PoseTrain", "agreement", "keypoint_weights"]

Floats = NDArray[np.float32]

SEED_RANGE = 2**31
SURROUNDINGS = 0.4
"""A kept crop reaches this share of the person box beyond it on each side: views shift and zoom."""
KEPT_ZOOM = 1.25
MIN_KEYPOINTS = 8
MIRROR_TOLERANCE = 0.03
"""Two answers this share of the box's height apart halve (nearly) the weight of a keypoint."""
HOLDOUT_PERSONS = 96
MAY_DIFFER = 1.05


class PoseTrain:
    """Train the pose model of `weights` on `poses`, that is on its own answers."""

    name: ClassVar[str] = "pose-train"
    version: ClassVar[int] = 1
    needs: ClassVar[Resources] = Resources(cpus=2, threads=2, loads_model=True)
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {
        "media": MediaKind,
        "labels": PseudoLabelsKind,
        "poses": PosesKind,
        "weights": WeightsKind,
    }
    produces: ClassVar[type[ArtifactType]] = WeightsKind
    volatile: ClassVar[frozenset[str]] = frozenset()

    def shards(self, params: PoseTrainParams, inputs: Inputs) -> Sequence[Shard]:
        """One: a pose model is trained on the whole site."""
        del params, inputs
        return [Shard()]

    def setup(self, params: PoseTrainParams, inputs: Inputs, context: Context) -> None:
        """Nothing to load."""

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
        result = mm.train_pose(
            config,
            train,
            context.scratch / "pose",
            _options(mm, params, context.seed, self.needs.threads),
            init=start / "model.safetensors",
            progress=context.progress,
        )
        after = mm.PoseEstimator(config, result.weights, batch_size=params.batch_size)
        judged = (held if len(held) else train).first(HOLDOUT_PERSONS)
        scores = {"before": agreement(before, judged), "after": agreement(after, judged)}
        record = {"iterations": params.iterations, "persons": len(train), "mirror_error": scores}
        if scores["after"] > MAY_DIFFER * scores["before"]:
            copy_weights(start, out, f"training made it less consistent: {scores}")
            return
        write_weights_dir(
            out,
            config,
            mm.read_weights(result.weights),
            {"source": self.name, "training": record},
        )


def _options(mm: Any, params: PoseTrainParams, seed: int, threads: int) -> Any:
    return mm.TrainOptions(
        iterations=params.iterations,
        batch_size=params.batch_size,
        learning_rate=params.learning_rate,
        augment=mm.Augment(scale=(0.8, 1.25), shift=0.05, rotate=30.0),
        seed=seed % SEED_RANGE,
        checkpoint_every=params.checkpoint_every,
        freeze_bn=True,
        threads=threads,
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


def agreement(estimator: Any, persons: PersonCrops) -> float:
    """Label-free error: how far the answers to a person and its mirror image lie apart.

    Returns:
        Mean distance over keypoints, weighted by confidence, as a share of the box's height.
    """
    distances, weights = [], []
    for sample in persons.samples:
        plain, mirrored = _both_ways(estimator, sample.image, sample.xyxy)
        height = float(sample.xyxy[3] - sample.xyxy[1])
        distances.append(np.hypot(*(plain[:, :2] - mirrored[:, :2]).T) / max(height, 1.0))
        weights.append(np.minimum(plain[:, 2], mirrored[:, 2]))
    weight = np.concatenate(weights)
    return float((np.concatenate(distances) * weight).sum() / max(float(weight.sum()), 1e-6))


def _both_ways(estimator: Any, image: NDArray[np.uint8], box: Floats) -> tuple[Floats, Floats]:
    """(133, 3) of a person, and of its mirror image mirrored back."""
    width = image.shape[1]
    turned = np.array([width - box[2], box[1], width - box[0], box[3]], np.float32)
    plain = estimator.predict(image, box[None])[0]
    mirrored = estimator.predict(np.ascontiguousarray(image[:, ::-1]), turned[None])[0][FLIP_ORDER]
    # Pixel centres: column c of the mirror image is column width - 1 - c.
    mirrored[:, 0] = width - 1 - mirrored[:, 0]
    return plain, mirrored


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
            for row in np.flatnonzero(own.index == at):
                box = boxes[session, camera, int(own.label_id[row])]
                sample = _sample(picture, box, own.keypoints[row], estimator, params.min_keypoint_score)
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
    picture: NDArray[np.uint8], box: Floats, points: Floats, estimator: Any, min_score: float
) -> PoseSample | None:
    """One person with its surroundings, at the size that training needs; None where too little is known."""
    if (points[:, 2] >= min_score).sum() < MIN_KEYPOINTS:
        return None
    size = (picture.shape[1], picture.shape[0])
    x0, y0, x1, y1 = np.round(clip(expand(box[None], SURROUNDINGS), *size)[0]).astype(int).tolist()
    if x1 - x0 < 8 or y1 - y0 < 8:
        return None
    zoom = min(1.0, KEPT_ZOOM * estimator.input_size[1] / max(float(box[3] - box[1]), 1.0))
    sides = max(1, round((x1 - x0) * zoom)), max(1, round((y1 - y0) * zoom))
    image = np.asarray(cv2.resize(picture[y0:y1, x0:x1], sides, interpolation=cv2.INTER_AREA), np.uint8)
    scale = np.array(sides, np.float32) / np.array([x1 - x0, y1 - y0], np.float32)
    shift = np.array([x0, y0], np.float32)
    own_box = ((box.reshape(2, 2) - shift) * scale).reshape(4).astype(np.float32)
    own_points = np.concatenate([(points[:, :2] - shift) * scale, points[:, 2:]], 1)
    _, mirrored = _both_ways(estimator, image, own_box)
    weights = keypoint_weights(own_points, mirrored, float(own_box[3] - own_box[1]), min_score)
    if (weights > 0).sum() < MIN_KEYPOINTS:
        return None
    between = (own_points[:, :2] + mirrored[:, :2]) / 2
    return PoseSample(image, own_box, between.astype(np.float32), weights, points[:, 2])
