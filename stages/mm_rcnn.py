"""OpenMMLab room, Faster R-CNN: pseudo labels reach both of its stages with weights and ignored regions.

Ren et al., Faster R-CNN (2015), on a feature pyramid. Names and shapes of tensors are mmdet's, so that its
published weights fit.
"""

from __future__ import annotations

import orveil.stages.mm_compat

# isort: split
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mmdet.models  # noqa: F401
import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.detectors import FasterRCNN
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor

import orveil.stages.mm_roi_align  # noqa: F401  registers the extractor that configs name
from orveil.stages.mm_trust import as_one_class, background_trust, channel_mask, over_workers, trust, within

__all__ = ["AnswerableRCNN", "WeightedRPNHead", "WeightedRoIHead", "marginal_cross_entropy"]


def marginal_cross_entropy(logits: Tensor, allowed: Tensor) -> Tensor:
    """Cross entropy of a softmax where any of several answers is right: -log of their joint probability.

    Args:
        logits: (N, C).
        allowed: (N, C) bool, the right answers; where all are right the loss is 0.

    Returns:
        (N,)
    """
    right = logits.masked_fill(~allowed, float("-inf")).logsumexp(-1)
    return logits.logsumexp(-1) - right


@MODELS.register_module()
class WeightedRPNHead(RPNHead):  # type: ignore[misc]
    """First stage: anchors of a doubtful box, and the background in it, count as much as the box does.

    It knows no classes; an ignored place of any class is ignored.
    """

    def _get_targets_single(
        self,
        flat_anchors: Tensor,
        valid_flags: Tensor,
        gt_instances: InstanceData,
        img_meta: dict[str, Any],
        gt_instances_ignore: InstanceData | None = None,
        unmap_outputs: bool = True,
    ) -> tuple[Any, ...]:
        found = super()._get_targets_single(
            flat_anchors, valid_flags, gt_instances, img_meta, gt_instances_ignore, unmap_outputs
        )
        label_weights, box_weights, sampled = found[1], found[3], found[6]
        shape = img_meta["img_shape"][:2]
        inside = anchor_inside_flags(flat_anchors, valid_flags, shape, self.train_cfg["allowed_border"])
        place = inside.nonzero()[:, 0]
        positive, negative = place[sampled.pos_inds], place[sampled.neg_inds]
        weight = trust(gt_instances)[sampled.pos_assigned_gt_inds]
        label_weights[positive] *= weight
        box_weights[positive] *= weight[:, None]
        sure = background_trust(
            within(flat_anchors[negative], shape), gt_instances, as_one_class(gt_instances_ignore), 1
        )
        label_weights[negative] *= sure[:, 0]
        return found

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """As mmdet's; losses are divided by the mean number of samples of all processes."""
        *targets, count = super().get_targets(*args, **kwargs)
        number = targets[0][0].new_tensor(float(count), dtype=torch.float32)
        return (*targets, float(over_workers(number)))


@dataclass(frozen=True)
class RoITargets:
    """What one picture asks of N sampled boxes, of which the first P are positive.

    Attributes:
        boxes: (N, 4) xyxy.
        allowed: (N, C + 1) bool, right answers; the last is background.
        weight: (N,) of the scores' loss.
        labels: (P,); wanted: (P, 4) label's box; trust: (P,) weight of the box loss.
    """

    boxes: Tensor
    allowed: Tensor
    weight: Tensor
    labels: Tensor
    wanted: Tensor
    trust: Tensor


