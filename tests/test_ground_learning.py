"""Cameras placed on one floor from a short clip: rightly, or not at all; and the matches that follow."""

from __future__ import annotations

import numpy as np
import pytest
from ground_scenes import CORNERS, SIZE, filmed, hung, paths, scene_of, tables_of

from orveil.pipeline.settings import AssociateParams
from orveil.stages.associate import _settled, associate_session
from orveil.trackers.crossview import View
from orveil.trackers.ground import learn_ground, smooth_heads, teaching_ticks
from orveil.trackers.ground_align import agreement, best_poses, evidence_at, meetings
from orveil.trackers.ground_body import shapes
from orveil.trackers.ground_camera import Poses
from orveil.trackers.ground_pairs import floor_tracks, weigh_floor
from orveil.trackers.ground_sight import floor_sight


def learned(scene, sizes):
    return learn_ground(scene, np.arange(len(scene.tick)), sizes, smooth_heads(scene, sizes))


@pytest.fixture(scope="module")
def room():
    """Twenty seconds of five people seen by three cameras."""
    path = paths(np.random.default_rng(3), 5, 20)
    rows = filmed(path)
    scene, person, sizes = scene_of(rows, path.shape[1])
    return scene, person, sizes, learned(scene, sizes)


def test_cameras_of_one_room_come_to_stand_where_they_stand(room):
    *_, found = room
    assert set(found.poses) == {0, 1, 2}
    for camera in (1, 2):
        true = CORNERS[camera][1].seen_from(CORNERS[0][1])
        got = found.poses[camera].seen_from(found.poses[0])
        assert np.cos(got.yaw - true.yaw) > np.cos(np.radians(30))
        # The size of the room is only known as well as the size of people and the lens.
        assert np.hypot(*(got.place - true.place)) < 0.35 * np.hypot(*true.place)


def test_the_right_pairs_of_tracks_have_the_better_evidence(room):
    scene, person, sizes, found = room
    pairs, ratio = weigh_floor(scene, floor_tracks(scene, found, smooth_heads(scene, sizes)))
    right = person[pairs.a] == person[pairs.b]
    long = pairs.support > 10
    assert right[long].sum() > 8 and (~right[long]).sum() > 20
    assert np.median(ratio[long & right]) > 1.0 > -1.0 > np.median(ratio[long & ~right])


def test_a_short_clip_is_associated(room):
    scene, person, _, _ = room
    result = associate_session(*tables_of(scene), AssociateParams(), seed=0)
    matched = result.views > 1
    assert matched.mean() > 0.4
    right = wrong = 0
    for number in np.unique(result.person_id[matched]):
        members = person[result.track_id[matched & (result.person_id == number)]]
        same = int((members[:, None] == members[None, :]).sum() - len(members)) // 2
        right, wrong = right + same, wrong + len(members) * (len(members) - 1) // 2 - same
    assert right / (right + wrong) > 0.9


@pytest.mark.parametrize("people", [1, 2])
def test_people_who_stand_still_prove_nothing(people):
    path = paths(np.random.default_rng(4), people, 20, walking=False)
    scene, _, sizes = scene_of(filmed(path), path.shape[1])
    assert not learned(scene, sizes).poses


def test_cameras_of_different_rooms_are_not_joined():
    frames = 100
    rows = []
    for camera in range(3):
        alone = filmed(paths(np.random.default_rng(20 + camera), 5, 20), [CORNERS[camera]], seed=camera)
        alone[:, 0], alone[:, 2] = camera, alone[:, 2] + 10 * camera
        rows.append(alone)
    scene, _, sizes = scene_of(np.concatenate(rows), frames)
    assert not learned(scene, sizes).poses


@pytest.mark.parametrize("seed", [3, 13])
def test_a_camera_of_another_room_is_left_out(seed):
    path = paths(np.random.default_rng(seed), 5, 20)
    here = filmed(path)
    there = filmed(paths(np.random.default_rng(seed + 27), 5, 20), [hung(-4, 3, 2.6, 1.0)], seed=9)
    there[:, 0], there[:, 2] = 3, there[:, 2] + 10
    scene, _, sizes = scene_of(np.concatenate([here, there]), path.shape[1])
    assert set(learned(scene, sizes).poses) == {0, 1, 2}


