"""OpenMMLab room, heads: RTMPose's head with visibility-aware targets, and the loss of a taught RTMDet.

The head is registered in mmpose, so that configs name it by type. Its tensors have the names and shapes of
the head that it extends, so that weights move freely between the two.
"""

from __future__ import annotations

import orveil.stages.mm_compat  # noqa: F401  before any OpenMMLab import

# isort: split
from typing import Any

import mmdet.models  # noqa: F401
import mmpose.models  # noqa: F401
import torch
import torch.nn.functional as F  # noqa: N812
from mmpose.models.heads import RTMCCHead
from mmpose.registry import MODELS as POSE_MODELS
from torch import Tensor

__all__ = ["WholeBodyHead", "teacher_loss"]


@POSE_MODELS.register_module()
class WholeBodyHead(RTMCCHead):  # type: ignore[misc]
    """RTMPose's head, which also learns to say that a keypoint is not in sight; safe in bfloat16.

    RTMPose's divergence does not see a constant added to a vector, so that the height of its peak, which
    is the confidence, is left to chance for a keypoint that nobody labelled. A squared error on the vector
    itself pins it: the target is as high as the keypoint's level (1 seen, 0 not in sight).

    Args:
        level_weight: weight of the squared error.
    """

    def __init__(self, *args: Any, level_weight: float = 0.5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.level_weight = level_weight

    def loss(self, feats: Any, batch_data_samples: Any, train_cfg: Any = None) -> dict[str, Tensor]:
        """KL divergence of the two SimCC vectors from their targets, and the error of their height."""
        del train_cfg
        pred_x, pred_y = self.forward(feats)
        samples = [sample.gt_instance_labels for sample in batch_data_samples]
        target_x = torch.cat([s.keypoint_x_labels for s in samples])
        target_y = torch.cat([s.keypoint_y_labels for s in samples])
        weights = torch.cat([s.keypoint_weights for s in samples])
        with torch.autocast(pred_x.device.type, enabled=False):
            pred_x, pred_y = pred_x.float(), pred_y.float()
            loss = self.loss_module((pred_x, pred_y), (target_x, target_y), weights)
            error = (pred_x - target_x).square().mean(-1) + (pred_y - target_y).square().mean(-1)
            level = self.level_weight * (error * weights).sum() / weights.shape[1]
        return {"loss_kpt": loss, "loss_level": level}


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
