"""OpenMMLab room, Deformable DETR: pseudo labels reach its queries with weights and ignored regions.

Zhu et al., Deformable DETR (2021), two stages with box refinement. Names and shapes of tensors are mmdet's,
so that its published weights fit. It needs no compiled operator: mmcv's attention has a PyTorch form.
"""

from __future__ import annotations

import orveil.stages.mm_compat  # noqa: F401  before any OpenMMLab import

# isort: split
from collections.abc import Sequence
from typing import Any

import mmdet.models  # noqa: F401
import torch
from mmdet.models.dense_heads import DeformableDETRHead
from mmdet.models.detectors import DeformableDETR
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from orveil.stages.mm_trust import as_one_class, background_trust, channel_mask, over_workers, trust, within

__all__ = ["AnswerableDETR", "WeightedDETRHead", "focal"]


def focal(logits: Tensor, wanted: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss, element by element (Lin et al., 2017, equation 5); `wanted` is 0 or 1."""
    score = logits.sigmoid()
    missed = score + wanted - 2 * score * wanted
    balance = alpha * wanted + (1 - alpha) * (1 - wanted)
    return binary_cross_entropy_with_logits(logits, wanted, reduction="none") * balance * missed**gamma


@MODELS.register_module()
class WeightedDETRHead(DeformableDETRHead):  # type: ignore[misc]
    """Deformable DETR's head, trained on boxes that carry a weight and on pictures with ignored regions.

    - A query that is matched to a box of weight w counts w, in its score and in its box.
    - A query that is matched to none is background: fully in the open, w in a box of weight w, not at all in
      an ignored place. It lies where the box that it predicts lies (`mm_trust.background_trust`).

    Args:
        trained_channels: channels that the labels speak about; the others are left alone. None: all.
    """

    def __init__(self, *args: Any, trained_channels: Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer(
            "channel_mask", channel_mask(self.cls_out_channels, trained_channels), persistent=False
        )

    def loss(
        self,
        hidden_states: Tensor,
        references: list[Tensor],
        enc_outputs_class: Tensor,
        enc_outputs_coord: Tensor,
        batch_data_samples: list[Any],
    ) -> dict[str, Tensor]:
        """Losses of the last decoder layer, of those before it (`d0.` ...), and of the proposals (`enc_`)."""
        labelled, ignored, metas = unpack_gt_instances(batch_data_samples)
        logits, boxes = self(hidden_states, references)
        with torch.autocast(logits.device.type, enabled=False):
            losses: dict[str, Tensor] = {}
            last = len(logits) - 1
            for layer, (scores, sides) in enumerate(zip(logits.float(), boxes.float(), strict=True)):
                prefix = "" if layer == last else f"d{layer}."
                found = self._losses(scores, sides, labelled, ignored, metas)
                losses |= {prefix + name: value for name, value in found.items()}
            first = [_as_proposals(own) for own in labelled], [as_one_class(places) for places in ignored]
            found = self._losses(enc_outputs_class.float(), enc_outputs_coord.float(), *first, metas)
        return losses | {f"enc_{name}": value for name, value in found.items()}

    def _losses(
        self,
        logits: Tensor,
        boxes: Tensor,
        labelled: list[InstanceData],
        ignored: list[InstanceData | None],
        metas: list[dict[str, Any]],
    ) -> dict[str, Tensor]:
        """Of one layer: logits (B, Q, C) and boxes (B, Q, 4) cxcywh in [0, 1]."""
        scores = overlaps = sides = logits.sum() * 0 + boxes.sum() * 0
        pairs = over_workers(logits.new_tensor(float(sum(len(own.bboxes) for own in labelled))))
        for own_logits, own_boxes, own, places, meta in zip(
            logits, boxes, labelled, ignored, metas, strict=True
        ):
            height, width = meta["img_shape"][:2]
            size = own_boxes.new_tensor([width, height, width, height])
            xyxy = bbox_cxcywh_to_xyxy(own_boxes) * size
            query, box = self._match(own_logits.detach(), xyxy.detach(), own, meta)
            weight = trust(own)[box].to(logits)
            wanted = torch.zeros_like(own_logits)
            wanted[query, own.labels[box]] = 1.0
            believed = background_trust(within(xyxy.detach(), (height, width)), own, places, logits.shape[-1])
            believed[query, own.labels[box]] = weight
            each = focal(own_logits, wanted, self.loss_cls.alpha, self.loss_cls.gamma)
            scores = scores + (each * believed * self.channel_mask).sum()
            targets = bbox_xyxy_to_cxcywh(own.bboxes[box] / size)
            four = weight[:, None].expand_as(targets)
            sides = sides + self.loss_bbox(own_boxes[query], targets, four, avg_factor=pairs)
            overlaps = overlaps + self.loss_iou(xyxy[query], own.bboxes[box], four, avg_factor=pairs)
        return {
            "loss_cls": self.loss_cls.loss_weight * scores / pairs,
            "loss_bbox": sides,
            "loss_iou": overlaps,
        }

    def _match(
        self, logits: Tensor, xyxy: Tensor, labelled: InstanceData, meta: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Numbers of the matched queries and of their boxes."""
        given = InstanceData(scores=logits, bboxes=xyxy)
        plain = InstanceData(bboxes=labelled.bboxes, labels=labelled.labels)
        result = self.assigner.assign(given, plain, img_meta=meta)
        query = (result.gt_inds > 0).nonzero()[:, 0]
        return query, result.gt_inds[query] - 1


def _as_proposals(labelled: InstanceData) -> InstanceData:
    """The first stage knows no classes: every box is of channel 0."""
    return InstanceData(
        bboxes=labelled.bboxes, labels=torch.zeros_like(labelled.labels), weights=trust(labelled)
    )


@MODELS.register_module()
class AnswerableDETR(DeformableDETR):  # type: ignore[misc]
    """mmdet's Deformable DETR that gives all its answers, as `Detector` takes them."""

    def answers(
        self, batch: Tensor, content: tuple[int, int], channels: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Scores (Q, C) in [0, 1] and boxes (Q, 4) xyxy in input pixels, of each picture.

        Args:
            batch: (B, 3, H, W) normalised pictures.
            content: (width, height) of the scaled picture in its padded canvas: in training the canvas
                counts as picture, and so it does here.
            channels: (C,) the wanted ones.
        """
        del content
        height, width = batch.shape[-2:]
        about = {"img_shape": (height, width), "batch_input_shape": (height, width)}
        samples = [DetDataSample(metainfo=about) for _ in batch]
        states = self.forward_transformer(self.extract_feat(batch), samples)
        logits, boxes = self.bbox_head(states["hidden_states"], states["references"])
        size = boxes.new_tensor([width, height, width, height])
        scores = logits[-1].sigmoid()[..., channels]
        return list(zip(scores, bbox_cxcywh_to_xyxy(boxes[-1]) * size, strict=True))
