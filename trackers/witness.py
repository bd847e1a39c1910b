"""Trackers: what the other views say about a track, as a likelihood ratio that is measured with decoys.

How probable a match is says little by itself: somebody real may be hidden from all other cameras, and
something that is nobody may stand where somebody fits. Both are counted on the recording itself, without
labels. A decoy is a track put into the recording at another time: whatever partner it finds, it finds by
chance. Tracks that are people beyond doubt show how often people find one; some are judged as if they were
doubtful. (Competition with decoys is how proteomics controls false discoveries: Elias and Gygi, 2007.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from orveil.pipeline.geometry import iou
from orveil.trackers.crossview import CrossView
from orveil.trackers.judging import judge, spans, trust_in
from orveil.trackers.pairing import Pairs, Scene, sum_ratios

__all__ = ["Testimony", "believe", "testify"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

RUNS, SHARE = 12, 0.08
"""Recordings with decoys, and the share of tracks that become decoys (or are doubted) in each: few, so that
the others are judged as they were."""
OVER = 0.5
"""A decoy that lies on a confident box by this overlap is no decoy: it shows somebody."""
ODDS = np.array([-4.0, -2.0, -0.7, 0.7, 2.0])
PLACES = np.array([0.3, 0.5])
"""Borders of the classes of log odds of the best match, and of overlap with the box that it predicts."""
EVEN = 12.0
"""Counts are drawn to independence of the two by so many tracks, and to 1 by LEAST in each class."""
LEAST = 0.3
HOLD = 0.5
"""Ridge of the prior."""
ROUNDS, DECOYS = 11, 200.0
"""Rounds of expectation-maximisation, and how many tracks the decoys are worth in them."""


@dataclass(frozen=True)
class _Seen:
    """Per track: log odds of its best match, and how well it lies where that partner should be (T,)."""

    odds: Doubles
    place: Doubles

    def select(self, rows: NDArray[np.integer] | Bools) -> _Seen:
        return _Seen(self.odds[rows], self.place[rows])


@dataclass(frozen=True)
class Testimony:
    """What the other views show of T tracks: the class of each, by whether it is sure; and how often people,
    and decoys, are found in every class, for sure and for doubtful ones."""

    sure: Bools
    seen: tuple[Ints, Ints]
    people: dict[bool, Doubles]
    chance: dict[bool, Doubles]

    def ratio(self, chance: dict[bool, Doubles]) -> Doubles:
        """Log-likelihood ratio (T,): a person of their own against nobody, of whom `chance` is seen."""
        table = {sure: np.log(self.people[sure] / chance[sure]) for sure in (True, False)}
        return np.where(self.sure, table[True][self.seen], table[False][self.seen])

    def tilted(self, doubt: Doubles) -> dict[bool, Doubles]:
        """`chance` with the tracks themselves counted, by how little they are people (T,).

        Decoys stand anywhere; what is really mistaken for a person often is a part of one.
        """
        out = {}
        for sure in (True, False):
            count = DECOYS * self.chance[sure]
            mine = self.sure == sure
            np.add.at(count, (self.seen[0][mine], self.seen[1][mine]), doubt[mine])
            out[sure] = count / count.sum()
        return out


def testify(scene: Scene, model: CrossView, certain: Bools, rng: np.random.Generator) -> Testimony:
    """Ask the other views about every track.

    Args:
        scene: boxes and tracks.
        model: what was learned about the views.
        certain: (T,) tracks that are people beyond doubt.
        rng: chooses the decoys.
    """
    sums = partial(sum_ratios, scene, model)
    pairs = sums(0)
    trust = trust_in(scene, sums, pairs)
    seen = _best(scene, model, pairs, judge(scene, pairs, trust.log_ratio(pairs.score)))
    chance: dict[bool, list[_Seen]] = {True: [], False: []}
    people: dict[bool, list[_Seen]] = {True: [], False: []}
    for _ in range(RUNS):
        mixed, source = _with_decoys(scene, certain, rng)
        some = sum_ratios(mixed, model)
        found = _best(mixed, model, some, judge(mixed, some, trust.log_ratio(some.score)))
        count = len(certain)
        for sure in (True, False):
            decoys = count + np.flatnonzero(scene.sure[source] == sure)
            chance[sure].append(found.select(decoys))
            people[sure].append(found.select(np.flatnonzero(certain & (mixed.sure[:count] == sure))))
    shares = [{sure: _shares(parts) for sure, parts in which.items()} for which in (people, chance)]
    return Testimony(scene.sure, _classes(seen), shares[0], shares[1])


def believe(testimony: Testimony, cues: Doubles) -> Doubles:
    """Log odds (T,) of being a person of their own, from cues (T, K) and the other views, without labels.

    A latent-class model fitted by expectation-maximisation: the share of people among tracks with given cues
    (a logistic regression whose answers are known by their likelihood ratios only), and what is seen of
    those that are nobody, beginning with the decoys.
    """
    chance, odds = testimony.chance, np.zeros(len(cues))
    for _ in range(ROUNDS):
        ratio = testimony.ratio(chance)
        odds = _prior(cues, ratio) + ratio
        chance = testimony.tilted(_sigmoid(-odds))
    return odds


def _prior(cues: Doubles, ratio: Doubles) -> Doubles:
    """Log odds (T,) before the other views are asked, that make their ratios (T,) most probable."""
    design = np.concatenate([np.ones((len(cues), 1)), cues], axis=1)

    def cost(weight: Doubles) -> tuple[float, Doubles]:
        odds = design @ weight
        fit = np.logaddexp(0.0, odds + ratio) - np.logaddexp(0.0, odds)
        held = np.append(0.0, weight[1:])
        slope = 2 * HOLD * held - design.T @ (_sigmoid(odds + ratio) - _sigmoid(odds))
        return HOLD * float(held @ held) - float(fit.sum()), slope

    found = minimize(cost, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(design @ found.x)


def _with_decoys(scene: Scene, certain: Bools, rng: np.random.Generator) -> tuple[Scene, Ints]:
    """The scene with decoys appended, and the track (D,) that each was made from; some of the certain tracks
    are called doubtful."""
    tracks, ticks = len(scene.sure), len(scene.tick_s)
    first, last = spans(scene)
    delay = rng.integers(max(ticks // 8, 1), max(ticks - ticks // 8, 2), tracks)
    delay = np.where(last + delay < ticks, delay, np.where(first >= delay, -delay, 0))
    picked = (rng.random(tracks) < SHARE) & (delay != 0)
    rows = np.flatnonzero(picked[scene.track])
    tick = scene.tick[rows] + delay[scene.track[rows]]
    over = np.bincount(scene.track[rows], _on_somebody(scene, rows, tick), tracks)
    picked &= over < 0.5 * np.bincount(scene.track, minlength=tracks)
    kept = picked[scene.track[rows]]
    rows, tick, source = rows[kept], tick[kept], np.flatnonzero(picked)
    number = np.cumsum(picked) - 1 + tracks
    doubted = certain & (rng.random(tracks) < SHARE)
    mixed = Scene(
        camera=np.concatenate([scene.camera, scene.camera[rows]]),
        tick=np.concatenate([scene.tick, tick]),
        track=np.concatenate([scene.track, number[scene.track[rows]]]),
        xyxy=np.concatenate([scene.xyxy, scene.xyxy[rows]]),
        score=np.concatenate([scene.score, scene.score[rows]]),
        sure=np.concatenate([scene.sure & ~doubted, scene.sure[source]]),
        track_camera=np.concatenate([scene.track_camera, scene.track_camera[source]]),
        tick_s=scene.tick_s,
    )
    return mixed, source


def _on_somebody(scene: Scene, rows: Ints, tick: Ints) -> Doubles:
    """1 where a box, at another tick, would lie on one of a sure track, else 0: (N,)."""
    ticks = len(scene.tick_s)
    key = scene.camera * ticks + scene.tick
    known = np.flatnonzero(scene.sure[scene.track])
    known = known[np.argsort(key[known], kind="stable")]
    wanted = scene.camera[rows] * ticks + tick
    low, high = np.searchsorted(key[known], wanted), np.searchsorted(key[known], wanted, "right")
    out = np.zeros(len(rows))
    for k in np.flatnonzero(high > low):
        box = scene.xyxy[rows[k] : rows[k] + 1]
        out[k] = iou(box, scene.xyxy[known[low[k] : high[k]]]).max() > OVER
    return out


def _best(scene: Scene, model: CrossView, pairs: Pairs, odds: Doubles) -> _Seen:
    """The best match of every track."""
    tracks = len(scene.sure)
    partner, best = np.full(tracks, -1), np.full(tracks, -np.inf)
    own, far = np.concatenate([pairs.a, pairs.b]), np.concatenate([pairs.b, pairs.a])
    value = np.tile(odds, 2)
    order = np.argsort(value, kind="stable")
    partner[own[order]], best[own[order]] = far[order], value[order]
    return _Seen(best, _place(scene, model, partner))


def _place(scene: Scene, model: CrossView, partner: Ints) -> Doubles:
    """Mean overlap (T,) of a track's boxes with what its partner's boxes predict; 0 without a partner."""
    ticks, tracks = len(scene.tick_s), len(scene.sure)
    key = scene.track * ticks + scene.tick
    order = np.argsort(key, kind="stable")
    rows = np.flatnonzero(partner[scene.track] >= 0)
    wanted = partner[scene.track[rows]] * ticks + scene.tick[rows]
    at = order[np.minimum(np.searchsorted(key[order], wanted), max(len(order) - 1, 0))]
    rows, at = rows[key[at] == wanted], at[key[at] == wanted]
    overlap = np.zeros(len(rows))
    for a, b in sorted({*zip(scene.camera[at].tolist(), scene.camera[rows].tolist(), strict=True)}):
        these = np.flatnonzero((scene.camera[at] == a) & (scene.camera[rows] == b))
        expected = model.expected(a, b, scene.xyxy[at[these]])
        if expected is not None:
            overlap[these] = _row_iou(expected, scene.xyxy[rows[these]])
    count = np.bincount(scene.track[rows], minlength=tracks)
    return np.asarray(np.bincount(scene.track[rows], overlap, tracks) / np.maximum(count, 1))


def _row_iou(a: Doubles, b: NDArray[np.floating]) -> Doubles:
    """IoU (N,) of boxes (N, 4) row by row."""
    side = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0.0, None)
    shared = side.prod(axis=1)
    area = [(x[:, 2:] - x[:, :2]).prod(axis=1) for x in (a, b)]
    return np.asarray(shared / np.maximum(area[0] + area[1] - shared, 1e-9))


def _classes(seen: _Seen) -> tuple[Ints, Ints]:
    return np.digitize(seen.odds, ODDS), np.digitize(seen.place, PLACES)


def _shares(parts: list[_Seen]) -> Doubles:
    """Share of tracks in every class of odds and place."""
    count = np.zeros((len(ODDS) + 1, len(PLACES) + 1))
    for part in parts:
        np.add.at(count, _classes(part), 1.0)
    total = max(count.sum(), 1.0)
    count += EVEN * np.outer(count.sum(axis=1), count.sum(axis=0)) / total**2 + LEAST
    return np.asarray(count / count.sum())


def _sigmoid(x: Doubles) -> Doubles:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0))))
