"""Small models and made-up samples that the tests of the OpenMMLab layer share."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from orveil.stages import mm

TINY_DETECTOR = {
    "model.backbone.widen_factor": 0.125,
    "model.neck.in_channels": [32, 64, 128],
    "model.neck.out_channels": 16,
    "model.bbox_head.in_channels": 16,
    "model.bbox_head.feat_channels": 16,
}
TINY_POSE = {
    "model.backbone.widen_factor": 0.125,
    "model.neck.in_channels": [32, 64, 128],
    "model.head.in_channels": 64,
    "model.head.gau_cfg.hidden_dims": 32,
    "model.head.gau_cfg.s": 16,
}


def tiny_detector_config():
    """Config of a detector with a sixteenth of the embedded one's work."""
    return mm.load_config("detector_embedded", TINY_DETECTOR)


def tiny_pose_config():
    """Config of a pose model that is small in the same way."""
    return mm.load_config("pose_embedded", TINY_POSE)


def unsettle(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give BatchNorm and the last layers values far from their start, so that outputs vary."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.8, 1.6, generator=generator)
    if hasattr(model, "bbox_head"):
        for name, weight in model.bbox_head.named_parameters():
            if "convs" in name and weight.dim() == 4:
                weight.data.normal_(0, 0.1, generator=generator)
        for layer in model.bbox_head.rtm_cls:
            # The same spread for every class, so that none crowds out the other.
            weight = torch.randn(layer.weight.shape[1:], generator=generator) * 6.0
            signs = torch.tensor([1.0, -1.0]).repeat(40)[: len(layer.weight)]
            layer.weight.data.copy_(weight * signs.view(-1, 1, 1, 1))
            layer.bias.data.fill_(-2.0)
        for layer in model.bbox_head.rtm_reg:
            layer.weight.data.normal_(0, 2.0, generator=generator)
            layer.bias.data.fill_(2.0)
    return model.eval()


def picture(seed: int, width: int = 160, height: int = 96) -> np.ndarray:
    """Smooth noise, (height, width, 3) uint8."""
    noise = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


class Blocks:
    """Pictures with bright blocks as persons, and a dark square at the top of each as its head."""

    def __init__(self, count: int, size: tuple[int, int] = (160, 96)) -> None:
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [self.size] * self.count

    def __getitem__(self, index: int) -> mm.DetectionSample:
        rng = np.random.default_rng(index)
        w, h = self.size
        image = rng.integers(0, 60, (h, w, 3), dtype=np.uint8)
        xyxy, labels = [], []
        for x in (10, 60, 110):
            x, y = x + int(rng.integers(-6, 7)), int(rng.integers(4, 20))
            bw, bh = int(rng.integers(20, 30)), int(rng.integers(50, 70))
            image[y : y + bh, x : x + bw] = (60, 200, 240)
            image[y : y + 12, x : x + 12] = (20, 20, 160)
            xyxy += [[x, y, x + bw, y + bh], [x, y, x + 12, y + 12]]
            labels += [0, 1]
        return mm.DetectionSample(
            image,
            np.array(xyxy, np.float32),
            np.array(labels, np.int64),
            np.ones(len(labels), np.float32),
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.int64),
        )


class Dots:
    """Persons whose keypoints lie on a fixed grid in the box."""

    def __len__(self) -> int:
        return 4

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [(160, 96)] * 4

    def __getitem__(self, index: int) -> mm.PoseSample:
        image = picture(index)
        box = np.array([20 + 10 * index, 8, 60 + 10 * index, 88], np.float32)
        grid = np.stack(np.meshgrid(np.linspace(0, 1, 19), np.linspace(0, 1, 7)), -1).reshape(-1, 2)
        points = (box[:2] + grid * (box[2:] - box[:2])).astype(np.float32)
        return mm.PoseSample(image, box, points, np.ones(133, np.float32), np.ones(133, np.float32))
