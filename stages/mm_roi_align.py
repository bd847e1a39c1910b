"""OpenMMLab room, RoIAlign in PyTorch: the pure mmcv has none, and torchvision's needs compiled operators."""

from __future__ import annotations

import orveil.stages.mm_compat  # noqa: F401  before any OpenMMLab import

# isort: split
from typing import Any

import mmdet.models  # noqa: F401
import torch
import torch.nn.functional as F  # noqa: N812
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor, nn

__all__ = ["PortableRoIExtractor", "RoIAlign", "roi_align"]


def roi_align(features: Tensor, rois: Tensor, size: int, scale: float) -> Tensor:
    """Average of bilinear samples in each cell of each box (He et al., Mask R-CNN, 2017).

    Cells are half a pixel aligned, and a box of n by m feature pixels has ceil(n / size) by ceil(m / size)
    samples in a cell, as in mmcv with `sampling_ratio=0, aligned=True`.

    Args:
        features: (B, C, H, W).
        rois: (K, 5) picture, x0, y0, x1, y1 in input pixels.
        size: cells on each side of the result.
        scale: feature pixels per input pixel.

    Returns:
        (K, C, size, size); differentiable in `features`.
    """
    result = features.new_zeros(len(rois), features.shape[1], size, size)
    boxes = rois[:, 1:].detach() * scale - 0.5
    samples = ((boxes[:, 2:] - boxes[:, :2]) / size).ceil().clamp(min=1).long()
    # Boxes with equally many samples are read together.
    kinds, kind = torch.unique(torch.cat([rois[:, :1].long(), samples], 1), dim=0, return_inverse=True)
    for number, (picture, across, down) in enumerate(kinds.tolist()):
        rows = (kind == number).nonzero()[:, 0]
        read = _read(features[picture : picture + 1], boxes[rows], size * across, size * down)
        cells = read.unflatten(-1, (size, across)).unflatten(-3, (size, down)).mean((-1, -3))
        result = result.index_copy(0, rows, cells.transpose(0, 1).to(result))
    return result


def _read(features: Tensor, boxes: Tensor, across: int, down: int) -> Tensor:
    """(C, K, down, across): a regular grid of samples in each box, 0 more than a pixel outside the map."""
    height, width = features.shape[-2:]
    x = boxes[:, :1] + (boxes[:, 2:3] - boxes[:, :1]) * _middles(across, boxes)
    y = boxes[:, 1:2] + (boxes[:, 3:] - boxes[:, 1:2]) * _middles(down, boxes)
    known = ((y >= -1) & (y <= height))[:, :, None] & ((x >= -1) & (x <= width))[:, None, :]
    x = 2 * x.clamp(0, width - 1) / max(width - 1, 1) - 1
    y = 2 * y.clamp(0, height - 1) / max(height - 1, 1) - 1
    shape = (len(boxes), down, across)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], -1)
    read = F.grid_sample(features, grid.reshape(1, -1, across, 2).to(features), align_corners=True)
    return read[0].unflatten(1, (len(boxes), down)) * known


def _middles(count: int, like: Tensor) -> Tensor:
    """(count,) middles of equal parts of [0, 1]."""
    return (torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) / count


class RoIAlign(nn.Module):
    """`roi_align` with its two settings, as mmdet's extractor wants it."""

    def __init__(self, output_size: int, spatial_scale: float) -> None:
        super().__init__()
        self.output_size, self.spatial_scale = (output_size, output_size), spatial_scale

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """(K, C, output_size, output_size)."""
        return roi_align(features, rois, self.output_size[0], self.spatial_scale)


@MODELS.register_module()
class PortableRoIExtractor(SingleRoIExtractor):  # type: ignore[misc]
    """mmdet's extractor on `RoIAlign` of this module; `roi_layer` is `{"output_size": n}`."""

    def build_roi_layers(self, layer_cfg: Any, featmap_strides: list[int]) -> nn.ModuleList:
        """One layer for each stride."""
        return nn.ModuleList([RoIAlign(spatial_scale=1 / s, **layer_cfg) for s in featmap_strides])
