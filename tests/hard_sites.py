"""Short recordings on which learning from one's own labels may go wrong, cut from the embedded site's."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import iou
from orveil.pipeline.local import run_local
from orveil.pipeline.media import frames
from orveil.pipeline.settings import SiteSettings
from orveil.pipeline.stage import InputRef
from orveil.pipeline.tables import read_tables
from orveil.pipeline.types import PERSON, POSITIVE, Detections, PseudoLabels
from orveil.stages.adapt import build_graph
from orveil.stages.guard import agreement

EMBEDDED = Path(__file__).resolve().parent.parent / "sim" / "embedded"
CAMERAS = ("cam01", "cam02")
COUNT, STEP = 16, 3
SIZE = (480, 270)
SCALE = 0.5
FINETUNE = {"iterations": 16, "batch_size": 4, "long_side": 320}
Picture = NDArray[np.uint8]

__all__ = [
    "CAMERAS",
    "FINETUNE",
    "Round",
    "empty_room",
    "quality",
    "recording",
    "run_round",
    "share_right",
    "with_mannequin",
    "write",
]


def recording(camera: str) -> list[Picture]:
    """Every third of the first pictures of a camera, at half size."""
    found = frames(EMBEDDED / f"{camera}.mp4", stop=COUNT * STEP)
    return [
        cv2.resize(picture, SIZE, interpolation=cv2.INTER_AREA) for at, _, picture in found if at % STEP == 0
    ]


def truth(camera: str) -> dict[int, NDArray[np.float32]]:
    """(K, 4) person boxes of every picture of `recording`."""
    data = json.loads(gzip.decompress((EMBEDDED / "gt.json.gz").read_bytes()))
    frame_of = {
        image["id"]: image["frame_index"] // STEP
        for image in data["images"]
        if image["file_name"].startswith(camera) and image["frame_index"] % STEP == 0
    }
    boxes: dict[int, list[list[float]]] = {at: [] for at in range(COUNT)}
    for row in data["annotations"]:
        at = frame_of.get(row["image_id"], COUNT)
        if at < COUNT and row["category_id"] == 1 and row["visible_fraction"] > 0.1:
            x, y, w, h = row["bbox"]
            boxes[at].append([x, y, x + w, y + h])
    return {at: np.array(found, np.float32).reshape(-1, 4) * SCALE for at, found in boxes.items()}


def empty_room(camera: str) -> list[Picture]:
    """The recording without people: each pixel as it is when nobody stands there, with sensor noise."""
    pictures, boxes = recording(camera), truth(camera)
    free = np.ones((len(pictures), SIZE[1], SIZE[0]), bool)
    for at, found in boxes.items():
        for x0, y0, x1, y1 in found.round().astype(int):
            free[at, max(y0 - 6, 0) : y1 + 6, max(x0 - 6, 0) : x1 + 6] = False
    stack = np.where(free[..., None], np.stack(pictures).astype(np.float32), np.nan)
    hidden = ~free.any(0)
    plate = np.nan_to_num(np.nanmedian(np.where(hidden[..., None], 0.0, stack), axis=0)).astype(np.uint8)
    plate = cv2.inpaint(plate, hidden.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    rng = np.random.default_rng(len(camera))
    return [np.clip(plate + rng.normal(0, 3, plate.shape), 0, 255).astype(np.uint8) for _ in pictures]


def with_mannequin(camera: str) -> list[Picture]:
    """The recording with the picture of somebody who never moves, where nobody else comes by."""
    pictures, boxes = recording(camera), truth(camera)
    everybody = np.concatenate(list(boxes.values()))
    x0, y0, x1, y1 = max(boxes[0], key=lambda box: (box[2] - box[0]) * (box[3] - box[1])).round().astype(int)
    crop = pictures[0][y0:y1, x0:x1]
    height, width = crop.shape[:2]
    places = [(x, SIZE[1] - height) for x in range(0, SIZE[0] - width, 4)]

    def crowd(place: tuple[int, int]) -> float:
        low = np.maximum(everybody[:, :2], place)
        high = np.minimum(everybody[:, 2:], np.add(place, (width, height)))
        return float(np.clip(high - low, 0, None).prod(1).sum())

    x, y = min(places, key=crowd)
    for picture in pictures:
        picture[y : y + height, x : x + width] = crop
    return pictures


def write(folder: Path, pictures: Mapping[str, list[Picture]]) -> Path:
    """The recordings as a folder of videos."""
    from videos import write_video

    folder.mkdir(parents=True)
    for camera, found in pictures.items():
        write_video(folder / f"{camera}.mp4", found)
    return folder


@dataclass(frozen=True)
class Round:
    """What one round came to: weights, the guard's verdict, candidates before and after, and the labels."""

    start: InputRef
    trained: InputRef
    accepted: InputRef
    verdict: Mapping[str, Any]
    before: Detections
    after: Detections
    labels: PseudoLabels


def run_round(folder: Path, videos: Path, **site: Any) -> Round:
    """One real round: candidates, tracks, labels, training, and the guard's verdict."""
    settings = SiteSettings.model_validate(
        {
            "name": "hard",
            "work": folder / "work",
            "videos": videos,
            "rounds": 1,
            "ingest": {"sync": "given"},
            "detect": {"long_side": 320},
            "associate": {"epochs": 10},
            "pseudolabel": {"frames": 20, "holdout": 0.3, "false_discovery_rate": 0.25},
            "finetune": FINETUNE,
            **site,
        }
    )
    from orveil.pipeline.artifact import Store

    graph = build_graph(settings).upto("guard_1")
    for node in graph:
        # With one thread: two that wait for each other on a busy machine take many times as long.
        node.stage.needs = replace(node.stage.needs, threads=1)
    done = run_local(graph, Store(folder / "work"))
    verdict = json.loads((done["guard_1"].path / "guard.json").read_text())

    def table(kind: type[Any], name: str) -> Any:
        return read_tables(kind, done[name].paths())

    return Round(
        done["weights_0"], done["weights_1"], done["guard_1"], verdict, table(Detections, "candidates_1"),
        table(Detections, "candidates_2"), table(PseudoLabels, "labels_1"),
    )  # fmt: skip


def quality(found: Detections) -> float:
    """Average precision of person boxes at IoU 0.5 over all cameras' pictures."""
    rows = [(camera, at, box) for camera in CAMERAS for at, boxes in truth(camera).items() for box in boxes]
    count = len(rows)
    labels = PseudoLabels(
        session=["main"] * count, camera=[row[0] for row in rows], index=[row[1] for row in rows],
        pts=[0] * count, label_id=range(count), track_id=range(count), person_id=range(count),
        xyxy=[row[2] for row in rows], label=[PERSON] * count, score=[1.0] * count, weight=[1.0] * count,
        state=[POSITIVE] * count, source=["detected"] * count, round=[1] * count,
    )  # fmt: skip
    return agreement(found.select(found.label == PERSON), labels, set()) or 0.0


def share_right(found: Detections) -> float:
    """Share of the boxes that overlap a true person by an IoU of 0.5."""
    right = 0
    boxes = {camera: truth(camera) for camera in CAMERAS}
    for camera, at, box in zip(found.camera.tolist(), found.index.tolist(), found.xyxy, strict=True):
        right += bool((iou(box[None], boxes[camera][at]) >= 0.5).any())
    return right / max(len(found), 1)
