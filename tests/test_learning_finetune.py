"""Learning: a round of detector training on pseudo labels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training extras are not installed")
mm = pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")

from orveil.pipeline.settings import FinetuneParams  # noqa: E402
from orveil.pipeline.stage import InputRef  # noqa: E402
from orveil.stages import paste  # noqa: E402
from orveil.stages.finetune import Finetune  # noqa: E402
from orveil.stages.mm_weights import read_checkpoint  # noqa: E402
from orveil.stages.weights import file_sha256, read_info  # noqa: E402
from tests import learning_site as site  # noqa: E402

PARAMS = FinetuneParams(iterations=6, batch_size=2, long_side=128, checkpoint_every=2, learning_rate=1e-3)


def inputs(root: Path, **labels: object) -> dict[str, InputRef]:
    start = site.write_detector(root)
    return {
        "media": site.write_media(root),
        "labels": site.write_labels(root, **labels),  # type: ignore[arg-type]
        "poses": site.write_poses(root, nobody=bool(labels.get("nobody"))),
        "weights": start,
        "anchor": start,
    }


def digest(done: InputRef) -> str:
    return file_sha256(done.path / "model.safetensors")


def test_training_changes_weights_and_repeats(tmp_path: Path) -> None:
    given = inputs(tmp_path)
    one = site.run_stage(Finetune(), PARAMS, given, tmp_path / "a")
    two = site.run_stage(Finetune(), PARAMS, given, tmp_path / "b")
    other = site.run_stage(Finetune(), PARAMS, given, tmp_path / "c", seed=8)
    assert digest(one) == digest(two)
    assert len({digest(one), digest(other), digest(given["weights"])}) == 3
    info = read_info(one.path)
    assert info.training["frames"] == 2 * (site.FRAMES - 1)
    assert info.training["boxes"] == 2 * info.training["frames"]
    before, after = (mm.read_weights(d.path / "model.safetensors") for d in (given["weights"], one))
    statistics = [name for name in before if "running_" in name]
    assert statistics
    for name in statistics:
        torch.testing.assert_close(after[name], before[name])
    assert (one.path / "config.py").read_bytes() == (given["weights"].path / "config.py").read_bytes()


def test_people_who_can_be_cut_out_are_put_into_the_pictures_unless_it_is_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs(tmp_path)

    def trained(name: str, share: float) -> str:
        params = PARAMS.model_copy(update={"paste": share})
        return digest(site.run_stage(Finetune(), params, given, tmp_path / name))

    nobody, off = trained("too few frames", 1.0), trained("off", 0.0)
    # In these few frames motion does not tell the figures from the room, but colour does.
    monkeypatch.setattr(paste, "motion_masks", lambda pictures: [p.max(axis=-1) > 130 for p in pictures])
    assert trained("on", 1.0) == trained("on again", 1.0) != nobody
    assert trained("still off", 0.0) == off


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"iterations": 40, "learning_rate": 4e-3, "checkpoint_every": 40})
    site.run_stage(Finetune(), params, inputs(tmp_path), tmp_path / "a")
    log = tmp_path / "a" / "scratch" / "detector" / "losses.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert records[-1]["loss_bbox"] < 0.8 * records[0]["loss_bbox"]


def test_nobody_visible_passes_the_weights_on(tmp_path: Path) -> None:
    given = inputs(tmp_path, nobody=True)
    done = site.run_stage(Finetune(), PARAMS, given, tmp_path / "a")
    assert digest(done) == digest(given["weights"])
    assert "no person" in read_info(done.path).training["skipped"]


def test_only_doubtful_people_pass_the_weights_on(tmp_path: Path) -> None:
    given = inputs(tmp_path, ignore_camera="cam1")
    done = site.run_stage(Finetune(), PARAMS, given, tmp_path / "a")
    assert read_info(done.path).training["ignored"] == site.FRAMES - 1
    nobody = {**given, "labels": site.write_labels(tmp_path, ignore_camera="cam1", nobody=True)}
    done = site.run_stage(Finetune(), PARAMS, nobody, tmp_path / "b")
    assert digest(done) == digest(given["weights"])


def test_a_detector_of_persons_trains_persons(tmp_path: Path) -> None:
    start = site.write_detector(tmp_path, classes=("person",), name="one-class")
    given = {**inputs(tmp_path), "weights": start, "anchor": start}
    done = site.run_stage(Finetune(), PARAMS, given, tmp_path / "a")
    assert read_info(done.path).classes == ("person",)
    assert digest(done) != digest(start)


def test_anchor_draws_towards_the_first_weights(tmp_path: Path) -> None:
    anchor = site.write_detector(tmp_path, seed=5, name="anchor")
    given = {**inputs(tmp_path), "anchor": anchor}
    first = mm.read_weights(anchor.path / "model.safetensors")
    learned = [name for name in first if name.endswith(("weight", "bias"))]

    def away(strength: float) -> float:
        params = PARAMS.model_copy(update={"anchor": strength, "ema_decay": 0.0})
        done = site.run_stage(Finetune(), params, given, tmp_path / f"anchor{strength}")
        after = mm.read_weights(done.path / "model.safetensors")
        return float(sum((after[n] - first[n]).square().sum() for n in learned) ** 0.5)

    assert away(100.0) < 0.9 * away(0.0)


CHILD = """
import sys
from pathlib import Path
from orveil.stages.finetune import Finetune
from tests import learning_site as site
from tests.test_learning_finetune import PARAMS, refs
root, out = Path(sys.argv[1]), Path(sys.argv[2])
site.run_stage(Finetune(), PARAMS.model_copy(update={"iterations": 30}), refs(root), out)
"""


def refs(root: Path) -> dict[str, InputRef]:
    """The inputs that the parent process wrote into `root`."""
    detector = site.ref("weights", root / "detector")
    return {
        "media": site.ref("media", root / "media"),
        "labels": site.ref("labels", root / "labels0"),
        "poses": site.ref("poses", root / "poses0.90"),
        "weights": detector,
        "anchor": detector,
    }


def test_killed_training_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    given = inputs(tmp_path)
    whole = site.run_stage(
        Finetune(), PARAMS.model_copy(update={"iterations": 30}), given, tmp_path / "undisturbed"
    )
    out = tmp_path / "killed"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), str(out)],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONPATH": "."},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    checkpoint = out / "scratch" / "detector" / "checkpoint.pth"
    while not checkpoint.exists() and child.poll() is None:
        time.sleep(0.02)
    assert child.poll() is None, child.communicate()[1].decode()[-2000:]
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    reached = read_checkpoint(checkpoint)["meta"]["iter"]
    assert 0 < reached < 30
    for leftover in out.glob("finetune-*"):
        leftover.rmdir()
    resumed = site.run_stage(Finetune(), PARAMS.model_copy(update={"iterations": 30}), given, out)
    assert digest(resumed) == digest(whole)
    assert (resumed.path / "weights.json").read_bytes() == (whole.path / "weights.json").read_bytes()
    lines = (resumed.path / "losses.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["iteration"] == 30
