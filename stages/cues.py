"""Stage part: what can be seen of each box without labels: time, size, its neighbours in the frame, heads.

Every cue is a number per box that means the same for every room and camera: log odds of scores, times in
seconds, sizes against what the confident boxes of the same camera have at that place, overlaps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import area
from orveil.pipeline.media import upright_size
from orveil.pipeline.types import Detections, MediaFiles, MediaIndex, Motion, Tracks
from orveil.stages.motion import moved_share
from orveil.stages.surroundings import look_around

__all__ = ["CUES", "SURE_SCORE", "Cues", "logit", "seconds_of", "see", "track_numbers"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

NEAR_S = 0.5
STILL_SPREAD, STILL_SCORE, STILL_SECONDS, GOOD_SCORE = 0.15, 0.10, 2.0, 0.6
"""Central 80 % of positions within this share of the box's side, scores within this standard deviation, for
this long, with a mean score below this: what a gown on a rack looks like."""
SURE_SCORE, LEAST_SURE = 0.5, 12
"""Boxes from this score on tell how large people are at a place, if a camera has so many of them."""
MOST_ODD = 4.0
"""Sizes that are further off (squared standard deviations) count as that far."""
MOVED_HALF = 0.5
"""Square root of the share of a person's box that is usually unusual."""
CUES = (
    "own", "near", "peak", "filled", "gap", "apart", "still", "taller", "wider", "edge", "bottom",
    "nested", "twins", "beaten", "parts", "holds", "head", "moved",
)  # fmt: skip
"""Names of the K cues, in the order of the columns of `Cues.value`: log odds of the box's own score, of the
mean of its track within NEAR_S, of the best decile of the track; whether it was filled in, the seconds of the
gap and how little its ends overlap; whether the track stands still; how far height and width (squared) are
from what is usual at that place; whether it touches a side or the lower edge of the picture; whether it lies
inside a better box; summed scores of the boxes that nearly coincide with it; largest overlap with a better
box; best score among worse boxes inside it, and among any smaller boxes inside it; how sure a head is where
its head belongs (0 where the detector knows no heads); how much of the track's boxes within NEAR_S shows
something unusual, against what is usual of people (0 where motion is not known)."""


@dataclass(frozen=True)
class Cues:
    """Cues of N boxes of T tracks.

    Attributes:
        value: (N, K) in the order of `CUES`.
        xyxy: (N, 4) the boxes, each merged with the candidates of its frame that mean the same person.
        track: (N,) number of the track over all cameras, 0..T-1.
        names: camera and id of every track.
        still: (T,) tracks that neither move nor change their score for long.
        mean: (T,) mean log odds of the scores of each track.
        boxes: (T,) how many detections each track has.
    """

    value: Doubles
    xyxy: NDArray[np.float32]
    track: Ints
    names: list[tuple[str, int]]
    still: Bools
    mean: Doubles
    boxes: Ints


def see(
    files: MediaFiles,
    frames: MediaIndex,
    tracks: Tracks,
    heads: Detections | None,
    motion: Motion | None = None,
) -> Cues:
    """Cues of every box of one session.

    Args:
        files: one row per camera (picture sizes).
        frames: every frame of the session.
        tracks: tracks of every camera.
        heads: head candidates; None where the detector knows no heads.
        motion: masks of the frames; None where only boxes are known.
    """
    names, track = track_numbers(tracks)
    seconds = seconds_of(frames, tracks)
    seen = ~tracks.interpolated
    score = logit(tracks.score)
    count = len(names)
    boxes = np.bincount(track[seen], minlength=count)
    mean = np.bincount(track[seen], score[seen], count) / np.maximum(boxes, 1)
    near = near_mean(track, seconds, np.where(seen, score, np.nan))
    still = _still(tracks, track, seconds, count) & (mean < logit(np.array(GOOD_SCORE)))
    own = np.where(seen, score, near)
    columns: dict[str, Doubles] = {
        "own": own,
        "near": near,
        "peak": _quantile(track[seen], score[seen], count, 0.9)[track],
        "filled": (~seen).astype(np.float64),
        "still": still[track].astype(np.float64),
    }
    columns["gap"], columns["apart"] = _filling(tracks, track, seconds)
    columns.update(_sizes(files, tracks))
    around, merged = look_around(tracks, own, heads)
    columns.update(around)
    if heads is not None:
        head = near_mean(track, seconds, logit(np.maximum(columns["head"], 0.03)))
        columns["head"] = np.clip(head + 1.0, -2.0, 2.0)
    columns["moved"] = _moved(files, tracks, motion, track, seconds)
    value = np.stack([columns[name] for name in CUES], axis=1).reshape(-1, len(CUES))
    return Cues(value, merged, track, names, still, mean, boxes)


