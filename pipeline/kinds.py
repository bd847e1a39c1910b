"""Engine: the kinds of artifact that stages exchange; each knows whether a directory holds a whole one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from orveil.pipeline.columns import Table
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.tables import read_table
from orveil.pipeline.types import (
    Associations,
    Detections,
    FrameLabels,
    MediaFiles,
    MediaIndex,
    Motion,
    Poses,
    PseudoLabels,
    Tracks,
)  # fmt: skip

__all__ = [
    "AssociationsKind", "BlurredKind", "BundleKind", "DetectionsKind", "MediaKind", "MetricsKind",
    "MotionKind", "PosesKind", "PseudoLabelsKind", "ReportKind", "TracksKind", "WeightsKind", "require_files",
]  # fmt: skip


def require_files(directory: Path, *names: str) -> None:
    """Raise where one of the named files is missing or empty."""
    for name in names:
        path = directory / name
        if not path.is_file() or path.stat().st_size == 0:
            raise OrveilError(
                f"the stage did not write {name}", where=str(directory), remedy="report this bug"
            )


class TableKind:
    """An artifact that consists of tables."""

    name: ClassVar[str]
    tables: ClassVar[tuple[type[Table], ...]]

    @classmethod
    def validate(cls, directory: Path) -> None:
        """Read every table once: reading checks schema, version and rules."""
        for table in cls.tables:
            read_table(table, directory)


class MediaKind(TableKind):
    """files.parquet and frames.parquet."""

    name = "media"
    tables = (MediaFiles, MediaIndex)


class MotionKind(TableKind):
    """motion.parquet."""

    name = "motion"
    tables = (Motion,)


class DetectionsKind(TableKind):
    """detections.parquet."""

    name = "detections"
    tables = (Detections,)


class TracksKind(TableKind):
    """tracks.parquet."""

    name = "tracks"
    tables = (Tracks,)


class AssociationsKind(TableKind):
    """associations.parquet."""

    name = "associations"
    tables = (Associations,)


class PseudoLabelsKind(TableKind):
    """labels.parquet, frames_used.parquet, and labels.coco.json for other tools."""

    name = "pseudolabels"
    tables = (PseudoLabels, FrameLabels)


class PosesKind(TableKind):
    """poses.parquet."""

    name = "poses"
    tables = (Poses,)


class FilesKind:
    """An artifact that consists of named files, some of them JSON."""

    name: ClassVar[str]
    files: ClassVar[tuple[str, ...]]

    @classmethod
    def validate(cls, directory: Path) -> None:
        """Every file is there, and every JSON file parses."""
        require_files(directory, *cls.files)
        for path in directory.glob("*.json"):
            _parse(path)


class WeightsKind(FilesKind):
    """model.safetensors, config.py (resolved mmengine config) and weights.json (kind, classes, sha256)."""

    name = "weights"
    files = ("model.safetensors", "config.py", "weights.json")


class BundleKind(FilesKind):
    """The appliance's bundle: detector.onnx, bundle.json and what they name."""

    name = "bundle"
    files = ("detector.onnx", "bundle.json")


class BlurredKind(FilesKind):
    """One blurred video: video.mp4, redaction.json, and the boxes that were covered."""

    name = "blurred"
    files = ("video.mp4", "redaction.json", "detections.parquet")


class MetricsKind(FilesKind):
    """metrics.json: rows of the before/after table."""

    name = "metrics"
    files = ("metrics.json",)


class ReportKind(FilesKind):
    """report.html."""

    name = "report"
    files = ("report.html",)


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise OrveilError(f"{path.name} is not valid JSON: {error}", where=str(path)) from error
