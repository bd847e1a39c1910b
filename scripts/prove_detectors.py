#!/usr/bin/env python
"""Proof that the larger detectors train: loss falls, a killed run resumes, weights and places are obeyed.

    .venv/bin/python scripts/prove_detectors.py --iterations 30 --json proof.json

Each model takes a few steps on a few frames of the embedded site with their true boxes, starting from its
published weights where they were pulled, else from fresh ones. Beside it, the work directory is copied in the
middle of the run, as a kill would leave it, and continued in another process. No network, no GPU.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch.nn.modules.batchnorm import _BatchNorm

from orveil.pipeline.media import frames
from orveil.stages import mm
from orveil.stages.mm_hooks import CHECKPOINT
from orveil.stages.mm_trust import ALL_CHANNELS
from orveil.stages.models import list_models, local_path

SITE = Path(__file__).resolve().parent.parent / "sim" / "embedded"
NAMES = ("rtmdet-m-person", "rtmdet-l", "faster-rcnn-r50", "deformable-detr-r50")
FRAMES = {"cam01": (0, 60, 120, 180), "cam03": (20, 80, 140, 199)}
SMOOTH = 5


class SiteFrames:
    """Frames of the embedded site with the true boxes of persons, in the channel of persons."""

    def __init__(self) -> None:
        truth = json.loads(gzip.decompress((SITE / "gt.json.gz").read_bytes()))
        names = {image["file_name"]: image["id"] for image in truth["images"]}
        self._samples = []
        for camera, wanted in FRAMES.items():
            for at, _, picture in frames(SITE / f"{camera}.mp4", wanted=list(wanted)):
                number = names[f"{camera}/{at:06d}"]
                people = [row for row in truth["annotations"] if row["category_id"] == 1]
                boxes = [row["bbox"] for row in people if row["image_id"] == number]
                self._samples.append(_sample(picture, np.array(boxes, np.float32).reshape(-1, 4)))

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> mm.DetectionSample:
        return self._samples[index]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of every frame."""
        return [(sample.image.shape[1], sample.image.shape[0]) for sample in self._samples]


def _sample(picture: Any, xywh: Any) -> mm.DetectionSample:
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
    return mm.DetectionSample(
        picture, xyxy, np.zeros(len(xyxy), np.int64), np.ones(len(xyxy), np.float32),
        np.zeros((0, 4), np.float32), np.zeros(0, np.int64),
    )  # fmt: skip


