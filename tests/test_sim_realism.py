"""The realism gate: matching, groups, targets, reading rendered folders, and its exit status."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer import Typer
from typer.testing import CliRunner

from orveil.pipeline.errors import OrveilError
from orveil.sim import coco, realism

app = Typer()
app.command()(realism.gate)
corner = st.integers(0, 80)
box = st.tuples(corner, corner, st.integers(5, 40), st.integers(5, 40)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
boxes = st.lists(box, max_size=6).map(lambda b: np.array(b, np.float64).reshape(-1, 4))


def person(
    track: int, xyxy: tuple[int, int, int, int], fraction: float, role: str = "nurse"
) -> coco.PersonRecord:
    return coco.PersonRecord(track, role, xyxy, xyxy, fraction, 500)


def write_folder(folder: Path, video: bool) -> Path:
    """Three pictures; in the k-th stands one bright person at 20 + 10 k and a patient in a corner."""
    frames = []
    pictures = []
    for k in range(3):
        place = (20 + 10 * k, 10, 50 + 10 * k, 90)
        people = (person(1, place, 0.9), person(2, (130, 100, 158, 118), 0.2, "patient"))
        name = f"cam01/{k:06d}" if video else f"images/{k}.png"
        frames.append(coco.FrameRecord(name, 1, k, k / 10, k, 160, 120, people))
        picture = np.zeros((120, 160, 3), np.uint8)
        picture[10:90, place[0] : place[2]] = 255
        pictures.append(picture)
    (folder / "images").mkdir(parents=True)
    coco.write_gt(coco.assemble(frames, {}), folder / ("gt.json.gz" if video else "gt.json"))
    if not video:
        for k, picture in enumerate(pictures):
            cv2.imwrite(str(folder / "images" / f"{k}.png"), picture)
        return folder
    with av.open(str(folder / "cam01.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    return folder


def find_bright(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds what is bright at score 0.4, and a false alarm at 0.2."""
    ys, xs = np.nonzero(picture[..., 0] > 128)
    found = [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], [100, 0, 110, 5]]
    return np.array(found, np.float32), np.array([0.4, 0.2])


@given(boxes, boxes, st.randoms(use_true_random=False))
def test_each_true_box_is_found_once_at_most(truth: np.ndarray, found: np.ndarray, random: object) -> None:
    scores = np.random.default_rng(len(found)).uniform(0.05, 1, len(found))
    result = realism.match(truth, found, scores)
    hits = result[result > 0]
    assert result.shape == (len(truth),)
    assert len(hits) <= len(found)
    assert len(set(hits.tolist())) == len(hits)
    assert set(hits.tolist()) <= set(scores.tolist())
    assert (realism.match(truth, truth, np.linspace(1, 0.5, len(truth))) > 0).all()


def test_the_better_score_takes_the_box() -> None:
    truth = np.array([[0, 0, 10, 10], [0, 0, 10, 12]], float)
    found = np.array([[0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60]], float)
    assert realism.match(truth, found, np.array([0.3, 0.9, 0.8])).tolist() in ([0.3, 0.9], [0.9, 0.3])
    assert realism.match(truth[:1], found[2:], np.array([0.8])).tolist() == [0.0]


def test_overlap_has_to_reach_one_half() -> None:
    truth = np.array([[0, 0, 10, 10]], float)
    assert realism.match(truth, np.array([[0, 0, 10, 20]], float), np.array([0.5]))[0] == 0.5
    assert realism.match(truth, np.array([[0, 0, 10, 20.1]], float), np.array([0.5]))[0] == 0


@pytest.mark.parametrize("video", [False, True])
def test_folders_of_pictures_and_of_videos(tmp_path: Path, video: bool) -> None:
    tally = realism.measure([write_folder(tmp_path / "a", video)], find_bright)
    groups = realism.GROUPS["operating room"]
    assert tally.pictures == 3
    assert tally.recall(groups["everybody"], 0.3) == (0.5, 6)
    assert tally.recall(groups["staff"], 0.3) == (1.0, 3)
    assert tally.recall(groups["staff"], 0.5) == (0.0, 3)
    assert tally.recall(groups["well-visible staff"], 0.1) == (1.0, 3)
    assert [tally.false_per_picture(s) for s in realism.SCORES] == [0, 0, 1]
    assert realism.measure([tmp_path / "a"], find_bright, every=2).pictures == 2


