"""Shapes, skeleton and poses of the simulator, without drawing anything."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orveil.sim.body import sample_build, torso_rings, trousers
from orveil.sim.camera import look_at
from orveil.sim.everyday import everyday_person
from orveil.sim.everyday_poses import sit, stand, walk
from orveil.sim.furniture import Seat
from orveil.sim.maths import mat2quat, rects_overlap, rot_x, rot_y, rot_z, wrap
from orveil.sim.mesh import ellipsoid, loft, merge, skin_bytes
from orveil.sim.pose import ARM_LOWER, ARM_UPPER, LEG_LOWER, LEG_UPPER, two_bone
from orveil.sim.skeleton import BONE, BONES

angles = st.floats(-math.pi, math.pi)
metres = st.floats(-3, 3)
rects = st.tuples(metres, metres, st.floats(0.1, 1), st.floats(0.1, 1), angles)
seeds = st.integers(0, 2**31)


def rotation_of(q: np.ndarray) -> np.ndarray:
    w, x, y, z = q
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])  # fmt: skip


@given(angles, angles, angles)
def test_quaternion_stands_for_the_same_rotation(a: float, b: float, c: float) -> None:
    R = rot_z(a) @ rot_y(b) @ rot_x(c)
    assert np.allclose(rotation_of(mat2quat(R)), R, atol=1e-6)


@given(rects, rects)
def test_overlap_is_symmetric_and_every_rectangle_overlaps_itself(a: tuple, b: tuple) -> None:
    assert rects_overlap(a, b) == rects_overlap(b, a)
    assert rects_overlap(a, a)


@given(rects, st.floats(0.05, 2.0), angles)
def test_rectangles_further_apart_than_their_reach_do_not_overlap(a: tuple, gap: float, way: float) -> None:
    far = 2 * math.hypot(a[2], a[3]) + gap
    b = (a[0] + far * math.cos(way), a[1] + far * math.sin(way), *a[2:])
    assert not rects_overlap(a, b)


@given(st.floats(-50, 50))
def test_wrap_keeps_the_direction(angle: float) -> None:
    w = wrap(angle)
    assert -math.pi <= w <= math.pi
    assert math.cos(w) == pytest.approx(math.cos(angle), abs=1e-9)
    assert math.sin(w) == pytest.approx(math.sin(angle), abs=1e-9)


def volume(V: np.ndarray, F: np.ndarray) -> float:
    a, b, c = V[F[:, 0]], V[F[:, 1]], V[F[:, 2]]
    return float(np.einsum("ij,ij->i", np.cross(a, b), c).sum() / 6)


def test_ellipsoid_has_its_volume_and_is_turned_outwards() -> None:
    mesh = ellipsoid([1, 2, 3], [0.3, 0.2, 0.1], 64, 64)
    assert volume(mesh.V - [1, 2, 3], mesh.F) == pytest.approx(4 / 3 * math.pi * 0.006, rel=0.01)


@given(seeds)
def test_torso_encloses_a_human_volume(seed: int) -> None:
    build = sample_build(np.random.default_rng(seed))
    mesh = loft(torso_rings(build, 0.0))
    assert 0.02 < volume(mesh.V, mesh.F) < 0.08


def test_skin_file_counts_what_it_holds() -> None:
    build = sample_build(np.random.default_rng(1))
    mesh = merge(trousers(build))
    data = skin_bytes(mesh, "p1", build.joints)
    vertices, texels, faces, bones = np.frombuffer(data[:16], np.int32)
    assert (vertices, texels, faces) == (len(mesh.V), len(mesh.V), len(mesh.F))
    assert bones == sum(mesh.W[:, b].max() > 1e-4 for b in range(len(BONES)))
    assert np.allclose(mesh.W.sum(1), 1)


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6), st.floats(0.1, 0.5), st.floats(0.1, 0.5))
def test_two_bones_keep_their_length_and_point_at_the_target(
    values: list[float], l1: float, l2: float
) -> None:
    start, target = np.array(values[:3]), np.array(values[3:])
    if np.linalg.norm(target - start) < 0.05:
        target = start + np.array([0.05, 0, 0])
    joint, end, R1, R2 = two_bone(start, target, l1, l2, np.array([0.3, 0.5, 0.8]), 1.0)
    assert np.linalg.norm(joint - start) == pytest.approx(l1, abs=1e-3)
    assert np.linalg.norm(end - joint) == pytest.approx(l2, abs=1e-3)
    assert np.linalg.norm(np.cross(end - start, target - start)) < 1e-6
    assert np.allclose(R1[:, 2] * l1, start - joint, atol=1e-3)
    assert np.allclose(R2[:, 2] * l2, joint - end, atol=1e-3)


@pytest.mark.parametrize("seed", range(12))
def test_posed_people_keep_their_bones_and_stand_on_the_floor(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = everyday_person(1, rng)
    poses = [stand(p, rng, 1, 2, 0.5), walk(p, rng, 1, 2, 0.5), sit(p, rng, Seat(1, 2, 0.5, 0.45))]
    for X, R in poses:
        assert np.allclose(np.einsum("nij,nkj->nik", R, R), np.eye(3), atol=1e-6)
        assert (np.linalg.det(R) > 0).all()
        for a, b, length in (
            ("ua", "fa", ARM_UPPER),
            ("fa", "ha", ARM_LOWER),
            ("th", "sh", LEG_UPPER),
            ("sh", "ft", LEG_LOWER),
        ):
            for side in "lr":
                d = X[BONE[f"{a}_{side}"]] - X[BONE[f"{b}_{side}"]]
                assert np.linalg.norm(d) == pytest.approx(length * p.H, abs=2e-3)
        ankles = X[[BONE["ft_l"], BONE["ft_r"]], 2]
        assert (ankles > 0).all() and ankles.min() < 0.2
        assert X[BONE["head"], 2] > 0.3
        assert np.hypot(*(X[0, :2] - [1, 2])) < 0.35


@given(st.tuples(metres, metres, metres), st.floats(20, 90), st.floats(-0.3, 0.3))
def test_camera_sees_its_target_in_the_middle(target: tuple, fovy: float, roll: float) -> None:
    camera = look_at(1, [5, 4, 2.5], target, fovy, (640, 360), roll)
    uv, z = camera.project(np.array([target], float))
    assert z[0] > 0
    assert np.allclose(uv[0], [320, 180], atol=1e-6)
    assert np.allclose(camera.R @ camera.R.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(camera.R) > 0


def test_camera_axes_are_right_and_down() -> None:
    camera = look_at(1, [0, 0, 1], [5, 0, 1], 60, (640, 480))
    uv, _ = camera.project(np.array([[5, -1, 1], [5, 0, 2]], float))
    assert uv[0, 0] > 320 and uv[0, 1] == pytest.approx(240)  # Facing +x, the own right is -y.
    assert uv[1, 1] < 240 and uv[1, 0] == pytest.approx(320)
