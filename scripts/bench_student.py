"""How fast students are in ONNX Runtime, in floating point and in 8-bit integers, side by side in one run.

    .venv/bin/python scripts/bench_student.py [--bundle BUNDLE] [--threads 2] [--long-side 416] [--rounds 200]

Rows: the embedded student (or a bundle's), the same with ReLU, and the widths of RTMDet-nano and RTMDet-tiny
with random weights, which tell time but find nothing. All models take turns on each picture of the embedded
site, so a busy machine slows all alike. Frames/s are those of the fastest tenth of the runs, which other work
disturbed least; `CPU ms` is the median of this process's own time, and the bar is judged by its ratio. The
graph alone is timed: scaled picture in, boxes out. The bar is 40 frames/s, and integers 1.4 times as fast as
floating point.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from orveil.pipeline.geometry import Fit
from orveil.pipeline.media import frames
from orveil.stages import mm, onnx_int8
from orveil.stages.onnx_graph import CellGraph, Suppression, export_onnx
from orveil.stages.runtime import Bundle, OnnxDetector, letterbox

SITE = Path(__file__).resolve().parent.parent / "sim" / "embedded"
WEIGHTS = SITE.parent.parent / "configs" / "weights" / "embedded-detector.safetensors"
PER_CAMERA, CALIBRATION = 10, 20
FAST, FASTER = 40.0, 1.4
RELU = {f"model.{part}.act_cfg": {"type": "ReLU"} for part in ("backbone", "neck", "bbox_head")}


@dataclass
class Model:
    """One model in one arithmetic, and the seconds of each run."""

    detector: OnnxDetector
    megabytes: float
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self, batch: NDArray[np.uint8], fit: Fit) -> None:
        """Detect, and note the time."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.detector.infer(batch, fit)
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)


def pictures(long_side: int) -> tuple[list[NDArray[np.uint8]], Fit]:
    """Batches of one picture of the embedded site, as models take them."""
    batches = []
    for video in sorted(SITE.glob("cam*.mp4")):
        for _, _, picture in frames(video, wanted=list(range(0, 200, 200 // PER_CAMERA))):
            fit = Fit.of(picture.shape[1], picture.shape[0], long_side)
            batches.append(letterbox(picture, fit)[None])
    return batches, fit


def contents(bundle: Path | None) -> dict[str, bytes]:
    """ONNX of every model in floating point."""
    how = Suppression(0.05, 0.65, 100)

    def export(config: Any, weights: Path | None = None) -> bytes:
        return export_onnx(CellGraph(mm.build_detector(config, weights, seed=0), config), how, {})

    own = {"embedded student": export(mm.load_config("student_embedded"), WEIGHTS)}
    if bundle:
        own = {"student of the bundle": (bundle / "detector.onnx").read_bytes()}
    return {
        **own,
        "embedded student with ReLU, untrained": export(mm.load_config("student_embedded", RELU)),
        "RTMDet-nano width, untrained": export(mm.load_config("detector_rtmdet_nano_person")),
        "RTMDet-tiny width, untrained": export(mm.load_config("student_rtmdet_tiny_coco")),
    }


def models(
    given: argparse.Namespace, batches: list[NDArray[np.uint8]], folder: Path
) -> dict[str, list[Model]]:
    """For each name the model in floating point and in integers."""
    calibration = batches[:: max(1, len(batches) // CALIBRATION)]
    found = {}
    for number, (name, content) in enumerate(contents(given.bundle).items()):
        found[name] = []
        for kind, data in (("float", content), ("int8", onnx_int8.quantise(content, calibration))):
            file = f"{number}.{kind}.onnx"
            (folder / file).write_bytes(data)
            bundle = Bundle(folder, ("person",), given.long_side, {}, {}, "", file)
            found[name].append(Model(OnnxDetector(bundle, threads=given.threads), len(data) / 1e6))
    return found


def main() -> None:
    """Time all models and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--long-side", type=int, default=416)
    parser.add_argument("--rounds", type=int, default=200)
    given = parser.parse_args()
    batches, fit = pictures(given.long_side)
    with tempfile.TemporaryDirectory() as folder:
        table = models(given, batches, Path(folder))
    for number in range(given.rounds + 5):
        if number == 5:  # the first runs make room
            for model in (model for pair in table.values() for model in pair):
                model.wall.clear(), model.cpu.clear()
        for pair in table.values():
            for model in pair:
                model.run(batches[number % len(batches)], fit)
    print(
        f"ONNX Runtime {ort.__version__}, {given.threads} threads, {given.long_side} px, {given.rounds} runs"
    )
    print("| model | frames/s float | int8 | times | CPU ms float | int8 | times | MB float | int8 | bar |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, (one, two) in table.items():
        rate = [1 / float(np.quantile(model.wall, 0.1)) for model in (one, two)]
        cpu = [1e3 * float(np.median(model.cpu)) for model in (one, two)]
        met = "met" if rate[0] >= FAST and cpu[0] / cpu[1] >= FASTER else "missed"
        cells = [
            *(name, f"{rate[0]:.0f}", f"{rate[1]:.0f}", f"{rate[1] / rate[0]:.2f}"),
            *(f"{cpu[0]:.2f}", f"{cpu[1]:.2f}", f"{cpu[0] / cpu[1]:.2f}"),
            *(f"{one.megabytes:.1f}", f"{two.megabytes:.1f}", met),
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