class Watch(mm.Hook):  # type: ignore[misc]
    """Writes every step's loss down, and copies the work directory once."""

    priority = "LOWEST"

    def __init__(self, copy_at: int) -> None:
        self.copy_at = copy_at
        self.losses: list[float] = []

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Runs after the checkpoint was written."""
        self.losses.append(float(outputs["loss"].detach()))
        if runner.iter + 1 == self.copy_at:
            folder = Path(runner.work_dir)
            shutil.copytree(folder, folder.with_name("killed"))


def start(config: Any, name: str, source: SiteFrames, side: int) -> tuple[dict[str, torch.Tensor], str]:
    """Published weights where they are here; else fresh ones with settled BatchNorm."""
    entry = next(entry for entry in list_models() if entry.name == name)
    if local_path(entry).is_file():
        return mm.read_weights(local_path(entry)), "published"
    model = mm.build_detector(config, seed=1)
    detector = mm.Detector(config, model, long_side=side)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train()
            module.momentum = 1.0
    batch = np.stack([mm.rect_input(source[i].image, side)[0] for i in range(2)])
    with torch.no_grad():
        maps = model.backbone(detector.normalise(batch))
        if not hasattr(model, "encoder"):
            model.neck(maps)
    return model.state_dict(), "fresh"


def frozen(name: str) -> bool:
    """Whether BatchNorm keeps its statistics, as in rounds; a fresh RTMDet needs those of its batches."""
    entry = next(entry for entry in list_models() if entry.name == name)
    return local_path(entry).is_file() or not entry.config.startswith("detector_rtmdet")


def train(name: str, work: Path, state: Any, arguments: argparse.Namespace, watch: Watch) -> str:
    """One training, or the rest of one; returns the sha256 of its weights."""
    entry = next(entry for entry in list_models() if entry.name == name)
    options = mm.TrainOptions(
        iterations=arguments.iterations, batch_size=arguments.batch, learning_rate=arguments.rate, warmup=3,
        ema_decay=0.9, anchor=0.01, long_side=arguments.side, seed=5, threads=arguments.threads,
        checkpoint_every=arguments.iterations - arguments.rest,
        freeze_bn=frozen(name),
    )  # fmt: skip
    config = mm.load_config(entry.config)
    return mm.train_detector(config, SiteFrames(), work, options, init=state, hooks=[watch]).sha256


def obeys(config: Any, state: Any, keep: bool) -> tuple[bool, bool]:
    """Whether halved weights halve the loss, and whether an ignored picture has none."""
    model = mm.build_detector(config, state).train()
    for module in model.modules():
        if isinstance(module, _BatchNorm) and keep:
            module.eval()
    shape = (192, 320)
    batch = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(3))
    box = torch.tensor([[60.0, 40.0, 120.0, 180.0]])

    def loss(boxes: torch.Tensor, weight: float) -> float:
        sample = DetDataSample(metainfo={"img_shape": shape, "pad_shape": shape, "batch_input_shape": shape})
        count = len(boxes)
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=torch.zeros(count, dtype=torch.int64), weights=torch.full((count,), weight)
        )
        sample.ignored_instances = InstanceData(
            bboxes=torch.tensor([[0.0, 0.0, 320.0, 192.0]]), labels=torch.tensor([ALL_CHANNELS])
        )
        torch.manual_seed(2)
        with torch.no_grad():
            found = model.loss(batch, [sample])
        return float(sum(sum(v) if isinstance(v, list) else v for k, v in found.items() if "loss" in k))

    whole, half = loss(box, 1.0), loss(box, 0.5)
    return whole > 0 and abs(half / whole - 0.5) < 1e-3, abs(loss(box[:0], 1.0)) < 1e-4


def prove(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    entry = next(entry for entry in list_models() if entry.name == name)
    config, source = mm.load_config(entry.config), SiteFrames()
    state, origin = start(config, name, source, arguments.side)
    weights_obeyed, places_obeyed = obeys(config, state, frozen(name))
    with tempfile.TemporaryDirectory() as folder:
        initial = Path(folder) / "start.safetensors"
        mm.write_weights(state, initial)
        watch = Watch(arguments.iterations - arguments.rest)
        whole = train(name, Path(folder) / "whole", initial, arguments, watch)
        command = [sys.executable, __file__, "--resume", str(initial), name, *_arguments(arguments)]
        resumed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
        found = mm.Detector(
            config, Path(folder) / "whole" / mm.FINAL, long_side=arguments.side, score_threshold=0.01
        ).predict([source[0].image])[0]
    return {
        "model": name,
        "start": origin,
        "parameters_million": round(sum(t.numel() for t in mm.build_detector(config).parameters()) / 1e6, 1),
        "iterations": arguments.iterations,
        "loss_first": round(float(np.mean(watch.losses[:SMOOTH])), 3),
        "loss_last": round(float(np.mean(watch.losses[-SMOOTH:])), 3),
        "resumed_equal": resumed == whole,
        "weight_obeyed": weights_obeyed,
        "ignore_obeyed": places_obeyed,
        "boxes": len(found[0]),
    }


def _arguments(arguments: argparse.Namespace) -> list[str]:
    names = ("iterations", "rest", "batch", "side", "threads", "rate")
    return [text for name in names for text in (f"--{name}", str(getattr(arguments, name)))]


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=NAMES, help="names of `orveil models list`")
    parser.add_argument("--iterations", type=int, default=30, help="training steps")
    parser.add_argument("--rest", type=int, default=5, help="of these, after the kill")
    parser.add_argument("--batch", type=int, default=2, help="pictures per step")
    parser.add_argument("--side", type=int, default=320, help="longer picture side, px")
    parser.add_argument(
        "--rate", type=float, default=4e-4, help="highest learning rate, before the config's lr_scale"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--json", type=Path, help="write the table there, too")
    parser.add_argument("--resume", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.resume:
        work = arguments.resume.with_name("killed")
        assert (work / CHECKPOINT).is_file()
        print(train(arguments.names[0], work, arguments.resume, arguments, Watch(-1)))
        return
    rows = []
    for name in arguments.names:
        rows.append(prove(name, arguments))
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
