"""Pose: head and face boxes of a person, from keypoints, head candidates of the detector, or the person box.

There is always a box: an anonymiser that finds no head must still know where to look. `source` says how it
was found, and `score` how far to trust it. A head box is the whole head with its cap; a face box goes from
the brow to the chin with its mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import as_boxes, clip, containment, iou
from orveil.stages.head_guess import FACE, TRUST, HeadGuess, guess_head

__all__ = ["TRUST", "HeadBoxes", "head_boxes", "heads_from_tracks"]

Boxes = NDArray[np.float32]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

AGREE_IOU = 0.3
DETECTOR_SHARE = 2.0
"""A detector's box is drawn more exactly than one guessed from keypoints: its vote in the mean of the two."""


@dataclass(frozen=True, eq=False)
class HeadBoxes:
    """Heads and faces of N persons; `source` as in `Poses.head_source`."""

    head_xyxy: Boxes
    head_score: Floats
    source: NDArray[np.str_]
    face_xyxy: Boxes
    face_score: Floats

    def __len__(self) -> int:
        return len(self.head_xyxy)


def head_boxes(
    keypoints: Floats,
    persons: Boxes,
    candidates: Boxes,
    candidate_scores: Floats,
    size: tuple[int, int],
    min_score: float = 0.3,
) -> HeadBoxes:
    """Head and face of every person of one picture.

    Args:
        keypoints: (N, 133, 3) COCO-WholeBody x, y in pixels and confidence.
        persons: (N, 4) person boxes, px.
        candidates: (M, 4) head boxes of the detector, of any persons.
        candidate_scores: (M,).
        size: (width, height) of the picture.
        min_score: keypoints below it count as not seen.

    Returns:
        N heads, none of them empty, all inside the picture.
    """
    persons, candidates = as_boxes(persons), as_boxes(candidates)
    guesses = [guess_head(k.astype(np.float64), min_score) for k in keypoints]
    chosen = _share_out(guesses, persons, candidates, candidate_scores)
    heads, scores, sources = [], [], []
    for person, guess, candidate in zip(persons, guesses, chosen, strict=True):
        found = None if candidate < 0 else (candidates[candidate], float(candidate_scores[candidate]))
        box, score, source = _decide(person, guess, found)
        heads.append(_inside(box, person, size))
        scores.append(score)
        sources.append(source)
    head_xyxy = as_boxes(heads)
    faces = [_face(k, head, min_score) for k, head in zip(keypoints, head_xyxy, strict=True)]
    return HeadBoxes(
        head_xyxy,
        np.asarray(scores, np.float32),
        np.asarray(sources, dtype="<U9"),
        as_boxes([clip(box, *size)[0] if score else box for box, score in faces]),
        np.asarray([score for _, score in faces], np.float32),
    )


def heads_from_tracks(
    heads: HeadBoxes,
    persons: Boxes,
    track_id: NDArray[np.int64],
    time_s: Doubles,
    size: tuple[int, int],
    max_gap_s: float = 0.5,
) -> HeadBoxes:
    """Replace guesses from shoulders or body by where the same track's head was a moment before or after.

    The head keeps its place and size relative to the person box.

    Args:
        heads: of N persons of one camera, any number of frames.
        persons: (N, 4) their boxes; track_id: (N,), -1 where there is none; time_s: (N,).
        size: (width, height) of the picture.
        max_gap_s: a sighting further away in time is not used.
    """
    box, score, source = heads.head_xyxy.copy(), heads.head_score.copy(), heads.source.copy()
    face, seen = heads.face_xyxy.copy(), heads.face_score > 0
    weak = np.isin(heads.source, ("shoulders", "body")) & (track_id >= 0)
    good = ~np.isin(heads.source, ("shoulders", "body")) & (heads.head_score >= 0.5)
    for row in np.flatnonzero(weak):
        rows = np.flatnonzero(good & (track_id == track_id[row]))
        if not len(rows):
            continue
        gap = np.abs(time_s[rows] - time_s[row])
        near, distance = rows[gap.argmin()], float(gap.min())
        trust = TRUST["track"] * float(heads.head_score[near]) * (1 - 0.5 * distance / max(max_gap_s, 1e-9))
        if distance > max_gap_s or trust <= score[row]:
            continue
        scale = np.tile(_sides(persons[row]) / np.maximum(_sides(persons[near]), 1e-6), 2)
        moved = (heads.head_xyxy[near] - np.tile(persons[near, :2], 2)) * scale + np.tile(persons[row, :2], 2)
        box[row] = _inside(moved.astype(np.float64), persons[row], size)
        score[row], source[row] = trust, "track"
        if not seen[row]:
            face[row] = box[row]
    return HeadBoxes(box, score, source, face, heads.face_score)


