"""Trackers: how probable each pair is where at most one partner is allowed on either side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["match_marginals"]

Doubles = NDArray[np.float64]

ITERATIONS = 12
HIGHEST = 20.0


def match_marginals(log_odds: Doubles) -> tuple[Doubles, Doubles]:
    """Marginal probabilities of a bipartite matching with unmatched sides, by belief propagation.

    The loopy message passing of Williams and Lau (2014), which always converges for this graph; every
    frame pair at once.

    Args:
        log_odds: (..., F, A, B) log of the weight of each pair against both sides unmatched; -inf: no pair.

    Returns:
        Probabilities (..., F, A, B), and the Bethe approximation of the log of the total weight (..., F).
    """
    # Sums over the short axes are many times as fast where the long ones are last.
    psi = np.exp(np.minimum(np.ascontiguousarray(np.moveaxis(log_odds, (-2, -1), (0, 1))), HIGHEST))
    back = np.ones_like(psi)
    forth = psi
    for _ in range(ITERATIONS):
        weighted = psi * back
        forth = psi / (1.0 + weighted.sum(axis=1, keepdims=True) - weighted)
        back = 1.0 / (1.0 + forth.sum(axis=0) - forth)
    weighted = psi * back
    reached = weighted.sum(axis=1)
    probability = weighted / (1.0 + reached[:, None])
    evidence = np.log1p(reached).sum(axis=0) + np.log1p(forth.sum(axis=0)).sum(axis=0)
    evidence -= np.log1p(forth * back).sum(axis=(0, 1))
    return np.moveaxis(probability, (0, 1), (-2, -1)), evidence
