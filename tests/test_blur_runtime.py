"""The appliance's detector: bundles that are not what they say are refused, boxes are in picture pixels."""

from __future__ import annotations

import json
from pathlib import Path

import bundles
import numpy as np
import pytest

from orveil.pipeline.errors import OrveilError
from orveil.stages.runtime import Bundle, ModelError, OnnxDetector


def picture(width: int = 192, height: int = 108) -> np.ndarray:
    image = np.full((height, width, 3), 90, np.uint8)
    image[height // 4 : height // 2, width // 8 : width // 4] = (0, 0, 255)
    return image


def test_boxes_are_in_pixels_of_the_picture_whatever_its_size(tmp_path: Path) -> None:
    detector = OnnxDetector(Bundle.load(bundles.write_bundle(tmp_path)))
    sizes = [(192, 108), (960, 540), (100, 300), (960, 540)]
    nothing = np.full((70, 90, 3), 10, np.uint8)
    found = detector.detect([*(picture(*size) for size in sizes), nothing])
    for (width, height), boxes in zip(sizes, found, strict=False):
        assert boxes.label.tolist() == [1] and boxes.score[0] == pytest.approx(0.9)
        want = [width // 8, height // 4, width // 4, height // 2]
        np.testing.assert_allclose(boxes.xyxy[0], want, atol=2 * max(width, height) / 192)
        assert boxes.xyxy.dtype == np.float32
    assert found[-1].xyxy.shape == (0, 4)
    assert detector.detect([]) == []


def test_what_is_not_finite_is_a_model_error(tmp_path: Path) -> None:
    detector = OnnxDetector(Bundle.load(bundles.write_bundle(tmp_path, bundles.colour_model(poison=True))))
    image = picture()
    assert len(detector.detect([image])[0].score) == 1
    image[:2, :2] = 255
    with pytest.raises(ModelError, match="not finite"):
        detector.detect([image])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"schema": 2}, "schema 2"),
        ({"schema": None}, "schema None"),
        ({"files": {}}, "does not name"),
        ({"files": {"detector.onnx": "0" * 64}}, "sha256 differs"),
        ({"files": {"detector.onnx": "0" * 64, "../secret": "0"}}, "sha256 differs|outside"),
        ({"labels": []}, "labels"),
        ({"labels": None}, "labels"),
        ({"thresholds": {"person": 0.5}}, "thresholds"),
        ({"thresholds": {"person": 0.5, "head": float("nan")}}, "threshold"),
        ({"long_side": "big"}, "long_side"),
    ],
)
def test_bundles_that_are_wrong(tmp_path: Path, keys: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(OrveilError, match=message) as caught:
        Bundle.load(bundles.write_bundle(tmp_path, **keys))
    assert str(tmp_path) in caught.value.where


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/hostname", "a\\b", ""])
def test_a_bundle_cannot_name_files_outside_its_folder(tmp_path: Path, name: str) -> None:
    folder = bundles.write_bundle(tmp_path / "bundle")
    (tmp_path / "outside.txt").write_text("x")
    content = json.loads((folder / "bundle.json").read_text())
    content["files"][name] = "0" * 64
    (folder / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(OrveilError, match="outside its folder"):
        Bundle.load(folder)


def test_a_link_that_leaves_the_folder(tmp_path: Path) -> None:
    folder = bundles.write_bundle(tmp_path / "bundle")
    (folder / "detector.onnx").rename(tmp_path / "elsewhere.onnx")
    (folder / "detector.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(OrveilError, match="link"):
        Bundle.load(folder)


def test_missing_bundle_and_broken_json(tmp_path: Path) -> None:
    with pytest.raises(OrveilError, match="cannot read the bundle"):
        Bundle.load(tmp_path / "none")
    (tmp_path / "bundle.json").write_text("{")
    with pytest.raises(OrveilError, match="not valid JSON"):
        Bundle.load(tmp_path)


def test_a_model_of_another_shape_is_refused(tmp_path: Path) -> None:
    other = bundles.colour_model()
    other.graph.input[0].name = "pixels"
    other.graph.node[0].input[0] = "pixels"
    with pytest.raises(OrveilError, match="inputs and outputs"):
        OnnxDetector(Bundle.load(bundles.write_bundle(tmp_path, other)))


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    import hashlib

    folder = bundles.write_bundle(tmp_path)
    (folder / "detector.onnx").write_bytes(b"no model")
    files = {"detector.onnx": hashlib.sha256(b"no model").hexdigest()}
    content = {**json.loads((folder / "bundle.json").read_text()), "files": files}
    (folder / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(OrveilError, match="cannot load the model"):
        OnnxDetector(Bundle.load(folder))
