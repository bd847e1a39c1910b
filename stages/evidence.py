"""Stage part: how probable it is that a box shows a person, from scores, time, motion and other views.

Everything is a sum of log odds: the box's own score, the scores of its track around it, the best that the
track ever scored, how it moves, and the other views. What scores are worth was fitted once on simulated
rooms with an off-the-shelf detector; what a match in another view is worth is measured on the site
itself, without labels: how often confident tracks find a partner, against how often clutter does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import area
from orveil.pipeline.types import Associations, MediaIndex, Tracks

__all__ = ["SURE_SCORE", "Evidence", "logit", "sigmoid", "weigh"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

SURE_SCORE = 0.5
BASE, OWN_WORTH, NEAR_WORTH, PEAK_WORTH = 1.35, 0.8, 0.8, 0.7
"""Log odds: constant, and per unit of logit of the box's score, of the mean of its track within NEAR_S
seconds, and of the best decile of the whole track."""
NEAR_S = 0.5
FILLED_WORTH, LONG_GAP_WORTH = -0.5, -1.0
"""Log odds of a filled-in box against a detected one, and more for every second of its gap."""
APART_WORTH = -2.0
"""Log odds of a filled-in box for each unit by which the overlap of its gap's two ends falls below .5."""
STILL_SPREAD, STILL_SCORE, STILL_SECONDS, STILL_WORTH = 0.15, 0.10, 2.0, -2.5
"""Central 80 % of positions within this share of the box's side, and of scores within this standard
deviation, for this long and with nobody else's support: what a gown on a rack looks like."""
GOOD_SCORE = 0.6
"""Mean score from which standing still is no reason for doubt."""
SURE_WORTH = 3.1
"""Least log odds of a box that the detector itself is sure of (probability .957), unless it belongs to
something that never moves: detectors differ in how their low scores are spread, hardly in what .5 means."""
MATCH_WORTH, ALONE_WORTH = 2.0, -1.5
"""Bounds of what a match, or the lack of one, can add."""


@dataclass(frozen=True)
class Evidence:
    """What is known about each of N boxes of T tracks.

    Attributes:
        track: (N,) number of the track over all cameras, 0..T-1.
        log_odds: (N,) that the box shows a person.
        alone: (N,) the same without the other views.
        person: (N,) person id, -1 where unmatched.
        matched: (N,) probability of the match.
    """

    track: Ints
    log_odds: Doubles
    alone: Doubles
    person: Ints
    matched: Doubles


def logit(p: NDArray[np.floating]) -> Doubles:
    """Log odds of probabilities, kept within those of .01 and .99."""
    q = np.clip(np.asarray(p, np.float64), 0.01, 0.99)
    return np.asarray(np.log(q) - np.log1p(-q))


