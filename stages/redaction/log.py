"""Stages: what a redaction says about itself: settings, counts, faults; no names, no pixels."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from orveil.pipeline.codecs import CODECS
from orveil.pipeline.errors import explain_os_error
from orveil.stages.redaction.kernels import KERNELS
from orveil.stages.redaction.mask import CELLS
from orveil.stages.redaction.temporal import LABELS, SOURCES, Covered
from orveil.stages.runtime import Boxes

__all__ = ["BlurSettings", "Observer", "RedactionLog", "settings_of"]

CHOICES = {
    "target": ("face", "head", "body"), "style": ("gaussian", "mosaic", "solid"), "shape": ("ellipse", "box"),
    "audio": ("keep", "drop"), "kernel": KERNELS, "codec": CODECS,
}  # fmt: skip
PACKAGES = ("orveil", "av", "numpy", "onnxruntime", "opencv-python-headless")


@dataclass(frozen=True)
class BlurSettings:
    """What is covered and how; `[blur]` in a site file has some of these fields.

    Attributes:
        target, style, shape, margin, every, hold_s, audio, crf, preset: as in a site file.
        kernel: how detections are carried over time; anything but `tracks` is for comparison only.
        roi: regions of interest (x, y, width, height), px of the upright picture; only they are searched and
            changed. Empty: everything.
        feather: share of the margin in which the mask fades in.
        cells: averages that are kept across the shorter side of a region: fewer blur more.
        codec: H.264 encoder, see `codecs.CODECS`.
        looks_s: seconds between second looks (turned, larger) for whom the plain search misses; 0: none.
    """

    target: str = "head"
    style: str = "gaussian"
    shape: str = "ellipse"
    margin: float = 0.15
    every: int = 1
    hold_s: float = 0.5
    audio: str = "drop"
    crf: int = 20
    preset: str = "veryfast"
    kernel: str = "tracks"
    roi: tuple[tuple[int, int, int, int], ...] = ()
    feather: float = 0.0
    cells: int = CELLS
    codec: str = "libx264"
    looks_s: float = 0.5


def settings_of(params: Any) -> BlurSettings:
    """The settings of anything with these attributes.

    Raises:
        ValueError: a value that does not exist or is out of range.
    """
    fields = BlurSettings.__dataclass_fields__
    settings = BlurSettings(**{name: getattr(params, name) for name in fields if hasattr(params, name)})
    for name, allowed in CHOICES.items():
        if getattr(settings, name) not in allowed:
            raise ValueError(f"{name} = {getattr(settings, name)!r} is none of {', '.join(allowed)}")
    if settings.every < 1 or not settings.hold_s >= 0 or settings.cells < 1:
        raise ValueError("every and cells must be at least 1, hold_s at least 0")
    if not settings.looks_s >= 0:
        raise ValueError("looks_s must be at least 0")
    if not 0 <= settings.margin <= 1 or not 0 <= settings.feather <= 1:
        raise ValueError("margin and feather must be within [0, 1]")
    return settings


@dataclass(frozen=True)
class Observer:
    """Told what was found and what was covered, frame by frame.

    Attributes:
        found: (frame index, pts, raw boxes of the model), where the model ran.
        decided: (frame index, pts, what is to be covered before the margin, or None for the whole frame, and
            then why).
        covered: (frame index, regions (N, 4) px that were replaced, or None for the whole frame).
    """

    found: Callable[[int, int, Boxes], None] = lambda *_: None
    decided: Callable[[int, int, Covered | None, str], None] = lambda *_: None
    covered: Callable[[int, NDArray[Any] | None], None] = lambda *_: None


@dataclass
class RedactionLog:
    """One redaction. `content()` is the same for the same input, bundle and settings; timings are apart."""

    settings: BlurSettings
    input: dict[str, Any]
    bundle: dict[str, str]
    output: dict[str, Any] = field(default_factory=dict)
    frames: Counter[str] = field(default_factory=Counter)
    boxes: Counter[str] = field(default_factory=Counter)
    longest_gap: dict[str, float] = field(default_factory=dict)
    faults: list[dict[str, Any]] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    spread: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    boxes_file: str = ""
    tracks: set[tuple[str, int]] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        """Whether every frame was decoded, inferred and covered only where something was found."""
        return not self.faults

    def fault(self, frame: int, reason: str) -> None:
        """Note a frame that was covered as a whole; neighbours with the same reason share a line."""
        self.frames["covered"] += 1
        last = self.faults[-1] if self.faults else None
        if last and last["reason"] == reason and last["last"] == frame - 1:
            last["last"] = frame
        else:
            self.faults.append({"first": frame, "last": frame, "reason": reason})

    def cover(self, covered: Covered, regions: int) -> None:
        """Note what was covered in one frame, in so many regions."""
        self.boxes.update(covered.sources)
        self.boxes.update(f"of {origin.label}" for origin in covered.origins)
        self.tracks.update((origin.label, origin.track) for origin in covered.origins if origin.track >= 0)
        self.frames["with_boxes"] += bool(regions)

    def content(self) -> dict[str, Any]:
        """What goes into redaction.json."""
        settings = asdict(self.settings)
        canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"))
        counts = ("in", "out", "inferred", "with_boxes", "covered")
        return {
            "schema": 1,
            "complete": self.complete,
            "input": self.input,
            "output": self.output,
            "bundle": self.bundle,
            "boxes_file": {"sha256": self.boxes_file} if self.boxes_file else {},
            "settings": {**settings, "sha256": hashlib.sha256(canonical.encode()).hexdigest()},
            "frames": {name: self.frames[name] for name in counts},
            "boxes": {name: self.boxes[name] for name in SOURCES},
            "covered": {label: self._covered(label) for label in LABELS},
            "longest_gap": self.longest_gap,
            "faults": self.faults,
            "notes": self.notes,
            "versions": {name: _version(name) for name in PACKAGES},
        }

    def _covered(self, label: str) -> dict[str, int]:
        tracks = sum(name == label for name, _ in self.tracks)
        return {"boxes": self.boxes[f"of {label}"], "tracks": tracks}

    def write(self, path: Path, timings: bool = True) -> None:
        """Write the log as JSON, whole or not at all."""
        content = {**self.content(), **({"timings_s": self.timings} if timings else {})}
        partial = path.with_name(f".{path.name}.partial")
        try:
            partial.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise explain_os_error(error, str(path)) from error


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
