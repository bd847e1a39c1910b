"""Learning: what the stages that train a model share: one shard, weights out, the same options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from orveil.pipeline.kinds import WeightsKind
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.stages.weights import VOLATILE

__all__ = ["TrainingStage"]

SEED_RANGE = 2**31
SHARED = ("iterations", "batch_size", "learning_rate", "checkpoint_every", "ema_decay", "long_side")
"""Settings that go to the training under their own names, where a stage has them."""


class TrainingStage:
    """Base of the stages that train one model on the whole site."""

    needs: ClassVar[Resources] = Resources(cpus=2, threads=2, loads_model=True)
    produces: ClassVar[type[ArtifactType]] = WeightsKind
    volatile: ClassVar[frozenset[str]] = VOLATILE

    def shards(self, params: Any, inputs: Inputs) -> Sequence[Shard]:
        """One: a model is trained on the whole site."""
        del params, inputs
        return [Shard()]

    def setup(self, params: Any, inputs: Inputs, context: Context) -> None:
        """Nothing to load."""

    def options(self, params: Any, context: Context, **own: Any) -> Any:
        """`TrainOptions` of a stage's settings; BatchNorm keeps what it learned on many pictures."""
        from orveil.stages import mm  # OpenMMLab loads slowly, and the graph is built without it

        shared = {name: getattr(params, name) for name in SHARED if hasattr(params, name)}
        return mm.TrainOptions(
            **shared,
            **{"augment": mm.Augment(paste=getattr(params, "paste", 0.0)), **own},
            seed=context.seed % SEED_RANGE,
            freeze_bn=True,
            threads=max(1, self.needs.threads // getattr(params, "workers", 1)),
        )
