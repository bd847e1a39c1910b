"""OpenMMLab room, steps of a training: AdamW, mixed precision, and a learning rate that rises and falls."""

from __future__ import annotations

import orveil.stages.mm_compat  # noqa: F401  before any OpenMMLab import

# isort: split
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mmengine.optim
import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from orveil.stages.mm_views import TrainOptions

__all__ = ["BFloat16OptimWrapper", "optimizer", "schedule"]


@OPTIM_WRAPPERS.register_module(force=True)
class BFloat16OptimWrapper(mmengine.optim.OptimWrapper):  # type: ignore[misc]
    """Mixed precision in bfloat16, without loss scaling, on the CPU too (mmengine's own asks for a GPU)."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Forward passes inside run in bfloat16 where that is safe."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield


def optimizer(options: TrainOptions, lr_scale: Mapping[str, float]) -> dict[str, Any]:
    """mmengine's config of the optimizer; `lr_scale` as in `train`."""
    return {
        "type": "BFloat16OptimWrapper" if options.bfloat16 else "OptimWrapper",
        "optimizer": {
            "type": "AdamW",
            "lr": options.learning_rate,
            "weight_decay": options.weight_decay,
        },
        "paramwise_cfg": {
            "norm_decay_mult": 0.0,
            "bias_decay_mult": 0.0,
            "bypass_duplicate": True,
            "custom_keys": {prefix: {"lr_mult": factor} for prefix, factor in lr_scale.items()},
        },
        "clip_grad": {"max_norm": options.clip, "norm_type": 2},
    }


def schedule(options: TrainOptions) -> list[dict[str, Any]]:
    """mmengine's config of the learning rate: a linear rise, and a fall along a cosine."""
    warmup = min(options.warmup, options.iterations // 2)
    # A rise over one iteration would never reach the top: mmengine's rise takes end - begin - 1 steps.
    warmup = warmup if warmup > 1 else 0
    rise = {"type": "LinearLR", "start_factor": 0.02, "by_epoch": False, "begin": 0, "end": warmup}
    fall = {
        "type": "CosineAnnealingLR",
        "by_epoch": False,
        "begin": warmup,
        "end": options.iterations,
        "T_max": options.iterations - warmup,
        "eta_min_ratio": options.final_rate,
    }
    return [rise, fall] if warmup > 0 else [fall]
