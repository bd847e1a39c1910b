"""Online tracking: confirmed tracks of every frame, missed boxes filled, answers late by a bounded time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.sim.box_stream import box_stream
from orveil.stages.track_metrics import TrackBoxes, track_figures
from orveil.trackers.online import OnlineTracker

NOTHING = np.zeros((0, 4)), np.zeros(0)
BOX = np.array([[100.0, 100.0, 160.0, 260.0]])
SURE = np.array([0.9])


def run(stream, **options):
    """Answers by frame, and the time of the newest frame when each was given."""
    tracker = OnlineTracker(**options)
    answers, when = [], []
    for frame, time_s in enumerate(stream.time_s):
        at = stream.at(frame)
        got = tracker.update(time_s, stream.xyxy[at], stream.score[at])
        answers += got
        when += [time_s] * len(got)
    rest = tracker.flush()
    return answers + rest, when + [stream.time_s[-1]] * len(rest)


def judged(stream, answers):
    people, frames, _ = stream.truth.shape
    truth = TrackBoxes(
        np.repeat(np.arange(frames), people),
        np.tile(np.arange(people), frames),
        stream.truth.transpose(1, 0, 2).reshape(-1, 4),
    )
    frame = np.repeat(np.arange(frames), [len(a.track_id) for a in answers])
    ids, xyxy = (np.concatenate([getattr(a, name) for a in answers]) for name in ("track_id", "xyxy"))
    return track_figures(truth, TrackBoxes(frame, ids, xyxy))


@pytest.mark.parametrize("look_ahead_s", [0.0, 0.4])
def test_missed_boxes_are_filled_and_clutter_is_not_shown(look_ahead_s):
    stream = box_stream(20, 300, 3)
    answers, _ = run(stream, look_ahead_s=look_ahead_s)
    figures = judged(stream, answers)
    assert figures.idf1 > 0.98 and figures.mota > 0.985
    assert any((a.row < 0).any() for a in answers)


def test_looking_ahead_finds_more():
    stream = box_stream(12, 200, 6, missing=0.4)
    at_once, later = (judged(stream, run(stream, look_ahead_s=s)[0]) for s in (0.0, 0.5))
    assert later.fn < at_once.fn


@settings(max_examples=25, deadline=None)
@given(
    fps=st.sampled_from([5, 12, 30, 60]),
    look_ahead_s=st.floats(0.0, 1.0),
    drop=st.floats(0.0, 0.4),
    jitter=st.floats(0.0, 0.5),
    seed=st.integers(0, 1000),
)
def test_every_frame_is_answered_once_in_order_and_in_time(fps, look_ahead_s, drop, jitter, seed):
    rng = np.random.default_rng(seed)
    stream = box_stream(3, 3 * fps, seed, fps=fps)
    times = stream.time_s + jitter / fps * rng.random(len(stream.time_s))
    given_at = np.flatnonzero(rng.random(len(times)) >= drop)
    tracker, answers = OnlineTracker(look_ahead_s=look_ahead_s), []
    for frame in given_at:
        at = stream.at(frame)
        for answer in tracker.update(times[frame], stream.xyxy[at], stream.score[at]):
            assert times[frame] - answer.time_s >= look_ahead_s - 1e-6
            answers.append((answer, frame))
        late = [f for f in given_at if times[f] <= times[frame] - look_ahead_s - 1e-6]
        assert len(answers) >= len(late), "an answer is overdue"
    answers += [(answer, None) for answer in tracker.flush()]
    assert [a.time_s for a, _ in answers] == times[given_at].tolist()
    for (answer, _), frame in zip(answers, given_at, strict=True):
        assert len(set(answer.track_id.tolist())) == len(answer.track_id)
        assert (np.diff(answer.track_id) > 0).all()
        seen = answer.row[answer.row >= 0]
        assert len(set(seen.tolist())) == len(seen) and (seen < len(stream.xyxy[stream.at(frame)])).all()
        assert (answer.xyxy[:, 2:] > answer.xyxy[:, :2]).all()


def test_looking_ahead_changes_no_name():
    stream = box_stream(6, 120, 4)
    now, later = run(stream)[0], run(stream, look_ahead_s=0.3)[0]
    for one, other in zip(now, later, strict=True):
        assert set(one.track_id.tolist()) <= set(other.track_id.tolist())
        rows = dict(zip(other.track_id.tolist(), other.row.tolist(), strict=True))
        assert all(rows[i] == r for i, r in zip(one.track_id.tolist(), one.row.tolist(), strict=True))


def test_a_gap_is_closed_by_a_straight_line_and_the_first_box_is_shown_when_looking_ahead():
    tracker, answers = OnlineTracker(look_ahead_s=0.5), []
    for frame in range(30):
        shift = 100 * max(0, frame - 20) / 30
        seen = not 20 < frame < 26
        answers += tracker.update(
            frame / 30, BOX + shift if seen else NOTHING[0], SURE if seen else NOTHING[1]
        )
    answers += tracker.flush()
    assert [a.track_id.tolist() for a in answers] == [[0]] * 30
    filled = [float(a.xyxy[0, 0]) for a in answers[21:26]]
    np.testing.assert_allclose(filled, 100 + 100 * np.arange(1, 6) / 30, atol=4.5)
    np.testing.assert_allclose(np.diff(filled), filled[1] - filled[0])
    assert [a.row.tolist() for a in answers[20:27]] == [[0]] + [[-1]] * 5 + [[0]]


def test_a_lost_track_is_held_for_the_time_asked_for():
    tracker = OnlineTracker(hold_s=0.2)
    for frame in range(30):
        tracker.update(frame / 30, BOX, SURE)
    shown = [len(tracker.update(frame / 30, *NOTHING)[0].track_id) for frame in range(30, 45)]
    assert shown == [1] * 6 + [0] * 9


def test_instances_are_independent_and_repeats_equal():
    stream = box_stream(5, 60, 2)
    one, other = OnlineTracker(), OnlineTracker()
    for frame, time_s in enumerate(stream.time_s):
        at = stream.at(frame)
        (a,), (b,) = (t.update(time_s, stream.xyxy[at], stream.score[at]) for t in (one, other))
        np.testing.assert_array_equal(a.track_id, b.track_id)
        np.testing.assert_array_equal(a.xyxy, b.xyxy)
    one.reset()
    assert one.update(0.0, BOX, SURE)[0].track_id.tolist() == []
    assert one.update(0.1, BOX, SURE)[0].track_id.tolist() == [0]