def logit(p: NDArray[np.floating]) -> Doubles:
    """Log odds of probabilities, kept within those of .01 and .99."""
    q = np.clip(np.asarray(p, np.float64), 0.01, 0.99)
    return np.asarray(np.log(q) - np.log1p(-q))


def track_numbers(tracks: Tracks) -> tuple[list[tuple[str, int]], Ints]:
    """Camera and id of every track, and its number for every row."""
    cameras = sorted(set(tracks.camera.tolist()))
    if not cameras:
        return [], np.zeros(0, np.int64)
    code = np.searchsorted(np.array(cameras), tracks.camera)
    key, number = np.unique(np.stack([code, tracks.track_id], axis=1), axis=0, return_inverse=True)
    return [(cameras[int(c)], int(t)) for c, t in key], number.reshape(-1).astype(np.int64)


def seconds_of(frames: MediaIndex, tracks: Tracks) -> Doubles:
    """Time (N,) of every row of the tracks."""
    seconds = np.zeros(len(tracks))
    for camera in sorted(set(tracks.camera.tolist())):
        table = frames.select(frames.camera == camera)
        order = np.argsort(table.index, kind="stable")
        rows = np.flatnonzero(tracks.camera == camera)
        seconds[rows] = table.time_s[order][np.searchsorted(table.index[order], tracks.index[rows])]
    return seconds


def near_mean(track: Ints, seconds: Doubles, value: Doubles) -> Doubles:
    """Mean (N,) of the values of a track within NEAR_S of each row; rows with nan do not count."""
    if not len(track):
        return np.zeros(0)
    order = np.lexsort((seconds, track))
    # Tracks are laid out one after another on a single line, too far apart to meet.
    span = float(seconds.max() - seconds.min()) + 4 * NEAR_S
    line = (seconds - seconds.min() + span * track)[order]
    known = ~np.isnan(value[order])
    total = np.concatenate([[0.0], np.cumsum(np.where(known, np.nan_to_num(value[order]), 0.0))])
    number = np.concatenate([[0], np.cumsum(known)])
    # A gap may be longer than the window: then the window grows until it holds a box.
    reach = np.full(len(order), NEAR_S)
    for _ in range(12):
        low = np.searchsorted(line, line - reach - 1e-9)
        high = np.searchsorted(line, line + reach + 1e-9, "right")
        empty = number[high] == number[low]
        if not empty.any():
            break
        reach[empty] *= 2
    out = np.empty(len(order))
    out[order] = (total[high] - total[low]) / np.maximum(number[high] - number[low], 1)
    return out


def _moved(
    files: MediaFiles, tracks: Tracks, motion: Motion | None, track: Ints, seconds: Doubles
) -> Doubles:
    """How much of each box is unusual, against `MOVED_HALF` (N,)."""
    if motion is None:
        return np.zeros(len(tracks))
    share = moved_share(motion, files, tracks, tracks.xyxy)
    near = near_mean(track, seconds, np.where(tracks.interpolated, np.nan, np.sqrt(share)))
    known = np.isin(track, track[~np.isnan(share) & ~tracks.interpolated])
    return np.where(known, near - MOVED_HALF, 0.0)


def _spans(track: Ints, seconds: Doubles, count: int) -> Doubles:
    """Time (T,) from the first to the last row of each track."""
    begin, end = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(begin, track, seconds)
    np.maximum.at(end, track, seconds)
    return np.asarray(end - begin, np.float64)


