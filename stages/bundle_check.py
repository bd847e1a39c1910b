"""Export, the appliance's side: does a bundle still give the boxes it was exported with? No PyTorch here.

A bundle carries synthetic pictures and the boxes that PyTorch gave for them (`selftest.json`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.geometry import as_boxes, iou
from orveil.stages.runtime import Boxes, Bundle, OnnxDetector

__all__ = ["SELFTEST", "compare", "refusal", "selftest_pictures", "verify_bundle"]

SELFTEST = "selftest.json"
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


def selftest_pictures(long_side: int, count: int = 4) -> list[NDArray[np.uint8]]:
    """Rooms with simple figures, alternately landscape and portrait; the same on every machine.

    Args:
        long_side: longer side, px.
        count: of pictures.
    """
    pictures = []
    for number in range(count):
        generator = np.random.default_rng(number)
        sides = (long_side, long_side * 9 // 16)
        width, height = sides if number % 2 == 0 else sides[::-1]
        walls = generator.integers(60, 200, (6, 8, 3), dtype=np.uint8)
        picture = np.asarray(cv2.resize(walls, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
        for _ in range(4):
            x, y = (generator.random(2) * [width, 0.4 * height] + [0, 0.15 * height]).astype(int).tolist()
            size = int(height * generator.uniform(0.25, 0.5))
            shade = [int(v) for v in generator.integers(20, 230, 3)]
            cv2.ellipse(picture, (x, y + size // 2), (size // 6, size // 2), 0, 0, 360, shade, -1)
            cv2.circle(picture, (x, y), max(2, size // 9), (120, 150, 210), -1)
        pictures.append(picture)
    return pictures


def verify_bundle(directory: Path) -> dict[str, float]:
    """Repeat the export's parity check on this machine.

    Args:
        directory: of the bundle.

    Returns:
        Figures of `compare`.

    Raises:
        OrveilError: a file is missing or changed, or the boxes are not those of the export.
    """
    bundle = Bundle.load(directory)
    if SELFTEST not in bundle.files:
        raise OrveilError(
            f"the bundle has no {SELFTEST}", where=str(directory), remedy="export the bundle again"
        )
    test: dict[str, Any] = json.loads((directory / SELFTEST).read_text("utf-8"))
    pictures = [_read_picture(directory / name) for name in test["pictures"]]
    expected = [
        Boxes(
            as_boxes(item["xyxy"]),
            np.asarray(item["score"], np.float32),
            np.asarray(item["label"], np.int64),
        )
        for item in test["expected"]
    ]
    found = OnnxDetector(bundle).detect(pictures)
    figures = compare(expected, found, float(test["score_floor"]), float(test["max_score_error"]))
    reason = refusal(figures, float(test["max_box_error_px"]), float(test["max_score_error"]))
    if reason:
        raise OrveilError(
            f"the bundle does not detect here what it detected when it was exported: {reason}",
            where=str(directory),
            remedy="install the onnxruntime version of the lock file, or export on this kind of machine",
        )
    return figures


def _read_picture(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise OrveilError(
            "a picture of the bundle's self-test cannot be read",
            where=str(path),
            remedy="copy the bundle again",
        )
    return np.asarray(picture, dtype=np.uint8)
