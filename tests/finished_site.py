"""Fixture factory: the artifacts of a finished run on a small site, written as tables, with ground truth.

Three people walk in front of two cameras for 40 frames; person 3 is hard to see and the off-the-shelf
detector misses it, later ones do not. The student misses one body and one head.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from videos import scene, write_video

from orveil.pipeline.stage import InputRef, Shard
from orveil.pipeline.tables import write_table
from orveil.pipeline.types import (
    HEAD,
    KEYPOINTS,
    PERSON,
    Associations,
    Detections,
    FrameLabels,
    MediaFiles,
    MediaIndex,
    Poses,
    PseudoLabels,
    Tracks,
)
from orveil.stages.redaction.boxes_file import BoxesWriter, Frame, Header
from orveil.stages.redaction.temporal import Origin

FRAMES, FPS, WIDTH, HEIGHT = 40, 10, 320, 240
CAMERAS = ("cam01", "cam02")
PEOPLE = (1, 2, 3)
HARD = 3


def body(camera: int, frame: int, person: int) -> list[float]:
    """xyxy of a person."""
    x = 20.0 + 80 * person + (frame if camera == 0 else -frame) * 0.5
    return [x, 60.0, x + 40, 180.0]


def head(camera: int, frame: int, person: int) -> list[float]:
    """xyxy of a person's head."""
    x0, y0, x1, _ = body(camera, frame, person)
    return [x0 + 8, y0, x1 - 8, y0 + 30]


def ground_truth() -> dict[str, Any]:
    """COCO form: persons, heads, and faces with their pixels (the lower half of the head)."""
    from orveil.sim.rle import encode_mask

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for camera in range(len(CAMERAS)):
        for frame in range(FRAMES):
            identity = len(images) + 1
            images.append({
                "id": identity, "camera_id": camera + 1, "frame_index": frame, "width": WIDTH,
                "height": HEIGHT, "time": frame / FPS,
            })  # fmt: skip
            for person in PEOPLE:
                shared = {"image_id": identity, "track_id": person, "is_hard": person == HARD}
                skull = head(camera, frame, person)
                mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
                mask[int(skull[1]) + 15 : int(skull[3]), int(skull[0]) : int(skull[2])] = True
                for category, box in ((1, body(camera, frame, person)), (2, skull)):
                    annotations.append({"id": len(annotations) + 1, "category_id": category,
                                        "bbox": _xywh(box), **shared})  # fmt: skip
                annotations.append({
                    "id": len(annotations) + 1, "category_id": 3, "face_visible": True,
                    "bbox": _xywh([skull[0], skull[1] + 15, *skull[2:]]),
                    "segmentation": encode_mask(mask), **shared,
                })  # fmt: skip
    names = [{"id": i, "name": name} for i, name in enumerate(("person", "head", "face"), 1)]
    return {"images": images, "annotations": annotations, "categories": names}


