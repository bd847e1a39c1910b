"""MVOR (real surgery, three cameras, boxes only) as the tables that the benchmarks need.

The folder holds `faster_rcnn_bbox.json` (COCO results for all days) and `mvor_v2_days12.json` (images of
all days, people with identities for days 1 and 2). Frames are sparse, so there is no time in them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orveil.trackers.crossview import View
from orveil.trackers.doubles import frames_of, without_nested

SIZE = np.array([640.0, 480.0])
CAMERAS = 3


@dataclass(frozen=True)
class Boxes:
    """N boxes: tick (frame triple) and camera (N,), xyxy (N, 4), score (N,), person (N,; -1 unknown)."""

    tick: NDArray[np.int64]
    camera: NDArray[np.int64]
    xyxy: NDArray[np.float64]
    score: NDArray[np.float64]
    person: NDArray[np.int64]

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Boxes:
        """The rows chosen."""
        return Boxes(self.tick[rows], self.camera[rows], self.xyxy[rows], self.score[rows], self.person[rows])


@dataclass(frozen=True)
class Mvor:
    """Candidates of all days, people of the labelled days, and the day (T,) of every tick."""

    candidates: Boxes
    truth: Boxes
    day: NDArray[np.int64]

    def on(self, boxes: Boxes, days: tuple[int, ...]) -> Boxes:
        """The boxes of some days."""
        return boxes.select(np.isin(self.day[boxes.tick], days))


def load(folder: Path) -> Mvor:
    """Read the folder."""
    document = json.loads((folder / "mvor_v2_days12.json").read_text("utf-8"))
    results = json.loads((folder / "faster_rcnn_bbox.json").read_text("utf-8"))
    images = {i["id"]: i for i in document["images"]}
    keys = sorted({_key(i) for i in images.values()})
    tick = {key: number for number, key in enumerate(keys)}
    return Mvor(
        _boxes(results, images, tick),
        _boxes(document["annotations"], images, tick),
        np.array([day for day, _ in keys]),
    )


def teaching_views(boxes: Boxes, least: float = 0.5) -> list[View]:
    """The confident boxes of each camera, doubles left out."""
    sure = boxes.select(boxes.score >= least)
    kept = sure.select(without_nested(frames_of(sure.camera, sure.tick), sure.xyxy, sure.score))
    views = []
    for camera in range(CAMERAS):
        part = kept.select(kept.camera == camera)
        views.append(View(part.tick, part.xyxy, part.score, SIZE))
    return views


def _key(image: dict) -> tuple[int, int]:  # type: ignore[type-arg]
    return int(image["day_id"]), int(image["id"]) % 10**7


def _boxes(rows: list, images: dict, tick: dict) -> Boxes:  # type: ignore[type-arg]
    """COCO annotations or results as boxes."""
    of = [images[row["image_id"]] for row in rows]
    box = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    box[:, 2:] += box[:, :2]
    return Boxes(
        tick=np.array([tick[_key(image)] for image in of], np.int64),
        camera=np.array([image["cam_id"] - 1 for image in of], np.int64),
        xyxy=box,
        score=np.array([row.get("score", 1.0) for row in rows], np.float64),
        person=np.array([row.get("person_id", -1) for row in rows], np.int64),
    )