def _sides(box: Boxes) -> Boxes:
    return np.asarray(box[2:] - box[:2])


def _share_out(
    guesses: list[HeadGuess | None], persons: Boxes, candidates: Boxes, scores: Floats
) -> NDArray[np.int64]:
    """(N,) candidate of each person or -1; a head belongs to one person only, best fit first."""
    chosen = np.full(len(persons), -1, dtype=np.int64)
    if not len(persons) or not len(candidates):
        return chosen
    gain = np.stack([_fit(g, p, candidates, scores) for g, p in zip(guesses, persons, strict=True)])
    while gain.max() > 0:
        row, column = np.unravel_index(int(gain.argmax()), gain.shape)
        chosen[row] = column
        gain[row], gain[:, column] = 0, 0
    return chosen


def _fit(guess: HeadGuess | None, person: Boxes, candidates: Boxes, scores: Floats) -> Doubles:
    """(M,) how well each head candidate suits a person; 0 where it cannot be this person's."""
    width, height = person[2:] - person[:2]
    grown = person + np.array([-0.05, -0.05, 0.05, 0.05]) * np.array([width, height, width, height])
    middle = (candidates[:, :2] + candidates[:, 2:]) / 2
    sides = candidates[:, 2:] - candidates[:, :2]
    possible = containment(grown[None], candidates)[0] >= 0.7
    possible &= (sides[:, 1] <= max(0.7 * height, 0.5 * width)) & (sides > 0).all(1)
    if guess is None:
        depth = (middle[:, 1] - person[1]) / max(height, 1e-6)
        return np.asarray(np.where(possible & (depth < 0.5), scores * (1 - depth), 0.0))
    distance = np.hypot(*(middle - guess.centre).T) / max(guess.height, 1e-6)
    reach = 1.5 if guess.source == "shoulders" else 1.0
    return np.asarray(np.where(possible & (distance < reach), scores * np.exp(-(distance**2)), 0.0))


def _decide(
    person: Boxes, guess: HeadGuess | None, found: tuple[Boxes, float] | None
) -> tuple[Doubles, float, str]:
    """Box, score and source of one head from what there is."""
    if found is None and guess is None:
        return _upper_part(person), TRUST["body"], "body"
    if found is None:
        assert guess is not None
        return guess.box, guess.score, guess.source
    box, trust = found[0].astype(np.float64), TRUST["detector"] * found[1] ** 0.5
    if guess is None:
        return box, trust, "detector"
    if iou(box[None], guess.box[None])[0, 0] < AGREE_IOU:
        winner = (box, trust, "detector") if trust >= guess.score else (guess.box, guess.score, guess.source)
        return winner[0], 0.8 * winner[1], winner[2]
    share = DETECTOR_SHARE * trust / (DETECTOR_SHARE * trust + guess.score + 1e-9)
    together = 1 - (1 - trust) * (1 - guess.score)
    source = "detector" if trust >= guess.score else guess.source
    return share * box + (1 - share) * guess.box, min(together, 1.0), source


def _upper_part(person: Boxes) -> Doubles:
    """Where an upright person's head is, generously: the middle of the upper fifth."""
    x0, y0, x1, y1 = person.astype(np.float64)
    width, height = x1 - x0, y1 - y0
    tall = min(max(0.18 * height, min(0.42 * width, 0.35 * height)), height)
    half = min(width / 2, 0.5 * tall)
    middle = (x0 + x1) / 2
    return np.array([middle - half, y0, middle + half, y0 + tall])


def _inside(box: Doubles, person: Boxes, size: tuple[int, int]) -> Boxes:
    """The part of a head box in the picture; else the upper part of the person, else one pixel."""
    for attempt in (box, _upper_part(person)):
        cut = clip(attempt, *size)[0]
        if ((cut[2:] - cut[:2]) >= 1).all():
            return np.asarray(cut, np.float32)
    corner = np.clip(person[:2], 0, np.array(size) - 1)
    return np.concatenate([corner, corner + 1]).astype(np.float32)


def _face(points: Floats, head: Boxes, min_score: float) -> tuple[Boxes, float]:
    """Face box and score of one person; the head box and 0 where no face is seen."""
    seen = points[FACE][(points[FACE, 2] >= min_score)]
    if len(seen) < 20:
        return head, 0.0
    low, high = seen[:, :2].min(0), seen[:, :2].max(0)
    # Landmarks end at the brows; a face is seen up to the hairline or the cap.
    brow = 0.12 * (high[1] - low[1])
    box = np.array([low[0], low[1] - brow, high[0], high[1]], np.float32)
    box = np.concatenate([np.maximum(box[:2], head[:2]), np.minimum(box[2:], head[2:])])
    if ((box[2:] - box[:2]) < 1).any():
        return head, 0.0
    return box, float(np.clip(seen[:, 2].mean(), 0, 1))
