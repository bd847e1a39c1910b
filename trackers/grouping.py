"""Trackers: tracks of all cameras grouped into persons, at most one track per camera at any time.

Correlation clustering by greedy additive edge contraction (Keuper et al., 2015): the two groups with the
highest summed evidence are joined again and again, unless a camera would then show one person twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Grouping", "group"]

Ints = NDArray[np.int64]

OVERLAP = 0.1
"""Two tracks of one camera may be one person if they share at most this part of the shorter one."""


class Grouping:
    """Groups of T tracks; every track begins alone."""

    def __init__(self, camera: Ints, first: Ints, last: Ints) -> None:
        """Cameras, first and last ticks, each (T,)."""
        self.camera, self.first, self.last = camera, first, last
        self.of = list(range(len(camera)))
        self.members: dict[int, list[int]] = {t: [t] for t in range(len(camera))}
        self.weight: dict[int, dict[int, float]] = {t: {} for t in range(len(camera))}

    def compatible(self, one: int, other: int) -> bool:
        """Whether no camera would show the joined group twice at the same time."""
        return not any(
            self.camera[t] == self.camera[u] and self._overlap(t, u)
            for t in self.members[one]
            for u in self.members[other]
        )

    def _overlap(self, t: int, u: int) -> bool:
        shared = int(min(self.last[t], self.last[u]) - max(self.first[t], self.first[u])) + 1
        shorter = int(min(self.last[t] - self.first[t], self.last[u] - self.first[u])) + 1
        return shared > max(1.0, OVERLAP * shorter) or (shared == 1 and shorter == 1)

    def connect(self, edges: Iterable[tuple[int, int, float]]) -> None:
        """Contract edges (track, track, evidence) while the summed evidence is positive."""
        heap: list[tuple[float, int, int]] = []
        for t, u, value in edges:
            a, b = self.of[t], self.of[u]
            if a != b:
                self._add(a, b, value)
        for a in self.weight:
            heap += [(-value, a, b) for b, value in self.weight[a].items() if a < b and value > 0]
        heapq.heapify(heap)
        while heap:
            value, a, b = heapq.heappop(heap)
            current = self.weight.get(a, {}).get(b)
            # An entry is stale where one of its groups was joined to another or its evidence changed.
            if current is None or current != -value or not self.compatible(a, b):
                continue
            for neighbour in self._contract(a, b):
                total = self.weight[a][neighbour]
                if total > 0:
                    heapq.heappush(heap, (-total, min(a, neighbour), max(a, neighbour)))

    def _add(self, a: int, b: int, value: float) -> None:
        self.weight[a][b] = self.weight[b][a] = self.weight[a].get(b, 0.0) + value

    def _contract(self, a: int, b: int) -> list[int]:
        """Join group b to group a; the groups whose evidence towards a has changed."""
        for track in self.members[b]:
            self.of[track] = a
        self.members[a] += self.members.pop(b)
        gone = self.weight.pop(b)
        for neighbour, value in gone.items():
            self.weight[neighbour].pop(b)
            if neighbour != a:
                self._add(a, neighbour, value)
        return [neighbour for neighbour in gone if neighbour != a]


def group(
    camera: Ints, first: Ints, last: Ints, sure: NDArray[np.bool_], edges: list[tuple[int, int, float]]
) -> Grouping:
    """Persons from pairwise evidence: first among confident tracks, then doubtful ones join them.

    Args:
        camera: (T,) camera of each track.
        first: (T,) first tick.
        last: (T,) last tick.
        sure: (T,) whether the track has confident boxes.
        edges: (track, track, log odds) of pairs in different cameras.
    """
    groups = Grouping(camera, first, last)
    groups.connect(e for e in edges if sure[e[0]] and sure[e[1]])
    groups.connect(e for e in edges if not (sure[e[0]] and sure[e[1]]))
    return groups
