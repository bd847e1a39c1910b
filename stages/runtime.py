"""Stages: the appliance's detector on ONNX Runtime. Imports nothing of torch, Ray, pydantic or OpenMMLab.

A bundle is a folder with `bundle.json` and the files it names:

    {"schema": 1,
     "files": {"detector.onnx": "<sha256>"},        every file of the bundle but bundle.json
     "model": "detector.onnx",                      the one to run; detector.onnx if not given
     "labels": ["person", "head"],                  position = number in the graph's `labels` output
     "long_side": 416,                              pictures are scaled so that the long side has this many px
     "score_floor": 0.05, "nms_iou": 0.65,          inside the graph; for information
     "thresholds": {"person": 0.3, "head": 0.25},   operating points per label, chosen for recall
     ...}                                           further keys (provenance, metrics): docs/bundle.md

Graph: input `images` uint8 (B, H, W, 3) BGR, scaled, padded with 114 at the right and bottom to multiples
of 32; outputs `boxes` float32 (N, 4) xyxy in input pixels, `scores` float32 (N,), `labels` int64 (N,),
`batch_index` int64 (N,), suppression already done.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.geometry import Fit, as_boxes

__all__ = [
    "BUNDLE_SCHEMA", "PAD", "Boxes", "Bundle", "ModelError", "OnnxDetector", "letterbox", "sha256_of",
]  # fmt: skip

BUNDLE_SCHEMA = 1
MODEL = "detector.onnx"
PAD = 114
"""Grey level beside and below a scaled picture."""
OUTPUTS = ("boxes", "scores", "labels", "batch_index")


class ModelError(Exception):
    """The model failed on a batch: raised an error, or gave something that is no detection."""


class Boxes(NamedTuple):
    """Detections of one picture: xyxy float32 (N, 4) px of the picture given, score (N,), label (N,)."""

    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    label: NDArray[np.int64]


@dataclass(frozen=True)
class Bundle:
    """A checked bundle: every file it names is there, inside the folder, with the sha256 it should have.

    `model_file` is the model that is run: the one in floating point or the one in 8-bit integers.
    """

    directory: Path
    labels: tuple[str, ...]
    long_side: int
    thresholds: Mapping[str, float]
    files: Mapping[str, str]
    sha256: str
    model_file: str = MODEL

    @classmethod
    def load(cls, directory: Path) -> Bundle:
        """Read and check `directory/bundle.json`.

        Raises:
            OrveilError: missing, of another schema, a path that leaves the folder, or a changed file.
        """
        manifest = directory / "bundle.json"
        try:
            raw = manifest.read_bytes()
            content = json.loads(raw)
        except OSError as error:
            raise _bad(manifest, f"cannot read the bundle: {error.strerror}") from error
        except ValueError as error:
            raise _bad(manifest, f"bundle.json is not valid JSON: {error}") from error
        if not isinstance(content, dict) or content.get("schema") != BUNDLE_SCHEMA:
            found = content.get("schema") if isinstance(content, dict) else None
            raise _bad(manifest, f"bundle schema {found} is not {BUNDLE_SCHEMA}, the one this version reads")
        files = content.get("files")
        if not isinstance(files, dict) or MODEL not in files:
            raise _bad(manifest, f"`files` does not name {MODEL}")
        for name, digest in files.items():
            _check_file(directory, name, digest)
        model = content.get("model", MODEL)
        if model not in files:
            raise _bad(manifest, f"`model` is {model!r}, which `files` does not name")
        labels, thresholds = _labels(manifest, content)
        long_side = content.get("long_side")
        if not isinstance(long_side, int) or not 32 <= long_side <= 8192:
            raise _bad(manifest, "`long_side` is not a number of pixels between 32 and 8192")
        digest = hashlib.sha256(raw).hexdigest()
        return cls(directory, labels, long_side, thresholds, files, digest, model)

    @property
    def model(self) -> Path:
        """The ONNX file to run."""
        return self.directory / self.model_file

    def number(self, label: str) -> int:
        """Position of a label in the graph's output, -1 where the model does not know it."""
        return self.labels.index(label) if label in self.labels else -1


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bad(where: Path, what: str) -> OrveilError:
    return OrveilError(what, where=str(where), remedy="export the bundle again, or copy it again as a whole")


def _check_file(directory: Path, name: Any, digest: Any) -> None:
    manifest = directory / "bundle.json"
    pure = PurePosixPath(str(name))
    if not isinstance(name, str) or pure.is_absolute() or ".." in pure.parts or "\\" in name or not name:
        raise _bad(manifest, f"the bundle names a file outside its folder: {name!r}")
    path = directory / name
    if not path.is_file() or not path.resolve().is_relative_to(directory.resolve()):
        raise _bad(path, f"the bundle's file {name} is missing, or is a link that leaves the folder")
    if sha256_of(path) != digest:
        raise _bad(path, f"{name} is not the file the bundle was made with: its sha256 differs")


