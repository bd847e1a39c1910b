"""Ground truth: joining COCO files to the frames of a site, and the errors a wrong file gives."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.types import FACE, HEAD, PERSON, MediaFiles, MediaIndex
from orveil.stages.truth import load_truth


def media(views=(("main", "cam01"), ("main", "cam02")), frames=3, stem=None):
    n = len(views)
    files = MediaFiles(
        session=[s for s, _ in views], camera=[c for _, c in views],
        path=[f"/videos/{stem or c}.mp4" for _, c in views], sha256=["0"] * n, width=[64] * n,
        height=[48] * n, rotation=[0] * n, time_base_num=[1] * n, time_base_den=[10] * n, frames=[frames] * n,
        duration_s=[frames / 10] * n, offset_s=[0.0] * n, offset_source=["given"] * n,
    )  # fmt: skip
    index = np.tile(np.arange(frames), n)
    rows = [view for view in views for _ in range(frames)]
    table = MediaIndex(
        session=[s for s, _ in rows], camera=[c for _, c in rows], index=index, pts=index * 7,
        time_s=index / 10,
    )  # fmt: skip
    return files, table


def coco(images=None, annotations=None, categories=("person", "head", "face")):
    return {
        "images": images if images is not None else [image(1, 1, 0)],
        "annotations": annotations if annotations is not None else [annotation(1, 1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(categories, 1)],
    }


def image(identity, camera, frame, **more):
    return {"id": identity, "camera_id": camera, "frame_index": frame, "width": 64, "height": 48, **more}


def annotation(identity, image_id, category=1, **more):
    return {"id": identity, "image_id": image_id, "category_id": category, "bbox": [1, 2, 10, 20], **more}


def load(tmp_path, gt, **kwargs):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(gt))
    return load_truth(path, *media(**kwargs))


def test_images_join_by_camera_number_and_frame_index(tmp_path):
    gt = coco(
        [image(10, 2, 1), image(11, 1, 2)],
        [annotation(1, 10, track_id=5, is_hard=True), annotation(2, 11, 2), annotation(3, 10, 3)],
    )
    truth = load(tmp_path, gt)
    assert truth.frames.camera.tolist() == ["cam02", "cam01"]
    assert truth.frames.index.tolist() == [1, 2]
    person = truth.boxes[PERSON]
    assert person.frame.tolist() == [0]
    assert person.xyxy.tolist() == [[1, 2, 11, 22]]
    assert (person.track_id.tolist(), person.is_hard.tolist()) == ([5], [True])
    assert truth.boxes[HEAD].frame.tolist() == [1]
    assert truth.boxes[FACE].frame.tolist() == [0]
    assert truth.categories == {PERSON, HEAD, FACE}


@pytest.mark.parametrize("camera", ["cam02", 2])
def test_cameras_join_by_name_number_or_file_name(tmp_path, camera):
    assert load(tmp_path, coco([image(1, camera, 0)])).frames.camera.tolist() == ["cam02"]


def test_a_camera_is_also_known_by_the_name_of_its_video(tmp_path):
    truth = load(tmp_path, coco([image(1, 3, 0)]), views=(("main", "left"),), stem="cam03")
    assert truth.frames.camera.tolist() == ["left"]


def test_frames_join_by_pts_where_there_is_no_frame_index(tmp_path):
    record = image(1, 1, 0)
    del record["frame_index"]
    assert load(tmp_path, coco([{**record, "pts": 14}])).frames.index.tolist() == [2]


def test_gzip_and_unmatched_images(tmp_path):
    path = tmp_path / "gt.json.gz"
    gt = coco([image(1, 1, 0), image(2, 9, 0), image(3, 1, 99)])
    path.write_bytes(gzip.compress(json.dumps(gt).encode()))
    truth = load_truth(path, *media())
    assert (len(truth.frames), truth.unmatched) == (1, 2)


def test_times_of_the_file_number_the_moments(tmp_path):
    images = [image(1, 1, 0, time=0.0), image(2, 2, 0, time=0.1), image(3, 1, 1, time=0.1)]
    truth = load(tmp_path, coco(images))
    assert truth.frames.moment.tolist() == [0, 1, 1]


def test_several_sessions_need_a_session_per_image(tmp_path):
    views = (("one", "cam01"), ("two", "cam01"))
    truth = load(tmp_path, coco([image(1, 1, 0, session="two")]), views=views)
    assert truth.frames.session.tolist() == ["two"]
    with pytest.raises(OrveilError, match="must name its `session`"):
        load(tmp_path, coco(), views=views)


@pytest.mark.parametrize(
    ("gt", "problem"),
    [
        (coco([image(1, 9, 0)]), "no image belongs to a frame of this site"),
        (coco([image(1, 1, 0), image(1, 1, 1)]), "two images have the id 1"),
        (coco([image(1, 1, 0), image(2, 1, 0)]), "two images belong to the same frame"),
        (coco([{"id": 1, "frame_index": 0}]), "image 1 has no `camera_id`"),
        (coco([{"id": 1, "camera_id": 1}]), "image 1 has no `pts`"),
        (coco(annotations=[annotation(4, 77)]), "annotation 4 names image 77"),
        (coco(annotations=[annotation(4, 1, bbox=[1, 2, 3])]), "annotation 4 has no box"),
        (coco(annotations=[annotation(4, 1, bbox=[1, 2, -3, 4])]), "annotation 4 has the impossible box"),
        (coco(categories=("dog",)), "no category named person"),
        ({"images": []}, "lacks annotations, categories"),
        ([1], "lacks images"),
    ],
)
def test_wrong_files_are_clear_errors(tmp_path, gt, problem):
    with pytest.raises(OrveilError, match=problem) as caught:
        load(tmp_path, gt)
    assert "gt.json" in caught.value.where


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe"])
def test_unreadable_files_are_clear_errors(tmp_path, data):
    (tmp_path / "gt.json").write_bytes(data)
    with pytest.raises(OrveilError, match="cannot be read"):
        load_truth(tmp_path / "gt.json", *media())


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(OrveilError, match="cannot be read"):
        load_truth(tmp_path / "none.json", *media())
