"""Learning: the detect stage and the import of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training extras are not installed")
mm = pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")

from orveil.pipeline.errors import OrveilError  # noqa: E402
from orveil.pipeline.media import frames  # noqa: E402
from orveil.pipeline.settings import DetectParams  # noqa: E402
from orveil.pipeline.tables import read_tables  # noqa: E402
from orveil.pipeline.types import Detections  # noqa: E402
from orveil.stages.detect import Detect  # noqa: E402
from orveil.stages.weights import ImportWeights, file_sha256, import_weights_node, read_info  # noqa: E402
from tests import learning_site as site  # noqa: E402

PARAMS = DetectParams(long_side=160, score_threshold=0.001, chunk_frames=4)


def table(done: site.InputRef) -> Detections:
    return read_tables(Detections, [path for _, path in done.shards])


def test_shards_cover_every_frame_and_number_alike(tmp_path: Path) -> None:
    inputs = {"media": site.write_media(tmp_path), "weights": site.write_detector(tmp_path)}
    parts = site.run_stage(Detect(), PARAMS, inputs, tmp_path / "a")
    whole = site.run_stage(Detect(), PARAMS.model_copy(update={"chunk_frames": 100}), inputs, tmp_path / "b")
    assert len(parts.shards) == 4
    assert len(whole.shards) == 2
    a, b = table(parts), table(whole)
    assert len(a) > 0
    assert set(a.index.tolist()) == set(range(site.FRAMES))
    assert set(a.label.tolist()) <= {0, 1}
    for name in ("camera", "index", "pts", "det_id", "label"):
        assert (getattr(a, name) == getattr(b, name)).all(), name
    np.testing.assert_allclose(a.xyxy, b.xyxy, atol=1e-3)
    for camera in site.CAMERAS:
        ids = a.view(site.SESSION, camera).det_id
        assert len(set(ids.tolist())) == len(ids)
        assert (np.diff(ids) > 0).all()
    assert a.meta["weights"] == read_info(inputs["weights"].path).sha256


def test_rows_are_what_the_detector_says(tmp_path: Path) -> None:
    inputs = {"media": site.write_media(tmp_path), "weights": site.write_detector(tmp_path)}
    found = table(site.run_stage(Detect(), PARAMS, inputs, tmp_path / "a")).view(site.SESSION, "cam2")
    folder = inputs["weights"].path
    detector = mm.Detector(
        mm.load_config(folder / "config.py"),
        folder / "model.safetensors",
        long_side=160,
        score_threshold=0.001,
    )
    for index, _, picture in frames(tmp_path / "cam2.mp4"):
        xyxy, score, label = detector.predict([picture])[0]
        own = found.select(found.index == index)
        np.testing.assert_allclose(own.xyxy, xyxy, atol=1e-3)
        np.testing.assert_allclose(own.score, score, atol=1e-5)
        assert (own.label == label).all()


def test_import_keeps_tensors_and_checks_digests(tmp_path: Path) -> None:
    weights = site.write_detector(tmp_path).path
    params, externals = import_weights_node("detector", "tiny", weights, None, long_side=160)
    done = site.run_stage(ImportWeights(), params, {}, tmp_path / "a", externals=externals)
    info = read_info(done.path)
    assert (info.kind, info.classes, info.source, info.long_side) == (
        "detector",
        ("person", "head"),
        "tiny",
        160,
    )
    assert info.sha256 == file_sha256(done.path / "model.safetensors")
    (weights / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(OrveilError, match="sha256"):
        site.run_stage(ImportWeights(), params, {}, tmp_path / "b", externals=externals)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    one = site.write_detector(tmp_path / "x", classes=("person",)).path
    two = site.write_detector(tmp_path / "y").path
    params, externals = import_weights_node(
        "detector", "wrong", one / "model.safetensors", str(two / "config.py")
    )
    with pytest.raises(OrveilError, match="another architecture"):
        site.run_stage(ImportWeights(), params, {}, tmp_path / "a", externals=externals)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = site.write_detector(tmp_path).path
    state = mm.read_weights(folder / "model.safetensors")
    name = "bbox_head.rtm_cls.0.weight"
    state[name] = state[name] * float("nan")
    mm.write_weights(state, folder / "model.safetensors")
    params, externals = import_weights_node("detector", "broken", folder, None)
    with pytest.raises(OrveilError, match="not finite"):
        site.run_stage(ImportWeights(), params, {}, tmp_path / "a", externals=externals)


def test_a_file_without_config_says_what_to_add(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(b"x")
    with pytest.raises(OrveilError, match="need a config") as error:
        import_weights_node("detector", "w", file, None)
    assert "detector_config" in error.value.remedy