def test_a_short_clip_without_a_common_floor_matches_nobody():
    path = paths(np.random.default_rng(4), 2, 20, walking=False)
    scene, _, _ = scene_of(filmed(path), path.shape[1])
    result = associate_session(*tables_of(scene), AssociateParams(), seed=0)
    assert len(result) == len(scene.sure) and (result.views == 1).all() and not result.probability.any()


def test_the_floor_is_asked_only_where_people_were_not_seen_together_for_long():
    def view(ticks):
        return View(np.array(ticks), np.zeros((len(ticks), 4)), np.ones(len(ticks)), SIZE)

    views = [view(range(700)), view(range(350, 1000)), view(range(690, 1000)), view([2000])]
    assert _settled(views, 1.0) == {(0, 1): True, (0, 2): False, (1, 2): True}
    assert not any(_settled(views, 0.5).values())


def seen(camera, path):
    """What a camera at a corner sees of people on its own floor."""
    scene, _, _ = scene_of(filmed(path, [CORNERS[camera]], seed=camera), path.shape[1])
    boxes, heads = shapes(scene.xyxy, SIZE), smooth_heads(scene, [SIZE])
    return floor_sight(scene.tick, scene.score, boxes, heads, CORNERS[camera][0])


def test_many_poses_at_once_are_each_judged_as_alone():
    path = paths(np.random.default_rng(6), 4, 10)
    one, other = seen(0, path), seen(1, path)
    met = meetings(one.tick, other.tick)
    rng = np.random.default_rng(0)
    poses = Poses(rng.normal(0, 3, (5, 2)), rng.uniform(-3, 3, 5))
    alone = [agreement(one, other.on(poses.one(k)), met)[0] for k in range(5)]
    np.testing.assert_allclose(evidence_at([one], other, [met], poses), alone, rtol=1e-9)
    both = evidence_at([one, one], other, [met, met], poses)
    np.testing.assert_allclose(both, 2 * np.array(alone), rtol=1e-9)


def test_the_best_pose_is_where_the_camera_stands_and_a_top_of_the_evidence():
    path = paths(np.random.default_rng(6), 5, 20)
    one, other = seen(0, path), seen(1, path)
    met = meetings(one.tick, other.tick)
    evidence, pose = best_poses([one], other, [met])[0]
    true = CORNERS[1][1].seen_from(CORNERS[0][1])
    assert np.cos(pose.yaw - true.yaw) > np.cos(np.radians(15))
    assert np.hypot(*(pose.place - true.place)) < 1.0
    shifts = np.array([[0.3, 0, 0], [-0.3, 0, 0], [0, 0.4, 0], [0, -0.4, 0], [0, 0, 0.4], [0, 0, -0.4]])
    around = Poses(pose.place + shifts[:, 1:], pose.yaw + shifts[:, 0])
    assert (evidence_at([one], other, [met], around) < evidence).all()


def test_nothing_and_next_to_nothing():
    path = paths(np.random.default_rng(5), 4, 1)
    scene, _, sizes = scene_of(filmed(path), path.shape[1])
    assert not learned(scene, sizes).poses
    none = np.zeros(len(scene.tick), bool)
    assert not learn_ground(scene, np.flatnonzero(none), sizes, smooth_heads(scene, sizes)).poses
    assert not teaching_ticks(np.zeros(0)).any()


def test_teaching_ticks_are_apart_and_few():
    ticks = np.arange(0, 600, 0.1)
    chosen = ticks[teaching_ticks(ticks)]
    assert len(chosen) <= 61 and np.diff(chosen).min() > 9
    assert np.diff(ticks[:200][teaching_ticks(ticks[:200])]).min() >= 0.5 - 1e-9


def test_heads_are_smoothed_within_a_track_only():
    rows = np.array([[0, f, p, 100 + 10 * f + 300 * p, 50, 180 + 10 * f + 300 * p, 400, 0.8]
                     for p in (0, 1) for f in range(15)], float)  # fmt: skip
    scene, _, _ = scene_of(rows, 15)
    heads = smooth_heads(scene, [SIZE])
    moved = (heads.after - heads.before)[heads.known, 0] * SIZE.max()
    np.testing.assert_allclose(moved, 50.0, atol=10.1)
    assert not heads.known[scene.tick < 2].any() and not heads.known[scene.tick > 12].any()
