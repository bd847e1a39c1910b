"""Evaluation: how well the tracks behind a site's labels follow its people: HOTA, IDF1 and MOTA.

Judged are the positive labels with the names of their tracks, camera by camera; names are not compared across
cameras (`all_views_recall` and the association figures are about that).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import area, intersection, iou
from orveil.pipeline.types import PERSON, POSITIVE, PseudoLabels
from orveil.stages.track_metrics import SAME, TrackBoxes, TrackFigures, track_figures
from orveil.stages.truth import Truth, TruthBoxes

__all__ = ["tracking"]

Json = dict[str, Any]
Bools = NDArray[np.bool_]


def tracking(truth: Truth, labels: PseudoLabels) -> Json | None:
    """Figures of the whole site and of each camera; None where the ground truth does not say who is who."""
    people = truth.boxes[PERSON]
    if not len(people) or (people.track_id[~people.ignore] < 0).any():
        return None
    labels = labels.select((labels.state == POSITIVE) & (labels.label == PERSON))
    rows = truth.frames.rows(labels)
    labels, rows = labels.select(rows >= 0), rows[rows >= 0]
    keep = ~_ignored(people, rows, labels.xyxy)
    labels, rows = labels.select(keep), rows[keep]
    predicted = _one_per_frame(rows, labels)
    cameras: dict[str, TrackFigures] = {}
    views = np.char.add(np.char.add(truth.frames.session, "/"), truth.frames.camera)
    wanted = ~people.ignore
    for view in np.unique(views).tolist():
        mine = wanted & (views == view)[people.frame]
        real = TrackBoxes(people.frame[mine], people.track_id[mine], people.xyxy[mine])
        here = (views == view)[predicted.frame]
        found = TrackBoxes(predicted.frame[here], predicted.track_id[here], predicted.xyxy[here])
        cameras[view] = track_figures(real, found)
    total, *others = cameras.values()
    for figures in others:
        total = total + figures
    return {**_ratios(total), "cameras": {view: _ratios(figures) for view, figures in cameras.items()}}


def _ratios(figures: TrackFigures) -> Json:
    names = ("hota", "det_a", "ass_a", "idf1", "mota")
    return {**{name: getattr(figures, name) for name in names}, "switches": figures.switches}


def _one_per_frame(rows: NDArray[np.int64], labels: PseudoLabels) -> TrackBoxes:
    """The best label of each track in each frame; a label of no track is a track of its own."""
    alone = labels.track_id < 0
    first = int(labels.track_id.max(initial=-1)) + 1
    names = np.where(alone, first + np.arange(len(labels)), labels.track_id)
    order = np.lexsort((-labels.score, names, rows))
    keys = np.stack([rows, names], axis=1)[order]
    new = np.append(True, (np.diff(keys, axis=0) != 0).any(axis=1))[: len(order)]
    kept = order[new]
    return TrackBoxes(rows[kept], names[kept], labels.xyxy[kept])


def _ignored(people: TruthBoxes, rows: NDArray[np.int64], xyxy: NDArray[np.float32]) -> Bools:
    """Predictions (N,) that lie mostly in an ignored box and on nobody: they count neither way."""
    result = np.zeros(len(rows), dtype=bool)
    for frame in np.unique(people.frame[people.ignore]).tolist():
        mine, theirs = np.flatnonzero(rows == frame), people.frame == frame
        crowd, real = people.xyxy[theirs & people.ignore], people.xyxy[theirs & ~people.ignore]
        inside = intersection(xyxy[mine], crowd) >= SAME * area(xyxy[mine])[:, None]
        result[mine] = inside.any(axis=1) & ~(iou(xyxy[mine], real) >= SAME).any(axis=1)
    return result
