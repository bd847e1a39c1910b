"""Ground truth in COCO form: masks, records, files, and the tools that read them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from orveil.pipeline.errors import OrveilError
from orveil.sim import coco
from orveil.sim.rle import decode_mask, encode_mask

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


def some_keypoints(seed: int = 0, visible: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.uniform(20, 60, 133), rng.uniform(10, 90, 133), np.full(133, visible)])
    return points.astype(np.float64)


def some_person(track_id: int = 3, seed: int = 0, **changes: object) -> coco.PersonRecord:
    mask = np.zeros((100, 120), bool)
    mask[12:20, 33:40] = True
    head = coco.HeadRecord((30, 10, 45, 25), 0.8, True, 31.26)
    fields: dict[str, object] = {
        "track_id": track_id,
        "role": "surgeon",
        "box": (20, 10, 60, 90),
        "full_box": (19.96, -3.04, 61.5, 90.0),
        "visible_fraction": 0.51239,
        "pixels": 1800,
        "keypoints": some_keypoints(seed),
        "head": head,
        "face_mask": mask,
    }
    return coco.PersonRecord(**(fields | changes))  # type: ignore[arg-type]


def some_frame(camera: int, index: int, people: tuple[coco.PersonRecord, ...]) -> coco.FrameRecord:
    return coco.FrameRecord(
        f"cam{camera:02d}/{index:06d}.png", camera, index, index / 10, index * 512, 120, 100, people
    )


@given(masks)
def test_mask_text_is_what_pycocotools_writes_and_reads(mask: np.ndarray) -> None:
    tools = pytest.importorskip("pycocotools.mask")
    ours = encode_mask(mask)
    theirs = tools.encode(np.asfortranarray(mask, np.uint8))
    assert ours["counts"] == theirs["counts"].decode()
    assert ours["size"] == list(theirs["size"])
    assert (decode_mask(ours) == mask).all()
    assert (tools.decode(ours).astype(bool) == mask).all()


def test_a_large_mask_survives() -> None:
    mask = np.zeros((1080, 1920), bool)
    mask[1000:1079, 1900:1920] = True
    mask[0, 0] = True
    assert (decode_mask(encode_mask(mask)) == mask).all()


def test_runs_that_do_not_fit_are_refused() -> None:
    rle = encode_mask(np.ones((4, 5), bool))
    with pytest.raises(ValueError, match="20 of 30"):
        decode_mask({**rle, "size": [6, 5]})


def test_person_head_and_face_become_annotations() -> None:
    gt = coco.assemble([some_frame(1, 0, (some_person(),))], {"description": "x"})
    person, head, face = gt["annotations"]
    assert [a["category_id"] for a in (person, head, face)] == [1, 2, 3]
    assert person["bbox"] == [20, 10, 40, 80]
    assert person["full_bbox"] == [20, -3, 41.5, 93]
    assert person["visible_fraction"] == 0.5124
    assert head["bbox"] == [30, 10, 15, 15]
    assert head["face_angle_deg"] == 31.3
    assert face["bbox"] == [33, 12, 7, 8]
    assert face["area"] == 56 == decode_mask(face["segmentation"]).sum()
    assert all(a["track_id"] == 3 and a["image_id"] == 1 and a["iscrowd"] == 0 for a in gt["annotations"])
    assert [a["id"] for a in gt["annotations"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("fraction", "height", "hard"), [(0.34, 80, True), (0.35, 60, False), (1.0, 59, True), (0.9, 200, False)]
)
def test_hard_means_hidden_or_low(fraction: float, height: int, hard: bool) -> None:
    person = some_person(visible_fraction=fraction, box=(0, 5, 30, 5 + height))
    assert person.is_hard is hard
    annotations = coco.person_dicts(person)
    assert len(annotations) == 3
    assert all(a["is_hard"] is hard for a in annotations)


def test_a_person_without_head_face_or_keypoints() -> None:
    (only,) = coco.person_dicts(some_person(head=None, face_mask=None, keypoints=None))
    assert "keypoints" not in only
    empty = some_person(head=None, face_mask=np.zeros((100, 120), bool))
    assert [a["category_id"] for a in coco.person_dicts(empty)] == [1]


def test_keypoint_fields_follow_coco_wholebody() -> None:
    points = some_keypoints()
    points[0] = (1.25, 2.0, 1)
    points[5, 2] = 0
    points[112:, 2] = 1
    fields = coco.keypoint_fields(points)
    lengths = {k: len(v) // 3 for k, v in fields.items() if k == "keypoints" or k.endswith("_kpts")}
    assert lengths == {
        "keypoints": 17,
        "foot_kpts": 6,
        "face_kpts": 68,
        "lefthand_kpts": 21,
        "righthand_kpts": 21,
    }
    assert fields["keypoints"][:3] == [1.2, 2, 1]
    assert fields["keypoints"][15:18] == [0, 0, 0]
    assert fields["num_keypoints"] == 16
    assert fields["lefthand_valid"] and not fields["righthand_valid"]
    x, y, w, h = fields["righthand_box"]
    inside = points[112:, :2]
    assert np.allclose([x, y, x + w, y + h], [*inside.min(0), *inside.max(0)], atol=0.11)
    points[23:91, 2] = 0
    assert coco.keypoint_fields(points)["face_box"] == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="133"):
        coco.keypoint_fields(points[:17])


def test_order_of_frames_does_not_show() -> None:
    frames = [some_frame(c, k, (some_person(c, k),)) for c in (2, 1) for k in (1, 0)]
    forward = coco.assemble(frames, {})
    backward = coco.assemble([json.loads(json.dumps(coco.frame_dict(f))) for f in frames[::-1]], {})
    assert json.dumps(forward) == json.dumps(backward)
    assert [(i["camera_id"], i["frame_index"]) for i in forward["images"]] == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_body_only_keeps_everything_but_the_small_parts() -> None:
    gt = coco.assemble([some_frame(1, 0, (some_person(),))], {"seed": 7})
    slim = coco.body_only(gt)
    full, kept = gt["annotations"][0], slim["annotations"][0]
    gone = set(full) - set(kept)
    assert gone == {k for k in full if k.startswith(("foot_", "face_", "lefthand_", "righthand_"))}
    assert all(kept[k] == full[k] for k in kept)
    assert slim["annotations"][1:] == gt["annotations"][1:]
    assert "face_visible" in slim["annotations"][1] and slim["info"] == {"seed": 7}


@pytest.mark.parametrize("name", ["gt.json", "gt.json.gz"])
def test_files_round_trip_with_the_same_bytes(tmp_path: Path, name: str) -> None:
    gt = coco.assemble([some_frame(1, 0, (some_person(),))], {"seed": 7}, [{"id": 1}], [{"track_id": 3}])
    coco.write_gt(gt, tmp_path / name)
    first = (tmp_path / name).read_bytes()
    assert coco.read_gt(tmp_path / name) == json.loads(json.dumps(gt))
    coco.write_gt(gt, tmp_path / name)
    assert (tmp_path / name).read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gt.json", b"{"),
        ("gt.json.gz", b"plain"),
        ("cut.json.gz", gzip.compress(b"{}" * 99)[:-9]),
        ("l.json", b"[]"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OrveilError, match=name):
        coco.read_gt(tmp_path / name)
    with pytest.raises(OrveilError, match="absent"):
        coco.read_gt(tmp_path / "absent.json")


def test_pycocotools_reads_and_scores_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco_api = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    gt = coco.assemble([some_frame(1, k, (some_person(3, k),)) for k in range(3)], {})
    coco.write_gt(gt, tmp_path / "gt.json")
    api = coco_api.COCO(str(tmp_path / "gt.json"))
    (face,) = api.loadAnns(api.getAnnIds(imgIds=[1], catIds=[coco.FACE]))
    assert api.annToMask(face).sum() == 56
    results = [
        {
            "image_id": a["image_id"],
            "category_id": 1,
            "bbox": a["bbox"],
            "keypoints": a["keypoints"],
            "score": 0.9,
        }
        for a in gt["annotations"]
        if a["category_id"] == 1
    ]
    for kind in ("bbox", "keypoints"):
        run = evaluation.COCOeval(api, api.loadRes([dict(r) for r in results]), kind)
        run.params.catIds = [1]
        run.evaluate()
        run.accumulate()
        run.summarize()
        assert run.stats[0] == pytest.approx(1.0)
    capsys.readouterr()


def test_mmpose_reads_the_pose_part(tmp_path: Path) -> None:
    mm = pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")
    del mm
    datasets = pytest.importorskip("mmpose.datasets.datasets", reason="mmpose is not installed")
    hidden_hand = some_keypoints(1)
    hidden_hand[112:, 2] = 1
    people = (some_person(1), some_person(2, keypoints=hidden_hand))
    gt = coco.assemble([some_frame(1, 0, people)], {})
    coco.write_gt(coco.pose_annotations(gt), tmp_path / "pose.json")
    data = datasets.CocoWholeBodyDataset(ann_file=str(tmp_path / "pose.json"), data_prefix={"img": ""})
    assert len(data) == 2
    first, second = data.get_data_info(0), data.get_data_info(1)
    assert np.allclose(first["keypoints"][0], some_keypoints()[:, :2], atol=0.051)
    assert first["keypoints_visible"].sum() == 133
    assert second["keypoints_visible"][0, 112:].sum() == 0
    assert second["keypoints_visible"].sum() == 112
    assert np.allclose(first["bbox"], [[20, 10, 60, 90]])
