"""Tracks of whole recordings: both directions, linked, gaps filled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.sim.box_stream import box_stream
from orveil.stages.track_metrics import TrackBoxes, track_figures
from orveil.trackers.base import TrackerSettings
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


@settings(max_examples=15, deadline=None)
@given(
    fps=st.sampled_from([5, 10, 25, 60]),
    seed=st.integers(0, 1000),
    drop=st.floats(0.0, 0.3),
    jitter=st.floats(0.0, 0.4),
)
def test_any_frame_rate_uneven_times_and_dropped_frames(fps, seed, drop, jitter):
    rng = np.random.default_rng(seed)
    frames = int(4 * fps)
    stream = box_stream(1, frames, seed, fps=fps, pace=0.4, clutter=0.0)
    kept = rng.random(frames) >= drop
    kept[0] = True
    # Recorded late by a share of the interval: times stay in order.
    times = (stream.time_s + jitter / fps * rng.random(frames))[kept]
    rows = kept[stream.frame]
    frame = (np.cumsum(kept) - 1)[stream.frame[rows]]
    result = track_recording(times, frame, stream.xyxy[rows], stream.score[rows])
    counts = np.bincount(result.track_id)
    assert counts.max() >= 0.9 * len(frame), "a lone person falls apart"
    pairs = (
        np.concatenate([result.track_id, result.fill.track_id]),
        np.concatenate([frame, result.fill.frame]),
    )
    assert len(set(zip(*map(np.ndarray.tolist, pairs), strict=True))) == len(pairs[0])


def test_a_crowd_keeps_its_names_and_missed_boxes_are_filled():
    stream = box_stream(20, 200, 8)
    result = track_recording(stream.time_s, stream.frame, stream.xyxy, stream.score)
    ids = np.concatenate([result.track_id, result.fill.track_id])
    frame = np.concatenate([stream.frame, result.fill.frame])
    xyxy = np.concatenate([stream.xyxy, result.fill.xyxy])
    shown = np.bincount(result.track_id)[ids] > 10
    truth = TrackBoxes(
        np.repeat(np.arange(200), 20),
        np.tile(np.arange(20), 200),
        stream.truth.transpose(1, 0, 2).reshape(-1, 4),
    )
    figures = track_figures(truth, TrackBoxes(frame[shown], ids[shown], xyxy[shown]))
    assert figures.idf1 > 0.95 and figures.mota > 0.97


def test_clutter_is_not_strung_together():
    rng = np.random.default_rng(3)
    frame = np.arange(0, 300, 5)
    corner = rng.uniform(0, 200, (60, 2))
    xyxy = np.concatenate([corner, corner + 60], axis=1)
    result = track_recording(np.arange(300) / 30, frame, xyxy, np.full(60, 0.9))
    assert np.bincount(result.track_id).max() <= 3
