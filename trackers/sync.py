"""Trackers: which frames of several cameras were taken at the same time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["ticks"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


def ticks(times: Sequence[NDArray[np.floating]]) -> tuple[Doubles, list[Ints]]:
    """A common timeline of the cameras, one tick for each frame of the slowest one.

    Where the slowest camera does not record, the others' frames make ticks of their own. A frame belongs
    to the nearest tick if that is less than half a frame of the slowest camera away, and each tick takes
    the nearest frame of a camera only.

    Args:
        times: per camera, seconds (F_c,) on the common clock, increasing.

    Returns:
        Times of the ticks (T,), and per camera the tick of each frame (F_c,), -1 for none.
    """
    clocks = [np.asarray(t, np.float64) for t in times]
    steps = [float(np.median(np.diff(t))) if len(t) > 1 else 0.0 for t in clocks]
    # Half a step, and a hair for rounded time stamps.
    reach = 0.5 * max(steps, default=0.0) + 1e-6
    line = np.zeros(0)
    for camera in sorted(range(len(clocks)), key=lambda c: (-steps[c], -len(clocks[c]), c)):
        _, distance = _nearest(line, clocks[camera])
        line = np.sort(np.concatenate([line, clocks[camera][distance > reach]]))
    return line, [_one_each(*_nearest(line, clock), reach) for clock in clocks]


def _nearest(line: Doubles, clock: Doubles) -> tuple[Ints, Doubles]:
    """Nearest entry of a sorted line for each time, and its distance (infinite for an empty line)."""
    if not len(line):
        return np.zeros(len(clock), np.int64), np.full(len(clock), np.inf)
    right = np.clip(np.searchsorted(line, clock), 0, len(line) - 1)
    left = np.maximum(right - 1, 0)
    near = np.where(np.abs(line[left] - clock) <= np.abs(line[right] - clock), left, right)
    return near, np.abs(line[near] - clock)


def _one_each(near: Ints, distance: Doubles, reach: float) -> Ints:
    """The tick of each frame; of several frames at one tick only the nearest keeps it."""
    tick = np.full(len(near), -1, np.int64)
    order = np.argsort(distance, kind="stable")
    _, first = np.unique(near[order], return_index=True)
    kept = order[first]
    kept = kept[distance[kept] <= reach]
    tick[kept] = near[kept]
    return tick
