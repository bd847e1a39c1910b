"""Stage part: pseudo labels as COCO json for other tools, with everything that the tables know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from orveil.pipeline.geometry import to_xywh
from orveil.pipeline.media import upright_size
from orveil.pipeline.types import PERSON, POSITIVE, MediaFiles, MediaIndex, PseudoLabels

__all__ = ["write_coco"]

NAMES = ("person", "head", "face")


def write_coco(files: MediaFiles, frames: MediaIndex, labels: PseudoLabels, directory: Path) -> Path:
    """Write `labels.coco.json`; ignored boxes carry `ignore` and `iscrowd` 1, as COCO evaluation expects.

    Args:
        files: one row per camera.
        frames: every frame of the session, with or without labels.
        labels: their pseudo labels.
        directory: where to write.
    """
    images, number = _images(files, frames)
    keys = zip(labels.camera.tolist(), labels.index.tolist(), strict=True)
    xywh = to_xywh(labels.xyxy)
    annotations = [
        _annotation(labels, row, number[key], xywh[row]) for row, key in enumerate(keys)
    ]  # fmt: skip
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)],
    }
    path = directory / "labels.coco.json"
    path.write_text(json.dumps(document, separators=(",", ":")), "utf-8")
    return path


def _images(files: MediaFiles, frames: MediaIndex) -> tuple[list[dict[str, Any]], dict[tuple[str, int], int]]:
    size = {
        str(files.camera[k]): upright_size(int(files.width[k]), int(files.height[k]), int(files.rotation[k]))
        for k in range(len(files))
    }
    images: list[dict[str, Any]] = []
    number: dict[tuple[str, int], int] = {}
    for row in np.lexsort((frames.index, frames.camera)).tolist():
        camera, index = str(frames.camera[row]), int(frames.index[row])
        number[camera, index] = len(images) + 1
        images.append(
            {
                "id": len(images) + 1,
                "file_name": f"{camera}/{index:06d}",
                "session": str(frames.session[row]),
                "camera_id": camera,
                "frame_index": index,
                "frame_pts": int(frames.pts[row]),
                "time": float(frames.time_s[row]),
                "width": size[camera][0],
                "height": size[camera][1],
            }
        )
    return images, number


def _annotation(labels: PseudoLabels, row: int, image: int, xywh: Any) -> dict[str, Any]:
    positive = int(labels.state[row]) == POSITIVE
    box = [round(float(value), 2) for value in xywh]
    return {
        "id": row + 1,
        "image_id": image,
        "category_id": int(labels.label[row]) - PERSON + 1,
        "bbox": box,
        "area": round(box[2] * box[3], 2),
        "iscrowd": 0 if positive else 1,
        "ignore": 0 if positive else 1,
        "score": round(float(labels.score[row]), 5),
        "weight": round(float(labels.weight[row]), 5),
        "state": "positive" if positive else "ignore",
        "source": str(labels.source[row]),
        "round": int(labels.round[row]),
        "track_id": int(labels.track_id[row]),
        "person_id": int(labels.person_id[row]),
        "camera_id": str(labels.camera[row]),
        "frame_index": int(labels.index[row]),
        "frame_pts": int(labels.pts[row]),
    }
