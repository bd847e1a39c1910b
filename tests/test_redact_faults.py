"""The fault table of redaction, by the command line: what is covered, what is left behind, what is said.

Exit status 0: everything as it should be; 1: frames are covered as a whole; 2: no output.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import bundles
import onnx
import pytest
import videos
from onnx import TensorProto, helper
from test_cli_blur import scene

from orveil.pipeline.media import frames, probe


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.write_bundle(tmp_path_factory.mktemp("bundle"))


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_truncated(orveil: Any, bundle: Path, tmp_path: Path) -> None:
    source = videos.write_video(tmp_path / "a.mp4", scene(40), container={"movflags": "+faststart"})
    videos.truncate(source, 0.6)
    status, _, err = orveil("blur", source, "--bundle", bundle, "--out", tmp_path / "out", "-q")
    log = json.loads((tmp_path / "out" / "a.json").read_text())
    assert status == 1 and "cut off" in err and "remedy" in err
    assert 0 < probe(tmp_path / "out" / "a.mp4").packets == log["frames"]["in"] < 40


def test_truncated_with_sound_that_is_kept(orveil: Any, bundle: Path, tmp_path: Path) -> None:
    source = videos.write_video(tmp_path / "a.mkv", scene(40), audio=True)
    videos.truncate(source, 0.5)
    status, _, err = orveil(
        "blur", source, "--bundle", bundle, "--out", tmp_path / "out", "-q", "--audio", "keep"
    )
    assert status == 1 and "cut off" in err and left(tmp_path / "out") == ["a.json", "a.mp4"]


def test_damaged_in_the_middle(orveil: Any, bundle: Path, tmp_path: Path) -> None:
    source = videos.write_video(tmp_path / "a.mp4", scene(36), options={"bf": "0"})
    for packet in (8, 9, 26):
        videos.damage(source, packet)
    status, _, err = orveil("blur", source, "--bundle", bundle, "--out", tmp_path / "out", "-q")
    log = json.loads((tmp_path / "out" / "a.json").read_text())
    dark = [i for i, _, p in frames(tmp_path / "out" / "a.mp4") if p.max() < 12]
    told = [i for f in log["faults"] for i in range(f["first"], f["last"] + 1)]
    assert (
        status == 1 and "covered as a whole" in err and dark == told and len(dark) == log["frames"]["covered"]
    )
    assert log["frames"]["in"] == log["frames"]["out"] == 36 and 0 < len(dark) < 30


@pytest.mark.parametrize(("real", "named"), [(".mkv", ".mp4"), (".mp4", ".avi"), (".ts", ".jpg")])
def test_wrong_extension_is_read_by_its_content(
    orveil: Any,
    bundle: Path,
    tmp_path: Path,
    real: str,
    named: str,
) -> None:
    source = videos.write_video(tmp_path / f"a{real}", scene(8)).rename(tmp_path / f"b{named}")
    status, _, err = orveil("blur", source, "--bundle", bundle, "--out", tmp_path / "out", "-q")
    assert (status, err) == (0, "") and probe(tmp_path / "out" / "b.mp4").packets == 8


def test_extension_of_a_video_on_something_else(orveil: Any, bundle: Path, tmp_path: Path) -> None:
    videos.write_sound(tmp_path / "s.wav", 0.5)
    (tmp_path / "s.wav").rename(tmp_path / "sound.mp4")
    (tmp_path / "page.mp4").write_text("<html>" * 50)
    status, _, err = orveil("blur", tmp_path / "sound.mp4", tmp_path / "page.mp4", "--bundle", bundle,
                            "--out", tmp_path / "out", "-q")  # fmt: skip
    assert status == 2 and err.count("error: ") == 2 and left(tmp_path / "out") == []


def test_zero_frames(orveil: Any, bundle: Path, tmp_path: Path) -> None:
    source = videos.write_video(tmp_path / "a.mp4", [])
    status, _, err = orveil("blur", source, "--bundle", bundle, "--out", tmp_path / "out", "-q")
    assert status == 2 and "a.mp4" in err and "remedy" in err and left(tmp_path / "out") == []


def test_changing_resolution(orveil: Any, bundle: Path, tmp_path: Path) -> None:
    one = videos.write_video(tmp_path / "1.ts", scene(10), gop=5)
    two = videos.write_video(tmp_path / "2.ts", videos.scene(6, 320, 240), gop=5)
    (tmp_path / "a.ts").write_bytes(one.read_bytes() + two.read_bytes())
    status, _, err = orveil("blur", tmp_path / "a.ts", "--bundle", bundle, "--out", tmp_path / "out", "-q")
    seen = probe(tmp_path / "out" / "a.mp4")
    assert status == 1 and "another picture size" in err and (seen.width, seen.packets) == (192, 16)


@pytest.mark.parametrize("fault", ["missing", "changed", "no model"])
def test_a_model_that_is_not_there(orveil: Any, tmp_path: Path, fault: str) -> None:
    folder = bundles.write_bundle(tmp_path / "b")
    if fault == "missing":
        (folder / "detector.onnx").unlink()
    else:
        (folder / "detector.onnx").write_bytes(b"no model")
    if fault == "no model":
        content = json.loads((folder / "bundle.json").read_text())
        content["files"]["detector.onnx"] = hashlib.sha256(b"no model").hexdigest()
        (folder / "bundle.json").write_text(json.dumps(content))
    source = videos.write_video(tmp_path / "a.mp4", scene(3))
    status, _, err = orveil("blur", source, "--bundle", folder, "--out", tmp_path / "out", "-q")
    assert status == 2 and "detector.onnx" in err and "remedy" in err and left(tmp_path / "out") == []


def other_shape() -> onnx.ModelProto:
    """A detector whose boxes have five numbers."""
    model = bundles.colour_model()
    model.graph.node.append(helper.make_node("Concat", ["four", "scores_column"], ["boxes"], axis=1))
    model.graph.node.append(helper.make_node("Cast", ["labels"], ["labels_f"], to=TensorProto.FLOAT))
    model.graph.node.append(helper.make_node("Unsqueeze", ["labels_f", "one"], ["scores_column"]))
    model.graph.initializer.append(helper.make_tensor("one", TensorProto.INT64, [1], [1]))
    for node in model.graph.node[:-3]:
        node.output[:] = ["four" if name == "boxes" else name for name in node.output]
    order = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*order[:-3], order[-2], order[-1], order[-3]])
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    return model


@pytest.mark.parametrize("model", ["wrong shape", "nan"])
def test_a_model_that_gives_no_detections(orveil: Any, tmp_path: Path, model: str) -> None:
    made = other_shape() if model == "wrong shape" else bundles.colour_model(score=float("nan"))
    folder = bundles.write_bundle(tmp_path / "b", made)
    source = videos.write_video(tmp_path / "a.mp4", scene(9))
    status, _, err = orveil(
        "blur", source, "--bundle", folder, "--out", tmp_path / "out", "-q", "--every", "2"
    )
    assert status == 1 and "the model failed" in err
    assert all(p.max() < 12 for _, _, p in frames(tmp_path / "out" / "a.mp4"))
    assert json.loads((tmp_path / "out" / "a.json").read_text())["frames"]["covered"] == 9


def command(source: Path, bundle: Path, out: Path, *more: str) -> list[str]:
    code = "import sys; from orveil.stages.cli import main; sys.argv[0] = 'orveil'; main()"
    return [
        sys.executable,
        "-c",
        code,
        "blur",
        str(source),
        "--bundle",
        str(bundle),
        "--out",
        str(out),
        *more,
    ]


def test_full_disk(bundle: Path, tmp_path: Path) -> None:
    """A limit of the size of files stands for a disk that is full: a write fails in the same way."""
    source = videos.write_video(tmp_path / "a.mp4", videos.scene(60, 320, 240))
    done = subprocess.run(
        command(source, bundle, tmp_path / "out", "--crf", "5"), capture_output=True, text=True, check=False,
        preexec_fn=lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
                            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))),
    )  # fmt: skip
    assert done.returncode == 2 and "error: " in done.stderr and "a.mp4" in done.stderr
    assert "Traceback" not in done.stderr and left(tmp_path / "out") == []


def test_killed_in_the_middle(orveil: Any, bundle: Path, tmp_path: Path) -> None:
    source = videos.write_video(tmp_path / "a.mp4", videos.scene(400, 640, 480))
    out = tmp_path / "out"
    with subprocess.Popen(command(source, bundle, out, "--preset", "slower", "-q")) as process:
        partial = out / ".a.mp4.partial"
        for _ in range(2000):
            if partial.exists() or process.poll() is not None:
                break
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -signal.SIGKILL and left(out) == [".a.mp4.partial"]
    (tmp_path / "again").mkdir()
    short = videos.write_video(tmp_path / "again" / "a.mp4", scene(5))
    status, _, err = orveil("blur", short, "--bundle", bundle, "--out", out, "-q")
    assert (status, err) == (0, "") and left(out) == ["a.json", "a.mp4"]


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no folder that nobody can write to")
def test_read_only_output(orveil: Any, bundle: Path, tmp_path: Path) -> None:
    source = videos.write_video(tmp_path / "a.mp4", scene(4))
    for out in (Path("/sys/kernel"), Path("/sys/kernel/blurred")):
        status, _, err = orveil("blur", source, "--bundle", bundle, "--out", out, "-q")
        assert status == 2 and "error: " in err and "remedy" in err and str(out) in err


def test_output_equal_to_input(orveil: Any, bundle: Path, tmp_path: Path) -> None:
    source = videos.write_video(tmp_path / "a.mp4", scene(4))
    before = source.read_bytes()
    os.link(source, tmp_path / "b.mp4")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.mp4").hardlink_to(source)
    status, _, err = orveil("blur", source, "--bundle", bundle, "--out", tmp_path / "out", "-q")
    assert status == 2 and "would replace the input" in err and source.read_bytes() == before


NAMES = ["Säle Ü.mp4", "手術室 3.mp4", "-rf.mp4", "$(touch x);`y`.mp4", "a%03d.mp4", "two\nlines.mp4",
         "file:pipe:0.mp4", "concat.mp4|b.mp4", "\udcff\udcfe.mp4", "x" * 240 + ".mp4"]  # fmt: skip


def test_names_of_every_kind(orveil: Any, bundle: Path, tmp_path: Path) -> None:
    data = videos.write_video(tmp_path / "plain.mp4", scene(3)).read_bytes()
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    sources = [folder / name for name in NAMES]
    for source in sources:
        source.write_bytes(data)
    status, _, err = orveil("blur", "--bundle", bundle, "--out", out, "-q", "--", *sources)
    assert (status, err) == (0, "")
    assert left(out) == sorted([*NAMES, *(Path(name).with_suffix(".json").name for name in NAMES)])
    assert all(probe(out / name).packets == 3 for name in NAMES) and "x" not in left(Path.cwd())


def test_relative_names_are_files_and_no_addresses(
    orveil: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["pipe:0.mp4", "http:x.mp4", "concat:a|b.mp4", "file:c.mp4"]
    data = videos.write_video(tmp_path / "plain.mp4", scene(3)).read_bytes()
    for name in names:
        (tmp_path / name).write_bytes(data)
    status, _, err = orveil("blur", *names, "--bundle", bundle, "--out", "out", "-q", "--audio", "keep")
    assert (status, err) == (0, "") and all(probe(tmp_path / "out" / name).packets == 3 for name in names)


def test_one_bad_camera_of_three(orveil: Any, bundle: Path, tmp_path: Path) -> None:
    cameras = [videos.write_video(tmp_path / f"cam{n}.mp4", scene(10)) for n in (1, 2, 3)]
    cameras[1].write_bytes(b"\0" * 5000)
    status, said, err = orveil("blur", *cameras, "--bundle", bundle, "--out", tmp_path / "out", "-q")
    assert status == 2 and "cam2.mp4" in err and "cam1.mp4" in said and "cam3.mp4" in said
    assert left(tmp_path / "out") == ["cam1.json", "cam1.mp4", "cam3.json", "cam3.mp4"]


def test_interlaced_is_said(orveil: Any, bundle: Path, tmp_path: Path) -> None:
    source = videos.write_video(tmp_path / "a.mkv", scene(8), options={"x264-params": "tff=1"})
    assert probe(source).interlaced
    status, said, _ = orveil("blur", source, "--bundle", bundle, "--out", tmp_path / "out", "-q")
    log = json.loads((tmp_path / "out" / "a.json").read_text())
    assert status == 0 and "interlaced" in said and log["input"]["interlaced"] is True
    assert any("interlaced" in note for note in log["notes"])
