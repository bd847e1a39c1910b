"""Stages: where the time of a redaction goes: ten sections per frame, sums always, spread on request."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["SECTIONS", "Clock", "timing_table"]

SECTIONS = (
    "start", "crop", "preprocessing", "inference", "decode of outputs", "score filter", "sort", "NMS", "blur",
    "save",
)  # fmt: skip
"""As in the table of the operating-room recorder of Flouty et al.: start is reading and decoding a frame,
crop is turning it upright and cutting regions of interest out, blur is tracking and masking, save is encoding
and writing."""
IN_NMS = ("sort",)
"""ONNX's NonMaxSuppression drops what is below the floor, sorts and suppresses in one operator."""


class Clock:
    """Seconds per section; with `spread` every single time is kept (4 bytes each).

    Attributes:
        instead: finer single times of some frames, which take the place of those that were added.
        last: called before the spread is given.
    """

    def __init__(self, spread: bool = False) -> None:
        self.sums: dict[str, float] = {}
        self.single: dict[str, array[float]] | None = {} if spread else None
        self.instead: dict[str, list[float]] = {}
        self.last: list[Callable[[], None]] = []

    def add(self, section: str, seconds: float) -> None:
        """Note that a section took this long for one frame. One thread per section."""
        self.sums[section] = self.sums.get(section, 0.0) + seconds
        if self.single is not None:
            self.single.setdefault(section, array("f")).append(seconds)

    @contextmanager
    def measure(self, section: str) -> Iterator[None]:
        """Time what is inside as one frame's share of a section."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(section, time.perf_counter() - begin)

    def seconds(self) -> dict[str, float]:
        """Sums, rounded, sections in their order first."""
        order = [*SECTIONS, *(name for name in self.sums if name not in SECTIONS)]
        return {name: round(self.sums[name], 4) for name in order if name in self.sums}

    def spread(self) -> dict[str, dict[str, float]]:
        """Median and 95th percentile per frame in milliseconds, and how many frames a section had."""
        for call in self.last:
            call()
        found = {}
        for name in SECTIONS:
            values = self.instead.get(name) or (self.single or {}).get(name)
            if values:
                middle, high = np.percentile(np.asarray(values), [50, 95]) * 1e3
                found[name] = {"p50": float(middle), "p95": float(high), "frames": len(values)}
        return found


def timing_table(spread: dict[str, dict[str, float]], wall_s: float, media_s: float, frames: int) -> str:
    """The table that `--timings` prints."""
    lines = [f"{'section':<18}{'p50 ms':>9}{'p95 ms':>9}{'frames':>9}"]
    for name in SECTIONS:
        if name in spread:
            row = spread[name]
            lines.append(f"{name:<18}{row['p50']:9.2f}{row['p95']:9.2f}{row['frames']:9.0f}")
        else:
            lines.append(f"{name:<18}{'in NMS' if name in IN_NMS else '-':>9}")
    factor = f"{wall_s / media_s:.2f}" if media_s > 0 else "-"
    pace = f"{wall_s:.1f} s for {media_s:.1f} s of video, {frames / wall_s:.1f} frames/s"
    lines.append(f"real-time factor {factor}: {pace}")
    return "\n".join(lines)
