"""Tiny detectors of the two families beside RTMDet, which the tests of learning share."""

from __future__ import annotations

from typing import Any

from orveil.stages import mm

TINY_RCNN = {
    "classes": ("person", "head"),
    "channels": (0, 1),
    "model.backbone.base_channels": 8,
    "model.backbone.stem_channels": 8,
    "model.backbone.depth": 18,
    "model.backbone.frozen_stages": -1,
    "model.neck.in_channels": [8, 16, 32, 64],
    "model.neck.out_channels": 16,
    "model.rpn_head.in_channels": 16,
    "model.rpn_head.feat_channels": 16,
    "model.rpn_head.anchor_generator.scales": [4],
    "model.roi_head.trained_channels": [0, 1],
    "model.roi_head.bbox_roi_extractor.out_channels": 16,
    "model.roi_head.bbox_head.in_channels": 16,
    "model.roi_head.bbox_head.fc_out_channels": 32,
    "model.roi_head.bbox_head.num_classes": 2,
    "model.train_cfg.rpn_proposal.max_per_img": 100,
    "model.train_cfg.rcnn.sampler.num": 64,
    "model.test_cfg.rpn.max_per_img": 100,
}
# Its queries' places are written with 256 numbers, so its width cannot change.
TINY_DETR = {
    "classes": ("person", "head"),
    "channels": (0, 1),
    "model.num_queries": 20,
    "model.backbone.base_channels": 8,
    "model.backbone.stem_channels": 8,
    "model.backbone.depth": 18,
    "model.backbone.frozen_stages": -1,
    "model.backbone.norm_cfg.requires_grad": True,
    "model.neck.in_channels": [16, 32, 64],
    "model.encoder.num_layers": 1,
    "model.encoder.layer_cfg.ffn_cfg.feedforward_channels": 32,
    "model.decoder.num_layers": 2,
    "model.decoder.layer_cfg.ffn_cfg.feedforward_channels": 32,
    "model.bbox_head.num_classes": 2,
    "model.bbox_head.trained_channels": [0, 1],
}
FAMILIES = {
    "rcnn": ("detector_faster_rcnn_r50_coco", TINY_RCNN),
    "detr": ("detector_deformable_detr_r50_coco", TINY_DETR),
}


def tiny_config(family: str) -> Any:
    """Config of a detector of a family, with a thousandth of the real one's work."""
    name, changes = FAMILIES[family]
    return mm.load_config(name, changes)
