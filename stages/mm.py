"""OpenMMLab room, the door: everything that other stages may use of mmdet, mmpose, mmengine and mmcv.

Import from here (`from orveil.stages import mm`). Only files named `mm*` import the OpenMMLab packages.

- configs: `load_config`, `resolved_config_text`, `config_names`
- weights: `read_weights`, `write_weights`, `load_weights`
- prediction: `Detector`, `PoseEstimator` (and `build_detector`, `build_pose` for the bare model)
- training: `train_detector`, `train_pose` on samples; `train` on any data set; `TrainOptions`, `Augment`;
  `obeys_weights` of a config
"""

from __future__ import annotations

from orveil.stages.mm_config import config_names, load_config, resolved_config_text
from orveil.stages.mm_data import Augment, DetectionSample, PoseSample, SampleSource
from orveil.stages.mm_detector import Detector, Prediction, build_detector, dense_predictions, rect_input
from orveil.stages.mm_heads import teacher_loss
from orveil.stages.mm_hooks import Hook
from orveil.stages.mm_pose import PoseEstimator, build_pose, crop_affine
from orveil.stages.mm_train import FINAL, TrainOptions, TrainResult, train, train_detector, train_pose
from orveil.stages.mm_trust import obeys_weights
from orveil.stages.mm_views import detection_item, pose_item
from orveil.stages.mm_weights import load_weights, read_weights, write_weights

__all__ = [
    "FINAL", "Augment", "DetectionSample", "Detector", "Hook", "PoseEstimator", "PoseSample", "Prediction",
    "SampleSource", "TrainOptions", "TrainResult", "build_detector", "build_pose", "config_names",
    "crop_affine", "dense_predictions", "detection_item", "load_config", "load_weights", "obeys_weights",
    "pose_item", "read_weights", "rect_input", "resolved_config_text", "teacher_loss", "train",
    "train_detector", "train_pose", "write_weights",
]  # fmt: skip
