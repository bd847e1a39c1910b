"""How well people are matched across cameras: MVOR with ground truth, WILDTRACK and synthetic sites without.

    python scripts/bench_matching.py mvor FOLDER
    python scripts/bench_matching.py wildtrack detections_train.json
    python scripts/bench_matching.py speed --cameras 4 --seconds 300

MVOR: trained on candidates at score .5, without labels, on all days or one; then the ground-truth boxes of
days 1 and 2 are matched. AP and FPR-95 over all pairs of boxes, by the probability of a match; precision,
recall, accuracy and IPAA-100 of the matches at probability .5, with the definitions of the published
matcher's evaluation: accuracy is the share of identities of a pair of views that are matched rightly or
rightly left alone, IPAA-100 the share of pairs of views where all are.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections import defaultdict
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from mvor import CAMERAS, Boxes, load, teaching_views
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from orveil.trackers.crossview import CrossView, View, learn
from orveil.trackers.judging import judge, weigh_pairs
from orveil.trackers.pairing import Pairs, Scene, sum_ratios

NOT_COMPARED = -30.0
PUBLISHED_EPOCHS = 100
"""The published matcher updates its parameters once per triple of frames, for about so many epochs."""
APART_S = 60.0
"""Seconds between two frames of a set without time: nothing is carried over."""


def scene_of(boxes: Boxes) -> Scene:
    """Every box a track of its own."""
    count = len(boxes.tick)
    ticks, tick = np.unique(boxes.tick, return_inverse=True)
    return Scene(
        camera=boxes.camera,
        tick=tick.astype(np.int64),
        track=np.arange(count),
        xyxy=boxes.xyxy,
        score=boxes.score,
        sure=np.ones(count, np.bool_),
        track_camera=boxes.camera,
        tick_s=APART_S * np.arange(len(ticks)),
    )


def matched(model: CrossView, scene: Scene) -> tuple[Pairs, NDArray[np.float64]]:
    """Pairs of boxes and log odds, as the association stage judges them."""
    pairs, ratio = weigh_pairs(scene, partial(sum_ratios, scene, model))
    return pairs, judge(scene, pairs, ratio)


def average_precision(score: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Area under precision over recall, ties counted together."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    hits, seen = np.cumsum(right[order])[last], np.flatnonzero(last) + 1
    return float((np.diff(hits, prepend=0) * hits / seen).sum() / right.sum())


def false_positives_at(recall: float, score: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Share of wrong pairs that score above the pair which completes the recall."""
    ordered = right[np.argsort(-score, kind="stable")]
    top = int(np.argmax(np.cumsum(ordered) >= recall * ordered.sum()))
    return float((~ordered[:top]).sum() / (~ordered).sum())


