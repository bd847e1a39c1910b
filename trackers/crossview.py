"""Trackers: where a box of one view lies in another, learned from synchronisation alone.

For every pair of cameras the joint density of the boxes of one person is learned from frames taken at
the same time, without knowing who is who: a mixture over all one-to-one matchings of the two views'
boxes, in which a box may also have no partner and is then drawn from the density of anybody's boxes.
Expectation-maximisation alternates between the marginals of that matching and two chains of robust
regressions, one in each direction. Starts that find nothing are helped by the other cameras: who is whom
between two views also follows by way of a third. The log-likelihood ratio of "the same person" against
"two boxes at random" is what the rest of the package adds up over time. No calibration, no appearance, no
label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from orveil.trackers.density import ROBUST_ROUNDS, Anybody, Chain, anybody, chain
from orveil.trackers.matching import match_marginals
from orveil.trackers.views import ViewScale, boxes_of, describe, features, touches

__all__ = ["CrossView", "PairModel", "View", "learn"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

LIMIT = 12.0
"""Log-likelihood ratios of one pair of boxes stay within this: one box never decides alone."""
ENOUGH = 40
"""Least independent frames in which both views show somebody, for a pair of cameras to be learned at all:
about as many as the regressions have coefficients."""
SETTLED = 1e-3
"""A start has converged when its evidence per frame changes by less than this."""
NEGLIGIBLE = 1e-3
"""Pairs of boxes with less weight do not take part in a regression."""
MOST_PAIRS, LEAST_PEOPLE = 6000, 720
"""About so many pairs of boxes teach a pair of cameras, but not fewer people than this, counted in each
frame in the view that shows fewer."""
CROWD = 2000
"""From so many pairs on, the first rounds do without reweighting those that went astray."""
HINT = 6.0
"""Log-likelihood ratio, up or down, of a pair of boxes that the other cameras are certain about."""
RESIDUAL = 0.02
"""Prior variance of a prediction, as a share of the variance of the view's boxes."""


@dataclass(frozen=True)
class View:
    """The boxes of one camera that teach: tick (N,), boxes (N, 4) pixels, weight (N,); picture size (2,)."""

    tick: Ints
    xyxy: NDArray[np.floating]
    weight: Doubles
    size: Doubles


@dataclass(frozen=True)
class _Coded:
    """Boxes of one camera as the model sees them."""

    target: Doubles
    unit: Doubles
    feature: Doubles
    null: Doubles


@dataclass(frozen=True)
class PairModel:
    """One pair of cameras: regressions in both directions, share of people seen by both, evidence."""

    forth: Chain
    back: Chain
    share: float
    evidence: float

    def log_ratio(self, one: _Coded, other: _Coded, i: Ints, j: Ints) -> Doubles:
        """Log-likelihood ratio (N,) of rows i with rows j: the same person against two boxes at random."""
        forth = self.forth.log_density(one.feature, one.unit, other.target, other.unit, i, j)
        back = self.back.log_density(other.feature, other.unit, one.target, one.unit, j, i)
        return np.clip(0.5 * (forth - other.null[j] + back - one.null[i]), -LIMIT, LIMIT)


@dataclass(frozen=True)
class CrossView:
    """What synchronised frames taught about all pairs of C cameras; pairs (a, b) have a < b.

    `updates` is how often the parameters of a pair were set anew, summed over pairs and starts, and `looks`
    how many pairs of synchronised pictures were looked at for that, each time they were.
    """

    scales: tuple[ViewScale | None, ...]
    anybody: tuple[Anybody | None, ...]
    pairs: dict[tuple[int, int], PairModel]
    updates: int = 0
    looks: int = 0

    def code(self, camera: int, xyxy: NDArray[np.floating]) -> _Coded | None:
        """Boxes (N, 4) of one camera in the form that `log_ratio` takes; None if nothing was learned."""
        scale, density = self.scales[camera], self.anybody[camera]
        if scale is None or density is None:
            return None
        return _code(xyxy, scale, density)

    def log_ratio(
        self, a: int, b: int, one: _Coded, other: _Coded, i: Ints, j: Ints, chunk: int = 65536
    ) -> Doubles:
        """Log-likelihood ratios (K,) of rows i of camera a with rows j of camera b."""
        pair = self.pairs[min(a, b), max(a, b)]
        out = np.empty(len(i))
        for start in range(0, len(i), chunk):
            rows = slice(start, start + chunk)
            i_, j_ = i[rows], j[rows]
            out[rows] = pair.log_ratio(one, other, i_, j_) if a < b else pair.log_ratio(other, one, j_, i_)
        return out

    def log_density(self, camera: int, xyxy: NDArray[np.floating]) -> Doubles:
        """Log density (N,) of boxes (N, 4) among those of anybody in this view; 0 if nothing was learned."""
        coded = self.code(camera, xyxy)
        return np.zeros(len(xyxy)) if coded is None else coded.null

    def expected(self, a: int, b: int, xyxy: NDArray[np.floating]) -> Doubles | None:
        """Where the people of boxes (N, 4) of camera a should be in camera b: boxes (N, 4) in pixels."""
        pair, one, scale = self.pairs.get((min(a, b), max(a, b))), self.code(a, xyxy), self.scales[b]
        if pair is None or one is None or scale is None:
            return None
        chain_ = pair.forth if a < b else pair.back
        return boxes_of(chain_.expected(one.feature, one.unit, scale.mean, scale.spread), scale.size)


