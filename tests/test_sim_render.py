"""Pictures of the simulator and their ground truth; needs OpenGL (EGL), skipped with the reason without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from orveil.pipeline.errors import OrveilError
from orveil.sim.camera import look_at
from orveil.sim.coco import FACE, HEAD, PERSON, read_gt
from orveil.sim.dataset import DatasetOptions, render_dataset, render_seed
from orveil.sim.everyday import everyday_person
from orveil.sim.everyday_poses import stand
from orveil.sim.render import Renderer, load_mujoco
from orveil.sim.rle import decode_mask
from orveil.sim.scene import Scene
from orveil.sim.site import CameraFilm, open_site, render_site
from orveil.sim.site_options import SiteOptions, plan_cameras
from orveil.sim.truth import Truth, plain_view, silhouette_area


def why_no_graphics() -> str:
    """Empty where a picture can be drawn."""
    try:
        load_mujoco().GLContext(16, 16).free()
    except Exception as error:
        return f"no OpenGL here ({type(error).__name__}: {error}); scripts/setup_sim installs it"
    return ""


REASON = why_no_graphics()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)
SIZE = (256, 144)


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Renderer, Scene]]:
    """One person 4 m before a wall that is 8 m from the origin, floor at 0."""
    scene = Scene()
    scene.material("grey", [0.6, 0.6, 0.6])
    scene.box("grey", (8.5, 0, 2), (0.5, 6, 6))
    scene.geom("plane", "grey", (20, 20, 1), (0, 0, 0))
    scene.people = [everyday_person(k + 1, np.random.default_rng(k)) for k in range(2)]
    renderer = Renderer(scene, SIZE, samples=0, shadow_size=256, alone=1.6)
    yield renderer, scene
    renderer.close()


def two_people(scene: Scene, ya: float, yb: float) -> dict[int, Any]:
    a, b = scene.people
    rng = np.random.default_rng(0)
    return {1: stand(a, rng, 4, ya, np.pi), 2: stand(b, rng, 5, yb, np.pi)}


CAMERA = look_at(1, (0, 0, 1.2), (5, 0, 1.0), 45, SIZE)


def test_depth_is_metres_along_the_axis(stage: tuple[Renderer, Scene]) -> None:
    renderer, _ = stage
    renderer.pose({})
    frame = renderer.draw(look_at(1, (0, 0, 2.0), (8, 0, 2.0), 45, SIZE))
    assert np.abs(frame.depth[:40] - 8.0).max() < 0.02
    assert not frame.person_id.any() and not frame.part.any()


def test_people_are_where_they_stand(stage: tuple[Renderer, Scene]) -> None:
    renderer, scene = stage
    poses = two_people(scene, 0.8, -0.8)
    renderer.pose(poses)
    frame = renderer.draw(CAMERA)
    for pid, (X, _) in poses.items():
        (u, v), z = (a[0] for a in CAMERA.project(X[2:3]))
        assert frame.person_id[int(v), int(u)] == pid
        assert abs(frame.depth[int(v), int(u)] - z) < 0.3
    left, right = (np.nonzero(frame.person_id == k)[1].mean() for k in (1, 2))
    assert left < right  # Own left of the camera is +y.
    assert len(np.unique(frame.rgb.reshape(-1, 3), axis=0)) > 50


def test_hidden_people_are_not_drawn(stage: tuple[Renderer, Scene]) -> None:
    renderer, scene = stage
    poses = two_people(scene, 0.8, -0.8)
    renderer.pose({2: poses[2]})
    assert set(np.unique(renderer.draw(CAMERA).person_id)) == {0, 2}


def test_records_of_people_in_full_view_and_behind_each_other(stage: tuple[Renderer, Scene]) -> None:
    renderer, scene = stage
    truth = Truth(renderer, exact=True)
    poses = two_people(scene, 0.8, -0.8)
    renderer.pose(poses)
    apart = truth.records(plain_view(renderer.draw(CAMERA), CAMERA), poses)
    assert [r.track_id for r in apart] == [1, 2]
    for r in apart:
        assert r.visible_fraction > 0.93
        assert np.abs(np.array(r.box) - r.full_box).max() < 4
        assert r.head is not None and r.head.face_visible and r.head.face_angle_deg < 60
        assert r.keypoints is not None and (r.keypoints[:17, 2] == 2).mean() > 0.7
    poses = two_people(scene, 0.0, 0.15)
    renderer.pose(poses)
    front, back = truth.records(plain_view(renderer.draw(CAMERA), CAMERA), poses)
    assert front.visible_fraction > 0.93 > back.visible_fraction
    assert back.full_box[3] - back.full_box[1] >= back.box[3] - back.box[1] - 1


def test_estimated_area_is_close_to_the_drawn_one(stage: tuple[Renderer, Scene]) -> None:
    renderer, scene = stage
    for k in range(4):
        rng = np.random.default_rng(k)
        poses = {1: stand(scene.people[0], rng, 4 + 0.3 * k, 0.3, rng.uniform(-3, 3))}
        renderer.pose(poses)
        renderer.draw(CAMERA, shadows=False)
        exact = renderer.alone_counts(1, CAMERA)[0]
        assert silhouette_area(renderer.vertices(1), CAMERA) == pytest.approx(exact, rel=0.2)


def inside(box: list[float], outer: list[float], slack: float = 0.0) -> bool:
    x, y, w, h = box
    a, b, c, d = outer
    return x >= a - slack and y >= b - slack and x + w <= a + c + slack and y + h <= b + d + slack


def check_consistency(gt: dict[str, Any]) -> None:
    images = {i["id"]: i for i in gt["images"]}
    people = {(a["image_id"], a["track_id"]): a for a in gt["annotations"] if a["category_id"] == PERSON}
    for a in gt["annotations"]:
        image = images[a["image_id"]]
        assert a["bbox"][2] > 0 and a["bbox"][3] > 0
        assert inside(a["bbox"], [0, 0, image["width"], image["height"]])
        body = people[a["image_id"], a["track_id"]]
        if a["category_id"] != FACE:
            assert 0 <= a["visible_fraction"] <= 1
        if a["category_id"] == HEAD:
            assert inside(a["bbox"], body["bbox"])
        if a["category_id"] == FACE:
            mask = decode_mask(a["segmentation"])
            assert mask.shape == (image["height"], image["width"]) and mask.sum() == a["area"]
        if a["category_id"] == PERSON:
            assert a["area"] <= a["bbox"][2] * a["bbox"][3] + 1 or a["visible_fraction"] < 0.2
            assert inside(a["bbox"], a["full_bbox"], 3.0)


def test_data_set_is_the_same_with_one_and_with_two_processes(tmp_path: Path) -> None:
    options = DatasetOptions((1, 2), 6, ((192, 108), (108, 192)), jobs=2)
    render_dataset(options, tmp_path / "two", lambda line: None)
    alone = tmp_path / "one"
    (alone / "images").mkdir(parents=True)
    (alone / "parts").mkdir()
    for i, seed in enumerate(options.seeds):
        render_seed(seed, options.count(i), options, alone)
    names = sorted(p.relative_to(alone) for p in alone.rglob("*.*"))
    assert len(names) == 8
    for name in names:
        assert (alone / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    gt = read_gt(tmp_path / "two" / "ann.json")
    assert len(gt["images"]) == 6
    check_consistency(gt)
    for image in gt["images"]:
        picture = cv2.imread(str(tmp_path / "two" / image["file_name"]))
        assert picture.shape[:2] == (image["height"], image["width"])

    lost = next((tmp_path / "two" / "parts").glob("2.json"))
    before, kept = lost.read_bytes(), (tmp_path / "two" / "parts" / "1.json").stat().st_mtime_ns
    lost.unlink()
    render_dataset(options, tmp_path / "two", lambda line: None)
    assert lost.read_bytes() == before
    assert (tmp_path / "two" / "parts" / "1.json").stat().st_mtime_ns == kept
    with pytest.raises(OrveilError, match="other options"):
        render_dataset(DatasetOptions((1, 2), 8, ((64, 64),)), tmp_path / "two", lambda line: None)


def frames_of(path: Path) -> tuple[list[np.ndarray], list[float], int]:
    with av.open(str(path)) as c:
        got = [(f.to_ndarray(format="rgb24"), float(f.pts * f.time_base)) for f in c.decode(video=0)]
        return [g[0] for g in got], [g[1] for g in got], len(c.streams.audio)


def test_site_with_gaps_offsets_lens_sound_and_mixed_cameras(tmp_path: Path) -> None:
    options = SiteOptions(
        seed=3, cameras=2, people=2, seconds=2.0, fps=4.0, width=192, height=108, distortion=True,
        offsets=(0.0, 0.3), drops="gaps", audio=(1,), mixed=True, samples=0, layout="partial",
    )  # fmt: skip
    seen: list[tuple[int, int]] = []
    gt = read_gt(render_site(options, tmp_path, lambda done, total: seen.append((done, total))))
    plans = plan_cameras(options)
    assert plans[1].missing
    for plan in plans:
        pictures, times, sound = frames_of(tmp_path / f"cam{plan.id:02d}.mp4")
        slots = sorted(set(range(plan.slots(2.0))) - plan.missing)
        assert np.allclose(times, [s / float(plan.fps) for s in slots], atol=1e-3)
        assert pictures[0].shape[1::-1] == plan.size
        assert sound == (1 if plan.id == 1 else 0)
        images = [i for i in gt["images"] if i["camera_id"] == plan.id]
        assert [i["frame_index"] for i in images] == list(range(len(slots)))
        assert np.allclose([i["time"] for i in images], np.array(times) + plan.offset, atol=1e-3)
        assert len({i["pts"] for i in images}) == len(images)
    check_consistency(gt)
    assert [c["time_offset"] for c in gt["cameras"]] == [0.0, 0.3]
    assert any(a["category_id"] == PERSON for a in gt["annotations"])
    assert seen and all(a <= b for a, b in seen)
    assert not (tmp_path / ".partial").exists()


def test_same_options_give_the_same_files_and_nobody_means_nobody(tmp_path: Path) -> None:
    options = SiteOptions(seed=3, cameras=1, people=0, seconds=0.5, fps=4.0, width=128, height=96, samples=0)
    (tmp_path / "b/.partial").mkdir(parents=True)
    (tmp_path / "b/.partial/cam09.mp4").write_bytes(b"left by an interrupted run")
    for name in ("a", "b"):
        render_site(options, tmp_path / name)
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["cam01.mp4", "gt.json"]
    assert (tmp_path / "a/gt.json").read_bytes() == (tmp_path / "b/gt.json").read_bytes()
    assert (tmp_path / "a/cam01.mp4").read_bytes() == (tmp_path / "b/cam01.mp4").read_bytes()
    gt = json.loads((tmp_path / "a/gt.json").read_text())
    assert len(gt["images"]) == 2 and gt["annotations"] == [] and gt["people"] == []


def test_frozen_and_black_pictures_keep_their_truth() -> None:
    options = SiteOptions(
        seed=3, cameras=1, people=1, seconds=3, fps=2, width=128, height=96, samples=0, drops="black"
    )
    site, renderer, truth = open_site(options)
    plan = plan_cameras(options)[0]
    assert plan.missing
    gone = min(plan.missing)
    black = list(CameraFilm(site, renderer, truth, plan, 3).film(3, "black"))
    frozen = list(CameraFilm(site, renderer, truth, plan, 3).film(3, "frozen"))
    renderer.close()
    assert [slot for slot, _, _ in black] == [slot for slot, _, _ in frozen] == list(range(6))
    assert not black[gone][1].any() and black[gone][2] == ()
    assert np.array_equal(frozen[gone][1], frozen[gone - 1][1])
    assert [p.box for p in frozen[gone][2]] == [p.box for p in frozen[gone - 1][2]]
    assert black[0][1].any()
