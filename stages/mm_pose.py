"""OpenMMLab room, pose: build a whole-body pose model and run it fast on many boxes of one picture.

Crops are cut with one affine map each and run as one batch, and decoded at once.
The result equals mmpose's `inference_topdown` without flip test (tests/test_mm_pose.py).
"""

from __future__ import annotations

import orveil.stages.mm_compat

# isort: split
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import mmpose.models  # noqa: F401  registers the models
import numpy as np
import torch
from mmengine.config import Config
from mmpose.registry import MODELS
from numpy.typing import NDArray
from torch import Tensor, nn

import orveil.stages.mm_heads  # noqa: F401  registers the heads of this project
from orveil.pipeline.types import KEYPOINTS
from orveil.stages.mm_weights import build_model

__all__ = ["PADDING", "PoseEstimator", "build_pose", "crop_affine"]

Image = NDArray[np.uint8]
PADDING = 1.25
"""The crop is the box, grown to the aspect ratio of the input, times this."""


def build_pose(
    config: Config, weights: str | Path | Mapping[str, Tensor] | None = None, *, seed: int = 0
) -> nn.Module:
    """The pose model of a config, on the CPU and in eval mode; arguments and errors as `build_model`."""
    return build_model(config, "pose", MODELS, weights, seed)


def crop_affine(xyxy: NDArray[np.floating], input_size: tuple[int, int]) -> NDArray[np.float32]:
    """Maps from source pixels to crop pixels, without rotation.

    Args:
        xyxy: (N, 4) boxes.
        input_size: (width, height) of the crop.

    Returns:
        (N, 2, 3) affine matrices that centre the box and fit it, padded, into the crop.
    """
    w, h = input_size
    size = np.maximum((xyxy[:, 2:] - xyxy[:, :2]) * PADDING, 1e-3)
    span = np.maximum(size[:, 0], size[:, 1] * w / h)
    centre = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    scale = w / span
    matrix = np.zeros((len(xyxy), 2, 3), np.float32)
    matrix[:, 0, 0] = matrix[:, 1, 1] = scale
    matrix[:, :, 2] = np.array([w / 2, h / 2]) - scale[:, None] * centre
    return matrix


class PoseEstimator:
    """A whole-body pose model ready to predict.

    Args:
        config: of kind "pose".
        weights: file or named tensors, or a model that is already built.
        batch_size: crops that run at once.
        device: "cpu" or "cuda".
    """

    def __init__(
        self,
        config: Config,
        weights: str | Path | Mapping[str, Tensor] | nn.Module,
        *,
        batch_size: int = 32,
        device: str = "cpu",
    ) -> None:
        model: Any = weights if isinstance(weights, nn.Module) else build_pose(config, weights)
        self.device = torch.device(device)
        self.model = model.to(self.device, memory_format=torch.channels_last).eval()
        self.input_size: tuple[int, int] = tuple(config.input_size)
        self.batch_size = batch_size
        self.split_ratio = float(config.model["head"]["simcc_split_ratio"])
        preprocessor = config.model["data_preprocessor"]
        self._swap = bool(preprocessor.get("bgr_to_rgb", False))
        self._mean = torch.tensor(preprocessor["mean"], device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(preprocessor["std"], device=self.device).view(1, 3, 1, 1)

    def predict(self, image: Image, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Keypoints of every box.

        Args:
            image: (H, W, 3) uint8 BGR.
            xyxy: (N, 4) person boxes in pixels of `image`.

        Returns:
            (N, 133, 3): x, y in pixels of `image`, and confidence in [0, 1].
        """
        xyxy = np.asarray(xyxy, np.float32).reshape(-1, 4)
        matrices = crop_affine(xyxy, self.input_size)
        crops = [cv2.warpAffine(image, m, self.input_size, flags=cv2.INTER_LINEAR) for m in matrices]
        parts = [
            self._decode(np.stack(crops[i : i + self.batch_size]), matrices[i : i + self.batch_size])
            for i in range(0, len(crops), self.batch_size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, KEYPOINTS, 3), np.float32)

    @torch.inference_mode()
    def _decode(self, crops: NDArray[np.uint8], matrices: NDArray[np.float32]) -> NDArray[np.float32]:
        batch = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2)
        if self._swap:
            batch = batch.flip(1)
        batch = ((batch.float() - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        simcc_x, simcc_y = self.model.head(self.model.extract_feat(batch))
        peak_x, at_x = simcc_x.max(-1)
        peak_y, at_y = simcc_y.max(-1)
        confidence = torch.minimum(peak_x, peak_y).cpu().numpy()
        crop_xy = torch.stack([at_x, at_y], -1).float().cpu().numpy() / self.split_ratio
        # The map has no rotation or shear: one scale and one shift undo it.
        xy = (crop_xy - matrices[:, None, :, 2]) / matrices[:, None, :1, 0]
        return np.concatenate([xy, np.clip(confidence, 0, 1)[..., None]], -1).astype(np.float32)