def _xywh(box: Sequence[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


class FinishedSite:
    """Artifacts under `root`; `inputs` as the evaluation and the report take them."""

    def __init__(self, root: Path, rounds: int = 2) -> None:
        self.root, self.rounds = root, rounds
        self.inputs: dict[str, InputRef] = {}
        self.truth = root / "gt.json"
        root.mkdir(parents=True, exist_ok=True)
        self.truth.write_text(json.dumps(ground_truth()))
        self._media()
        for number, suffix in enumerate([*map(str, range(1, rounds + 1)), "final"]):
            people = PEOPLE if number else PEOPLE[:2]
            self._detections(suffix, people, 0.5 + 0.1 * number)
            self._tracks(suffix)
            self._labels(suffix, people)
            self._poses(f"poses_{suffix}")
            self._weights(f"weights_{number}", 0.9 / (number + 1))
            if number:
                self._verdict(f"guard_{number}")
        self.inputs[f"candidates_{rounds + 1}"] = self.inputs["candidates_final"]
        self._poses("poses_train")
        for name in ("pose_weights_0", "pose_weights", "student"):
            self._weights(name, 0.5)
        self._bundle()
        self._blurred()

    @property
    def truth_sha256(self) -> str:
        """Of the ground-truth file."""
        return hashlib.sha256(self.truth.read_bytes()).hexdigest()

    def _add(self, name: str, shards: Mapping[Shard, Sequence[Any]]) -> dict[Shard, Path]:
        paths = {}
        for shard, tables in shards.items():
            path = self.root / name / (shard.camera or "all")
            path.mkdir(parents=True)
            for table in tables:
                write_table(table, path)
            manifest = {"stage": name, "seconds": 3.5 * len(name), "peak_rss_bytes": 200 << 20}
            (path / "manifest.json").write_text(json.dumps(manifest))
            paths[shard] = path
        self.inputs[name] = InputRef(name, "0" * 64, tuple(paths.items()))
        return paths

    def _media(self) -> None:
        n = len(CAMERAS)
        videos = [self.root / f"{camera}.mp4" for camera in CAMERAS]
        files = MediaFiles(
            session=["main"] * n, camera=CAMERAS, path=list(map(str, videos)), sha256=["a" * 64] * n,
            width=[WIDTH] * n, height=[HEIGHT] * n, rotation=[0] * n, time_base_num=[1] * n,
            time_base_den=[FPS] * n, frames=[FRAMES] * n, duration_s=[FRAMES / FPS] * n,
            offset_s=[0.0, 0.04], offset_source=["given", "estimated"],
        )  # fmt: skip
        index = np.tile(np.arange(FRAMES), n)
        frames = MediaIndex(
            session=["main"] * len(index), camera=np.repeat(CAMERAS, FRAMES), index=index, pts=index,
            time_s=index / FPS + np.repeat([0.0, 0.04], FRAMES),
        )  # fmt: skip
        self._add("media", {Shard(): [files, frames]})

    def _rows(self, camera: int, people: Sequence[int]) -> tuple[dict[str, Any], list[tuple[int, int]]]:
        pairs = [(frame, person) for frame in range(FRAMES) for person in people]
        frames = [frame for frame, _ in pairs]
        key = {"session": ["main"] * len(pairs), "camera": [CAMERAS[camera]] * len(pairs)}
        return {**key, "index": frames, "pts": frames}, pairs

    def _detect(self, camera: int, people: Sequence[int], score: float) -> Detections:
        """Persons and heads; person p scores a little less than person p - 1."""
        key, pairs = self._rows(camera, people)
        scores = [score + 0.1 - 0.02 * person for _, person in pairs]
        persons = {"xyxy": [body(camera, f, p) for f, p in pairs], "label": [PERSON] * len(pairs)}
        heads = {"xyxy": [head(camera, f, p) for f, p in pairs], "label": [HEAD] * len(pairs)}
        both = {name: [*values, *values] for name, values in key.items()}
        return Detections(
            **both, det_id=range(2 * len(pairs)), xyxy=[*persons["xyxy"], *heads["xyxy"]],
            score=[*scores, *scores], label=[*persons["label"], *heads["label"]],
        )  # fmt: skip

    def _detections(self, suffix: str, people: Sequence[int], score: float) -> None:
        shards = {Shard("main", name): [self._detect(i, people, score)] for i, name in enumerate(CAMERAS)}
        self._add(f"candidates_{suffix}", shards)

    def _tracks(self, suffix: str) -> None:
        shards, matches = {}, []
        for camera, name in enumerate(CAMERAS):
            key, pairs = self._rows(camera, PEOPLE)
            filled = np.array([frame % 10 == 7 for frame, _ in pairs])
            shards[Shard("main", name)] = [Tracks(
                **key, track_id=[p for _, p in pairs], det_id=np.where(filled, -1, np.arange(len(pairs))),
                xyxy=[body(camera, f, p) for f, p in pairs], score=np.where(filled, 0, 0.8),
                interpolated=filled,
            )]  # fmt: skip
            matches.append(Associations(
                session=["main"] * 3, camera=[name] * 3, track_id=PEOPLE, person_id=PEOPLE,
                probability=[0.99, 0.93, 0.0], margin=[4.0, 3.0, 0.0], views=[2, 2, 1], support=[30, 20, 0],
            ))  # fmt: skip
        self._add(f"tracks_{suffix}", shards)
        self._add(f"associations_{suffix}", {Shard("main"): [Associations.concat(matches)]})

    def _labels(self, suffix: str, detected: Sequence[int]) -> None:
        tables, used = [], []
        for camera in range(len(CAMERAS)):
            key, pairs = self._rows(camera, PEOPLE)
            people = np.array([p for _, p in pairs])
            source = np.where(np.isin(people, detected), "detected", "cross_view")
            source = np.where(np.array([f % 10 == 7 for f, _ in pairs]), "temporal", source)
            state = np.array([int(f < 5 and p == HARD) for f, p in pairs])
            tables.append(PseudoLabels(
                **key, label_id=range(len(pairs)), track_id=people, person_id=people,
                xyxy=[body(camera, f, p) for f, p in pairs], label=[PERSON] * len(pairs),
                score=[0.9] * len(pairs), weight=1.0 - state, state=state, source=source,
                round=[1] * len(pairs),
            ))  # fmt: skip
            frames = range(FRAMES)
            used.append(FrameLabels(
                session=["main"] * FRAMES, camera=[CAMERAS[camera]] * FRAMES, index=frames, pts=frames,
                split=["holdout" if f % 8 == 0 else "train" for f in frames], weight=[1.0] * FRAMES,
            ))  # fmt: skip
        shards = {Shard("main"): [PseudoLabels.concat(tables), FrameLabels.concat(used)]}
        self._add(f"labels_{suffix}", shards)

    def _poses(self, name: str) -> None:
        shards = {}
        for camera, view in enumerate(CAMERAS):
            key, pairs = self._rows(camera, PEOPLE)
            heads = [head(camera, f, p) for f, p in pairs]
            shards[Shard("main", view)] = [Poses(
                **key, label_id=range(len(pairs)), keypoints=np.zeros((len(pairs), KEYPOINTS, 3)),
                head_xyxy=heads, head_score=[0.9] * len(pairs), head_source=["face"] * len(pairs),
                face_xyxy=[[x0, y0 + 15, x1, y1] for x0, y0, x1, y1 in heads], face_score=[0.8] * len(pairs),
            )]  # fmt: skip
        self._add(name, shards)

    def _weights(self, name: str, loss: float) -> None:
        path = self._add(name, {Shard(): []})[Shard()]
        steps = range(10, 130, 10)
        curve = [{"iteration": i, "loss": loss + 1 / i, "loss_bbox": loss / 2 + 0.5 / i} for i in steps]
        (path / "losses.jsonl").write_text("".join(json.dumps(record) + "\n" for record in curve))
        facts = {"training": {"frames": 64, "guard": {"kept": True, "score": 0.91}}}
        (path / "weights.json").write_text(json.dumps(facts))

    def _verdict(self, name: str) -> None:
        path = self._add(name, {Shard(): []})[Shard()]
        cameras = {f"main/{camera}": {"before": 0.5, "after": 0.6} for camera in CAMERAS}
        verdict = {"kept": "after", "reason": "", "gain": 0.1, "cameras": cameras}
        (path / "guard.json").write_text(json.dumps(verdict))

    def _bundle(self) -> None:
        path = self._add("bundle", {Shard(): []})[Shard()]
        (path / "detector.onnx").write_bytes(b"onnx" * 1000)
        facts = {
            "schema": 1, "labels": ["person", "head"], "long_side": 416, "files": {"detector.onnx": "f" * 64},
            "thresholds": {"person": 0.4, "head": 0.35},
            "operating_points": {
                "person": {"threshold": 0.4, "recall": 0.97, "precision": 0.8, "labels": 90},
            },
            "gate": {
                "parity": [{"max_box_error_px": e, "max_score_error": e / 100} for e in (0.0021, 0.0007)],
                "recall": {"person": {"onnx": 0.97, "torch": 0.98}},
            },
        }  # fmt: skip
        (path / "bundle.json").write_text(json.dumps(facts))

    def _blurred(self) -> None:
        """The student misses person 3 in frame 12 of the first camera."""
        shards = {Shard("main", name): [] for name in CAMERAS}
        for camera, path in enumerate(self._add("blurred", shards).values()):
            found = self._detect(camera, PEOPLE, 0.7)
            missed = (found.index == 12) & (found.xyxy[:, 0] > 250) & (camera == 0)
            write_table(found.select(~missed), path)
            write_video(path / "video.mp4", scene(FRAMES, WIDTH, HEIGHT), fps=FPS)
            self._write_boxes(found.select(~missed), path / "boxes.json")
            counts = {"in": FRAMES, "out": FRAMES, "inferred": FRAMES, "with_boxes": FRAMES, "covered": 0}
            settings = {"target": "head", "style": "gaussian", "shape": "box", "margin": 0.0}
            facts = {
                "schema": 1, "complete": True, "frames": counts, "settings": settings, "faults": [],
                "boxes": {"detected": 240, "filled": 3, "held": 12},
                "longest_gap": {"missed_runs": 2, "seconds": 0.3},
            }  # fmt: skip
            (path / "redaction.json").write_text(json.dumps(facts))

    def _write_boxes(self, found: Detections, path: Path) -> None:
        """boxes.json: the heads, without margin."""
        heads = found.select(found.label == HEAD)
        made_by = {"settings": {"shape": "box"}}
        with BoxesWriter(path, Header("a" * 64, 0, WIDTH, HEIGHT, Fraction(1, 1000), made_by)) as writer:
            for index in range(FRAMES):
                xyxy = heads.xyxy[heads.index == index]
                writer.write(Frame(index, index, xyxy, (Origin("head", "detected"),) * len(xyxy)))
