"""Stages: drawing of masks: which pixels of a frame are replaced, and by what. Imports numpy and OpenCV only.

Pictures are lists of planes (Y, U, V; U and V may be subsampled), so that pixels outside the masks keep
exactly the values they had. Nothing of the replaced pixels but a few averages survives: the region is
reduced to `cells` averages across its shorter side before it is blurred and enlarged again, so that the
strength grows with the face.

A `limit` is a rectangle that masks must not leave: the picture, or a region of interest. A face that is cut
by it has no round corners there, so an ellipse is square on the sides where it meets its limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import as_boxes, expand

__all__ = ["CELLS", "cover_planes", "draw_mask", "fill_planes", "regions_px"]

CELLS = 1
"""Averages kept across the shorter side of a region. With more, people are told apart by comparing masked
pictures with pictures that are masked likewise (scripts/attack_faces.py, docs/adr/0010: 6 cells are enough
for that), though nobody could recognise them by eye."""
MIN_CELL = 4

Planes = Sequence[NDArray[Any]]
Mask = NDArray[np.bool_]
Boxes = NDArray[np.float32]


def regions_px(
    xyxy: NDArray[Any], margin: float, width: int, height: int, limits: NDArray[Any] | None = None
) -> Boxes:
    """Boxes (N, 4) grown by the margin and cut at the limits (M, 4), default the picture's border.

    A box that reaches into several limits gives a region in each; what lies outside all is dropped.
    """
    grown = expand(as_boxes(xyxy), margin)
    within = _whole(width, height) if limits is None else as_boxes(limits)
    parts = [
        np.concatenate([np.maximum(grown[:, :2], limit[:2]), np.minimum(grown[:, 2:], limit[2:])], axis=1)
        for limit in within
    ]
    cut = as_boxes(np.stack(parts, axis=1)) if parts else as_boxes([])
    return cut[(cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1])]


def _whole(width: int, height: int) -> Boxes:
    return as_boxes([[0, 0, width, height]])


def draw_mask(
    regions: NDArray[Any], shape: str, width: int, height: int, limits: NDArray[Any] | None = None
) -> Mask:
    """Which pixels (height, width) the regions (N, 4) replace; `shape` is ellipse or box."""
    mask = np.zeros((height, width), dtype=bool)
    within = _whole(width, height) if limits is None else as_boxes(limits)
    for region in as_boxes(regions):
        x0, y0, x1, y1 = _pixels(region, width, height)
        mask[y0:y1, x0:x1] |= _shape(region, shape, x0, y0, x1, y1, within)
    return mask


def _pixels(region: Boxes, width: int, height: int, step: int = 1) -> tuple[int, int, int, int]:
    """The pixels a region touches, widened to multiples of `step`."""
    low = np.floor(np.maximum(region[:2], 0) / step).astype(int) * step
    high = np.ceil(region[2:] / step).astype(int) * step
    return int(low[0]), int(low[1]), min(int(high[0]), width), min(int(high[1]), height)


def _shape(region: Boxes, shape: str, x0: int, y0: int, x1: int, y1: int, limits: Boxes) -> Mask:
    x, y = np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5
    rows = (y + 0.5 > region[1]) & (y - 0.5 < region[3])
    columns = (x + 0.5 > region[0]) & (x - 0.5 < region[2])
    if shape == "box":
        return np.asarray(rows[:, None] & columns[None, :])
    centre, radius = (region[:2] + region[2:]) / 2, np.maximum((region[2:] - region[:2]) / 2, 0.5)
    # The nearest corner of a pixel decides: what the ellipse touches is replaced as a whole.
    # Never outside the region, which an ellipse about a region of less than a pixel would reach.
    down = (np.abs(y - centre[1]) - 0.5).clip(0) / radius[1]
    reach = np.sqrt((1 - down**2).clip(0)) * radius[0] + 0.5
    within = rows & (down <= 1)
    first = np.where(within, np.searchsorted(x, centre[0] - reach), len(x)).astype(np.int16)
    last = np.where(within, np.searchsorted(x, centre[0] + reach, "right"), 0).astype(np.int16)
    across = np.arange(len(x), dtype=np.int16)
    inside = np.asarray((across >= first[:, None]) & (across < last[:, None]) & columns[None, :])
    left, top, right, bottom = (region[None, :] == limits).any(axis=0)
    if left or right or top or bottom:
        wide = (left & (x <= centre[0])) | (right & (x >= centre[0]))
        high = (top & (y <= centre[1])) | (bottom & (y >= centre[1]))
        inside |= (rows[:, None] & (wide & columns)[None, :]) | ((high & rows)[:, None] & columns[None, :])
    return inside


def cover_planes(
    planes: Planes, regions: NDArray[Any], style: str, shape: str, bits: int = 8, *,
    cells: int = CELLS, soft: NDArray[Any] | None = None, limits: NDArray[Any] | None = None,
) -> None:  # fmt: skip
    """Replace the regions in place.

    Args:
        planes: Y (H, W), U and V (H / sy, W / sx), writable, uint8 or uint16.
        regions: (N, 4) px of the Y plane, inside the picture: what is replaced entirely.
        style: gaussian, mosaic or solid; shape: ellipse or box; bits: per sample.
        cells: averages kept across the shorter side of a region.
        soft: (N, 4) around each region; from its edge to the region the mask fades in. What lies outside it
            stays as it is.
        limits: (M, 4), default the picture.
    """
    height, width = planes[0].shape
    within = _whole(width, height) if limits is None else as_boxes(limits)
    steps = [(-(-height // p.shape[0]), -(-width // p.shape[1])) for p in planes]
    coarsest = max(max(step) for step in steps)
    inner = as_boxes(regions)
    for region, outer in zip(inner, inner if soft is None else as_boxes(soft), strict=True):
        x0, y0, x1, y1 = _pixels(outer, width, height, coarsest)
        mask = _shape(region, shape, x0, y0, x1, y1, within)
        weight = None if soft is None else _fading(mask, _shape(outer, shape, x0, y0, x1, y1, within))
        side = min(x1 - x0, y1 - y0)
        replaced = {step: _most(mask if weight is None else weight, *step) for step in set(steps)}
        for number, (plane, step) in enumerate(zip(planes, steps, strict=True)):
            down, across = step
            part = plane[y0 // down : -(-y1 // down), x0 // across : -(-x1 // across)]
            if style == "solid":
                fill: Any = _black(number, bits)
            else:
                fill = _averaged(part, max(side / cells, MIN_CELL) / down, style)
            if weight is not None:
                part[...] = np.rint(part * (1 - replaced[step]) + fill * replaced[step])
            else:
                _put(part, fill, replaced[step])


def _put(part: NDArray[Any], fill: Any, mask: Mask) -> None:
    """Replace what the mask says, in place; OpenCV does it ten times faster than numpy."""
    full = np.full(part.shape, fill, part.dtype) if isinstance(fill, int) else fill
    cv2.copyTo(full, mask.view(np.uint8), part)


def _fading(inner: Mask, outer: Mask) -> NDArray[np.float32]:
    """Weight of the mask: 1 inside, 0 outside `outer`, rising in between with the distance from outside."""
    ring = outer & ~inner
    if not ring.any():
        return inner.astype(np.float32)
    framed = np.pad(outer.astype(np.uint8), 1)
    away = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1]
    weight = np.minimum(away / max(float(away[ring].max()) + 1.0, 1.0), 1.0).astype(np.float32)
    return np.where(inner, np.float32(1), np.where(outer, weight, np.float32(0)))


def _averaged(part: NDArray[Any], cell: float, style: str) -> Any:
    height, width = part.shape
    small = max(1, round(width / cell)), max(1, round(height / cell))
    if small == (1, 1):
        return round(cv2.mean(part)[0])
    cells = cv2.resize(np.ascontiguousarray(part), small, interpolation=cv2.INTER_AREA)
    if style == "mosaic":
        return cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST)
    blurred = cv2.GaussianBlur(cells, (0, 0), 0.8, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)


def _most(weight: NDArray[Any], down: int, across: int) -> NDArray[Any]:
    """The mask of a subsampled plane: a sample is replaced as much as the most replaced of its pixels."""
    height, width = weight.shape
    if height % down or width % across:
        weight = np.pad(weight, ((0, -height % down), (0, -width % across)))
    rows = weight[::down] if down == 1 else np.maximum(weight[::2], weight[1::2])
    return rows if across == 1 else np.maximum(rows[:, ::2], rows[:, 1::2])


def fill_planes(planes: Planes, bits: int = 8) -> None:
    """Cover the whole picture in place: black."""
    for number, plane in enumerate(planes):
        plane[...] = _black(number, bits)


def _black(plane: int, bits: int) -> int:
    return (16 if plane == 0 else 128) << (bits - 8)
