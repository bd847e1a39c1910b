"""Export in 8-bit integers: a model that loses recall, depends on the batch or is slower is not run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training extras are not installed")
mm = pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")

import onnx  # noqa: E402

from orveil.pipeline.errors import OrveilError  # noqa: E402
from orveil.pipeline.settings import ExportParams  # noqa: E402
from orveil.pipeline.stage import InputRef  # noqa: E402
from orveil.stages import export_int8, onnx_int8  # noqa: E402
from orveil.stages.bundle_check import SELFTEST, verify_bundle  # noqa: E402
from orveil.stages.export import Export  # noqa: E402
from orveil.stages.onnx_graph import CellGraph, Suppression, export_onnx  # noqa: E402
from orveil.stages.runtime import Bundle, OnnxDetector, sha256_of  # noqa: E402
from tests import learning_site as site  # noqa: E402
from tests import mm_models  # noqa: E402

LOOSE = ExportParams(score_floor=0.02, min_recall=0.0, max_recall_drop=1.0, int8=True)
HOW = Suppression(0.02, 0.65, 100)


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
    return site.run_stage(Export(), LOOSE, inputs, tmp_path_factory.mktemp("a")).path


def model(activation: str = "SiLU", *, fresh: bool = False) -> bytes:
    config = mm.load_config(
        "detector_embedded",
        {**mm_models.TINY_DETECTOR, **{
            f"model.{part}.act_cfg": {"type": activation} for part in ("backbone", "neck", "bbox_head")
        }},
    )  # fmt: skip
    detector = mm.build_detector(config, seed=0)
    if not fresh:
        mm_models.unsettle(detector)
    return export_onnx(CellGraph(detector, config), HOW, {})


def pictures(count: int) -> list[np.ndarray]:
    return [mm_models.picture(seed)[None] for seed in range(count)]


def cells(content: bytes, picture: np.ndarray) -> list[np.ndarray]:
    """Boxes and scores of every cell, before suppression."""
    import onnxruntime as ort

    proto = onnx.load_from_string(content)
    for name in ("cell_boxes", "cell_scores"):
        proto.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["cell_boxes", "cell_scores"], {"images": picture})


@pytest.mark.parametrize("activation", ["SiLU", "ReLU"])
def test_integers_answer_nearly_as_floating_point(activation: str) -> None:
    content = model(activation)
    integers = onnx_int8.quantise(content, pictures(6))
    assert integers == onnx_int8.quantise(content, pictures(6))
    for seed in (3, 17):
        picture = mm_models.picture(seed)[None]
        (boxes, scores), (near_boxes, near_scores) = cells(content, picture), cells(integers, picture)
        assert scores.std() > 0.02
        assert np.abs(scores - near_scores).mean() < 0.1 * scores.std()
        assert np.abs(boxes - near_boxes).mean() < 0.05 * boxes.std()


@pytest.mark.parametrize("fresh", [False, True])
def test_wide_convolutions_become_integers_and_the_last_ones_stay_exact(fresh: bool) -> None:
    # The exporter stores equal weights once, and fresh models have many.
    content = model(fresh=fresh)
    floating = onnx.load_from_string(content)
    integer = onnx.load_from_string(onnx_int8.quantise(content, pictures(2)))
    maker = {name: node for node in integer.graph.node for name in node.output}
    weights = {t.name: tuple(t.dims) for t in floating.graph.initializer}
    convs = [node for node in floating.graph.node if node.op_type == "Conv"]
    kept, turned = [], []
    for before in convs:
        after = next(n for n in integer.graph.node if n.op_type == "Conv" and n.output == before.output)
        source = maker.get(after.input[1])
        (turned if source is not None and source.op_type == "DequantizeLinear" else kept).append(before)
    assert len(turned) > len(convs) / 2
    assert all(weights[node.input[1]][1] >= onnx_int8.THIN for node in turned)
    assert {node.name for node in convs if "rtm_" in node.name} <= {node.name for node in kept}


def test_nothing_to_calibrate_by() -> None:
    with pytest.raises(ValueError, match="no picture"):
        onnx_int8.quantise(model(), [])


def test_bundle_names_the_integer_model_and_verifies_both(bundle: Path, tmp_path: Path) -> None:
    loaded = Bundle.load(bundle)
    assert loaded.model.name == export_int8.INT8
    manifest = json.loads((bundle / "bundle.json").read_text())
    figures = manifest["gate"]["int8"]
    assert figures["used"] and figures["reason"] == ""
    assert [row["batch"] for row in figures["parity"]] == [1, 2, 5]
    assert figures["speedup"] == pytest.approx(figures["float_ms"] / figures["int8_ms"], rel=0.05)
    assert set(figures["recall"]) == {"person", "head"}
    rows = verify_bundle(bundle)
    assert {(row["model"], row["batch"]) for row in rows} == {
        (name, batch) for name in ("detector.onnx", export_int8.INT8) for batch in (1, 2, 5)
    }
    assert {row["model"] for row in rows if row["used"]} == {export_int8.INT8}


def test_verify_finds_a_changed_integer_model(bundle: Path, tmp_path: Path) -> None:
    for path in bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    proto = onnx.load(tmp_path / export_int8.INT8)
    for tensor in proto.graph.initializer:
        if tensor.name.endswith("#bias-int"):
            halved = onnx.numpy_helper.to_array(tensor) // 2
            tensor.CopyFrom(onnx.numpy_helper.from_array(halved, tensor.name))
    onnx.save(proto, tmp_path / export_int8.INT8)
    manifest = json.loads((tmp_path / "bundle.json").read_text())
    manifest["files"][export_int8.INT8] = sha256_of(tmp_path / export_int8.INT8)
    (tmp_path / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(OrveilError, match=r"detector\.int8\.onnx in batches of 1 does not detect here"):
        verify_bundle(tmp_path)
    test = json.loads((tmp_path / SELFTEST).read_text())
    del test["models"][export_int8.INT8]
    (tmp_path / SELFTEST).write_text(json.dumps(test))
    manifest["files"][SELFTEST] = sha256_of(tmp_path / SELFTEST)
    (tmp_path / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(OrveilError, match="says nothing about"):
        verify_bundle(tmp_path)


def damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrate on black pictures: the ranges are far too small for real ones."""
    whole = onnx_int8.quantise
    monkeypatch.setattr(
        "orveil.stages.onnx_int8.quantise",
        lambda content, batches, threads: whole(content, [np.zeros_like(batches[0])], threads),
    )


