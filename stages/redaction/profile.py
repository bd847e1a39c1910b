"""Stages: how the time of one inference divides into network, decoding of its outputs, and suppression."""

from __future__ import annotations

import json
import tempfile
from bisect import bisect_left
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from orveil.pipeline.geometry import Fit
from orveil.stages.redaction.clock import Clock
from orveil.stages.runtime import Boxes, Bundle, OnnxDetector

__all__ = ["ProfiledDetector", "operator_times"]

RUNS = 100
"""Inferences that are noted, operator by operator: some hundred operators each, on disk."""
NETWORK, SUPPRESSION = ("Conv", "FusedConv"), "NonMaxSuppression"


class ProfiledDetector(OnnxDetector):
    """A detector whose first runs tell the clock how their time divides."""

    def __init__(self, bundle: Bundle, threads: int, clock: Clock) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="orveil-profile-")
        super().__init__(bundle, threads, profile=str(Path(self._folder.name) / "run"))
        self._clock, self._runs = clock, 0
        clock.last.append(self.finish)

    def infer(self, batch: NDArray[Any], fit: Fit) -> list[Boxes]:
        """As `OnnxDetector.infer`."""
        self._runs += 1
        if self._runs == RUNS + 1:
            self.finish()
        return super().infer(batch, fit)

    def finish(self) -> None:
        """Stop noting, and tell the clock; the second time does nothing."""
        if Path(self._folder.name).exists():
            self._clock.instead |= operator_times(self.end_profile())
            self._folder.cleanup()


def operator_times(trace: Path) -> dict[str, list[float]]:
    """Seconds per inference in the sections inference, decode of outputs and NMS.

    Args:
        trace: what ONNX Runtime wrote. What runs up to the last convolution is the network.
    """
    events = json.loads(trace.read_text("utf-8"))
    nodes = sorted(
        (e for e in events if e["cat"] == "Node" and "op_name" in e["args"]), key=lambda e: e["ts"]
    )
    begins = [node["ts"] for node in nodes]
    found: dict[str, list[float]] = {"inference": [], "decode of outputs": [], "NMS": []}
    for run in (e for e in events if e["name"] == "model_run"):
        mine = nodes[bisect_left(begins, run["ts"]) : bisect_left(begins, run["ts"] + run["dur"])]
        kinds = [node["args"]["op_name"] for node in mine]
        network = max((i + 1 for i, kind in enumerate(kinds) if kind in NETWORK), default=0)
        suppression = kinds.index(SUPPRESSION) if SUPPRESSION in kinds else len(mine)
        decode = sum(node["dur"] for node in mine[network:suppression]) * 1e-6
        rest = sum(node["dur"] for node in mine[suppression:]) * 1e-6
        found["decode of outputs"].append(decode)
        found["NMS"].append(rest)
        found["inference"].append(max(run["dur"] * 1e-6 - decode - rest, 0.0))
    return {name: values for name, values in found.items() if values}
