"""Tests: configs and weights are read safely, written deterministically, and refused with a reason."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmdet", reason="needs the OpenMMLab packages (scripts/setup)")

from mm_models import tiny_detector_config, unsettle

from orveil.pipeline.errors import OrveilError
from orveil.stages import mm


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return unsettle(mm.build_detector(tiny_detector_config())).state_dict()


def test_every_config_of_the_package_builds_a_description():
    for name in mm.config_names():
        config = mm.load_config(name)
        assert config.kind in ("detector", "pose")
        if config.kind == "detector":
            assert len(config.classes) == len(config.channels)


def test_resolved_config_reads_back_the_same(tmp_path: Path):
    config = tiny_detector_config()
    text = mm.resolved_config_text(config)
    (tmp_path / "config.py").write_text(text)
    again = mm.load_config(tmp_path / "config.py")
    assert mm.resolved_config_text(again) == text
    assert again.model.backbone.widen_factor == 0.125


@pytest.mark.parametrize(
    ("content", "message"),
    [("kind = 'detector'", "lacks `model`"), ("kind = ", "cannot be read"), ("x = 1 / 0", "cannot be read")],
)
def test_a_bad_config_is_named(content: str, message: str, tmp_path: Path):
    path = tmp_path / "bad.py"
    path.write_text(content)
    with pytest.raises(OrveilError, match=message) as caught:
        mm.load_config(path)
    assert caught.value.where == str(path)


def test_an_unknown_config_lists_what_there_is():
    with pytest.raises(OrveilError, match="no such model config") as caught:
        mm.load_config("detector_unheard_of")
    assert "detector_embedded" in caught.value.remedy


def test_the_same_tensors_give_the_same_bytes(state, tmp_path: Path):
    first = mm.write_weights(state, tmp_path / "a.safetensors")
    second = mm.write_weights(dict(reversed(state.items())), tmp_path / "b.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    assert first == second == hashlib.sha256(content).hexdigest()
    assert content == (tmp_path / "b.safetensors").read_bytes()
    back = mm.read_weights(tmp_path / "a.safetensors")
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_half_precision_comes_back_as_float32(state, tmp_path: Path):
    mm.write_weights(state, tmp_path / "half.safetensors", half=True)
    back = mm.read_weights(tmp_path / "half.safetensors")
    name = "backbone.stem.0.conv.weight"
    assert back[name].dtype == torch.float32
    assert torch.equal(back[name], state[name].half().float())


def test_a_checkpoint_and_its_bare_state_read_alike(state, tmp_path: Path):
    torch.save({"state_dict": state, "meta": {"iter": 3}}, tmp_path / "a.pth")
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "b.pth")
    a, b = mm.read_weights(tmp_path / "a.pth"), mm.read_weights(tmp_path / "b.pth")
    assert a.keys() == b.keys() == state.keys()


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors", "text.pth", "text.safetensors", "empty.pth"])
def test_a_damaged_file_is_named(name: str, state, tmp_path: Path):
    whole = tmp_path / f"whole{Path(name).suffix}"
    if whole.suffix == ".pth":
        torch.save(state, whole)
    else:
        mm.write_weights(state, whole)
    content = {"cut": whole.read_bytes()[:5000], "text": b"no weights at all", "empty": b""}
    path = tmp_path / name
    path.write_bytes(content[Path(name).stem])
    with pytest.raises(OrveilError) as caught:
        mm.read_weights(path)
    assert caught.value.where == str(path)
    assert caught.value.remedy


def test_weights_of_another_architecture_are_refused(state):
    with pytest.raises(OrveilError, match="another architecture") as caught:
        mm.build_detector(mm.load_config("detector_embedded"), state)
    assert "instead of" in caught.value.what
    with pytest.raises(OrveilError, match="are missing"):
        mm.build_detector(tiny_detector_config(), {"nothing": torch.zeros(1)})


def test_a_config_of_the_other_kind_is_refused():
    with pytest.raises(OrveilError, match="not of a detector model"):
        mm.build_detector(mm.load_config("pose_embedded"))
    with pytest.raises(OrveilError, match="not of a pose model"):
        mm.build_pose(mm.load_config("detector_embedded"))


def test_loaders_of_mmengine_are_safe_and_stay_offline(state, tmp_path: Path):
    from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint

    mm.write_weights(state, tmp_path / "w.safetensors")
    model = mm.build_detector(tiny_detector_config(), seed=5)
    load_checkpoint(model, str(tmp_path / "w.safetensors"), strict=True)
    assert torch.equal(
        model.state_dict()["neck.out_convs.0.conv.weight"], state["neck.out_convs.0.conv.weight"]
    )
    for url in (
        "http://localhost/x.pth",
        "https://localhost/x.pth",
        "torchvision://resnet50",
        "s3://b/x.pth",
    ):
        with pytest.raises(OrveilError, match="may not fetch"):
            CheckpointLoader.load_checkpoint(url, "cpu")


def test_fresh_weights_follow_the_seed():
    name = "backbone.stem.0.conv.weight"
    a, b, c = (mm.build_detector(tiny_detector_config(), seed=s).state_dict()[name] for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
