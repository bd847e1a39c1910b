"""Stage: the student as a bundle for the appliance; a bundle that does not detect the same is refused."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.geometry import PAD_MULTIPLE, Fit
from orveil.pipeline.kinds import BundleKind, MediaKind, PosesKind, PseudoLabelsKind, WeightsKind
from orveil.pipeline.settings import ExportParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import read_table
from orveil.pipeline.types import MediaFiles
from orveil.stages.bundle_check import (
    BATCHES,
    SELFTEST,
    answers,
    compare,
    in_batches,
    refusal,
    selftest_pictures,
    verify_bundle,
)
from orveil.stages.export_frames import calibration_pictures, hits_of, judged_frames, spread
from orveil.stages.export_int8 import INT8, MAX_BOX_PX, MAX_SCORE, Verdict, judge
from orveil.stages.operating_point import OperatingPoint, choose
from orveil.stages.runtime import BUNDLE_SCHEMA, Boxes, Bundle, OnnxDetector, letterbox, sha256_of
from orveil.stages.targets import FrameTargets
from orveil.stages.weights import read_info

__all__ = ["Export"]

MODEL, MANIFEST = "detector.onnx", "bundle.json"
SMALLER = 0.75
PACKAGES = ("orveil", "torch", "onnx", "onnxruntime")


class Export:
    """Export `student` to ONNX, compare it with PyTorch on the site's frames, and choose its thresholds.

    With `int8` a second model in integers is made and judged (`orveil.stages.export_int8`).
    """

    name: ClassVar[str] = "export"
    version: ClassVar[int] = 5
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
            OrveilError: the exported model differs from PyTorch's by more than the gate allows, or the one in
                integers does although the site file demands it.
        """
        del shard
        maker = _Maker(params, inputs, out, self.needs.threads)
        maker.write_model()
        targets, pictures = judged_frames(inputs, maker.long_side, context)
        context.progress(0, 4, "parity")
        gate = maker.parity(pictures)
        context.progress(1, 4, "recall and thresholds")
        points, recall = maker.operating_points(targets, pictures)
        context.progress(2, 4, "integers")
        int8 = Verdict(False, "not asked for: `int8` in [export]")
        if params.int8 and pictures:
            maker.write_int8(calibration_pictures(inputs, maker.long_side, context))
            int8 = maker.judge_int8(targets, pictures, points)
        context.progress(3, 4, "self-test")
        maker.write_selftest(int8.used)
        gate_and_int8 = {"parity": gate, "recall": recall, "int8": int8.summary()}
        manifest = maker.manifest(gate_and_int8, points, INT8 if int8.used else MODEL)
        text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n"
        (out / MANIFEST).write_text(text, "utf-8")
        verify_bundle(out)
        context.progress(4, 4, "bundle verified")


class _Maker:
    """One bundle in the making: the student in PyTorch and in ONNX, side by side."""

    def __init__(self, params: ExportParams, inputs: Inputs, out: Path, threads: int) -> None:
        from orveil.stages import mm, onnx_graph  # PyTorch loads slowly, and the graph is built without it

        self.params, self.inputs, self.out, self.threads = params, inputs, out, threads
        self._onnx = onnx_graph
        self._own: list[Boxes] = []
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

    def write_int8(self, pictures: Sequence[NDArray[np.uint8]]) -> None:
        """Write `detector.int8.onnx`, calibrated on pictures."""
        from orveil.stages import onnx_int8  # imports onnx, which the command line does without

        batches = []
        for picture in pictures:
            fit = Fit.of(picture.shape[1], picture.shape[0], self.long_side)
            batches.append(letterbox(picture, fit)[None])
        content = onnx_int8.quantise((self.out / MODEL).read_bytes(), batches, self.threads)
        (self.out / INT8).write_bytes(content)

    def judge_int8(
        self,
        targets: Sequence[FrameTargets],
        pictures: Sequence[NDArray[np.uint8]],
        points: Mapping[str, OperatingPoint],
    ) -> Verdict:
        """Decide about `detector.int8.onnx`; one that is not used is taken away again."""
        floating, integer = self.onnx(self.long_side), self.onnx(self.long_side, INT8)
        found, recall = integer.detect(pictures), {}
        for number, name in enumerate(self.labels):
            at = points[name].threshold
            recall[name] = {
                key: hits_of(boxes, targets, number, name).recall(at)
                for key, boxes in (("torch", self._own), ("int8", found))
            }
        limits = (self.params.max_recall_drop, self.params.int8 is True)
        verdict = judge((floating, integer), pictures, recall, self._own, limits)
        if self.params.int8 is True and not verdict.used:
            self._refuse(f"in 8-bit integers, {verdict.reason}")
        if not verdict.used:
            (self.out / INT8).unlink()
        return verdict

    def onnx(self, long_side: int, model: str = MODEL) -> OnnxDetector:
        """ONNX Runtime on an exported file, before there is a manifest."""
        bundle = Bundle(self.out, self.labels, long_side, {}, {}, "", model)
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
        few = [pictures[i] for i in spread(len(pictures), max(BATCHES))] or selftest_pictures()
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
        self._own = own = self.torch(pictures, self.long_side)
        points, recall = {}, {}
        for number, name in enumerate(self.labels):
            hits = hits_of(theirs, targets, number, name)
            points[name] = choose(hits, self.params.score_floor, self.params.miss_cost)
            at = points[name].threshold
            recall[name] = {
                "onnx": hits.recall(at), "torch": hits_of(own, targets, number, name).recall(at),
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

    def write_selftest(self, int8: bool) -> None:
        """Pictures of the simulator and the boxes that each model has to give for them."""
        pictures = selftest_pictures()
        names = [f"selftest_{number}.png" for number in range(len(pictures))]
        for name, picture in zip(names, pictures, strict=True):
            done, content = cv2.imencode(".png", picture)
            assert done, "PNG encoding failed"
            (self.out / name).write_bytes(content.tobytes())
        own = self.torch(pictures, self.long_side)
        models = {MODEL: answers(own, self.params.max_box_error_px, self.params.max_score_error)}
        if int8:
            found = in_batches(self.onnx(self.long_side, INT8), pictures, 1)
            models[INT8] = answers(found, MAX_BOX_PX, MAX_SCORE)
        content_json = {"pictures": names, "models": models, "score_floor": self.params.score_floor}
        (self.out / SELFTEST).write_text(json.dumps(content_json, sort_keys=True) + "\n", "utf-8")

    def manifest(
        self, gate: Mapping[str, Any], points: Mapping[str, OperatingPoint], model: str
    ) -> dict[str, Any]:
        """`bundle.json`, see docs/bundle.md; its first keys are the appliance's contract."""
        media = read_table(MediaFiles, self.inputs["media"].path)
        videos = zip(media.session.tolist(), media.camera.tolist(), media.sha256.tolist(), strict=True)
        files = sorted(path.name for path in self.out.iterdir() if path.name != MANIFEST)
        return {
            "schema": BUNDLE_SCHEMA,
            "files": {name: sha256_of(self.out / name) for name in files},
            "model": model,
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


def _smaller(long_side: int) -> int:
    return max(PAD_MULTIPLE, int(long_side * SMALLER) // PAD_MULTIPLE * PAD_MULTIPLE)
