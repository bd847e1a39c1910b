"""Fixture factory: a tiny site for tests of learning: videos of upright figures, tables, tiny models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.media import probe
from orveil.pipeline.stage import Context, InputRef, Resources, Shard
from orveil.pipeline.tables import write_table
from orveil.pipeline.types import (
    HEAD,
    IGNORE,
    KEYPOINTS,
    PERSON,
    POSITIVE,
    Detections,
    FrameLabels,
    MediaFiles,
    MediaIndex,
    Poses,
    PseudoLabels,
)
from tests.videos import write_video

SESSION = "main"
FRAMES = 6
CAMERAS = {"cam1": (160, 128), "cam2": (128, 160)}

DETECTOR = """
kind = "detector"
classes = {classes}
channels = tuple(range(len(classes)))
norm = dict(type="BN", eps=1e-3, momentum=0.03)
act = dict(type="SiLU", inplace=True)
model = dict(
    type="RTMDet",
    data_preprocessor=dict(
        type="DetDataPreprocessor", mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395],
        bgr_to_rgb=False,
    ),
    backbone=dict(
        type="CSPNeXt", arch="P5", expand_ratio=0.5, deepen_factor=0.01, widen_factor=0.0625,
        channel_attention=False, norm_cfg=norm, act_cfg=act,
    ),
    neck=dict(
        type="CSPNeXtPAFPN", in_channels=[16, 32, 64], out_channels=16, num_csp_blocks=1, expand_ratio=0.5,
        norm_cfg=norm, act_cfg=act,
    ),
    bbox_head=dict(
        type="WeightedRTMDetHead", num_classes=len(classes), in_channels=16, feat_channels=16,
        stacked_convs=1, share_conv=False, exp_on_reg=False, with_objectness=False,
        anchor_generator=dict(type="MlvlPointGenerator", offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type="DistancePointBBoxCoder"),
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0), norm_cfg=norm, act_cfg=act,
    ),
    train_cfg=dict(
        assigner=dict(type="DynamicSoftLabelAssigner", topk=13), allowed_border=-1, pos_weight=-1, debug=False
    ),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.001, nms=dict(type="nms", iou_threshold=0.65),
        max_per_img=100,
    ),
)
"""


def figure_box(camera: str, index: int) -> NDArray[np.float32]:
    """(4,) where the figure stands in a frame."""
    width, height = CAMERAS[camera]
    x = 20 + 12 * index + (7 if camera == "cam2" else 0)
    return np.array([x, 0.25 * height, x + 36, 0.95 * height], np.float32).clip(0, max(width, height))


def head_box(camera: str, index: int) -> NDArray[np.float32]:
    """(4,) the head of the figure."""
    x0, y0, x1, y1 = figure_box(camera, index)
    middle, side = (x0 + x1) / 2, 0.2 * (y1 - y0)
    return np.array([middle - side / 2, y0, middle + side / 2, y0 + side], np.float32)


def picture(camera: str, index: int) -> NDArray[np.uint8]:
    """A textured room with one figure: a blue body under a bright head."""
    width, height = CAMERAS[camera]
    generator = np.random.default_rng(len(camera) + width)
    image = np.repeat(np.repeat(generator.integers(40, 110, (height // 8, width // 8, 3)), 8, 0), 8, 1)
    for box, colour in (
        (figure_box(camera, index), (200, 90, 40)),
        (head_box(camera, index), (150, 190, 240)),
    ):
        x0, y0, x1, y1 = box.astype(int)
        image[y0:y1, x0:x1] = colour
    return image.astype(np.uint8)


def write_media(root: Path) -> InputRef:
    """Two cameras of different shape, with their videos and media tables."""
    folder = root / "media"
    folder.mkdir(parents=True)
    files: dict[str, list[Any]] = {name: [] for name in MediaFiles.COLUMNS}
    rows: list[tuple[Any, ...]] = []
    for camera, (width, height) in CAMERAS.items():
        path = write_video(root / f"{camera}.mp4", [picture(camera, i) for i in range(FRAMES)])
        base = probe(path).time_base
        values: dict[str, Any] = {
            "session": SESSION, "camera": camera, "path": str(path), "sha256": "0" * 64, "width": width,
            "height": height, "rotation": 0, "time_base_num": base.numerator,
            "time_base_den": base.denominator, "frames": FRAMES, "duration_s": FRAMES / 10, "offset_s": 0.0,
            "offset_source": "given",
        }  # fmt: skip
        for name, value in values.items():
            files[name].append(value)
        step = round(0.1 / float(base))
        rows += [(SESSION, camera, i, i * step, i / 10) for i in range(FRAMES)]
    write_table(MediaFiles(**files), folder)
    write_table(MediaIndex(**_columns(MediaIndex, rows)), folder)
    return ref("media", folder)


def _columns(kind: type[Any], rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return {name: [row[i] for row in rows] for i, name in enumerate(kind.COLUMNS)}


def write_labels(
    root: Path,
    *,
    nobody: bool = False,
    ignore_camera: str = "",
    persons: Mapping[tuple[str, int], NDArray[np.float32]] | None = None,
) -> InputRef:
    """The true figures, or the persons given by camera and frame, as labels; the last frame is held out."""
    folder = root / f"labels{nobody:d}{ignore_camera}"
    folder.mkdir(parents=True)
    labels, used = [], []
    for camera in CAMERAS:
        for i in range(FRAMES):
            key = (SESSION, camera, i, i * 1024)
            used.append((*key, "holdout" if i == FRAMES - 1 else "train", 1.0))
            if not nobody:
                state = IGNORE if camera == ignore_camera else POSITIVE
                weight = 0.0 if state == IGNORE else 0.9
                boxes = [figure_box(camera, i)] if persons is None else persons[camera, i]
                for n, box in enumerate(boxes):
                    labels.append(
                        (*key, i + 100 * n, n + 1, n + 1, box, PERSON, 0.9, weight, state, "detected", 1)
                    )
    write_table(PseudoLabels(**_columns(PseudoLabels, labels)), folder)
    write_table(FrameLabels(**_columns(FrameLabels, used)), folder)
    return ref("labels", folder)


def write_poses(root: Path, *, score: float = 0.9, nobody: bool = False) -> InputRef:
    """Head boxes of the figures; keypoints all in the middle of the figure."""
    folder = root / f"poses{score}{nobody:d}"
    folder.mkdir(parents=True)
    rows = []
    for camera in () if nobody else CAMERAS:
        for i in range(FRAMES):
            body, head = figure_box(camera, i), head_box(camera, i)
            middle = (body[:2] + body[2:]) / 2
            points = np.concatenate([np.tile(middle, (KEYPOINTS, 1)), np.full((KEYPOINTS, 1), 0.9)], 1)
            key = (SESSION, camera, i, i * 1024, i)
            rows.append((*key, points, head, score, "detector", head, 0.0))
    write_table(Poses(**_columns(Poses, rows)), folder)
    return ref("poses", folder)


def write_candidates(root: Path) -> InputRef:
    """Person and head candidates on the figures."""
    folder = root / "candidates"
    folder.mkdir(parents=True)
    rows = []
    for camera in CAMERAS:
        for i in range(FRAMES):
            key = (SESSION, camera, i, i * 1024)
            rows.append((*key, i * 100, figure_box(camera, i), 0.8, PERSON))
            rows.append((*key, i * 100 + 1, head_box(camera, i), 0.7, HEAD))
    write_table(Detections(**_columns(Detections, rows)), folder)
    return ref("candidates", folder)


def write_detector(
    root: Path, *, classes: tuple[str, ...] = ("person", "head"), seed: int = 0, name: str = "detector"
) -> InputRef:
    """A weights directory of a tiny, untrained detector."""
    from orveil.stages import mm
    from orveil.stages.weights import write_weights_dir

    root.mkdir(parents=True, exist_ok=True)
    source = root / f"{name}.py"
    source.write_text(DETECTOR.format(classes=repr(classes)))
    config = mm.load_config(source)
    folder = root / name
    folder.mkdir()
    state = _lively(mm.build_detector(config, seed=seed).state_dict(), seed)
    write_weights_dir(folder, config, state, {"source": "test", "long_side": 160})
    return ref(name, folder)


def _lively(state: Any, seed: int) -> Any:
    """Fresh heads answer alike everywhere, with empty boxes: give them opinions."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, value in state.items():
        if "rtm_reg" in name and name.endswith("bias"):
            value.fill_(2.0)
        if "rtm_" in name and name.endswith("weight"):
            value.copy_(torch.randn(value.shape, generator=generator) * (0.02 if "reg" in name else 0.5))
        if "_convs" in name and name.endswith("conv.weight"):
            value.mul_(15.0)
        if name.endswith("running_mean"):
            value.copy_(torch.randn(value.shape, generator=generator) * 0.05)
        if name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) * 0.5 + 0.05)
    return state


