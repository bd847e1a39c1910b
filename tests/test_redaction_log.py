"""The redaction log: complete, as its schema and page say, and without a trace of names."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import bundles
import jsonschema
import numpy as np
import pytest
import videos

from orveil.stages.redact import blur_video
from orveil.stages.redaction.log import BlurSettings
from orveil.stages.runtime import Bundle

DOCS = Path(__file__).resolve().parent.parent / "docs"
SCHEMA = json.loads((DOCS / "redaction-log.schema.json").read_text("utf-8"))
RED = (20, 20, 230)


def valid(log: dict) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(log)


def scene(count: int = 24) -> list[np.ndarray]:
    pictures = [videos.stamp(np.full((144, 192, 3), 90, np.uint8), number) for number in range(count)]
    for number, picture in enumerate(pictures):
        if number not in (8, 9, 15) and number < 20:
            picture[60:84, 40 + number : 60 + number] = RED
    return pictures


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(bundles.write_bundle(tmp_path_factory.mktemp("bundle")))


def redact(folder: Path, bundle: Bundle, source: Path, **settings: object) -> dict:
    log = blur_video(source, folder / "out.mp4", bundle, BlurSettings(**settings))
    log.write(folder / "log.json")
    return json.loads((folder / "log.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("Jane Doe 1970-01-01")
    source = videos.write_video(folder / "Jane Doe.mp4", scene(), audio=True, metadata={"title": "Jane Doe"})
    return folder, redact(folder, bundle, source, hold_s=0.3, looks_s=0)


def test_digests_are_of_the_files_and_settings(log: tuple[Path, dict], bundle: Bundle) -> None:
    folder, content = log
    assert valid(content)
    for name, path in (("input", folder / "Jane Doe.mp4"), ("output", folder / "out.mp4")):
        assert content[name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    model = hashlib.sha256(bundle.model.read_bytes()).hexdigest()
    assert content["bundle"] == {"sha256": bundle.sha256, "detector.onnx": model}
    settings = dict(content["settings"])
    digest = settings.pop("sha256")
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    assert digest == hashlib.sha256(canonical.encode()).hexdigest()


def test_counts_add_up(log: tuple[Path, dict]) -> None:
    content = log[1]
    assert content["frames"] == {"in": 24, "out": 24, "inferred": 24, "with_boxes": 23, "covered": 0}
    # Seen in 17 frames, missed in 3, held for .3 s = 3 frames after the last.
    wanted = {"detected": 17, "filled": 3, "held": 3, "body": 0, "head": 0, "still": 0, "edited": 0}
    assert content["boxes"] == wanted
    assert content["covered"]["head"] == {"boxes": 23, "tracks": 1}
    assert content["covered"]["face"] == content["covered"]["person"] == {"boxes": 0, "tracks": 0}
    assert content["longest_gap"] == {"missed_runs": 2, "seconds": 0.3}
    assert content["complete"] and content["faults"] == [] and content["output"]["audio"] == "dropped"
    assert content["timings_s"]["total"] > 0 and {"orveil", "av", "onnxruntime"} <= set(content["versions"])


def test_no_name_is_in_it(log: tuple[Path, dict]) -> None:
    folder, _ = log
    text = (folder / "log.json").read_text("utf-8")
    for secret in ("Jane", "Doe", "1970", ".mp4", str(folder)):
        assert secret not in text
    assert len(text) < 4000, "no pixels either"


def test_faults_are_in_it(tmp_path: Path, bundle: Bundle) -> None:
    source = videos.write_video(tmp_path / "cam.mp4", scene(30), options={"bf": "0"})
    videos.damage(source, 12)
    content = redact(tmp_path, bundle, source)
    assert valid(content) and not content["complete"]
    covered = sum(fault["last"] - fault["first"] + 1 for fault in content["faults"])
    assert content["frames"]["covered"] == covered > 0
    cut = videos.truncate(videos.write_video(tmp_path / "cut.mkv", scene(40)), 0.6)
    content = redact(tmp_path, bundle, cut)
    assert (
        valid(content)
        and content["faults"][-1]["last"] is None
        and "cut off" in content["faults"][-1]["reason"]
    )


def test_all_but_the_timings_is_the_same_again(log: tuple[Path, dict], bundle: Bundle) -> None:
    folder, content = log
    again = redact(folder, bundle, folder / "Jane Doe.mp4", hold_s=0.3, looks_s=0)
    assert {**again, "timings_s": 0} == {**content, "timings_s": 0}


@pytest.mark.parametrize("key", [*SCHEMA["required"], "name"])
def test_the_schema_can_fail(log: tuple[Path, dict], key: str) -> None:
    wrong = {**log[1], "name": "Jane"} if key == "name" else {k: v for k, v in log[1].items() if k != key}
    assert not valid(wrong)


def test_the_page_explains_every_key(log: tuple[Path, dict]) -> None:
    page = (DOCS / "redaction-log.md").read_text("utf-8")
    for key in [*log[1], *log[1]["frames"], *log[1]["boxes"], *log[1]["covered"]]:
        assert f"`{key}`" in page, key
