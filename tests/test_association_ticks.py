"""Tests: pairs of tracks are compared at ticks apart in time, on a timeline that stays true."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.stages.associate import JUDGE_EVERY_S, _spaced
from orveil.trackers.pairing import Scene


def scene_of(times, tick):
    """Boxes of one track at the given ticks."""
    count = len(tick)
    return Scene(
        camera=np.zeros(count, np.int64),
        tick=np.array(tick, np.int64),
        track=np.arange(count),
        xyxy=np.tile(np.arange(count, dtype=float)[:, None], (1, 4)),
        score=np.full(count, 0.5),
        sure=np.ones(count, np.bool_),
        track_camera=np.zeros(count, np.int64),
        tick_s=np.array(times, np.float64),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=60), st.data())
def test_boxes_kept_are_at_the_time_they_had(steps, data):
    times = np.cumsum(steps) / 1000.0
    tick = data.draw(st.lists(st.integers(0, len(times) - 1), max_size=40))
    scene = scene_of(times, tick)
    spaced = _spaced(scene)
    kept = spaced.track
    assert (spaced.tick_s[spaced.tick] == scene.tick_s[scene.tick[kept]]).all()
    assert (spaced.xyxy[:, 0] == kept).all()
    # One tick in every slot of time that has any.
    slot = np.floor((times - times[0]) / JUDGE_EVERY_S + 1e-6)
    assert len(spaced.tick_s) == len(np.unique(slot))
    assert set(kept) == {k for k, t in enumerate(tick) if times[t] in spaced.tick_s}


def test_rare_frames_are_all_kept():
    scene = scene_of(np.arange(20) * 2.0, list(range(20)))
    assert len(_spaced(scene).track) == 20
    assert len(_spaced(scene_of([], [])).track) == 0
