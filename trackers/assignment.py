"""Trackers: one-to-one assignment with a limit on the cost, by the Jonker-Volgenant solver of `lap`."""

from __future__ import annotations

import lap
import numpy as np
from numpy.typing import NDArray

__all__ = ["assign"]

Ints = NDArray[np.int64]


def assign(cost: NDArray[np.floating], limit: float) -> tuple[Ints, Ints]:
    """Pairs (row, column) that minimise the total cost, where leaving a pair out costs `limit`.

    Pairs that no other pair competes with are taken at once; only the rest goes to the solver
    (Jonker and Volgenant, 1987). Equal costs are resolved the same way in every run.

    Args:
        cost: (N, M), finite.
        limit: pairs above it are never made.

    Returns:
        Rows (K,), increasing, and their columns (K,).
    """
    rows, columns = np.nonzero(np.asarray(cost) < limit)
    contested = np.bincount(rows)[rows] > 1
    contested |= np.bincount(columns)[columns] > 1
    if contested.any():
        alone = ~contested
        kept = _solve(np.asarray(cost, np.float64), limit, rows[contested], columns[contested])
        rows = np.concatenate([rows[alone], kept[0]])
        columns = np.concatenate([columns[alone], kept[1]])
        order = rows.argsort(kind="stable")
        rows, columns = rows[order], columns[order]
    return rows, columns


def _solve(cost: NDArray[np.float64], limit: float, rows: Ints, columns: Ints) -> tuple[Ints, Ints]:
    """Solve the contested part: the sub-matrix of the rows and columns that compete."""
    row_names, i = _numbered(rows, len(cost))
    column_names, j = _numbered(columns, cost.shape[1])
    # Square, with zero for "no pair": the solver's own cost_limit would double the matrix.
    size = max(len(row_names), len(column_names))
    gain = np.zeros((size, size))
    gain[i, j] = cost[rows, columns] - limit
    _, to_column, _ = lap.lapjv(gain)
    found = (gain[np.arange(size), to_column] < 0).nonzero()[0]
    return row_names[found], column_names[to_column[found]]


def _numbered(values: Ints, count: int) -> tuple[Ints, Ints]:
    """The distinct values in order, and the number of each value among them; values are below `count`."""
    used = np.zeros(count, np.int64)
    used[values] = 1
    return used.nonzero()[0], (used.cumsum() - 1)[values]
