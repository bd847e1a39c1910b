"""Engine: the typed tables that cross a stage boundary, as frozen structs of arrays.

Conventions: N rows; boxes `xyxy` are float32 (x0, y0, x1, y1) in pixels of the decoded source picture,
x right, y down, x1 and y1 exclusive; time `pts` counts ticks of the file's time base; `time_s` is on the
clock of the reference camera. Every row carries its frame key (session, camera, index, pts).
A table is validated once, when it is made; after that its arrays are read-only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.columns import Column, Table

__all__ = [
    "FACE", "HEAD", "IGNORE", "KEYPOINTS", "MOTION_GRID", "PERSON", "POSITIVE",
    "Associations", "Detections", "FrameLabels", "MediaFiles", "MediaIndex", "Motion", "Poses",
    "PseudoLabels", "Tracks",
]  # fmt: skip

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Strings = NDArray[np.str_]

PERSON, HEAD, FACE = 0, 1, 2
"""Values of `label`."""
POSITIVE, IGNORE = 0, 1
"""Values of `state` in `PseudoLabels`; what is neither is background."""
KEYPOINTS = 133
"""COCO-WholeBody: 17 body, 6 feet, 68 face, 21 left hand, 21 right hand."""
MOTION_GRID = (54, 96)
"""Rows and columns of a mask of motion, whatever the shape of the picture."""


FRAME_KEY: Mapping[str, Column] = {
    "session": Column("str", about="recording; cameras of one session are synchronised"),
    "camera": Column("str"),
    "index": Column("int64", about="position of the frame in its file, from 0"),
    "pts": Column("int64", unit="ticks of the file's time base"),
}


def _finite(table: Table, *names: str) -> None:
    for name in names:
        if not np.isfinite(getattr(table, name)).all():
            raise table._bad(f"column {name} holds a value that is not finite")


def _boxes(table: Table) -> None:
    xyxy: Floats = table.xyxy  # type: ignore[attr-defined]
    _finite(table, "xyxy")
    if (xyxy[:, 2:] < xyxy[:, :2]).any():
        raise table._bad("a box has x1 < x0 or y1 < y0")


def _unit_interval(table: Table, *names: str) -> None:
    for name in names:
        values = getattr(table, name)
        if len(values) and not ((values >= 0) & (values <= 1)).all():
            raise table._bad(f"column {name} leaves [0, 1]")


@dataclass(frozen=True, eq=False)
class MediaFiles(Table):
    """One row per video file (one camera of one session)."""

    session: Strings
    camera: Strings
    path: Strings
    sha256: Strings
    width: Ints
    height: Ints
    rotation: Ints
    time_base_num: Ints
    time_base_den: Ints
    frames: Ints
    duration_s: Doubles
    offset_s: Doubles
    offset_source: Strings

    FILE: ClassVar[str] = "files.parquet"
    COLUMNS: ClassVar[Mapping[str, Column]] = {
        "session": Column("str"),
        "camera": Column("str"),
        "path": Column("str", about="absolute path where it was read; not part of any digest"),
        "sha256": Column("str", about="of the file's bytes"),
        "width": Column("int64", unit="px", about="as decoded, before rotation"),
        "height": Column("int64", unit="px"),
        "rotation": Column("int64", unit="degree", about="display rotation: 0, 90, 180, 270"),
        "time_base_num": Column("int64"),
        "time_base_den": Column("int64"),
        "frames": Column("int64"),
        "duration_s": Column("float64", unit="s"),
        "offset_s": Column("float64", unit="s", about="add to the file's time to get reference time"),
        "offset_source": Column("str", about="given, estimated or none"),
    }


@dataclass(frozen=True, eq=False)
class MediaIndex(Table):
    """One row per decodable frame of every file."""

    session: Strings
    camera: Strings
    index: Ints
    pts: Ints
    time_s: Doubles

    FILE: ClassVar[str] = "frames.parquet"
    COLUMNS: ClassVar[Mapping[str, Column]] = {
        **FRAME_KEY,
        "time_s": Column("float64", unit="s", about="on the clock of the reference camera"),
    }

    def _check(self) -> None:
        _finite(self, "time_s")


@dataclass(frozen=True, eq=False)
class Motion(Table):
    """Of every frame, which of its cells show something else than the camera usually does."""

    session: Strings
    camera: Strings
    index: Ints
    pts: Ints
    moved: Bools

    FILE: ClassVar[str] = "motion.parquet"
    COLUMNS: ClassVar[Mapping[str, Column]] = {
        **FRAME_KEY,
        "moved": Column("bool", MOTION_GRID, about="rows and columns over the upright picture"),
    }


@dataclass(frozen=True, eq=False)
class Detections(Table):
    """Candidate boxes of one detector, low threshold, per frame."""

    session: Strings
    camera: Strings
    index: Ints
    pts: Ints
    det_id: Ints
    xyxy: Floats
    score: Floats
    label: Ints
    meta: Mapping[str, str] = field(default_factory=dict)

    FILE: ClassVar[str] = "detections.parquet"
    COLUMNS: ClassVar[Mapping[str, Column]] = {
        **FRAME_KEY,
        "det_id": Column("int64", about="unique within one (session, camera), in frame order"),
        "xyxy": Column("float32", (4,), "px"),
        "score": Column("float32", about="detector confidence in [0, 1]"),
        "label": Column("int64", about="0 person, 1 head, 2 face"),
    }

    def _check(self) -> None:
        _boxes(self)
        _unit_interval(self, "score")


@dataclass(frozen=True, eq=False)
class Tracks(Table):
    """Person boxes joined over time within one camera; every person candidate is in at most one track."""

    session: Strings
    camera: Strings
    index: Ints
    pts: Ints
    track_id: Ints
    det_id: Ints
    xyxy: Floats
    score: Floats
    interpolated: Bools

    FILE: ClassVar[str] = "tracks.parquet"
    COLUMNS: ClassVar[Mapping[str, Column]] = {
        **FRAME_KEY,
        "track_id": Column("int64", about="unique within one (session, camera)"),
        "det_id": Column("int64", about="joins Detections of the same camera; -1 where interpolated"),
        "xyxy": Column("float32", (4,), "px"),
        "score": Column("float32", about="of the detection; 0 where interpolated"),
        "interpolated": Column("bool", about="box filled in over a gap, no detection behind it"),
    }

    def _check(self) -> None:
        _boxes(self)
        _unit_interval(self, "score")
        if ((self.det_id < 0) != self.interpolated).any():
            raise self._bad("det_id must be -1 exactly where a box is interpolated")


@dataclass(frozen=True, eq=False)
class Associations(Table):
    """One row per track: which person it is across cameras, and how sure that is."""

    session: Strings
    camera: Strings
    track_id: Ints
    person_id: Ints
    probability: Floats
    margin: Floats
    views: Ints
    support: Ints

    FILE: ClassVar[str] = "associations.parquet"
    COLUMNS: ClassVar[Mapping[str, Column]] = {
        "session": Column("str"),
        "camera": Column("str"),
        "track_id": Column("int64"),
        "person_id": Column("int64", about="unique within one session, the same across cameras"),
        "probability": Column(
            "float32", about="calibrated probability that the match is right; 0 if unmatched"
        ),
        "margin": Column("float32", about="log-likelihood ratio over the next best partner"),
        "views": Column("int64", about="cameras in which this person was matched, 1 if in this one only"),
        "support": Column("int64", about="synchronised frames that back the match"),
    }

    def _check(self) -> None:
        _unit_interval(self, "probability")


@dataclass(frozen=True, eq=False)
class PseudoLabels(Table):
    """What the pipeline believes of each frame; a place that no row covers is background."""

    session: Strings
    camera: Strings
    index: Ints
    pts: Ints
    label_id: Ints
    track_id: Ints
    person_id: Ints
    xyxy: Floats
    label: Ints
    score: Floats
    weight: Floats
    state: Ints
    source: Strings
    round: Ints

    FILE: ClassVar[str] = "labels.parquet"
    COLUMNS: ClassVar[Mapping[str, Column]] = {
        **FRAME_KEY,
        "label_id": Column("int64", about="unique within one (session, camera)"),
        "track_id": Column("int64", about="-1 if in no track"),
        "person_id": Column("int64", about="-1 if unmatched"),
        "xyxy": Column("float32", (4,), "px"),
        "label": Column("int64", about="0 person, 1 head, 2 face"),
        "score": Column("float32", about="probability that this is a person, calibrated"),
        "weight": Column("float32", about="in the loss; 0 where ignored"),
        "state": Column("int64", about="0 positive, 1 ignore"),
        "source": Column("str", about="detected, temporal, cross_view or pose"),
        "round": Column("int64"),
    }

    def _check(self) -> None:
        _boxes(self)
        _unit_interval(self, "score", "weight")
        if not np.isin(self.state, (POSITIVE, IGNORE)).all():
            raise self._bad("state is neither positive nor ignore")


@dataclass(frozen=True, eq=False)
class FrameLabels(Table):
    """Which frames training may use, and which are held out for the label-free guard."""

    session: Strings
    camera: Strings
    index: Ints
    pts: Ints
    split: Strings
    weight: Floats

    FILE: ClassVar[str] = "frames_used.parquet"
    COLUMNS: ClassVar[Mapping[str, Column]] = {
        **FRAME_KEY,
        "split": Column("str", about="train, holdout or unused"),
        "weight": Column("float32", about="sampling weight from diversity and difficulty"),
    }


@dataclass(frozen=True, eq=False)
class Poses(Table):
    """Whole-body keypoints of one labelled person, and the head and face boxes derived from them."""

    session: Strings
    camera: Strings
    index: Ints
    pts: Ints
    label_id: Ints
    keypoints: Floats
    head_xyxy: Floats
    head_score: Floats
    head_source: Strings
    face_xyxy: Floats
    face_score: Floats

    FILE: ClassVar[str] = "poses.parquet"
    COLUMNS: ClassVar[Mapping[str, Column]] = {
        **FRAME_KEY,
        "label_id": Column("int64", about="joins PseudoLabels of the same camera"),
        "keypoints": Column("float32", (KEYPOINTS, 3), "px, px, confidence"),
        "head_xyxy": Column("float32", (4,), "px", "never empty"),
        "head_score": Column("float32"),
        "head_source": Column("str", about="face, ears, detector, shoulders, track or body"),
        "face_xyxy": Column("float32", (4,), "px", "equals the head box where no face is seen"),
        "face_score": Column("float32"),
    }

    def _check(self) -> None:
        _finite(self, "keypoints", "head_xyxy", "face_xyxy")
        _unit_interval(self, "head_score", "face_score")
