"""Trackers: two densities over descriptions of boxes: of any box, and of a box given its partner."""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma, log, pi

import numpy as np
from numpy.typing import NDArray

__all__ = ["Anybody", "Regression", "anybody", "regress"]

Doubles = NDArray[np.float64]

FREEDOM = 5.0
"""Degrees of freedom of the t distribution: a few gross outliers do not bend the fit."""
SUPPORT = 400
"""Kernels kept of the density of any box."""


@dataclass(frozen=True)
class Anybody:
    """Kernel density of the boxes of one view (K kernels), whoever they show: the null of a match."""

    whiten: Doubles
    kernels: Doubles
    log_weight: Doubles
    log_norm: float

    def log_density(self, target: Doubles, chunk: int = 4096) -> Doubles:
        """Log density (N,) of descriptions (N, D)."""
        out = np.empty(len(target))
        for start in range(0, len(target), chunk):
            point = target[start : start + chunk] @ self.whiten
            distance = (
                (point**2).sum(axis=1)[:, None]
                + (self.kernels**2).sum(axis=1)[None, :]
                - 2.0 * point @ self.kernels.T
            )
            value = self.log_weight[None, :] - 0.5 * np.maximum(distance, 0.0)
            top = value.max(axis=1)
            out[start : start + chunk] = top + np.log(np.exp(value - top[:, None]).sum(axis=1))
        return np.asarray(out + self.log_norm)


def anybody(target: Doubles, weight: Doubles) -> Anybody:
    """Gaussian kernels at up to SUPPORT of the descriptions (N, D), evenly chosen; Scott's bandwidth."""
    dims = target.shape[1]
    kept = np.unique(np.linspace(0, len(target) - 1, min(len(target), SUPPORT)).astype(int))
    spread = np.cov(target.T, aweights=weight) if len(target) > dims else np.diag(target.var(axis=0))
    bandwidth = 0.8 * len(kept) ** (-1.0 / (dims + 4))
    cover = (spread + 1e-4 * np.eye(dims)) * bandwidth**2
    whiten = np.linalg.cholesky(np.linalg.inv(cover))
    share = weight[kept] / weight[kept].sum()
    norm = -0.5 * float(np.linalg.slogdet(cover)[1]) - dims / 2 * log(2 * pi)
    return Anybody(whiten, target[kept] @ whiten, np.log(share + 1e-12), norm)


@dataclass(frozen=True)
class Regression:
    """Bayesian linear regression (P, D) of a description on features, with t-distributed residuals.

    Where little was seen, the prediction is uncertain: `doubt` (P, P) is the covariance of the
    coefficients in units of the residuals', and widens the density there.
    """

    coefficients: Doubles
    covariance: Doubles
    precision: Doubles
    doubt: Doubles
    log_norm: float

    def expected(self, feature: Doubles) -> Doubles:
        """Predicted descriptions (N, D)."""
        return np.asarray(feature @ self.coefficients)

    def log_density(self, feature: Doubles, target: Doubles) -> Doubles:
        """Log density (N,) of descriptions (N, D) given the features (N, P) of their partners."""
        dims = target.shape[1]
        widened = 1.0 + ((feature @ self.doubt) * feature).sum(axis=1)
        distance = _mahalanobis(target - self.expected(feature), self.precision) / widened
        heavy = (FREEDOM + dims) / 2 * np.log1p(distance / FREEDOM)
        return np.asarray(self.log_norm - dims / 2 * np.log(widened) - heavy)


def regress(
    feature: Doubles,
    target: Doubles,
    weight: Doubles,
    prior: Doubles,
    ridge: float = 1.0,
    prior_count: float = 3.0,
) -> Regression:
    """Weighted ridge regression with t-distributed residuals, by three rounds of reweighting.

    Args:
        feature: (N, P), first column ones (not held back).
        target: (N, D).
        weight: (N,) at least 0.
        prior: (D, D) covariance of the residuals before any data, worth `prior_count` samples.
        ridge: precision of the prior on the coefficients.
        prior_count: see `prior`.
    """
    dims = target.shape[1]
    hold = ridge * np.eye(feature.shape[1])
    hold[0, 0] = 1e-3 * ridge
    robust = np.ones(len(target))
    for _ in range(3):
        weighted = feature * (weight * robust)[:, None]
        information = weighted.T @ feature + hold
        coefficients = np.linalg.solve(information, weighted.T @ target)
        residual = target - feature @ coefficients
        scatter = (residual * (weight * robust)[:, None]).T @ residual + prior_count * prior
        covariance = scatter / (weight.sum() + prior_count)
        precision = np.linalg.inv(covariance)
        robust = (FREEDOM + dims) / (FREEDOM + _mahalanobis(residual, precision))
    norm = lgamma((FREEDOM + dims) / 2) - lgamma(FREEDOM / 2) - dims / 2 * log(FREEDOM * pi)
    norm -= 0.5 * float(np.linalg.slogdet(covariance)[1])
    doubt = np.asarray(np.linalg.inv(information))
    return Regression(np.asarray(coefficients), np.asarray(covariance), np.asarray(precision), doubt, norm)


def _mahalanobis(residual: Doubles, precision: Doubles) -> Doubles:
    return np.asarray(((residual @ precision) * residual).sum(axis=1))