def ref(node: str, folder: Path, shard: Shard | None = None) -> InputRef:
    """A finished node with one shard."""
    return InputRef(node, f"digest of {node}", ((shard or Shard(), folder),))


def context(
    root: Path, *, seed: int = 7, externals: Mapping[str, str] | None = None, name: str = "scratch"
) -> Context:
    """What an executor hands to a stage."""
    scratch = root / name
    scratch.mkdir(parents=True, exist_ok=True)
    return Context(seed, scratch, lambda done, total, unit: None, dict(externals or {}))


def run_stage(
    stage: Any, params: Any, inputs: Mapping[str, InputRef], root: Path, **options: Any
) -> InputRef:
    """Run every shard of a stage as an executor would, and validate what it wrote.

    With one thread: two that wait for each other on a busy machine take many times as long.
    """
    import torch

    torch.set_num_threads(1)
    stage.needs = Resources(cpus=1, threads=1)
    about = context(root, **options)
    stage.setup(params, inputs, about)
    done = []
    for number, shard in enumerate(stage.shards(params, inputs)):
        out = root / f"{stage.name}-{number}-{about.scratch.name}"
        out.mkdir(parents=True)
        stage.run(params, inputs, shard, out, about)
        stage.produces.validate(out)
        done.append((shard, out))
    return InputRef(stage.name, "digest", tuple(done))
