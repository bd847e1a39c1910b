"""OpenMMLab room, distillation: an RTMDet that learns from labels and from a teacher, cell by cell."""

from __future__ import annotations

import orveil.stages.mm_compat  # noqa: F401  before any OpenMMLab import

# isort: split
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.models.detectors import RTMDet
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import Hook
from torch import Tensor, nn

from orveil.stages.mm_detector import dense_predictions
from orveil.stages.mm_heads import teacher_loss

__all__ = ["DistilledRTMDet", "Teacher", "TeacherHook", "can_teach"]


@dataclass(frozen=True, eq=False)
class Teacher:
    """A frozen detector beside the student; copies of the student share it.

    Attributes:
        model: a detector in eval mode with the student's strides.
        scale, shift: (1, 3, 1, 1), from the student's normalised pictures to the teacher's.
        channels: pairs (student's channel, teacher's channel) of one class each.
        weight: of what the teacher says, against the labels.
    """

    model: nn.Module
    scale: Tensor
    shift: Tensor
    channels: tuple[tuple[int, int], ...]
    weight: float

    @classmethod
    def of(cls, model: nn.Module, teacher: Config, student: Config, weight: float) -> Teacher:
        """A teacher for the student of a config; classes are matched by name."""
        mine, its = _moments(student), _moments(teacher)
        if mine[2] != its[2]:
            raise ValueError("teacher and student want the colours in different order")
        own, other = _channels(student), _channels(teacher)
        pairs = tuple((own[name], other[name]) for name in own if name in other)
        model = model.to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
        return cls(model, mine[1] / its[1], (mine[0] - its[0]) / its[1], pairs, weight)

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    @torch.no_grad()
    def answers(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B, P, pairs) and boxes (B, P, 4) for the student's normalised pictures (B, 3, H, W)."""
        pictures = inputs * self.scale.to(inputs) + self.shift.to(inputs)
        scores, boxes = dense_predictions(self.model.to(inputs.device), pictures)
        return scores[..., [its for _, its in self.channels]].float(), boxes.float()


def can_teach(teacher: nn.Module, student: nn.Module) -> bool:
    """Whether the two answer for the same cells, so that answers can be compared one by one."""
    one, two = (
        getattr(getattr(model, "bbox_head", None), "prior_generator", None) for model in (teacher, student)
    )
    return one is not None and two is not None and list(one.strides) == list(two.strides)


class TeacherHook(Hook):  # type: ignore[misc]
    """Put the teacher beside the student when the training begins."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    def before_train(self, runner: Any) -> None:
        """The runner's model is a `DistilledRTMDet`."""
        runner.model.teacher = self.teacher


@MODELS.register_module()
class DistilledRTMDet(RTMDet):  # type: ignore[misc]
    """RTMDet with a teacher. Without one it is RTMDet; the teacher is no part of its state."""

    teacher: Teacher | None = None

    def loss(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any]) -> dict[str, Any]:
        """Losses of the labels and, weighted, of the teacher's soft scores and boxes."""
        answers = self.bbox_head(self.extract_feat(batch_inputs))
        labelled, ignored, metas = unpack_gt_instances(batch_data_samples)
        losses: dict[str, Any] = dict(self.bbox_head.loss_by_feat(*answers, labelled, metas, ignored))
        if self.teacher is None or not self.teacher.channels or self.teacher.weight == 0:
            return losses
        scores, boxes = self.teacher.answers(batch_inputs)
        mine = [own for own, _ in self.teacher.channels]
        soft = teacher_loss(
            ([level[:, mine] for level in answers[0]], answers[1]),
            scores,
            boxes,
            self.bbox_head.prior_generator.strides,
        )
        return {**losses, **{name: self.teacher.weight * value for name, value in soft.items()}}


def _moments(config: Config) -> tuple[Tensor, Tensor, bool]:
    about = config.model["data_preprocessor"]
    mean, std = (torch.tensor(about[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return mean, std, bool(about.get("bgr_to_rgb", False))


def _channels(config: Config) -> dict[str, int]:
    channels = config.get("channels", range(len(config.classes)))
    return {name: int(c) for name, c in zip(config.classes, channels, strict=True)}
