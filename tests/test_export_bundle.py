"""Export: the bundle detects what PyTorch detects, or there is no bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training extras are not installed")
mm = pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")

from orveil.pipeline.errors import OrveilError  # noqa: E402
from orveil.pipeline.settings import ExportParams  # noqa: E402
from orveil.pipeline.stage import InputRef  # noqa: E402
from orveil.stages import export as room  # noqa: E402
from orveil.stages.bundle_check import SELFTEST, compare, selftest_pictures, verify_bundle  # noqa: E402
from orveil.stages.onnx_graph import CellGraph, Suppression, export_onnx, suppressed  # noqa: E402
from orveil.stages.runtime import Boxes, Bundle, OnnxDetector, sha256_of  # noqa: E402
from tests import learning_site as site  # noqa: E402

PARAMS = ExportParams(score_floor=0.02, min_recall=0.0)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, InputRef]:
    root = tmp_path_factory.mktemp("site")
    return {
        "media": site.write_media(root),
        "labels": site.write_labels(root),
        "poses": site.write_poses(root),
        "student": site.write_detector(root),
    }


@pytest.fixture(scope="module")
def bundle(inputs: dict[str, InputRef], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return site.run_stage(room.Export(), PARAMS, inputs, tmp_path_factory.mktemp("a")).path


@pytest.mark.parametrize("shape", [(1, 96, 160), (3, 160, 96), (5, 64, 64)])
def test_graph_equals_pytorch(inputs: dict[str, InputRef], bundle: Path, shape: tuple[int, int, int]) -> None:
    import onnxruntime as ort

    folder = inputs["student"].path
    config = mm.load_config(folder / "config.py")
    graph = CellGraph(mm.build_detector(config, folder / "model.safetensors"), config)
    images = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    how = Suppression(PARAMS.score_floor, PARAMS.nms_iou, PARAMS.max_per_image)
    reference = suppressed(graph, torch.from_numpy(images), how)
    session = ort.InferenceSession(str(bundle / "detector.onnx"), providers=["CPUExecutionProvider"])
    names = ["boxes", "scores", "labels", "batch_index"]
    boxes, scores, labels, at = session.run(names, {"images": images})
    assert len(scores) == sum(len(score) for _, score, _ in reference) > 0
    for number, (box, score, label) in enumerate(reference):
        mine = at == number
        np.testing.assert_allclose(boxes[mine], box.numpy(), atol=1e-3)
        np.testing.assert_allclose(scores[mine], score.numpy(), atol=1e-5)
        np.testing.assert_array_equal(labels[mine], label.numpy())


def best_of_each_label(xyxy: np.ndarray, score: np.ndarray, label: np.ndarray) -> Boxes:
    kept = [np.flatnonzero(label == kind)[: PARAMS.max_per_image] for kind in np.unique(label)]
    rows = np.concatenate(kept)
    return Boxes(xyxy[rows], score[rows], label[rows])


def test_bundle_loads_and_detects_like_the_training_side(inputs: dict[str, InputRef], bundle: Path) -> None:
    loaded = Bundle.load(bundle)
    assert loaded.labels == ("person", "head")
    assert loaded.long_side == 160
    folder = inputs["student"].path
    detector = mm.Detector(
        mm.load_config(folder / "config.py"),
        folder / "model.safetensors",
        long_side=160,
        score_threshold=PARAMS.score_floor,
        max_per_image=10_000,
    )
    pictures = [site.picture("cam1", i) for i in range(3)]
    # The graph keeps the best of each label, the detector the best of all: cut both alike.
    theirs = [best_of_each_label(*prediction) for prediction in detector.predict(pictures)]
    figures = compare(theirs, OnnxDetector(loaded).detect(pictures), PARAMS.score_floor, 1e-3)
    assert figures["boxes"] > 50
    assert figures["unpaired"] <= 0.02 * figures["boxes"]
    assert figures["max_box_error_px"] < 0.5


def test_manifest_names_files_gate_and_provenance(inputs: dict[str, InputRef], bundle: Path) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert set(manifest["files"]) == {p.name for p in bundle.iterdir()} - {"bundle.json"}
    assert all(sha256_of(bundle / name) == digest for name, digest in manifest["files"].items())
    assert set(manifest["thresholds"]) == {"person", "head"}
    assert {row["batch"] for row in manifest["gate"]["parity"]} == {1, 2, 5}
    assert {row["orientation"] for row in manifest["gate"]["parity"]} == {"as filmed", "turned"}
    assert [video["camera"] for video in manifest["provenance"]["videos"]] == ["cam1", "cam2"]
    assert manifest["provenance"]["inputs"]["student"] == inputs["student"].digest
    assert str(bundle) not in (bundle / "bundle.json").read_text()


def test_the_same_student_gives_the_same_bytes(
    inputs: dict[str, InputRef], bundle: Path, tmp_path: Path
) -> None:
    again = site.run_stage(room.Export(), PARAMS, inputs, tmp_path).path
    for path in bundle.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_verify_finds_the_bundle_sound_and_a_change(bundle: Path, tmp_path: Path) -> None:
    rows = verify_bundle(bundle)
    assert [(row["model"], row["batch"], row["used"]) for row in rows] == [
        ("detector.onnx", batch, True) for batch in (1, 2, 5)
    ]
    assert all(row["max_box_error_px"] < 0.1 and row["boxes"] > 20 for row in rows)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in bundle.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    test = json.loads((copy / SELFTEST).read_text())
    picture = next(item for item in test["models"]["detector.onnx"]["expected"] if item["score"])
    picture["xyxy"][0] = [value + 1.0 for value in picture["xyxy"][0]]
    (copy / SELFTEST).write_text(json.dumps(test))
    with pytest.raises(OrveilError, match="sha256 differs"):
        verify_bundle(copy)
    manifest = json.loads((copy / "bundle.json").read_text())
    manifest["files"][SELFTEST] = sha256_of(copy / SELFTEST)
    (copy / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(OrveilError, match="differ by"):
        verify_bundle(copy)


def test_a_student_with_nan_is_refused(inputs: dict[str, InputRef], tmp_path: Path) -> None:
    folder = site.write_detector(tmp_path).path
    state = mm.read_weights(folder / "model.safetensors")
    state["bbox_head.rtm_cls.0.bias"][:] = float("nan")
    mm.write_weights(state, folder / "model.safetensors")
    with pytest.raises(OrveilError, match="not finite"):
        site.run_stage(room.Export(), PARAMS, {**inputs, "student": site.ref("s", folder)}, tmp_path / "a")
    assert not (tmp_path / "a" / "export-0-scratch" / "bundle.json").exists()


def test_a_student_that_finds_too_few_of_its_own_labels_is_refused(
    inputs: dict[str, InputRef], tmp_path: Path
) -> None:
    blind = ExportParams(score_floor=0.9, min_recall=0.5)
    with pytest.raises(OrveilError, match="would leave people uncovered"):
        site.run_stage(room.Export(), blind, inputs, tmp_path)


def test_a_model_that_detects_something_else_is_refused(
    inputs: dict[str, InputRef], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = site.write_detector(tmp_path, seed=1).path
    config = mm.load_config(folder / "config.py")
    wrong = CellGraph(mm.build_detector(config, folder / "model.safetensors"), config)
    how = Suppression(PARAMS.score_floor, PARAMS.nms_iou, PARAMS.max_per_image)
    content = export_onnx(wrong, how, {})
    monkeypatch.setattr("orveil.stages.onnx_graph.export_onnx", lambda *_: content)
    with pytest.raises(OrveilError, match="does not detect what the student detects"):
        site.run_stage(room.Export(), PARAMS, inputs, tmp_path / "a")


def test_nobody_visible_still_gives_a_bundle(inputs: dict[str, InputRef], tmp_path: Path) -> None:
    empty = {
        **inputs,
        "labels": site.write_labels(tmp_path, nobody=True),
        "poses": site.write_poses(tmp_path, nobody=True),
    }
    done = site.run_stage(room.Export(), PARAMS, empty, tmp_path / "a")
    assert set(Bundle.load(done.path).thresholds.values()) == {0.3}


def test_selftest_pictures_have_both_orientations() -> None:
    shapes = [picture.shape for picture in selftest_pictures()]
    assert sorted(shapes) == [(288, 512, 3), (288, 512, 3), (512, 288, 3), (512, 288, 3)]
