"""Fits configs/weights/evidence.json: what the cues of a box are worth, and how far that can be trusted.

    python scripts/fit_evidence.py ROOM=TABLES=TRUTH [ROOM+=TABLES=TRUTH ...] [--out FILE]

TABLES is a folder with files.parquet, frames.parquet, detections.parquet and motion.parquet, TRUTH the ground
truth of the room; several recordings of one ROOM may come from several detectors, and ROOM+ says that this
detector was trained on pseudo labels of the room. Weights start from what was found by hand and are moved as
far as the rooms agree (a ridge towards the start). Each room in turn is left out of the fit and predicted:
these predictions calibrate the model, and how far each left-out recording is off is the `spread` that the
bound on errors uses. Never name rooms with seeds from 900: those are for reported figures. After a fit the
version of the pseudo-label stage must go up: the file is no part of its key.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recovery_score import IOU, doubtful
from recovery_ways import track_all
from scipy.optimize import minimize

from orveil.pipeline.tables import read_table
from orveil.pipeline.types import HEAD, PERSON, Detections, MediaFiles, MediaIndex, Motion, Tracks
from orveil.stages.cues import CUES, Cues, see
from orveil.stages.evidence import Evidence, Trust, sigmoid
from orveil.stages.metrics import Predicted, match
from orveil.stages.pseudolabel import discoveries, one_per_person
from orveil.stages.truth import Truth, load_truth

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

START = {
    "own": 0.8, "near": 0.8, "peak": 0.7, "filled": -0.5, "gap": -1.0, "apart": -2.0, "still": -2.5,
    "nested": -1.5, "twins": 0.3, "head": 0.5, "moved": 2.0,
}  # fmt: skip
CONSTANT, RIDGE = 1.35, 0.003
LEAST_ODDS = -1.5
"""Boxes with lower log odds by the starting weights are far from a label, and are no part of the fit."""
RATES = (0.05, 0.1)
NEW_LUCK = 0.4
"""Share of the luck of counting tracks that is not already in the spread, which is measured between
recordings of 20 s and holds their luck too; chosen so that all left-out recordings kept both rates."""
LEAST_BOXES = 300
"""A recording with fewer probable boxes says too little about how far rooms differ."""


@dataclass(frozen=True)
class Sample:
    """One recording: its room, its cues, and who is to be recovered."""

    room: str
    retrained: bool
    name: str
    tracks: Tracks
    cues: Cues
    truth: Truth
    hard: Bools


def read_sample(argument: str) -> Sample:
    """Track the candidates of one recording and look at its boxes."""
    room, folder, gt = argument.split("=")
    files, frames = (read_table(kind, Path(folder)) for kind in (MediaFiles, MediaIndex))
    candidates = read_table(Detections, Path(folder))
    truth = load_truth(Path(gt), files, frames)
    persons, heads = (candidates.select(candidates.label == label) for label in (PERSON, HEAD))
    tracks = track_all(frames, persons)
    motion = read_table(Motion, Path(folder))
    cues = see(files, frames, tracks, heads if len(heads) else None, motion)
    name = f"{room} {Path(folder).name}"
    return Sample(room.rstrip("+"), room.endswith("+"), name, tracks, cues, truth, doubtful(truth, persons))


@dataclass(frozen=True)
class Held:
    """Predictions for one recording of a room that was not fitted to: M boxes, the probable ones first.

    Attributes:
        rows: (M,) row of the tracks; odds: (M,) log odds by the weights.
        right: (M,) the box finds a person that no better box found.
        recovered: (M,) that person has no candidate of score 0.5; track: (M,) number of the track.
        hard: how many such people there are.
    """

    name: str
    rows: NDArray[np.int64]
    odds: Doubles
    right: Bools
    recovered: Bools
    track: NDArray[np.int64]
    hard: int


def outcomes(sample: Sample, weights: Doubles) -> Held:
    """The boxes that stand for a person of their own, and whether each is right; weights (K + 1,)."""
    odds = sample.cues.value @ weights[:-1] + weights[-1]
    nobody, zeros = np.full(len(odds), -1, np.int64), np.zeros(len(odds))
    cues = sample.cues
    evidence = Evidence(cues.track, cues.xyxy, odds, odds, odds, nobody, zeros, Trust(0.0, 0.0))
    kept = one_per_person(sample.tracks, evidence, odds > LEAST_ODDS)
    # The order in which boxes are matched: by frame, then by probability; reported by probability.
    kept = kept[np.lexsort((-odds[kept], sample.truth.frames.rows(sample.tracks.select(kept))))]
    kept = kept[np.argsort(-odds[kept], kind="stable")]
    rows = sample.tracks.select(kept)
    predicted = Predicted.of(sample.truth.frames, rows, cues.xyxy[kept], odds[kept], True)
    person = match(sample.truth.boxes[PERSON], predicted, IOU).truth
    recovered = (person >= 0) & sample.hard[np.maximum(person, 0)]
    return Held(
        sample.name, kept, odds[kept], person >= 0, recovered, cues.track[kept], int(sample.hard.sum())
    )


def fit_weights(samples: list[Sample]) -> Doubles:
    """Weights of the cues, and the constant (K + 1,); every recording counts the same."""
    start = np.array([START.get(name, 0.0) for name in CUES] + [CONSTANT])
    parts = []
    for sample in samples:
        held = outcomes(sample, start)
        parts.append((np.c_[sample.cues.value[held.rows], np.ones(len(held.rows))], held.right))

    def loss(weights: Doubles) -> tuple[float, Doubles]:
        away = np.append(weights[:-1] - start[:-1], 0.0)
        value, slope = RIDGE * float(away @ away), 2 * RIDGE * away
        for design, right in parts:
            odds = design @ weights
            value += log_loss(odds, right) / len(parts)
            slope = slope + design.T @ (sigmoid(odds) - right) / (len(right) * len(parts))
        return value, slope

    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x)


def log_loss(odds: Doubles, right: Bools) -> float:
    """Mean cross-entropy."""
    return float(np.mean(np.logaddexp(0.0, odds) - right * odds))


def calibrate(parts: list[Held]) -> tuple[float, float]:
    """Slope and offset of the probable boxes' log odds, every left-out recording with the same weight."""
    probable = [(p.odds[p.odds > 0], p.right[p.odds > 0]) for p in parts]

    def loss(line: NDArray[Any]) -> float:
        return float(np.mean([log_loss(line[0] * odds + line[1], right) for odds, right in probable]))

    found = minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead")
    return float(found.x[0]), float(found.x[1])


