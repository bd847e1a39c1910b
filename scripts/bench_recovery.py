"""How well doubtful boxes are recovered: precision, recall and share recovered, for several ways.

    python scripts/bench_recovery.py --candidates work/.../detections --media work/.../ingest --truth gt.json

`--candidates` and `--media` are folders with the tables of one session (they are searched for
detections.parquet, files.parquet and frames.parquet); the ground truth is COCO json with `camera_id` and
`frame_index` on images, cameras in the same order as the session's. A person in a frame counts as found by
a box at IoU 0.5, one to one, boxes by falling score. "Recovered" is the share found of those whose best
overlapping candidate scores below 0.5.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import containment, iou
from orveil.pipeline.settings import AssociateParams, PseudoLabelParams, TrackParams
from orveil.pipeline.tables import read_table
from orveil.pipeline.types import (
    PERSON,
    POSITIVE,
    Associations,
    Detections,
    MediaFiles,
    MediaIndex,
    PseudoLabels,
    Tracks,
)
from orveil.stages.associate import associate_session
from orveil.stages.pseudolabel import label_session
from orveil.stages.track import track_camera

Key = tuple[str, int]
Truth = dict[Key, NDArray[np.float64]]


def read_truth(path: Path, cameras: list[str]) -> Truth:
    """Person boxes (P, 4) by camera and frame index."""
    document = json.loads(path.read_text("utf-8"))
    images = {i["id"]: i for i in document["images"]}
    person = {c["id"] for c in document["categories"] if c["name"] == "person"}
    names = dict(zip(sorted({i["camera_id"] for i in images.values()}), cameras, strict=True))
    rows: dict[Key, list[list[float]]] = defaultdict(list)
    for a in document["annotations"]:
        if a["category_id"] in person:
            image, (x, y, w, h) = images[a["image_id"]], a["bbox"]
            rows[names[image["camera_id"]], int(image["frame_index"])].append([x, y, x + w, y + h])
    return {key: np.array(boxes) for key, boxes in rows.items()}


def by_frame(table: Any, rows: NDArray[np.int64]) -> dict[Key, NDArray[np.int64]]:
    """Rows of each frame."""
    found: dict[Key, list[int]] = defaultdict(list)
    for row in rows.tolist():
        found[str(table.camera[row]), int(table.index[row])].append(row)
    return {key: np.array(value) for key, value in found.items()}


def match(table: Any, rows: NDArray[np.int64], truth: Truth) -> tuple[int, set[tuple[str, int, int]]]:
    """Number of right boxes, and who was found, greedily by score."""
    right, found = 0, set()
    for key, members in by_frame(table, rows).items():
        if key not in truth:
            continue
        ordered = members[np.argsort(-table.score[members], kind="stable")]
        overlap = iou(table.xyxy[ordered], truth[key])
        for k in range(len(ordered)):
            best = int(np.argmax(overlap[k]))
            if overlap[k, best] >= 0.5:
                right += 1
                found.add((*key, best))
                overlap[:, best] = 0.0
    return right, found


def doubtful(candidates: Detections, truth: Truth) -> set[tuple[str, int, int]]:
    """People in frames whose best candidate at IoU 0.5 scores below 0.5."""
    out = set()
    for key, rows in by_frame(candidates, np.arange(len(candidates))).items():
        if key in truth:
            overlap = iou(truth[key], candidates.xyxy[rows])
            best = np.where(overlap >= 0.5, candidates.score[rows][None, :], 0.0).max(axis=1)
            out |= {(*key, int(k)) for k in np.flatnonzero((best > 0) & (best < 0.5))}
    return out


def published_filter(table: Any, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Score of at least .2, area over 500, containment NMS .8 and NMS .5."""
    size = table.xyxy[rows, 2:] - table.xyxy[rows, :2]
    rows = rows[(table.score[rows] >= 0.2) & (size.prod(axis=1) > 500)]
    kept: list[int] = []
    for members in by_frame(table, rows).values():
        alive: list[int] = []
        for row in members[np.argsort(-table.score[members], kind="stable")].tolist():
            boxes = table.xyxy[alive]
            one = table.xyxy[[row]]
            if (iou(one, boxes) <= 0.5).all() and (containment(one, boxes) <= 0.8).all():
                alive.append(row)
        kept += alive
    return np.array(kept, np.int64)


