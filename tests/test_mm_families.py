"""Faster R-CNN and Deformable DETR: losses obey weights and ignored places; they train, resume and detect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training extras are not installed")
mm = pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")

from mm_families import FAMILIES, tiny_config  # noqa: E402
from mm_models import Blocks, picture  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmengine.config import ConfigDict  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from orveil.stages.mm_detr import focal  # noqa: E402
from orveil.stages.mm_rcnn import marginal_cross_entropy  # noqa: E402
from orveil.stages.mm_roi_align import roi_align  # noqa: E402
from orveil.stages.mm_trust import ALL_CHANNELS, background_trust, share_inside  # noqa: E402

OPTIONS = mm.TrainOptions(
    iterations=4, batch_size=2, learning_rate=4e-3, warmup=1, ema_decay=0.9, anchor=0.01, long_side=160,
    seed=11, checkpoint_every=2, freeze_bn=True,
)  # fmt: skip
SHAPE = (96, 160)
BOXES = [[10.0, 8.0, 40.0, 80.0], [14.0, 8.0, 28.0, 22.0], [90.0, 10.0, 124.0, 84.0]]
EVERYWHERE = ([[0.0, 0.0, 160.0, 96.0]], [ALL_CHANNELS])


def lively(family: str) -> Any:
    """A model with opinions: fresh ones answer alike everywhere."""
    model = mm.build_detector(tiny_config(family), seed=3)
    generator = torch.Generator().manual_seed(1)
    for name, value in model.named_parameters():
        if any(part in name for part in ("rpn_cls.weight", "rpn_reg.weight", "fc_cls.weight", "branches")):
            value.data.copy_(
                torch.randn(value.shape, generator=generator) * (0.3 if value.dim() > 1 else 0.1)
            )
    return model


def sample(boxes: Any = BOXES, labels: Any = (0, 1, 0), weights: Any = None, ignored: Any = None) -> Any:
    made = DetDataSample(metainfo={"img_shape": SHAPE, "pad_shape": SHAPE, "batch_input_shape": SHAPE})
    made.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes).reshape(-1, 4), labels=torch.tensor(labels, dtype=torch.int64)
    )
    if weights is not None:
        made.gt_instances.weights = torch.tensor(weights)
    places, channels = ignored or ([], [])
    made.ignored_instances = InstanceData(
        bboxes=torch.tensor(places).reshape(-1, 4), labels=torch.tensor(channels, dtype=torch.int64)
    )
    return made


def losses(model: Any, *samples: Any) -> dict[str, Any]:
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    torch.manual_seed(5)
    batch = torch.rand(len(samples), 3, *SHAPE, generator=torch.Generator().manual_seed(2))
    return {k: sum(v) if isinstance(v, list) else v for k, v in model.loss(batch, list(samples)).items()}


def total(found: dict[str, Any]) -> Any:
    return sum(value for name, value in found.items() if "loss" in name)


def original(config: Any, model: Any) -> Any:
    """mmdet's own model with the same weights."""
    plain = config.model.to_dict()
    if plain["type"] == "AnswerableDETR":
        plain["type"] = "DeformableDETR"
        head = plain["bbox_head"]
        head.pop("trained_channels")
        head.update(type="DeformableDETRHead", sync_cls_avg_factor=True)
    else:
        plain["type"] = "FasterRCNN"
        plain["rpn_head"]["type"] = "RPNHead"
        plain["roi_head"]["type"] = "StandardRoIHead"
        plain["roi_head"].pop("trained_channels")
        plain["train_cfg"]["rpn"]["assigner"]["type"] = "MaxIoUAssigner"
    with DefaultScope.overwrite_default_scope("mmdet"):
        theirs = MODELS.build(ConfigDict(plain))
    theirs.load_state_dict(model.state_dict(), strict=True)
    return theirs


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_original_loss_where_all_labels_are_sure(family: str) -> None:
    model = lively(family)
    theirs = losses(original(tiny_config(family), model), sample(), sample(BOXES[2:], [1]))
    own = losses(model, sample(weights=[1.0, 1.0, 1.0]), sample(BOXES[2:], [1]))
    for name in own:
        torch.testing.assert_close(own[name], theirs[name].reshape(()), rtol=2e-4, atol=1e-5)
    assert {name for name in theirs if "loss" in name} == own.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_weight_scales_what_a_box_asks(family: str) -> None:
    """With everything else ignored, halved weights halve the loss."""
    model = lively(family)
    whole = losses(model, sample(weights=[1.0, 1.0, 1.0], ignored=EVERYWHERE))
    half = losses(model, sample(weights=[0.5, 0.5, 0.5], ignored=EVERYWHERE))
    assert total(whole) > 0.1
    for name in whole:
        torch.testing.assert_close(half[name], 0.5 * whole[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_an_ignored_place_asks_nothing(family: str) -> None:
    """A picture where nobody is labelled and all is ignored has no loss and no gradient; an open one has."""
    model = lively(family)
    nobody = losses(model, sample([], [], ignored=EVERYWHERE))
    assert float(total(nobody).detach()) == pytest.approx(0, abs=1e-6)
    total(nobody).backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    assert float(total(losses(model, sample([], []))).detach()) > 0.01
    part = losses(model, sample(BOXES[:2], [0, 1], ignored=([[80.0, 0.0, 160.0, 96.0]], [ALL_CHANNELS])))
    assert float(total(part).detach()) < float(total(losses(model, sample(BOXES[:2], [0, 1]))).detach())


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_visible_gives_a_finite_loss_with_a_gradient_for_every_weight(family: str) -> None:
    """Processes that train together wait for each other's gradients: none may be missing."""
    model = lively(family)
    found = total(losses(model, sample([], [])))
    found.backward()
    assert torch.isfinite(found)
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


@pytest.mark.parametrize("family", FAMILIES)
def test_training_lowers_the_loss_resumes_exactly_and_detects(family: str, tmp_path: Path) -> None:
    config = tiny_config(family)

    class StopError(Exception):
        pass

    class StopHook(mm.Hook):  # type: ignore[misc]
        def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
            if runner.iter == 3:
                raise StopError

    whole = mm.train_detector(config, Blocks(4), tmp_path / "a", OPTIONS)
    with pytest.raises(StopError):
        mm.train_detector(config, Blocks(4), tmp_path / "b", OPTIONS, hooks=[StopHook()])
    resumed = mm.train_detector(config, Blocks(4), tmp_path / "b", OPTIONS)
    assert resumed.sha256 == whole.sha256
    still = mm.Augment(scale=(1.0, 1.0), shift=0.0, flip=0.0, colour=0.0, blur=0.0)
    more = replace(OPTIONS, iterations=30, ema_decay=0.0, anchor=0.0, augment=still, learning_rate=2e-2)
    reports: list[str] = []
    end = mm.train_detector(config, Blocks(1), tmp_path / "c", more, progress=lambda *r: reports.append(r[2]))
    loss = [float(text.split("loss ")[1].split()[0].rstrip(",")) for text in reports]
    assert loss[-1] < 0.8 * loss[0]
    found = mm.Detector(config, end.weights, long_side=160, score_threshold=0.01)
    boxes, scores, labels = found.predict([Blocks(1)[0].image, picture(2, 96, 160)])[0]
    assert len(boxes) == len(scores) == len(labels) > 0
    assert (boxes[:, 2:] > boxes[:, :2]).all() and boxes.min() >= 0 and boxes[:, 2].max() <= 160
    assert (np.diff(scores) <= 0).all() and set(labels.tolist()) <= {0, 1}
    config.classes, config.channels = ("person",), (1,)
    alone = mm.Detector(config, end.weights, long_side=160, score_threshold=0.01).predict(
        [Blocks(1)[0].image]
    )[0]
    together = boxes[labels == 1]
    np.testing.assert_allclose(alone[0][: len(together)], together, atol=1e-3)


def test_channels_without_labels_keep_their_answers() -> None:
    config = tiny_config("rcnn")
    config.model.roi_head.trained_channels = [0]
    model = mm.build_detector(config, lively("rcnn").state_dict())
    proposals = torch.tensor([[90.0, 10.0, 124.0, 84.0], [11.0, 9.0, 41.0, 79.0]])
    place = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    targets = model.roi_head.targets(proposals, sample(BOXES[:1], [0]).gt_instances, place)
    positive = len(targets.labels)
    assert positive == 2, "the proposal on the person, and the person's own box"
    assert targets.allowed[:positive].tolist() == [[True, False, False]] * positive
    assert targets.allowed[positive:].tolist() == [[False, True, True]]


def test_marginal_cross_entropy_is_the_usual_one_for_one_right_answer() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    right = torch.tensor([0, 1, 3, 2, 0])
    one = torch.nn.functional.one_hot(right, 4).bool()
    usual = torch.nn.functional.cross_entropy(logits, right, reduction="none")
    torch.testing.assert_close(marginal_cross_entropy(logits, one), usual)
    two = one | torch.nn.functional.one_hot((right + 1) % 4, 4).bool()
    torch.testing.assert_close(marginal_cross_entropy(logits, two), -(logits.softmax(-1) * two).sum(-1).log())
    assert marginal_cross_entropy(logits, torch.ones_like(one)).abs().max() < 1e-6


def test_focal_loss_is_that_of_mmdet() -> None:
    from mmdet.models.losses import FocalLoss

    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 2, 3, 1, 3, 3])
    wanted = torch.nn.functional.one_hot(labels, 4)[:, :3].float()
    theirs = FocalLoss(use_sigmoid=True, gamma=2.0, alpha=0.25, reduction="sum")(logits, labels)
    torch.testing.assert_close(focal(logits, wanted).sum(), theirs)


