"""The embedded detector: RTMDet with a thin CSPNeXt, person and head, trained on simulated everyday scenes.

At stride 8 a head of 10 px in a 512 px picture still covers a cell; the neck keeps 48 channels at every
stride, and each stride has convolutions of its own.
"""
# ruff: noqa: C408  (mmengine configs are written with dict())

kind = "detector"
classes = ("person", "head")
channels = (0, 1)

_norm = dict(type="BN", momentum=0.03, eps=1e-3)
_act = dict(type="SiLU", inplace=True)

model = dict(
    type="RTMDet",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[103.53, 116.28, 123.675],
        std=[57.375, 57.12, 58.395],
        bgr_to_rgb=False,
    ),
    backbone=dict(
        type="CSPNeXt",
        arch="P5",
        expand_ratio=0.5,
        deepen_factor=0.167,
        widen_factor=0.25,
        channel_attention=True,
        norm_cfg=_norm,
        act_cfg=_act,
    ),
    neck=dict(
        type="CSPNeXtPAFPN",
        in_channels=[64, 128, 256],
        out_channels=48,
        num_csp_blocks=1,
        expand_ratio=0.5,
        norm_cfg=_norm,
        act_cfg=_act,
    ),
    bbox_head=dict(
        type="WeightedRTMDetHead",
        num_classes=2,
        in_channels=48,
        feat_channels=48,
        stacked_convs=2,
        share_conv=False,
        pred_kernel_size=1,
        exp_on_reg=False,
        with_objectness=False,
        anchor_generator=dict(type="MlvlPointGenerator", offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type="DistancePointBBoxCoder"),
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
        norm_cfg=_norm,
        act_cfg=_act,
    ),
    train_cfg=dict(
        assigner=dict(type="DynamicSoftLabelAssigner", topk=13), allowed_border=-1, pos_weight=-1, debug=False
    ),
    test_cfg=dict(
        nms_pre=30000,
        min_bbox_size=0,
        score_thr=0.001,
        nms=dict(type="nms", iou_threshold=0.65),
        max_per_img=300,
    ),
)
