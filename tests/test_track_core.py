"""Kalman filter, assignment and the causal core."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orveil.trackers.assignment import assign
from orveil.trackers.causal import CausalTracker
from orveil.trackers.kalman import Motion, begin, centre_size, corners, predict, update

BOX = np.array([[100.0, 100.0, 160.0, 260.0]])


def runner(time_s):
    return BOX + np.array([240.0, 0.0, 240.0, 0.0]) * time_s


@given(dt=st.floats(0.001, 2.0), parts=st.integers(1, 5))
def test_prediction_in_one_step_equals_many_small_ones(dt, parts):
    motion = Motion()
    whole = begin(centre_size(BOX), motion)
    update(whole, centre_size(BOX + 3.0), np.array([0.9]), motion)
    steps = whole.copy()
    predict(whole, dt, motion)
    for _ in range(parts):
        predict(steps, dt / parts, motion)
    np.testing.assert_allclose(whole, steps, rtol=1e-9, atol=1e-12)


@given(
    score=st.floats(0.0, 1.0),
    dts=st.lists(st.floats(0.005, 1.0), min_size=1, max_size=20),
    shift=st.floats(-30.0, 30.0),
)
def test_covariance_stays_positive_and_update_moves_towards_the_box(score, dts, shift):
    motion = Motion()
    state, target = begin(centre_size(BOX), motion), centre_size(BOX + shift)
    for dt in dts:
        predict(state, dt, motion)
        before = state.copy()
        update(state, target, np.array([score]), motion)
        p00, p01, p11 = state[8:11, 0]
        assert p00 > 0 and p11 > 0 and p00 * p11 >= p01**2 * (1 - 1e-9)
        assert p00 <= before[8, 0] and p11 <= before[10, 0]
        assert (np.abs(state[:4] - target) <= np.abs(before[:4] - target) + 1e-9).all()


def test_doubtful_boxes_count_less():
    motion = Motion()
    moved = []
    for score in (0.95, 0.15):
        state = begin(centre_size(BOX), motion)
        predict(state, 0.2, motion)
        start = state[0, 0]
        update(state, centre_size(BOX + 20.0), np.array([score]), motion)
        moved.append(state[0, 0] - start)
    assert 0 < moved[1] < moved[0] < 20.0


@given(arrays(np.float64, (4, 5), elements=st.floats(1, 500)))
def test_centre_and_size_invert_corners(value):
    np.testing.assert_allclose(centre_size(corners(value)), value, atol=1e-9)


@settings(max_examples=60)
@given(
    arrays(np.float64, st.tuples(st.integers(0, 4), st.integers(0, 4)), elements=st.floats(0, 1)),
    st.floats(0.1, 1.0),
)
def test_assignment_is_optimal(cost, limit):
    rows, columns = assign(cost, limit)
    assert len(set(columns.tolist())) == len(columns) and (np.diff(rows) > 0).all()
    assert (cost[rows, columns] < limit).all()
    found = (cost[rows, columns] - limit).sum()
    n, m = cost.shape
    size = max(n, m)
    gain = np.zeros((size, size))
    gain[:n, :m] = np.minimum(cost - limit, 0.0)
    best = min(sum(gain[i, p[i]] for i in range(size)) for p in permutations(range(size)))
    assert found == pytest.approx(best, abs=1e-9)


def test_tracker_keeps_input_order_and_instances_are_independent():
    boxes = np.concatenate([BOX, BOX + 300.0, BOX + 600.0])
    one, other = CausalTracker(), CausalTracker()
    first = one.update(0.0, boxes, np.array([0.9, 0.8, 0.7]))
    other.update(0.0, boxes, np.array([0.9, 0.8, 0.7]))
    again = one.update(0.1, boxes[::-1], np.array([0.7, 0.8, 0.9]))
    assert first.tolist() == [0, 1, 2] and again.tolist() == [2, 1, 0]
    assert other.update(0.1, boxes, np.array([0.9, 0.8, 0.7])).tolist() == [0, 1, 2]
    one.reset()
    assert one.update(0.0, BOX, np.array([0.9])).tolist() == [0]


def test_low_boxes_continue_a_track_and_boxes_below_the_floor_are_left_alone():
    tracker = CausalTracker()
    assert tracker.update(0.0, BOX, np.array([0.9])).tolist() == [0]
    assert tracker.update(0.1, BOX + 2.0, np.array([0.15])).tolist() == [0]
    assert tracker.update(0.2, BOX + 4.0, np.array([0.05])).tolist() == [-1]
    assert tracker.update(0.3, np.zeros((0, 4)), np.zeros(0)).tolist() == []
    assert tracker.update(0.4, BOX + 6.0, np.array([0.6])).tolist() == [0]


def test_time_must_increase():
    tracker = CausalTracker()
    tracker.update(1.0, BOX, np.array([0.9]))
    with pytest.raises(ValueError, match="increasing time"):
        tracker.update(1.0, BOX, np.array([0.9]))


@pytest.mark.parametrize("fps", [5, 12, 25, 60])
def test_a_runner_is_followed_at_any_frame_rate(fps):
    tracker = CausalTracker()
    ids = [tracker.update(k / fps, runner(k / fps), np.array([0.9]))[0] for k in range(2 * fps)]
    assert len(set(ids[fps:])) == 1, "four times its width in a second"


def test_a_track_of_one_box_ends_soon_and_a_long_one_lives_its_whole_gap():
    tracker = CausalTracker()
    for k in range(20):
        tracker.update(k / 30, BOX, np.array([0.9]))
    assert tracker.update(19 / 30 + 0.95, BOX, np.array([0.9])).tolist() == [0]
    other = CausalTracker()
    other.update(0.0, BOX, np.array([0.9]))
    for k in range(1, 10):
        other.update(k / 30, np.zeros((0, 4)), np.zeros(0))
    assert other.update(10 / 30, BOX, np.array([0.9])).tolist() == [1]


def test_a_confident_neighbour_does_not_take_the_track_of_a_doubtful_box():
    tracker = CausalTracker()
    for k in range(10):
        tracker.update(k / 30, BOX, np.array([0.9]))
    both = np.concatenate([BOX + np.array([0, 60, 0, 60]), BOX])
    assert tracker.update(10 / 30, both, np.array([0.9, 0.3]))[1] == 0


def test_a_refused_time_leaves_the_tracker_as_it_was():
    tracker = CausalTracker()
    tracker.update(0.0, BOX, np.array([0.9]))
    with pytest.raises(ValueError, match="increasing time"):
        tracker.update(0.0, BOX, np.array([0.9]))
    assert tracker.update(0.1, BOX, np.array([0.9])).tolist() == [0]


def test_any_number_of_people_fits():
    tracker = CausalTracker()
    corner = np.stack(np.meshgrid(np.arange(20) * 50.0, np.arange(20) * 50.0), axis=2).reshape(-1, 2)
    boxes = np.concatenate([corner, corner + 30], axis=1)
    first = tracker.update(0.0, boxes, np.full(400, 0.9))
    np.testing.assert_array_equal(first, np.arange(400))
    np.testing.assert_array_equal(
        tracker.update(0.1, boxes[::-1] + 1, np.full(400, 0.9)), np.arange(400)[::-1]
    )
