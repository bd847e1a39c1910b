"""Learning: the detector's loss obeys weights and ignored regions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training extras are not installed")
mm = pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")

import mmdet.models  # noqa: E402
from mmdet.models.dense_heads import RTMDetSepBNHead  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from orveil.stages.mm_losses import WeightedRTMDetHead, inside  # noqa: E402
from orveil.stages.mm_trust import ALL_CHANNELS  # noqa: E402

assert mmdet.models is not None
SIZES = ((8, 12), (4, 6), (2, 3))
CLASSES = 2


def make_head(cls: type[Any] = WeightedRTMDetHead, **options: Any) -> Any:
    return cls(
        num_classes=CLASSES,
        in_channels=8,
        feat_channels=8,
        stacked_convs=1,
        with_objectness=False,
        anchor_generator={"type": "MlvlPointGenerator", "offset": 0, "strides": [8, 16, 32]},
        bbox_coder={"type": "DistancePointBBoxCoder"},
        loss_cls={"type": "QualityFocalLoss", "use_sigmoid": True, "beta": 2.0, "loss_weight": 1.0},
        loss_bbox={"type": "GIoULoss", "loss_weight": 2.0},
        train_cfg={
            "assigner": {"type": "DynamicSoftLabelAssigner", "topk": 13},
            "allowed_border": -1,
            "pos_weight": -1,
        },
        **options,
    )


def answers(seed: int = 0, pictures: int = 1) -> tuple[list[Any], list[Any]]:
    generator = torch.Generator().manual_seed(seed)
    logits, sides = [], []
    for level, (h, w) in enumerate(SIZES):
        logits.append(torch.randn(pictures, CLASSES, h, w, generator=generator) - 1)
        sides.append(torch.rand(pictures, 4, h, w, generator=generator) * 16 * 2**level + 4)
    return [x.requires_grad_() for x in logits], [x.requires_grad_() for x in sides]


def labelled(boxes: Any, labels: Any, weights: Any = None) -> InstanceData:
    data = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
    )
    if weights is not None:
        data.weights = torch.tensor(weights, dtype=torch.float32)
    return data


def losses(head: Any, given: Any, ignored: Any = None, seed: int = 0) -> tuple[dict[str, Any], Any, Any]:
    logits, sides = answers(seed)
    metas = [{"img_shape": (64, 96), "pad_shape": (64, 96)}]
    result = head.loss_by_feat(logits, sides, [given], metas, None if ignored is None else [ignored])
    return result, logits, sides


def total(result: dict[str, Any]) -> Any:
    return sum(sum(v) if isinstance(v, list) else v for v in result.values())


def point_mask(box: list[float]) -> list[Any]:
    """Per level (H, W) bool: points in the box."""
    masks = []
    for (h, w), stride in zip(SIZES, (8, 16, 32), strict=True):
        y, x = np.mgrid[:h, :w] * stride
        points = torch.tensor(np.stack([x, y], -1).reshape(-1, 2), dtype=torch.float32)
        masks.append(inside(points, torch.tensor([box]))[:, 0].reshape(h, w))
    return masks


BOXES = [[8.0, 6.0, 50.0, 60.0], [12.0, 8.0, 30.0, 26.0], [55.0, 4.0, 90.0, 60.0]]


def test_equals_the_original_head_where_all_labels_are_sure() -> None:
    given = labelled(BOXES, [0, 1, 0], [1.0, 1.0, 1.0])
    own, _, _ = losses(make_head(), given)
    theirs, _, _ = losses(make_head(RTMDetSepBNHead), given)
    for name in ("loss_cls", "loss_bbox"):
        assert total({"x": theirs[name]}).item() == pytest.approx(own[name].item(), rel=1e-5)


def test_ignored_region_asks_nothing() -> None:
    box = [56.0, 0.0, 96.0, 64.0]
    given = labelled(BOXES[:2], [0, 1])
    result, logits, _ = losses(make_head(), given, labelled([box], [ALL_CHANNELS]))
    total(result).backward()
    free, _, _ = losses(make_head(), given)
    for level, mask in zip(logits, point_mask(box), strict=True):
        assert mask.any()
        assert (level.grad[0][:, mask] == 0).all()
        assert (level.grad[0][:, ~mask] != 0).any()
    assert result["loss_cls"] < free["loss_cls"]


def test_ignored_class_leaves_the_other_class_alone() -> None:
    box = [56.0, 0.0, 96.0, 64.0]
    result, logits, _ = losses(make_head(), labelled(BOXES[:1], [0]), labelled([box], [1]))
    total(result).backward()
    for level, mask in zip(logits, point_mask(box), strict=True):
        assert (level.grad[0][1][mask] == 0).all()
        assert (level.grad[0][0][mask] != 0).all()


def test_positive_points_count_inside_an_ignored_region() -> None:
    given = labelled(BOXES[:1], [0])
    result, logits, sides = losses(make_head(), given, labelled([[0.0, 0.0, 96.0, 64.0]], [ALL_CHANNELS]))
    total(result).backward()
    touched = sum(int((level.grad[0][0] != 0).sum()) for level in logits)
    boxes = sum(int((level.grad[0] != 0).any(0).sum()) for level in sides)
    assert touched == boxes > 0


@pytest.mark.parametrize("weight", [0.25, 0.5])
def test_weight_scales_what_a_box_asks(weight: float) -> None:
    everywhere = labelled([[0.0, 0.0, 96.0, 64.0]], [ALL_CHANNELS])
    sure, doubtful = labelled(BOXES[:1], [0], [1.0]), labelled(BOXES[:1], [0], [weight])
    whole, logits, sides = losses(make_head(), sure, everywhere)
    part, logits_part, sides_part = losses(make_head(), doubtful, everywhere)
    total(whole).backward()
    total(part).backward()
    for a, b in zip([*logits, *sides], [*logits_part, *sides_part], strict=True):
        torch.testing.assert_close(b.grad, weight * a.grad)


def test_background_inside_a_doubtful_box_is_doubtful() -> None:
    result, logits, _ = losses(make_head(), labelled(BOXES[:1], [0], [0.5]))
    sure, logits_sure, _ = losses(make_head(), labelled(BOXES[:1], [0], [1.0]))
    total(result).backward()
    total(sure).backward()
    for level, reference, mask in zip(logits, logits_sure, point_mask(BOXES[0]), strict=True):
        torch.testing.assert_close(level.grad[0][0][mask], 0.5 * reference.grad[0][0][mask])
        torch.testing.assert_close(level.grad[0][0][~mask], reference.grad[0][0][~mask])


def test_nothing_visible_gives_finite_loss_and_gradient() -> None:
    result, logits, sides = losses(make_head(), labelled([], []), labelled([], []))
    total(result).backward()
    assert torch.isfinite(total(result))
    assert all(torch.isfinite(x.grad).all() for x in [*logits, *sides])


def test_channels_without_labels_are_left_alone() -> None:
    result, logits, _ = losses(make_head(trained_channels=[0]), labelled(BOXES[:1], [0]))
    total(result).backward()
    assert all((level.grad[0][1] == 0).all() and (level.grad[0][0] != 0).any() for level in logits)


def test_weights_of_the_original_head_fit() -> None:
    make_head().load_state_dict(make_head(RTMDetSepBNHead).state_dict(), strict=True)


@pytest.mark.parametrize("name", [n for n in mm.config_names() if not n.startswith("pose_")])
def test_every_detector_that_comes_along_obeys_weights_and_ignored_places(name: str) -> None:
    config = mm.load_config(name)
    assert mm.obeys_weights(config)
    model = mm.build_detector(config)
    head = model.roi_head if hasattr(model, "roi_head") else model.bbox_head
    assert head.channel_mask.nonzero()[:, 0].tolist() == sorted(config.channels)
