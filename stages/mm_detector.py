"""OpenMMLab room, detector: build one and run it fast on whole pictures.

The picture is scaled so that its longer side has a chosen length, and padded at the right and the bottom to
multiples of 32 ("rect": no letterbox). Of an RTMDet, backbone, neck and head are called directly and the
boxes of a whole batch are decoded at once; the result equals mmdet's own `predict`
(tests/test_mm_detector.py). Other detectors give their answers themselves (`answers`); threshold and
suppression are the same for all.
"""

from __future__ import annotations

import orveil.stages.mm_compat

# isort: split
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import mmdet.models  # noqa: F401  registers the models
import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from numpy.typing import NDArray
from torch import Tensor, nn

import orveil.stages.mm_detr
import orveil.stages.mm_losses
import orveil.stages.mm_rcnn  # noqa: F401  these register the models and heads of this project
from orveil.stages.mm_compat import greedy_nms
from orveil.stages.mm_weights import build_model

__all__ = ["PAD_VALUE", "STRIDE", "Detector", "Prediction", "build_detector", "rect_input"]

Image = NDArray[np.uint8]
Prediction = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
"""Boxes (N, 4) xyxy in source pixels, scores (N,) in [0, 1], labels (N,); by descending score."""

STRIDE = 32
PAD_VALUE = 114


def build_detector(
    config: Config, weights: str | Path | Mapping[str, Tensor] | None = None, *, seed: int = 0
) -> nn.Module:
    """The detector of a config, on the CPU and in eval mode; arguments and errors as `build_model`."""
    return build_model(config, "detector", MODELS, weights, seed)


