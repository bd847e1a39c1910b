"""The walkable floor: clearance map and shortest paths on a grid."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import cv2
import numpy as np

from orveil.sim.maths import Array, Rect, rect_corners, unit

CELL = 0.05
BODY_RADIUS = 0.27
Pair = tuple[float, float]
Region = tuple[float, float, float, float]
_STEPS = [(i, j, math.hypot(i, j)) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]


class Floor:
    """Grid of `CELL` metres with the distance to the nearest obstacle.

    `half` is the half size (x, y) of the whole area, `inside` the half size of the room in it, and `regions`
    (from x, to x, from y, to y) are the parts of the area that are floor.
    """

    def __init__(
        self, half: Pair, inside: Pair, regions: Sequence[Region], obstacles: Sequence[Rect]
    ) -> None:
        self.x0, self.y0 = -half[0], -half[1]
        self.inside = inside
        self.shape = (int(2 * half[1] / CELL), int(2 * half[0] / CELL))
        free = np.zeros(self.shape, np.uint8)
        for region in regions:
            self._open(free, *region)
        for r in obstacles:
            corners = (rect_corners(r) - [self.x0, self.y0]) / CELL
            cv2.fillConvexPoly(free, np.round(corners).astype(np.int32), 0)
        free[0], free[-1], free[:, 0], free[:, -1] = 0, 0, 0, 0
        self.clearance_map = np.asarray(cv2.distanceTransform(free, cv2.DIST_L2, 5)) * CELL
        soft = np.asarray(cv2.GaussianBlur(self.clearance_map, (0, 0), 2))
        self._gy: Array = np.gradient(soft, axis=0)
        self._gx: Array = np.gradient(soft, axis=1)
        wide = (self.clearance_map > BODY_RADIUS).astype(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(wide, connectivity=4)
        # Only the largest connected part: whatever is walkable can be reached.
        self.walkable = labels == 1 + int(np.argmax(stats[1:, 4]))

    def _open(self, grid: Array, xa: float, xb: float, ya: float, yb: float) -> None:
        i0, j0 = self.cell(min(xa, xb), ya)
        i1, j1 = self.cell(max(xa, xb), yb)
        grid[i0 : i1 + 1, j0 : j1 + 1] = 1

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """Grid row and column of a point."""
        i = int(np.clip((y - self.y0) / CELL, 0, self.shape[0] - 1))
        return i, int(np.clip((x - self.x0) / CELL, 0, self.shape[1] - 1))

    def clearance(self, x: float, y: float) -> float:
        """Metres to the nearest obstacle."""
        return float(self.clearance_map[self.cell(x, y)])

    def uphill(self, x: float, y: float) -> Array:
        """Unit direction (2,) away from the nearest obstacle."""
        i, j = self.cell(x, y)
        return unit([float(self._gx[i, j]), float(self._gy[i, j])])

    def nearest_free(self, x: float, y: float) -> tuple[float, float]:
        """The nearest point where a person can stand."""
        i, j = self.cell(x, y)
        ii, jj = np.nonzero(self.walkable)
        k = int(np.argmin((ii - i) ** 2 + (jj - j) ** 2))
        return float(self.x0 + (jj[k] + 0.5) * CELL), float(self.y0 + (ii[k] + 0.5) * CELL)

    def path(self, start: Array, goal: Array) -> Array | None:
        """Smoothed way points (n, 2), a little away from obstacles, or None where there is no way."""
        s, t = self.cell(*self.nearest_free(*start)), self.cell(*self.nearest_free(*goal))
        previous = self._search(s, t)
        if previous is None:
            return None
        cells = [t]
        while cells[-1] != s:
            cells.append(previous[cells[-1]])
        points = np.array([[self.x0 + (j + 0.5) * CELL, self.y0 + (i + 0.5) * CELL] for i, j in cells[::-1]])
        if len(points) > 5:
            kernel = np.ones(9) / 9
            padded = np.pad(points, ((4, 4), (0, 0)), mode="edge")
            points = np.stack([np.convolve(padded[:, k], kernel, "valid") for k in (0, 1)], 1)
        return points[::3] if len(points) > 6 else points

    def _search(
        self, s: tuple[int, int], t: tuple[int, int]
    ) -> dict[tuple[int, int], tuple[int, int]] | None:
        """A* over walkable cells."""
        cost = {s: 0.0}
        previous: dict[tuple[int, int], tuple[int, int]] = {}
        heap, seen = [(0.0, s)], set()
        while heap:
            _, c = heapq.heappop(heap)
            if c in seen:
                continue
            seen.add(c)
            if c == t:
                return previous
            for di, dj, w in _STEPS:
                q = (c[0] + di, c[1] + dj)
                if not self.walkable[q]:
                    continue
                tight = max(0.0, 0.6 - float(self.clearance_map[q])) / 0.3
                new = cost[c] + w * (1 + 0.25 * tight)
                if new < cost.get(q, 1e9):
                    cost[q], previous[q] = new, c
                    heapq.heappush(heap, (new + math.hypot(q[0] - t[0], q[1] - t[1]), q))
        return None
