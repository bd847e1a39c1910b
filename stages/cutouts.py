"""Learning: people cut out of the pictures of a fixed camera, along what differs from its usual picture.

No label of shape is needed: where somebody stands apart from the others, the pixels of their box that are not
those of the empty room are theirs. Who keeps still for most of the recording is part of the usual picture and
cannot be cut out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import as_boxes, clip, iou
from orveil.stages.mm_data import DetectionSample

__all__ = ["Cutout", "cut_out", "inside", "largest_parts", "motion_masks"]

Boxes = NDArray[np.float32]
Mask = NDArray[np.bool_]
Picture = NDArray[np.uint8]

FEWEST_PICTURES = 8
"""Fewer pictures of a camera have no telling median: then nothing counts as moved."""
STRIP = 32
"""Rows of all pictures that are sorted at once, which bounds memory."""
SMOOTH = 1.0
"""Blur, px, that takes the noise of sensor and codec away before pictures are compared."""
OTHER = 16
"""A pixel that differs by more (of 255) from the usual picture, in any colour, shows something else."""
GAP, SPECK = 5, 3
"""Sides, px, of the gaps that are closed and of the specks that are removed from a mask."""

SMALLEST = (12, 24)
"""Width and height, px, below which a person makes no telling cutout."""
APART, APART_DOUBTFUL = 0.1, 0.35
"""Overlap (IoU) with another person, or a doubtful place, above which others would be cut out too."""
REACH = (0.75, 0.8)
"""Share of the box's width and height that the cutout must span: less is part of a body."""
FILLED = 0.25
"""Share of the box's area that the cutout must fill; people fill a third to two thirds."""


@dataclass(frozen=True, eq=False)
class Cutout:
    """A person without what is around them.

    Attributes:
        image: (h, w, 3) uint8 BGR, the person's box.
        mask: (h, w) bool, which of its pixels are the person's.
        feet: row of the box's lower border in the picture it is from: how far down people of this size stand.
        weight: of the person's label in the loss.
        head: (4,) box within `image`, px; None where it is not known.
        head_weight: of the head's label.
    """

    image: Picture
    mask: Mask
    feet: float
    weight: float
    head: Boxes | None = None
    head_weight: float = 0.0


def motion_masks(pictures: Sequence[Picture]) -> list[Mask]:
    """Which pixels of each picture differ from the median picture of them all.

    Args:
        pictures: (H, W, 3) of one camera that stands still.

    Returns:
        (H, W) for each; all false where there are too few pictures.
    """
    if len(pictures) < FEWEST_PICTURES:
        return [np.zeros(picture.shape[:2], np.bool_) for picture in pictures]
    usual = _smooth(_median(pictures))
    return [_unusual(_smooth(picture), usual) for picture in pictures]


def _median(pictures: Sequence[Picture]) -> Picture:
    """The upper median: of bytes, which are sorted without a copy in floating point."""
    middle = len(pictures) // 2
    strips = []
    for top in range(0, pictures[0].shape[0], STRIP):
        stack = np.stack([picture[top : top + STRIP] for picture in pictures], axis=-1)
        stack.partition(middle, axis=-1)
        strips.append(stack[..., middle])
    return np.concatenate(strips)


def _smooth(picture: Picture) -> NDArray[np.int16]:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), SMOOTH)).astype(np.int16)


def _unusual(picture: NDArray[np.int16], usual: NDArray[np.int16]) -> Mask:
    difference = picture - usual
    # A lamp that is switched changes the whole picture: what most pixels have in common does not count.
    difference -= np.median(difference[::4, ::4], axis=(0, 1)).astype(np.int16)
    mask = (np.abs(difference).max(axis=-1) > OTHER).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((GAP, GAP), np.uint8))
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((SPECK, SPECK), np.uint8)) > 0)


def cut_out(sample: DetectionSample, moved: Mask, person: int, head: int | None) -> list[Cutout]:
    """The people of a picture who stand apart from all others and whose outline can be seen.

    Args:
        sample: a picture and its labels.
        moved: (H, W) of the same picture, from `motion_masks`.
        person, head: labels of the two classes; None where the model knows no heads.

    Returns:
        One cutout for each such person, in the order of the labels.
    """
    rows = np.flatnonzero(sample.labels == person)
    among = iou(sample.xyxy[rows], sample.xyxy[rows])
    np.fill_diagonal(among, 0.0)
    # A place that is doubtful for heads alone says nothing about bodies.
    doubtful = sample.ignore[sample.ignore_labels != head] if head is not None else sample.ignore
    beside = iou(sample.xyxy[rows], doubtful).max(axis=1, initial=0.0)
    alone = (among.max(axis=1, initial=0.0) <= APART) & (beside <= APART_DOUBTFUL)
    found = (_one(sample, moved, row, head) for row in rows[alone].tolist())
    return [cutout for cutout in found if cutout is not None]


def _one(sample: DetectionSample, moved: Mask, row: int, head: int | None) -> Cutout | None:
    x0, y0, x1, y1 = inside(sample.xyxy[row], moved)
    width, height = x1 - x0, y1 - y0
    if width < SMALLEST[0] or height < SMALLEST[1]:
        return None
    mask = _outline(moved[y0:y1, x0:x1])
    if mask is None:
        return None
    heads = np.flatnonzero(sample.labels == head) if head is not None else np.zeros(0, np.int64)
    middle = sample.xyxy[heads].reshape(-1, 2, 2).mean(axis=1)
    heads = heads[((middle > (x0, y0)) & (middle < (x1, y1))).all(axis=1)]
    if len(heads) > 1:
        return None
    # The picture stays in memory for training anyway, so that a view of it costs nothing.
    cutout = Cutout(sample.image[y0:y1, x0:x1], mask, float(y1), float(sample.weights[row]))
    if not len(heads):
        return cutout
    box = sample.xyxy[heads[0]] - np.array([x0, y0, x0, y0], np.float32)
    return Cutout(cutout.image, mask, cutout.feet, cutout.weight, box, float(sample.weights[heads[0]]))


def _outline(moved: Mask) -> Mask | None:
    """The largest connected part of a box, its holes filled; None where that is no whole person."""
    height, width = moved.shape
    count, parts, about, _ = cv2.connectedComponentsWithStats(moved.astype(np.uint8))
    if count < 2:
        return None
    largest = 1 + int(np.argmax(about[1:, cv2.CC_STAT_AREA]))
    _, _, w, h, area = about[largest].tolist()
    if w < REACH[0] * width or h < REACH[1] * height or area < FILLED * width * height:
        return None
    part = (parts == largest).astype(np.uint8)
    edges, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # What has the colour of the room, a grey coat before a grey wall, leaves holes.
    return np.asarray(cv2.drawContours(np.zeros_like(part), edges, -1, 1, cv2.FILLED) > 0)


def largest_parts(mask: Mask, least: float) -> Mask:
    """A mask without the connected parts that hold at most `least` of its pixels."""
    count, parts, about, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return mask
    large = about[:, cv2.CC_STAT_AREA] > least * mask.sum()
    large[0] = False
    return np.asarray(large[parts])


def inside(box: Boxes, picture: NDArray[np.generic]) -> tuple[int, int, int, int]:
    """Whole pixels (x0, y0, x1, y1) of a box (4,) that lie in a picture (H, W, ...)."""
    x0, y0, x1, y1 = np.round(clip(as_boxes(box), picture.shape[1], picture.shape[0])[0]).astype(int).tolist()
    return x0, y0, x1, y1
