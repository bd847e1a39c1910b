"""OpenMMLab room, the embedded models: from nothing to committed weights, on simulated everyday scenes only.

    scripts/train_models --work DIR [--long 1.0] [--pictures 5000]

Renders the source domain, trains the detector and the pose model from scratch, measures both on held-out
scenes, and writes weights and model card into `configs/weights`. Every step goes on where it was stopped.
The source domain has offices and corridors with people in everyday clothes; no operating room is ever shown,
because these models play the off-the-shelf models that a hospital starts from.
"""

from __future__ import annotations

import orveil.stages.mm_compat  # noqa: F401  before any OpenMMLab import

# isort: split
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from orveil.stages.mm_coco import CocoDetections, CocoPoses
from orveil.stages.mm_config import load_config
from orveil.stages.mm_data import Augment
from orveil.stages.mm_hooks import SnapshotHook
from orveil.stages.mm_pose import build_pose
from orveil.stages.mm_scratch_card import write_card
from orveil.stages.mm_scratch_eval import measure_detector, measure_pose
from orveil.stages.mm_train import TrainOptions, TrainResult, train_detector, train_pose
from orveil.stages.mm_weights import read_weights, write_weights

__all__ = ["DETECTOR", "POSE", "Plan", "main"]

WEIGHTS = Path(__file__).resolve().parent.parent / "configs" / "weights"
SIZES = "512x288,512x384,512x288"

DETECTOR = TrainOptions(
    iterations=4000,
    batch_size=16,
    learning_rate=1.5e-3,
    warmup=200,
    final_rate=0.02,
    ema_decay=0.998,
    long_side=512,
    canvas=(512, 288),
    augment=Augment(scale=(0.6, 1.6), shift=0.1, mosaic=0.3),
    late_augment=Augment(scale=(0.8, 1.25), shift=0.05, colour=0.5, blur=0.05),
    late_share=0.2,
    checkpoint_every=200,
    bfloat16=True,
)
POSE = TrainOptions(
    iterations=4500,
    batch_size=32,
    learning_rate=1e-3,
    warmup=100,
    final_rate=0.02,
    ema_decay=0.998,
    augment=Augment(scale=(0.75, 1.4), shift=0.1, rotate=40.0),
    late_augment=Augment(scale=(0.85, 1.2), shift=0.08, rotate=25.0, colour=0.5, blur=0.05),
    late_share=0.2,
    checkpoint_every=200,
    bfloat16=True,
)
DETECTOR_AGAIN = replace(DETECTOR, iterations=3600, learning_rate=1e-3, warmup=50, late_share=0.4, seed=1)
POSE_AGAIN = replace(POSE, iterations=2500, warmup=50, late_share=0.3, seed=1)
"""Second phases: warm restarts from the results of the first."""
PART_WEIGHTS = (3.0, 2.0, 1.0, 0.5, 0.5)
"""Loss weights of body, feet, face and hands in the second phase; the first learns the face best."""
POSE_START = 1200
"""Iteration of the detector's training whose backbone and neck the pose model starts from."""
SNAPSHOT = "snapshot.safetensors"


@dataclass(frozen=True)
class Plan:
    """What to render and how long to train.

    Attributes:
        work: folder for pictures and checkpoints, several GB for long runs.
        pictures: for training, of the rooms with seeds from 10000 (8 pictures each).
        heldout: for measuring, of the rooms with seeds from 20000 (4 pictures each).
        long: factor on the iterations of both trainings.
        threads: of torch, for each training.
    """

    work: Path
    pictures: int = 5000
    heldout: int = 400
    long: float = 1.0
    threads: int = 1

    def options(self, base: TrainOptions) -> TrainOptions:
        """The schedule, stretched by `long`."""
        return replace(base, iterations=max(1, round(base.iterations * self.long)), threads=self.threads)


def render(plan: Plan) -> None:
    """Render training and held-out pictures; rooms that are there already are kept."""
    sets = (("source", 10000, plan.pictures, 8), ("heldout", 20000, plan.heldout, 4))
    for name, first, pictures, each in sets:
        seeds = f"{first}-{first + max(1, pictures // each) - 1}"
        command = [sys.executable, "-m", "orveil.sim.dataset", "--domain", "source", "--seeds", seeds]
        command += ["--images", str(pictures), "--size", SIZES, "--jobs", "2", "--out", str(plan.work / name)]
        subprocess.run(command, check=True)


