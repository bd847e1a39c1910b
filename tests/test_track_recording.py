"""Kalman filter, assignment, causal tracker and whole-recording tracking."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orveil.trackers.assignment import assign
from orveil.trackers.base import TrackerSettings
from orveil.trackers.bytetrack import ByteTrack
from orveil.trackers.kalman import Motion, begin, centre_size, corners, predict, update
from orveil.trackers.tracklets import track_recording

BOX = np.array([[100.0, 100.0, 160.0, 260.0]])


def walker(times, x0, y0, vx, vy=0.0, w=60.0, h=160.0):
    x, y = x0 + vx * times, y0 + vy * times
    return np.stack([x, y, x + w, y + h], axis=1)


def flat(paths, present=None):
    """Boxes of several paths (P, F, 4), frame by frame."""
    count, frames = len(paths), len(paths[0])
    seen = np.ones((count, frames), bool) if present is None else present
    frame = np.array([f for f in range(frames) for p in range(count) if seen[p, f]])
    person = np.array([p for f in range(frames) for p in range(count) if seen[p, f]])
    xyxy = np.array([paths[p][f] for f, p in zip(frame, person, strict=True)])
    return frame, person, xyxy


def identities(ids, person):
    return [set(ids[person == p].tolist()) for p in np.unique(person)]


@given(dt=st.floats(0.0, 2.0), parts=st.integers(1, 5))
def test_prediction_in_one_step_equals_many_small_ones(dt, parts):
    motion = Motion(agility=0.0)
    state = update(begin(BOX, motion), BOX + 3.0, np.array([0.9]), motion)
    whole, steps = predict(state, dt, motion), state
    for _ in range(parts):
        steps = predict(steps, dt / parts, motion)
    np.testing.assert_allclose(whole.value, steps.value, rtol=1e-9)
    np.testing.assert_allclose(whole.p00, steps.p00, rtol=1e-9)


@given(
    score=st.floats(0.0, 1.0),
    dts=st.lists(st.floats(0.005, 1.0), min_size=1, max_size=20),
    shift=st.floats(-30.0, 30.0),
)
def test_covariance_stays_positive_and_update_moves_towards_the_box(score, dts, shift):
    motion = Motion()
    state = begin(BOX, motion)
    for dt in dts:
        before = predict(state, dt, motion)
        state = update(before, BOX + shift, np.array([score]), motion)
        assert (state.p00 > 0).all() and (state.p11 > 0).all()
        assert (state.p00 * state.p11 >= state.p01**2 * (1 - 1e-9)).all()
        assert (state.p00 <= before.p00).all()
        target = centre_size(BOX + shift)
        assert (np.abs(state.value - target) <= np.abs(before.value - target) + 1e-9).all()


def test_doubtful_boxes_count_less():
    motion = Motion()
    state = predict(begin(BOX, motion), 0.2, motion)
    sure, doubtful = (update(state, BOX + 20.0, np.array([s]), motion).value[0, 0] for s in (0.95, 0.15))
    assert state.value[0, 0] < doubtful < sure < 150.0


@given(arrays(np.float64, (5, 4), elements=st.floats(1, 500)))
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
    one, other = ByteTrack(), ByteTrack()
    first = one.update(0.0, boxes, np.array([0.9, 0.8, 0.7]))
    other.update(0.0, boxes, np.array([0.9, 0.8, 0.7]))
    again = one.update(0.1, boxes[::-1], np.array([0.7, 0.8, 0.9]))
    assert first.tolist() == [0, 1, 2] and again.tolist() == [2, 1, 0]
    assert other.update(0.1, boxes, np.array([0.9, 0.8, 0.7])).tolist() == [0, 1, 2]
    one.reset()
    assert one.update(0.0, BOX, np.array([0.9])).tolist() == [0]


def test_low_boxes_continue_a_track_and_boxes_below_the_floor_are_left_alone():
    tracker = ByteTrack()
    assert tracker.update(0.0, BOX, np.array([0.9])).tolist() == [0]
    assert tracker.update(0.1, BOX + 2.0, np.array([0.15])).tolist() == [0]
    assert tracker.update(0.2, BOX + 4.0, np.array([0.05])).tolist() == [-1]
    assert tracker.update(0.3, np.zeros((0, 4)), np.zeros(0)).tolist() == []
    assert tracker.update(0.4, BOX + 6.0, np.array([0.6])).tolist() == [0]


def test_time_must_increase():
    tracker = ByteTrack()
    tracker.update(1.0, BOX, np.array([0.9]))
    with pytest.raises(ValueError, match="increasing time"):
        tracker.update(1.0, BOX, np.array([0.9]))


@pytest.mark.parametrize("fps", [5, 12, 25, 60])
def test_two_people_crossing_keep_their_identity_at_any_frame_rate(fps):
    times = np.arange(0, 4, 1 / fps)
    paths = [walker(times, 50, 100, 110), walker(times, 500, 130, -110)]
    frame, person, xyxy = flat(paths)
    noise = np.random.default_rng(0).normal(0, 1.0, xyxy.shape)
    result = track_recording(times, frame, xyxy + noise, np.full(len(frame), 0.8))
    left, right = identities(result.track_id, person)
    assert len(left) == len(right) == 1 and left != right


def test_uneven_times_and_dropped_frames():
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.uniform(0.02, 0.2, 80))
    paths = [walker(times, 50, 100, 60), walker(times, 50, 400, 40)]
    seen = rng.random((2, 80)) > 0.25
    frame, person, xyxy = flat(paths, seen)
    result = track_recording(times, frame, xyxy, rng.uniform(0.2, 0.9, len(frame)))
    one, other = identities(result.track_id, person)
    assert len(one) == len(other) == 1 and one != other


def test_gaps_are_filled_up_to_the_limit_and_close_to_the_truth():
    times = np.arange(0, 6, 0.1)
    path = walker(times, 50, 100, 70)
    seen = np.ones((1, 60), bool)
    seen[0, 10:17] = False
    seen[0, 30:50] = False
    frame, _, xyxy = flat([path], seen)
    result = track_recording(times, frame, xyxy, np.full(len(frame), 0.9))
    filled = set(result.fill.frame.tolist())
    assert set(range(10, 17)) <= filled and not filled & set(range(31, 49))
    np.testing.assert_allclose(result.fill.xyxy, path[result.fill.frame], atol=4.0)
    np.testing.assert_allclose(result.fill.gap_s, 0.8, atol=1e-9)


def test_every_box_is_in_exactly_one_track_whatever_its_score():
    rng = np.random.default_rng(2)
    frame = np.sort(rng.integers(0, 30, 300))
    corner = rng.uniform(0, 600, (300, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(20, 150, (300, 2))], axis=1)
    result = track_recording(np.arange(30) / 10, frame, xyxy, rng.uniform(0.0, 1.0, 300))
    assert (result.track_id >= 0).all()
    pairs = set(zip(result.track_id.tolist(), frame.tolist(), strict=True))
    assert len(pairs) == 300, "a track has two boxes in one frame"


def test_order_of_rows_does_not_matter_and_repeats_are_equal():
    times = np.arange(0, 3, 0.1)
    frame, _, xyxy = flat([walker(times, 50, 100, 60), walker(times, 300, 120, 20)])
    score = np.random.default_rng(3).uniform(0.2, 0.9, len(frame))
    base = track_recording(times, frame, xyxy, score)
    again = track_recording(times, frame, xyxy, score)
    np.testing.assert_array_equal(base.track_id, again.track_id)
    mixed = np.random.default_rng(4).permutation(len(frame))
    shuffled = track_recording(times, frame[mixed], xyxy[mixed], score[mixed])
    same = base.track_id[mixed][:, None] == base.track_id[mixed][None, :]
    np.testing.assert_array_equal(same, shuffled.track_id[:, None] == shuffled.track_id[None, :])


@pytest.mark.parametrize("frames", [0, 1, 5])
def test_nobody_and_single_frames(frames):
    times = np.arange(frames) / 10
    empty = track_recording(times, np.zeros(0, int), np.zeros((0, 4)), np.zeros(0))
    assert len(empty.track_id) == 0 and len(empty.fill.frame) == 0
    if frames:
        one = track_recording(times, np.zeros(1, int), BOX, np.array([0.4]))
        assert one.track_id.tolist() == [0] and len(one.fill.frame) == 0


def test_a_person_who_scores_low_for_a_while_stays_one_track():
    times = np.arange(0, 4, 0.1)
    path = walker(times, 50, 100, 30)
    score = np.where((times > 1) & (times < 3), 0.15, 0.8)
    frame, _, xyxy = flat([path])
    result = track_recording(times, frame, xyxy, score, TrackerSettings())
    assert set(result.track_id.tolist()) == {0}
