"""Tests: labelled pictures on disk become samples; figures of models that are known to be right or wrong."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the OpenMMLab packages (scripts/setup)")

from orveil.pipeline.errors import OrveilError
from orveil.stages.mm_coco import CocoDetections, CocoPoses
from orveil.stages.mm_scratch import DETECTOR, POSE, Plan, record_digest
from orveil.stages.mm_scratch_card import write_card
from orveil.stages.mm_scratch_eval import average_precision


def annotation(number: int, category: int, bbox: list[float], **more: object) -> dict[str, object]:
    return {"id": number, "image_id": 1, "category_id": category, "bbox": bbox, "is_hard": False, **more}


def keypoints(count: int, visibility: int) -> list[float]:
    return [value for i in range(count) for value in (10.0 + i, 20.0, visibility)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.full((60, 100, 3), 90, np.uint8))
    images = [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 60}]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(("person", "head", "face"))]
    rows = [
        annotation(1, 1, [10, 5, 30, 50], visible_fraction=0.9),
        annotation(2, 2, [15, 5, 10, 12], visible_fraction=1.0, is_hard=True),
        annotation(3, 3, [16, 8, 6, 6]),
        annotation(4, 1, [60, 5, 20, 50], visible_fraction=0.05),
        annotation(5, 2, [70, 5, 3, 3], visible_fraction=1.0),
    ]
    person = {
        **rows[0],
        "keypoints": keypoints(17, 2),
        "foot_kpts": keypoints(6, 1),
        "face_kpts": keypoints(68, 0),
        "lefthand_kpts": keypoints(21, 2),
        "righthand_kpts": keypoints(21, 1),
    }
    hidden = {**person, "id": 2, "visible_fraction": 0.1}
    low = {**person, "id": 3, "bbox": [10, 5, 30, 20]}
    truth = {"images": images, "categories": categories}
    (tmp_path / "ann.json").write_text(json.dumps({**truth, "annotations": rows}))
    (tmp_path / "pose.json").write_text(json.dumps({**truth, "annotations": [person, hidden, low]}))
    return tmp_path


def test_what_is_barely_in_sight_is_ignored_and_not_background(folder: Path):
    sample = CocoDetections(folder, ("person", "head"))[0]
    assert sample.xyxy.tolist() == [[10, 5, 40, 55], [15, 5, 25, 17]]
    assert sample.labels.tolist() == [0, 1]
    assert sample.ignore.tolist() == [[60, 5, 80, 55], [70, 5, 73, 8]]
    assert sample.ignore_labels.tolist() == [0, 1]
    easy = CocoDetections(folder, ("person", "head"), skip_hard=True)[0]
    assert easy.labels.tolist() == [0]
    assert [15, 5, 25, 17] in easy.ignore.tolist()


def test_classes_choose_the_labels(folder: Path):
    assert CocoDetections(folder, ("person",))[0].labels.tolist() == [0]
    assert CocoDetections(folder, ("head", "person"))[0].labels.tolist() == [1, 0]


def test_a_person_becomes_a_pose_sample(folder: Path):
    source = CocoPoses(folder)
    assert len(source) == 1
    sample = source[0]
    assert sample.keypoints.shape == (133, 2)
    assert sample.keypoints[16].tolist() == [26, 20]
    levels = [sample.levels[i] for i in (0, 17, 23, 91, 112)]
    assert levels == pytest.approx([1.0, 0.3, 0.0, 1.0, 0.3])
    assert sample.weights[0] == 1
    assert sample.weights[23] == pytest.approx(0.1)


def test_parts_of_the_body_can_weigh_differently(folder: Path):
    sample = CocoPoses(folder, (3.0, 2.0, 1.0, 0.5, 0.25))[0]
    weights = [float(sample.weights[i]) for i in (0, 17, 23, 91, 112)]
    assert weights == pytest.approx([3.0, 2.0, 0.1, 0.5, 0.25])


def test_missing_files_are_named(folder: Path):
    (folder / "a.jpg").unlink()
    with pytest.raises(OrveilError) as caught:
        CocoDetections(folder, ("person",))[0]
    assert caught.value.where == str(folder / "a.jpg")
    with pytest.raises(OrveilError, match="annotations"):
        CocoPoses(folder / "nowhere")


def row(bbox: list[float], category: int = 1, crowd: int = 0, **more: float) -> dict[str, object]:
    area = bbox[2] * bbox[3]
    return {"image_id": 1, "category_id": category, "bbox": bbox, "area": area, "iscrowd": crowd, **more}


def test_average_precision_of_answers_that_are_known():
    truth = [row([10, 10, 40, 80]), row([60, 10, 30, 80], crowd=1), row([12, 12, 10, 10], 2)]
    right = [row([10, 10, 40, 80], score=0.9), row([12, 12, 10, 10], 2, score=0.2)]
    perfect = average_precision([(100, 100)], truth, right, ("person", "head"))
    assert perfect["person_ap50"] == perfect["person_ap"] == perfect["head_ap50"] == 1
    assert perfect["person_recall30"] == 1
    assert perfect["head_recall30"] == 0
    # A box on an ignored place costs nothing; a box on background with the best score halves precision.
    ignored = [*right, row([60, 10, 30, 80], score=0.95)]
    assert average_precision([(100, 100)], truth, ignored, ("person", "head"))["person_ap50"] == 1
    wrong = [*right, row([0, 90, 9, 9], score=0.95)]
    assert average_precision([(100, 100)], truth, wrong, ("person", "head"))["person_ap50"] == 0.5
    nothing = average_precision([(100, 100)], truth, [], ("person", "head"))
    assert set(nothing.values()) == {0.0}


def test_a_longer_plan_stretches_the_schedule_only():
    plan = Plan(Path("work"), long=2.5, threads=3)
    options = plan.options(DETECTOR)
    assert options.iterations == 2.5 * DETECTOR.iterations
    assert options.threads == 3
    assert options.learning_rate == DETECTOR.learning_rate
    assert plan.options(POSE).seed == POSE.seed


def test_the_card_and_the_registry_hold_what_was_measured(tmp_path: Path):
    card, registry = tmp_path / "MODEL_CARD.md", tmp_path / "models.toml"
    figures = {"detector": {"person_ap50": 0.8765}, "pose": {"body_pck": 0.4321}}
    write_card(card, Plan(tmp_path), figures, {"detector": "d" * 64, "pose": "e" * 64})
    text = card.read_text()
    for part in ("0.8765", "0.4321", "d" * 64, "e" * 64, str(DETECTOR.iterations), "Apache-2.0"):
        assert part in text
    registry.write_text(
        '[embedded-detector]\nsha256 = "old"\n[other]\nsha256 = "keep"\n'.replace("old", "0" * 64)
    )
    record_digest(registry, "embedded-detector", "d" * 64)
    assert registry.read_text() == f'[embedded-detector]\nsha256 = "{"d" * 64}"\n[other]\nsha256 = "keep"\n'