def learn(
    views: Sequence[View],
    rng: np.random.Generator,
    epochs: int = 40,
    restarts: int = 2,
    independence: float = 1.0,
) -> CrossView:
    """Learn every pair of cameras from synchronised boxes.

    Args:
        views: one per camera; boxes with the same tick were seen at the same time.
        rng: randomness of the restarts.
        epochs: rounds of expectation-maximisation per start.
        restarts: starts per pair; the one that explains the frames best is kept.
        independence: independent frames that each tick stands for; neighbours in a video are not.
    """
    scales, densities = [], []
    for view in views:
        known = len(np.unique(view.tick)) * independence >= ENOUGH
        target = describe(view.xyxy, view.size)
        scales.append(ViewScale(view.size, target.mean(axis=0), target.std(axis=0) + 1e-2) if known else None)
        densities.append(anybody(target, view.weight) if known else None)
    coded = [
        _code(view.xyxy, scale, density) if scale and density else None
        for view, scale, density in zip(views, scales, densities, strict=True)
    ]
    found: dict[tuple[int, int], _Learned] = {}
    tried: list[_Learned] = []
    for a, b in combinations(range(len(views)), 2):
        one, other = coded[a], coded[b]
        common = np.intersect1d(views[a].tick, views[b].tick)
        if one is None or other is None or len(common) * independence < ENOUGH:
            continue
        frames = _common_frames(views[a], views[b], _thinned(views[a], views[b], common))
        starts = _learn_pair(frames, (one, other), rng, epochs, restarts)
        found[a, b] = max(starts, key=lambda learned: learned.model.evidence)
        tried += starts
    for (a, b), through in _detours(found, [len(v.tick) for v in views]).items():
        frames, one, other = found[a, b].frames, found[a, b].one, found[a, b].other
        hint = HINT * (2.0 * through - 1.0)
        again = _maximise(frames, one, other, np.ones(len(frames.frame)), epochs, hint)
        tried.append(again)
        if again.model.evidence > found[a, b].model.evidence:
            found[a, b] = again
    return CrossView(
        tuple(scales),
        tuple(densities),
        {pair: f.model for pair, f in found.items()},
        sum(f.updates for f in tried),
        sum(f.updates * f.frames.shape[0] for f in tried),
    )


@dataclass(frozen=True)
class _Frames:
    """All pairs (K,) of boxes within F common frames, and where they stand in the padded (F, A, B)."""

    frame: Ints
    slot_a: Ints
    slot_b: Ints
    row_a: Ints
    row_b: Ints
    weight: Doubles
    shape: tuple[int, int, int]
    smaller: float


@dataclass(frozen=True)
class _Learned:
    """One pair of cameras learned, with what it was learned from; matched (K,) says who was matched."""

    frames: _Frames
    one: _Coded
    other: _Coded
    model: PairModel
    matched: Doubles
    updates: int


def _learn_pair(
    frames: _Frames, coded: tuple[_Coded, _Coded], rng: np.random.Generator, epochs: int, restarts: int
) -> list[_Learned]:
    found = []
    for start in range(restarts):
        # The first start sees every frame equally, the others begin with a random emphasis on frames.
        emphasis = rng.gamma(0.3, size=frames.shape[0])[frames.frame] if start else np.ones(len(frames.frame))
        found.append(_maximise(frames, *coded, emphasis, epochs))
    return found


def _detours(found: dict[tuple[int, int], _Learned], sizes: Sequence[int]) -> dict[tuple[int, int], Doubles]:
    """For each pair of cameras, how probable its pairs (K,) of boxes are by way of the other cameras."""
    table = {}
    for (a, b), f in found.items():
        kept = f.matched > NEGLIGIBLE
        rows = (f.frames.row_a[kept], f.frames.row_b[kept])
        table[a, b] = csr_array((f.matched[kept], rows), shape=(sizes[a], sizes[b]))
        table[b, a] = table[a, b].T.tocsr()
    out = {}
    for (a, b), f in found.items():
        through = np.zeros(len(f.matched))
        for c in range(len(sizes)):
            if (a, c) in table and (c, b) in table:
                way = table[a, c] @ table[c, b]
                through = np.maximum(through, way[f.frames.row_a, f.frames.row_b])
        if through.any():
            out[a, b] = np.minimum(through, 1.0)
    return out


