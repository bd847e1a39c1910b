"""Stages, redaction: video + bundle -> boxes.json, to be looked through, corrected and rendered."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import as_boxes
from orveil.stages.redact import analyse_video
from orveil.stages.redaction.boxes_file import BoxesWriter
from orveil.stages.redaction.boxes_schema import Frame, Header
from orveil.stages.redaction.log import Observer, RedactionLog, settings_of
from orveil.stages.redaction.look import Look
from orveil.stages.redaction.mask import regions_px
from orveil.stages.redaction.search import limits_of
from orveil.stages.redaction.temporal import Covered, Origin
from orveil.stages.runtime import Bundle, sha256_of

__all__ = ["analyse", "frame_of", "header_of"]

Progress = Callable[[int, int, str], None]


def analyse(
    source: Path, target: Path, bundle: Bundle, params: Any, progress: Progress | None = None, *,
    threads: int = 2,
) -> RedactionLog:  # fmt: skip
    """Write what `blur_video` would cover: margin included, cut at the picture and the regions of interest.

    Args:
        source: video; target: boxes file to write, in a folder that exists.
        bundle, params, progress, threads: as for `blur_video`.

    Returns:
        The log; where it is not complete, some frames are to be covered as a whole.

    Raises:
        OrveilError: nothing could be written; no file is left behind.
    """
    settings, look = settings_of(params), Look.at(source)
    limits = limits_of(settings.roi, *look.size, 1 if "444" in look.pixel_format else 2)
    with BoxesWriter(target, header_of(look, sha256_of(source), bundle, settings)) as writer:

        def decided(index: int, pts: int, covered: Covered | None, fault: str) -> None:
            writer.write(frame_of(index, pts, covered, fault, settings.margin, look.size, limits))

        return analyse_video(source, bundle, params, Observer(decided=decided), progress, threads=threads)


def header_of(look: Look, sha256: str, bundle: Bundle, settings: Any) -> Header:
    """The header of a boxes file that a bundle makes of a video."""
    record = {"tool": f"orveil {importlib.metadata.version('orveil')}", "bundle": bundle.sha256,
              "settings": asdict(settings)}  # fmt: skip
    return Header(sha256, 0, *look.size, look.time_base, record)


def frame_of(
    index: int, pts: int, covered: Covered | None, fault: str, margin: float, size: tuple[int, int],
    limits: NDArray[Any] | None = None,
) -> Frame:  # fmt: skip
    """What was decided about a frame as a frame of a boxes file, with the very regions that are replaced.

    Args:
        covered: before the margin, None for the whole frame; fault: why that.
        margin, limits: see `mask.regions_px`; size: (width, height) of the upright picture.
    """
    if covered is None:
        return Frame(index, pts, as_boxes([]), (), fault or "not judged")
    regions: list[NDArray[np.float32]] = []
    origins: list[Origin] = []
    for box, origin in zip(covered.xyxy, covered.origins, strict=True):
        parts = regions_px(box[None], margin, *size, limits)
        regions.append(parts)
        # A track has one box of a label in a frame: what reaches into a second region is not of it.
        origins += [origin if part == 0 else origin._replace(track=-1) for part in range(len(parts))]
    return Frame(index, pts, as_boxes(np.concatenate([as_boxes([]), *regions])), tuple(origins))
