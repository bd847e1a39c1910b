"""OpenMMLab room, labelled pictures on disk: COCO json as sample sources for training and evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.errors import OrveilError
from orveil.stages.mm_data import DetectionSample, PoseSample

__all__ = ["CocoDetections", "CocoPoses", "read_picture", "read_truth"]

MIN_VISIBLE = 0.1
"""Persons and heads of which less is in sight are places to ignore."""
MIN_SIDE = {"person": 8.0, "head": 4.0}
"""Shortest side of a labelled box, px; smaller ones are places to ignore."""
OCCLUDED_LEVEL, ABSENT_WEIGHT = 0.3, 0.1
"""Confidence taught for a keypoint behind something; loss weight of one that is out of the picture."""
POSE_MIN_VISIBLE, POSE_MIN_HEIGHT = 0.2, 24.0
PARTS = (
    ("keypoints", 17),
    ("foot_kpts", 6),
    ("face_kpts", 68),
    ("lefthand_kpts", 21),
    ("righthand_kpts", 21),
)


def read_truth(path: Path) -> dict[str, Any]:
    """A COCO json; raises `OrveilError` where there is none."""
    try:
        truth: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise OrveilError(
            f"the annotations cannot be read: {error}", where=str(path), remedy="render the pictures again"
        ) from error
    return truth


def read_picture(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) BGR; raises `OrveilError` where the file is no picture."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise OrveilError("the picture cannot be read", where=str(path), remedy="render the pictures again")
    return np.asarray(image, np.uint8)


def _xyxy(annotation: Mapping[str, Any]) -> list[float]:
    x, y, w, h = annotation["bbox"]
    return [x, y, x + w, y + h]


class _CocoPictures:
    """Base: the pictures of a COCO json and the annotations of each."""

    def __init__(self, folder: Path, annotations: str) -> None:
        self.folder = folder
        truth = read_truth(folder / annotations)
        self.names = {c["id"]: c["name"] for c in truth["categories"]}
        self.images: list[dict[str, Any]] = truth["images"]
        self.of_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in self.images}
        for annotation in truth["annotations"]:
            self.of_image[annotation["image_id"]].append(annotation)

    def picture(self, image: Mapping[str, Any]) -> NDArray[np.uint8]:
        return read_picture(self.folder / image["file_name"])


class CocoDetections(_CocoPictures):
    """Pictures with person and head boxes.

    Args:
        folder: holds `ann.json` and the pictures it names.
        classes: names of the labels, in order; other categories are left out.
        skip_hard: make what the ground truth calls hard a place to ignore.
    """

    def __init__(self, folder: Path, classes: Sequence[str], skip_hard: bool = False) -> None:
        super().__init__(folder, "ann.json")
        self.classes = tuple(classes)
        self.skip_hard = skip_hard

    def __len__(self) -> int:
        return len(self.images)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of every picture, px."""
        return [(image["width"], image["height"]) for image in self.images]

    def __getitem__(self, index: int) -> DetectionSample:
        image = self.images[index]
        known: list[tuple[list[float], int]] = []
        doubtful: list[tuple[list[float], int]] = []
        for annotation in self.of_image[image["id"]]:
            name = self.names[annotation["category_id"]]
            if name in self.classes:
                hard = self.skip_hard and bool(annotation.get("is_hard", False))
                place = known if _is_label(annotation, name) and not hard else doubtful
                place.append((_xyxy(annotation), self.classes.index(name)))
        return DetectionSample(
            self.picture(image),
            np.array([box for box, _ in known], np.float32).reshape(-1, 4),
            np.array([label for _, label in known], np.int64),
            np.ones(len(known), np.float32),
            np.array([box for box, _ in doubtful], np.float32).reshape(-1, 4),
            np.array([label for _, label in doubtful], np.int64),
        )


def _is_label(annotation: Mapping[str, Any], name: str) -> bool:
    _, _, w, h = annotation["bbox"]
    return bool(min(w, h) >= MIN_SIDE[name] and annotation.get("visible_fraction", 1.0) >= MIN_VISIBLE)


class CocoPoses(_CocoPictures):
    """Persons with COCO-WholeBody keypoints, from `folder`/pose.json.

    Args:
        folder: holds `pose.json` and the pictures it names.
        part_weights: loss weights of body, feet, face, left and right hand; 110 of the 133 keypoints are in
            face and hands, and would rule.
    """

    def __init__(self, folder: Path, part_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0)) -> None:
        super().__init__(folder, "pose.json")
        counts = [count for _, count in PARTS]
        self.weights = np.repeat(np.array(part_weights, np.float32), counts)
        self.persons = [
            (image, annotation)
            for image in self.images
            for annotation in self.of_image[image["id"]]
            if annotation["bbox"][3] >= POSE_MIN_HEIGHT
            and annotation.get("visible_fraction", 1.0) >= POSE_MIN_VISIBLE
        ]

    def __len__(self) -> int:
        return len(self.persons)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of every person's picture, px."""
        return [(image["width"], image["height"]) for image, _ in self.persons]

    def keypoints(self, index: int) -> NDArray[np.float32]:
        """(133, 3): x, y in px, and visibility: 2 seen, 1 hidden, 0 not in the picture."""
        _, annotation = self.persons[index]
        flat = [value for part, count in PARTS for value in annotation[part][: 3 * count]]
        return np.array(flat, np.float32).reshape(-1, 3)

    def __getitem__(self, index: int) -> PoseSample:
        image, annotation = self.persons[index]
        points = self.keypoints(index)
        visibility = points[:, 2]
        return PoseSample(
            self.picture(image),
            np.array(_xyxy(annotation), np.float32),
            points[:, :2],
            self.weights * np.where(visibility > 0, 1.0, ABSENT_WEIGHT).astype(np.float32),
            np.select([visibility == 2, visibility == 1], [1.0, OCCLUDED_LEVEL], 0.0).astype(np.float32),
        )
