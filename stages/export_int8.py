"""Export, 8-bit integers: make the model, and judge whether an appliance should run it.

It is taken if it finds the site's labelled people and heads as well as the student in PyTorch, does not
depend on the batch, and, unless it is asked for in any case, is faster than floating point where the export
runs. Speed is measured, so what `auto` decides may differ between machines.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orveil.stages.bundle_check import BATCHES, compare, in_batches, refusal
from orveil.stages.runtime import Boxes, OnnxDetector

__all__ = ["FASTER", "INT8", "MAX_BOX_PX", "MAX_SCORE", "Verdict", "judge", "seconds_side_by_side"]

INT8 = "detector.int8.onnx"
FASTER = 1.1
"""Times faster than floating point from which integers pay."""
MAX_BOX_PX, MAX_SCORE = 4.0, 0.05
"""How far another machine's integer kernels may be off: they may round differently by one step."""
CONFIDENT = 0.3
COMPARED = 20
ROUNDS = 15


@dataclass(frozen=True)
class Verdict:
    """Whether the integer model is used, why not, and what was measured."""

    used: bool
    reason: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """For the manifest."""
        return {"used": self.used, "reason": self.reason, **self.figures}


def judge(
    detectors: tuple[OnnxDetector, OnnxDetector],
    pictures: Sequence[NDArray[np.uint8]],
    recall: Mapping[str, Mapping[str, float]],
    reference: Sequence[Boxes],
    limits: tuple[float, bool],
) -> Verdict:
    """Decide about the integer model.

    Args:
        detectors: floating point, integers.
        pictures: labelled ones.
        recall: for each label that of `torch` and `int8` at the label's threshold.
        reference: PyTorch's boxes on the pictures.
        limits: largest loss of recall, and whether a slower model is used too.
    """
    floating, integer = detectors
    max_drop, anyway = limits
    step = max(1, len(pictures) // COMPARED)
    some, wanted = pictures[::step], reference[::step]
    found = {batch: in_batches(integer, some, batch) for batch in BATCHES}
    rows = [{"batch": k, **compare(wanted, boxes, CONFIDENT, MAX_SCORE)} for k, boxes in found.items()]
    together = compare(found[min(BATCHES)], found[max(BATCHES)], CONFIDENT, 1e-3)
    one, two = seconds_side_by_side((floating, integer), pictures)
    figures = {
        "parity": rows, "recall": {name: dict(row) for name, row in recall.items()},
        "float_ms": round(one * 1e3, 2), "int8_ms": round(two * 1e3, 2), "speedup": round(one / two, 2),
    }  # fmt: skip
    for name, row in recall.items():
        if row["torch"] - row["int8"] > max_drop:
            return Verdict(
                False, f"recall of {name} falls from {row['torch']:.4f} to {row['int8']:.4f}", figures
            )
    if wrong := refusal(together, 0.1, 1e-3):
        return Verdict(False, f"it depends on the batch: {wrong}", figures)
    if one / two < FASTER and not anyway:
        return Verdict(False, f"it is {one / two:.2f} times as fast as floating point here", figures)
    return Verdict(True, "", figures)


def seconds_side_by_side(
    detectors: Sequence[OnnxDetector], pictures: Sequence[NDArray[np.uint8]], rounds: int = ROUNDS
) -> list[float]:
    """Seconds of the fastest run for one picture: other work only ever makes runs slower."""
    spent: list[list[float]] = [[] for _ in detectors]
    for number in range(rounds):
        picture = pictures[number % len(pictures)]
        for times, detector in zip(spent, detectors, strict=True):
            if number == 0:
                detector.detect([picture])  # the first run makes room
            begin = time.perf_counter()
            detector.detect([picture])
            times.append(time.perf_counter() - begin)
    return [min(times) for times in spent]
