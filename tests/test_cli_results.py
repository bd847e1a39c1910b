"""Results under readable names: copies of the finished nodes, replaced as a whole."""

from __future__ import annotations

import os

import pytest

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.stage import InputRef, Shard
from orveil.stages import results as module
from orveil.stages.results import publish_results


def artifact(root, name, files, shard=Shard()):  # noqa: B008
    path = root / "artifacts" / name / (shard.camera or "all")
    path.mkdir(parents=True)
    for file, text in {**files, "manifest.json": "{}"}.items():
        (path / file).write_text(text)
    return shard, path


def finished(root, report="<p>one</p>"):
    videos = [
        artifact(
            root,
            "blur",
            {"video.mp4": camera, "redaction.json": "{}", "boxes.json": "{}"},
            Shard("main", camera),
        )
        for camera in ("cam01", "cam02")
    ]
    return {
        "report": InputRef("report", "", (artifact(root, "report", {"report.html": report}),)),
        "bundle": InputRef("bundle", "", (artifact(root, "export", {"detector.onnx": "o"}),)),
        "blurred": InputRef("blurred", "", tuple(videos)),
    }


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_results_have_readable_names_and_no_manifests(tmp_path):
    results = publish_results(tmp_path, finished(tmp_path))
    assert names(tmp_path / "results") == [
        "blurred/main-cam01.boxes.json", "blurred/main-cam01.json", "blurred/main-cam01.mp4",
        "blurred/main-cam02.boxes.json", "blurred/main-cam02.json", "blurred/main-cam02.mp4",
        "bundle/detector.onnx", "report.html",
    ]  # fmt: skip
    assert results.report == tmp_path / "results" / "report.html"
    assert results.metrics is None
    assert [p.read_text() for p in results.blurred] == ["cam01", "cam02"]


def test_old_results_go(tmp_path):
    publish_results(tmp_path, finished(tmp_path / "one"))
    (tmp_path / "results" / "blurred" / "stale.mp4").write_text("old")
    only_report = {"report": finished(tmp_path / "two", "<p>two</p>")["report"]}
    results = publish_results(tmp_path, only_report)
    assert names(tmp_path / "results") == ["report.html"]
    assert results.report.read_text() == "<p>two</p>"
    assert (results.bundle, results.blurred) == (None, ())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "results", "two"]


def test_a_file_system_without_hard_links_gets_copies(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    results = publish_results(tmp_path, finished(tmp_path))
    assert [p.read_text() for p in results.blurred] == ["cam01", "cam02"]


def test_a_full_disk_leaves_the_old_results(tmp_path, monkeypatch):
    publish_results(tmp_path, finished(tmp_path / "one"))
    before = names(tmp_path / "results")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfile", full)
    with pytest.raises(OrveilError, match="No space left"):
        publish_results(tmp_path, finished(tmp_path / "two"))
    assert names(tmp_path / "results") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "results", "two"]
