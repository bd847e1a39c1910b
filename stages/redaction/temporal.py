"""Stages: boxes over time for redaction: no mask flickers off. Imports numpy only.

Detections are joined to tracks; between two detections of a track its box is interpolated, before the first
and after the last it is held for `hold_s` and grows. Frames are answered `hold_s` late, so that what is seen
next can cover what came before. Then the coarser evidence fills in: a person without a head where heads are
is covered at the upper part of the body.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import area, as_boxes, centre, expand, union_box

__all__ = [
    "LABELS", "SOURCES", "Covered", "Known", "Origin", "Scored", "Temporal", "body_of_head", "targets",
    "upper_part",
]  # fmt: skip

Boxes = NDArray[np.float32]
Scored = tuple[Boxes, NDArray[np.float32]]

CONTINUE = 0.5
"""A track goes on with detections of this share of the score that starts one."""
REACH = 1.0
"""A detection joins a track within this distance, in units of the box's mean side, ..."""
RATIO = 2.5
"""... and if neither box is more than this times as large (by the side)."""
GROWTH = 0.25
"""Share of its sides by which a box has grown on each side when it has been held for the whole time; it
grows towards where the track was moving too."""
EPSILON_S = 1e-6
SURE = 3.0, 0.7
"""Where heads are covered, a person counts without its head from this many times the threshold, at most that
score: thresholds are so low that most persons near them are nobody, or somebody whose head is known."""
UPPER = 0.35
"""Head and shoulders take less than this share of a standing or sitting person's box."""


LABELS = ("face", "head", "person")
SOURCES = ("detected", "filled", "held", "body", "head", "still", "edited")


class Origin(NamedTuple):
    """Where a box to be covered comes from.

    Attributes:
        label: what it covers, one of LABELS.
        source: detected; filled (between detections of a track); held (before its first, after its last);
            body (where a head must be, from a person); head (where a body must be, from a head); still (a
            place where somebody was found who keeps still); edited (by somebody in a boxes file).
        track: number of the track, unique over all labels; -1 where there is none.
        score: of the detection in this very frame, NaN where no detection stands behind the box.
    """

    label: str
    source: str
    track: int = -1
    score: float = math.nan


