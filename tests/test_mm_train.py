"""Tests: a training that is killed and started again ends with the same bytes; options do what they say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("mmdet", reason="needs the OpenMMLab packages (scripts/setup)")

from mm_models import Blocks, Dots, tiny_detector_config, tiny_pose_config, unsettle

from orveil.pipeline.errors import OrveilError
from orveil.stages import mm
from orveil.stages.mm_hooks import ProgressHook

OPTIONS = mm.TrainOptions(
    iterations=6,
    batch_size=3,
    learning_rate=2e-3,
    warmup=2,
    ema_decay=0.9,
    anchor=0.01,
    long_side=160,
    augment=mm.Augment(mosaic=0.3),
    late_augment=mm.Augment(scale=(0.9, 1.1)),
    late_share=0.4,
    seed=11,
    checkpoint_every=2,
)


def run(work: Path, options: mm.TrainOptions = OPTIONS, **more: object) -> mm.TrainResult:
    return mm.train_detector(tiny_detector_config(), Blocks(5), work, options, **more)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> mm.TrainResult:
    return run(tmp_path_factory.mktemp("undisturbed"))


def killed_after(iteration: int, work: Path) -> None:
    """Train in another process that kills itself, as the kernel would, while it reports."""

    def report(done: int, total: int, text: str) -> None:
        if done == iteration:
            os.kill(os.getpid(), signal.SIGKILL)

    import orveil.stages.mm_hooks as hooks

    hooks.ProgressHook.__init__.__defaults__ = (1,)
    run(work, progress=report)


def test_killed_and_started_again_gives_the_same_bytes(undisturbed: mm.TrainResult, tmp_path: Path):
    here = str(Path(__file__).parent)
    code = (
        f"import sys; sys.path.insert(0, {here!r}); from pathlib import Path; import test_mm_train as t; "
        f"t.killed_after(5, Path({str(tmp_path)!r}))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    assert not (tmp_path / "final.safetensors").exists()
    assert torch.load(tmp_path / "checkpoint.pth", weights_only=True)["meta"]["iter"] == 4
    # A kill in the middle of a save leaves half a file under another name.
    (tmp_path / "checkpoint.pth.part").write_bytes(b"half")
    again = run(tmp_path)
    assert again.sha256 == undisturbed.sha256
    assert again.weights.read_bytes() == undisturbed.weights.read_bytes()
    assert again.losses == undisturbed.losses
    # Nothing is left to do, and the result is still the same.
    assert run(tmp_path).sha256 == undisturbed.sha256


def test_another_seed_gives_other_weights(undisturbed: mm.TrainResult, tmp_path: Path):
    assert run(tmp_path, replace(OPTIONS, seed=12, iterations=2)).sha256 != undisturbed.sha256


def test_a_directory_of_another_training_is_refused(undisturbed: mm.TrainResult):
    with pytest.raises(OrveilError, match="other settings") as caught:
        run(undisturbed.weights.parent, replace(OPTIONS, learning_rate=1e-3))
    assert caught.value.where == str(undisturbed.weights.parent)


def test_training_fits_the_boxes_of_one_picture(tmp_path: Path):
    reports: list[tuple[int, int, str]] = []
    still = mm.Augment(scale=(1.0, 1.0), shift=0.0, flip=0.0, colour=0.0, blur=0.0)
    options = replace(
        OPTIONS, iterations=40, batch_size=2, anchor=0.0, ema_decay=0.0, augment=still, late_augment=None
    )
    mm.train_detector(
        tiny_detector_config(), Blocks(1), tmp_path, options, progress=lambda *report: reports.append(report)
    )
    assert [done for done, _, _ in reports] == [10, 20, 30, 40]
    assert "min left" in reports[0][2]
    lines = (tmp_path / "losses.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss_bbox"] for line in lines]
    assert losses[-1] < 0.6 * max(losses)


@pytest.mark.parametrize(("iterations", "warmup"), [(1, 10), (2, 10), (3, 1), (12, 4)])
def test_the_learning_rate_reaches_its_height_and_falls(iterations: int, warmup: int, tmp_path: Path):
    rates: list[float] = []

    class Watch(mm.Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            rates.append(runner.optim_wrapper.get_lr()["lr"][0])

    options = replace(OPTIONS, iterations=iterations, warmup=warmup, batch_size=1)
    run(tmp_path, options, hooks=[Watch()])
    assert len(rates) == iterations
    assert max(rates) == pytest.approx(options.learning_rate)
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_frozen_batch_norm_keeps_its_statistics(tmp_path: Path):
    config = tiny_detector_config()
    config.freeze_bn = True
    start = unsettle(mm.build_detector(config)).state_dict()
    options = replace(OPTIONS, iterations=2, ema_decay=0.0)
    frozen = mm.read_weights(
        mm.train_detector(config, Blocks(5), tmp_path / "a", options, init=start).weights
    )
    free = mm.read_weights(
        mm.train_detector(
            config, Blocks(5), tmp_path / "b", replace(options, freeze_bn=False), init=start
        ).weights
    )
    name = "backbone.stem.0.bn.running_mean"
    assert torch.equal(frozen[name], start[name])
    assert not torch.equal(free[name], start[name])
    weight = "backbone.stem.0.conv.weight"
    assert not torch.equal(frozen[weight], start[weight])


def test_the_anchor_holds_weights_near_their_start(tmp_path: Path):
    start = unsettle(mm.build_detector(tiny_detector_config())).state_dict()
    options = replace(OPTIONS, iterations=4, ema_decay=0.0, anchor=0.0, warmup=1)
    moved = []
    for i, anchor in enumerate((0.0, 200.0)):
        result = run(tmp_path / str(i), replace(options, anchor=anchor), init=start)
        state = mm.read_weights(result.weights)
        moved.append(
            sum(float((state[n] - start[n]).abs().sum()) for n in state if n.endswith("conv.weight"))
        )
    assert moved[1] < 0.8 * moved[0]


def test_the_learning_rate_can_be_zero_for_a_part(tmp_path: Path):
    start = unsettle(mm.build_detector(tiny_detector_config())).state_dict()
    options = replace(OPTIONS, iterations=2, ema_decay=0.0, anchor=0.0)
    state = mm.read_weights(run(tmp_path, options, init=start, lr_scale={"backbone": 0.0}).weights)
    assert torch.equal(state["backbone.stem.0.conv.weight"], start["backbone.stem.0.conv.weight"])
    assert not torch.equal(state["bbox_head.rtm_cls.0.weight"], start["bbox_head.rtm_cls.0.weight"])


def test_nothing_to_train_on_is_said(tmp_path: Path):
    with pytest.raises(OrveilError, match="not one labelled picture"):
        mm.train_detector(tiny_detector_config(), Blocks(0), tmp_path, OPTIONS)


def test_training_that_diverges_is_said(tmp_path: Path):
    start = mm.build_detector(tiny_detector_config()).state_dict()
    start["bbox_head.rtm_cls.0.bias"].fill_(float("nan"))
    with pytest.raises(OrveilError, match="diverged"):
        run(tmp_path, replace(OPTIONS, iterations=1), init=start)


def test_the_pose_model_trains_in_mixed_precision_and_resumes(tmp_path: Path):
    options = mm.TrainOptions(
        iterations=4, batch_size=2, learning_rate=1e-3, warmup=1, checkpoint_every=2, bfloat16=True,
        augment=mm.Augment(rotate=30.0),
    )  # fmt: skip
    whole = mm.train_pose(tiny_pose_config(), Dots(), tmp_path / "a", options)

    class StoppedError(Exception):
        pass

    class StopHook(mm.Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 3:
                raise StoppedError

    with pytest.raises(StoppedError):
        mm.train_pose(tiny_pose_config(), Dots(), tmp_path / "b", options, hooks=[StopHook()])
    assert mm.train_pose(tiny_pose_config(), Dots(), tmp_path / "b", options).sha256 == whole.sha256
    assert set(whole.losses) >= {"loss_kpt", "loss_level", "loss_cell"}


def test_the_pose_head_answers_like_the_head_it_extends():
    from mmengine.registry import DefaultScope
    from mmpose.registry import MODELS

    config = tiny_pose_config()
    model = unsettle(mm.build_pose(config, seed=1))
    plain = config.model.head.copy()
    plain.type = "RTMCCHead"
    with DefaultScope.overwrite_default_scope("mmpose"):
        head = MODELS.build(plain)
    head.load_state_dict(model.head.state_dict(), strict=True)
    features = model.extract_feat(torch.rand(2, 3, 192, 160))
    for ours, theirs in zip(model.head(features), head.eval()(features), strict=True):
        assert torch.equal(ours, theirs)


def test_a_student_that_answers_like_its_teacher_has_nothing_to_learn():
    config = tiny_detector_config()
    model = unsettle(mm.build_detector(config))
    batch = torch.rand(1, 3, 96, 160)
    scores, boxes = mm.dense_predictions(model, batch)
    strides = model.bbox_head.prior_generator.strides
    answers = model.bbox_head(model.neck(model.backbone(batch)))
    same = mm.teacher_loss(answers, scores.detach(), boxes.detach(), strides)
    assert float(same["loss_soft_cls"]) == pytest.approx(0, abs=1e-6)
    other = unsettle(mm.build_detector(config, seed=3), seed=9)
    answers = other.bbox_head(other.neck(other.backbone(batch)))
    different = mm.teacher_loss(answers, scores.detach(), boxes.detach(), strides)
    assert float(different["loss_soft_cls"]) > 0.01
    assert float(different["loss_soft_box"]) > 0.01


def test_boxes_turned_inside_out_are_bounded_and_still_learn():
    distance = torch.full((1, 4, 1, 1), -40.0, requires_grad=True)
    target = torch.tensor([[[-8.0, -8.0, 8.0, 8.0]]])
    answers = ([torch.zeros(1, 1, 1, 1)], [distance])
    loss = mm.teacher_loss(answers, torch.ones(1, 1, 1), target, [(8, 8)])["loss_soft_box"]
    assert 0 <= float(loss.detach()) <= 4
    loss.backward()
    assert (distance.grad < 0).all(), "descent must make the sides longer"


def test_a_training_that_diverges_stops_and_says_where(tmp_path):
    hook = ProgressHook(None)
    runner = SimpleNamespace(iter=6, work_dir=str(tmp_path))
    for value in (1e12, -1e12, float("nan")):
        hook.losses = {}
        with pytest.raises(OrveilError, match="diverged at iteration 7"):
            hook.after_train_iter(runner, 0, outputs={"loss": torch.tensor(value)})
