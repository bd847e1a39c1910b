"""OpenMMLab room, trust: how far boxes, labels and background may be believed, for heads of every family.

A head that answers with boxes (proposals, queries) asks here what the labels of a picture say about them.
Sums that losses are divided by go through `over_workers`, so that a training over several processes takes
the steps of a training in one.
"""

from __future__ import annotations

import orveil.stages.mm_compat  # noqa: F401  before any OpenMMLab import

# isort: split
from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, distributed

__all__ = [
    "ALL_CHANNELS", "INSIDE", "as_one_class", "background_trust", "channel_mask", "hide", "obeys_weights",
    "over_workers", "share_inside", "trust", "within",
]  # fmt: skip

ALL_CHANNELS = -1
"""Label of an ignored box that hides every class (a doubtful person hides a doubtful head, too)."""
INSIDE = 0.5
"""A box lies in a place when at least this share of the box does."""
EMPTY = 1e-3
"""Square pixels."""
OBEDIENT = frozenset({"WeightedRTMDetHead", "WeightedRPNHead", "WeightedRoIHead", "WeightedDETRHead"})


def obeys_weights(config: Config) -> bool:
    """Whether label weights and ignored places reach the loss of a config's detector."""
    heads = [config.model[name] for name in ("bbox_head", "rpn_head", "roi_head") if config.model.get(name)]
    return bool(heads) and all(head.get("type") in OBEDIENT for head in heads)


def over_workers(value: Tensor, least: float = 1.0) -> Tensor:
    """Mean of a sum over the processes of a training, at least `least` of the whole training's.

    Gradients are averaged over processes. A loss that each of W processes divides by this mean therefore
    has the gradient of the whole batch's loss divided by the whole batch's sum.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return value.clamp(min=least)
    value, workers = value.clone(), distributed.get_world_size()
    distributed.all_reduce(value)
    return value.clamp(min=least) / workers


def trust(labelled: InstanceData) -> Tensor:
    """(K,) weights of the boxes; ones where the data set gives none."""
    if "weights" in labelled:
        return labelled.weights
    return labelled.bboxes.new_ones(len(labelled.bboxes))


def channel_mask(count: int, trained: Sequence[int] | None) -> Tensor:
    """(count,) 1 for channels that the labels speak about, 0 for others; None: they speak about all."""
    mask = torch.zeros(count)
    mask[list(range(count)) if trained is None else list(trained)] = 1.0
    return mask


def as_one_class(ignored: InstanceData | None) -> InstanceData | None:
    """The ignored places for a stage that knows no classes: a place of any class is ignored."""
    if ignored is None:
        return None
    return InstanceData(bboxes=ignored.bboxes, labels=torch.full_like(ignored.labels, ALL_CHANNELS))


def within(boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Boxes (N, 4) xyxy cut at the borders of a picture of (height, width)."""
    limit = boxes.new_tensor([shape[1], shape[0], shape[1], shape[0]])
    return torch.minimum(boxes.clamp(min=0), limit)


def share_inside(boxes: Tensor, places: Tensor) -> Tensor:
    """(N, M): share of the area of each box (N, 4) xyxy that lies in each place (M, 4).

    A box without area lies in a place, with a share of 1, or not, as its middle does.
    """
    low = torch.maximum(boxes[:, None, :2], places[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], places[None, :, 2:])
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1)
    share = (high - low).clamp(min=0).prod(-1) / area.clamp(min=EMPTY)[:, None]
    middle = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    touched = ((middle >= places[None, :, :2]) & (middle <= places[None, :, 2:])).all(-1)
    return torch.where(area[:, None] > EMPTY, share, touched.to(share))


def background_trust(
    boxes: Tensor, labelled: InstanceData, ignored: InstanceData | None, channels: int
) -> Tensor:
    """How surely a box that no label claims is background.

    Args:
        boxes: (N, 4) xyxy.
        labelled: `bboxes` (K, 4), `labels` (K,), and `weights` (K,).
        ignored: `bboxes` (M, 4) and `labels` (M,), channels or `ALL_CHANNELS`; None: nothing is ignored.
        channels: number of channels C.

    Returns:
        (N, C): 1 in the open, a doubtful label's weight in its box, 0 in an ignored place.
    """
    sure = boxes.new_ones(len(boxes), channels)
    inside = share_inside(boxes, labelled.bboxes) >= INSIDE
    for column, channel, weight in zip(inside.unbind(1), labelled.labels, trust(labelled), strict=True):
        sure[column, channel] = torch.minimum(sure[column, channel], weight.to(sure))
    if ignored is None or not len(ignored.bboxes):
        return sure
    inside = share_inside(boxes, ignored.bboxes) >= INSIDE
    return hide(sure, inside, ignored.labels)


def hide(weight: Tensor, inside: Tensor, labels: Tensor) -> Tensor:
    """Weights (N, C) with 0, in place, for what lies in ignored places.

    Args:
        weight: (N, C) of points or boxes.
        inside: (N, M) bool, which of them lie in which place.
        labels: (M,) channel that each place hides, or `ALL_CHANNELS`.
    """
    for column, channel in zip(inside.unbind(1), labels.tolist(), strict=True):
        if channel == ALL_CHANNELS:
            weight[column] = 0.0
        else:
            weight[column, channel] = 0.0
    return weight
