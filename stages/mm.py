"""OpenMMLab room, the door: everything that other stages may use of mmdet, mmpose, mmengine and mmcv.

Import from here (`from orveil.stages import mm`). Only files named `mm*` import the OpenMMLab packages.

- configs: `load_config`, `resolved_config_text`
- weights: `read_weights`, `write_weights`, `load_weights`
- prediction: `Detector`, `PoseEstimator` (and `build_detector`, `build_pose` for the bare model)
"""

from __future__ import annotations

from orveil.stages.mm_config import config_names, load_config, resolved_config_text
from orveil.stages.mm_detector import Detector, Prediction, build_detector, dense_predictions, rect_input
from orveil.stages.mm_pose import PoseEstimator, build_pose, crop_affine
from orveil.stages.mm_weights import load_weights, read_weights, write_weights

__all__ = [
    "Detector", "PoseEstimator", "Prediction", "build_detector", "build_pose", "config_names", "crop_affine",
    "dense_predictions", "load_config", "load_weights", "read_weights", "rect_input", "resolved_config_text",
    "write_weights",
]  # fmt: skip