def detector(plan: Plan) -> TrainResult:
    """Train the detector in two phases, or go on with it."""
    config = load_config("detector_embedded")
    source = CocoDetections(plan.work / "source", config.classes)
    options = plan.options(DETECTOR)
    snapshot = SnapshotHook(min(POSE_START, options.iterations), SNAPSHOT)
    first = train_detector(
        config, source, plan.work / "detector", options, hooks=[snapshot], progress=_say("detector")
    )
    return train_detector(
        config,
        source,
        plan.work / "detector-again",
        plan.options(DETECTOR_AGAIN),
        init=first.weights,
        progress=_say("detector, second phase"),
    )


def pose(plan: Plan) -> TrainResult:
    """Train the pose model in two phases, or go on with it."""
    config = load_config("pose_embedded")
    start = build_pose(config, seed=POSE.seed).state_dict()
    shared = read_weights(plan.work / "detector" / SNAPSHOT)
    start |= {name: t for name, t in shared.items() if name in start and t.shape == start[name].shape}
    source = CocoPoses(plan.work / "source")
    first = train_pose(
        config, source, plan.work / "pose", plan.options(POSE), init=start, progress=_say("pose")
    )
    return train_pose(
        config,
        CocoPoses(plan.work / "source", PART_WEIGHTS),
        plan.work / "pose-again",
        plan.options(POSE_AGAIN),
        init=first.weights,
        progress=_say("pose, second phase"),
    )


def publish(plan: Plan, destination: Path) -> None:
    """Measure what was trained, store it in half precision, and write the model card."""
    figures: dict[str, dict[str, float]] = {}
    digests: dict[str, str] = {}
    for name in ("detector", "pose"):
        state = read_weights(plan.work / f"{name}-again" / "final.safetensors")
        path = destination / f"embedded-{name}.safetensors"
        digests[name] = write_weights(state, path, half=True)
        # Measured as stored: half precision is part of the model that people get.
        measure = measure_detector if name == "detector" else measure_pose
        figures[name] = measure(path, plan.work / "heldout")
        typer.echo(f"{name}: {figures[name]}")
    write_card(destination / "MODEL_CARD.md", plan, figures, digests)
    for name, digest in digests.items():
        record_digest(destination.parent / "models.toml", f"embedded-{name}", digest)


def record_digest(registry: Path, name: str, digest: str) -> None:
    """Write the sha256 of an embedded model into the registry, where there is one."""
    if not registry.is_file():
        return
    text = registry.read_text("utf-8")
    pattern = rf'(\[{re.escape(name)}\][^\[]*?\nsha256 = ")[0-9a-f]*(")'
    registry.write_text(re.sub(pattern, rf"\g<1>{digest}\g<2>", text, count=1), "utf-8")


def _say(name: str) -> Callable[[int, int, str], None]:
    started = time.monotonic()

    def say(done: int, total: int, text: str) -> None:
        minutes = (time.monotonic() - started) / 60
        print(f"{name} {done}/{total} ({minutes:.1f} min): {text}", flush=True)

    return say


def main(
    work: Annotated[Path, typer.Option(help="folder for pictures and checkpoints")],
    pictures: Annotated[int, typer.Option(help="training pictures to render")] = 5000,
    heldout: Annotated[int, typer.Option(help="held-out pictures to render")] = 400,
    long: Annotated[float, typer.Option(help="factor on the iterations of both trainings")] = 1.0,
    threads: Annotated[int, typer.Option(help="threads of each training")] = 1,
    step: Annotated[str, typer.Option(help="all, render, detector, pose or publish")] = "all",
    destination: Annotated[Path, typer.Option(help="where the weights go")] = WEIGHTS,
) -> None:
    """From nothing to the embedded weights; run it again to go on after an interruption."""
    plan = Plan(work, pictures, heldout, long, threads)
    steps = {
        "render": lambda: render(plan),
        "detector": lambda: detector(plan),
        "pose": lambda: pose(plan),
        "publish": lambda: publish(plan, destination),
    }
    if step != "all" and step not in steps:
        raise typer.BadParameter(f"{step} is not one of all, {', '.join(steps)}")
    for name, run in steps.items():
        if step in ("all", name):
            run()


if __name__ == "__main__":
    typer.run(main)
