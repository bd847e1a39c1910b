"""The blur stage in the pipeline: one shard per camera, tables beside the video, equal bytes on every run."""

from __future__ import annotations

import json
from pathlib import Path

import bundles
import numpy as np
import pytest
import videos

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.kinds import BlurredKind
from orveil.pipeline.settings import BlurParams, SiteSettings
from orveil.pipeline.stage import Context, InputRef, Shard
from orveil.pipeline.tables import read_table
from orveil.pipeline.types import HEAD, Detections
from orveil.stages.blur import Blur
from orveil.stages.ingest import Ingest
from orveil.stages.redaction.boxes_file import BoxesFile
from orveil.stages.redaction.mask import draw_mask
from orveil.stages.sources import site_media


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, InputRef], Context]:
    base = tmp_path_factory.mktemp("site")
    (base / "videos").mkdir()
    for name in ("a", "b"):
        pictures = [np.full((96, 128, 3), ord(name), np.uint8) for _ in range(12)]
        for number, picture in enumerate(pictures):
            picture[40:60, 30 + number : 50 + number] = (0, 0, 255)
        videos.write_video(base / "videos" / f"{name}.mp4", pictures)
    job, externals = site_media(
        SiteSettings.model_validate({"name": "t", "work": base, "videos": base / "videos"})
    )
    (base / "media").mkdir()
    context = Context(0, base / "scratch", lambda *_: None, externals)
    Ingest().run(job, {}, Shard(), base / "media", context)
    bundles.write_bundle(base / "bundle")
    refs = {name: InputRef(name, "x", ((Shard(), base / name),)) for name in ("media", "bundle")}
    return refs, context


def run(prepared: tuple[dict[str, InputRef], Context], shard: Shard, out: Path, params: BlurParams) -> Path:
    inputs, context = prepared
    stage = Blur()
    stage.setup(params, inputs, context)
    out.mkdir()
    stage.run(params, inputs, shard, out, context)
    BlurredKind.validate(out)
    return out


def test_a_shard_per_camera_with_boxes_and_regions(
    prepared: tuple[dict[str, InputRef], Context], tmp_path: Path
) -> None:
    params = BlurParams(shape="box", margin=0.2)
    shards = Blur().shards(params, prepared[0])
    assert [(s.session, s.camera) for s in shards] == [("main", "a"), ("main", "b")]
    out = run(prepared, shards[1], tmp_path / "one", params)
    boxes = read_table(Detections, out)
    assert boxes.index.tolist() == list(range(12)) and set(boxes.label.tolist()) == {HEAD}
    assert set(boxes.camera.tolist()) == {"b"} and boxes.det_id.tolist() == list(range(12))
    np.testing.assert_allclose(boxes.xyxy[4], [34, 40, 54, 60], atol=2)
    drawn = BoxesFile(out / "boxes.json")
    assert drawn.header.made_by["settings"]["shape"] == "box" and drawn.header.frames == 12
    mask = draw_mask(list(drawn.frames())[4].xyxy, "box", drawn.header.width, drawn.header.height)
    assert mask.shape == (96, 128) and mask[40:60, 34:54].all() and mask.mean() < 0.15
    log = json.loads((out / "redaction.json").read_text())
    assert log["complete"] and "timings_s" not in log and log["settings"]["margin"] == 0.2

    again = run(prepared, shards[1], tmp_path / "two", params)
    for path in out.iterdir():
        if path.name not in Blur.volatile:
            assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_a_model_that_fails_fails_the_stage(
    prepared: tuple[dict[str, InputRef], Context], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orveil.stages.runtime import ModelError, OnnxDetector

    def dead(*_: object) -> None:
        raise ModelError("dead")

    monkeypatch.setattr(OnnxDetector, "infer", dead)
    with pytest.raises(OrveilError, match="12 frames had to be covered") as caught:
        run(prepared, Shard("main", "a"), tmp_path / "out", BlurParams())
    assert "main/a" in caught.value.where