def shift(odds: Doubles, right: Bools) -> float:
    """What must be added to the log odds of a recording's probable boxes to make them right on average."""
    probable = odds > 0.0
    if probable.sum() < 30:
        return 0.0
    found = minimize(
        lambda d: log_loss(odds[probable] + d[0], right[probable]), np.zeros(1), method="Nelder-Mead"
    )
    return float(found.x[0])


def togetherness(part: Held, odds: Doubles) -> tuple[float, float]:
    """Summed products of the errors of pairs of boxes of one track, and the same if they erred as one."""
    probable = odds > 0.0
    _, track = np.unique(part.track[probable], return_inverse=True)
    chance = sigmoid(odds[probable])
    error, scale = part.right[probable] - chance, np.sqrt(chance * (1 - chance))

    def pairs(value: Doubles) -> float:
        return float((np.bincount(track, value) ** 2 - np.bincount(track, value**2)).sum())

    return pairs(error), pairs(scale)


def report(part: Held, odds: Doubles, value: float, trust: Trust) -> None:
    """One line: claimed and found share of errors, and share of the doubtful people recovered."""
    line = f"{part.name:36s} boxes {len(odds):6d} right {part.right.sum():6d} shift {value:+.2f}"
    for rate in RATES:
        chosen = discoveries(odds, part.track, trust, rate)
        wrong = 1.0 - part.right[chosen].mean() if chosen.any() else 0.0
        line += f" | {rate:.2f}: found {wrong:.3f} of {chosen.sum():5d}"
        line += f" recovered {part.recovered[chosen].sum() / max(part.hard, 1):.3f}"
    print(line)


def main() -> None:
    """Fit, leave out, calibrate and write."""
    raw_text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw_text)
    parser.add_argument("recordings", nargs="+", metavar="ROOM=TABLES=TRUTH")
    parser.add_argument("--out", type=Path, default=Path("configs/weights/evidence.json"))
    options = parser.parse_args()
    samples = [read_sample(argument) for argument in options.recordings]
    parts = []
    for sample in samples:
        others = [s for s in samples if s.room != sample.room and not s.retrained]
        parts.append(outcomes(sample, fit_weights(others)))
    fresh = np.array([not s.retrained for s in samples])
    slope, offset = calibrate([p for p, f in zip(parts, fresh, strict=True) if f])
    odds = [slope * p.odds + offset for p in parts]
    shifts = np.array([shift(o, p.right) for o, p in zip(odds, parts, strict=True)])
    large = np.array([(o > 0).sum() >= LEAST_BOXES for o in odds])
    retrained = float(min(shifts[~fresh & large].mean(), 0.0)) if (~fresh & large).any() else 0.0
    off = shifts - np.where(fresh, 0.0, retrained)
    sums = np.array([togetherness(p, o + d) for p, o, d in zip(parts, odds, shifts, strict=True)])
    trust = Trust(
        float(np.sqrt(np.mean(off[large] ** 2))),
        NEW_LUCK * float(np.clip(np.divide(*sums.sum(axis=0)), 0, 1)),
    )
    for part, own, value, is_fresh in zip(parts, odds, shifts, fresh, strict=True):
        report(part, own + (0.0 if is_fresh else retrained), value, trust)
    weights = slope * fit_weights([s for s in samples if not s.retrained])
    stored = {
        "weights": {name: round(float(w), 4) for name, w in zip(CUES, weights, strict=False)},
        "constant": round(float(weights[-1]) + offset, 4),
        "retrained": round(retrained, 4),
        "spread": round(trust.spread, 4),
        "together": round(trust.together, 4),
    }
    options.out.write_text(json.dumps(stored, indent=1) + "\n", "utf-8")
    print(json.dumps(stored))


if __name__ == "__main__":
    main()
