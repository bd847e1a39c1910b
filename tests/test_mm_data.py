"""Tests: varied training samples are a pure function of seed and position, and labels follow the pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.stages.mm_data import (
    Augment,
    DetectionSample,
    PoseSample,
    canvas_size,
    detection_view,
    pick,
)
from orveil.stages.mm_pose_data import FLIP_ORDER, crop_view, simcc_targets

PLAIN = Augment(scale=(1.0, 1.0), shift=0.0, flip=0.0, colour=0.0, blur=0.0)
MOVED = Augment(scale=(0.6, 1.6), shift=0.15, flip=0.5, colour=0.0, blur=0.0)


class OneBlock:
    """Dark pictures with one bright block each, which is the only label; and a box to ignore beside it."""

    def __init__(self, size: tuple[int, int] = (160, 96)) -> None:
        self.size = size

    def __len__(self) -> int:
        return 5

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [self.size] * 5

    def __getitem__(self, index: int) -> DetectionSample:
        w, h = self.size
        image = np.zeros((h, w, 3), np.uint8)
        x, y = 30 + 10 * index, 20 + 3 * index
        image[y : y + 40, x : x + 24] = 255
        return DetectionSample(
            image,
            np.array([[x, y, x + 24, y + 40]], np.float32),
            np.array([1]),
            np.array([0.7], np.float32),
            np.array([[0, 0, 10, 10]], np.float32),
            np.array([-1]),
        )


def bright_box(image: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(image[..., 0] > 190)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@given(st.integers(0, 2**31), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_a_label_stays_on_its_pixels(seed: int, index: int):
    view = detection_view(OneBlock(), index, np.random.default_rng(seed), MOVED, (160, 96), 160)
    assert view.image.shape == (96, 160, 3)
    if len(view.xyxy):
        np.testing.assert_allclose(view.xyxy[0], bright_box(view.image), atol=2.0)
        assert view.labels.tolist() == [1]
        assert view.weights.tolist() == [pytest.approx(0.7)]
    else:
        # Mostly out of the picture: what is left of it must not be taught as background.
        assert 1 in view.ignore_labels or view.image.max() < 255 or (view.image > 190).sum() == 0
    for box in np.concatenate([view.xyxy, view.ignore]):
        assert (box[:2] <= box[2:]).all()
        assert (box >= 0).all()
        assert (box[[0, 2]] <= 160).all()
        assert (box[[1, 3]] <= 96).all()
    assert len(view.ignore) == len(view.ignore_labels)


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_four_in_one_keeps_every_label_on_bright_pixels(seed: int):
    augment = Augment(scale=(0.6, 1.2), shift=0.1, colour=0.0, blur=0.0, mosaic=1.0)
    view = detection_view(OneBlock(), 0, np.random.default_rng(seed), augment, (320, 192), 160)
    for x0, y0, x1, y1 in view.xyxy:
        inside = view.image[int(y0) + 2 : int(y1) - 2, int(x0) + 2 : int(x1) - 2]
        assert inside.size == 0 or inside.mean() > 240


def test_without_variation_the_picture_is_the_picture():
    source = OneBlock()
    view = detection_view(source, 2, np.random.default_rng(0), PLAIN, (160, 96), 160)
    np.testing.assert_array_equal(view.image, source[2].image)
    np.testing.assert_allclose(view.xyxy, source[2].xyxy)


@given(st.integers(0, 1000), st.integers(0, 500), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_the_same_position_gives_the_same_numbers(seed: int, position: int, count: int):
    index, rng = pick(seed, position, count)
    again, rng_again = pick(seed, position, count)
    assert index == again
    assert rng.random() == rng_again.random()


@given(st.integers(0, 1000), st.integers(1, 30), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_an_epoch_visits_every_sample_once(seed: int, count: int, epoch: int):
    seen = [pick(seed, epoch * count + i, count)[0] for i in range(count)]
    assert sorted(seen) == list(range(count))


def test_the_canvas_holds_every_picture():
    assert canvas_size([(1920, 1080)], 512) == (512, 288)
    assert canvas_size([(1088, 1920)], 512) == (320, 512)
    assert canvas_size([(1920, 1080), (1080, 1920)], 512) == (512, 512)
    with pytest.raises(ValueError, match="no pictures"):
        canvas_size([], 512)


def person(levels: float = 1.0) -> PoseSample:
    """A person with one white pixel block at keypoint 9 (left wrist)."""
    image = np.zeros((120, 100, 3), np.uint8)
    points = np.tile(np.array([[50.0, 60.0]], np.float32), (133, 1))
    points[9] = (64, 44)
    image[41:48, 61:68] = 255
    return PoseSample(
        image,
        np.array([30, 20, 70, 100], np.float32),
        points,
        np.ones(133, np.float32),
        np.full(133, levels, np.float32),
    )


@given(st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_a_keypoint_stays_on_its_pixels(seed: int):
    augment = Augment(scale=(0.8, 1.2), shift=0.05, flip=0.5, colour=0.0, blur=0.0, rotate=40.0)
    view = crop_view(person(), np.random.default_rng(seed), augment, (160, 192))
    rows, columns = np.nonzero(view.image[..., 0] > 100)
    # A mirrored left wrist is a right wrist.
    places = [view.keypoints[9], view.keypoints[10]]
    white = np.array([columns.mean(), rows.mean()])
    assert min(np.linalg.norm(white - place) for place in places) < 2.0


def test_mirroring_twice_changes_nothing():
    np.testing.assert_array_equal(FLIP_ORDER[FLIP_ORDER], np.arange(133))


def test_mirror_pairs_are_those_of_mmpose():
    mmpose = pytest.importorskip("mmpose", reason="needs the OpenMMLab packages (scripts/setup)")
    from pathlib import Path

    from mmengine.config import Config

    path = Path(mmpose.__file__).parent / ".mim/configs/_base_/datasets/coco_wholebody.py"
    info = Config.fromfile(path).dataset_info.keypoint_info
    names = {point["name"]: i for i, point in info.items()}
    wanted = [names[info[i]["swap"]] if info[i]["swap"] else i for i in range(133)]
    assert FLIP_ORDER.tolist() == wanted


def test_targets_peak_at_the_keypoint_as_high_as_its_level():
    view = person(0.3)
    x, y, weights = simcc_targets(view, (160, 192), 2.0, (4.0, 4.0))
    assert x.shape == (133, 320)
    assert y.shape == (133, 384)
    assert (x[9].argmax(), y[9].argmax()) == (128, 88)
    assert x[9].max() == pytest.approx(0.3)
    assert (weights == 1).all()


def test_a_keypoint_outside_of_the_crop_has_level_zero():
    view = person()
    view.keypoints[3] = (-5, 50)
    view.keypoints[4] = (50, 200)
    x, y, _ = simcc_targets(view, (160, 192), 2.0, (4.0, 4.0))
    assert x[3].max() == y[3].max() == x[4].max() == 0
    assert x[5].max() == pytest.approx(1)
