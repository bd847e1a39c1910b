"""RTMDet-tiny on COCO's 80 classes (OpenMMLab): a start for the real-time student of a real site."""

# ruff: noqa: C408  (mmengine configs are written with dict())

_base_ = ["./detector_rtmdet_l_coco.py"]

model = dict(
    backbone=dict(deepen_factor=0.167, widen_factor=0.375),
    neck=dict(in_channels=[96, 192, 384], out_channels=96, num_csp_blocks=1),
    bbox_head=dict(in_channels=96, feat_channels=96, exp_on_reg=False),
)
