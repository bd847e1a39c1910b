"""sim, ground truth on disk: frozen records of what a frame shows -> one COCO dict, gt.json or gt.json.gz.

The renderer makes one `FrameRecord` per picture; `frame_dict` turns it into plain JSON (so that worker
processes can hand it over as text) and `assemble` numbers the images and annotations.
Boxes in records are xyxy in pixels with an exclusive maximum; COCO wants x, y, width, height.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.errors import OrveilError
from orveil.sim.rle import encode_mask

Json = dict[str, Any]
Float = NDArray[np.floating[Any]]

PERSON, HEAD, FACE = 1, 2, 3
CATEGORIES: list[Json] = [
    {"id": PERSON, "name": "person"},
    {"id": HEAD, "name": "head"},
    {"id": FACE, "name": "face"},
]
# Slices of the 133 COCO-WholeBody keypoints; COCO-WholeBody's own field names.
BODY = slice(0, 17)
PARTS: dict[str, slice] = {
    "foot": slice(17, 23),
    "face": slice(23, 91),
    "lefthand": slice(91, 112),
    "righthand": slice(112, 133),
}
HARD_FRACTION, HARD_HEIGHT = 0.35, 60


@dataclass(frozen=True)
class HeadRecord:
    """The visible part of one head: xyxy box in pixels, angle of the gaze axis to the camera in degrees."""

    box: tuple[int, int, int, int]
    visible_fraction: float
    face_visible: bool
    face_angle_deg: float


@dataclass(frozen=True)
class PersonRecord:
    """What one frame shows of one person.

    Args:
        track_id: the same person in all cameras and frames.
        role: free text, such as `surgeon` or `patient`.
        box: xyxy of the visible pixels; full_box: amodal, may leave the picture.
        visible_fraction: visible pixels / pixels of the person alone, in 0..1.
        pixels: number of visible pixels.
        keypoints: (133, 3) x, y in pixels and v in {0, 1, 2}, or None where not asked for.
        head: None where (almost) nothing of the head is visible.
        face_mask: (height, width) bool, visible face pixels, or None where there are none.

    """

    track_id: int
    role: str
    box: tuple[int, int, int, int]
    full_box: tuple[float, float, float, float]
    visible_fraction: float
    pixels: int
    keypoints: Float | None = None
    head: HeadRecord | None = None
    face_mask: NDArray[np.bool_] | None = None

    @property
    def is_hard(self) -> bool:
        """Mostly hidden or low: the people that detectors miss."""
        return self.visible_fraction < HARD_FRACTION or self.box[3] - self.box[1] < HARD_HEIGHT


@dataclass(frozen=True)
class FrameRecord:
    """One picture of one camera: time in seconds on the scene's clock, pts in the video's time base."""

    file_name: str
    camera_id: int
    frame_index: int
    time: float
    pts: int
    width: int
    height: int
    people: tuple[PersonRecord, ...] = ()


def _xywh(box: Sequence[float]) -> list[float]:
    """xyxy -> xywh, at most one decimal, integers where they are whole (small files)."""
    x0, y0, x1, y1 = box
    return [_short(x0), _short(y0), _short(x1 - x0), _short(y1 - y0)]


def _short(value: float, decimals: int = 1) -> float:
    rounded = round(float(value), decimals)
    return int(rounded) if rounded == int(rounded) else rounded


def _flat(points: Float) -> list[float]:
    """(K, 3) -> [x, y, v, ...]; points with v = 0 are 0, 0, 0 as in COCO."""
    out: list[float] = []
    for x, y, v in points:
        out += [_short(x), _short(y), int(v)] if v > 0 else [0, 0, 0]
    return out


def _part_box(points: Float) -> list[float]:
    """xywh box round the points inside the picture, zeros where there are none."""
    inside = points[points[:, 2] > 0]
    if len(inside) == 0:
        return [0, 0, 0, 0]
    return _xywh([*inside[:, :2].min(0), *inside[:, :2].max(0)])


def keypoint_fields(keypoints: Float) -> Json:
    """COCO-WholeBody fields of one person: flat keypoint lists, part boxes, `*_valid`, `num_keypoints`.

    A part is valid where at least half of its points are visible (v = 2). Points keep their v of 0, 1 or
    2 in any case; `pose_annotations` blanks the invalid parts as COCO-WholeBody does.

    Raises:
        ValueError: keypoints are not (133, 3).

    """
    if keypoints.shape != (133, 3):
        raise ValueError(f"keypoints must be (133, 3), not {keypoints.shape}")
    fields: Json = {
        "keypoints": _flat(keypoints[BODY]),
        "num_keypoints": int((keypoints[BODY, 2] > 0).sum()),
    }
    for part, rows in PARTS.items():
        points = keypoints[rows]
        fields[f"{part}_kpts"] = _flat(points)
        fields[f"{part}_valid"] = bool((points[:, 2] == 2).mean() >= 0.5)
        if part != "foot":
            fields[f"{part}_box"] = _part_box(points)
    return fields


def person_dicts(person: PersonRecord) -> list[Json]:
    """The person, head and face annotations of one person, without `id` and `image_id`."""
    shared: Json = {"track_id": person.track_id, "role": person.role, "iscrowd": 0}
    body: Json = {
        "category_id": PERSON,
        "bbox": _xywh(person.box),
        "area": person.pixels,
        "visible_fraction": round(person.visible_fraction, 4),
        "full_bbox": _xywh(person.full_box),
        "is_hard": person.is_hard,
        "segmentation": [],
        **shared,
    }
    if person.keypoints is not None:
        body.update(keypoint_fields(person.keypoints))
    out = [body]
    if person.head is not None:
        out.append({**_head_dict(person.head, person.is_hard), **shared})
    if person.face_mask is not None and person.face_mask.any():
        visible = person.head is not None and person.head.face_visible
        out.append({**_face_dict(person.face_mask, visible, person.is_hard), **shared})
    return out


def _head_dict(head: HeadRecord, is_hard: bool) -> Json:
    box = _xywh(head.box)
    return {
        "category_id": HEAD,
        "bbox": box,
        "area": box[2] * box[3],
        "visible_fraction": round(head.visible_fraction, 4),
        "face_visible": head.face_visible,
        "face_angle_deg": round(head.face_angle_deg, 1),
        "is_hard": is_hard,
    }


def _face_dict(mask: NDArray[np.bool_], face_visible: bool, is_hard: bool) -> Json:
    ys, xs = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return {
        "category_id": FACE,
        "bbox": _xywh([int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1]),
        "area": int(mask.sum()),
        "segmentation": encode_mask(mask),
        "face_visible": face_visible,
        "is_hard": is_hard,
    }


def frame_dict(frame: FrameRecord) -> Json:
    """{"image": ..., "annotations": [...]}: plain JSON of one frame, still without ids."""
    image: Json = {
        "file_name": frame.file_name,
        "width": frame.width,
        "height": frame.height,
        "camera_id": frame.camera_id,
        "frame_index": frame.frame_index,
        "time": round(frame.time, 4),
        "pts": frame.pts,
    }
    return {"image": image, "annotations": [a for person in frame.people for a in person_dicts(person)]}


def assemble(
    frames: Iterable[FrameRecord | Mapping[str, Any]],
    info: Mapping[str, Any],
    cameras: Sequence[Mapping[str, Any]] = (),
    people: Sequence[Mapping[str, Any]] = (),
) -> Json:
    """One COCO dict of all frames (records, or what `frame_dict` made of them), numbered from 1.

    The order is by camera and frame index, whatever the order of `frames`, so that the number of worker
    processes does not show.
    """
    plain = [frame_dict(f) if isinstance(f, FrameRecord) else f for f in frames]
    plain.sort(key=lambda f: (f["image"]["camera_id"], f["image"]["frame_index"], f["image"]["file_name"]))
    images: list[Json] = []
    annotations: list[Json] = []
    for image_id, frame in enumerate(plain, 1):
        images.append({"id": image_id, **frame["image"]})
        for annotation in frame["annotations"]:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
    return {
        "info": dict(info),
        "categories": CATEGORIES,
        "cameras": [dict(c) for c in cameras],
        "people": [dict(p) for p in people],
        "images": images,
        "annotations": annotations,
    }


def pose_annotations(gt: Mapping[str, Any]) -> Json:
    """The part of `gt` that pose training reads: person annotations with keypoints, nothing else.

    mmpose's CocoWholeBodyDataset wants keypoints on every annotation, so heads and faces go; parts that
    are not valid are blanked (v = 0), because a hand or face nobody sees teaches only noise.
    """
    kept: list[Json] = []
    for annotation in gt["annotations"]:
        if annotation["category_id"] != PERSON or "keypoints" not in annotation:
            continue
        person = dict(annotation)
        for part in PARTS:
            if not person[f"{part}_valid"]:
                person[f"{part}_kpts"] = [0] * len(person[f"{part}_kpts"])
        kept.append(person)
    return {**gt, "categories": CATEGORIES[:1], "annotations": kept}


def body_only(gt: Mapping[str, Any]) -> Json:
    """`gt` without feet, face and hand keypoints (the 17 body points stay): a quarter of the size."""
    dropped = {f"{part}_{field}" for part in PARTS for field in ("kpts", "valid", "box")}
    annotations = [{k: v for k, v in a.items() if k not in dropped} for a in gt["annotations"]]
    return {**gt, "annotations": annotations}


def write_gt(gt: Mapping[str, Any], path: Path) -> None:
    """Write `gt` compactly to `path`; gzip where the name ends in .gz (same bytes for the same content)."""
    data = json.dumps(gt, separators=(",", ":")).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data, 9, mtime=0)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)


def read_gt(path: Path) -> Json:
    """Read what `write_gt` wrote.

    Raises:
        OrveilError: the file is missing, is not JSON, or lacks images, annotations or categories.

    """
    try:
        data = path.read_bytes()
        gt = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    except (OSError, EOFError, ValueError) as error:
        raise OrveilError(
            f"ground truth cannot be read: {error}",
            where=str(path),
            remedy="give a COCO gt.json or gt.json.gz",
        ) from error
    missing = [k for k in ("images", "annotations", "categories") if not isinstance(gt, dict) or k not in gt]
    if missing:
        raise OrveilError(
            f"ground truth lacks {', '.join(missing)}",
            where=str(path),
            remedy="give a COCO gt.json or gt.json.gz",
        )
    return dict(gt)
