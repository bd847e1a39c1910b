"""OpenMMLab room, training hooks: repeatable randomness, atomic checkpoints, frozen BatchNorm, time left."""

from __future__ import annotations

import orveil.stages.mm_compat  # noqa: F401  before any OpenMMLab import

# isort: split
import json
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce_dict, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from orveil.pipeline.errors import OrveilError
from orveil.stages.mm_weights import write_weights

__all__ = [
    "CHECKPOINT",
    "AtomicCheckpointHook",
    "FrozenBatchNormHook",
    "Hook",
    "ProgressHook",
    "PullToStartHook",
    "ReseedHook",
    "SnapshotHook",
    "describe",
]

CHECKPOINT = "checkpoint.pth"


def _bare(model: nn.Module) -> nn.Module:
    """The model itself, where it is wrapped for a training over several processes."""
    return model.module if is_model_wrapper(model) else model  # type: ignore[return-value]


class ReseedHook(Hook):  # type: ignore[misc]
    """Give every iteration its own random state: a resumed run draws what the undisturbed one drew."""

    priority = "VERY_HIGH"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed Python, numpy and torch from the seed and the iteration."""
        del data_batch, batch_idx
        value = int(np.random.SeedSequence([self.seed, 3, runner.iter]).generate_state(1)[0])
        random.seed(value)
        np.random.seed(value)
        torch.manual_seed(value)


class FrozenBatchNormHook(Hook):  # type: ignore[misc]
    """Keep every BatchNorm in eval mode.

    Weights whose BatchNorm was folded into the convolutions are destroyed within a few iterations when
    batch statistics take over. The test is for `_BatchNorm`: SyncBatchNorm is no BatchNorm2d.
    """

    priority = "NORMAL"

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """The loop has just called `model.train()`."""
        del batch_idx, data_batch
        for module in runner.model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


class PullToStartHook(Hook):  # type: ignore[misc]
    """L2-SP (Li et al., 2018): draw every learned weight back towards where the training began.

    Decoupled from the gradient, as in AdamW: each step moves a weight by `strength * lr` of its distance.
    """

    priority = "HIGH"

    def __init__(self, model: nn.Module, strength: float) -> None:
        self.strength = strength
        self.start = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Runs before the moving average is updated."""
        del batch_idx, data_batch, outputs
        step = self.strength * float(runner.optim_wrapper.get_lr()["lr"][0])
        for name, parameter in _bare(runner.model).named_parameters():
            parameter.lerp_(self.start[name].to(parameter.device), step)


class AtomicCheckpointHook(Hook):  # type: ignore[misc]
    """Save optimizer, moving average, schedule and logs in one file that is always whole.

    mmengine's own hook writes straight to the final name, so that a kill can leave half a checkpoint.
    """

    priority = "VERY_LOW"

    def __init__(self, every: int) -> None:
        self.every = every

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save after every n-th iteration and after the last."""
        del batch_idx, data_batch, outputs
        done = runner.iter + 1
        if not is_main_process() or (done % self.every and done != runner.max_iters):
            return
        folder = Path(runner.work_dir)
        temporary = folder / f"{CHECKPOINT}.part"
        runner.save_checkpoint(str(folder), temporary.name, by_epoch=False)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(folder / CHECKPOINT)


class SnapshotHook(Hook):  # type: ignore[misc]
    """Write the weights as they are after one iteration, for a training that starts from them.

    Args:
        iteration: after which one.
        name: file name in the work directory.
    """

    priority = "LOW"

    def __init__(self, iteration: int, name: str) -> None:
        self.iteration, self.name = iteration, name

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Writes once."""
        del batch_idx, data_batch, outputs
        if runner.iter + 1 == self.iteration and is_main_process():
            write_weights(_bare(runner.model).state_dict(), Path(runner.work_dir) / self.name)


def describe(record: Mapping[str, float], total: int) -> str:
    """Losses and time left, from a line of `losses.jsonl`.

    Args:
        record: the line.
        total: iterations of the training.
    """
    left = record["seconds_per_iteration"] * (total - record["iteration"])
    losses = [
        f"{name.removeprefix('loss_')} {value:.3f}" for name, value in record.items() if name not in NO_LOSSES
    ]
    return f"{' '.join(losses)}, {left / 60:.1f} min left"


NO_LOSSES = frozenset({"iteration", "seconds_per_iteration", "learning_rate"})
WILD_LOSS = 1e6
"""Losses here are never negative; healthy ones are below 10, those of fresh weights below some thousands."""


class ProgressHook(Hook):  # type: ignore[misc]
    """Report progress, and write smoothed losses to `losses.jsonl`.

    Args:
        report: called with (done, total, text); the text holds losses and the time left.
        every: iterations between two reports.
    """

    priority = "LOW"

    def __init__(self, report: Callable[[int, int, str], None] | None, every: int = 10) -> None:
        self.report, self.every = report, every
        self.losses: dict[str, float] = {}
        self.started = self.first = 0.0

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Keep the smoothed losses, so that a resumed run reports what the undisturbed one did."""
        del runner
        checkpoint["smoothed_losses"] = dict(self.losses)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Take the smoothed losses up again."""
        del runner
        self.losses = dict(checkpoint.get("smoothed_losses", {}))

    def before_train(self, runner: Any) -> None:
        """Start the clock; a resumed run counts its own iterations only."""
        self.started, self.first = time.monotonic(), runner.iter

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Smooth the losses and report.

        Raises:
            OrveilError: a loss is not finite, negative, or larger than any that a training recovers from.
        """
        del batch_idx, data_batch
        self._smooth(outputs or {})
        wild = [name for name, value in self.losses.items() if not 0 <= value < WILD_LOSS]
        if wild:
            raise OrveilError(
                f"training diverged at iteration {runner.iter + 1}: {wild[0]} is {self.losses[wild[0]]:g}",
                where=str(runner.work_dir),
                remedy="lower the learning rate and remove this training's work directory",
            )
        done, total = runner.iter + 1, runner.max_iters
        if not is_main_process() or (done % self.every and done != total):
            return
        seconds = (time.monotonic() - self.started) / max(1, done - self.first)
        record = {
            "iteration": done,
            "seconds_per_iteration": round(seconds, 4),
            "learning_rate": float(runner.optim_wrapper.get_lr()["lr"][0]),
            **{name: round(value, 5) for name, value in self.losses.items()},
        }
        if self.report:
            self.report(done, total, describe(record, total))
        with (Path(runner.work_dir) / "losses.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _smooth(self, outputs: Mapping[str, Any]) -> None:
        now = {
            name: value.detach().clone()
            for name, value in outputs.items()
            if isinstance(value, Tensor) and value.numel() == 1 and "loss" in name
        }
        all_reduce_dict(now, "mean")  # each of several processes sees its part of the batch
        for name, value in now.items():
            self.losses[name] = 0.9 * self.losses.get(name, float(value)) + 0.1 * float(value)