@MODELS.register_module()
class WeightedRoIHead(StandardRoIHead):  # type: ignore[misc]
    """Second stage, trained on boxes that carry a weight and on pictures with ignored regions.

    The softmax over classes and background is asked for as little as the labels know. A box that is no
    person may be background or any class that the labels do not speak about; in a place that is ignored for
    a class it may be that class as well. So a model of 80 classes keeps what it knows of the other 79.

    Args:
        trained_channels: channels that the labels speak about; None: all.
    """

    def __init__(self, *args: Any, trained_channels: Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        mask = channel_mask(self.bbox_head.num_classes, trained_channels)
        self.register_buffer("channel_mask", mask, persistent=False)

    def loss(
        self, x: Sequence[Tensor], rpn_results_list: list[InstanceData], batch_data_samples: list[Any]
    ) -> dict[str, Tensor]:
        """`loss_cls` and `loss_bbox` of the sampled proposals."""
        labelled, ignored, _ = unpack_gt_instances(batch_data_samples)
        targets = [
            self.targets(proposals.bboxes, own, places)
            for proposals, own, places in zip(rpn_results_list, labelled, ignored, strict=True)
        ]
        rois = bbox2roi([target.boxes for target in targets])
        answers = self._bbox_forward(x, rois)
        # Mixed precision ends here, as in the other heads.
        with torch.autocast(rois.device.type, enabled=False):
            return self._losses(answers["cls_score"].float(), answers["bbox_pred"].float(), targets)

    def targets(self, proposals: Tensor, labelled: InstanceData, ignored: InstanceData | None) -> RoITargets:
        """Sample the proposals (N, 4) of one picture, and the labelled boxes themselves, and weigh them."""
        given = InstanceData(priors=proposals)
        sampled = self.bbox_sampler.sample(self.bbox_assigner.assign(given, labelled, None), given, labelled)
        number = len(self.channel_mask)
        sure = background_trust(sampled.neg_priors, labelled, ignored, number)
        own = torch.nn.functional.one_hot(sampled.pos_gt_labels.clamp(min=0), number + 1).bool()
        may = (sure == 0) | (self.channel_mask == 0)
        nothing = may.new_ones(len(may), 1)
        weight = trust(labelled)[sampled.pos_assigned_gt_inds]
        doubt = torch.where(may, torch.ones_like(sure), sure).amin(1)
        return RoITargets(
            sampled.priors,
            torch.cat([own, torch.cat([may, nothing], 1)]),
            torch.cat([weight, doubt]),
            sampled.pos_gt_labels,
            sampled.pos_gt_bboxes,
            weight,
        )

    def _losses(self, scores: Tensor, sides: Tensor, targets: Sequence[RoITargets]) -> dict[str, Tensor]:
        head = self.bbox_head
        count = over_workers(scores.new_tensor(float(len(scores))))
        each = marginal_cross_entropy(scores, torch.cat([target.allowed for target in targets]))
        loss = head.loss_cls.loss_weight * (each * torch.cat([t.weight for t in targets])).sum() / count
        first = 0
        box_loss = sides.sum() * 0
        for target in targets:
            positive = slice(first, first + len(target.labels))
            first += len(target.boxes)
            if not len(target.labels):
                continue
            own = sides[positive].unflatten(1, (-1, 4))
            own = own[range(len(own)), target.labels if own.shape[1] > 1 else 0]
            wanted = head.bbox_coder.encode(target.boxes[: len(target.labels)], target.wanted)
            box_loss = box_loss + head.loss_bbox(
                own, wanted, weight=target.trust[:, None].expand_as(wanted), avg_factor=count
            )
        return {"loss_cls": loss, "loss_bbox": box_loss}


@MODELS.register_module()
class AnswerableRCNN(FasterRCNN):  # type: ignore[misc]
    """mmdet's Faster R-CNN that gives its answers before suppression, as `Detector` takes them."""

    def answers(
        self, batch: Tensor, content: tuple[int, int], channels: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Scores (P, C) in [0, 1] and boxes (P, 4) xyxy in input pixels, of each picture.

        Args:
            batch: (B, 3, H, W) normalised pictures.
            content: (width, height) of the scaled picture in its padded canvas.
            channels: (C,) the wanted ones.
        """
        shape = (content[1], content[0])
        samples = [DetDataSample(metainfo={"img_shape": shape, "pad_shape": batch.shape[-2:]}) for _ in batch]
        maps = self.extract_feat(batch)
        proposals = self.rpn_head.predict(maps, samples, rescale=False)
        rois = bbox2roi([found.bboxes for found in proposals])
        if not len(rois):
            return [(batch.new_zeros(0, len(channels)), batch.new_zeros(0, 4)) for _ in batch]
        answers = self.roi_head._bbox_forward(maps, rois)
        scores = answers["cls_score"].float().softmax(-1)[:, channels]
        sides = answers["bbox_pred"].float().unflatten(1, (-1, 4))
        sides = sides[:, channels] if sides.shape[1] > 1 else sides.expand(-1, len(channels), 4)
        near = rois[:, 1:].repeat_interleave(len(channels), 0)
        boxes = self.roi_head.bbox_head.bbox_coder.decode(near, sides.flatten(0, 1), max_shape=shape)
        boxes = boxes.unflatten(0, (-1, len(channels)))
        # Each class has a box of its own: one answer for each box and class.
        alone = torch.diag_embed(scores)
        parts = [len(found.bboxes) for found in proposals]
        pairs = zip(alone.split(parts), boxes.split(parts), strict=True)
        return [(score.flatten(0, 1), box.flatten(0, 1)) for score, box in pairs]
