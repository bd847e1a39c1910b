"""OpenMMLab room, training: mmengine's Runner, made repeatable.

A run that is killed at any moment and started again with the same arguments ends with the same bytes of
weights: data and random numbers are addressed by iteration, and the checkpoint (one file, replaced
atomically) holds model, moving average, optimizer and schedule.

Where a process group of torch exists, each of its processes calls the same function with the same arguments
and takes its share of every batch (`orveil.stages.ray_training` starts them); the first writes the files.
"""

from __future__ import annotations

import orveil.stages.mm_compat  # noqa: F401  before any OpenMMLab import

# isort: split
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, get_dist_info, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.stages.mm_compat import import_datasets_quietly
from orveil.stages.mm_data import DetectionSample, PoseSample, SampleSource
from orveil.stages.mm_detector import build_detector
from orveil.stages.mm_hooks import (
    CHECKPOINT,
    AtomicCheckpointHook,
    FrozenBatchNormHook,
    ProgressHook,
    PullToStartHook,
    ReseedHook,
)
from orveil.stages.mm_optim import optimizer, schedule
from orveil.stages.mm_pose import build_pose
from orveil.stages.mm_views import (
    Batches,
    DetectionViews,
    PoseViews,
    TrainOptions,
    collate,
    detection_item,
    pose_item,
)
from orveil.stages.mm_weights import read_checkpoint, write_weights

__all__ = [
    "FINAL", "TrainOptions", "TrainResult", "detection_item", "pose_item", "train", "train_detector",
    "train_pose",
]  # fmt: skip

Progress = Callable[[int, int, str], None]
ALL_PARAMETERS, FINAL = "", "final.safetensors"


@dataclass(frozen=True)
class TrainResult:
    """Path and sha256 of the final weights ("" where another process writes it), and the smoothed losses."""

    weights: Path
    sha256: str
    losses: Mapping[str, float]