def rect_input(image: Image, long_side: int) -> tuple[Image, tuple[int, int]]:
    """Scale a picture and pad it.

    Args:
        image: (H, W, 3) BGR.
        long_side: length of the longer side after scaling, px.

    Returns:
        padded picture (H', W', 3), H' and W' multiples of 32, and the (width, height) of its scaled content.
    """
    height, width = image.shape[:2]
    scale = long_side / max(height, width)
    w, h = max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))
    canvas = np.full((-(-h // STRIDE) * STRIDE, -(-w // STRIDE) * STRIDE, 3), PAD_VALUE, np.uint8)
    if (w, h) == (width, height):
        canvas[:h, :w] = image
    else:
        canvas[:h, :w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    return canvas, (w, h)


class Detector:
    """A detector ready to predict.

    Args:
        config: of kind "detector".
        weights: file or named tensors, or a model that is already built.
        long_side: longer side of the scaled picture, px.
        score_threshold: lowest score that is returned.
        nms_iou: IoU above which, within one label, the box of lower score goes.
        max_per_image: most boxes that are returned for one picture, over all labels.
        device: "cpu" or "cuda".
    """

    def __init__(
        self,
        config: Config,
        weights: str | Path | Mapping[str, Tensor] | nn.Module,
        *,
        long_side: int = 512,
        score_threshold: float = 0.1,
        nms_iou: float = 0.65,
        max_per_image: int = 100,
        device: str = "cpu",
    ) -> None:
        model: Any = weights if isinstance(weights, nn.Module) else build_detector(config, weights)
        self.device = torch.device(device)
        self.model = model.to(self.device, memory_format=torch.channels_last).eval()
        self.classes: tuple[str, ...] = tuple(config.classes)
        self.channels = torch.tensor(list(config.get("channels", range(len(self.classes)))))
        self.long_side, self.score_threshold = long_side, score_threshold
        self.nms_iou, self.max_per_image = nms_iou, max_per_image
        preprocessor = config.model["data_preprocessor"]
        self._swap = bool(preprocessor.get("bgr_to_rgb", False))
        self._mean = torch.tensor(preprocessor["mean"], device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(preprocessor["std"], device=self.device).view(1, 3, 1, 1)

    def predict(self, images: Sequence[Image]) -> list[Prediction]:
        """Boxes, scores and labels of each picture, in order; pictures of one size run as one batch.

        Args:
            images: (H, W, 3) uint8 BGR each; sizes may differ.
        """
        results: list[Prediction | None] = [None] * len(images)
        by_size: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            by_size.setdefault(image.shape[:2], []).append(i)
        for members in by_size.values():
            for i, prediction in zip(members, self._predict_batch([images[i] for i in members]), strict=True):
                results[i] = prediction
        return [r for r in results if r is not None]

    def raw(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Every cell's answer of an RTMDet.

        Args:
            batch: (B, 3, H, W) normalised pictures.

        Returns:
            scores (B, P, C) of this config's classes in [0, 1] and boxes (B, P, 4) xyxy in input pixels, for
            the P cells of all strides, small stride first.
        """
        scores, boxes = dense_predictions(self.model, batch)
        return scores[..., self.channels.to(scores.device)], boxes

    def normalise(self, batch: NDArray[np.uint8]) -> Tensor:
        """(B, H, W, 3) uint8 BGR to the (B, 3, H, W) float32 tensor that the backbone takes."""
        tensor = torch.from_numpy(batch).to(self.device).permute(0, 3, 1, 2)
        if self._swap:
            tensor = tensor.flip(1)
        return ((tensor.float() - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def _predict_batch(self, images: list[Image]) -> list[Prediction]:
        inputs = [rect_input(image, self.long_side) for image in images]
        batch = self.normalise(np.stack([canvas for canvas, _ in inputs]))
        height, width = images[0].shape[:2]
        w, h = inputs[0][1]
        to_source = batch.new_tensor([width / w, height / h, width / w, height / h])
        limit = batch.new_tensor([width, height, width, height])
        found = []
        for scores, boxes in self._answers(batch, (w, h)):
            boxes = torch.minimum((boxes * to_source).clamp_(min=0), limit)
            found.append(self._select(scores.cpu(), boxes.cpu()))
        return found

    def _answers(self, batch: Tensor, content: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
        """Scores (P, C) and boxes (P, 4) of each picture, before threshold and suppression."""
        if hasattr(self.model, "answers"):
            channels = self.channels.to(self.device)
            answers: list[tuple[Tensor, Tensor]] = self.model.answers(batch, content, channels)
            return answers
        return list(zip(*self.raw(batch), strict=True))

    def _select(self, scores: Tensor, boxes: Tensor) -> Prediction:
        cell, label = torch.nonzero(scores > self.score_threshold, as_tuple=True)
        score, box = scores[cell, label], boxes[cell]
        solid = ((box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])).nonzero()[:, 0]
        score, box, label = score[solid], box[solid], label[solid]
        # Boxes of different labels must not suppress each other: move each label to a plane of its own.
        plane = label.to(box.dtype)[:, None] * (box.max() + 1 if len(box) else 0.0)
        keep = greedy_nms(box + plane, score, self.nms_iou)[: self.max_per_image]
        return (
            box[keep].numpy().astype(np.float32),
            score[keep].numpy().astype(np.float32),
            label[keep].numpy().astype(np.int64),
        )


def dense_predictions(model: Any, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (B, P, C) in [0, 1] and boxes (B, P, 4) xyxy in input pixels, of every cell of an RTMDet.

    The head gives, for each cell of stride s, the distances of the four sides from the cell's corner point
    (x * s, y * s), already times s.
    """
    logits, distances = model.bbox_head(model.neck(model.backbone(batch)))
    scores, boxes = [], []
    strides = model.bbox_head.prior_generator.strides
    for logit, distance, stride in zip(logits, distances, strides, strict=True):
        h, w = logit.shape[-2:]
        y, x = torch.meshgrid(
            torch.arange(h, device=logit.device, dtype=distance.dtype) * stride[1],
            torch.arange(w, device=logit.device, dtype=distance.dtype) * stride[0],
            indexing="ij",
        )
        point = torch.stack([x, y], -1).reshape(1, -1, 2)
        side = distance.permute(0, 2, 3, 1).flatten(1, 2)
        boxes.append(torch.cat([point - side[..., :2], point + side[..., 2:]], -1))
        scores.append(logit.permute(0, 2, 3, 1).flatten(1, 2).sigmoid())
    return torch.cat(scores, 1), torch.cat(boxes, 1)