def single_tracks(candidates: Detections) -> Tracks:
    """Every candidate as a track of its own: recovery without tracking."""
    count = len(candidates)
    return Tracks(
        session=candidates.session,
        camera=candidates.camera,
        index=candidates.index,
        pts=candidates.pts,
        track_id=candidates.det_id,
        det_id=candidates.det_id,
        xyxy=candidates.xyxy,
        score=candidates.score,
        interpolated=np.zeros(count, np.bool_),
    )


def report(
    name: str, table: Any, rows: NDArray[np.int64], truth: Truth, hard: set[tuple[str, int, int]]
) -> None:
    """One line of the table."""
    right, found = match(table, rows, truth)
    people = sum(len(boxes) for boxes in truth.values())
    precision = right / max(len(rows), 1)
    recall = len(found) / max(people, 1)
    recovered = len(found & hard) / max(len(hard), 1)
    print(f"{name:34s} {len(rows):7d} {precision:9.3f} {recall:7.3f} {recovered:10.3f}")


def positives(labels: PseudoLabels) -> NDArray[np.int64]:
    """Rows of positive labels."""
    return np.flatnonzero(labels.state == POSITIVE)


def compare(files: MediaFiles, frames: MediaIndex, candidates: Detections, truth: Truth, rate: float) -> None:
    """Print every row for one session."""
    hard, everything = doubtful(candidates, truth), np.arange(len(candidates))
    params = PseudoLabelParams(false_discovery_rate=rate)
    start = time.process_time()
    cameras = sorted(set(frames.camera.tolist()))
    tracks = Tracks.concat(
        [
            track_camera(
                frames.select(frames.camera == c), candidates.select(candidates.camera == c), TrackParams()
            )
            for c in cameras
        ]
    )
    matches = associate_session(files, frames, tracks, AssociateParams(), 0)
    ours = label_session(frames, tracks, matches, params)
    spent = time.process_time() - start
    print(f"{'way':34s} {'boxes':>7s} precision  recall  recovered ({len(hard)} doubtful people-frames)")
    for floor in (0.5, 0.3, 0.1):
        rows = everything[candidates.score >= floor]
        report(f"candidates >= {floor}", candidates, rows, truth, hard)
    report("filter of the published rule", candidates, published_filter(candidates, everything), truth, hard)
    partners = {
        (c, t)
        for c, t, v in zip(
            matches.camera.tolist(), matches.track_id.tolist(), matches.views.tolist(), strict=True
        )
        if v > 1
    }
    paired = np.array(
        [(c, t) in partners for c, t in zip(tracks.camera.tolist(), tracks.track_id.tolist(), strict=True)],
        np.bool_,
    )
    kept = np.flatnonzero((paired | (tracks.score >= 0.5)) & ~tracks.interpolated)
    report("matched or >= 0.5, that filter", tracks, published_filter(tracks, kept), truth, hard)
    alone = single_tracks(candidates.select(candidates.label == PERSON))
    no_time = label_session(frames, alone, Associations.empty(), params)
    report("ours, no tracking, no other views", no_time, positives(no_time), truth, hard)
    no_views = label_session(frames, tracks, Associations.empty(), params)
    report("ours, no other views", no_views, positives(no_views), truth, hard)
    report("ours, positive", ours, positives(ours), truth, hard)
    report("ours, positive or ignored", ours, np.arange(len(ours)), truth, hard)
    matched = int((matches.views > 1).sum())
    print(f"tracks {len(matches)}, matched {matched}; {1e3 * spent / max(len(frames), 1):.2f} ms per frame")


def find(folder: Path, kind: type[Any]) -> Path:
    """The folder below `folder` that holds the table; the only or first one."""
    hits: Iterable[Path] = sorted(folder.rglob(kind.FILE))
    return next(iter(hits)).parent


def main() -> None:
    """Read the tables and print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--candidates", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=0.05, help="target false-discovery rate")
    options = parser.parse_args()
    media = find(options.media, MediaIndex)
    files, frames = read_table(MediaFiles, media), read_table(MediaIndex, media)
    shards = sorted(options.candidates.rglob(Detections.FILE))
    candidates = Detections.concat([read_table(Detections, path.parent) for path in shards])
    candidates = candidates.select(candidates.label == PERSON)
    truth = read_truth(options.truth, sorted(set(frames.camera.tolist())))
    compare(files, frames, candidates, truth, options.rate)


if __name__ == "__main__":
    main()
