"""OpenMMLab room, losses: pseudo labels reach an RTMDet head with their weights and their ignored regions.

mmdet's own head knows neither: every point that no box claims is background, and every box counts the same.
"""

from __future__ import annotations

import orveil.stages.mm_compat  # noqa: F401  before any OpenMMLab import

# isort: split
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.models.dense_heads import RTMDetSepBNHead
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from orveil.stages.mm_trust import channel_mask, hide, over_workers, trust

__all__ = ["DenseTargets", "WeightedRTMDetHead", "inside", "quality_focal"]


@dataclass(frozen=True)
class DenseTargets:
    """What one picture asks of each of P points and C channels.

    Attributes:
        quality: (P, C) wanted score; 0 is background.
        weight: (P, C) weight of the score's loss; 0 where nothing is asked.
        boxes: (P, 4) wanted box, of the points that were assigned one.
        box_weight: (P,) weight of the box loss; 0 where no box was assigned.
    """

    quality: Tensor
    weight: Tensor
    boxes: Tensor
    box_weight: Tensor


def inside(points: Tensor, boxes: Tensor) -> Tensor:
    """(P, K) bool: which of the points (P, 2) lie in which of the boxes (K, 4) xyxy."""
    low = points[:, None, :] >= boxes[None, :, :2]
    high = points[:, None, :] < boxes[None, :, 2:]
    return (low & high).all(-1)


def quality_focal(logits: Tensor, quality: Tensor, beta: float = 2.0) -> Tensor:
    """Quality focal loss, element by element: cross entropy times |quality - score| ** beta.

    Equation 7 of Li et al., Generalized Focal Loss (2020).
    """
    distance = (quality - logits.sigmoid()).abs()
    return binary_cross_entropy_with_logits(logits, quality, reduction="none") * distance.pow(beta)


@MODELS.register_module()
class WeightedRTMDetHead(RTMDetSepBNHead):  # type: ignore[misc]
    """RTMDet's head, trained on boxes that carry a weight and on pictures with ignored regions.

    - A box of weight w scales everything it asks for by w: the scores and boxes of its points, and the
      background of the points inside it that were not assigned to it.
    - A point in an ignored box, and assigned to no box, asks nothing of the box's channel
      (of no channel at all where the box's label is `ALL_CHANNELS`).

    Args:
        trained_channels: channels that the labels speak about; the others are left alone. None: all.

    The sums of weights that losses are divided by do not know the weights: halving every weight halves
    the loss.
    """

    def __init__(self, *args: Any, trained_channels: Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer(
            "channel_mask", channel_mask(self.cls_out_channels, trained_channels), persistent=False
        )

    def flatten(self, cls_scores: Sequence[Tensor], bbox_preds: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """All levels in one row.

        Args:
            cls_scores: per level (B, C, H, W) logits.
            bbox_preds: per level (B, 4, H, W) distances from the point to the box's sides, px.

        Returns:
            points (P, 4) as x, y, stride, stride; logits (B, P, C); boxes (B, P, 4) xyxy, px.
        """
        sizes = [level.shape[-2:] for level in cls_scores]
        priors = self.prior_generator.grid_priors(sizes, device=cls_scores[0].device, with_stride=True)
        points = torch.cat(priors)
        logits = torch.cat([level.flatten(2) for level in cls_scores], 2).transpose(1, 2)
        sides = torch.cat([level.flatten(2) for level in bbox_preds], 2).transpose(1, 2)
        boxes = torch.cat([points[:, :2] - sides[..., :2], points[:, :2] + sides[..., 2:]], -1)
        return points, logits, boxes

    def loss_by_feat(  # noqa: D102  (mmdet's signature)
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: list[InstanceData | None] | None = None,
    ) -> dict[str, Tensor]:
        # Mixed precision ends here: assignment compares boxes to fractions of a pixel.
        with torch.autocast(cls_scores[0].device.type, enabled=False):
            return self._losses(cls_scores, bbox_preds, batch_gt_instances, batch_gt_instances_ignore)

    def _losses(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: list[InstanceData],
        batch_gt_instances_ignore: list[InstanceData | None] | None,
    ) -> dict[str, Tensor]:
        points, logits, boxes = self.flatten(
            [level.float() for level in cls_scores], [level.float() for level in bbox_preds]
        )
        ignored = batch_gt_instances_ignore or [None] * len(batch_gt_instances)
        targets = [
            self.dense_targets(points, logits[i].detach(), boxes[i].detach(), labelled, ignored[i])
            for i, labelled in enumerate(batch_gt_instances)
        ]
        quality = torch.stack([target.quality for target in targets])
        weight = torch.stack([target.weight for target in targets]) * self.channel_mask
        box_weight = torch.stack([target.box_weight for target in targets]).flatten()
        total = over_workers(quality.sum())
        beta = getattr(self.loss_cls, "beta", 2.0)
        scores = self.loss_cls.loss_weight * (quality_focal(logits, quality, beta) * weight).sum() / total
        chosen = box_weight > 0
        if not chosen.any():
            return {"loss_cls": scores, "loss_bbox": boxes.sum() * 0}
        wanted = torch.cat([target.boxes for target in targets])[chosen]
        sides = self.loss_bbox(
            boxes.reshape(-1, 4)[chosen], wanted, weight=box_weight[chosen], avg_factor=total
        )
        return {"loss_cls": scores, "loss_bbox": sides}

    def dense_targets(
        self,
        points: Tensor,
        logits: Tensor,
        boxes: Tensor,
        labelled: InstanceData,
        ignored: InstanceData | None,
    ) -> DenseTargets:
        """Assign the boxes of one picture to its points.

        Args:
            points: (P, 4) x, y, stride, stride.
            logits: (P, C), detached.
            boxes: (P, 4) xyxy as predicted now, detached.
            labelled: `bboxes` (K, 4), `labels` (K,) channels, and `weights` (K,); without weights all are 1.
            ignored: `bboxes` (M, 4) and `labels` (M,) channels or `ALL_CHANNELS`.
        """
        quality = torch.zeros_like(logits)
        weight = self._background_weight(points, logits, labelled, ignored)
        box_targets, box_weight = torch.zeros_like(boxes), boxes.new_zeros(len(boxes))
        if len(labelled.bboxes):
            predicted = InstanceData(scores=logits, bboxes=boxes, priors=points)
            result = self.assigner.assign(predicted, labelled)
            positive = (result.gt_inds > 0).nonzero()[:, 0]
            chosen = result.gt_inds[positive] - 1
            overlap = result.max_overlaps[positive].clamp(0, 1)
            channel, weights = labelled.labels[chosen], trust(labelled)[chosen]
            quality[positive, channel] = overlap
            weight[positive, channel] = weights
            box_targets[positive] = labelled.bboxes[chosen]
            box_weight[positive] = overlap * weights
        return DenseTargets(quality, weight, box_targets, box_weight)

    def _background_weight(
        self, points: Tensor, logits: Tensor, labelled: InstanceData, ignored: InstanceData | None
    ) -> Tensor:
        """(P, C): 1 in the open, a doubtful box's weight inside it, 0 in an ignored box."""
        weight = torch.ones_like(logits)
        for box, channel, sure in zip(labelled.bboxes, labelled.labels, trust(labelled), strict=True):
            within = inside(points[:, :2], box[None])[:, 0]
            weight[within, channel] = torch.minimum(weight[within, channel], sure)
        if ignored is None or not len(ignored.bboxes):
            return weight
        return hide(weight, inside(points[:, :2], ignored.bboxes), ignored.labels)
