"""OpenMMLab room, data sets of a training: item i is sample i of the run, in the form that models take."""

from __future__ import annotations

import orveil.stages.mm_compat  # noqa: F401  before any OpenMMLab import

# isort: split
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from mmpose.structures import PoseDataSample
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from orveil.stages.mm_data import (
    Augment,
    DetectionSample,
    PoseSample,
    SampleSource,
    canvas_size,
    detection_view,
    pick,
)
from orveil.stages.mm_pose_data import crop_view, simcc_targets

__all__ = [
    "Batches", "DetectionViews", "PoseViews", "TrainOptions", "collate", "detection_item", "pose_item",
]  # fmt: skip

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TrainOptions:
    """How a training runs, on the GPU where there is one; all of it but `workers` shapes the result.

    Attributes:
        iterations: optimizer steps in all.
        batch_size: samples in each.
        learning_rate: highest, of AdamW; falls along a cosine to `final_rate` of it.
        warmup: iterations until the highest rate.
        final_rate: share of the learning rate at the end.
        weight_decay: of weights; biases and norms have none.
        clip: largest norm of the gradient.
        ema_decay: of the moving average of the weights, which is the result; 0: no average.
        anchor: pull towards the starting weights (L2-SP), 0: none.
        long_side: longer picture side at the detector's input, px.
        canvas: (width, height) that the scaled pictures are cut or padded to; None: what holds them all.
        augment: how samples are varied, and `late_augment` for the last `late_share` of the iterations.
        seed: of everything random.
        checkpoint_every: iterations between two checkpoints.
        freeze_bn: keep BatchNorm in eval mode; None: as the config says.
        bfloat16: run forward and backward in mixed precision.
        threads: of torch; sums depend on it in the last bits.
        workers: processes that prepare data; 0: in this one.
    """

    iterations: int
    batch_size: int = 8
    learning_rate: float = 4e-4
    warmup: int = 10
    final_rate: float = 0.05
    weight_decay: float = 0.05
    clip: float = 35.0
    ema_decay: float = 0.99
    anchor: float = 0.0
    long_side: int = 512
    canvas: tuple[int, int] | None = None
    augment: Augment = field(default_factory=Augment)
    late_augment: Augment | None = None
    late_share: float = 0.0
    seed: int = 0
    checkpoint_every: int = 50
    freeze_bn: bool | None = None
    bfloat16: bool = False
    threads: int = 1
    workers: int = 0


class Batches(Sampler[list[int]]):
    """Batches of positions, of one process of a training, from an iteration on.

    All processes together take the batches that one alone would; each takes its part of every batch.
    """

    def __init__(self, first: int, iterations: int, batch_size: int, rank: int = 0, workers: int = 1) -> None:
        self.iterations, self.batch_size = range(first, iterations), batch_size
        self.part = range(batch_size * rank // workers, batch_size * (rank + 1) // workers)

    def __iter__(self) -> Iterator[list[int]]:
        return ([i * self.batch_size + place for place in self.part] for i in self.iterations)

    def __len__(self) -> int:
        return len(self.iterations)


class Views(Dataset[Any]):
    """Base of the two data sets: the sample at a position, varied by the numbers of that position."""

    def __init__(self, source: SampleSource[Any], options: TrainOptions) -> None:
        self.source, self.options = source, options
        self.late_from = options.iterations * options.batch_size * (1 - options.late_share)

    def augment(self, position: int) -> Augment:
        """How the sample at a position may be varied: the last share of a training varies less."""
        late = self.options.late_augment
        return late if late is not None and position >= self.late_from else self.options.augment


class DetectionViews(Views):
    """Varied pictures on one canvas, in mmdet's form."""

    def __init__(self, source: SampleSource[DetectionSample], options: TrainOptions) -> None:
        super().__init__(source, options)
        self.canvas = options.canvas or canvas_size(source.sizes, options.long_side)

    def __getitem__(self, position: int) -> dict[str, Any]:
        index, rng = pick(self.options.seed, position, len(self.source))
        view = detection_view(
            self.source, index, rng, self.augment(position), self.canvas, self.options.long_side
        )
        return detection_item(view, position)


class PoseViews(Views):
    """Varied crops of persons with their SimCC targets, in mmpose's form."""

    def __init__(self, source: SampleSource[PoseSample], options: TrainOptions, config: Config) -> None:
        super().__init__(source, options)
        self.size: tuple[int, int] = tuple(config.input_size)
        decoder = config.model["head"]["decoder"]
        self.ratio = float(decoder["simcc_split_ratio"])
        self.sigma: tuple[float, float] = tuple(decoder["sigma"])

    def __getitem__(self, position: int) -> dict[str, Any]:
        index, rng = pick(self.options.seed, position, len(self.source))
        view = crop_view(self.source[index], rng, self.augment(position), self.size)
        return pose_item(view, simcc_targets(view, self.size, self.ratio, self.sigma))


def _tensor(image: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def detection_item(view: DetectionSample, number: int = 0) -> dict[str, Any]:
    """A varied picture in mmdet's form, as a data set for `train` gives it."""
    height, width = view.image.shape[:2]
    sample = DetDataSample(metainfo={"img_id": number, "img_shape": (height, width)})
    sample.gt_instances = InstanceData(
        bboxes=torch.from_numpy(view.xyxy),
        labels=torch.from_numpy(view.labels),
        weights=torch.from_numpy(view.weights),
    )
    sample.ignored_instances = InstanceData(
        bboxes=torch.from_numpy(view.ignore), labels=torch.from_numpy(view.ignore_labels)
    )
    return {"inputs": _tensor(view.image), "data_samples": sample}


def pose_item(view: PoseSample, targets: tuple[Floats, Floats, Floats]) -> dict[str, Any]:
    """A crop and its SimCC targets in mmpose's form, as a data set for `train` gives it."""
    target_x, target_y, weights = targets
    sample = PoseDataSample()
    sample.gt_instance_labels = InstanceData(
        keypoint_x_labels=torch.from_numpy(target_x)[None],
        keypoint_y_labels=torch.from_numpy(target_y)[None],
        keypoint_weights=torch.from_numpy(weights)[None],
    )
    return {"inputs": _tensor(view.image), "data_samples": sample}


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch as lists: pictures and data samples."""
    return {key: [item[key] for item in items] for key in ("inputs", "data_samples")}
