"""Stage: one round of detector training on the pseudo labels of the site, in one process or in several.

The training itself is mmengine's Runner (`orveil.stages.mm.train_detector`). What keeps a few hundred
frames with uncertain labels from destroying what the detector knew: weights and ignored regions in the loss,
frozen BatchNorm statistics, a low learning rate, a moving average of the weights as the result, and on
request a pull towards the starting weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.kinds import MediaKind, PosesKind, PseudoLabelsKind, WeightsKind
from orveil.pipeline.settings import FinetuneParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.types import PERSON
from orveil.stages.datasets import labelled_pictures
from orveil.stages.ray_training import on_workers
from orveil.stages.targets import FrameTargets, training_record, training_targets
from orveil.stages.training import TrainingStage
from orveil.stages.weights import copy_weights, keep_log, pass_weights, read_info, write_weights_dir

__all__ = ["Finetune"]


class Finetune(TrainingStage):
    """Train the detector of `weights` on `labels` and `poses`.

    Where nobody is labelled, or the guard stopped the rounds, the weights are passed on.

    Args:
        workers: as in the settings. With several the stage only waits, and holds no CPU that they need.
    """

    name: ClassVar[str] = "finetune"
    version: ClassVar[int] = 2
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {
        "media": MediaKind,
        "labels": PseudoLabelsKind,
        "poses": PosesKind,
        "weights": WeightsKind,
        "anchor": WeightsKind,
    }

    def __init__(self, workers: int = 1) -> None:
        if workers > 1:
            self.needs = Resources(cpus=0, threads=TrainingStage.needs.threads)  # type: ignore[misc]

    def run(self, params: FinetuneParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Train, or go on with the training that `context.scratch` holds, and write the weights."""
        del shard
        start = inputs["weights"].path
        if read_info(start).training.get("stopped"):
            pass_weights(start, out)
            return
        targets, frame_weights = training_targets(inputs["labels"], inputs["poses"])
        if not any((target.labels == PERSON).any() for target in targets):
            copy_weights(start, out, "no person is labelled in any training frame")
            return
        from orveil.stages import mm  # OpenMMLab loads slowly, and the graph is built without it

        work_dir = context.scratch / "detector"
        training = _Training(
            start.resolve(),
            inputs["anchor"].path.resolve(),
            inputs["media"].path.resolve(),
            targets,
            frame_weights,
            params,
            self.options(params, context),
            work_dir.resolve(),
            context.externals,
        )
        if params.workers > 1:
            train = functools.partial(_train, training)
            on_workers(train, params.workers, work_dir, params.iterations, context.progress)
        else:
            _train(training, context.progress)
        config = mm.load_config(start / "config.py")
        keep_log(work_dir, out)
        write_weights_dir(
            out,
            config,
            mm.read_weights(work_dir / mm.FINAL),
            {
                "source": self.name,
                "long_side": params.long_side,
                "training": {**training_record(params, targets), "obeys_weights": mm.obeys_weights(config)},
            },
        )


@dataclass(frozen=True, eq=False)
class _Training:
    """What a process needs to train, or to take part; it travels, the frames do not: each decodes them.

    `start`, `anchor` and `media` are directories, `targets` and `frame_weights` (N,) of the training frames,
    `options` mm's `TrainOptions`.
    """

    start: Path
    anchor: Path
    media: Path
    targets: list[FrameTargets]
    frame_weights: NDArray[np.float32]
    params: FinetuneParams
    options: Any
    work_dir: Path
    externals: Mapping[str, str]


def _train(training: _Training, progress: Callable[[int, int, str], None]) -> None:
    """Train, or take part in the training of several processes; the weights end in `work_dir`."""
    from orveil.stages import mm  # OpenMMLab loads slowly

    config = mm.load_config(training.start / "config.py")
    context = Context(training.options.seed, training.work_dir, progress, training.externals)
    source = labelled_pictures(
        training.media,
        training.targets,
        training.frame_weights,
        config,
        training.params.long_side,
        context,
        crowds=training.params.paste > 0,
    )
    mm.train_detector(
        config,
        source,
        training.work_dir,
        training.options,
        init=training.start / "model.safetensors",
        hooks=_pull(config, training.anchor / "model.safetensors", training.params.anchor),
        progress=progress,
    )


def _pull(config: Any, anchor: Path, strength: float) -> list[Any]:
    """The hook that draws the weights towards those of the first round (L2-SP), where it is asked for."""
    if strength == 0:
        return []
    from orveil.stages import mm, mm_hooks  # OpenMMLab loads slowly

    return [mm_hooks.PullToStartHook(mm.build_detector(config, anchor), strength)]
