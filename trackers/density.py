"""Trackers: two densities over descriptions of boxes: of any box, and of a box given its partner."""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma, log, pi

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

__all__ = ["ROBUST_ROUNDS", "Anybody", "Chain", "Line", "anybody", "chain"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

FREEDOM = 2.5
"""Degrees of freedom of the residuals' t distribution: a box cut by a table is far off in one number and
right in the others. Chosen by the evidence of frames held out, as was the share of strangers."""
SUPPORT = 400
"""Kernels kept of the density of any box."""
STRANGE, STRANGE_FREEDOM, STRANGE_WIDTH = 0.1, 3.0, 2.0
"""Share, degrees of freedom and variance (in that of all boxes) of boxes unlike any seen so far. Without
them a box in a new place would match anything: its own density would be next to nothing."""
ROBUST_ROUNDS = 3
PRIOR_COUNT = 3.0
"""Rows that the variance of the residuals before any data is worth."""
MOST_LEVERAGE = 0.9
"""Leverages count as at most this, so that a box alone in its place keeps a finite left-out residual."""


@dataclass(frozen=True)
class Anybody:
    """Density of the boxes of one view, whoever they show: K kernels and a broad t. The null of a match."""

    whiten: Doubles
    kernels: Doubles
    log_weight: Doubles
    log_norm: float
    middle: Doubles
    precision: Doubles
    broad_norm: float

    def log_density(self, target: Doubles, chunk: int = 4096) -> Doubles:
        """Log density (N,) of descriptions (N, D)."""
        near = np.empty(len(target))
        for start in range(0, len(target), chunk):
            point = target[start : start + chunk] @ self.whiten
            distance = (
                (point**2).sum(axis=1)[:, None]
                + (self.kernels**2).sum(axis=1)[None, :]
                - 2.0 * point @ self.kernels.T
            )
            value = self.log_weight[None, :] - 0.5 * np.maximum(distance, 0.0)
            top = value.max(axis=1)
            near[start : start + chunk] = top + np.log(np.exp(value - top[:, None]).sum(axis=1))
        residual = target - self.middle
        far = ((residual @ self.precision) * residual).sum(axis=1)
        broad = -(STRANGE_FREEDOM + target.shape[1]) / 2 * np.log1p(far / STRANGE_FREEDOM)
        mixed = np.logaddexp(log(1 - STRANGE) + near + self.log_norm, log(STRANGE) + broad + self.broad_norm)
        return np.asarray(mixed)


def anybody(target: Doubles, weight: Doubles) -> Anybody:
    """Gaussian kernels at up to SUPPORT of the descriptions (N, D), evenly chosen; Scott's bandwidth."""
    dims = target.shape[1]
    kept = np.unique(np.linspace(0, len(target) - 1, min(len(target), SUPPORT)).astype(int))
    spread = np.cov(target.T, aweights=weight) if len(target) > dims else np.diag(target.var(axis=0))
    spread = spread + 1e-4 * np.eye(dims)
    cover = spread * (0.8 * len(kept) ** (-1.0 / (dims + 4))) ** 2
    whiten = np.linalg.cholesky(np.linalg.inv(cover))
    share = weight[kept] / weight[kept].sum()
    norm = -0.5 * float(np.linalg.slogdet(cover)[1]) - dims / 2 * log(2 * pi)
    broad = -0.5 * float(np.linalg.slogdet(STRANGE_WIDTH * spread)[1]) + _t_norm(STRANGE_FREEDOM, dims)
    return Anybody(
        whiten=whiten,
        kernels=target[kept] @ whiten,
        log_weight=np.log(share + 1e-12),
        log_norm=norm,
        middle=np.average(target, axis=0, weights=weight),
        precision=np.asarray(np.linalg.inv(STRANGE_WIDTH * spread)),
        broad_norm=broad,
    )


@dataclass(frozen=True)
class Line:
    """Bayesian linear regression of one number on features (N, P), with t-distributed residuals.

    Where little was seen, the prediction is uncertain: `doubt` (P, P) is the covariance of the
    coefficients in units of the residuals' `variance`, and widens the density there.
    """

    coefficients: Doubles
    variance: float
    doubt: Doubles

    def log_density(self, partner: Doubles, extra: Doubles, target: Doubles, rows: Ints) -> Doubles:
        """Log density (N,) of numbers.

        What the partners alone say is worked out once for each of them, not for each pair: of the columns
        few belong to the pair.

        Args:
            partner: (A, P) features of the partners.
            extra: (N, M) features of the pairs.
            target: (N,) numbers.
            rows: (N,) partner of each.
        """
        own, columns = partner.shape[1], extra.shape[1]
        mean = (partner @ self.coefficients[:own])[rows]
        doubt = ((partner @ self.doubt[:own, :own]) * partner).sum(axis=1)[rows]
        if columns:
            mean = mean + extra @ self.coefficients[own:]
            among = extra @ self.doubt[own:, own:] + 2.0 * (partner @ self.doubt[:own, own:])[rows]
            doubt = doubt + np.einsum("ij,ij->i", among, extra)
        variance = self.variance * (1.0 + doubt)
        residual = target - mean
        heavy = (FREEDOM + 1) / 2 * np.log1p(residual**2 / variance / FREEDOM)
        return np.asarray(_t_norm(FREEDOM, 1) - 0.5 * np.log(variance) - heavy)


def regress(
    feature: Doubles,
    target: Doubles,
    weight: Doubles,
    prior: float,
    prior_count: float = PRIOR_COUNT,
    robust: Doubles | None = None,
    rounds: int = ROBUST_ROUNDS,
) -> Line:
    """Weighted ridge regression with t-distributed residuals, by rounds of reweighting.

    The variance comes from residuals of which each was predicted without its own row: those of the fit
    itself are too small by far where there are hardly more rows than features.

    Args:
        feature: (N, P), first column ones (not held back).
        target: (N,).
        weight: (N,) at least 0.
        prior: variance of the residuals before any data, worth `prior_count` rows.
        prior_count: see `prior`.
        robust: (N,) factors of the weights to begin with; None: ones.
        rounds: at least one.
    """
    hold = _hold(feature.shape[1])
    robust = np.ones(len(target)) if robust is None else robust
    for _ in range(rounds):
        trust = weight * robust
        weighted = feature * trust[:, None]
        information = weighted.T @ feature + hold
        coefficients = np.linalg.solve(information, weighted.T @ target)
        doubt = np.linalg.inv(information)
        leverage = trust * ((feature @ doubt) * feature).sum(axis=1)
        variance, robust = _spread(
            target - feature @ coefficients, leverage, trust, weight, prior, prior_count
        )
    return Line(np.asarray(coefficients), variance, np.asarray(doubt))


def _hold(columns: int) -> Doubles:
    """What holds coefficients back, as information; hardly the first, of the column of ones."""
    hold = np.eye(columns)
    hold[0, 0] = 1e-3
    return hold


def _spread(
    residual: Doubles, leverage: Doubles, trust: Doubles, weight: Doubles, prior: float, prior_count: float
) -> tuple[float, Doubles]:
    """Variance of left-out residuals, and the factors (N,) that t-distributed residuals give the weights."""
    left_out = residual / (1.0 - np.minimum(leverage, MOST_LEVERAGE))
    scatter = float((trust * left_out**2).sum()) + prior_count * prior
    variance = scatter / (float(weight.sum()) + prior_count)
    return variance, (FREEDOM + 1) / (FREEDOM + left_out**2 / variance)


def _regress_nested(
    feature: Doubles, columns: list[int], target: Doubles, weight: Doubles, prior: Doubles, rounds: int
) -> tuple[Line, ...]:
    """`regress` of K numbers (N, K), number k on the first `columns[k]` features (N, P).

    As long as no residual has a say, one triangular factor serves all of them: those of the leading blocks
    are its leading blocks.
    """
    weighted = feature * weight[:, None]
    information = weighted.T @ feature + _hold(feature.shape[1])
    factor = np.linalg.cholesky(information)
    along = solve_triangular(factor, feature.T, lower=True, check_finite=False)
    pull = solve_triangular(factor, weighted.T @ target, lower=True, check_finite=False)
    leverage, lines, done = np.zeros(len(weight)), [], 0
    for k, width in enumerate(columns):
        leverage = leverage + weight * (along[done:width] ** 2).sum(axis=0)
        done = width
        own = feature[:, :width]
        coefficients = solve_triangular(factor[:width, :width].T, pull[:width, k], check_finite=False)
        residual, held = target[:, k] - own @ coefficients, float(prior[k])
        variance, robust = _spread(residual, leverage, weight, weight, held, PRIOR_COUNT)
        if rounds > 1:
            lines.append(regress(own, target[:, k], weight, held, PRIOR_COUNT, robust, rounds - 1))
        else:
            doubt = np.asarray(np.linalg.inv(information[:width, :width]), np.float64)
            lines.append(Line(coefficients, variance, doubt))
    return tuple(lines)


@dataclass(frozen=True)
class Chain:
    """Density of a description given its partner's, number after number, each given those before it.

    The second coordinate given the partner *and* the first one is nearly certain, because both views see
    one point in space; a joint density with the same shape everywhere could not say so.
    """

    lines: tuple[Line, ...]

    def log_density(
        self, feature: Doubles, partner: Doubles, target: Doubles, unit: Doubles, i: Ints, j: Ints
    ) -> Doubles:
        """Log density (N,) of descriptions j given partners i.

        Args:
            feature: (A, P) of the partners; partner: (A, D) their standardised descriptions.
            target: (B, D) descriptions; unit: the same, standardised.
            i: (N,) rows of the partners; j: (N,) rows of the targets.
        """
        last = len(self.lines) - 1
        extra = _with_earlier(partner[i], unit[j], last)
        total = np.zeros(len(i))
        for k, line in enumerate(self.lines):
            pair = extra[:, : _columns(k, partner.shape[1])]
            total += line.log_density(feature, pair, target[j, k], i)
        return total

    def expected(self, feature: Doubles, partner: Doubles, mean: Doubles, spread: Doubles) -> Doubles:
        """Descriptions (N, D) that partners, row by row, lead one to expect; mean and spread (D,) standardise
        the descriptions of the view."""
        unit = np.zeros((len(feature), 0))
        for k, line in enumerate(self.lines):
            columns = np.concatenate([feature, _with_earlier(partner, unit, k)], axis=1)
            value = (columns @ line.coefficients - mean[k]) / spread[k]
            unit = np.concatenate([unit, value[:, None]], axis=1)
        return unit * spread + mean


def chain(
    feature: Doubles,
    partner: Doubles,
    target: Doubles,
    unit: Doubles,
    weight: Doubles,
    prior: Doubles,
    rounds: int = ROBUST_ROUNDS,
) -> Chain:
    """Fit a chain to N weighted pairs, row by row: feature (N, P), partner, target, unit (N, D) as in
    `Chain.log_density`, weight (N,), prior (D,) variances; `rounds` of reweighting."""
    dims = target.shape[1]
    full = np.concatenate([feature, _with_earlier(partner, unit, dims - 1)], axis=1)
    columns = [feature.shape[1] + _columns(k, partner.shape[1]) for k in range(dims)]
    return Chain(_regress_nested(full, columns, target, weight, prior, rounds))


def _with_earlier(partner: Doubles, unit: Doubles, k: int) -> Doubles:
    """The first k numbers of the box itself, alone, with those before them and with its partner."""
    columns = [np.zeros((len(unit), 0))]
    for q in range(k):
        z = unit[:, q : q + 1]
        columns += [z, 0.5 * z * unit[:, : q + 1], 0.5 * z * partner]
    return np.concatenate(columns, axis=1)


def _columns(k: int, dims: int) -> int:
    """Width of `_with_earlier`; that for fewer numbers is the left part of that for more."""
    return k * (1 + dims) + k * (k + 1) // 2


def _t_norm(freedom: float, dims: int) -> float:
    """Log of the constant of a t density, without the determinant."""
    return lgamma((freedom + dims) / 2) - lgamma(freedom / 2) - dims / 2 * log(freedom * pi)
