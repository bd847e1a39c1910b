"""OpenMMLab room, heads: RTMDet and RTMPose parts that learn from uncertain labels and from a teacher.

Registered in mmdet and mmpose, so that the configs of this project name them by type. Their tensors have the
names and shapes of the heads they extend, so that weights move freely between the two.
"""

from __future__ import annotations

import orveil.stages.mm_compat  # noqa: F401  before any OpenMMLab import

# isort: split
from typing import Any

import mmdet.models  # noqa: F401
import mmpose.models  # noqa: F401
import torch
import torch.nn.functional as F  # noqa: N812
from mmdet.models.dense_heads.rtmdet_head import RTMDetSepBNHead
from mmdet.registry import MODELS as DETECTION_MODELS
from mmpose.models.heads import RTMCCHead
from mmpose.registry import MODELS as POSE_MODELS
from torch import Tensor

__all__ = ["LabelWeightRTMDetHead", "WholeBodyHead"]


@DETECTION_MODELS.register_module()
class LabelWeightRTMDetHead(RTMDetSepBNHead):  # type: ignore[misc]
    """RTMDet's head, with a weight for every label and places that count neither as person nor background.

    `gt_instances.weights` (N,) scales both losses of the cells that a label is assigned to. A cell without a
    label, whose point lies in a box of `ignored_instances`, is left out of the loss. With weights of one and
    nothing ignored the losses equal those of `RTMDetSepBNHead`.
    """

    def loss_by_feat(self, cls_scores: Any, bbox_preds: Any, *args: Any, **kwargs: Any) -> Any:
        """As the base class; assignment and losses in float32 under mixed precision."""
        with torch.autocast(cls_scores[0].device.type, enabled=False):
            logits, distances = [s.float() for s in cls_scores], [d.float() for d in bbox_preds]
            return super().loss_by_feat(logits, distances, *args, **kwargs)

    def _get_targets_single(
        self,
        cls_scores: Tensor,
        bbox_preds: Tensor,
        flat_anchors: Tensor,
        valid_flags: Tensor,
        gt_instances: Any,
        img_meta: dict[str, Any],
        gt_instances_ignore: Any = None,
        unmap_outputs: bool = True,
    ) -> tuple[Any, ...]:
        targets = super()._get_targets_single(
            cls_scores, bbox_preds, flat_anchors, valid_flags, gt_instances, img_meta, None, unmap_outputs
        )
        labels, label_weights, sampling = targets[1], targets[2], targets[5]
        if labels is None:
            return targets
        if "weights" in gt_instances and len(sampling.pos_inds):
            label_weights[sampling.pos_inds] = gt_instances.weights[sampling.pos_assigned_gt_inds]
        if gt_instances_ignore is not None and len(gt_instances_ignore):
            point, box = flat_anchors[:, None, :2], gt_instances_ignore.bboxes[None]
            inside = ((point > box[..., :2]) & (point < box[..., 2:])).all(-1).any(-1)
            label_weights[inside & (labels == self.num_classes)] = 0
        return targets

    def loss_by_feat_single(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        assign_metrics: Tensor,
        stride: Any,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Losses of one stride; as the base class, but box losses carry the label's weight too."""
        logits = cls_score.permute(0, 2, 3, 1).reshape(-1, self.cls_out_channels)
        labels, quality = labels.reshape(-1), assign_metrics.reshape(-1)
        weights = label_weights.reshape(-1)
        loss_cls = self.loss_cls(logits, (labels, quality), weights, avg_factor=1.0)
        positive = ((labels >= 0) & (labels < self.num_classes)).nonzero()[:, 0]
        if len(positive) == 0:
            return loss_cls, bbox_pred.sum() * 0, quality.sum(), quality.new_zeros(())
        box_weight = quality[positive] * weights[positive]
        loss_bbox = self.loss_bbox(
            bbox_pred.reshape(-1, 4)[positive],
            bbox_targets.reshape(-1, 4)[positive],
            weight=box_weight,
            avg_factor=1.0,
        )
        return loss_cls, loss_bbox, (quality * (weights > 0) * weights.clamp(max=1)).sum(), box_weight.sum()


@POSE_MODELS.register_module()
class WholeBodyHead(RTMCCHead):  # type: ignore[misc]
    """RTMPose's head without the accuracy that it computes in each training step, and safe in bfloat16."""

    def loss(self, feats: Any, batch_data_samples: Any, train_cfg: Any = None) -> dict[str, Tensor]:
        """KL divergence of the two SimCC vectors from their targets, weighted by keypoint."""
        del train_cfg
        pred_x, pred_y = self.forward(feats)
        samples = [sample.gt_instance_labels for sample in batch_data_samples]
        target_x = torch.cat([s.keypoint_x_labels for s in samples])
        target_y = torch.cat([s.keypoint_y_labels for s in samples])
        weights = torch.cat([s.keypoint_weights for s in samples])
        with torch.autocast(pred_x.device.type, enabled=False):
            loss = self.loss_module((pred_x.float(), pred_y.float()), (target_x, target_y), weights)
        return {"loss_kpt": loss}


def teacher_loss(
    student: tuple[Any, Any], scores: Tensor, boxes: Tensor, strides: Any, floor: float = 0.05
) -> dict[str, Tensor]:
    """Distance of a student's dense answers from a teacher's on the same batch.

    Args:
        student: the head's logits and distances by stride.
        scores: (B, P, C) teacher's scores.
        boxes: (B, P, 4) teacher's boxes, input px.
        strides: of the head, [(s, s), ...].
        floor: teacher's scores below this teach no box.

    Returns:
        `loss_soft_cls` (quality-focal cross-entropy against the soft score, Li et al. 2020) and
        `loss_soft_box` (1 - GIoU weighted by the teacher's best score).
    """
    from mmdet.structures.bbox import bbox_overlaps

    logits = torch.cat([x.permute(0, 2, 3, 1).flatten(1, 2) for x in student[0]], 1).float()
    decoded = []
    for distance, stride in zip(student[1], strides, strict=True):
        h, w = distance.shape[-2:]
        ys = torch.arange(h, device=distance.device) * float(stride[1])
        xs = torch.arange(w, device=distance.device) * float(stride[0])
        point = torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], -1).reshape(1, -1, 2)
        side = distance.permute(0, 2, 3, 1).flatten(1, 2).float()
        decoded.append(torch.cat([point - side[..., :2], point + side[..., 2:]], -1))
    own = torch.cat(decoded, 1)
    gap = (scores - logits.sigmoid()).abs().detach() ** 2
    mass = scores.sum().clamp(min=1)
    soft_cls = (F.binary_cross_entropy_with_logits(logits, scores, reduction="none") * gap).sum() / mass
    best = scores.max(-1).values
    chosen = best > floor
    if not bool(chosen.any()):
        return {"loss_soft_cls": soft_cls, "loss_soft_box": own.sum() * 0}
    giou = bbox_overlaps(own[chosen], boxes[chosen], mode="giou", is_aligned=True)
    soft_box = ((1 - giou) * best[chosen]).sum() / best[chosen].sum().clamp(min=1)
    return {"loss_soft_cls": soft_cls, "loss_soft_box": 2 * soft_box}
