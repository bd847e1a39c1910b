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
    """RTMPose's head, which learns from scratch, and learns to say that a keypoint is not in sight.

    Two terms are added to RTMPose's divergence, which sees neither:

    - The height of a vector's peak is the confidence, but the divergence does not change when a constant is
      added to the vector. A squared error on the vector itself pins it: the target is as high as the
      keypoint's level (1 seen, 0 not in sight).
    - Without weights from another data set the head stays for thousands of iterations at the mean pose. A
      cross-entropy on the head's feature map of each keypoint, over its cells, teaches the convolutions
      directly where it is (deep supervision).

    Args:
        level_weight: weight of the squared error.
        cell_weight: weight of the cross-entropy over cells.
    """

    def __init__(
        self, *args: Any, level_weight: float = 0.5, cell_weight: float = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.level_weight, self.cell_weight = level_weight, cell_weight

    def loss(self, feats: Any, batch_data_samples: Any, train_cfg: Any = None) -> dict[str, Tensor]:
        """`loss_kpt` (divergence), `loss_level` and `loss_cell`, each weighted by keypoint."""
        del train_cfg
        maps = self.final_layer(feats[-1])
        hidden = self.gau(self.mlp(maps.flatten(2)))
        samples = [sample.gt_instance_labels for sample in batch_data_samples]
        target_x = torch.cat([s.keypoint_x_labels for s in samples])
        target_y = torch.cat([s.keypoint_y_labels for s in samples])
        weights = torch.cat([s.keypoint_weights for s in samples])
        with torch.autocast(maps.device.type, enabled=False):
            pred_x = F.linear(hidden.float(), self.cls_x.weight)
            pred_y = F.linear(hidden.float(), self.cls_y.weight)
            loss = self.loss_module((pred_x, pred_y), (target_x, target_y), weights)
            error = (pred_x - target_x).square().mean(-1) + (pred_y - target_y).square().mean(-1)
            level = self.level_weight * (error * weights).sum() / weights.shape[1]
            cell = self.cell_weight * _cell_loss(maps.float(), target_x, target_y, weights)
        return {"loss_kpt": loss, "loss_level": level, "loss_cell": cell}


def _cell_loss(maps: Tensor, target_x: Tensor, target_y: Tensor, weights: Tensor) -> Tensor:
    """Mean cross-entropy of the maps (B, K, h, w) against where the keypoints are, over those that are."""
    h, w = maps.shape[-2:]
    across, down = F.adaptive_avg_pool1d(target_x, w), F.adaptive_avg_pool1d(target_y, h)
    wanted = (down[..., :, None] * across[..., None, :]).flatten(2)
    mass = wanted.sum(-1, keepdim=True)
    weights = weights * (mass[..., 0] > 1e-6)
    entropy = -(wanted / mass.clamp(min=1e-6) * maps.flatten(2).log_softmax(-1)).sum(-1)
    return (entropy * weights).sum() / weights.sum().clamp(min=1.0)


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
        # A box turned inside out has a GIoU without bounds. Its side counts as next to nothing, and learns.
        side = side + (side.clamp(min=0.1) - side).detach()
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
