"""RTMDet-nano for persons (OpenMMLab), as recovered from an exported file: BatchNorm is folded.

The folded layers are identities with eps 1e-5; trained with batch statistics they are destroyed within a few
iterations, so training keeps them in eval mode.
"""

# ruff: noqa: C408  (mmengine configs are written with dict())

_base_ = ["./detector_rtmdet_l_coco.py"]

freeze_bn = True

_norm = dict(type="BN", eps=1e-5)

model = dict(
    backbone=dict(deepen_factor=0.33, widen_factor=0.25, use_depthwise=True, norm_cfg=_norm),
    neck=dict(
        in_channels=[64, 128, 256], out_channels=64, num_csp_blocks=1, use_depthwise=True, norm_cfg=_norm
    ),
    bbox_head=dict(
        num_classes=1,
        in_channels=64,
        feat_channels=64,
        share_conv=False,
        use_depthwise=True,
        exp_on_reg=False,
        norm_cfg=_norm,
    ),
)
