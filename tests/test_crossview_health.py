"""Cameras whose clock is off or that were moved are told from healthy ones."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from crossview_rooms import CAMERAS, SIZE, camera, room

from orveil.stages.camera_health import (
    CameraHealth,
    camera_health,
    read_health,
    warnings_of,
    write_health,
)
from orveil.trackers.clock import ClockOffset, clock_offsets, reconcile
from orveil.trackers.crossview import View, learn
from orveil.trackers.judging import judge, weigh_pairs
from orveil.trackers.moved import Move, find_move
from orveil.trackers.pairing import Scene, sum_ratios

FPS, SECONDS = 3.0, 100


def scene_of(rows, frames):
    """Every person one track per camera; the first frames of a late camera show nobody."""
    table = np.concatenate([np.insert(t, 0, c, axis=1) for c, t in enumerate(rows)])
    key, track = np.unique(table[:, [0, 2]], axis=0, return_inverse=True)
    return Scene(
        camera=table[:, 0].astype(int),
        tick=table[:, 1].astype(int),
        track=track.reshape(-1),
        xyxy=table[:, 3:],
        score=np.full(len(table), 0.9),
        sure=np.ones(len(key), bool),
        track_camera=key[:, 0].astype(int),
        tick_s=np.arange(frames) / FPS,
    )


def learned(scene, ticks=None, restarts=1):
    views = []
    for c in range(3):
        rows = scene.camera == c
        rows &= np.ones(len(rows), bool) if ticks is None else ticks[scene.tick]
        views.append(
            View(scene.tick[rows], scene.xyxy[rows], np.full(rows.sum(), 0.6), np.array(SIZE, float))
        )
    return learn(views, np.random.default_rng(0), epochs=20, restarts=restarts, independence=0.6)


@functools.cache
def healthy(seed):
    rows, frames = room(people=3, seconds=SECONDS, fps=FPS, seed=seed)
    return rows, frames


def test_a_late_clock_is_found_and_its_offset_estimated():
    rows, frames = healthy(0)
    late = 1
    rows = [rows[0], rows[1] + np.array([late, 0, 0, 0, 0, 0]), rows[2]]
    scene = scene_of([t[t[:, 0] < frames] for t in rows], frames)
    model = learned(scene)
    pairs, ratio = weigh_pairs(scene, functools.partial(sum_ratios, scene, model))
    clocks = clock_offsets(scene, model, pairs, judge(scene, pairs, ratio))
    assert [c.off for c in clocks] == [False, True, False]
    assert clocks[1].late_s == pytest.approx(late / FPS, abs=0.15)


def test_healthy_cameras_raise_no_alarm_and_a_moved_one_does():
    rows, frames = healthy(1)
    scene = scene_of(rows, frames)
    model = learned(scene)
    pairs, ratio = weigh_pairs(scene, functools.partial(sum_ratios, scene, model))
    clocks = clock_offsets(scene, model, pairs, judge(scene, pairs, ratio))
    assert all(c.known and not c.off and abs(c.late_s) < 0.1 for c in clocks)
    assert find_move(scene, model, lambda ticks: learned(scene, ticks, restarts=1)) is None
    turned = [*CAMERAS[:1], camera(4, -3, 2.5, 0.5, 0.5), *CAMERAS[2:]]
    after, _ = room(people=3, seconds=SECONDS, fps=FPS, seed=1, views=turned)
    half = frames // 2
    joined = np.concatenate([rows[1][rows[1][:, 0] < half], after[1][after[1][:, 0] >= half]])
    scene = scene_of([rows[0], joined, rows[2]], frames)
    found = find_move(scene, learned(scene), lambda ticks: learned(scene, ticks, restarts=1))
    assert found is not None and found.cameras == (1,)
    assert found.at_s == pytest.approx(SECONDS / 2, abs=10)
    model = learned(scene)
    pairs, ratio = weigh_pairs(scene, functools.partial(sum_ratios, scene, model))
    clocks = clock_offsets(scene, model, pairs, judge(scene, pairs, ratio), moved=found.cameras)
    assert [c.known for c in clocks] == [True, False, True] and not any(c.off for c in clocks)


def test_a_clock_is_off_only_where_all_pairs_agree_by_how_much():
    others = {(0, 1): (0.01, 0.3), (0, 2): (-0.02, 0.5), (1, 2): (0.0, 0.0)}
    late = reconcile(4, {**others, (0, 3): (0.31, 5.0), (1, 3): (0.28, 4.0), (2, 3): (0.33, 6.0)})
    assert [c.off for c in late] == [False, False, False, True]
    assert late[3].late_s == pytest.approx(0.3, abs=0.05)
    # A camera that was moved seems to lag by another time against each of the others.
    moved = reconcile(4, {**others, (0, 3): (0.3, 5.0), (1, 3): (0.25, 4.0), (2, 3): (-0.1, 6.0)})
    assert abs(moved[3].late_s) > 0.1 and not any(c.off for c in moved)


def test_frames_without_time_say_nothing_about_clocks():
    rows, frames = healthy(0)
    scene = scene_of(rows, frames)
    model = learned(scene)
    pairs, ratio = weigh_pairs(scene, functools.partial(sum_ratios, scene, model))
    odds = judge(scene, pairs, ratio)
    sparse = Scene(**{**vars(scene), "tick_s": 60.0 * np.arange(frames)})
    assert not any(c.known or c.off for c in clock_offsets(sparse, model, pairs, odds))


def test_health_is_kept_as_a_file_and_told_with_a_remedy(tmp_path):
    clocks = [ClockOffset(0.01, True, False), ClockOffset(0.31, True, True), ClockOffset(0.0, False, False)]
    health = camera_health(["left", "right", "door"], clocks, Move((2,), 41.0))
    write_health(health, tmp_path)
    assert read_health(tmp_path) == health and read_health(tmp_path / "nowhere") == []
    assert health[2] == CameraHealth("door", False, 0.0, False, 41.0)
    late, moved = warnings_of(health, {"right": 0.1})
    assert "right" in late and "0.31 s late" in late and "-0.210" in late
    assert "door" in moved and "41 s" in moved and "sessions" in moved
    assert warnings_of(camera_health(["left"], clocks[:1], None), {}) == []
