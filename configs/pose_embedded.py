"""The embedded pose model: RTMPose with a thin CSPNeXt, 133 COCO-WholeBody keypoints, 160x192 crops.

Backbone and neck are those of the embedded detector, so that its weights are a start; the head reads the
map of stride 16.
"""
# ruff: noqa: C408  (mmengine configs are written with dict())

kind = "pose"
input_size = (160, 192)

model = dict(
    type="TopdownPoseEstimator",
    data_preprocessor=dict(
        type="PoseDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type="CSPNeXt",
        arch="P5",
        expand_ratio=0.5,
        deepen_factor=0.167,
        widen_factor=0.25,
        channel_attention=True,
        norm_cfg=dict(type="BN", momentum=0.03, eps=1e-3),
        act_cfg=dict(type="SiLU"),
    ),
    neck=dict(
        type="CSPNeXtPAFPN",
        in_channels=[64, 128, 256],
        out_channels=None,
        out_indices=(1,),
        num_csp_blocks=1,
        expand_ratio=0.5,
        norm_cfg=dict(type="BN", momentum=0.03, eps=1e-3),
        act_cfg=dict(type="SiLU", inplace=True),
    ),
    head=dict(
        type="WholeBodyHead",
        in_channels=128,
        out_channels=133,
        input_size=input_size,
        in_featuremap_size=(10, 12),
        simcc_split_ratio=2.0,
        final_layer_kernel_size=3,
        gau_cfg=dict(
            hidden_dims=192,
            s=96,
            expansion_factor=2,
            dropout_rate=0.0,
            drop_path=0.0,
            act_fn="SiLU",
            use_rel_bias=False,
            pos_enc=False,
        ),
        loss=dict(type="KLDiscretLoss", use_target_weight=True, beta=10.0, label_softmax=True),
        decoder=dict(
            type="SimCCLabel",
            input_size=input_size,
            sigma=(4.24, 4.9),
            simcc_split_ratio=2.0,
            normalize=False,
            use_dark=False,
        ),
    ),
    test_cfg=dict(flip_test=False),
)