def _labels(manifest: Path, content: dict[str, Any]) -> tuple[tuple[str, ...], dict[str, float]]:
    labels, thresholds = content.get("labels"), content.get("thresholds")
    if not isinstance(labels, list) or not labels or not all(isinstance(name, str) for name in labels):
        raise _bad(manifest, "`labels` is not a list of names")
    if not isinstance(thresholds, dict) or set(thresholds) != set(labels):
        raise _bad(manifest, "`thresholds` does not give one number for each label")
    if not all(isinstance(t, int | float) and math.isfinite(t) and 0 <= t < 1 for t in thresholds.values()):
        raise _bad(manifest, "a threshold is not in [0, 1)")
    return tuple(labels), {name: float(value) for name, value in thresholds.items()}


def letterbox(picture: NDArray[np.uint8], fit: Fit) -> NDArray[np.uint8]:
    """Scale a BGR picture (H, W, 3) and pad it at the right and bottom with grey 114 to `fit.padded`."""
    width, height = fit.resized
    if (picture.shape[1], picture.shape[0]) != fit.resized:
        # Bilinear, as in the pipelines that the detectors were trained with.
        picture = np.asarray(cv2.resize(picture, (width, height)), dtype=np.uint8)
    padded = np.full((fit.padded[1], fit.padded[0], 3), PAD, dtype=np.uint8)
    padded[:height, :width] = picture
    return padded


class OnnxDetector:
    """Runs a bundle's graph on CPU.

    Args:
        bundle: checked bundle.
        threads: of ONNX Runtime; sums and so the last digits depend on it, keep it fixed.
        profile: path prefix; ONNX Runtime then notes the time of every operator until `end_profile`.

    Raises:
        OrveilError: the graph cannot be loaded or does not have the inputs and outputs of the contract.
    """

    def __init__(self, bundle: Bundle, threads: int = 2, profile: str = "") -> None:
        self.bundle = bundle
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Waiting threads that spin take the cores from decoder and encoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, profile
        try:
            self._session = ort.InferenceSession(str(bundle.model), options, ["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exception types share no public base
            raise _bad(bundle.model, f"ONNX Runtime cannot load the model: {error}") from error
        inputs = self._session.get_inputs()
        names = {output.name for output in self._session.get_outputs()}
        if (
            [i.name for i in inputs] != ["images"]
            or inputs[0].type != "tensor(uint8)"
            or not names.issuperset(OUTPUTS)
        ):
            raise _bad(bundle.model, "the model does not have the inputs and outputs of a bundle's detector")

    def detect(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Boxes]:
        """Detect on BGR pictures (H, W, 3); pictures of one size go through the graph as one batch.

        Returns:
            For each picture its boxes in that picture's pixels, scores from the graph's floor up.

        Raises:
            ModelError: the runtime failed, or an output is not finite or not of the contract's shape.
        """
        results: list[Boxes | None] = [None] * len(pictures)
        groups: dict[tuple[int, int], list[int]] = {}
        for position, picture in enumerate(pictures):
            groups.setdefault((picture.shape[1], picture.shape[0]), []).append(position)
        for (width, height), members in groups.items():
            fit = Fit.of(width, height, self.bundle.long_side)
            batch = np.stack([letterbox(pictures[member], fit) for member in members])
            for member, boxes in zip(members, self.infer(batch, fit), strict=True):
                results[member] = boxes
        return [boxes for boxes in results if boxes is not None]

    def end_profile(self) -> Path:
        """Stop noting times; the file (JSON, Chrome's trace format) with what was noted."""
        return Path(self._session.end_profiling())

    def infer(self, batch: NDArray[np.uint8], fit: Fit) -> list[Boxes]:
        """As `detect`, for pictures that are scaled and padded already: uint8 (B, H, W, 3).

        Returns:
            For each picture its boxes in px of the picture before scaling.
        """
        try:
            outputs = self._session.run(list(OUTPUTS), {"images": batch})
        except Exception as error:  # ONNX Runtime's own exception types share no public base
            raise ModelError(f"inference failed: {error}") from error
        xyxy, score, label, index = (np.asarray(output) for output in outputs)
        count = len(score)
        if xyxy.shape != (count, 4) or label.shape != (count,) or index.shape != (count,):
            raise ModelError("the outputs have shapes that are none of a detector")
        if not (np.isfinite(xyxy).all() and np.isfinite(score).all()):
            raise ModelError("the outputs hold values that are not finite")
        if count and (index.min() < 0 or index.max() >= len(batch)):
            raise ModelError("an output belongs to no picture of the batch")
        ordered = as_boxes(
            np.concatenate([np.minimum(xyxy[:, :2], xyxy[:, 2:]), np.maximum(xyxy[:, :2], xyxy[:, 2:])], 1)
        )
        source = fit.to_source(ordered)
        found = []
        for number in range(len(batch)):
            mine = index == number
            found.append(
                Boxes(
                    source[mine], np.clip(score[mine], 0, 1).astype(np.float32), label[mine].astype(np.int64)
                )
            )
        return found
