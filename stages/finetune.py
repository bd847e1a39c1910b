"""Stage: one round of detector training on the pseudo labels of the site.

The training itself is mmengine's Runner (`orveil.stages.mm.train_detector`). What keeps a few hundred
frames with uncertain labels from destroying what the detector knew: weights and ignored regions in the loss,
frozen BatchNorm statistics, a low learning rate, a moving average of the weights as the result, and on
request a pull towards the starting weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from orveil.pipeline.kinds import MediaKind, PosesKind, PseudoLabelsKind, WeightsKind
from orveil.pipeline.settings import FinetuneParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.types import PERSON
from orveil.stages.datasets import labelled_pictures
from orveil.stages.targets import training_record, training_targets
from orveil.stages.weights import VOLATILE, copy_weights, keep_log, write_weights_dir

__all__ = ["Finetune"]

SEED_RANGE = 2**31


class Finetune:
    """Train the detector of `weights` on `labels` and `poses`; where nobody is labelled, pass it on."""

    name: ClassVar[str] = "finetune"
    version: ClassVar[int] = 1
    needs: ClassVar[Resources] = Resources(cpus=2, threads=2, loads_model=True)
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {
        "media": MediaKind,
        "labels": PseudoLabelsKind,
        "poses": PosesKind,
        "weights": WeightsKind,
        "anchor": WeightsKind,
    }
    produces: ClassVar[type[ArtifactType]] = WeightsKind
    volatile: ClassVar[frozenset[str]] = VOLATILE

    def shards(self, params: FinetuneParams, inputs: Inputs) -> Sequence[Shard]:
        """One: a detector is trained on the whole site."""
        del params, inputs
        return [Shard()]

    def setup(self, params: FinetuneParams, inputs: Inputs, context: Context) -> None:
        """Nothing to load."""

    def run(self, params: FinetuneParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Train, or go on with the training that `context.scratch` holds, and write the weights."""
        del shard
        start = inputs["weights"].path
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
            _options(mm, params, context.seed, self.needs.threads),
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
                "training": training_record(params, targets),
            },
        )


def _pull(config: Any, anchor: Path, strength: float) -> list[Any]:
    """The hook that draws the weights towards those of the first round (L2-SP), where it is asked for."""
    if strength == 0:
        return []
    from orveil.stages import mm, mm_hooks  # OpenMMLab loads slowly

    return [mm_hooks.PullToStartHook(mm.build_detector(config, anchor), strength)]


def _options(mm: Any, params: FinetuneParams, seed: int, threads: int) -> Any:
    return mm.TrainOptions(
        iterations=params.iterations,
        batch_size=params.batch_size,
        learning_rate=params.learning_rate,
        ema_decay=params.ema_decay,
        long_side=params.long_side,
        augment=mm.Augment(),
        seed=seed % SEED_RANGE,
        checkpoint_every=params.checkpoint_every,
        freeze_bn=True,
        threads=threads,
    )
