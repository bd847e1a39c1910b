"""How well cross-view evidence alone recovers doubtful boxes on MVOR, days 1 and 2.

    python scripts/bench_recovery_mvor.py FOLDER

Candidates of at least 500 px and score .2; of those that overlap by IoU .5 the better stays. A box is kept
if it scores .5 and lies in no better box, or if its best partner in another view is probable. Right means
IoU 0.5 with the ground truth, one to one, by falling score.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from bench_matching import APART_S, matched
from mvor import Boxes, Mvor, load, teaching_views
from numpy.typing import NDArray

from orveil.pipeline.geometry import iou
from orveil.trackers.crossview import learn
from orveil.trackers.doubles import frames_of, inside_better, one_each
from orveil.trackers.pairing import Scene

SURE, LEAST, AREA = 0.5, 0.2, 500.0


def right_boxes(boxes: Boxes, truth: Boxes) -> NDArray[np.bool_]:
    """Which boxes (N,) find somebody."""
    out = np.zeros(len(boxes.tick), np.bool_)
    for rows in frames_of(boxes.camera, boxes.tick):
        frame = (truth.tick == boxes.tick[rows[0]]) & (truth.camera == boxes.camera[rows[0]])
        if not frame.any():
            continue
        rows = rows[np.argsort(-boxes.score[rows], kind="stable")]
        overlap = iou(boxes.xyxy[rows], truth.xyxy[frame])
        for k, row in enumerate(rows):
            best = int(np.argmax(overlap[k]))
            if overlap[k, best] >= 0.5:
                out[row] = True
                overlap[:, best] = 0.0
    return out


def partner_probability(data: Mvor, boxes: Boxes) -> NDArray[np.float64]:
    """Probability (N,) of the best match of each box in another view."""
    model = learn(teaching_views(data.candidates), np.random.default_rng(0))
    frames, count = frames_of(boxes.camera, boxes.tick), len(boxes.tick)
    inside = inside_better(frames, boxes.xyxy, boxes.score, SURE)
    scene = Scene(
        camera=boxes.camera, tick=boxes.tick, track=np.arange(count), xyxy=boxes.xyxy, score=boxes.score,
        sure=(boxes.score >= SURE) & ~inside, track_camera=boxes.camera,
        tick_s=APART_S * np.arange(len(data.day)),
    )  # fmt: skip
    pairs, odds = matched(model, scene)
    best = np.full(count, -np.inf)
    np.maximum.at(best, pairs.a, odds)
    np.maximum.at(best, pairs.b, odds)
    return np.asarray(1.0 / (1.0 + np.exp(-best)))


def report(name: str, data: Mvor, boxes: Boxes, kept: NDArray[np.int64]) -> None:
    """One line."""
    truth = data.on(data.truth, (1, 2))
    chosen = data.on(boxes.select(kept), (1, 2))
    right = right_boxes(chosen, truth)
    precision, recall = right.mean(), right.sum() / len(truth.tick)
    low = chosen.score < SURE
    share = f"{right[low].mean():.2f} of {low.sum()}" if low.any() else "-"
    f1 = 2 * precision * recall / (precision + recall)
    print(f"{name:36s} {precision:.3f} / {recall:.3f}  F1 {f1:.3f}  low boxes right {share}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    data = load(parser.parse_args().folder)
    boxes = data.candidates
    usable = (boxes.score >= LEAST) & ((boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]).prod(axis=1) > AREA)
    boxes = boxes.select(usable)
    frames, everyone = frames_of(boxes.camera, boxes.tick), np.ones(len(boxes.tick), np.bool_)
    boxes = boxes.select(one_each(frames, boxes.xyxy, boxes.score, everyone))
    probability = partner_probability(data, boxes)
    none = np.zeros(len(boxes.tick), np.bool_)
    for name, keep, own in (
        ("score >= .5, published filter", none, none),
        *((f"partner at {p:.1f}", probability > p, probability > p) for p in (0.3, 0.5, 0.8)),
    ):
        rows = np.flatnonzero((boxes.score >= SURE) | keep)
        part = boxes.select(rows)
        kept = one_each(frames_of(part.camera, part.tick), part.xyxy, part.score, own[rows])
        report(name, data, boxes, rows[kept])


if __name__ == "__main__":
    main()
