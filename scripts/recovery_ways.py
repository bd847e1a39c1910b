"""Benchmark part: the ways of choosing boxes that are compared: scores, the published rule, ours in parts.

And what the ground truth could choose from the same boxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recovery_score import IOU, Row, best_prefix, doubtful, overlaps, score
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
from orveil.stages.cues import SURE_SCORE
from orveil.stages.evidence import sigmoid, weigh
from orveil.stages.pseudolabel import label_session, one_per_person
from orveil.stages.track import track_camera
from orveil.trackers.doubles import frames_of

__all__ = ["Found", "find", "published_filter", "rows", "single_tracks", "track_all"]

Ints = NDArray[np.int64]

ENOUGH = 0.9
"""Precision that all chosen boxes of a site must have together."""


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
    for part in frames_of(table.camera, table.index, rows):
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


def rows(recording: Recording, found: Found, rates: Sequence[float]) -> Iterator[tuple[str, Row]]:
    """Every row of the table for one recording, by name."""
    persons, truth, tracks = recording.persons, recording.truth, found.tracks
    hard = doubtful(truth, persons)
    for floor in (0.5, 0.3, 0.1):
        yield f"candidates >= {floor}", score(truth, persons, persons.score >= floor, hard, persons.score)
    paired = _paired(found)
    kept = published_filter(tracks, (paired | (tracks.score >= SURE_SCORE)) & ~tracks.interpolated)
    yield "published rule (no threshold)", score(truth, tracks, kept, hard, tracks.score)
    nobody = Associations.empty()
    ways = {
        "no tracking": (single_tracks(persons), nobody),
        "no cross-view": (tracks, nobody),
        "per frame": (single_tracks(persons), _of_candidates(found)),
        "ours": (tracks, found.matches),
    }
    for rate in rates:
        params = PseudoLabelParams(false_discovery_rate=rate)
        for name, (boxes, matches) in ways.items():
            labels = label_session(
                recording.files, recording.frames, boxes, matches, params, recording.heads, recording.motion
            )
            yield f"{name} {rate:g}", of_labels(recording, labels, hard, labels.state == POSITIVE)
    yield "ours, or ignored", of_labels(recording, labels, hard, slice(None))
    yield from limits(recording, found, hard)


def limits(recording: Recording, found: Found, hard: NDArray[np.bool_]) -> Iterator[tuple[str, Row]]:
    """What the same boxes hold at precision .9, if the ground truth said where to cut our ranking, which
    tracks to believe, or which boxes."""
    truth, tracks = recording.truth, found.tracks
    evidence = weigh(
        recording.files, recording.frames, tracks, found.matches, recording.heads, motion=recording.motion
    )
    overlap, best = overlaps(truth, tracks, evidence.xyxy)
    right = (overlap >= IOU).astype(np.float64)
    share = np.bincount(evidence.track, right) / np.maximum(np.bincount(evidence.track), 1)
    worth = {
        "our ranking, best cut": evidence.log_odds,
        "best tracks, by truth": share[evidence.track] + 1e-3 * sigmoid(evidence.log_odds),
        "best boxes, by truth": best + 1e-3 * sigmoid(evidence.log_odds),
    }
    for name, value in worth.items():
        kept = one_per_person(tracks, replace(evidence, log_odds=value), np.ones(len(tracks), np.bool_))
        ranked = replace(
            tracks.select(kept),
            xyxy=evidence.xyxy[kept],
            score=(np.argsort(np.argsort(value[kept], kind="stable")) / len(kept)).astype(np.float32),
        )
        chosen = best_prefix(truth, ranked, ENOUGH)
        yield name, score(truth, ranked, chosen, hard, tracks.score[kept])


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