def _thinned(a: View, b: View, common: Ints) -> Ints:
    """Every n-th common tick, so that a crowd does not cost more than it teaches."""
    boxes = [np.bincount(np.searchsorted(common, v.tick[np.isin(v.tick, common)])) for v in (a, b)]
    wanted = int(np.ceil((boxes[0] * boxes[1]).sum() / MOST_PAIRS))
    return common[:: max(1, min(wanted, int(np.minimum(*boxes).sum()) // LEAST_PEOPLE))]


def _common_frames(a: View, b: View, common: Ints) -> _Frames:
    table_a, table_b = _table(a.tick, common), _table(b.tick, common)
    frame, slot_a, slot_b = np.nonzero((table_a >= 0)[:, :, None] & (table_b >= 0)[:, None, :])
    row_a, row_b = table_a[frame, slot_a], table_b[frame, slot_b]
    smaller = np.minimum((table_a >= 0).sum(axis=1), (table_b >= 0).sum(axis=1)).sum()
    shape = (len(common), table_a.shape[1], table_b.shape[1])
    weight = a.weight[row_a] * b.weight[row_b]
    return _Frames(frame, slot_a, slot_b, row_a, row_b, weight, shape, float(smaller))


def _table(tick: Ints, common: Ints) -> Ints:
    """Rows of each common frame's boxes, padded with -1: (F, widest)."""
    rows = np.flatnonzero(np.isin(tick, common))
    rows = rows[np.argsort(tick[rows], kind="stable")]
    frame = np.searchsorted(common, tick[rows])
    count = np.bincount(frame, minlength=len(common))
    slot = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    table = np.full((len(common), int(count.max())), -1, np.int64)
    table[frame, slot] = rows
    return table


def _maximise(
    frames: _Frames,
    one: _Coded,
    other: _Coded,
    emphasis: Doubles,
    epochs: int,
    hint: Doubles | None = None,
) -> _Learned:
    """Expectation-maximisation from one start; the ratio is trusted little by little (annealing)."""
    prior_a, prior_b = (RESIDUAL * coded.target.var(axis=0) for coded in (one, other))
    crowd = np.sqrt(np.bincount(frames.frame, minlength=frames.shape[0])[frames.frame].astype(np.float64))
    ratio, share, before = np.zeros(len(frames.frame)) if hint is None else hint, 0.5, -np.inf
    for epoch in range(epochs):
        trust = min(1.0, 0.3 + 1.4 * epoch / epochs)
        log_odds = np.full(frames.shape, -np.inf)
        log_odds[frames.frame, frames.slot_a, frames.slot_b] = (
            trust * ratio + np.log(share / (1 - share)) - np.log(crowd)
        )
        probability, evidence = match_marginals(log_odds)
        matched = probability[frames.frame, frames.slot_a, frames.slot_b]
        weight = matched * frames.weight * (emphasis if epoch < epochs // 3 else 1.0)
        used = _heaviest(weight)
        weight = weight[used]
        seen, partner = _rows(one, frames.row_a[used]), _rows(other, frames.row_b[used])
        # In a crowd of pairs of whom nobody is sure yet, those astray are no worse than the wrong ones.
        rounds = 1 if trust < 1.0 and len(used) > CROWD else ROBUST_ROUNDS
        forth = chain(seen.feature, seen.unit, partner.target, partner.unit, weight, prior_b, rounds)
        back = chain(partner.feature, partner.unit, seen.target, seen.unit, weight, prior_a, rounds)
        share = float(np.clip(matched.sum() / frames.smaller, 0.05, 0.95))
        model = PairModel(forth, back, share, float(evidence.mean()))
        ratio = model.log_ratio(one, other, frames.row_a, frames.row_b)
        if trust == 1.0 and abs(model.evidence - before) < SETTLED:
            break
        before = model.evidence
    return _Learned(frames, one, other, model, matched, epoch + 1)


def _heaviest(weight: Doubles) -> Ints:
    """Rows that teach: those with any weight to speak of, in a crowd about the MOST_PAIRS heaviest."""
    rows = np.flatnonzero(weight > NEGLIGIBLE)
    if len(rows) > MOST_PAIRS:
        rows = np.sort(rows[np.argpartition(-weight[rows], MOST_PAIRS)[:MOST_PAIRS]])
    return rows


def _code(xyxy: NDArray[np.floating], scale: ViewScale, density: Anybody) -> _Coded:
    target = describe(xyxy, scale.size)
    feature = features(target, touches(xyxy, scale.size), scale)
    return _Coded(target, (target - scale.mean) / scale.spread, feature, density.log_density(target))


def _rows(coded: _Coded, rows: Ints) -> _Coded:
    return _Coded(coded.target[rows], coded.unit[rows], coded.feature[rows], coded.null[rows])
