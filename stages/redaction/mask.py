"""Stages: drawing of masks: which pixels of a frame are replaced, and by what. Imports numpy and OpenCV only.

Pictures are lists of planes (Y, U, V; U and V may be subsampled), so that pixels outside the masks keep
exactly the values they had. Nothing of the replaced pixels but a few averages survives: the region is
reduced to about six cells across its shorter side before it is blurred and enlarged again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import as_boxes, clip, expand

__all__ = ["CELLS", "cover_planes", "draw_mask", "fill_planes", "regions_px"]

CELLS = 6
"""Averages kept across the shorter side of a region. Faces are told apart from about 16 pixels up
(Harmon and Julesz, Science 180, 1973, 1194-1197); a region is larger than the face in it."""
MIN_CELL = 4

Planes = Sequence[NDArray[Any]]
Mask = NDArray[np.bool_]


def regions_px(xyxy: NDArray[Any], margin: float, width: int, height: int) -> NDArray[np.float32]:
    """Boxes (N, 4) grown by the margin and cut at the picture's border; what lies outside is dropped."""
    grown = clip(expand(as_boxes(xyxy), margin), width, height)
    return grown[(grown[:, 2] > grown[:, 0]) & (grown[:, 3] > grown[:, 1])]


def draw_mask(regions: NDArray[Any], shape: str, width: int, height: int) -> Mask:
    """Which pixels (height, width) the regions (N, 4) replace; `shape` is ellipse or box."""
    mask = np.zeros((height, width), dtype=bool)
    for region in as_boxes(regions):
        x0, y0, x1, y1 = _pixels(region, width, height)
        mask[y0:y1, x0:x1] |= _shape(region, shape, x0, y0, x1, y1)
    return mask


def _pixels(region: NDArray[np.float32], width: int, height: int, step: int = 1) -> tuple[int, int, int, int]:
    """The pixels a region touches, widened to multiples of `step`."""
    low = np.floor(np.maximum(region[:2], 0) / step).astype(int) * step
    high = np.ceil(region[2:] / step).astype(int) * step
    return int(low[0]), int(low[1]), min(int(high[0]), width), min(int(high[1]), height)


def _shape(region: NDArray[np.float32], shape: str, x0: int, y0: int, x1: int, y1: int) -> Mask:
    rows = (np.arange(y0, y1) + 1 > region[1]) & (np.arange(y0, y1) < region[3])
    columns = (np.arange(x0, x1) + 1 > region[0]) & (np.arange(x0, x1) < region[2])
    touched = np.asarray(rows[:, None] & columns[None, :])
    if shape == "box":
        return touched
    centre, radius = (region[:2] + region[2:]) / 2, np.maximum((region[2:] - region[:2]) / 2, 0.5)
    across = (np.abs(np.arange(x0, x1) + 0.5 - centre[0]) - 0.5).clip(0) / radius[0]
    down = (np.abs(np.arange(y0, y1) + 0.5 - centre[1]) - 0.5).clip(0) / radius[1]
    # The nearest corner of a pixel decides: what the ellipse touches is replaced as a whole.
    # Never outside the region, which an ellipse about a region of less than a pixel would reach.
    return touched & np.asarray(across[None, :] ** 2 + down[:, None] ** 2 <= 1.0)


def cover_planes(planes: Planes, regions: NDArray[Any], style: str, shape: str, bits: int = 8) -> None:
    """Replace the regions in place.

    Args:
        planes: Y (H, W), U and V (H / sy, W / sx), writable, uint8 or uint16.
        regions: (N, 4) px of the Y plane, inside the picture.
        style: gaussian, mosaic or solid; shape: ellipse or box; bits: per sample.
    """
    height, width = planes[0].shape
    steps = [(-(-height // p.shape[0]), -(-width // p.shape[1])) for p in planes]
    coarsest = max(max(step) for step in steps)
    for region in as_boxes(regions):
        x0, y0, x1, y1 = _pixels(region, width, height, coarsest)
        mask = _shape(region, shape, x0, y0, x1, y1)
        side = min(x1 - x0, y1 - y0)
        for number, (plane, (down, across)) in enumerate(zip(planes, steps, strict=True)):
            part = plane[y0 // down : -(-y1 // down), x0 // across : -(-x1 // across)]
            if style == "solid":
                fill: Any = _black(number, bits)
            else:
                fill = _averaged(part, max(side / CELLS, MIN_CELL) / down, style)
            np.copyto(part, fill, where=_reduced(mask, down, across))


def _averaged(part: NDArray[Any], cell: float, style: str) -> NDArray[Any]:
    height, width = part.shape
    small = max(1, round(width / cell)), max(1, round(height / cell))
    cells = cv2.resize(np.ascontiguousarray(part), small, interpolation=cv2.INTER_AREA)
    if style == "mosaic":
        return np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST))
    blurred = cv2.GaussianBlur(cells, (0, 0), 0.8, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR))


def _reduced(mask: Mask, down: int, across: int) -> Mask:
    """The mask of a subsampled plane: a sample is replaced if any pixel it belongs to is."""
    if down == across == 1:
        return mask
    height, width = -(-mask.shape[0] // down) * down, -(-mask.shape[1] // across) * across
    padded = np.zeros((height, width), dtype=bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    return np.asarray(padded.reshape(height // down, down, width // across, across).any(axis=(1, 3)))


def fill_planes(planes: Planes, bits: int = 8) -> None:
    """Cover the whole picture in place: black."""
    for number, plane in enumerate(planes):
        plane[...] = _black(number, bits)


def _black(plane: int, bits: int) -> int:
    return (16 if plane == 0 else 128) << (bits - 8)
