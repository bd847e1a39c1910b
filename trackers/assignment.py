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
    allowed = np.asarray(cost) < limit
    rows, columns = np.nonzero(allowed)
    if len(rows) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    alone = (allowed.sum(axis=1)[rows] == 1) & (allowed.sum(axis=0)[columns] == 1)
    if not alone.all():
        kept = _solve(np.asarray(cost, np.float64), limit, rows[~alone], columns[~alone])
        rows = np.concatenate([rows[alone], kept[0]])
        columns = np.concatenate([columns[alone], kept[1]])
        order = np.argsort(rows, kind="stable")
        rows, columns = rows[order], columns[order]
    return rows.astype(np.int64), columns.astype(np.int64)


def _solve(cost: NDArray[np.float64], limit: float, rows: Ints, columns: Ints) -> tuple[Ints, Ints]:
    """Solve the contested part: the sub-matrix of the rows and columns that compete."""
    used_rows, used_columns = np.unique(rows), np.unique(columns)
    part = cost[np.ix_(used_rows, used_columns)]
    # The solver's own cost_limit doubles the matrix; a gain matrix with zero for "no pair" does not.
    gain = np.minimum(part - limit, 0.0)
    _, to_column, _ = lap.lapjv(gain, extend_cost=True)
    found = np.flatnonzero(to_column >= 0)
    chosen = np.asarray(to_column)[found]
    valid = part[found, chosen] < limit
    return used_rows[found[valid]], used_columns[chosen[valid]]
