"""Export: operating points from detections and labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.stages.bundle_check import compare, refusal
from orveil.stages.operating_point import Hits, choose, count_hits
from orveil.stages.runtime import Boxes

EMPTY = np.zeros((0, 4), np.float32)


def box(*numbers: float) -> np.ndarray:
    return np.array([[x, 0, x + 10, 10] for x in numbers], np.float32).reshape(-1, 4)


def hits(pairs: list[tuple[float, bool]], labels: int) -> Hits:
    found = np.array([h for _, h in pairs], dtype=bool)
    return Hits(np.array([s for s, _ in pairs]), found, found.astype(float), labels)


def test_matching_counts_each_label_once_and_doubtful_places_by_their_probability() -> None:
    detections = box(0, 1, 50, 100)
    scores = np.array([0.6, 0.9, 0.5, 0.4])
    found = count_hits([(detections, scores, box(0), box(48, 54), np.array([0.25, 0.2]))], 0.5)
    assert found.labels == 1
    rows = zip(found.score.tolist(), found.hit.tolist(), found.worth.tolist(), strict=True)
    assert sorted(rows) == [(0.4, False, 0.0), (0.5, False, 0.25), (0.6, False, 0.0), (0.9, True, 1.0)]
    assert found.precision(0.5) == pytest.approx(1.25 / 3)
    assert found.recall(0.5) == 1.0


def test_threshold_goes_down_as_long_as_boxes_pay() -> None:
    pairs = [(0.9, True), (0.8, True), (0.3, False), (0.25, False), (0.2, False), (0.1, True)]
    assert choose(hits(pairs, 3), 0.05, 9.0).threshold == pytest.approx(0.1, abs=1e-4)
    assert choose(hits(pairs, 3), 0.05, 2.0).threshold == pytest.approx(0.8, abs=1e-4)
    point = choose(hits([(0.9, True), (0.7, True), (0.2, True), (0.1, False)], 4), 0.05, 9.0)
    assert (point.threshold, point.recall, point.precision) == (pytest.approx(0.2, abs=1e-4), 0.75, 1.0)


def test_doubtful_places_pay_by_their_probability() -> None:
    score, hit = np.array([0.9, 0.3]), np.array([True, False])
    for worth, threshold in ((0.3, 0.3), (0.05, 0.9)):
        found = Hits(score, hit, np.array([1.0, worth]), 1)
        assert choose(found, 0.05, 9.0).threshold == pytest.approx(threshold, abs=1e-4)


def test_nothing_to_choose_by() -> None:
    assert choose(hits([], 0), 0.05, 9.0).threshold == 0.3
    assert choose(hits([(0.4, False)], 2), 0.5, 9.0).threshold == 0.5


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.05, 1), st.booleans()), max_size=30),
    st.integers(0, 5),
    st.floats(0.1, 50),
)
def test_no_threshold_costs_less_than_the_chosen_one(
    pairs: list[tuple[float, bool]], missed: int, miss_cost: float
) -> None:
    found = hits(pairs, sum(hit for _, hit in pairs) + missed)
    point = choose(found, 0.05, miss_cost)

    def cost(threshold: float) -> float:
        shown = found.score >= threshold
        return float(miss_cost * (~shown & found.hit).sum() + (shown & ~found.hit).sum())

    if found.hit.any():
        best = found.score[found.hit].max()
        assert cost(point.threshold) <= min(cost(s) for s in found.score.tolist() if s <= best) + 1e-6
        assert point.recall > 0
    assert 0 <= point.threshold <= 1


def one(xyxy: np.ndarray, score: list[float]) -> Boxes:
    return Boxes(xyxy, np.array(score, np.float32), np.zeros(len(score), np.int64))


def test_compare_sees_shifts_scores_and_missing_boxes() -> None:
    reference = [one(box(0, 50), [0.9, 0.5])]
    assert compare(reference, reference, 0.05, 1e-3) == {
        "boxes": 2, "unpaired": 0, "max_box_error_px": 0.0, "max_score_error": 0.0,
    }  # fmt: skip
    moved = compare(reference, [one(box(0.2, 50), [0.9, 0.4])], 0.05, 1e-3)
    assert moved["max_box_error_px"] == pytest.approx(0.2, abs=1e-5)
    assert moved["max_score_error"] == pytest.approx(0.1, abs=1e-5)
    assert "px" in refusal(moved, 0.1, 1.0)
    assert "scores" in refusal(moved, 1.0, 1e-3)
    lost = compare(reference, [one(box(0), [0.9])], 0.05, 1e-3)
    assert "no counterpart" in refusal(lost, 1.0, 1.0)
    faint = compare([one(box(0), [0.0505])], [one(EMPTY, [])], 0.05, 1e-3)
    assert refusal(faint, 0.1, 1e-3) == ""
    assert refusal({**faint, "max_box_error_px": float("nan")}, 0.1, 1e-3)


def test_a_doubtful_place_counts_for_one_detection_the_best_on_it() -> None:
    scores = np.array([0.4, 0.9, 0.3])
    found = count_hits([(box(50, 49, 51), scores, box(), box(48), np.array([0.25]))], 0.5)
    worth = dict(zip(found.score.tolist(), found.worth.tolist(), strict=True))
    assert worth == {0.9: 0.25, 0.4: 0.0, 0.3: 0.0}
