"""Export, the appliance's side: does a bundle still give the boxes it was exported with? No PyTorch here.

A bundle carries pictures of a simulated operating room, and the boxes that each of its models has to give for
them (`selftest.json`): those of PyTorch, and for integers those of the export.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.geometry import as_boxes, iou
from orveil.stages.runtime import Boxes, Bundle, OnnxDetector

__all__ = [
    "BATCHES", "SELFTEST", "answers", "compare", "in_batches", "refusal", "selftest_pictures",
    "verify_bundle",
]  # fmt: skip

SELFTEST = "selftest.json"
BATCHES = (1, 2, 5)
TIES = 0.005
"""Share of boxes that may lack a partner: two boxes that overlap exactly as much as suppression allows."""


def compare(
    reference: Sequence[Boxes], found: Sequence[Boxes], floor: float, max_score_error: float
) -> dict[str, float]:
    """Differences between two detectors' boxes on the same pictures.

    Boxes are paired within picture and label by overlap. A box whose score lies within `max_score_error` of
    the floor may be missing on the other side.

    Returns:
        `boxes` (number of the reference), `unpaired`, `max_box_error_px` and `max_score_error` of the pairs.
    """
    boxes = unpaired = 0
    box_error = score_error = 0.0
    for one, two in zip(reference, found, strict=True):
        boxes += len(one.score)
        for label in sorted({*one.label.tolist(), *two.label.tolist()}):
            a, b = (np.flatnonzero(side.label == label) for side in (one, two))
            pairs = _pairs(one.xyxy[a], two.xyxy[b])
            for i, j in pairs:
                box_error = max(box_error, float(np.abs(one.xyxy[a[i]] - two.xyxy[b[j]]).max()))
                score_error = max(score_error, float(abs(one.score[a[i]] - two.score[b[j]])))
            alone = np.concatenate(
                [
                    one.score[np.delete(a, [i for i, _ in pairs])],
                    two.score[np.delete(b, [j for _, j in pairs])],
                ]
            )
            unpaired += int((alone > floor + max_score_error).sum())
    return {
        "boxes": boxes,
        "unpaired": unpaired,
        "max_box_error_px": box_error,
        "max_score_error": score_error,
    }


def _pairs(a: NDArray[np.float32], b: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Pairs of nearly equal boxes, best overlap first, each box once."""
    overlap = iou(a, b)
    pairs = []
    while overlap.size and overlap.max() > 0.5:
        i, j = np.unravel_index(int(overlap.argmax()), overlap.shape)
        pairs.append((int(i), int(j)))
        overlap[i], overlap[:, j] = 0, 0
    return pairs


def refusal(figures: dict[str, float], max_box_error_px: float, max_score_error: float) -> str:
    """Why a comparison is not good enough, "" where it is."""
    if figures["unpaired"] > TIES * figures["boxes"]:
        return f"{figures['unpaired']:.0f} of {figures['boxes']:.0f} boxes have no counterpart"
    if not figures["max_box_error_px"] <= max_box_error_px:
        return f"boxes differ by {figures['max_box_error_px']:.3g} px, allowed are {max_box_error_px:g}"
    if not figures["max_score_error"] <= max_score_error:
        return f"scores differ by {figures['max_score_error']:.3g}, allowed are {max_score_error:g}"
    return ""


def selftest_pictures() -> list[NDArray[np.uint8]]:
    """Pictures of a simulated operating room, two landscape and two portrait (scripts/render_selftest.py)."""
    folder = files("orveil.configs") / "selftest"
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".jpg"))
    return [_decoded((folder / name).read_bytes(), str(folder / name)) for name in names]


def answers(found: Sequence[Boxes], max_box_error_px: float, max_score_error: float) -> dict[str, Any]:
    """What `selftest.json` says about one model: its boxes on the pictures, and how far others may be off."""
    return {
        "expected": [
            {"xyxy": b.xyxy.tolist(), "score": b.score.tolist(), "label": b.label.tolist()} for b in found
        ],
        "max_box_error_px": max_box_error_px,
        "max_score_error": max_score_error,
    }


def verify_bundle(directory: Path) -> list[dict[str, Any]]:
    """Repeat the export's parity check on this machine: every model, at every batch size.

    Args:
        directory: of the bundle.

    Returns:
        For each model and batch size `model`, `batch`, `used` (whether the appliance runs this model) and the
        figures of `compare`.

    Raises:
        OrveilError: a file is missing or changed, or the boxes are not those of the export.
    """
    bundle = Bundle.load(directory)
    if SELFTEST not in bundle.files:
        raise _stale(f"the bundle has no {SELFTEST}", directory)
    test: dict[str, Any] = json.loads((directory / SELFTEST).read_text("utf-8"))
    if bundle.model_file not in test.get("models", {}):
        raise _stale(f"{SELFTEST} says nothing about {bundle.model_file}", directory)
    pictures = [_decoded((directory / name).read_bytes(), str(directory / name)) for name in test["pictures"]]
    return [
        {"model": name, "used": name == bundle.model_file, **figures}
        for name, about in sorted(test["models"].items())
        for figures in _verify_model(replace(bundle, model_file=name), about, pictures, test["score_floor"])
    ]


def _verify_model(
    bundle: Bundle, about: Mapping[str, Any], pictures: Sequence[NDArray[np.uint8]], floor: float
) -> Iterator[dict[str, Any]]:
    """Compare one model at each batch size with what `selftest.json` says about it."""
    expected = [
        Boxes(as_boxes(item["xyxy"]), np.asarray(item["score"], np.float32), np.asarray(item["label"]))
        for item in about["expected"]
    ]
    detector = OnnxDetector(bundle)
    for batch in BATCHES:
        figures = compare(expected, in_batches(detector, pictures, batch), floor, about["max_score_error"])
        reason = refusal(figures, about["max_box_error_px"], about["max_score_error"])
        if reason:
            raise OrveilError(
                f"{bundle.model_file} in batches of {batch} does not detect here what it detected when "
                f"it was exported: {reason}",
                where=str(bundle.directory),
                remedy="install the onnxruntime version of the lock file, or export on this kind of machine",
            )
        yield {"batch": batch, **figures}


def in_batches(detector: OnnxDetector, pictures: Sequence[NDArray[np.uint8]], batch: int) -> list[Boxes]:
    """Boxes of each picture, found in batches of pictures of its size; the last ones are filled up."""
    found: list[Boxes | None] = [None] * len(pictures)
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, picture in enumerate(pictures):
        groups.setdefault(picture.shape, []).append(number)
    for members in groups.values():
        for start in range(0, len(members), batch):
            chosen = members[start : start + batch]
            filled = (chosen * batch)[:batch]
            for number, boxes in zip(filled, detector.detect([pictures[i] for i in filled]), strict=True):
                found[number] = boxes
    return [boxes for boxes in found if boxes is not None]


def _stale(what: str, directory: Path) -> OrveilError:
    return OrveilError(what, where=str(directory), remedy="export the bundle again")


def _decoded(content: bytes, where: str) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if picture is None:
        raise OrveilError(
            "a picture of the self-test cannot be read", where=where, remedy="copy the bundle again"
        )
    return np.asarray(picture, dtype=np.uint8)