class Covered(NamedTuple):
    """What is to be covered in one frame: boxes (N, 4), and for each where it comes from."""

    frame: int
    xyxy: Boxes
    origins: tuple[Origin, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The source of each box."""
        return tuple(origin.source for origin in self.origins)


Known = tuple[Boxes, list[Origin]]
"""Boxes (N, 4) of one label at one time, and where each comes from."""


@dataclass
class _Track:
    number: int
    times: list[float]
    boxes: list[Boxes]
    scores: list[float]
    run: int = 0

    def forget(self, time: float) -> None:
        """Drop what no question about this time or a later one needs: memory must not grow with the video."""
        spare = min(bisect_right(self.times, time) - 1, len(self.times) - 2)
        if spare > 0:
            del self.times[:spare], self.boxes[:spare], self.scores[:spare]

    def at(self, time: float, hold_s: float) -> tuple[Boxes, str, float] | None:
        """Box at a time, how it is known, and its detection's score; None where the track does not reach."""
        first, last = self.times[0], self.times[-1]
        if first <= time <= last:
            row = bisect_left(self.times, time)
            if self.times[row] == time:
                return self.boxes[row], "detected", self.scores[row]
            share = (time - self.times[row - 1]) / (self.times[row] - self.times[row - 1])
            before, after = self.boxes[row - 1], self.boxes[row]
            return (before + share * (after - before)).astype(np.float32), "filled", math.nan
        away = first - time if time < first else time - last
        if away > hold_s:
            return None
        begin, other = (0, 1) if time < first else (-1, -2)
        held = expand(self.boxes[begin], GROWTH * away / hold_s)
        if len(self.times) > 1:
            step = (time - self.times[begin]) / (self.times[begin] - self.times[other])
            shift = step * (centre(self.boxes[begin]) - centre(self.boxes[other]))
            held = np.concatenate([held, as_boxes(self.boxes[begin] + np.tile(shift[0], 2))])
        return union_box(held), "held", math.nan


@dataclass
class _Label:
    """The tracks of one label, the score that starts one, and the numbers that new ones get."""

    name: str
    threshold: float
    hold_s: float
    numbers: Iterator[int]
    tracks: list[_Track] = field(default_factory=list)
    runs: int = 0
    gap: tuple[int, float] = (0, 0.0)

    def add(self, time: float, xyxy: Boxes, score: NDArray[np.float32]) -> None:
        """Join the detections of one frame to tracks, nearest first; the rest start tracks."""
        self.runs += 1
        keep = score >= CONTINUE * self.threshold
        xyxy, score = xyxy[keep], score[keep]
        open_tracks = [t for t in self.tracks if time - t.times[-1] <= self.hold_s]
        taken: set[int] = set()
        if open_tracks and len(xyxy):
            cost = _distance(np.stack([_expected(t, time) for t in open_tracks]), xyxy)
            used: set[int] = set()
            for flat in np.argsort(cost, axis=None, kind="stable"):
                row, column = divmod(int(flat), len(xyxy))
                if cost[row, column] > REACH:
                    break
                if row not in used and column not in taken:
                    used.add(row)
                    taken.add(column)
                    self._join(open_tracks[row], time, xyxy[column], float(score[column]))
        for column in range(len(xyxy)):
            if column not in taken and score[column] >= self.threshold:
                start = [time], [xyxy[column]], [float(score[column])]
                self.tracks.append(_Track(next(self.numbers), *start, self.runs))

    def _join(self, track: _Track, time: float, box: Boxes, score: float) -> None:
        missed = self.runs - track.run - 1
        self.gap = max(self.gap, (missed, time - track.times[-1] if missed else 0.0))
        track.run = self.runs
        track.times.append(time)
        track.boxes.append(box)
        track.scores.append(score)

    def at(self, time: float) -> Known:
        """Boxes (N, 4) at a time, and how each is known; forgets tracks that lie behind."""
        self.tracks = [t for t in self.tracks if time - t.times[-1] <= self.hold_s]
        for track in self.tracks:
            track.forget(time)
        found = [(t.number, *answer) for t in self.tracks if (answer := t.at(time, self.hold_s)) is not None]
        origins = [Origin(self.name, source, number, score) for number, _, source, score in found]
        return as_boxes([box for _, box, _, _ in found]), origins


def _expected(track: _Track, time: float) -> Boxes:
    """Where a track goes on: half of its last speed, which overshoots less than all of it."""
    if len(track.times) < 2:
        return track.boxes[-1]
    pace = (time - track.times[-1]) / (track.times[-1] - track.times[-2])
    moved = centre(track.boxes[-1]) - centre(track.boxes[-2])
    return (track.boxes[-1] + 0.5 * min(pace, 3.0) * np.tile(moved[0], 2)).astype(np.float32)


def _distance(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Centre distance in mean sides (N, M); infinite where the sizes do not fit."""
    sides = [np.sqrt(np.maximum(area(boxes), 1.0)) for boxes in (a, b)]
    apart = np.linalg.norm(centre(a)[:, None] - centre(b)[None, :], axis=2)
    mean = (sides[0][:, None] + sides[1][None, :]) / 2
    ratio = sides[0][:, None] / sides[1][None, :]
    return np.asarray(np.where(np.maximum(ratio, 1 / ratio) <= RATIO, apart / mean, np.inf))


class Temporal:
    """Turns detections of a stream into what is covered, frame by frame, `hold_s` later.

    Args:
        thresholds: score per label name that starts a track ("person", "head", "face").
        target: face, head or body; hold_s: see the module's text.
    """

    def __init__(self, thresholds: Mapping[str, float], target: str, hold_s: float) -> None:
        self.target, self.hold_s = target, hold_s + EPSILON_S  # times are sums of fractions
        numbers, starts = count(), dict(thresholds)
        if "person" in starts and "head" in starts and target != "body":
            starts["person"] = max(starts["person"], min(SURE[0] * starts["person"], SURE[1]))
        self.labels = {name: _Label(name, value, self.hold_s, numbers) for name, value in starts.items()}
        self._frames: deque[tuple[int, float]] = deque()

    def push(self, frame: int, time: float, found: Mapping[str, Scored] | None) -> None:
        """Next frame; `found` maps label to (boxes, scores), None where no detector ran."""
        self._frames.append((frame, time))
        for name, (xyxy, score) in (found or {}).items():
            self.labels[name].add(time, xyxy, score)

    def ready(self, end: bool = False) -> Iterator[Covered]:
        """Frames whose future is known far enough; at the end of the stream all."""
        newest = self._frames[-1][1] if self._frames else 0.0
        while self._frames and (end or newest - self._frames[0][1] > self.hold_s):
            frame, time = self._frames.popleft()
            known = {name: label.at(time) for name, label in self.labels.items()}
            yield Covered(frame, *targets(known, self.target))

    def longest_gap(self) -> dict[str, float]:
        """The longest gap that was bridged: runs of the detector that missed a track, and seconds."""
        missed, seconds = max((label.gap for label in self.labels.values()), default=(0, 0.0))
        return {"missed_runs": missed, "seconds": round(seconds, 4)}


def targets(known: Mapping[str, Known], target: str) -> tuple[Boxes, tuple[Origin, ...]]:
    """Boxes to cover (N, 4) and where they come from, the finest evidence first, the coarser where it adds.

    A head without a face and a person without a head are covered too: one may be there unseen.
    """
    nothing: Known = (as_boxes([]), [])
    persons, heads, faces = (known.get(name, nothing) for name in ("person", "head", "face"))
    if target == "body":
        alone = _unmatched(persons[0], heads[0], whole=True)[1]
        return _joined([persons, _guessed(body_of_head(heads[0][alone]), heads, alone, "person", "head")])
    missing = _unmatched(persons[0], heads[0])[0]
    upper = _guessed(upper_part(persons[0][missing]), persons, missing, "head", "body")
    if target == "face" and "face" in known:
        hidden = _unmatched(heads[0], faces[0], whole=True)[0]
        heads = heads[0][hidden], [heads[1][row] for row in hidden]
        return _joined([faces, heads, upper])
    return _joined([heads, upper])


def _guessed(xyxy: Boxes, evidence: Known, rows: list[int], label: str, source: str) -> Known:
    return xyxy, [Origin(label, source, evidence[1][row].track) for row in rows]


def _joined(parts: list[Known]) -> tuple[Boxes, tuple[Origin, ...]]:
    origins = tuple(origin for _, mine in parts for origin in mine)
    return as_boxes(np.concatenate([xyxy for xyxy, _ in parts])), origins


def upper_part(persons: Boxes) -> Boxes:
    """Where the heads of persons (N, 4) are: the top of upright boxes, all of wide ones (lying, bending)."""
    upper = as_boxes(persons).copy()
    sides = upper[:, 2:] - upper[:, :2]
    upright = sides[:, 1] >= 1.2 * sides[:, 0]
    upper[upright, 3] = upper[upright, 1] + np.maximum(UPPER * sides[upright, 1], 0.6 * sides[upright, 0])
    return upper


def body_of_head(heads: Boxes) -> Boxes:
    """A body around a lone head (N, 4): three heads wide, seven and a half high."""
    width, height = heads[:, 2] - heads[:, 0], heads[:, 3] - heads[:, 1]
    grown = [heads[:, 0] - width, heads[:, 1] - 0.2 * height, heads[:, 2] + width, heads[:, 1] + 7.5 * height]
    return as_boxes(np.stack(grown, axis=1))


def _unmatched(outer: Boxes, inner: Boxes, whole: bool = False) -> tuple[list[int], list[int]]:
    """Rows of `outer` without an `inner` of their own (in the upper part, unless `whole`), and vice versa."""
    place = expand(outer if whole else upper_part(outer), 0.1)
    middle = centre(inner)
    inside = ((middle >= place[:, None, :2]) & (middle <= place[:, None, 2:])).all(axis=2)
    top = np.stack([centre(outer)[:, 0], outer[:, 1].astype(np.float64)], axis=1)
    apart = np.where(inside, np.linalg.norm(top[:, None] - middle[None, :], axis=2), np.inf)
    outer_left, inner_left = set(range(len(outer))), set(range(len(inner)))
    for flat in np.argsort(apart, axis=None, kind="stable"):
        row, column = divmod(int(flat), len(inner))
        if not np.isfinite(apart[row, column]):
            break
        if row in outer_left and column in inner_left:
            outer_left.discard(row)
            inner_left.discard(column)
    return sorted(outer_left), sorted(inner_left)
