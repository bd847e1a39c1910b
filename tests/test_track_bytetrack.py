"""The plain ByteTrack mode: equal to the library's, and independent of other instances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orveil.sim.box_stream import box_stream
from orveil.trackers.bytetrack import ByteTrack, ByteTrackSettings

GOLDEN = Path(__file__).parent / "golden" / "bytetrack_ids.npz"
"""Ids that `trackers` 2.6.1 gave to the same boxes: `scripts/bench_tracking.py --golden` writes them."""


def ids_of(stream, settings=None):
    tracker = ByteTrack(settings)
    frames = range(len(stream.time_s))
    return np.concatenate(
        [tracker.update(f, stream.xyxy[at], stream.score[at]) for f in frames for at in [stream.at(f)]]
    )


@pytest.mark.parametrize("people", [8, 40])
def test_ids_equal_those_of_the_library(people):
    with np.load(GOLDEN, allow_pickle=False) as golden:
        expected = golden[f"people_{people}"]
    ids = ids_of(box_stream(people, 300, 11))
    assert ids.max() >= people - 1, "nobody was named"
    np.testing.assert_array_equal(ids, expected)


def test_a_track_gets_its_id_with_the_second_box_in_a_row_and_keeps_it_through_a_gap():
    box, tracker = np.array([[10.0, 10.0, 50.0, 90.0]]), ByteTrack(ByteTrackSettings(buffer=3))
    none = np.zeros((0, 4)), np.zeros(0)
    sure, doubtful = np.array([0.9]), np.array([0.2])
    assert tracker.update(0, box, sure).tolist() == [-1]
    assert tracker.update(1, box, doubtful).tolist() == [0]
    for frame in (2, 3, 4, 5):
        assert tracker.update(frame, *none).tolist() == []
    assert tracker.update(6, box, sure).tolist() == [-1], "gone after three frames"
    assert tracker.update(7, box, sure).tolist() == [1]
    tracker.reset()
    assert [tracker.update(f, box, sure).tolist() for f in (0, 1)] == [[-1], [0]]


def test_doubtful_boxes_begin_nothing_and_a_lone_box_is_forgotten():
    box, tracker = np.array([[10.0, 10.0, 50.0, 90.0]]), ByteTrack()
    assert [tracker.update(f, box, np.array([0.65])).tolist() for f in range(3)] == [[-1]] * 3
    tracker.update(3, box, np.array([0.9]))
    tracker.update(4, np.zeros((0, 4)), np.zeros(0))
    assert tracker.update(5, box, np.array([0.9])).tolist() == [-1]