def frame_pairs(truth: Boxes) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of the two views of every frame and pair of cameras that both show somebody."""
    rows: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(truth.tick.tolist(), truth.camera.tolist(), strict=True)):
        rows[key].append(row)
    return [
        (np.array(rows[tick, a]), np.array(rows[tick, b]))
        for tick in np.unique(truth.tick).tolist()
        for a, b in combinations(range(CAMERAS), 2)
        if (tick, a) in rows and (tick, b) in rows
    ]


def measure(truth: Boxes, pairs: Pairs, odds: NDArray[np.float64]) -> dict[str, float]:
    """All figures."""
    value = {(int(a), int(b)): o for a, b, o in zip(pairs.a, pairs.b, odds, strict=True)}
    scores, labels = [], []
    right = made = possible = decided = people = whole = 0
    views = frame_pairs(truth)
    for one, other in views:
        score = np.array([[value.get((i, j), NOT_COMPARED) for j in other.tolist()] for i in one.tolist()])
        same = truth.person[one][:, None] == truth.person[other][None, :]
        scores.append(score.ravel())
        labels.append(same.ravel())
        i, j = linear_sum_assignment(-np.maximum(score, 0.0))
        i, j = i[score[i, j] > 0], j[score[i, j] > 0]
        hits = int(same[i, j].sum())
        alone = int((~same.any(axis=1) & ~np.isin(np.arange(len(one)), i)).sum())
        alone += int((~same.any(axis=0) & ~np.isin(np.arange(len(other)), j)).sum())
        union = len(one) + len(other) - int(same.sum())
        right, made, possible = right + hits, made + len(i), possible + int(same.sum())
        decided, people, whole = decided + hits + alone, people + union, whole + (hits + alone == union)
    score, label = np.concatenate(scores), np.concatenate(labels)
    return {
        "AP": average_precision(score, label),
        "FPR-95": false_positives_at(0.95, score, label),
        "P": right / max(made, 1),
        "R": right / max(possible, 1),
        "accuracy": decided / people,
        "IPAA-100": whole / len(views),
    }


def bench_mvor(folder: Path) -> None:
    """Trained on all days, and on each labelled day alone."""
    data = load(folder)
    for train, test in (((1, 2, 3, 4), (1, 2)), ((1,), (1,)), ((2,), (2,))):
        start = time.process_time()
        model = learn(teaching_views(data.on(data.candidates, train)), np.random.default_rng(0))
        spent = time.process_time() - start
        truth = data.on(data.truth, test)
        figures = measure(truth, *matched(model, scene_of(truth)))
        text = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
        print(f"trained on days {train}, tested on {test}: {text}")
        triples = len(np.unique(data.on(data.candidates, train).tick))
        print(
            f"  {_effort(model, spent)}; the published matcher: about {PUBLISHED_EPOCHS * triples} updates, "
            f"{PUBLISHED_EPOCHS * triples * CAMERAS} looks",
            flush=True,
        )


def _effort(model: CrossView, spent: float) -> str:
    return (
        f"learned in {spent:.1f} CPU s, {model.updates} updates of parameters, "
        f"{model.looks} looks at a synchronised pair of pictures"
    )


def bench_wildtrack(path: Path) -> None:
    """Seven cameras without ground truth: evidence on frames held out, and agreement of three views."""
    document = json.loads(path.read_text("utf-8"))
    rows = np.array([[int(t), *box] for t, boxes in document.items() for box in boxes], np.float64)
    tick, camera = rows[:, 0].astype(np.int64), np.unique(rows[:, 6], return_inverse=True)[1]
    xyxy = np.concatenate([rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5]], axis=1)
    size, cameras = np.array([1920.0, 1080.0]), int(camera.max()) + 1
    held = tick % 4 == 0
    views = [
        View(tick[c], xyxy[c], np.ones(int(c.sum())), size)
        for c in ((camera == number) & ~held for number in range(cameras))
    ]
    start = time.process_time()
    model = learn(views, np.random.default_rng(0))
    spent = time.process_time() - start
    count = int(held.sum())
    boxes = Boxes(tick[held], camera[held], xyxy[held], np.ones(count), np.full(count, -1))
    pairs, odds = matched(model, scene_of(boxes))
    print(f"{cameras} cameras, {len(model.pairs)} pairs learned of {cameras * (cameras - 1) // 2}")
    print(_effort(model, spent), flush=True)
    print(f"boxes of held-out frames with a partner in another view: {_with_partner(pairs, odds, count):.3f}")
    print(f"triangles of matches that close: {_closed(pairs, odds, count, camera[held]):.3f}")
    rate = (odds > 0).sum() / count
    shuffled = Boxes(
        (boxes.tick + 40 * boxes.camera) % 288, boxes.camera, xyxy[held], boxes.score, boxes.person
    )
    pairs, odds = matched(model, scene_of(shuffled))
    print(f"the same with frames of different times: {_with_partner(pairs, odds, count):.3f}")
    print(f"matches per box, at one time and at different times: {rate:.2f}, {(odds > 0).sum() / count:.2f}")


def _with_partner(pairs: Pairs, odds: NDArray[np.float64], count: int) -> float:
    found = np.zeros(count, np.bool_)
    found[pairs.a[odds > 0]] = True
    found[pairs.b[odds > 0]] = True
    return float(found.mean())


def _closed(pairs: Pairs, odds: NDArray[np.float64], count: int, camera: NDArray[np.int64]) -> float:
    """Of two matches of one box in two other cameras, the share whose partners are matched as well, of
    those that were compared."""
    value = {(int(a), int(b)): o for a, b, o in zip(pairs.a, pairs.b, odds, strict=True)}
    partners: dict[int, list[int]] = defaultdict(list)
    for (a, b), o in value.items():
        if o > 0:
            partners[a].append(b)
            partners[b].append(a)
    closed = total = 0
    for far in partners.values():
        for i, j in combinations(sorted(far, key=lambda row: int(camera[row])), 2):
            if camera[i] != camera[j] and (i, j) in value:
                closed, total = closed + (value[i, j] > 0), total + 1
    return closed / max(total, 1)


def bench_speed(cameras: int, seconds: int, people: int) -> None:
    """Time to learn a site of synthetic tracks."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from crossview_rooms import ring, room

    rows, frames = room(people=people, seconds=seconds, fps=5.0, views=ring(cameras))
    size, every = np.array([640.0, 480.0]), max(1, frames // 600)
    views = []
    for table in rows:
        table = table[table[:, 0] % every == 0]
        views.append(View(table[:, 0].astype(np.int64), table[:, 2:], np.ones(len(table)), size))
    wall, start = time.perf_counter(), time.process_time()
    model = learn(views, np.random.default_rng(0), independence=min(1.0, every / 5.0 / 0.4))
    wall, spent = time.perf_counter() - wall, time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{cameras} cameras, {seconds} s, {people} people: {len(model.pairs)} pairs learned in "
        f"{spent:.1f} CPU s, {wall:.1f} s wall; peak {peak:.0f} MB"
    )


def main() -> None:
    """Run one of the three."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_subparsers(required=True, dest="which")
    which.add_parser("mvor").add_argument("folder", type=Path)
    which.add_parser("wildtrack").add_argument("file", type=Path)
    speed = which.add_parser("speed")
    speed.add_argument("--cameras", type=int, default=4)
    speed.add_argument("--seconds", type=int, default=300)
    speed.add_argument("--people", type=int, default=6)
    options = parser.parse_args()
    if options.which == "mvor":
        bench_mvor(options.folder)
    elif options.which == "wildtrack":
        bench_wildtrack(options.file)
    else:
        bench_speed(options.cameras, options.seconds, options.people)


if __name__ == "__main__":
    main()
