"""The common floor: rays and projection, poses, what boxes say about places and steps."""

from __future__ import annotations

import numpy as np
import pytest
from ground_scenes import CORNERS, SIZE, boxes_of, hung
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from orveil.trackers.ground_body import shapes, stands
from orveil.trackers.ground_calibrate import PRIOR_MEAN, PRIOR_SPREAD, calibrate_camera, camera_of
from orveil.trackers.ground_camera import GroundCamera, Pose
from orveil.trackers.ground_sight import PACES, Heads, Sight, floor_sight, place_ratio, step_ratio

angles = st.floats(-3.1, 3.1)
metres = st.floats(-5.0, 5.0)
poses = st.builds(lambda x, y, yaw: Pose(np.array([x, y]), yaw), metres, metres, angles)


@given(
    st.floats(0.6, 1.6), st.floats(0.1, 0.8), st.floats(-0.3, 0.3), st.floats(-0.45, 0.45), st.floats(1, 9)
)
def test_a_ray_passes_through_the_point_that_is_projected_to_it(focal, tilt, roll, across, far):
    camera = GroundCamera(SIZE, focal, tilt, roll, 2.5)
    ray = camera.rays(np.array([[across, 0.2]]))
    point = np.array([0.0, 0.0, camera.height]) + far * ray
    image, depth = camera.project(point)
    np.testing.assert_allclose(image, [[across, 0.2]], atol=1e-9)
    assert depth[0] == pytest.approx(far)


@given(poses, poses, metres, metres)
def test_poses_chain_and_invert(one, other, x, y):
    point = np.array([[x, y, 1.7]])
    np.testing.assert_allclose(one.back(one.out(point)), point, atol=1e-9)
    relative = other.seen_from(one)
    np.testing.assert_allclose(one.out(relative.out(point)), other.out(point), atol=1e-9)
    again = relative.after(one)
    np.testing.assert_allclose(again.place, other.place, atol=1e-9)
    assert np.cos(again.yaw - other.yaw) == pytest.approx(1.0)


@pytest.mark.parametrize("cut", [False, True])
def test_a_box_of_known_height_stands_where_it_stands(cut):
    camera, pose = CORNERS[0]
    ground = np.array([[0.0, 0.0], [1.0, -1.0], [-1.5, 1.0]])
    box, shown = boxes_of((camera, pose), ground, 1.66)
    assert shown.all()
    if cut:
        box[:, 3] -= 0.4 * (box[:, 3] - box[:, 1])
    found = stands(shapes(box, SIZE), camera)
    place = (np.exp(found.weight)[..., None] * found.point[..., :2]).sum(axis=1)
    assert np.hypot(*(place - pose.back(np.c_[ground, [0, 0, 0]])[:, :2]).T).max() < 0.9
    np.testing.assert_allclose(np.exp(found.weight).sum(axis=1), 1.0)
    np.testing.assert_allclose(np.exp(found.prior).sum(axis=1), 1.0)


def test_a_head_above_the_picture_leaves_the_distance_open():
    camera, _ = CORNERS[0]
    box = np.array([[400.0, 0.0, 480.0, 300.0], [400.0, 60.0, 480.0, 300.0]])
    found = stands(shapes(box, SIZE), camera)
    spread = np.exp(found.prior) @ np.log(np.arange(1, found.prior.shape[1] + 1)) ** 2
    mean = np.exp(found.prior) @ np.log(np.arange(1, found.prior.shape[1] + 1))
    width = spread - mean**2
    assert width[0] > width[1]


def test_the_tilt_follows_where_whole_bodies_stand():
    rng = np.random.default_rng(0)
    found = []
    for height in (2.2, 3.2):
        camera, pose = hung(4, -3, height, 1.05)
        ground = rng.uniform(-2.5, 2.5, (300, 2))
        box, shown = boxes_of((camera, pose), ground, rng.normal(1.66, 0.08, 300))
        boxes = shapes(box[shown], SIZE)
        guess = calibrate_camera(boxes, np.full(shown.sum(), 0.5), SIZE)
        usual, better = stands(boxes, camera_of(PRIOR_MEAN, SIZE)), stands(boxes, camera_of(guess, SIZE))
        assert better.shape.sum() > usual.shape.sum()
        found.append(guess[1])
    assert found[1] > found[0] + np.radians(2)
    empty = calibrate_camera(shapes(np.zeros((0, 4)), SIZE), np.zeros(0), SIZE)
    assert (np.abs(empty - PRIOR_MEAN) < 0.2 * PRIOR_SPREAD).all()