def train_detector(
    config: Config,
    source: SampleSource[DetectionSample],
    work_dir: Path,
    options: TrainOptions,
    *,
    init: str | Path | Mapping[str, Tensor] | None = None,
    hooks: Sequence[Hook] = (),
    lr_scale: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train a detector, or go on with the training that `work_dir` holds.

    Args:
        config: of kind "detector".
        source: labelled pictures.
        work_dir: checkpoints, `losses.jsonl` and at the end `final.safetensors`; survives a kill.
        options: the schedule.
        init: weights to start from; None: fresh.
        hooks: further mmengine hooks.
        lr_scale: factors on the learning rate, by a part of a parameter's name, "" for all; stands over the
            config's.
        progress: called with (done, total, text).

    Raises:
        OrveilError: no samples; weights of another architecture; `work_dir` holds another training; loss is
            not finite; disk.
    """
    if len(source) == 0:
        raise OrveilError(
            "there is not one labelled picture to train on",
            where=str(work_dir),
            remedy="check that people are visible and that pseudo labelling kept some of them",
        )
    model = build_detector(config, init, seed=options.seed)
    scale = {**config.get("lr_scale", {}), **(lr_scale or {})}
    options = replace(options, learning_rate=options.learning_rate * scale.pop(ALL_PARAMETERS, 1.0))
    return train(
        model,
        DetectionViews(source, options),
        work_dir,
        _with_frozen_bn(options, config),
        hooks=hooks,
        lr_scale=scale,
        progress=progress,
    )


def train_pose(
    config: Config,
    source: SampleSource[PoseSample],
    work_dir: Path,
    options: TrainOptions,
    *,
    init: str | Path | Mapping[str, Tensor] | None = None,
    hooks: Sequence[Hook] = (),
    lr_scale: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train a pose model, or go on with the training that `work_dir` holds; as `train_detector`."""
    if len(source) == 0:
        raise OrveilError(
            "there is not one labelled person to train the pose model on",
            where=str(work_dir),
            remedy="lower min_keypoint_score, or set iterations = 0 to keep the pose model as it is",
        )
    model = build_pose(config, init, seed=options.seed)
    return train(
        model,
        PoseViews(source, options, config),
        work_dir,
        _with_frozen_bn(options, config),
        hooks=hooks,
        lr_scale=lr_scale,
        progress=progress,
    )


def _with_frozen_bn(options: TrainOptions, config: Config) -> TrainOptions:
    if options.freeze_bn is not None:
        return options
    return replace(options, freeze_bn=bool(config.get("freeze_bn", False)))


def train(
    model: nn.Module,
    dataset: Dataset[Any],
    work_dir: Path,
    options: TrainOptions,
    *,
    hooks: Sequence[Hook] = (),
    lr_scale: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train a model on a data set whose item i is sample i of the run.

    Args:
        model: an mmdet or mmpose model with its starting weights.
        dataset: items {"inputs": (3, H, W) uint8, "data_samples": mmdet's or mmpose's data sample}, a pure
            function of their number; `options.iterations * options.batch_size` of them are asked for.
        work_dir: as in `train_detector`.
        options: the schedule; `augment`, `long_side` are the data set's business.
        hooks: further mmengine hooks.
        lr_scale: factors on the learning rate, by a part of a parameter's name.
        progress: called with (done, total, text).
    """
    rank, workers = get_dist_info()
    if rank == 0:
        _claim(work_dir, options)
    barrier()
    import_datasets_quietly()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    # The runner initialises every model that it gets; this one already has its weights.
    model.init_weights = lambda: None  # type: ignore[assignment]
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint = work_dir / CHECKPOINT
    first = int(read_checkpoint(checkpoint)["meta"]["iter"]) if checkpoint.is_file() else 0
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=Batches(first, options.iterations, options.batch_size, rank, workers),
        num_workers=options.workers,
        collate_fn=collate,
    )
    shown = ProgressHook(progress)
    average = _average(options)
    hooks = [*_hooks(model, options, shown, average), *hooks]
    runner = Runner(
        model=_shared(model) if workers > 1 else model,
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg={
            "type": "IterBasedTrainLoop",
            "max_iters": options.iterations,
            "fast_forward_on_resume": True,
        },
        optim_wrapper=optimizer(options, lr_scale or {}),
        param_scheduler=schedule(options),
        default_hooks={"logger": None, "checkpoint": None, "sampler_seed": None, "timer": None},
        custom_hooks=hooks,
        load_from=str(checkpoint) if first else None,
        resume=bool(first),
        default_scope="mmdet",
        randomness={"seed": options.seed},
        log_level="ERROR",
        experiment_name=f"{work_dir.resolve()}".replace("/", "_")[-100:],
    )
    try:
        runner.train()
    except OSError as error:
        raise explain_os_error(error, str(work_dir)) from error
    return _finish(average.ema_model.module if average is not None else model, work_dir, shown.losses)


def _shared(model: nn.Module) -> nn.Module:
    """The model of one of several processes, whose gradients are averaged."""
    model = revert_sync_batchnorm(model).to(get_device())
    devices = [torch.cuda.current_device()] if next(model.parameters()).is_cuda else None
    return MMDistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)  # type: ignore[no-any-return]


def _average(options: TrainOptions) -> EMAHook | None:
    if options.ema_decay == 0:
        return None
    return EMAHook("ExponentialMovingAverage", momentum=1 - options.ema_decay, update_buffers=True)


def _hooks(
    model: nn.Module, options: TrainOptions, shown: ProgressHook, average: EMAHook | None
) -> list[Any]:
    hooks: list[Any] = [ReseedHook(options.seed), shown, AtomicCheckpointHook(options.checkpoint_every)]
    if average is not None:
        hooks.append(average)
    if options.freeze_bn:
        hooks.append(FrozenBatchNormHook())
    if options.anchor > 0:
        hooks.append(PullToStartHook(model, options.anchor))
    return hooks


def _finish(model: nn.Module, work_dir: Path, losses: Mapping[str, float]) -> TrainResult:
    state = model.state_dict()
    bad = [name for name, t in state.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise OrveilError(
            f"training diverged: {len(bad)} tensors of the model are not finite ({bad[0]})",
            where=str(work_dir),
            remedy="lower the learning rate and remove this training's work directory",
        )
    path = work_dir / FINAL
    return TrainResult(path, write_weights(state, path) if is_main_process() else "", dict(losses))


def _claim(work_dir: Path, options: TrainOptions) -> None:
    """Write down what this directory trains, or refuse to go on with something else."""
    settings = {k: v for k, v in asdict(options).items() if k != "workers"}
    text = json.dumps(settings, indent=1, sort_keys=True)
    note = work_dir / "options.json"
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        if note.is_file() and (work_dir / CHECKPOINT).is_file() and note.read_text("utf-8") != text:
            raise OrveilError(
                "the directory holds the checkpoint of a training with other settings",
                where=str(work_dir),
                remedy="remove the directory to train anew, or use the settings in its options.json",
            )
        note.write_text(text, "utf-8")
    except OSError as error:
        raise explain_os_error(error, str(work_dir)) from error
