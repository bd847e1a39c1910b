"""Lens distortion: inverse of itself, harmless at zero, and the same for pictures, labels and points."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.sim.camera import look_at
from orveil.sim.lens import Lens, LensCamera, Warp, sample_lens

SIZE = (160, 90)
small = st.floats(-0.004, 0.004)
lenses = st.builds(Lens, st.floats(-0.3, 0.25), st.floats(-0.05, 0.05), small, small)
point = st.tuples(st.floats(-1.2, 1.2), st.floats(-1.2, 1.2))
points = st.lists(point, min_size=1, max_size=20).map(np.array)


@given(lenses, points)
def test_undistort_inverts_distort(lens: Lens, xy: np.ndarray) -> None:
    assert np.allclose(lens.undistort(lens.distort(xy)), xy, atol=1e-8)
    assert np.allclose(lens.distort(lens.undistort(xy)), xy, atol=1e-8)


@given(points)
def test_no_coefficients_is_identity(xy: np.ndarray) -> None:
    assert np.array_equal(Lens().distort(xy), xy)
    assert np.allclose(Lens().undistort(xy), xy, atol=1e-12)


@given(lenses, points)
def test_same_numbers_as_opencv(lens: Lens, xy: np.ndarray) -> None:
    xy = xy[np.linalg.norm(xy, axis=1) < lens.reach]
    if len(xy) == 0:
        return
    rays = np.column_stack([xy, np.ones(len(xy))])
    theirs, _ = cv2.projectPoints(
        rays, np.zeros(3), np.zeros(3), np.eye(3), np.array([lens.k1, lens.k2, lens.p1, lens.p2])
    )
    assert np.allclose(lens.distort(xy), theirs[:, 0], atol=1e-9)


@given(lenses, st.floats(0, 6.28))
def test_points_farther_out_stay_farther_out(lens: Lens, direction: float) -> None:
    radii = np.linspace(0.05, 10, 200)
    ray = radii[:, None] * np.array([np.cos(direction), np.sin(direction)])
    out = np.linalg.norm(Lens(lens.k1, lens.k2).distort(ray), axis=1)
    assert (np.diff(out) > 0).all()


def test_empty_input() -> None:
    lens = Lens(-0.2, 0.01)
    assert lens.distort(np.zeros((0, 2))).shape == lens.undistort(np.zeros((0, 2))).shape == (0, 2)


@given(lenses, st.floats(0.6, 2.0))
@settings(max_examples=25)
def test_no_empty_border_and_points_follow(lens: Lens, zoom: float) -> None:
    focal = zoom * SIZE[0]
    warp = Warp(lens, focal, SIZE)
    corners = np.array([[0, 0], [160, 0], [160, 90], [0, 90], [80, 0], [0, 45], [160, 45], [80, 90]], float)
    source = warp.backward(corners)
    assert (source >= -0.01).all() and (source[:, 0] <= 160.01).all() and (source[:, 1] <= 90.01).all()
    assert np.allclose(warp.forward(source), corners, atol=1e-5)


def test_identity_changes_nothing() -> None:
    warp = Warp(Lens(), 120.0, SIZE)
    image = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    assert warp.focal == 120.0
    assert np.array_equal(warp.picture(image), image)
    assert np.array_equal(warp.labels(image[..., 0]), image[..., 0])
    assert warp.covered.all()


@given(st.floats(-0.3, -0.02), st.integers(15, 145), st.integers(15, 75))
@settings(max_examples=25)
def test_pictures_labels_and_points_agree(k1: float, x: int, y: int) -> None:
    warp = Warp(Lens(k1, 0.01, 0.001, -0.001), 110.0, SIZE)
    labels = np.zeros((90, 160), np.int32)
    labels[y - 3 : y + 4, x - 3 : x + 4] = 70_000
    picture = np.repeat((labels > 0).astype(np.uint8)[..., None] * 255, 3, 2)
    middle = warp.forward(np.array([[x + 0.5, y + 0.5]]))[0]
    if not ((middle > 8).all() and (middle < np.array(SIZE) - 8).all()):
        return
    bent = warp.labels(labels)
    assert set(np.unique(bent)) == {0, 70_000}
    ys, xs = np.nonzero(bent)
    assert np.allclose([xs.mean() + 0.5, ys.mean() + 0.5], middle, atol=0.6)
    bright = warp.picture(picture)[..., 0].astype(float)
    rows, columns = np.mgrid[:90, :160] + 0.5
    centre = [(bright * columns).sum() / bright.sum(), (bright * rows).sum() / bright.sum()]
    assert np.allclose(centre, middle, atol=0.4)


def test_barrel_cuts_the_corners_off() -> None:
    covered = Warp(Lens(-0.25), 110.0, SIZE).covered
    assert covered[45, 80]
    assert not covered[45, 0] or not covered[0, 80]
    assert 0.3 < covered.mean() < 1


def test_camera_behind_a_lens() -> None:
    camera = look_at(3, (3, 1, 2.5), (0, 0, 1), 50.0, (640, 360))
    warp = Warp(Lens(-0.2, 0.01), camera.focal, (640, 360))
    lens_camera = LensCamera(camera, warp)
    world = np.array([[0.0, 0, 1], [0.3, 0.8, 1.2], [-0.4, -0.5, 0.2]])
    pixels, depth = lens_camera.project(world)
    described = lens_camera.describe()
    K, R, t = (np.array(described[k]) for k in ("K", "R", "t"))
    coefficients = np.array([described["distortion"][k] for k in ("k1", "k2", "p1", "p2")])
    theirs, _ = cv2.projectPoints(world, cv2.Rodrigues(R)[0], t, K, coefficients)
    assert np.allclose(pixels, theirs[:, 0], atol=1e-6)
    assert np.allclose(depth, (world @ R.T + t)[:, 2])
    assert (lens_camera.width, lens_camera.height) == (640, 360)


def test_sampled_lenses_repeat_and_can_be_switched_off() -> None:
    assert sample_lens(np.random.default_rng(5)) == sample_lens(np.random.default_rng(5))
    assert sample_lens(np.random.default_rng(5)) != sample_lens(np.random.default_rng(6))
    assert sample_lens(np.random.default_rng(5), 0.0).identity


@pytest.mark.parametrize("seed", range(8))
def test_sampled_lenses_are_usable(seed: int) -> None:
    warp = Warp(sample_lens(np.random.default_rng(seed)), 0.9 * 160, SIZE)
    assert 0.9 * 144 < warp.focal < 1.6 * 144