def test_background_is_believed_by_place_and_class() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [5.0, 0, 15, 10], [40.0, 0, 50, 10], [3.0, 3, 3, 9]])
    labelled = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 12, 10]]), labels=torch.tensor([1]), weights=torch.tensor([0.25])
    )
    ignored = InstanceData(bboxes=torch.tensor([[38.0, 0, 60, 20]]), labels=torch.tensor([0]))
    found = background_trust(boxes, labelled, ignored, 2)
    assert found.tolist() == [[1.0, 0.25], [1.0, 0.25], [0.0, 1.0], [1.0, 0.25]]
    ignored.labels[:] = ALL_CHANNELS
    assert background_trust(boxes, labelled, ignored, 2)[2].tolist() == [0.0, 0.0]
    assert background_trust(boxes[:0], labelled, None, 2).shape == (0, 2)
    assert share_inside(boxes, boxes[:0]).shape == (4, 0)
    assert share_inside(boxes[3:], boxes[:3]).tolist() == [[1.0, 0.0, 0.0]]


def slow_roi_align(features: np.ndarray, roi: np.ndarray, size: int, scale: float) -> np.ndarray:
    """By the definition, one sample after the other."""
    height, width = features.shape[1:]
    x0, y0, x1, y1 = roi[1:] * scale - 0.5
    across, down = (max(1, int(np.ceil((b - a) / size))) for a, b in ((x0, x1), (y0, y1)))
    result = np.zeros((len(features), size, size))
    for i in range(size):
        for j in range(size):
            for n in range(down):
                for m in range(across):
                    y = y0 + (i + (n + 0.5) / down) * (y1 - y0) / size
                    x = x0 + (j + (m + 0.5) / across) * (x1 - x0) / size
                    if not (-1 <= y <= height and -1 <= x <= width):
                        continue
                    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
                    top, left = min(int(y), height - 2), min(int(x), width - 2)
                    dy, dx = y - top, x - left
                    corner = features[:, top : top + 2, left : left + 2]
                    weights = np.outer([1 - dy, dy], [1 - dx, dx])
                    result[:, i, j] += (corner * weights).sum((1, 2)) / (down * across)
    return result


def test_roi_align_keeps_to_its_definition() -> None:
    features = torch.randn(2, 3, 12, 20, generator=torch.Generator().manual_seed(4))
    rois = torch.tensor(
        [[0, 3.0, 5, 60, 40], [1, -20, -9, 30, 12], [0, 70, 1, 100, 60], [1, 8, 8, 8, 8], [1, 2, 2, 21, 90]]
    )
    found = roi_align(features, rois, 3, 0.25)
    for own, roi in zip(found, rois.numpy(), strict=True):
        wanted = slow_roi_align(features[int(roi[0])].numpy(), roi, 3, 0.25)
        np.testing.assert_allclose(own.numpy(), wanted, atol=1e-4)
    assert roi_align(features, rois[:0], 3, 0.25).shape == (0, 3, 3, 3)
