"""Stage: the real-time student, trained on the pseudo labels of all views and on the teacher's soft answers.

Teacher and student see the same varied picture; the student learns the teacher's score and box of every cell
(quality-focal cross-entropy and GIoU) beside the labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.kinds import MediaKind, PosesKind, PseudoLabelsKind, WeightsKind
from orveil.pipeline.settings import DistilParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Shard
from orveil.pipeline.types import PERSON
from orveil.stages.datasets import labelled_pictures
from orveil.stages.targets import training_record, training_targets
from orveil.stages.training import TrainingStage
from orveil.stages.weights import keep_log, read_info, write_weights_dir

__all__ = ["Distil"]


class Distil(TrainingStage):
    """Train the model of `start` under `teacher`.

    A teacher of the same architecture and classes is the better start: then the student begins as its copy,
    and learns to see as much at its smaller input. Where nobody is labelled, the start is passed on.
    """

    name: ClassVar[str] = "distil"
    version: ClassVar[int] = 2
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {
        "media": MediaKind,
        "labels": PseudoLabelsKind,
        "poses": PosesKind,
        "teacher": WeightsKind,
        "start": WeightsKind,
    }

    def run(self, params: DistilParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Train, or go on with the training that `context.scratch` holds, and write the student."""
        del shard
        from orveil.stages import mm, mm_distil  # OpenMMLab loads slowly, and the graph is built without it

        config = mm.load_config(inputs["start"].path / "config.py")
        if config.model.type != "RTMDet":
            raise OrveilError(
                f"the student is an {config.model.type}, and only an RTMDet can be exported",
                where="distil.model",
                remedy="leave it to teach (`detector`), and name an RTMDet as the student",
            )
        teacher_config = mm.load_config(inputs["teacher"].path / "config.py")
        model = read_info(inputs["start"].path).source
        source = "teacher" if _same_model(config, teacher_config) else "start"
        state = mm.read_weights(inputs[source].path / "model.safetensors")
        about: dict[str, Any] = {"source": self.name, "long_side": params.long_side}
        targets, frame_weights = training_targets(inputs["labels"], inputs["poses"])
        if not any((target.labels == PERSON).any() for target in targets):
            about["training"] = {"iterations": 0, "skipped": "no person is labelled in any training frame"}
            write_weights_dir(out, config, state, about)
            return
        hooks = _teaching(mm, mm_distil, config, teacher_config, inputs, params.soft_weight)
        pictures = labelled_pictures(
            inputs["media"].path, targets, frame_weights, config, params.long_side, context
        )
        taught = config.copy()
        taught.model = {**config.model, "type": "DistilledRTMDet"}
        work_dir = context.scratch / "student"
        result = mm.train_detector(
            taught,
            pictures,
            work_dir,
            self.options(params, context),
            init=state,
            hooks=hooks,
            progress=context.progress,
        )
        record = training_record(params, targets)
        about["training"] = {**record, "start": source, "soft": bool(hooks), "model": model}
        keep_log(work_dir, out)
        write_weights_dir(out, config, mm.read_weights(result.weights), about)


def _same_model(a: Any, b: Any) -> bool:
    """Whether two configs describe one architecture with the same classes in the same channels."""
    return all(a.get(key) == b.get(key) for key in ("model", "classes", "channels"))


def _teaching(
    mm: Any, mm_distil: Any, config: Any, teacher_config: Any, inputs: Inputs, weight: float
) -> list[Any]:
    """Hooks that bring the teacher in; none where its answers cannot be compared cell by cell."""
    weights = inputs["teacher"].path / "model.safetensors"
    teacher = mm.build_detector(teacher_config, weights)
    if weight == 0 or not mm_distil.can_teach(teacher, mm.build_detector(config)):
        return []
    return [mm_distil.TeacherHook(mm_distil.Teacher.of(teacher, teacher_config, config, weight))]
