"""The 133 keypoints: names, sides, where they lie on the body, and what a camera sees of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.sim import keypoints as kp
from orveil.sim.body import Build, hands, sample_build, shoes
from orveil.sim.camera import look_at
from orveil.sim.head import head_surface
from orveil.sim.mesh import ellipsoid
from orveil.sim.pose import POSE_SIZE, Stance, pose_bones
from orveil.sim.skeleton import BONE

# The diagonals of the head's quads are not mirrored: metres.
MIRROR = 2e-3
AVERAGE = Build(1.75, 1.0, 0.0, 1.0, False)


@dataclass(frozen=True)
class Someone:
    build: Build = AVERAGE
    head_scale: float = 1.0
    curl: tuple[float, float] = (0.4, 0.8)


def at_rest(person: Someone) -> tuple[np.ndarray, np.ndarray]:
    return person.build.joints, np.tile(np.eye(3), (17, 1, 1))


def standing(
    person: Someone, yaw: float, place: tuple[float, float] = (0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray]:
    H, P = person.build.H, np.zeros(POSE_SIZE)
    P[5:8], P[8:11] = (0.03 * H, 0.15 * H, 0.5 * H), (0.03 * H, -0.15 * H, 0.5 * H)
    return pose_bones(P, person.build.joints, H, Stance(np.array([*place, 0.0]), yaw))


def point(points: np.ndarray, name: str) -> np.ndarray:
    return np.asarray(points[kp.INDEX[name]])


builds = st.integers(0, 10_000).map(lambda seed: sample_build(np.random.default_rng(seed)))
people = st.builds(Someone, builds, st.floats(0.95, 1.1), st.tuples(st.floats(0.3, 0.9), st.floats(0.3, 0.9)))


def test_names_are_coco_wholebody() -> None:
    assert len(kp.NAMES) == len(set(kp.NAMES)) == 133
    assert kp.NAMES[:5] == ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    assert kp.NAMES[16:24] == (
        "right_ankle", "left_big_toe", "left_small_toe", "left_heel",
        "right_big_toe", "right_small_toe", "right_heel", "face-0",
    )  # fmt: skip
    assert kp.NAMES[91:93] == ("left_hand_root", "left_thumb1")
    assert kp.NAMES[112] == "right_hand_root"
    assert kp.NAMES[132] == "right_pinky_finger4"


def test_names_are_those_of_mmpose() -> None:
    pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")
    datasets = pytest.importorskip("mmpose.datasets.datasets", reason="mmpose is not installed")
    info = datasets.CocoWholeBodyDataset(lazy_init=True, ann_file="").metainfo
    assert tuple(info["keypoint_id2name"][i] for i in range(133)) == kp.NAMES


@given(people)
@settings(max_examples=15)
def test_left_is_left_and_mirrored(person: Someone) -> None:
    points = kp.wholebody_keypoints(person, *at_rest(person))
    assert points.shape == (133, 3)
    for i, name in enumerate(kp.NAMES):
        if name.startswith("left_"):
            assert points[i, 1] > 0, name
            other = points[kp.INDEX[name.replace("left", "right")]]
            if "finger" not in name or person.curl[0] == person.curl[1]:
                assert np.allclose(points[i] * (1, -1, 1), other, atol=MIRROR), name
        elif name.startswith("right_"):
            assert points[i, 1] < 0, name


@given(people)
@settings(max_examples=15)
def test_face_order_is_ibug(person: Someone) -> None:
    face = kp.wholebody_keypoints(person, *at_rest(person))[23:91]
    assert (np.diff(face[:17, 1]) > 0).all(), "the jaw runs from the own right to the left"
    assert face[:17, 2].argmin() == 8
    mirror = [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1)]
    mirror += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    mirror += [*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]
    assert np.allclose(face[mirror] * (1, -1, 1), face, atol=MIRROR)
    brows, eyes, nose, mouth = face[17:27, 2], face[36:48, 2], face[30:36, 2], face[48:68, 2]
    assert brows.min() > eyes.max() > nose.max() > nose.min() > mouth.max() > face[8, 2]
    assert face[:, 0].argmax() == 30, "the tip of the nose is foremost"
    assert face[36, 1] < face[39, 1] < 0 < face[42, 1] < face[45, 1]
    assert face[61:64, 2].min() > face[65:68, 2].max()


@given(people)
@settings(max_examples=10)
def test_points_lie_on_the_body(person: Someone) -> None:
    points = kp.wholebody_keypoints(person, *at_rest(person))
    head = head_surface(person.build, person.head_scale).V
    skin = np.array([i for i in range(23, 91) if not 50 <= i < 59])
    away = np.linalg.norm(points[skin, None] - head[None], axis=2).min(1)
    assert away.max() < 0.02
    hand = np.concatenate([p.V for p in hands(person.build, person.curl)])
    away = np.linalg.norm(points[91:, None] - hand[None], axis=2).min(1)
    assert away.max() < 0.03
    shoe = np.concatenate([p.V for p in shoes(person.build)])
    assert np.linalg.norm(points[17:23, None] - shoe[None], axis=2).min(1).max() < 0.035
    assert (points[17:23, 2] > 0).all()


def test_fingers_run_from_knuckle_to_tip() -> None:
    points = kp.wholebody_keypoints(Someone(), *at_rest(Someone()))
    for side in ("left", "right"):
        tips = []
        for finger in kp.FINGERS:
            chain = [
                point(points, f"{side}_hand_root"),
                *(point(points, f"{side}_{finger}{i}") for i in range(1, 5)),
            ]
            steps = np.linalg.norm(np.diff(chain, axis=0), axis=1)
            assert (steps[1:] > 0.008).all() and (steps[1:] < 0.05).all(), (side, finger, steps)
            tips.append(chain[-1])
        assert (np.diff([t[0] for t in tips]) < 0).all(), "thumb foremost, little finger last"
    left, right = point(points, "left_middle_finger4"), point(points, "right_middle_finger4")
    assert right[2] > left[2], "the more bent hand ends higher"


@given(people, st.floats(-3, 3), st.floats(-2, 2), st.floats(-2, 2))
@settings(max_examples=10)
def test_points_move_rigidly_with_the_person(person: Someone, yaw: float, x: float, y: float) -> None:
    before = kp.wholebody_keypoints(person, *standing(person, 0.0))
    after = kp.wholebody_keypoints(person, *standing(person, yaw, (x, y)))
    c, s = np.cos(yaw), np.sin(yaw)
    turned = before @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + (x, y, 0)
    assert np.allclose(turned, after, atol=1e-9)


def test_joints_are_the_bones() -> None:
    X, R = standing(Someone(), 0.7, (1.0, 2.0))
    points = kp.wholebody_keypoints(Someone(), X, R)
    for name, bone in (("left_shoulder", "ua_l"), ("right_elbow", "fa_r"), ("left_wrist", "ha_l"),
                       ("right_hip", "th_r"), ("left_knee", "sh_l"), ("right_ankle", "ft_r")):  # fmt: skip
        assert np.allclose(point(points, name), X[BONE[bone]])
    assert np.allclose(point(points, "left_hand_root"), point(points, "left_wrist"))


def test_surface_lookup_is_linear_and_refuses_holes() -> None:
    mesh = ellipsoid((0, 0, 0), (1, 1, 1), 24, 24)
    vertices = mesh.UV[40:60]
    assert np.allclose(kp.surface_points(mesh, vertices), mesh.V[40:60], atol=1e-9)
    with pytest.raises(ValueError, match="no triangle"):
        kp.surface_points(mesh, np.array([[2.0, 0.5]]))


class TestVisibility:
    """A flat person-wide screen at a known depth stands in for the renderer."""

    size = (200, 300)

    def look(self, az: float = 0.0, distance: float = 4.0):
        return look_at(1, (distance * np.cos(az), distance * np.sin(az), 1.0), (0, 0, 1.0), 40.0, self.size)

    def scene(self, pid: int, depth: float) -> tuple[np.ndarray, np.ndarray]:
        shape = self.size[::-1]
        return np.full(shape, depth), np.full(shape, pid)

    def test_depth_decides(self) -> None:
        person, camera = Someone(), self.look()
        points = kp.wholebody_keypoints(person, *standing(person, 0.0))
        _, z = camera.project(points)
        for gap, expected in ((-0.001, 2), (-0.2, 1)):
            for i in range(133):
                depth, ids = self.scene(7, z[i] + (gap if gap < -0.1 else -kp.TOLERANCE[i] - gap))
                seen = kp.project_visible(points, camera, 7, depth, ids)
                assert seen[i, 2] == expected, kp.NAMES[i]

    def test_other_people_hide(self) -> None:
        person, camera = Someone(), self.look()
        points = kp.wholebody_keypoints(person, *standing(person, 0.0))
        depth, ids = self.scene(3, 100.0)
        assert (kp.project_visible(points, camera, 7, depth, ids)[:, 2] == 1).all()
        assert (kp.project_visible(points, camera, 3, depth, ids)[:, 2] == 2).all()

    def test_a_neighbouring_pixel_is_enough(self) -> None:
        person, camera = Someone(), self.look()
        points = kp.wholebody_keypoints(person, *standing(person, 0.0))
        uv, _ = camera.project(points)
        depth, ids = self.scene(0, 100.0)
        x, y = np.floor(uv[0]).astype(int)
        ids[y + 1, x - 1] = 5
        assert kp.project_visible(points, camera, 5, depth, ids)[0, 2] == 2
        ids[:] = 0
        ids[y + 2, x] = 5
        assert kp.project_visible(points, camera, 5, depth, ids)[0, 2] == 1

    def test_outside_and_behind_count_as_absent(self) -> None:
        person, camera = Someone(), self.look()
        depth, ids = self.scene(1, 100.0)
        aside = kp.wholebody_keypoints(person, *standing(person, 0.0, (0.0, 9.0)))
        behind = kp.wholebody_keypoints(person, *standing(person, 0.0, (9.0, 0.0)))
        for points in (aside, behind):
            assert (kp.project_visible(points, camera, 1, depth, ids) == 0).all()
        near = kp.wholebody_keypoints(person, *standing(person, 0.0, (3.0, 0.0)))
        seen = kp.project_visible(near, camera, 1, depth, ids)
        assert set(np.unique(seen[:, 2])) == {0, 2}
        inside = seen[seen[:, 2] > 0]
        assert (inside[:, :2] >= 0).all() and (inside[:, 0] < 200).all() and (inside[:, 1] < 300).all()

    def test_left_hand_appears_on_the_right_from_the_front(self) -> None:
        person, camera = Someone(), self.look()
        depth, ids = self.scene(1, 100.0)
        points = kp.wholebody_keypoints(person, *standing(person, 0.0))
        seen = kp.project_visible(points, camera, 1, depth, ids)
        assert point(seen, "left_wrist")[0] > point(seen, "right_wrist")[0]
        assert point(seen, "nose")[1] < point(seen, "left_hip")[1] < point(seen, "left_heel")[1]
