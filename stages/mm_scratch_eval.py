"""OpenMMLab room, figures of the embedded models on held-out pictures of the domain they were trained on."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from orveil.stages.mm_coco import CocoDetections, CocoPoses
from orveil.stages.mm_config import load_config
from orveil.stages.mm_detector import Detector
from orveil.stages.mm_pose import PoseEstimator

__all__ = ["average_precision", "measure_detector", "measure_pose"]

GROUPS = {
    "body": slice(0, 17),
    "feet": slice(17, 23),
    "face": slice(23, 91),
    "hands": slice(91, 133),
}


def measure_detector(
    weights: Path, folder: Path, config_name: str = "detector_embedded", long_side: int = 512
) -> dict[str, float]:
    """COCO AP of each class on `folder`/ann.json; doubtful boxes count neither for nor against.

    Returns:
        `<class>_ap50`, `<class>_ap` (IoU 0.5 to 0.95), `<class>_recall30` (at IoU 0.5 and score 0.3), and the
        same as `<class>_clear_...` without what the ground truth calls hard.
    """
    config = load_config(config_name)
    source = CocoDetections(folder, config.classes)
    detector = Detector(config, weights, long_side=long_side, score_threshold=0.01, max_per_image=100)
    found = []
    for i in range(len(source)):
        boxes, scores, labels = detector.predict([source.picture(source.images[i])])[0]
        found += [
            {**_row(i, box, label, 0), "score": float(score)}
            for box, score, label in zip(boxes, scores, labels, strict=True)
        ]
    clear = CocoDetections(folder, config.classes, skip_hard=True)
    figures = average_precision(source.sizes, _truth_rows(source), found, source.classes)
    easier = average_precision(source.sizes, _truth_rows(clear), found, source.classes)
    return figures | {name.replace("_", "_clear_", 1): value for name, value in easier.items()}


def _truth_rows(source: CocoDetections) -> list[dict[str, Any]]:
    rows = []
    for i in range(len(source)):
        sample = source[i]
        rows += [_row(i, box, label, 0) for box, label in zip(sample.xyxy, sample.labels, strict=True)]
        rows += [
            _row(i, box, label, 1) for box, label in zip(sample.ignore, sample.ignore_labels, strict=True)
        ]
    return rows


def _row(image: int, xyxy: Any, label: Any, crowd: int) -> dict[str, Any]:
    x0, y0, x1, y1 = (float(v) for v in xyxy)
    width, height = x1 - x0, y1 - y0
    return {
        "image_id": image + 1,
        "category_id": int(label) + 1,
        "bbox": [x0, y0, width, height],
        "area": width * height,
        "iscrowd": crowd,
    }


def average_precision(
    sizes: list[tuple[int, int]],
    truth: list[dict[str, Any]],
    found: list[dict[str, Any]],
    classes: tuple[str, ...],
) -> dict[str, float]:
    """COCO figures by class, from rows as `_row` makes them; `found` also has scores."""
    gt = {
        "images": [{"id": i + 1, "width": w, "height": h} for i, (w, h) in enumerate(sizes)],
        "annotations": [{**row, "id": n + 1} for n, row in enumerate(truth)],
        "categories": [{"id": c + 1, "name": name} for c, name in enumerate(classes)],
    }
    figures: dict[str, float] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(gt)
        candidates = reference.loadRes(found) if found else None
        for c, name in enumerate(classes):
            figures |= _class_figures(reference, candidates, c + 1, name)
    return figures


def _class_figures(reference: Any, candidates: Any, category: int, name: str) -> dict[str, float]:
    if candidates is None:
        return {f"{name}_ap50": 0.0, f"{name}_ap": 0.0, f"{name}_recall30": 0.0}
    run = COCOeval_faster(reference, candidates, "bbox")
    run.params.catIds = [category]
    run.evaluate()
    run.accumulate()
    precision = run.eval["precision"][:, :, 0, 0, -1]
    scores = run.eval["scores"][0, :, 0, 0, -1]
    reached = run.params.recThrs[scores >= 0.3]
    return {
        f"{name}_ap50": round(float(precision[0].mean()), 4),
        f"{name}_ap": round(float(precision.mean()), 4),
        f"{name}_recall30": round(float(reached.max()) if len(reached) else 0.0, 2),
    }


def measure_pose(weights: Path, folder: Path, config_name: str = "pose_embedded") -> dict[str, float]:
    """Figures on the true boxes of `folder`/pose.json.

    Returns:
        for body, feet, face and hands `<part>_pck`: share of the keypoints in sight that are found within
        0.05 of the box's longer side; `confidence_seen`, `confidence_hidden`, `confidence_absent`: mean
        confidence of keypoints in sight, behind something, and out of the picture.
    """
    source = CocoPoses(folder)
    estimator = PoseEstimator(load_config(config_name), weights)
    hits: dict[str, list[np.ndarray[Any, Any]]] = {part: [] for part in GROUPS}
    confidence: list[np.ndarray[Any, Any]] = []
    visibility: list[np.ndarray[Any, Any]] = []
    for i in range(len(source)):
        sample, truth = source[i], source.keypoints(i)
        found = estimator.predict(sample.image, sample.xyxy[None])[0]
        reach = 0.05 * float(np.max(sample.xyxy[2:] - sample.xyxy[:2]))
        near = np.linalg.norm(found[:, :2] - truth[:, :2], axis=1) <= reach
        for part, points in GROUPS.items():
            hits[part].append(near[points][truth[points, 2] == 2])
        confidence.append(found[:, 2])
        visibility.append(truth[:, 2])
    figures = {f"{part}_pck": round(float(np.concatenate(rows).mean()), 4) for part, rows in hits.items()}
    score, seen = np.concatenate(confidence), np.concatenate(visibility)
    for name, value in (("seen", 2), ("hidden", 1), ("absent", 0)):
        figures[f"confidence_{name}"] = round(float(score[seen == value].mean()), 3)
    return figures
