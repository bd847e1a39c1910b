"""Learning in several processes: the curve of one, and a killed process does not change where it ends."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training extras are not installed")
pytest.importorskip("ray", reason="Ray is not installed")
mm = pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")

import psutil  # noqa: E402
from pydantic import ValidationError  # noqa: E402

from orveil.pipeline.errors import OrveilError  # noqa: E402
from orveil.pipeline.settings import FinetuneParams  # noqa: E402
from orveil.pipeline.stage import InputRef  # noqa: E402
from orveil.stages.finetune import Finetune  # noqa: E402
from orveil.stages.mm_config import load_config  # noqa: E402
from orveil.stages.mm_views import Batches  # noqa: E402
from orveil.stages.mm_weights import read_checkpoint  # noqa: E402
from orveil.stages.ray_training import on_workers  # noqa: E402
from tests import learning_site as site  # noqa: E402

ONE = FinetuneParams(
    iterations=30, batch_size=3, long_side=128, checkpoint_every=3, learning_rate=2e-3, anchor=0.01
)
TWO = ONE.model_copy(update={"workers": 2})


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, InputRef]:
    root = tmp_path_factory.mktemp("site")
    start = site.write_detector(root)
    return {
        "media": site.write_media(root),
        "labels": site.write_labels(root),
        "poses": site.write_poses(root),
        "weights": start,
        "anchor": start,
    }


@pytest.fixture(scope="module")
def two(given: dict[str, InputRef], tmp_path_factory: pytest.TempPathFactory) -> InputRef:
    """An undisturbed training with two workers; three pictures cannot be shared equally."""
    return site.run_stage(Finetune(2), TWO, given, tmp_path_factory.mktemp("two"))


def curve(done: InputRef) -> list[dict[str, float]]:
    return [json.loads(line) for line in (done.path / "losses.jsonl").read_text().splitlines()]


def weights(done: InputRef) -> dict[str, torch.Tensor]:
    return mm.read_weights(done.path / "model.safetensors")


def distance(a: InputRef, b: InputRef) -> float:
    one, other = weights(a), weights(b)
    return float(sum((one[name] - other[name]).square().sum() for name in one) ** 0.5)


def test_two_workers_give_the_loss_curve_of_one(
    given: dict[str, InputRef], two: InputRef, tmp_path: Path
) -> None:
    one = site.run_stage(Finetune(), ONE, given, tmp_path)
    assert [record["iteration"] for record in curve(two)] == [10, 20, 30]
    for own, other in zip(curve(one), curve(two), strict=True):
        for name in ("loss", "loss_cls", "loss_bbox"):
            assert other[name] == pytest.approx(own[name], rel=2e-3)
    assert curve(two)[-1]["loss"] < 0.95 * curve(two)[0]["loss"]
    assert distance(one, two) < 0.02 * distance(one, given["weights"])


def kill_one_worker(checkpoint: Path, over: threading.Event, killed: list[int]) -> None:
    """Wait for the first checkpoint, and kill the second of the training's processes."""
    while not checkpoint.is_file():
        if over.wait(0.01):
            return
    reached = read_checkpoint(checkpoint)["meta"]["iter"]
    running = psutil.Process().children(recursive=True)
    found = [process.pid for process in running if "RayTrainWorker" in " ".join(process.cmdline())]
    if len(found) == 2 and reached < ONE.iterations:
        killed.append(found[-1])
        os.kill(found[-1], signal.SIGKILL)


def test_a_killed_worker_does_not_change_the_result(
    given: dict[str, InputRef], two: InputRef, tmp_path: Path
) -> None:
    killed: list[int] = []
    over = threading.Event()
    checkpoint = tmp_path / "scratch" / "detector" / "checkpoint.pth"
    killer = threading.Thread(target=kill_one_worker, args=(checkpoint, over, killed))
    killer.start()
    try:
        done = site.run_stage(Finetune(2), TWO, given, tmp_path)
    finally:
        over.set()
        killer.join()
    assert killed, "the training ended before one of its processes could be killed"
    assert distance(done, two) < 1e-3 * distance(two, given["weights"])
    assert curve(done)[-1]["iteration"] == ONE.iterations
    assert curve(done)[-1]["loss"] == pytest.approx(curve(two)[-1]["loss"], rel=1e-3)


def test_what_a_worker_explains_reaches_the_user(tmp_path: Path) -> None:
    """A function that workers can import, and that explains why it cannot do with a progress function."""
    with pytest.raises(OrveilError, match="no such model config") as caught:
        on_workers(load_config, 2, tmp_path / "work", 1, lambda *_: None)
    assert "detector_embedded" in caught.value.remedy


@pytest.mark.parametrize(("batch", "workers"), [(8, 2), (7, 3), (2, 2), (5, 1)])
def test_workers_share_every_batch_of_one(batch: int, workers: int) -> None:
    alone = [place for places in Batches(3, 9, batch) for place in places]
    assert alone == list(range(3 * batch, 9 * batch))
    together = zip(*(Batches(3, 9, batch, rank, workers) for rank in range(workers)), strict=True)
    assert [place for shares in together for share in shares for place in share] == alone
    assert all(len(share) for rank in range(workers) for share in Batches(3, 9, batch, rank, workers))


def test_one_worker_is_no_other_setting_than_before() -> None:
    """Its key, and so its seed and its result, are those of a site file that does not speak of workers."""
    assert "workers" not in FinetuneParams(workers=1).model_dump(mode="json")
    assert TWO.model_dump(mode="json")["workers"] == 2
    with pytest.raises(ValidationError, match="cannot share"):
        FinetuneParams(workers=9, batch_size=8)
