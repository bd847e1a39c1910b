"""Evaluation: how much of each visible face the blurred videos cover, and for how long one stays exposed.

The mask of a frame is drawn again from the regions that the blurring stage logged (boxes.json), by the code
that drew it there. Compressed video is not compared: what counts is which pixels were replaced.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import as_boxes
from orveil.pipeline.stage import InputRef
from orveil.pipeline.types import FACE
from orveil.sim.rle import decode_mask
from orveil.stages.redaction.boxes_file import BoxesFile
from orveil.stages.redaction.mask import draw_mask
from orveil.stages.truth import Truth, TruthBoxes

__all__ = ["FaceCover", "RegionLog", "cover_faces", "measure_exposure", "summarise_cover"]

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class FaceCover:
    """One visible face in one frame: its view, person, frame index, time, and pixels covered of all."""

    session: str
    camera: str
    track_id: int
    index: int
    time_s: float
    covered: int
    pixels: int

    @property
    def share(self) -> float:
        """Covered share in [0, 1]."""
        return self.covered / self.pixels


class RegionLog:
    """The regions that were replaced in one video, as the blurring stage wrote them (docs/boxes-json.md)."""

    def __init__(self, path: Path) -> None:
        boxes = BoxesFile(path)
        self.size = boxes.header.width, boxes.header.height
        self.shape = str(boxes.header.made_by["settings"]["shape"])
        everything = as_boxes([[0, 0, *self.size]])
        self.frames = {f.index: everything if f.whole else f.xyxy for f in boxes.frames()}

    def mask(self, index: int) -> Mask:
        """Which pixels (height, width) of a frame were replaced."""
        return draw_mask(self.frames.get(index, as_boxes([])), self.shape, *self.size)


def measure_exposure(truth: Truth, blurred: InputRef, enough: float) -> dict[str, Any]:
    """The figures of `summarise_cover` over all cameras, and of each ("cameras").

    Args:
        blurred: one shard per (session, camera), with boxes.json.
        enough: share of a face's pixels from which on it counts as covered.
    """
    logs = {(s.session, s.camera): RegionLog(path / "boxes.json") for s, path in blurred.shards}

    def draw(session: str, camera: str, index: int) -> Mask | None:
        log = logs.get((session, camera))
        return None if log is None else log.mask(index)

    covers = cover_faces(truth, draw)
    views = sorted(logs)
    by_view = {view: [c for c in covers if (c.session, c.camera) == view] for view in views}
    cameras = {f"{s}/{c}": summarise_cover(by_view[s, c], enough) for s, c in views}
    return {**summarise_cover(covers, enough), "cameras": cameras}


def cover_faces(truth: Truth, draw: Callable[[str, str, int], Mask | None]) -> list[FaceCover]:
    """Measure every face that is turned to the camera and has pixels in the ground truth.

    Args:
        draw: (session, camera, frame index) -> mask (height, width), True where pixels were replaced; None
            where the frame was not put out at all (its faces are not counted).
    """
    frames, faces = truth.frames, truth.boxes[FACE]
    covers = []
    for frame, rows in _by_frame(faces):
        session, camera = str(frames.session[frame]), str(frames.camera[frame])
        index = int(frames.index[frame])
        mask = draw(session, camera, index)
        if mask is None:
            continue
        for row in rows:
            rle = faces.masks[row]
            pixels = decode_mask(rle) if rle is not None else np.zeros((0, 0), dtype=bool)
            if pixels.any():
                covered = int((pixels & _fitted(mask, pixels.shape)).sum())
                key = (session, camera, int(faces.track_id[row]), index)
                covers.append(FaceCover(*key, float(frames.time_s[frame]), covered, int(pixels.sum())))
    return covers


def _by_frame(faces: TruthBoxes) -> Iterable[tuple[int, list[int]]]:
    groups: dict[int, list[int]] = defaultdict(list)
    for row in np.nonzero(faces.face_visible & ~faces.ignore)[0].tolist():
        if faces.masks[row] is not None:
            groups[int(faces.frame[row])].append(row)
    return sorted(groups.items())


def _fitted(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """The mask cut or padded (uncovered) to the size of the ground truth."""
    if mask.shape == shape:
        return mask
    fitted = np.zeros(shape, dtype=bool)
    height, width = min(mask.shape[0], shape[0]), min(mask.shape[1], shape[1])
    fitted[:height, :width] = mask[:height, :width]
    return fitted


def summarise_cover(covers: Iterable[FaceCover], enough: float) -> dict[str, Any]:
    """coverage: share of all face pixels covered; longest_exposure: the longest run of consecutive frames of
    one camera in which one person's visible face is covered less than `enough`, in frames and seconds."""
    covers = list(covers)
    if not covers:
        return {"faces": 0, "coverage": None, "exposed_faces": None, "longest_exposure": None}
    pixels = sum(cover.pixels for cover in covers)
    return {
        "faces": len(covers),
        "coverage": sum(cover.covered for cover in covers) / pixels,
        "exposed_faces": sum(cover.share < enough for cover in covers),
        "longest_exposure": _longest(covers, enough),
    }


def _longest(covers: list[FaceCover], enough: float) -> dict[str, Any]:
    best: dict[str, Any] = {"frames": 0, "seconds": 0.0}
    period = _frame_period(covers)
    run: list[FaceCover] = []
    for cover in sorted(covers, key=lambda c: (c.session, c.camera, c.track_id, c.index)):
        joins = run and _person(cover) == _person(run[-1]) and cover.index == run[-1].index + 1
        exposed = cover.share < enough
        run = [*run, cover] if exposed and joins else [cover] if exposed else []
        if len(run) > best["frames"]:
            seconds = run[-1].time_s - run[0].time_s + period.get((cover.session, cover.camera), 0.0)
            best = {
                "frames": len(run),
                "seconds": round(seconds, 4),
                "session": cover.session,
                "camera": cover.camera,
                "first_frame": run[0].index,
            }
    return best


def _person(cover: FaceCover) -> tuple[str, str, int]:
    return cover.session, cover.camera, cover.track_id


def _frame_period(covers: list[FaceCover]) -> dict[tuple[str, str], float]:
    """Seconds between frames of each camera, from the frames that show faces."""
    frames: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for cover in covers:
        frames[(cover.session, cover.camera)][cover.index] = cover.time_s
    result = {}
    for view, times in frames.items():
        index, time = np.array(sorted(times)), np.array([times[i] for i in sorted(times)])
        result[view] = float(np.median(np.diff(time) / np.diff(index))) if len(index) > 1 else 0.0
    return result