def _filling(tracks: Tracks, track: Ints, seconds: Doubles) -> tuple[Doubles, Doubles]:
    """For filled-in boxes the length of the gap in seconds, and how far the overlap of its ends is below .5
    (N,), (N,); 0 for detections."""
    gap, apart = np.zeros(len(tracks)), np.zeros(len(tracks))
    if not tracks.interpolated.any():
        return gap, apart
    order = np.lexsort((seconds, track))
    filled, place = tracks.interpolated[order], np.arange(len(order))
    before = order[np.maximum.accumulate(np.where(filled, 0, place))]
    after = order[np.minimum.accumulate(np.where(filled, len(order) - 1, place)[::-1])[::-1]]
    # Where a recording is cut a gap may have detections on one side only: then that side stands for both.
    before, after = (
        np.where(track[before] == track[order], before, after),
        np.where(track[after] == track[order], after, before),
    )
    rows, before, after = order[filled], before[filled], after[filled]
    gap[rows] = np.clip(seconds[after] - seconds[before], 0.0, 2.0)
    low = np.maximum(tracks.xyxy[before, :2], tracks.xyxy[after, :2])
    high = np.minimum(tracks.xyxy[before, 2:], tracks.xyxy[after, 2:])
    shared = np.maximum(high - low, 0.0).prod(axis=1).astype(np.float64)
    total = area(tracks.xyxy[before]) + area(tracks.xyxy[after]) - shared
    apart[rows] = np.maximum(0.5 - shared / np.maximum(total, 1e-9), 0.0)
    return gap, apart


def _still(tracks: Tracks, track: Ints, time_s: Doubles, count: int) -> Bools:
    """Tracks (T,) that neither move nor change their score for long."""
    seen = np.flatnonzero(~tracks.interpolated)
    number, boxes = track[seen], tracks.xyxy[seen].astype(np.float64)
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
        & (_spans(number, time_s[seen], count) >= STILL_SECONDS)
        & (size >= 5)
    )


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


def _sizes(files: MediaFiles, tracks: Tracks) -> dict[str, Doubles]:
    """Size and place of every box (N,): its height and width against the confident boxes of its camera (a
    smooth function of the place is fitted to theirs, and what is left over is counted in units of their own
    spread, squared), and whether it touches the picture's sides or lower edge."""
    boxes = tracks.xyxy.astype(np.float64)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)
    out = {name: np.zeros(len(boxes)) for name in ("edge", "bottom", "taller", "wider")}
    for camera in sorted(set(tracks.camera.tolist())):
        rows = np.flatnonzero(tracks.camera == camera)
        file = int(np.flatnonzero(files.camera == camera)[0])
        width, height = upright_size(
            int(files.width[file]), int(files.height[file]), int(files.rotation[file])
        )
        x0, y0, x1, y1 = boxes[rows].T
        out["edge"][rows] = (x0 < 3) | (x1 > width - 3)
        out["bottom"][rows] = y1 > height - 3
        x, y = (x0 + x1) / 2 / width, y0 / height
        design = np.stack([np.ones(len(rows)), x, y, x * y, x * x, y * y], axis=1)
        sure = tracks.score[rows] >= SURE_SCORE
        if sure.sum() >= LEAST_SURE:
            for name, side in (("wider", sides[rows, 0]), ("taller", sides[rows, 1])):
                out[name][rows] = np.minimum(_residual(design, np.log(side), sure) ** 2, MOST_ODD)
    return out


def _residual(design: Doubles, value: Doubles, sure: Bools) -> Doubles:
    """How far values lie from a ridge regression on the sure rows, in standard deviations."""
    known = design[sure]
    ridge = known.T @ known + 0.3 * np.eye(known.shape[1])
    fit = np.linalg.solve(ridge, known.T @ value[sure])
    spread = max(float((value[sure] - known @ fit).std()), 0.1)
    return np.asarray((value - design @ fit) / spread)