@pytest.fixture
def lively(inputs: dict[str, InputRef], tmp_path: Path) -> dict[str, InputRef]:
    """A student that finds what is labelled: its own best boxes are the labels."""
    folder = inputs["student"].path
    detector = mm.Detector(
        mm.load_config(folder / "config.py"),
        folder / "model.safetensors",
        long_side=160,
        score_threshold=0.02,
    )
    boxes = {}
    for camera in site.CAMERAS:
        for i in range(site.FRAMES):
            xyxy, score, label = detector.predict([site.picture(camera, i)])[0]
            boxes[camera, i] = xyxy[label == 0][np.argsort(-score[label == 0])[:6]]
    return {**inputs, "labels": site.write_labels(tmp_path, persons=boxes)}


def test_a_damaged_quantisation_is_refused(
    lively: dict[str, InputRef], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = ExportParams(score_floor=0.02, int8=True)
    damaged(monkeypatch)
    with pytest.raises(OrveilError, match="in 8-bit integers, recall of person falls from"):
        site.run_stage(Export(), params, lively, tmp_path / "a")
    auto = params.model_copy(update={"int8": "auto"})
    folder = site.run_stage(Export(), auto, lively, tmp_path / "b").path
    manifest = json.loads((folder / "bundle.json").read_text())
    assert Bundle.load(folder).model.name == "detector.onnx"
    assert "recall of person falls from" in manifest["gate"]["int8"]["reason"]
    assert not (folder / export_int8.INT8).exists()


@pytest.mark.parametrize(("seconds", "used"), [((0.004, 0.002), True), ((0.002, 0.002), False)])
def test_auto_takes_integers_only_where_they_are_faster(
    inputs: dict[str, InputRef],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: tuple[float, float],
    used: bool,
) -> None:
    monkeypatch.setattr(export_int8, "seconds_side_by_side", lambda *_: list(seconds))
    params = LOOSE.model_copy(update={"int8": "auto"})
    folder = site.run_stage(Export(), params, inputs, tmp_path).path
    figures = json.loads((folder / "bundle.json").read_text())["gate"]["int8"]
    assert (figures["used"], Bundle.load(folder).model.name == export_int8.INT8) == (used, used)
    assert figures["speedup"] == pytest.approx(seconds[0] / seconds[1])
    assert (figures["reason"] == "") == used


def test_no_more_than_the_model_named_is_run(bundle: Path, tmp_path: Path) -> None:
    for path in bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((tmp_path / "bundle.json").read_text())
    (tmp_path / "bundle.json").write_text(json.dumps({**manifest, "model": "../detector.onnx"}))
    with pytest.raises(OrveilError, match="which `files` does not name"):
        Bundle.load(tmp_path)
    del manifest["model"]
    (tmp_path / "bundle.json").write_text(json.dumps(manifest))
    assert OnnxDetector(Bundle.load(tmp_path)).bundle.model.name == "detector.onnx"
