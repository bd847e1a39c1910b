"""Learning: from pseudo labels and poses to training targets, and from frames to samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from orveil.pipeline.tables import read_tables
from orveil.pipeline.types import (
    FACE,
    HEAD,
    IGNORE,
    KEYPOINTS,
    PERSON,
    POSITIVE,
    FrameLabels,
    Poses,
    PseudoLabels,
)
from orveil.stages.datasets import LabelledPictures, Pictures, read_pictures, sampling_order
from orveil.stages.targets import ALL_CLASSES, FrameTargets, frame_targets
from tests import learning_site as site

KEY = ("main", "cam", 3, 300)
BOX = np.array([10.0, 10.0, 50.0, 100.0], np.float32)
HEAD_BOX = np.array([20.0, 10.0, 40.0, 30.0], np.float32)


def used(*splits: str) -> FrameLabels:
    rows = [("main", "cam", 3 + i, 300 + i, split, 1.0) for i, split in enumerate(splits)]
    return FrameLabels(*(list(column) for column in zip(*rows, strict=True)))


def labels(*rows: tuple[int, np.ndarray, int, float, int]) -> PseudoLabels:
    """Rows (label_id, box, label, weight, state) of one frame."""
    columns: dict[str, list[Any]] = {name: [] for name in PseudoLabels.COLUMNS}
    for label_id, box, label, weight, state in rows:
        values = (*KEY, label_id, 0, 0, box, label, weight, weight, state, "detected", 1)
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
    return PseudoLabels(**columns)


def poses(*rows: tuple[int, np.ndarray, float]) -> Poses:
    """Rows (label_id, head box, score) of one frame."""
    columns: dict[str, list[Any]] = {name: [] for name in Poses.COLUMNS}
    for label_id, box, score in rows:
        values = (*KEY, label_id, np.zeros((KEYPOINTS, 3)), box, score, "face", box, 0.0)
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
    return Poses(**columns)


ONE_PERSON = labels((7, BOX, PERSON, 0.8, POSITIVE))


def test_a_sure_head_is_a_label_weighted_by_its_score() -> None:
    target = frame_targets(
        used("train"), labels((7, BOX, PERSON, 0.8, POSITIVE)), poses((7, HEAD_BOX, 0.75))
    )[0]
    assert target.labels.tolist() == [PERSON, HEAD]
    np.testing.assert_allclose(target.weights, [0.8, 0.6])
    np.testing.assert_array_equal(target.xyxy, np.stack([BOX, HEAD_BOX]))
    assert len(target.ignored) == 0


def test_an_unsure_head_is_ignored_with_its_surroundings() -> None:
    target = frame_targets(used("train"), ONE_PERSON, poses((7, HEAD_BOX, 0.3)))[0]
    assert target.labels.tolist() == [PERSON]
    assert target.ignored_labels.tolist() == [HEAD]
    np.testing.assert_allclose(target.ignored[0], HEAD_BOX + np.array([-6, -6, 6, 6]))
    np.testing.assert_allclose(target.ignored_scores, [0.3])


@pytest.mark.parametrize("table", [poses(), None])
def test_a_person_without_a_pose_hides_heads(table: Poses | None) -> None:
    target = frame_targets(used("train"), labels((7, BOX, PERSON, 0.8, POSITIVE)), table)[0]
    assert target.ignored_labels.tolist() == [HEAD]
    np.testing.assert_array_equal(target.ignored[0], BOX)


def test_a_doubtful_person_hides_everything_and_its_head_is_no_label() -> None:
    target = frame_targets(used("train"), labels((7, BOX, PERSON, 0.0, IGNORE)), poses((7, HEAD_BOX, 0.9)))[0]
    assert len(target.labels) == 0
    assert target.ignored_labels.tolist() == [ALL_CLASSES]


def test_a_person_of_weight_0_teaches_its_head_and_nothing_of_its_body() -> None:
    unsteady = replace(labels((7, BOX, PERSON, 0.8, POSITIVE)), weight=np.zeros(1, np.float32))
    target = frame_targets(used("train"), unsteady, poses((7, HEAD_BOX, 0.75)))[0]
    assert target.labels.tolist() == [HEAD]
    np.testing.assert_allclose(target.weights, [0.6])
    assert target.ignored_labels.tolist() == [ALL_CLASSES]
    np.testing.assert_array_equal(target.ignored[0], BOX)


def test_head_rows_of_the_labels_count_where_no_pose_has_that_head() -> None:
    away = HEAD_BOX + 60
    table = labels(
        (7, BOX, PERSON, 1.0, POSITIVE), (8, HEAD_BOX, HEAD, 1.0, POSITIVE), (9, away, HEAD, 0.5, POSITIVE),
        (10, away + 40, HEAD, 0.0, IGNORE),
    )  # fmt: skip
    target = frame_targets(used("train"), table, poses((7, HEAD_BOX, 1.0)))[0]
    assert target.labels.tolist() == [PERSON, HEAD, HEAD]
    np.testing.assert_array_equal(target.xyxy[2], away)
    assert target.ignored_labels.tolist() == [HEAD]


def test_splits_and_frames_without_labels() -> None:
    frames = used("train", "holdout", "train", "unused")
    train = frame_targets(frames, labels((7, BOX, PERSON, 0.8, POSITIVE)), poses())
    assert [target.index for target in train] == [3, 5]
    assert [len(target.labels) for target in train] == [1, 0]
    assert [t.index for t in frame_targets(frames, labels(), poses(), "holdout")] == [4]


def target(labels: list[int], ignored: list[int]) -> FrameTargets:
    return FrameTargets(
        *KEY[:3],
        np.repeat(BOX[None], len(labels), 0),
        np.array(labels, np.int64),
        np.linspace(0.1, 1, len(labels), dtype=np.float32),
        np.repeat(BOX[None], len(ignored), 0),
        np.array(ignored, np.int64),
        np.full(len(ignored), 0.25, np.float32),
    )


def test_samples_speak_the_models_channels_and_leave_other_classes_out() -> None:
    pictures = Pictures([np.zeros((50, 40, 3), np.uint8)], [(0.5, 0.25)])
    source = LabelledPictures(
        pictures,
        [target([PERSON, HEAD, FACE], [ALL_CLASSES, FACE, HEAD])],
        {PERSON: 4, HEAD: 0},
        np.array([0, 0]),
    )
    assert len(source) == 2
    assert source.sizes == [(40, 50)]
    sample = source[1]
    assert sample.labels.tolist() == [4, 0]
    assert sample.ignore_labels.tolist() == [ALL_CLASSES, 0]
    np.testing.assert_allclose(sample.xyxy[0], [5, 2.5, 25, 25])
    np.testing.assert_allclose(sample.weights, [0.1, 0.55])


def test_frames_are_read_once_at_the_size_of_training(tmp_path: Path) -> None:
    media = site.write_media(tmp_path).path
    keys = [(site.SESSION, "cam2", 4), (site.SESSION, "cam1", 0), (site.SESSION, "cam2", 1)]
    full = read_pictures(media, keys, 0, {})
    assert [picture.shape for picture in full.images] == [(160, 128, 3), (128, 160, 3), (160, 128, 3)]
    for picture, (_, camera, index) in zip(full.images, keys, strict=True):
        assert np.abs(picture.astype(int) - site.picture(camera, index)).mean() < 12
    small = read_pictures(media, keys, 64, {})
    assert small.images[0].shape == (80, 64, 3)
    np.testing.assert_allclose(small.boxes(0, BOX[None]), BOX[None] * 0.5)
    moved = {f"video/{site.SESSION}/{camera}": str(tmp_path / f"{camera}.mp4") for camera in site.CAMERAS}
    assert len(read_pictures(media, keys, 64, moved).images) == 3


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 12), elements=st.floats(0, 5, width=32)), st.integers(1, 60))
def test_sampling_follows_the_weights(weights: np.ndarray, length: int) -> None:
    order = sampling_order(weights, length)
    share = weights / weights.sum() if weights.sum() > 0 else np.full(len(weights), 1 / len(weights))
    counts = np.bincount(order, minlength=len(weights))
    assert counts.sum() == length
    assert (np.abs(counts - length * share) < 1 + 1e-3).all()


def test_tables_of_the_fixture_are_consistent(tmp_path: Path) -> None:
    folder = site.write_labels(tmp_path).path
    found = frame_targets(
        read_tables(FrameLabels, [folder]),
        read_tables(PseudoLabels, [folder]),
        read_tables(Poses, [site.write_poses(tmp_path).path]),
    )
    assert len(found) == 2 * (site.FRAMES - 1)
    assert all(t.labels.tolist() == [PERSON, HEAD] for t in found)
