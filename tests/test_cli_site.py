"""The commands about a site, end to end on a tiny one: a whole run, and what bad input leaves behind."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import videos

pytest.importorskip("torch", reason="training extras are not installed")
pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")


SITE = """
name = "tiny"
{cameras}
rounds = 1
{more}
[detect]
long_side = 160
[pseudolabel]
frames = 8
[finetune]
iterations = 1
long_side = 160
[pose_train]
iterations = 1
[distil]
iterations = 1
long_side = 160
"""


def write_site(
    root: Path, cameras: str = 'videos = "videos"', more: str = "", name: str = "site.toml"
) -> Path:
    """A site file beside a folder `videos` with one camera of 8 frames in which nobody is."""
    folder = root / "videos"
    if not folder.exists():
        folder.mkdir()
        videos.write_video(folder / "cam01.mp4", videos.scene(8, 160, 128))
    path = root / name
    path.write_text(SITE.format(cameras=cameras, more=more))
    return path


def store(root: Path) -> list[str]:
    """Whatever lies in the store: finished artifacts, and half-written ones, of which there must be none."""
    artifacts = root / "work" / "artifacts"
    assert list((artifacts / ".tmp").glob("*")) == []
    return sorted(str(p.relative_to(artifacts)) for p in artifacts.glob("[!.]*/*"))


def one_error(err: str) -> str:
    assert err.count("error: ") == 1, err
    assert "remedy: " in err
    return " ".join(err.split())


def test_one_camera_and_nobody_visible_runs_to_the_end(orveil, tmp_path):
    path, results = write_site(tmp_path), tmp_path / "work" / "results"
    status, out, err = orveil("adapt", path)
    assert status == 0, err
    for name in ("report.html", "bundle/detector.onnx", "bundle/bundle.json", "blurred/main-cam01.mp4"):
        assert (results / name).is_file()
        assert str(results / name.replace("/detector.onnx", "").replace("/bundle.json", "")) in out
    assert "Work by stage" in out
    assert "No ground truth was given" in (results / "report.html").read_text()

    status, out, _ = orveil("status", path)
    assert status == 0
    assert "waiting" not in out
    assert "ready" not in out

    before = store(tmp_path)
    status, _, err = orveil("adapt", path)
    lines = [line for line in err.splitlines() if line.startswith("[")]
    assert (status, store(tmp_path)) == (0, before)
    assert lines
    assert all("already done" in line for line in lines)

    status, out, _ = orveil("report", path)
    assert (status, Path(out.strip())) == (0, results / "report.html")
    status, out, _ = orveil("explain", path)
    assert (status, out.strip()) == (0, "Everything is done; nothing would be run again.")
    status, out, err = orveil("export", "--verify", results / "bundle")
    assert status == 0, err
    assert "right" in out

    truth = {
        "images": [{"id": i + 1, "camera_id": "cam01", "frame_index": i} for i in range(8)],
        "annotations": [],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    status, out, err = orveil("evaluate", path, "--ground-truth", tmp_path / "gt.json", "-q")
    assert (status, err) == (0, "")
    assert "off-the-shelf" in out
    assert "student" in out

    path.write_text(path.read_text().replace("[pose_train]\niterations = 1", "[pose_train]\niterations = 0"))
    status, out, _ = orveil("explain", path, "pose_weights")
    assert status == 0
    assert "parameter iterations: 1 -> 0" in out


def test_until_stops_after_a_node_and_the_report_says_what_is_missing(orveil, tmp_path):
    path = write_site(tmp_path)
    status, _, err = orveil("adapt", path, "--until", "media", "-q")
    assert status == 0, err
    assert [name.split("/")[0] for name in store(tmp_path)] == ["ingest"]
    status, out, _ = orveil("status", path)
    assert status == 0
    assert "1 of" in out
    status, _, err = orveil("report", path)
    assert status == 2
    assert "there is no report yet" in one_error(err)
    status, _, err = orveil("adapt", path, "--until", "medium")
    assert status == 2
    assert "there is no node medium" in one_error(err)
    status, _, err = orveil("explain", path, "medium")
    assert status == 2
    assert "there is no node medium" in one_error(err)


def test_missing_and_empty_folders_are_named(orveil, tmp_path):
    path = write_site(tmp_path, 'videos = "elsewhere"')
    status, _, err = orveil("adapt", path)
    assert status == 2
    assert "elsewhere" in one_error(err)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "notes.txt").write_text("no video")
    status, _, err = orveil("adapt", path)
    assert status == 2
    assert "elsewhere" in one_error(err)
    assert store(tmp_path) == []


@pytest.mark.parametrize("harm", ["truncated", "not a video", "empty", "missing"])
def test_a_bad_video_is_named_with_its_camera(orveil, tmp_path, harm):
    cameras = (
        '[[camera]]\nid = "left"\npath = "videos/cam01.mp4"\n[[camera]]\nid = "right"\npath = "videos/r.mp4"'
    )
    # The cameras are the last top-level keys of a TOML file, so everything else goes before them.
    path = write_site(tmp_path)
    path.write_text('name = "tiny"\nrounds = 1\n' + cameras + "\n")
    bad = tmp_path / "videos" / "r.mp4"
    videos.write_video(bad, videos.scene(30, 160, 128, seed=3))
    if harm == "truncated":
        videos.truncate(bad, 0.6)
    elif harm == "not a video":
        bad.write_bytes(b"no video" * 500)
    elif harm == "empty":
        bad.write_bytes(b"")
    else:
        bad.unlink()
    status, _, err = orveil("adapt", path, "-q")
    assert status == 2
    said = one_error(err)
    assert "r.mp4" in said
    assert "right" in said
    assert store(tmp_path) == []


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (
            'detector = "{weights}/embedded-pose.safetensors"\ndetector_config = "detector_embedded"',
            "weights",
        ),
        ('detector = "{weights}/embedded-pose.safetensors"\ndetector_config = "pose_embedded"', "a pose"),
        ('detector = "embedded-pose"', "a pose"),
        ('pose_model = "embedded-detector"', "a detector"),
        ('detector = "{weights}/embedded-pose.safetensors"', "need their config"),
        ('detector = "no-such-model"', "there is no such model"),
    ],
)
def test_weights_of_another_architecture_are_refused(orveil, tmp_path, more, problem):
    weights = resources.files("orveil.configs").joinpath("weights")
    path = write_site(tmp_path, more=more.format(weights=weights))
    status, _, err = orveil("adapt", path, "-q", "--until", "poses_1")
    assert status == 2
    assert problem in one_error(err)
    assert not [name for name in store(tmp_path) if name.startswith(("detect", "pose"))]


def test_a_file_in_the_place_of_the_work_folder(orveil, tmp_path):
    path = write_site(tmp_path)
    (tmp_path / "work").write_text("in the way")
    status, _, err = orveil("adapt", path, "-q")
    assert status == 2
    assert "work" in one_error(err)
    assert (tmp_path / "work").read_text() == "in the way"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_ends_the_run_and_it_goes_on_later(orveil, tmp_path, monkeypatch, code):
    from orveil.stages import ingest

    def refuse(*_):
        raise OSError(code, os.strerror(code), str(tmp_path / "work"))

    path = write_site(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(ingest, "write_table", refuse)
        status, _, err = orveil("adapt", path, "-q", "--until", "media")
    assert status == 2
    assert os.strerror(code) in one_error(err)
    assert store(tmp_path) == []
    status, _, err = orveil("adapt", path, "-q", "--until", "media")
    assert status == 0, err
    assert len(store(tmp_path)) == 1


HOLD = """
import sys
from pathlib import Path
from orveil.pipeline.runlock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_runs_on_one_work_directory(orveil, tmp_path):
    path = write_site(tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path / "work")]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline().strip() == "held"
        status, _, err = orveil("adapt", path, "-q", "--until", "media")
        assert status == 2
        said = one_error(err)
        assert "another run" in said
        assert str(other.pid) in said
        assert store(tmp_path) == []
        status, out, _ = orveil("status", path)
        assert status == 0
        assert str(other.pid) in out
    finally:
        other.communicate(timeout=60)
    status, _, err = orveil("adapt", path, "-q", "--until", "media")
    assert status == 0, err
