"""Stage: the student as a bundle for the appliance; a bundle that does not detect the same is refused."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.geometry import PAD_MULTIPLE, Fit, as_boxes
from orveil.pipeline.kinds import BundleKind, MediaKind, PosesKind, PseudoLabelsKind, WeightsKind
from orveil.pipeline.settings import ExportParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import read_table
from orveil.pipeline.types import PERSON, MediaFiles
from orveil.stages.bundle_check import SELFTEST, compare, refusal, selftest_pictures, verify_bundle
from orveil.stages.datasets import read_pictures
from orveil.stages.operating_point import Hits, OperatingPoint, choose, count_hits
from orveil.stages.runtime import BUNDLE_SCHEMA, Boxes, Bundle, OnnxDetector, letterbox, sha256_of
from orveil.stages.targets import ALL_CLASSES, FrameTargets, training_targets
from orveil.stages.weights import CLASS_LABELS, read_info

__all__ = ["Export", "verify_bundle"]

MODEL, MANIFEST = "detector.onnx", "bundle.json"
BATCHES = (1, 2, 5)
SMALLER = 0.75
JUDGED_FRAMES = 80
ENOUGH_LABELS = 30
MIN_IOU = {"person": 0.5, "head": 0.3, "face": 0.3}
PACKAGES = ("orveil", "torch", "onnx", "onnxruntime")


class Export:
    """Export `student` to ONNX, compare it with PyTorch on the site's frames, and choose its thresholds."""

    name: ClassVar[str] = "export"
    version: ClassVar[int] = 3
    needs: ClassVar[Resources] = Resources(cpus=2, threads=2, loads_model=True)
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {
        "media": MediaKind,
        "labels": PseudoLabelsKind,
        "poses": PosesKind,
        "student": WeightsKind,
    }
    produces: ClassVar[type[ArtifactType]] = BundleKind
    volatile: ClassVar[frozenset[str]] = frozenset()

    def shards(self, params: ExportParams, inputs: Inputs) -> Sequence[Shard]:
        """One bundle for the site."""
        del params, inputs
        return [Shard()]

    def setup(self, params: ExportParams, inputs: Inputs, context: Context) -> None:
        """Nothing to load."""

    def run(self, params: ExportParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Write the bundle.

        Raises:
            OrveilError: the exported model differs from PyTorch's by more than the gate allows.
        """
        del shard
        maker = _Maker(params, inputs, out, self.needs.threads)
        maker.write_model()
        targets, pictures = _judged_frames(inputs, maker.long_side, context)
        context.progress(0, 3, "parity")
        gate = maker.parity(pictures)
        context.progress(1, 3, "recall and thresholds")
        points, recall = maker.operating_points(targets, pictures)
        context.progress(2, 3, "self-test")
        maker.write_selftest()
        manifest = maker.manifest({"parity": gate, "recall": recall}, points)
        text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n"
        (out / MANIFEST).write_text(text, "utf-8")
        verify_bundle(out)
        context.progress(3, 3, "bundle verified")


class _Maker:
    """One bundle in the making: the student in PyTorch and in ONNX, side by side."""

    def __init__(self, params: ExportParams, inputs: Inputs, out: Path, threads: int) -> None:
        from orveil.stages import mm, onnx_graph  # PyTorch loads slowly, and the graph is built without it

        self.params, self.inputs, self.out, self.threads = params, inputs, out, threads
        self._onnx = onnx_graph
        directory = inputs["student"].path
        self.info = read_info(directory)
        config = mm.load_config(directory / "config.py")
        self.labels = tuple(config.classes)
        self.long_side = -(-self.info.long_side // PAD_MULTIPLE) * PAD_MULTIPLE
        state = mm.read_weights(directory / "model.safetensors")
        bad = [name for name, value in state.items() if not bool(value.isfinite().all())]
        if bad:
            raise OrveilError(
                f"the student has {len(bad)} tensors with values that are not finite, for example {bad[0]}",
                where=str(directory / "model.safetensors"),
                remedy="its training diverged: lower `learning_rate` in [distil] and run again",
            )
        self.graph = onnx_graph.CellGraph(mm.build_detector(config, state), config).eval()
        self.suppression = onnx_graph.Suppression(params.score_floor, params.nms_iou, params.max_per_image)

    def write_model(self) -> None:
        """Export `detector.onnx`."""
        about = {"labels": json.dumps(self.labels), "weights_sha256": self.info.sha256}
        (self.out / MODEL).write_bytes(self._onnx.export_onnx(self.graph, self.suppression, about))

    def onnx(self, long_side: int) -> OnnxDetector:
        """ONNX Runtime on the exported file, before there is a manifest."""
        bundle = Bundle(self.out, self.labels, long_side, {}, {}, "")
        return OnnxDetector(bundle, threads=self.threads)

    def torch(self, pictures: Sequence[NDArray[np.uint8]], long_side: int) -> list[Boxes]:
        """What PyTorch says, in the same form as the appliance's detector."""
        from torch import from_numpy

        found = []
        for picture in pictures:
            fit = Fit.of(picture.shape[1], picture.shape[0], long_side)
            batch = from_numpy(letterbox(picture, fit)[None])
            boxes, scores, labels = self._onnx.suppressed(self.graph, batch, self.suppression)[0]
            found.append(Boxes(fit.to_source(boxes.numpy()), scores.numpy(), labels.numpy()))
        return found

    def parity(self, pictures: Sequence[NDArray[np.uint8]]) -> list[dict[str, Any]]:
        """Compare both on site frames: several batch sizes, two picture sizes, both orientations."""
        few = [pictures[i] for i in _spread(len(pictures), max(BATCHES))] or selftest_pictures(self.long_side)
        turned = [np.ascontiguousarray(picture.transpose(1, 0, 2)) for picture in few]
        rows = []
        for long_side in (self.long_side, _smaller(self.long_side)):
            detector = self.onnx(long_side)
            for orientation, shown in (("as filmed", few), ("turned", turned)):
                reference = self.torch(shown, long_side)
                for batch in BATCHES:
                    found = detector.detect(shown[:batch])
                    figures = compare(
                        reference[:batch], found, self.params.score_floor, self.params.max_score_error
                    )
                    rows.append(
                        {"long_side": long_side, "orientation": orientation, "batch": batch, **figures}
                    )
                    self._refuse(refusal(figures, self.params.max_box_error_px, self.params.max_score_error))
        return rows

    def operating_points(
        self, targets: Sequence[FrameTargets], pictures: Sequence[NDArray[np.uint8]]
    ) -> tuple[dict[str, OperatingPoint], dict[str, dict[str, float]]]:
        """Thresholds by label, and the recall of ONNX beside that of PyTorch on the labelled frames."""
        theirs = self.onnx(self.long_side).detect(pictures)
        own = self.torch(pictures, self.long_side)
        points, recall = {}, {}
        for number, name in enumerate(self.labels):
            hits = _hits(theirs, targets, number, name)
            points[name] = choose(hits, self.params.score_floor, self.params.miss_cost)
            at = points[name].threshold
            recall[name] = {
                "onnx": hits.recall(at), "torch": _hits(own, targets, number, name).recall(at),
            }  # fmt: skip
            lost = recall[name]["torch"] - recall[name]["onnx"]
            if lost > self.params.max_recall_drop:
                self._refuse(f"recall of {name} falls by {lost:.4f}, from {recall[name]['torch']:.4f}")
        found = recall["person"]["onnx"]
        if points["person"].labels and found < self.params.min_recall:
            raise OrveilError(
                f"the student finds {found:.1%} of the persons that it was taught, at least "
                f"{self.params.min_recall:.0%} are needed: it would leave people uncovered",
                where=str(self.out / MODEL),
                remedy="look at its losses in the report; lower `learning_rate` in [distil] and run again",
            )
        return points, recall

    def _refuse(self, reason: str) -> None:
        if reason:
            raise OrveilError(
                f"the exported model does not detect what the student detects: {reason}",
                where=str(self.out / MODEL),
                remedy="report this with the versions of torch, onnx and onnxruntime; no bundle was written",
            )

    def write_selftest(self) -> None:
        """Synthetic pictures and the boxes PyTorch gives for them."""
        pictures = selftest_pictures(self.long_side)
        names = [f"selftest_{number}.png" for number in range(len(pictures))]
        for name, picture in zip(names, pictures, strict=True):
            done, content = cv2.imencode(".png", picture)
            assert done, "PNG encoding failed"
            (self.out / name).write_bytes(content.tobytes())
        expected = [
            {"xyxy": b.xyxy.tolist(), "score": b.score.tolist(), "label": b.label.tolist()}
            for b in self.torch(pictures, self.long_side)
        ]
        content_json = {
            "pictures": names,
            "expected": expected,
            "score_floor": self.params.score_floor,
            "max_box_error_px": self.params.max_box_error_px,
            "max_score_error": self.params.max_score_error,
        }
        (self.out / SELFTEST).write_text(json.dumps(content_json, sort_keys=True) + "\n", "utf-8")

    def manifest(self, gate: Mapping[str, Any], points: Mapping[str, OperatingPoint]) -> dict[str, Any]:
        """`bundle.json`; its first keys are the appliance's contract, the rest is for people."""
        media = read_table(MediaFiles, self.inputs["media"].path)
        videos = zip(media.session.tolist(), media.camera.tolist(), media.sha256.tolist(), strict=True)
        files = sorted(path.name for path in self.out.iterdir() if path.name != MANIFEST)
        return {
            "schema": BUNDLE_SCHEMA,
            "files": {name: sha256_of(self.out / name) for name in files},
            "labels": list(self.labels),
            "long_side": self.long_side,
            "score_floor": self.params.score_floor,
            "nms_iou": self.params.nms_iou,
            "thresholds": {name: point.threshold for name, point in points.items()},
            "input": {
                "name": "images", "dtype": "uint8", "layout": "NHWC", "colours": "BGR",
                "pad_multiple": PAD_MULTIPLE, "pad_value": 114, "pad_at": "right and bottom",
            },
            "operating_points": {name: asdict(point) for name, point in points.items()},
            "gate": dict(gate),
            "provenance": {
                "videos": [{"session": s, "camera": c, "sha256": h} for s, c, h in videos],
                "inputs": {name: ref.digest for name, ref in sorted(self.inputs.items())},
                "weights_sha256": self.info.sha256,
                "training": dict(self.info.training),
            },
            "licence": {"software": "Apache-2.0", "weights": "that of the weights named in provenance"},
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        }  # fmt: skip


def _judged_frames(
    inputs: Inputs, long_side: int, context: Context
) -> tuple[list[FrameTargets], Sequence[NDArray[np.uint8]]]:
    """Labelled frames to judge by, with targets in picture pixels: those held out if they are enough."""
    held, _ = training_targets(inputs["labels"], inputs["poses"], "holdout")
    if sum(int((target.labels == PERSON).sum()) for target in held) < ENOUGH_LABELS:
        held += training_targets(inputs["labels"], inputs["poses"], "train")[0]
    chosen = [held[i] for i in _spread(len(held), JUDGED_FRAMES)]
    keys = [(target.session, target.camera, target.index) for target in chosen]
    pictures = read_pictures(inputs["media"].path, keys, long_side, context.externals)
    scaled = [
        replace(
            target,
            xyxy=pictures.boxes(number, target.xyxy),
            ignored=pictures.boxes(number, target.ignored),
        )
        for number, target in enumerate(chosen)
    ]
    return scaled, pictures.images


def _hits(found: Sequence[Boxes], targets: Sequence[FrameTargets], number: int, name: str) -> Hits:
    """Hits of one label of the model."""
    label = CLASS_LABELS[name]
    frames = []
    for boxes, target in zip(found, targets, strict=True):
        mine = boxes.label == number
        hidden = np.isin(target.ignored_labels, (ALL_CLASSES, label))
        frames.append(
            (boxes.xyxy[mine], boxes.score[mine], target.xyxy[target.labels == label],
             as_boxes(target.ignored[hidden]), target.ignored_scores[hidden])
        )  # fmt: skip
    return count_hits(frames, MIN_IOU[name])


def _spread(count: int, most: int) -> list[int]:
    """At most `most` numbers below `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist() if count else []


def _smaller(long_side: int) -> int:
    return max(PAD_MULTIPLE, int(long_side * SMALLER) // PAD_MULTIPLE * PAD_MULTIPLE)
