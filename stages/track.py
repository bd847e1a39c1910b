"""Stage: person candidates joined over time within each camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from orveil.pipeline.kinds import DetectionsKind, MediaKind, TracksKind
from orveil.pipeline.settings import TrackParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import write_table
from orveil.pipeline.types import PERSON, Detections, MediaIndex, Tracks
from orveil.stages.chunks import Recordings, candidates_of, unique_ids
from orveil.trackers.base import TrackerSettings
from orveil.trackers.tracklets import track_recording

__all__ = ["Track", "track_camera"]


class Track:
    """media, candidates -> Tracks: one shard per (session, camera)."""

    name: ClassVar[str] = "track"
    version: ClassVar[int] = 2
    needs: ClassVar[Resources] = Resources()
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {
        "media": MediaKind,
        "candidates": DetectionsKind,
    }
    produces: ClassVar[type[ArtifactType]] = TracksKind
    volatile: ClassVar[frozenset[str]] = frozenset()

    _recordings: Recordings

    def shards(self, params: TrackParams, inputs: Inputs) -> Sequence[Shard]:
        """One shard for every camera of every session; several for a long recording, by time."""
        recordings = Recordings(inputs["media"])
        return [shard for key in sorted(recordings.views) for shard in recordings.shards(*key)]

    def setup(self, params: TrackParams, inputs: Inputs, context: Context) -> None:
        """Read which frames there are."""
        self._recordings = Recordings(inputs["media"])

    def run(self, params: TrackParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Track one camera and write `tracks.parquet`; what surrounds a piece is seen, but not written."""
        frames = self._recordings.frames(shard, 2 * params.max_gap_s)
        own = self._recordings.frames(shard)
        tracks = track_camera(frames, candidates_of(inputs["candidates"], frames), params)
        tracks = tracks.select(np.isin(tracks.index, own.index))
        # A gap at the edge of a piece has its detections in the next one, which fills it too.
        tracks = tracks.select(np.isin(tracks.track_id, tracks.track_id[~tracks.interpolated]))
        write_table(replace(tracks, track_id=unique_ids(tracks.track_id, shard)), out)
        context.progress(len(own), len(own), "frames")


def track_camera(frames: MediaIndex, candidates: Detections, params: TrackParams) -> Tracks:
    """Tracks of one camera.

    Args:
        frames: every frame of the camera.
        candidates: its candidates; rows that are not persons are left out.
        params: thresholds and times.

    Returns:
        Rows in the order of frames; within a frame the candidates in their order, then filled boxes.
        Every person candidate is in exactly one track.
    """
    frames = frames.select(np.argsort(frames.index, kind="stable"))
    persons = candidates.select(candidates.label == PERSON)
    position = np.searchsorted(frames.index, persons.index)
    result = track_recording(frames.time_s, position, persons.xyxy, persons.score, _settings(params))
    fill = result.fill
    place = np.concatenate([position, fill.frame]).astype(np.int64)
    count, extra = len(persons), len(fill.frame)
    rows = {
        "session": frames.session[place],
        "camera": frames.camera[place],
        "index": frames.index[place],
        "pts": frames.pts[place],
        "track_id": np.concatenate([result.track_id, fill.track_id]),
        "det_id": np.concatenate([persons.det_id, np.full(extra, -1)]),
        "xyxy": np.concatenate([persons.xyxy, fill.xyxy.astype(np.float32)]),
        "score": np.concatenate([persons.score, np.zeros(extra, np.float32)]),
        "interpolated": np.arange(count + extra) >= count,
    }
    order = np.argsort(place, kind="stable")
    return Tracks(**{name: values[order] for name, values in rows.items()})


def _settings(params: TrackParams) -> TrackerSettings:
    return TrackerSettings(
        high_score=params.high_score,
        low_score=params.low_score,
        max_gap_s=params.max_gap_s,
        min_iou=params.min_iou,
    )