def test_targets_name_what_they_miss(tmp_path: Path) -> None:
    tally = realism.measure([write_folder(tmp_path / "a", False)], find_bright)
    missed = realism.failures({"operating room": tally, "source": tally})
    assert len(missed) == 2
    assert missed[0].startswith("operating room, everybody at 0.5: 0.0 % of 6, wanted 30 to 45 %")
    assert "everybody at 0.1: 50.0 %" in missed[1]
    assert realism.failures({"source": tally}) == []
    assert realism.failures({"source": realism.Tally()}) != []
    assert "| source | well visible | 3 | 0.0 / 100.0 / 100.0 |" in "\n".join(
        realism.table({"source": tally})
    )


def test_missing_pictures_and_short_videos_are_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", False)
    (folder / "images" / "1.png").write_bytes(b"")
    with pytest.raises(OrveilError, match=r"1\.png"):
        realism.measure([folder], find_bright)
    with pytest.raises(OrveilError, match=r"gt\.json"):
        realism.measure([tmp_path], find_bright)
    video = write_folder(tmp_path / "b", True)
    gt = coco.read_gt(video / "gt.json.gz")
    gt["images"].append({**gt["images"][-1], "id": 99, "frame_index": 7})
    with pytest.raises(OrveilError, match="lacks 1 frames"):
        list(realism.pictures(video, gt))


def onnx_detector(path: Path, outputs: tuple[str, str] = ("dets", "labels")) -> Path:
    """A model that finds the same two boxes whatever it is shown, one of them not a person."""
    onnx = pytest.importorskip("onnx")
    helper, tensors = onnx.helper, onnx.numpy_helper
    dets = np.array([[[80, 40, 200, 360, 0.4], [0, 0, 9, 9, 0.9], [0, 0, 0, 0, 0]]], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], [outputs[0]], value=tensors.from_array(dets)),
            helper.make_node("Constant", [], [outputs[1]], value=tensors.from_array(np.array([[0, 3, 0]]))),
            helper.make_node("Identity", ["input"], ["seen"]),
        ],
        "fixed",
        [helper.make_tensor_value_info("input", 1, [1, 3, "h", "w"])],
        [
            helper.make_tensor_value_info(outputs[0], 1, [1, 3, 5]),
            helper.make_tensor_value_info(outputs[1], 7, [1, 3]),
            helper.make_tensor_value_info("seen", 1, [1, 3, "h", "w"]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def test_boxes_come_back_in_picture_pixels(tmp_path: Path) -> None:
    detect = realism.OnnxPersonDetector(onnx_detector(tmp_path / "d.onnx"))
    found, scores = detect(np.zeros((120, 160, 3), np.uint8))
    assert np.allclose(found, [[20, 10, 50, 90]])
    assert np.allclose(scores, [0.4])
    found, _ = detect(np.zeros((640, 320, 3), np.uint8))
    assert np.allclose(found, [[80, 40, 200, 360]])


def test_command_passes_and_fails(tmp_path: Path) -> None:
    model = str(onnx_detector(tmp_path / "d.onnx"))
    folder = write_folder(tmp_path / "a", False)
    gt = coco.read_gt(folder / "gt.json")
    gt["images"] = gt["images"][:1]
    coco.write_gt(gt, folder / "gt.json")
    good = CliRunner().invoke(app, [model, "--source", str(folder)])
    assert good.exit_code == 0, good.output
    assert "gate: passed" in good.output
    bad = CliRunner().invoke(app, [model, "--operating-room", str(folder), "--every", "1"])
    assert bad.exit_code == 1
    assert "FAILED operating room, everybody at 0.5" in bad.output


def test_command_explains_bad_input(tmp_path: Path) -> None:
    model = onnx_detector(tmp_path / "d.onnx")
    other = onnx_detector(tmp_path / "o.onnx", ("boxes", "classes"))
    folder = str(write_folder(tmp_path / "a", False))
    runs = {
        "nothing to measure": [str(model)],
        "absent.onnx": [str(tmp_path / "absent.onnx"), "--source", folder],
        "not dets and labels": [str(other), "--source", folder],
        "empty": [str(model), "--source", str(tmp_path / "empty")],
    }
    for expected, arguments in runs.items():
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2, result.output
        assert expected in result.output
