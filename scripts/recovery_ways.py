"""Benchmark part: the ways of choosing boxes that are compared: scores, the published rule, ours in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recovery_score import Row, doubtful, score
from recovery_sites import Recording

from orveil.pipeline.geometry import containment, iou
from orveil.pipeline.settings import AssociateParams, PseudoLabelParams, TrackParams
from orveil.pipeline.types import (
    POSITIVE,
    Associations,
    Detections,
    MediaIndex,
    PseudoLabels,
    Tracks,
)
from orveil.stages.associate import associate_session
from orveil.stages.cues import SURE_SCORE, frame_groups
from orveil.stages.pseudolabel import label_session
from orveil.stages.track import track_camera

__all__ = ["Found", "find", "published_filter", "rows", "single_tracks", "track_all"]

Ints = NDArray[np.int64]


def track_all(frames: MediaIndex, candidates: Detections) -> Tracks:
    """Tracks of every camera of one session."""
    return Tracks.concat(
        [
            track_camera(
                frames.select(frames.camera == c), candidates.select(candidates.camera == c), TrackParams()
            )
            for c in sorted(set(frames.camera.tolist()))
        ]
    )


def single_tracks(candidates: Detections) -> Tracks:
    """Every candidate as a track of its own: recovery without tracking."""
    columns = {n: getattr(candidates, n) for n in ("session", "camera", "index", "pts", "xyxy", "score")}
    number = candidates.det_id
    return Tracks(**columns, track_id=number, det_id=number, interpolated=np.zeros(len(candidates), np.bool_))


def published_filter(table: Any, chosen: NDArray[Any]) -> Ints:
    """Score of at least .2, area over 500, containment NMS .8 and NMS .5 (Chen et al., 2026)."""
    rows = np.arange(len(table))[chosen]
    size = table.xyxy[rows, 2:] - table.xyxy[rows, :2]
    rows = rows[(table.score[rows] >= 0.2) & (size.prod(axis=1) > 500)]
    rows = rows[np.argsort(-table.score[rows], kind="stable")]
    kept: list[int] = []
    for part in frame_groups(table, rows):
        overlap, within = (
            iou(table.xyxy[part], table.xyxy[part]),
            containment(table.xyxy[part], table.xyxy[part]),
        )
        alive: list[int] = []
        for k in range(len(part)):
            if (overlap[k, alive] <= 0.5).all() and (within[k, alive] <= 0.8).all():
                alive.append(k)
        kept += part[alive].tolist()
    return np.sort(np.array(kept, np.int64))


@dataclass(frozen=True)
class Found:
    """What the stages before labelling made of one recording."""

    tracks: Tracks
    matches: Associations


def find(recording: Recording) -> Found:
    """Track and associate."""
    tracks = track_all(recording.frames, recording.persons)
    return Found(tracks, associate_session(recording.files, recording.frames, tracks, AssociateParams(), 0))


def rows(recording: Recording, found: Found, rate: float) -> Iterator[tuple[str, Row]]:
    """Every row of the table for one recording, by name."""
    persons, truth, tracks = recording.persons, recording.truth, found.tracks
    hard = doubtful(truth, persons)
    for floor in (0.5, 0.3, 0.1):
        yield f"candidates >= {floor}", score(truth, persons, persons.score >= floor, hard, persons.score)
    paired = _paired(found)
    kept = published_filter(tracks, (paired | (tracks.score >= SURE_SCORE)) & ~tracks.interpolated)
    yield "published rule (no threshold)", score(truth, tracks, kept, hard, tracks.score)
    params = PseudoLabelParams(false_discovery_rate=rate)
    nobody = Associations.empty()
    ways = {
        "ours, no tracking": (single_tracks(persons), nobody),
        "ours, no cross-view": (tracks, nobody),
        "ours, per frame": (single_tracks(persons), _of_candidates(found)),
        "ours": (tracks, found.matches),
    }
    for name, (boxes, matches) in ways.items():
        labels = label_session(recording.files, recording.frames, boxes, matches, params, recording.heads)
        yield name, of_labels(recording, labels, hard, labels.state == POSITIVE)
    yield "ours, or ignored", of_labels(recording, labels, hard, slice(None))


def of_labels(recording: Recording, labels: PseudoLabels, hard: NDArray[np.bool_], chosen: Any) -> Row:
    """Count labels; only boxes that the detector was sure of are called detected."""
    return score(recording.truth, labels, chosen, hard, (labels.source == "detected").astype(np.float64))


def _paired(found: Found) -> NDArray[np.bool_]:
    """Rows of the tracks whose track has a partner in another view."""
    m = found.matches
    partners = {
        (c, t)
        for c, t, v in zip(m.camera.tolist(), m.track_id.tolist(), m.views.tolist(), strict=True)
        if v > 1
    }
    keys = zip(found.tracks.camera.tolist(), found.tracks.track_id.tolist(), strict=True)
    return np.array([key in partners for key in keys], np.bool_)


def _of_candidates(found: Found) -> Associations:
    """The matches of tracks, given to each of their boxes as a track of its own."""
    seen = found.tracks.select(~found.tracks.interpolated)
    m = found.matches
    row = {key: k for k, key in enumerate(zip(m.camera.tolist(), m.track_id.tolist(), strict=True))}
    at = np.array([row[k] for k in zip(seen.camera.tolist(), seen.track_id.tolist(), strict=True)], np.int64)
    columns = m.select(at).columns()
    return Associations(**{**columns, "track_id": seen.det_id})
