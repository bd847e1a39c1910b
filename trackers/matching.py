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
        log_odds: (F, A, B) log of the weight of each pair against both sides unmatched; -inf: no pair.

    Returns:
        Probabilities (F, A, B), and the Bethe approximation of the log of the total weight (F,).
    """
    psi = np.exp(np.minimum(log_odds, HIGHEST))
    back = np.ones_like(psi)
    forth = psi
    for _ in range(ITERATIONS):
        weighted = psi * back
        forth = psi / (1.0 + weighted.sum(axis=2, keepdims=True) - weighted)
        back = 1.0 / (1.0 + forth.sum(axis=1, keepdims=True) - forth)
    weighted = psi * back
    probability = weighted / (1.0 + weighted.sum(axis=2, keepdims=True))
    evidence = (
        np.log1p(weighted.sum(axis=2)).sum(axis=1)
        + np.log1p(forth.sum(axis=1)).sum(axis=1)
        - np.log1p(forth * back).sum(axis=(1, 2))
    )
    return probability, evidence
