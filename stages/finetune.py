"""Stage: one round of detector training on the pseudo labels of the site.

The training itself is mmengine's Runner (`orveil.stages.mm.train_detector`). What keeps a few hundred
frames with uncertain labels from destroying what the detector knew: weights and ignored regions in the loss,
frozen BatchNorm statistics, a low learning rate, a moving average of the weights as the result, and on
request a pull towards the starting weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from orveil.pipeline.kinds import MediaKind, PosesKind, PseudoLabelsKind, WeightsKind
from orveil.pipeline.settings import FinetuneParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Shard
from orveil.pipeline.types import PERSON
from orveil.stages.datasets import labelled_pictures
from orveil.stages.targets import training_record, training_targets
from orveil.stages.training import TrainingStage
from orveil.stages.weights import copy_weights, keep_log, pass_weights, read_info, write_weights_dir

__all__ = ["Finetune"]


class Finetune(TrainingStage):
    """Train the detector of `weights` on `labels` and `poses`.

    Where nobody is labelled, or the guard stopped the rounds, the weights are passed on.
    """

    name: ClassVar[str] = "finetune"
    version: ClassVar[int] = 1
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {
        "media": MediaKind,
        "labels": PseudoLabelsKind,
        "poses": PosesKind,
        "weights": WeightsKind,
        "anchor": WeightsKind,
    }

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

        config = mm.load_config(start / "config.py")
        source = labelled_pictures(
            inputs["media"].path, targets, frame_weights, config, params.long_side, context
        )
        work_dir = context.scratch / "detector"
        result = mm.train_detector(
            config,
            source,
            work_dir,
            self.options(params, context),
            init=start / "model.safetensors",
            hooks=_pull(config, inputs["anchor"].path / "model.safetensors", params.anchor),
            progress=context.progress,
        )
        keep_log(work_dir, out)
        write_weights_dir(
            out,
            config,
            mm.read_weights(result.weights),
            {
                "source": self.name,
                "long_side": params.long_side,
                "training": {**training_record(params, targets), "obeys_weights": mm.obeys_weights(config)},
            },
        )


def _pull(config: Any, anchor: Path, strength: float) -> list[Any]:
    """The hook that draws the weights towards those of the first round (L2-SP), where it is asked for."""
    if strength == 0:
        return []
    from orveil.stages import mm, mm_hooks  # OpenMMLab loads slowly

    return [mm_hooks.PullToStartHook(mm.build_detector(config, anchor), strength)]
