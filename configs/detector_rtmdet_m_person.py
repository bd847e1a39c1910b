"""RTMDet-m for persons (OpenMMLab, Objects365 and COCO): the detector of mmpose's own demos."""

# ruff: noqa: C408  (mmengine configs are written with dict())

_base_ = ["./detector_rtmdet_l_coco.py"]

model = dict(
    backbone=dict(deepen_factor=0.67, widen_factor=0.75),
    neck=dict(in_channels=[192, 384, 768], out_channels=192, num_csp_blocks=2),
    bbox_head=dict(num_classes=1, in_channels=192, feat_channels=192),
)
