"""Benchmark part: whole-body pose before and after its fine-tuning, on the same boxes of the same frames.

PCK is the share of keypoints in plain view that lie within 5 % of the longer side of the whole person from
where they are (Yang and Ramanan, 2013, normalised by the person). OKS-AP is COCO's, over 133 keypoints with
the sigmas of COCO-WholeBody (Jin et al., 2020), by faster-coco-eval; everybody in the frames is to be found.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from adapt_graph import truth_of
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from orveil.pipeline.geometry import from_xywh, iou
from orveil.pipeline.stage import InputRef
from orveil.pipeline.tables import read_tables
from orveil.pipeline.types import HEAD, Poses, PseudoLabels
from orveil.stages.targets import by_frame
from orveil.stages.truth import Truth

__all__ = ["PARTS", "PoseRow", "pose_rows"]

NEAR, SAME_BODY, SAME_HEAD = 0.05, 0.5, 0.3
IN_VIEW = 2
PARTS = {"body": slice(0, 17), "feet": slice(17, 23), "face": slice(23, 91), "hands": slice(91, 133)}
TRUTH_PARTS = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
WHOLE_BODY = "configs/_base_/datasets/coco_wholebody.py"

Floats = NDArray[np.float64]
Key = tuple[str, str, int]


@dataclass(frozen=True)
class PoseRow:
    """PCK of each part, OKS-AP of the whole body, and recall of heads among the boxes that show a person."""

    pck: Mapping[str, float]
    oks_ap: float
    head_recall: float


def pose_rows(folder: Path, truth: Truth, made: Mapping[str, InputRef]) -> dict[str, PoseRow]:
    """Compare `poses_train`, by the pose model as it came, with `poses_final`, by the one it became."""
    people = _People.read(truth_of(folder), truth)
    before, after = (read_tables(Poses, made[name].paths()) for name in ("poses_train", "poses_final"))
    rows = {key: row for row, key in enumerate(_keys(after))}
    after = after.select(np.array([rows[key] for key in _keys(before)], np.int64))
    labels = read_tables(PseudoLabels, made["labels_final"].paths())
    at = {key: row for row, key in enumerate(_keys(labels))}
    boxes = labels.select(np.array([at[key] for key in _keys(before)], np.int64))
    return {name: people.score(poses, boxes) for name, poses in (("before", before), ("after", after))}


def _keys(table: Poses | PseudoLabels) -> list[Key]:
    return list(zip(table.session.tolist(), table.camera.tolist(), table.label_id.tolist(), strict=True))


@dataclass(frozen=True)
class _People:
    """Ground truth: the persons in each frame, and their heads by `track_id`."""

    records: Mapping[Key, list[Mapping[str, Any]]]
    heads: Mapping[tuple[Key, int], Floats]

    @classmethod
    def read(cls, path: Path, truth: Truth) -> _People:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        raw = json.loads(content)
        category = next(c["id"] for c in raw["categories"] if c["name"] == "person")
        frame_of = dict(zip(_image_ids(raw, truth), _frame_keys(truth), strict=True))
        records: dict[Key, list[Mapping[str, Any]]] = {key: [] for key in frame_of.values()}
        for record in raw["annotations"]:
            if record["category_id"] == category and not record["iscrowd"]:
                records[frame_of[record["image_id"]]].append(record)
        boxes, keys = truth.boxes[HEAD], _frame_keys(truth)
        heads = {
            (keys[frame], who): box.astype(np.float64)
            for frame, who, box in zip(boxes.frame.tolist(), boxes.track_id.tolist(), boxes.xyxy, strict=True)
        }
        return cls(records, heads)

    def score(self, poses: Poses, boxes: PseudoLabels) -> PoseRow:
        """Figures of poses (N rows) on the boxes they were computed for (the same rows)."""
        near: dict[str, list[NDArray[np.bool_]]] = {part: [] for part in PARTS}
        heads: list[bool] = []
        for key, rows in by_frame(boxes).items():
            for row, person in _pairs(boxes.xyxy[rows], self.records[key]):
                own = poses.keypoints[rows[row]].astype(np.float64)
                right, shown = _near(own, person)
                for part, where in PARTS.items():
                    near[part].append(right[where][shown[where]])
                head = self.heads.get((key, int(person["track_id"])))
                if head is not None:
                    found = poses.head_xyxy[rows[row]][None].astype(np.float64)
                    heads.append(bool(iou(found, head[None])[0, 0] >= SAME_HEAD))
        pck = {part: float(np.concatenate(values).mean()) for part, values in near.items()}
        return PoseRow(pck, self._oks_ap(poses, boxes), float(np.mean(heads)))

    def _oks_ap(self, poses: Poses, boxes: PseudoLabels) -> float:
        frames = sorted(by_frame(boxes))
        number = {key: at for at, key in enumerate(frames)}
        truths = [
            {
                "id": at,
                "image_id": number[key],
                "category_id": 1,
                "bbox": person["bbox"],
                "area": person["area"],
                "iscrowd": 0,
                "keypoints": _points(person).ravel().tolist(),
                "num_keypoints": int((_points(person)[:, 2] > 0).sum()),
            }
            for at, (key, person) in enumerate(
                ((key, person) for key in frames for person in self.records[key]), start=1
            )
        ]
        found = [
            {
                "image_id": number[key],
                "category_id": 1,
                "keypoints": points.ravel().tolist(),
                "score": float(score * points[:, 2].mean()),
            }
            for key, points, score in zip(
                zip(poses.session.tolist(), poses.camera.tolist(), poses.index.tolist(), strict=True),
                poses.keypoints.astype(np.float64),
                boxes.score.tolist(),
                strict=True,
            )
        ]
        return _average_precision(len(frames), truths, found)


def _image_ids(raw: Mapping[str, Any], truth: Truth) -> list[int]:
    if truth.unmatched:
        raise SystemExit("the ground truth has images that are no frame of the room")
    return [image["id"] for image in raw["images"]]


def _frame_keys(truth: Truth) -> list[Key]:
    frames = truth.frames
    return list(zip(frames.session.tolist(), frames.camera.tolist(), frames.index.tolist(), strict=True))


def _points(person: Mapping[str, Any]) -> Floats:
    """(133, 3) x, y and visibility: 0 not there, 1 hidden, 2 in view."""
    return np.concatenate([np.array(person[name], np.float64).reshape(-1, 3) for name in TRUTH_PARTS])


def _pairs(
    found: NDArray[np.float32], people: list[Mapping[str, Any]]
) -> list[tuple[int, Mapping[str, Any]]]:
    """Boxes with the persons that they show, best overlap first, each once."""
    if not people:
        return []
    overlap = iou(found, from_xywh(np.array([person["bbox"] for person in people], np.float64)))
    pairs = []
    while overlap.max(initial=0.0) >= SAME_BODY:
        row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
        pairs.append((int(row), people[int(column)]))
        overlap[row], overlap[:, column] = 0, 0
    return pairs


def _near(found: Floats, person: Mapping[str, Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of the 133 keypoints are right, and which are in plain view."""
    points = _points(person)
    apart = np.hypot(*(found[:, :2] - points[:, :2]).T)
    return apart <= NEAR * max(person["full_bbox"][2:]), points[:, 2] == IN_VIEW


def _average_precision(frames: int, truths: list[Any], found: list[Any]) -> float:
    """COCO's keypoint AP over OKS 0.50 to 0.95."""
    # Loaded late: the engine sets how PyTorch's threads wait before it is imported.
    import mmpose
    from mmengine.config import Config

    sigmas = Config.fromfile(Path(mmpose.__file__).parent / ".mim" / WHOLE_BODY).dataset_info["sigmas"]
    gt = COCO()
    gt.dataset = {
        "info": {},
        "images": [{"id": at} for at in range(frames)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": truths,
    }
    gt.createIndex()
    judge = COCOeval_faster(gt, gt.loadRes(found), "keypoints", kpt_oks_sigmas=list(sigmas))
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return float(judge.stats[0])