def sight(rng, count):
    spread = rng.normal(0, 0.3, (count, 2, 2))
    cover = spread @ spread.transpose(0, 2, 1) + 0.02 * np.eye(2)
    triple = np.stack([cover[:, 0, 0], cover[:, 1, 1], cover[:, 0, 1]], axis=1)
    paces = rng.dirichlet(np.ones(len(PACES)))
    step = rng.normal(0, 0.3, (count, 2))
    usual = np.log(
        [
            sum(
                w * multivariate_normal.pdf(s, cov=c + p**2 * np.eye(2))
                for w, p in zip(paces, PACES, strict=True)
            )
            for s, c in zip(step, cover, strict=True)
        ]
    )
    return Sight(
        np.zeros(count, np.int64), np.ones(count), rng.normal(0, 2, (count, 2)), triple,
        rng.normal(-3, 0.5, count), step, triple, usual, np.ones(count, bool), paces,
    ), cover  # fmt: skip


def test_the_step_ratio_is_that_of_one_common_step_against_two():
    rng = np.random.default_rng(2)
    (a, cover_a), (b, cover_b) = sight(rng, 6), sight(rng, 6)
    rows = np.arange(6)
    found = step_ratio(a, b, rows, rows)
    for k in rows:
        together = 0.0
        for weight, pace in zip(0.5 * (a.paces + b.paces), PACES, strict=True):
            block = np.tile(pace**2 * np.eye(2), (2, 2))
            block[:2, :2] += cover_a[k]
            block[2:, 2:] += cover_b[k]
            together += weight * multivariate_normal.pdf(np.r_[a.step[k], b.step[k]], cov=block)
        ratio = together / np.exp(a.usual[k] + b.usual[k])
        assert found[k] == pytest.approx(np.log(0.75 * min(ratio, np.exp(6.0)) + 0.25), abs=1e-6)


@settings(max_examples=25)
@given(poses, st.integers(0, 1000))
def test_ratios_do_not_depend_on_the_common_frame(pose, seed):
    rng = np.random.default_rng(seed)
    (a, _), (b, _) = sight(rng, 5), sight(rng, 5)
    i, j = np.repeat(np.arange(5), 5), np.tile(np.arange(5), 5)
    for ratio in (place_ratio, step_ratio):
        np.testing.assert_allclose(ratio(a.on(pose), b.on(pose), i, j), ratio(a, b, i, j), atol=1e-6)
        np.testing.assert_allclose(ratio(a.mirrored(), b.mirrored(), i, j), ratio(a, b, i, j), atol=1e-6)
        np.testing.assert_allclose(ratio(b, a, j, i), ratio(a, b, i, j), atol=1e-6)


@pytest.mark.parametrize("height", [1.2, 2.6])
def test_a_camera_at_head_height_knows_only_steps_across(height):
    camera = GroundCamera(SIZE, 1.0, 0.1 if height < 2 else 0.3, 0.0, height)
    box = np.array([[300.0, 200.0, 380.0, 420.0]])
    head, shift = shapes(box, SIZE).head, np.array([[0.02, 0.0]])
    moved = Heads(head - shift, head + shift, np.ones(1, bool))
    seen = floor_sight(np.zeros(1, np.int64), np.ones(1), shapes(box, SIZE), moved, camera)
    along = seen.place[0] / np.hypot(*seen.place[0])
    full = np.array([[seen.doubt[0, 0], seen.doubt[0, 2]], [seen.doubt[0, 2], seen.doubt[0, 1]]])
    ahead = np.sqrt(along @ full @ along)
    assert ahead > 0.9 if height < 2 else ahead < 0.3
    across = np.array([-along[1], along[0]])
    assert abs(across @ seen.step[0]) > 0.1 and np.sqrt(across @ full @ across) < 0.1
    empty = floor_sight(
        np.zeros(0, np.int64), np.zeros(0), shapes(box[:0], SIZE), moved.select(np.zeros(0, np.int64)), camera
    )
    assert len(empty.place) == 0
