"""Learning: the student under its teacher."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training extras are not installed")
mm = pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")

from orveil.pipeline.settings import DistilParams  # noqa: E402
from orveil.pipeline.stage import InputRef  # noqa: E402
from orveil.stages import mm_distil  # noqa: E402
from orveil.stages.distil import Distil  # noqa: E402
from orveil.stages.mm_train import detection_item  # noqa: E402
from orveil.stages.weights import file_sha256, read_info  # noqa: E402
from tests import learning_site as site  # noqa: E402

PARAMS = DistilParams(iterations=3, batch_size=2, long_side=128, checkpoint_every=10)


def inputs(root: Path, **labels: bool) -> dict[str, InputRef]:
    return {
        "media": site.write_media(root),
        "labels": site.write_labels(root, **labels),
        "poses": site.write_poses(root, nobody=bool(labels)),
        "teacher": site.write_detector(root, name="teacher", seed=1),
        "start": site.write_detector(root, name="start"),
    }


def digest(ref: InputRef) -> str:
    return file_sha256(ref.path / "model.safetensors")


def test_student_learns_from_labels_and_teacher(tmp_path: Path) -> None:
    given = inputs(tmp_path)
    one = site.run_stage(Distil(), PARAMS, given, tmp_path / "a")
    two = site.run_stage(Distil(), PARAMS, given, tmp_path / "b")
    alone = site.run_stage(Distil(), PARAMS.model_copy(update={"soft_weight": 0.0}), given, tmp_path / "c")
    assert digest(one) == digest(two)
    assert digest(one) not in (digest(alone), digest(given["teacher"]))
    info = read_info(one.path)
    assert (info.long_side, info.training["soft"], info.training["start"]) == (128, True, "teacher")
    names = mm.read_weights(one.path / "model.safetensors").keys()
    assert names == mm.read_weights(given["start"].path / "model.safetensors").keys()
    assert "DistilledRTMDet" not in (one.path / "config.py").read_text()


def test_a_teacher_of_persons_teaches_persons(tmp_path: Path) -> None:
    teacher = site.write_detector(tmp_path, name="persons", classes=("person",))
    done = site.run_stage(Distil(), PARAMS, {**inputs(tmp_path), "teacher": teacher}, tmp_path / "a")
    info = read_info(done.path)
    assert (info.classes, info.training["start"]) == (("person", "head"), "start")
    assert info.training["soft"]


def test_nobody_visible_passes_the_teacher_on(tmp_path: Path) -> None:
    given = inputs(tmp_path, nobody=True)
    done = site.run_stage(Distil(), PARAMS, given, tmp_path / "a")
    assert digest(done) == digest(given["teacher"])
    info = read_info(done.path)
    assert info.long_side == 128
    assert "no person" in info.training["skipped"]


def test_soft_loss_falls_to_nothing_when_the_student_is_the_teacher(tmp_path: Path) -> None:
    folder = site.write_detector(tmp_path).path
    config = mm.load_config(folder / "config.py")
    taught = config.copy()
    taught.model = {**config.model, "type": "DistilledRTMDet"}
    weights = folder / "model.safetensors"
    other = mm.build_detector(
        config, site.write_detector(tmp_path, seed=3, name="o").path / "model.safetensors"
    )
    sample = mm.DetectionSample(
        site.picture("cam1", 0)[:128],
        site.figure_box("cam1", 0)[None],
        torch.zeros(1, dtype=torch.int64).numpy(),
        torch.ones(1).numpy(),
        torch.zeros(0, 4).numpy(),
        torch.zeros(0, dtype=torch.int64).numpy(),
    )
    item = detection_item(sample)
    losses = {}
    for name, teacher in (("itself", mm.build_detector(config, weights)), ("other", other)):
        student = mm.build_detector(taught, weights)
        student.teacher = mm_distil.Teacher.of(teacher, config, config, 1.0)
        data = student.data_preprocessor({key: [value] for key, value in item.items()}, True)
        losses[name] = student.loss(data["inputs"], data["data_samples"])
        assert not any("teacher" in key for key in student.state_dict())
    values = {name: {key: loss.item() for key, loss in parts.items()} for name, parts in losses.items()}
    assert values["itself"]["loss_soft_cls"] < 1e-6 < values["other"]["loss_soft_cls"]
    assert values["itself"]["loss_soft_box"] < 1e-4 < values["other"]["loss_soft_box"]


def test_teacher_sees_its_own_normalisation(tmp_path: Path) -> None:
    folder = site.write_detector(tmp_path).path
    config = mm.load_config(folder / "config.py")
    other = config.copy()
    other.model = {
        **config.model,
        "data_preprocessor": {**config.model["data_preprocessor"], "mean": [0.0, 1.0, 2.0], "std": [2.0] * 3},
    }
    teacher = mm_distil.Teacher.of(mm.build_detector(config), other, config, 1.0)
    picture = torch.tensor([10.0, 20.0, 30.0]).view(1, 3, 1, 1)
    about = config.model["data_preprocessor"]
    mean, std = (torch.tensor(about[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    seen = (picture - mean) / std * teacher.scale + teacher.shift
    torch.testing.assert_close(seen.flatten(), torch.tensor([5.0, 9.5, 14.0]))
