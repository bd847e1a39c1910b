"""The whole path with the embedded models: undisturbed, killed and resumed, on Ray; with equal digests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import videos

from orveil.pipeline.media import frames, probe

EMBEDDED = Path(__file__).resolve().parent.parent / "sim" / "embedded"
CAMERAS = ("cam01", "cam02")
FRAMES = 10
SITE = """
name = "short"
work = "{work}"
videos = "{videos}"
rounds = 1
[pseudolabel]
frames = 8
false_discovery_rate = 0.25
[finetune]
iterations = 4
checkpoint_every = 1
[pose_train]
iterations = 2
[distil]
iterations = 3
[evaluate]
ground_truth = "{truth}"
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first pictures of two cameras of the embedded site."""
    folder = tmp_path_factory.mktemp("clips")
    for camera in CAMERAS:
        pictures = [picture for _, _, picture in frames(EMBEDDED / f"{camera}.mp4", stop=FRAMES)]
        videos.write_video(folder / f"{camera}.mp4", pictures)
    return folder


def command(folder: Path, clips: Path, *options: str) -> list[str]:
    site = folder / "site.toml"
    folder.mkdir(parents=True, exist_ok=True)
    site.write_text(SITE.format(work=folder / "work", videos=clips, truth=EMBEDDED / "gt.json.gz"))
    return [str(Path(sys.executable).with_name("orveil")), "adapt", str(site), *options]


def adapt(folder: Path, clips: Path, *options: str) -> str:
    done = subprocess.run(
        command(folder, clips, *options), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def digests(folder: Path) -> dict[str, str]:
    manifests = (folder / "work" / "artifacts").glob("*/*/manifest.json")
    found = [json.loads(path.read_text("utf-8")) for path in manifests]
    return {f"{manifest['stage']} {manifest['key']}": manifest["digest"] for manifest in found}


def made(folder: Path) -> dict[str, str]:
    manifests = (folder / "work" / "artifacts").glob("*/*/manifest.json")
    return {path.parent.name: json.loads(path.read_text("utf-8"))["created"] for path in manifests}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, adapt(folder, clips)


@pytest.mark.slow
def test_one_command_makes_report_bundle_and_videos(undisturbed: tuple[Path, str]) -> None:
    folder, printed = undisturbed
    results = folder / "work" / "results"
    assert (results / "report.html").stat().st_size > 10_000
    assert (results / "bundle" / "detector.onnx").is_file()
    blurred = sorted((results / "blurred").glob("*.mp4"))
    assert [probe(path).packets for path in blurred] == [FRAMES] * len(CAMERAS)
    for row in ("off-the-shelf", "round 1", "offline path", "student"):
        assert row in printed
    rows = json.loads((results / "metrics.json").read_text("utf-8"))["rows"]
    assert rows[0]["body"]["recall"] > 0


@pytest.mark.slow
def test_killed_while_training_and_run_again(
    undisturbed: tuple[Path, str], clips: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(command(tmp_path, clips), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 600
    while not list((tmp_path / "work" / "scratch").glob("*/detector/*.pth")):
        assert process.poll() is None and time.monotonic() < deadline, "it never came to train"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    finished = digests(tmp_path)
    times = made(tmp_path)
    assert not any(name.startswith("finetune ") for name in finished)
    adapt(tmp_path, clips)
    assert digests(tmp_path) == digests(undisturbed[0])
    assert times.items() <= made(tmp_path).items()


@pytest.mark.slow
def test_ray_gives_the_same_digests(undisturbed: tuple[Path, str], clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    adapt(tmp_path, clips, "--executor", "ray", "--workers", "2")
    assert digests(tmp_path) == digests(undisturbed[0])