def sigmoid(x: Doubles) -> Doubles:
    """Probabilities of log odds."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0))))


def weigh(frames: MediaIndex, tracks: Tracks, associations: Associations) -> Evidence:
    """Evidence of every box of one session.

    Args:
        frames: every frame of the session.
        tracks: tracks of every camera.
        associations: one row per track.
    """
    names, track = _numbers(tracks)
    count, seconds = len(names), _seconds(frames, tracks)
    seen = ~tracks.interpolated
    boxes = np.bincount(track[seen], minlength=count)
    score = logit(tracks.score)
    mean = np.bincount(track[seen], score[seen], count) / np.maximum(boxes, 1)
    peak = _quantile(track[seen], score[seen], count, 0.9)
    near = _near_mean(track, seconds, np.where(seen, score, np.nan))
    own = np.where(seen, score, near)
    still = _still(tracks, track, seconds, count) & (mean < logit(np.array(GOOD_SCORE)))
    person, matched = _matches(names, associations)
    views = _worth_of_views(boxes, mean, matched, len(set(tracks.camera.tolist())))
    alone = BASE + OWN_WORTH * own + NEAR_WORTH * near + (PEAK_WORTH * peak)[track]
    alone += _worth_of_filling(tracks, track, seconds)
    sure = seen & (tracks.score >= SURE_SCORE) & ~still[track]
    alone = np.where(sure, np.maximum(alone, SURE_WORTH), alone)
    # A match explains why something stands still: others see it as a person too.
    helped = alone + (views + np.where(still & (matched <= 0), STILL_WORTH, 0.0))[track]
    alone = alone + np.where(still, STILL_WORTH, 0.0)[track]
    return Evidence(track, helped, alone, person[track], matched[track])


def _near_mean(track: Ints, seconds: Doubles, value: Doubles) -> Doubles:
    """Mean (N,) of the values of a track within NEAR_S of each row; rows with nan do not count."""
    order = np.lexsort((seconds, track))
    # Tracks are laid out one after another on a single line, too far apart to meet.
    span = float(seconds.max(initial=0.0) - seconds.min(initial=0.0)) + 4 * NEAR_S
    line = (seconds - seconds.min(initial=np.inf) + span * track)[order] if len(order) else seconds
    known = ~np.isnan(value[order])
    total = np.concatenate([[0.0], np.cumsum(np.where(known, np.nan_to_num(value[order]), 0.0))])
    number = np.concatenate([[0], np.cumsum(known)])
    out = np.empty(len(order))
    # A gap may be longer than the window: then the window grows until it holds a box.
    reach = np.full(len(order), NEAR_S)
    for _ in range(12):
        low = np.searchsorted(line, line - reach - 1e-9)
        high = np.searchsorted(line, line + reach + 1e-9, "right")
        empty = number[high] == number[low]
        if not empty.any():
            break
        reach[empty] *= 2
    out[order] = (total[high] - total[low]) / np.maximum(number[high] - number[low], 1) if len(order) else 0
    return out


def _worth_of_filling(tracks: Tracks, track: Ints, seconds: Doubles) -> Doubles:
    """Log odds (N,) that a box loses by being filled in: long gaps and ends that disagree cost more."""
    worth = np.zeros(len(tracks))
    if not tracks.interpolated.any():
        return worth
    order = np.lexsort((seconds, track))
    filled, place = tracks.interpolated[order], np.arange(len(order))
    # Gaps lie inside tracks, so the nearest detections in this order belong to the same track.
    before = order[np.maximum.accumulate(np.where(filled, 0, place))]
    after = order[np.minimum.accumulate(np.where(filled, len(order) - 1, place)[::-1])[::-1]]
    rows, before, after = order[filled], before[filled], after[filled]
    gap = np.clip(seconds[after] - seconds[before], 0.0, 2.0)
    low = np.maximum(tracks.xyxy[before, :2], tracks.xyxy[after, :2])
    high = np.minimum(tracks.xyxy[before, 2:], tracks.xyxy[after, 2:])
    shared = np.maximum(high - low, 0.0).prod(axis=1).astype(np.float64)
    total = area(tracks.xyxy[before]) + area(tracks.xyxy[after]) - shared
    apart = np.maximum(0.5 - shared / np.maximum(total, 1e-9), 0.0)
    worth[rows] = FILLED_WORTH + LONG_GAP_WORTH * gap + APART_WORTH * apart
    return worth


def _numbers(tracks: Tracks) -> tuple[list[tuple[str, int]], Ints]:
    """Camera and id of every track, and its number for every row."""
    cameras = sorted(set(tracks.camera.tolist()))
    if not cameras:
        return [], np.zeros(0, np.int64)
    code = np.searchsorted(np.array(cameras), tracks.camera)
    key, number = np.unique(np.stack([code, tracks.track_id], axis=1), axis=0, return_inverse=True)
    return [(cameras[int(c)], int(t)) for c, t in key], number.reshape(-1).astype(np.int64)


def _matches(names: list[tuple[str, int]], associations: Associations) -> tuple[Ints, Doubles]:
    """Person id (T,), -1 where unmatched, and probability of the match (T,)."""
    rows = {
        (camera, track): row
        for row, (camera, track) in enumerate(
            zip(associations.camera.tolist(), associations.track_id.tolist(), strict=True)
        )
    }
    person, matched = np.full(len(names), -1, np.int64), np.zeros(len(names))
    for number, name in enumerate(names):
        row = rows.get(name)
        if row is not None and associations.views[row] > 1:
            person[number] = associations.person_id[row]
            matched[number] = associations.probability[row]
    return person, matched


def _still(tracks: Tracks, track: Ints, time_s: Doubles, count: int) -> Bools:
    """Tracks (T,) that neither move nor change their score for long."""
    seen = np.flatnonzero(~tracks.interpolated)
    number, boxes = track[seen], tracks.xyxy[seen].astype(np.float64)
    seconds = time_s[seen]
    begin, end = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(begin, number, seconds)
    np.maximum.at(end, number, seconds)
    size = np.maximum(np.bincount(number, minlength=count), 1)
    side = np.sqrt(np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1.0))
    mean_side = np.bincount(number, side, count) / size
    spread = np.zeros(count)
    for value in ((boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 1]):
        width = _quantile(number, value, count, 0.9) - _quantile(number, value, count, 0.1)
        spread += (width / np.maximum(mean_side, 1.0)) ** 2
    score = tracks.score[seen].astype(np.float64)
    mean = np.bincount(number, score, count) / size
    deviation = np.sqrt(np.bincount(number, (score - mean[number]) ** 2, count) / size)
    return np.asarray(
        (np.sqrt(spread) < STILL_SPREAD)
        & (deviation < STILL_SCORE)
        & (end - begin >= STILL_SECONDS)
        & (size >= 5)
    )


def _seconds(frames: MediaIndex, tracks: Tracks) -> Doubles:
    """Time (N,) of every row of the tracks."""
    seconds = np.zeros(len(tracks))
    for camera in sorted(set(tracks.camera.tolist())):
        table = frames.select(frames.camera == camera)
        order = np.argsort(table.index, kind="stable")
        rows = np.flatnonzero(tracks.camera == camera)
        seconds[rows] = table.time_s[order][np.searchsorted(table.index[order], tracks.index[rows])]
    return seconds


def _quantile(group: Ints, value: Doubles, count: int, q: float) -> Doubles:
    """The q-quantile (lower of two neighbours) of the values of each group (T,); 0 for empty groups."""
    order = np.lexsort((value, group))
    size = np.bincount(group, minlength=count)
    start = np.cumsum(size) - size
    place = start + np.floor(q * np.maximum(size - 1, 0)).astype(np.int64)
    out = np.zeros(count)
    some = size > 0
    out[some] = value[order][place[some]]
    return out


def _worth_of_views(boxes: Ints, mean: Doubles, matched: Doubles, cameras: int) -> Doubles:
    """Log odds (T,) that a match in another view adds, or the lack of one takes away.

    Both rates are counted on the site: among tracks whose scores say person, and among those whose
    scores say clutter. Where people are never matched, being alone means nothing.
    """
    if cameras < 2 or not (matched > 0).any():
        return np.zeros(len(mean))
    size = np.minimum(boxes, 30).astype(np.float64)
    sure, clutter = mean > 0.0, mean < -1.6
    rate_sure = (size[sure & (matched > 0)].sum() + 1.0) / (size[sure].sum() + 2.0)
    rate_clutter = (size[clutter & (matched > 0)].sum() + 1.0) / (size[clutter].sum() + 2.0)
    rate_clutter = min(rate_clutter, rate_sure)
    found = float(np.clip(np.log(rate_sure / rate_clutter), 0.0, MATCH_WORTH))
    missed = float(np.clip(np.log((1 - rate_sure) / (1 - rate_clutter)), ALONE_WORTH, 0.0))
    return np.where(matched > 0, found * matched, missed)
