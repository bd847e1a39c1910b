"""Learning: people put in front of other people, so that a training sees what labels alone rarely teach.

Pseudo labels are best where a person stands apart, and missing or doubtful where people cover each other.
People who were cut out of other pictures of the same camera, put in front of others, make crowded pictures in
which it is known who covers whom. (Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for
Instance Segmentation, 2021; boxes of what stays visible as in its section 3. New here: masks come from
motion, and new people stand where people of their size stood.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import as_boxes, clip
from orveil.stages.cutouts import Boxes, Cutout, Mask, Picture, cut_out, inside, largest_parts, motion_masks
from orveil.stages.mm_data import DetectionSample
from orveil.stages.targets import ALL_CLASSES

__all__ = ["Crowd", "paste"]

MOST = 3
"""People put into one picture: one to so many."""
ONTO = 0.7
"""Probability that somebody is put partly over a labelled person, instead of anywhere in the picture."""
ASIDE = (0.2, 0.8)
"""Distance of their middles, as a share of that at which the two would only touch."""
NEARER, NEARER_BY = 0.5, 0.3
"""Probability that the feet go below those of the other, and by how much of the height at most."""
STEP = 0.05
"""Otherwise feet stay near the row where they were, within this share of the height: there the size fits."""
SCALE, LIGHT, MIRROR = 0.12, (0.85, 1.15), 0.5
"""Range of the logarithm of size, range of brightness, probability of a mirror image."""
SMALLEST = 8
"""Of whom less than so many px, in width or height, would be in the picture, is not put there."""
EDGE, EDGE_LEAST = 0.8, 0.5
"""Blur of the edge, px, and how much of it is at least the person: a hard edge would give the pasted away."""

TOUCHED = 0.03
"""A box of which a smaller share is covered stays as it is."""
KNOWN = 0.3
"""Share of a box in which something must have moved: below it the mask does not show the body."""
VISIBLE, TRACE = 0.25, 0.03
"""Shares of a body: with more in sight it is a label, with less than the second nothing is left of it."""
HEAD_FREE, HEAD_TRACE = 0.3, 0.75
"""Shares of a head: with less covered it is a label, with more than the second nothing is left of it."""
PART = 0.08
"""Share of what is visible below which a part that lies apart does not stretch the box."""
MOVED_SIDE = 2.0
"""A side that the covering moves by no more px stays where it was labelled."""
HEAD_SMALLEST = 3
"""Width and height, px, that a head must have more of in the picture."""


class Crowd:
    """The people of a site who can be put into its pictures.

    Args:
        samples: labelled pictures.
        cameras: of the same pictures, anything that is equal for one camera; it must have stood still.
        person, head: labels of the two classes; None where the model knows no heads.
    """

    def __init__(
        self, samples: Sequence[DetectionSample], cameras: Sequence[object], person: int, head: int | None
    ) -> None:
        self._samples, self._classes = samples, (person, head)
        self._moved: list[Mask] = [np.zeros((0, 0), np.bool_)] * len(samples)
        self._bank: list[list[Cutout]] = [[]] * len(samples)
        rows: dict[object, list[int]] = {}
        for row, (camera, sample) in enumerate(zip(cameras, samples, strict=True)):
            rows.setdefault((camera, sample.image.shape), []).append(row)
        for members in rows.values():
            bank: list[Cutout] = []
            masks = motion_masks([samples[row].image for row in members])
            for row, mask in zip(members, masks, strict=True):
                self._moved[row], self._bank[row] = mask, bank
                bank += cut_out(samples[row], mask, person, head)

    def join(self, number: int, rng: np.random.Generator) -> DetectionSample:
        """Sample `number` with some people of the same camera in it; unchanged where there are none."""
        return paste(self._samples[number], self._moved[number], self._bank[number], *self._classes, rng)


@dataclass(frozen=True, eq=False)
class _Pasted:
    """Somebody who was put into a picture.

    Attributes:
        number: theirs in the map of who is on top, from 1.
        pixels: how many they have within the picture.
        head: (4,) in the picture, px.
    """

    number: int
    pixels: int
    cutout: Cutout
    head: Boxes | None


@dataclass
class _Known:
    """What is known about a picture, while it is put together."""

    labels: list[tuple[Boxes, int, float]] = field(default_factory=list)
    ignored: list[tuple[Boxes, int]] = field(default_factory=list)

    def teach(self, box: Boxes, label: int, weight: float) -> None:
        self.labels.append((box, label, weight))

    def ignore(self, box: Boxes, label: int) -> None:
        self.ignored.append((box, label))

    def sample(self, image: Picture) -> DetectionSample:
        return DetectionSample(
            image,
            as_boxes([box for box, _, _ in self.labels]),
            np.array([label for _, label, _ in self.labels], np.int64),
            np.array([weight for _, _, weight in self.labels], np.float32),
            as_boxes([box for box, _ in self.ignored]),
            np.array([label for _, label in self.ignored], np.int64),
        )


def paste(
    sample: DetectionSample,
    moved: Mask,
    bank: Sequence[Cutout],
    person: int,
    head: int | None,
    rng: np.random.Generator,
) -> DetectionSample:
    """A picture with one to `MOST` more people in it; the sample itself where the bank is empty.

    Args:
        sample: a picture and its labels.
        moved: (H, W) where the picture differs from the usual one, from `motion_masks`.
        bank: people of the same camera.
        person, head: labels of the two classes; None where the model knows no heads.
        rng: the only source of chance.

    Returns:
        A new sample. Boxes of bodies that were covered reach as far as what is left in sight; mostly hidden
        ones are ignored, or gone.
    """
    if not bank:
        return sample
    image, on_top = sample.image.copy(), np.zeros(sample.image.shape[:2], np.uint8)
    persons = sample.xyxy[sample.labels == person]
    added = []
    for number in range(1, 1 + int(rng.integers(1, MOST + 1))):
        cutout = _varied(bank[int(rng.integers(len(bank)))], rng)
        corner = _corner(cutout, persons, image.shape[1], rng)
        one = _put(image, on_top, cutout, corner, number)
        if one is not None:
            added.append(one)
    known = _Known()
    _keep(known, sample, moved, on_top, head)
    for one in added:
        _add(known, one, on_top, person, head)
    return known.sample(image)


def _varied(cutout: Cutout, rng: np.random.Generator) -> Cutout:
    """Somewhat larger or smaller, brighter or darker, mirrored."""
    factor = float(np.exp(rng.uniform(-SCALE, SCALE)))
    size = [max(SMALLEST, round(side * factor)) for side in cutout.mask.shape[::-1]]
    image = cv2.resize(cutout.image, size)
    mask = cv2.resize(cutout.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    image = np.clip(image.astype(np.float32) * rng.uniform(*LIGHT), 0, 255).astype(np.uint8)
    head = None if cutout.head is None else (cutout.head * factor).astype(np.float32)
    if rng.random() < MIRROR:
        image, mask = image[:, ::-1], mask[:, ::-1]
        if head is not None:
            head = np.array([size[0] - head[2], head[1], size[0] - head[0], head[3]], np.float32)
    return Cutout(image, mask, cutout.feet, cutout.weight, head, cutout.head_weight)


def _corner(cutout: Cutout, persons: Boxes, width: int, rng: np.random.Generator) -> tuple[int, int]:
    """Where the upper left corner of a cutout goes: (x, y), also outside the picture."""
    h, w = cutout.mask.shape
    feet = cutout.feet + rng.normal(0, STEP) * h
    if len(persons) and rng.random() < ONTO:
        x0, _, x1, y1 = persons[int(rng.integers(len(persons)))].tolist()
        aside = rng.choice([-1, 1]) * rng.uniform(*ASIDE) * (x1 - x0 + w) / 2
        middle = (x0 + x1) / 2 + aside
        if rng.random() < NEARER:
            feet = y1 + rng.uniform(0, NEARER_BY) * h
    else:
        middle = rng.uniform(0, width)
    return round(middle - w / 2), round(feet - h)


def _put(
    image: Picture, on_top: NDArray[np.uint8], cutout: Cutout, corner: tuple[int, int], number: int
) -> _Pasted | None:
    """Blend a cutout into a picture, and note which pixels are its; None where hardly any are in it."""
    (x, y), (h, w) = corner, cutout.mask.shape
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, image.shape[1]), min(y + h, image.shape[0])
    if x1 - x0 < SMALLEST or y1 - y0 < SMALLEST:
        return None
    part = slice(y0 - y, y1 - y), slice(x0 - x, x1 - x)
    mask = cutout.mask[part]
    if not mask.any():  # the corner of the box that is in the picture shows nothing of the person
        return None
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), EDGE)
    share = np.where(mask, np.maximum(soft, EDGE_LEAST), soft)[..., None]
    place = image[y0:y1, x0:x1]
    place[:] = (share * cutout.image[part] + (1 - share) * place).astype(np.uint8)
    on_top[y0:y1, x0:x1][mask] = number
    head = None if cutout.head is None else cutout.head + np.array([x, y, x, y], np.float32)
    return _Pasted(number, int(mask.sum()), cutout, head)


def _keep(
    known: _Known, sample: DetectionSample, moved: Mask, on_top: NDArray[np.uint8], head: int | None
) -> None:
    """What is still known about the people who were in the picture before."""
    for box, label in zip(sample.ignore, sample.ignore_labels.tolist(), strict=True):
        known.ignore(box, label)
    for box, label, weight in zip(sample.xyxy, sample.labels.tolist(), sample.weights.tolist(), strict=True):
        x0, y0, x1, y1 = inside(box, on_top)
        covered = on_top[y0:y1, x0:x1] > 0
        if not covered.any():
            known.teach(box, label, weight)
        elif label == head:
            _cover_head(known, box, label, weight, float(covered.mean()))
        else:
            _cover_body(known, box, label, weight, covered, moved[y0:y1, x0:x1])


def _cover_head(known: _Known, box: Boxes, label: int, weight: float, covered: float) -> None:
    """A head keeps its whole box, as heads of people who hold something before them do."""
    if covered < HEAD_FREE:
        known.teach(box, label, weight)
    elif covered < HEAD_TRACE:
        known.ignore(box, label)


def _cover_body(known: _Known, box: Boxes, label: int, weight: float, covered: Mask, moved: Mask) -> None:
    """A body of which something is covered: its box reaches as far as what is left in sight."""
    if covered.mean() < TOUCHED:
        known.teach(box, label, weight)
        return
    if moved.mean() < KNOWN:
        # The mask does not show the body: nobody knows how much of it is left.
        if covered.mean() < 1 - TRACE:
            known.ignore(box, label)
        return
    body = largest_parts(moved, PART)
    left = moved & ~covered
    if left.sum() < VISIBLE * moved.sum():
        if left.sum() > TRACE * moved.sum():
            known.ignore(box, label)
        return
    left = body & largest_parts(left, PART)
    if not left.any():
        known.ignore(box, label)
        return
    shift = _extent(left) - _extent(body)
    seen = box + np.where(np.abs(shift) > MOVED_SIDE, shift, np.float32(0))
    if (seen[2:] - seen[:2]).min() < SMALLEST:
        known.ignore(box, label)
    else:
        known.teach(seen, label, weight)


def _add(known: _Known, one: _Pasted, on_top: NDArray[np.uint8], person: int, head: int | None) -> None:
    """What is known about somebody who was put into the picture."""
    mine = on_top == one.number
    if mine.sum() < VISIBLE * one.pixels:
        if mine.sum() > TRACE * one.pixels:
            known.ignore(_extent(mine), ALL_CLASSES)
        return
    known.teach(_extent(mine), person, one.cutout.weight)
    if head is None:
        return
    if one.head is None:
        known.ignore(_extent(mine), head)
        return
    x0, y0, x1, y1 = inside(one.head, on_top)
    above = on_top[y0:y1, x0:x1] > one.number
    if not above.size:
        return
    box = clip(one.head, on_top.shape[1], on_top.shape[0])[0]
    if (box[2:] - box[:2]).min() <= HEAD_SMALLEST:
        known.ignore(box, head)
    else:
        _cover_head(known, box, head, one.cutout.head_weight, float(above.mean()))


def _extent(mask: Mask) -> Boxes:
    """Box (4,) around the pixels of a mask, of which there is at least one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
