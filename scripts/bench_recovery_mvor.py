"""How well cross-view evidence alone recovers doubtful boxes on MVOR, days 1 and 2.

    python scripts/bench_recovery_mvor.py FOLDER

Candidates of at least 500 px and score .1, of all days, without labels. The detector is overruled where the
other views are clear: a box that it found (score .5) is dropped where it is improbable, a doubtful one is
recovered where it is probable; of double boxes the more probable stays. Right means IoU 0.5 with the ground
truth, one to one, by falling score.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench_matching import APART_S, matched
from mvor import CAMERAS, Boxes, Mvor, load, teaching_views
from numpy.typing import NDArray
from recovery_ways import published_filter

from orveil.pipeline.geometry import iou
from orveil.stages.cues import logit
from orveil.trackers.crossview import CrossView, learn
from orveil.trackers.doubles import frames_of, neighbours, one_each, without_nested
from orveil.trackers.grouping import group
from orveil.trackers.pairing import Scene
from orveil.trackers.witness import believe, testify

SURE, CERTAIN, AREA = 0.5, 0.95, 500.0
DROP, RECOVER = (0.01, 0.02, 0.05), (0.5, 0.7)


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


def confident(boxes: Boxes) -> NDArray[np.bool_]:
    """Boxes (N,) that the detector is sure of and that lie on no better one."""
    rows = np.flatnonzero(boxes.score >= SURE)
    frames = frames_of(boxes.camera, boxes.tick, rows)
    frames = frames_of(boxes.camera, boxes.tick, without_nested(frames, boxes.xyxy, boxes.score))
    out = np.zeros(len(boxes.tick), np.bool_)
    out[one_each(frames, boxes.xyxy, boxes.score, np.full(len(out), -1))] = True
    return out


def cues_of(model: CrossView, boxes: Boxes) -> NDArray[np.float64]:
    """What a box shows by itself (N, 5): log odds of its score, better boxes in its frame, and how unusual it
    is among the people of its view."""
    frames = frames_of(boxes.camera, boxes.tick)
    odd = np.zeros(len(boxes.tick))
    for camera in range(CAMERAS):
        rows = np.flatnonzero(boxes.camera == camera)
        density = model.log_density(camera, boxes.xyxy[rows])
        odd[rows] = np.clip(np.median(density[boxes.score[rows] >= CERTAIN]) - density, -2.0, 6.0)
    around = neighbours(frames, boxes.xyxy, boxes.score)
    return np.column_stack([logit(boxes.score), around, odd])


def judged(data: Mvor, boxes: Boxes) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probability (N,) that each box shows a person, and who it is by other views (-1 unknown)."""
    model = learn(teaching_views(data.candidates), np.random.default_rng(0))
    sure, count = confident(boxes), len(boxes.tick)
    scene = Scene(
        camera=boxes.camera, tick=boxes.tick, track=np.arange(count), xyxy=boxes.xyxy, score=boxes.score,
        sure=sure, track_camera=boxes.camera, tick_s=APART_S * np.arange(len(data.day)),
    )  # fmt: skip
    testimony = testify(scene, model, sure & (boxes.score >= CERTAIN), np.random.default_rng(0))
    probability = 1.0 / (1.0 + np.exp(-believe(testimony, cues_of(model, boxes))))
    pairs, odds = matched(model, scene)
    edges = list(zip(pairs.a.tolist(), pairs.b.tolist(), odds.tolist(), strict=True))
    group_of = np.array(group(boxes.camera, boxes.tick, boxes.tick, sure, edges).of, np.int64)
    alone = np.bincount(group_of, minlength=count)[group_of] == 1
    return probability, np.where(alone, -1, group_of)


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
    boxes = boxes.select((boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]).prod(axis=1) > AREA)
    plain = published_filter(_Framed(**vars(boxes)), boxes.score >= SURE)
    report("score >= .5, published filter", data, boxes, plain)
    # Boxes that nearly coincide are one, whoever they show.
    frames, everyone = frames_of(boxes.camera, boxes.tick), np.arange(len(boxes.tick))
    boxes = boxes.select(one_each(frames, boxes.xyxy, boxes.score, everyone))
    probability, person = judged(data, boxes)
    for drop in DROP:
        for recover in RECOVER:
            least = np.where(boxes.score >= SURE, drop, recover)
            chosen = frames_of(boxes.camera, boxes.tick, np.flatnonzero(probability > least))
            kept = one_each(chosen, boxes.xyxy, probability, person)
            report(f"found kept above {drop}, low above {recover}", data, boxes, kept)


@dataclass(frozen=True)
class _Framed(Boxes):
    """Boxes under the names that tables have."""

    @property
    def index(self) -> NDArray[np.int64]:
        return self.tick

    def __len__(self) -> int:
        return len(self.tick)


if __name__ == "__main__":
    main()
