"""Evaluation figures: tiny cases by hand, properties, and parity with COCO's own code."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.stages.metrics import (
    Predicted,
    all_views_recall,
    average_precision,
    coco_ap,
    match,
    precision,
    recall,
    recall_at_precision,
)
from orveil.stages.truth import TruthBoxes, TruthFrames, moments


def truth_of(frame, xyxy, *, track=None, hard=None, ignore=None) -> TruthBoxes:
    n = len(frame)
    flags = [np.zeros(n, dtype=bool) if v is None else np.array(v, dtype=bool) for v in (hard, ignore)]
    return TruthBoxes(
        frame=np.array(frame, dtype=np.int64),
        xyxy=np.array(xyxy, dtype=np.float32).reshape(-1, 4),
        track_id=np.arange(n) if track is None else np.array(track, dtype=np.int64),
        is_hard=flags[0],
        ignore=flags[1],
        face_visible=np.ones(n, dtype=bool),
        masks=(None,) * n,
    )


def predicted_of(frame, xyxy, score, threshold=0.5) -> Predicted:
    scores = np.array(score, dtype=np.float64)
    boxes = np.array(xyxy, dtype=np.float32).reshape(-1, 4)
    return Predicted(np.array(frame, dtype=np.int64), boxes, scores, scores >= threshold)


A, B, C = (0, 0, 10, 20), (30, 0, 40, 20), (60, 0, 70, 20)


def test_each_box_is_found_once_and_doubles_are_false_alarms():
    truth = truth_of([0, 0], [A, B])
    result = match(truth, predicted_of([0, 0, 0], [A, A, C], [0.9, 0.8, 0.7]), 0.5)
    assert result.truth.tolist() == [0, -1, -1]
    assert recall(result) == 0.5
    assert precision(result) == pytest.approx(1 / 3)


def test_the_best_scored_prediction_chooses_first():
    shifted = (0, 0, 10, 18)
    result = match(truth_of([0], [A]), predicted_of([0, 0], [A, shifted], [0.6, 0.9]), 0.5)
    assert result.truth.tolist() == [0, -1]
    assert result.score.tolist() == [0.9, 0.6]


def test_predictions_on_other_frames_find_nothing():
    result = match(truth_of([0], [A]), predicted_of([1], [A], [0.9]), 0.5)
    assert recall(result) == 0.0
    assert precision(result) == 0.0


def test_predictions_under_the_operating_point_count_for_ap_only():
    result = match(truth_of([0], [A]), predicted_of([0], [A], [0.3]), 0.5)
    assert recall(result) == 0.0
    assert precision(result) is None
    assert average_precision(result) == pytest.approx(1.0)


def test_a_crowd_absorbs_predictions_and_is_not_to_be_found():
    crowd = (100, 0, 200, 100)
    inside = [(100, 0, 120, 40), (130, 0, 150, 40)]
    truth = truth_of([0, 0], [A, crowd], ignore=[False, True])
    result = match(truth, predicted_of([0, 0, 0], [A, *inside], [0.9, 0.8, 0.7]), 0.5)
    assert result.truth.tolist() == [0, -2, -2]
    assert (recall(result), precision(result)) == (1.0, 1.0)


def test_hard_recall_looks_at_hard_people_only():
    truth = truth_of([0, 0, 0], [A, B, C], hard=[False, True, True])
    result = match(truth, predicted_of([0, 0], [A, B], [0.9, 0.9]), 0.5)
    assert recall(result, truth.is_hard) == 0.5
    assert recall(result, np.zeros(3, dtype=bool)) is None


def test_empty_predictions_and_empty_truth():
    nothing = predicted_of([], [], [])
    result = match(truth_of([0], [A]), nothing, 0.5)
    assert (recall(result), precision(result)) == (0.0, None)
    assert (average_precision(result), recall_at_precision(result)) == (0.0, 0.0)
    empty = truth_of([], [])
    result = match(empty, predicted_of([0], [A], [0.9]), 0.5)
    assert (recall(result), precision(result), average_precision(result)) == (None, 0.0, None)
    assert (recall_at_precision(result), coco_ap(empty, nothing)) == (None, None)


def test_recall_at_precision_takes_the_best_threshold_and_whole_ties():
    truth = truth_of(range(10), [A] * 10)
    # Eight right at .9, then right and wrong in one tie at .5: with the tie 9 of 12 are right.
    boxes = [A] * 8 + [A, B, B, B]
    frames = [*range(8), 8, 8, 9, 9]
    result = match(truth, predicted_of(frames, boxes, [0.9] * 8 + [0.5] * 4), 0.5)
    assert recall_at_precision(result) == pytest.approx(0.8)
    assert recall_at_precision(result, 0.75) == pytest.approx(0.9)
    assert recall_at_precision(match(truth, predicted_of([0], [B], [0.9]), 0.5)) == 0.0


def frames_of(camera, time) -> TruthFrames:
    n = len(camera)
    cameras = np.array(camera, dtype=np.str_)
    session = np.array(["main"] * n, dtype=np.str_)
    times = np.array(time, dtype=np.float64)
    index = np.arange(n)
    size = np.tile([640, 360], (n, 1))
    return TruthFrames(session, cameras, index, times, moments(session, cameras, times), size)


def test_all_views_recall_wants_every_view_that_shows_the_person():
    # Two cameras, two moments, the second camera runs 20 ms late.
    frames = frames_of(["a", "a", "b", "b"], [0.0, 0.1, 0.02, 0.12])
    assert frames.moment.tolist() == [0, 1, 0, 1]
    truth = truth_of([0, 2, 1, 3, 3], [A, A, A, A, B], track=[1, 1, 1, 1, 2])
    found = np.array([True, True, True, False, True])
    # Person 1 at moment 0: both; at moment 1: one of two; person 2 at moment 1: its only view.
    assert all_views_recall(frames, truth, found) == pytest.approx(2 / 3)
    assert all_views_recall(frames, truth_of([], []), np.zeros(0, dtype=bool)) is None


def test_moments_take_the_nearest_frame_and_leave_out_what_is_too_far():
    # Camera b runs at half the rate; camera c has a gap.
    camera = ["a"] * 5 + ["b"] * 3 + ["c"] * 2
    time = [0.0, 0.1, 0.2, 0.3, 0.4, 0.01, 0.21, 0.41, 0.02, 0.95]
    moment = frames_of(camera, time).moment.tolist()
    assert moment[:5] == [0, 1, 2, 3, 4]
    assert moment[5:8] == [0, 2, 4]
    assert moment[8:] == [0, -1]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_more_predictions_never_lower_recall_and_figures_stay_in_range(data):
    frames = data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    n, m = data.draw(st.integers(0, 12)), data.draw(st.integers(0, 20))
    truth = truth_of(rng.integers(0, frames, n), _random_boxes(rng, n))
    predicted = predicted_of(rng.integers(0, frames, m), _random_boxes(rng, m), rng.random(m))
    result = match(truth, predicted, 0.5)
    for value in (recall(result), precision(result), average_precision(result), recall_at_precision(result)):
        assert value is None or 0 <= value <= 1
    matched = result.truth[result.truth >= 0]
    assert len(set(matched.tolist())) == len(matched)
    lower = Predicted(predicted.frame, predicted.xyxy, predicted.score, predicted.score >= 0.2)
    assert (recall(match(truth, lower, 0.5)) or 0) >= (recall(result) or 0)


def _random_boxes(rng, n):
    low = rng.uniform(0, 60, (n, 2))
    return np.concatenate([low, low + rng.uniform(10, 40, (n, 2))], axis=1)


@pytest.mark.parametrize("seed", range(4))
def test_parity_with_coco(seed):
    coco_api, coco_eval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(seed)
    frames, n, m = 30, 150, 400
    base = np.round(_random_boxes(rng, n), 1).astype(np.float32)
    truth = truth_of(rng.integers(0, frames, n), base, ignore=rng.random(n) < 0.1)
    near = rng.integers(0, n, m)
    boxes = np.round(base[near] + rng.normal(0, 4, (m, 4)), 1)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    predicted = predicted_of(truth.frame[near], boxes, np.round(rng.random(m), 2))

    with contextlib.redirect_stdout(io.StringIO()):
        ours = coco_api.COCO()
        ours.dataset = _as_coco(truth, frames)
        ours.createIndex()
        results = ours.loadRes([
            {"image_id": int(f) + 1, "category_id": 1, "bbox": _xywh(b), "score": float(s)}
            for f, b, s in zip(predicted.frame, predicted.xyxy, predicted.score, strict=True)
        ])  # fmt: skip
        evaluation = coco_eval.COCOeval(ours, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert average_precision(match(truth, predicted, 0.5)) == pytest.approx(evaluation.stats[1], abs=1e-9)
    assert coco_ap(truth, predicted) == pytest.approx(evaluation.stats[0], abs=1e-9)


def _xywh(box):
    x0, y0, x1, y1 = (float(v) for v in box)
    return [x0, y0, x1 - x0, y1 - y0]


def _as_coco(truth, frames):
    return {
        "images": [{"id": i + 1, "width": 200, "height": 200} for i in range(frames)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": row + 1,
                "image_id": int(truth.frame[row]) + 1,
                "category_id": 1,
                "bbox": _xywh(truth.xyxy[row]),
                "area": float(np.prod(truth.xyxy[row, 2:] - truth.xyxy[row, :2])),
                "iscrowd": int(truth.ignore[row]),
            }
            for row in range(len(truth))
        ],
    }
