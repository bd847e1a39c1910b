"""OpenMMLab room, training data: what a training sees, as a pure function of seed and position.

A training asks for positions 0, 1, 2, ...; which sample that is, and how it is varied, depends on nothing but
the seed and the position. A run that was killed at any point and started again therefore sees the same data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Augment",
    "Crowdable",
    "DetectionSample",
    "PoseSample",
    "SampleSource",
    "canvas_size",
    "detection_view",
    "pick",
]

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

PAD = (114, 114, 114)
MIN_KEPT = 0.3
"""A box of which less than this share stays in the picture is not a label there but a place to ignore."""


@dataclass(frozen=True)
class DetectionSample:
    """One picture and what is known about it.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        xyxy: (N, 4) float32, px.
        labels: (N,) int64, as `classes` of the config.
        weights: (N,) float32, weight of each label in the loss.
        ignore: (M, 4) float32, places that count neither as a label nor as background.
        ignore_labels: (M,) int64, the class that each place is doubtful for; -1: every class.
    """

    image: Image
    xyxy: Floats
    labels: NDArray[np.int64]
    weights: Floats
    ignore: Floats
    ignore_labels: NDArray[np.int64]


@dataclass(frozen=True)
class PoseSample:
    """One person in a picture.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        xyxy: (4,) float32, the person's box, px.
        keypoints: (133, 2) float32, px.
        weights: (133,) float32, weight of each keypoint in the loss; 0 where nothing is known.
        levels: (133,) float32 in [0, 1], the confidence that the model should give: 1 seen, 0 not in sight.
    """

    image: Image
    xyxy: Floats
    keypoints: Floats
    weights: Floats
    levels: Floats


T = TypeVar("T", covariant=True)


class SampleSource(Protocol[T]):
    """Samples by number; no sample is decoded before it is asked for."""

    def __len__(self) -> int:
        """How many samples there are."""

    def __getitem__(self, index: int, /) -> T:
        """Sample `index`; the same content each time."""

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """(width, height) of every picture, px."""


@runtime_checkable
class Crowdable(Protocol):
    """A source of samples that can put more people into its pictures."""

    def crowded(self, index: int, rng: np.random.Generator, /) -> DetectionSample:
        """Sample `index` with more people in it: the same for the same numbers, unchanged where it cannot."""


@dataclass(frozen=True)
class Augment:
    """How a picture may be varied.

    Attributes:
        scale: range of the factor on the picture's size.
        shift: largest shift, as a share of the canvas.
        flip: probability of a mirror image.
        colour: strength of the changes of hue, saturation and brightness; 0 none, 1 usual.
        blur: probability of a slight blur, and of sensor noise.
        mosaic: probability of four pictures in one.
        paste: probability of more people in a picture, where the source is `Crowdable`.
        rotate: largest rotation in degrees (pose only).
    """

    scale: tuple[float, float] = (0.8, 1.25)
    shift: float = 0.1
    flip: float = 0.5
    colour: float = 1.0
    blur: float = 0.1
    mosaic: float = 0.0
    paste: float = 0.0
    rotate: float = 0.0


def pick(seed: int, position: int, count: int) -> tuple[int, np.random.Generator]:
    """The sample at a position of the training, and its own random numbers.

    Every epoch visits each of the `count` samples once, in an order drawn from the seed and the epoch.
    """
    epoch, place = divmod(position, count)
    order = np.random.default_rng([seed, 1, epoch]).permutation(count)
    return int(order[place]), np.random.default_rng([seed, 2, position])


def canvas_size(sizes: Sequence[tuple[int, int]], long_side: int, stride: int = 32) -> tuple[int, int]:
    """Width and height that hold every picture scaled to `long_side`, as multiples of `stride`."""
    if not sizes:
        raise ValueError("no pictures to train on")
    scaled = np.array([(w * long_side / max(w, h), h * long_side / max(w, h)) for w, h in sizes])
    width, height = (-(-np.floor(scaled.max(0) + 0.5).astype(int) // stride) * stride).tolist()
    return int(width), int(height)


def detection_view(
    source: SampleSource[DetectionSample],
    index: int,
    rng: np.random.Generator,
    augment: Augment,
    canvas: tuple[int, int],
    long_side: int,
) -> DetectionSample:
    """Sample `index`, varied, on a canvas of (width, height) px."""
    if rng.random() < augment.mosaic:
        others = rng.integers(0, len(source), 3)
        samples = [_draw(source, i, rng, augment) for i in (index, *others.tolist())]
        view = _mosaic(samples, rng, augment, canvas, long_side)
    else:
        sample = _draw(source, index, rng, augment)
        view = _place(sample, _single_map(sample, rng, augment, canvas, long_side), canvas)
    if rng.random() < augment.flip:
        view = _mirror(view)
    return replace(view, image=vary_colour(view.image, rng, augment))


def _draw(
    source: SampleSource[DetectionSample], index: int, rng: np.random.Generator, augment: Augment
) -> DetectionSample:
    if augment.paste > 0 and isinstance(source, Crowdable) and rng.random() < augment.paste:
        return source.crowded(index, rng)
    return source[index]


def _single_map(
    sample: DetectionSample,
    rng: np.random.Generator,
    augment: Augment,
    canvas: tuple[int, int],
    long_side: int,
) -> NDArray[np.float64]:
    """(2, 3) map from source pixels to the canvas: scaled, shifted, near the middle of the content."""
    h, w = sample.image.shape[:2]
    base = long_side / max(w, h)
    scale = base * float(np.exp(rng.uniform(*np.log(augment.scale))))
    # Spare room is negative where the scaled picture is larger than the canvas: then the shift is a crop.
    spare = np.array(canvas) - scale * np.array([w, h])
    shift = spare * rng.uniform(0, 1, 2) + rng.uniform(-1, 1, 2) * augment.shift * np.array(canvas)
    if augment.scale == (1.0, 1.0) and augment.shift == 0:
        shift = np.zeros(2)
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])


def _mosaic(
    samples: list[DetectionSample],
    rng: np.random.Generator,
    augment: Augment,
    canvas: tuple[int, int],
    long_side: int,
) -> DetectionSample:
    """Four pictures around a random centre, each cut at the borders of its quarter."""
    w, h = canvas
    cx, cy = int(w * rng.uniform(0.35, 0.65)), int(h * rng.uniform(0.35, 0.65))
    quarters = [(0, 0, cx, cy), (cx, 0, w, cy), (0, cy, cx, h), (cx, cy, w, h)]
    image = np.full((h, w, 3), PAD[0], np.uint8)
    views = []
    for sample, (x0, y0, x1, y1) in zip(samples, quarters, strict=True):
        size = (x1 - x0, y1 - y0)
        view = _place(sample, _single_map(sample, rng, augment, size, long_side), size)
        image[y0:y1, x0:x1] = view.image
        offset = np.array([x0, y0, x0, y0], np.float32)
        views.append((view, offset))
    return DetectionSample(
        image,
        np.concatenate([view.xyxy + offset for view, offset in views]),
        np.concatenate([view.labels for view, _ in views]),
        np.concatenate([view.weights for view, _ in views]),
        np.concatenate([view.ignore + offset for view, offset in views]),
        np.concatenate([view.ignore_labels for view, _ in views]),
    )


def _place(sample: DetectionSample, matrix: NDArray[np.float64], canvas: tuple[int, int]) -> DetectionSample:
    shrink = matrix[0, 0] < 0.6
    # Linear interpolation skips pixels when a picture shrinks a lot; halve it first.
    source = sample.image
    if shrink:
        source = np.asarray(cv2.resize(source, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
        matrix_image = matrix @ np.diag([2.0, 2.0, 1.0])
    else:
        matrix_image = matrix
    image = cv2.warpAffine(source, matrix_image, canvas, flags=cv2.INTER_LINEAR, borderValue=PAD)
    xyxy, share = _map_boxes(sample.xyxy, matrix, canvas)
    ignore, ignore_share = _map_boxes(sample.ignore, matrix, canvas)
    kept = share >= MIN_KEPT
    cut = (share > 0) & ~kept
    return DetectionSample(
        np.asarray(image, np.uint8),
        xyxy[kept],
        sample.labels[kept],
        sample.weights[kept],
        np.concatenate([ignore[ignore_share > 0], xyxy[cut]]),
        np.concatenate([sample.ignore_labels[ignore_share > 0], sample.labels[cut]]),
    )


def _map_boxes(boxes: Floats, matrix: NDArray[np.float64], canvas: tuple[int, int]) -> tuple[Floats, Floats]:
    """Boxes on the canvas, cut at its border, and the share of each that stays."""
    mapped = boxes.reshape(-1, 2, 2) * matrix[[0, 1], [0, 1]] + matrix[:, 2]
    area = np.prod(mapped[:, 1] - mapped[:, 0], axis=1)
    cut = np.clip(mapped, 0, np.array(canvas, float))
    left = np.prod(cut[:, 1] - cut[:, 0], axis=1)
    return cut.reshape(-1, 4).astype(np.float32), (left / np.maximum(area, 1e-6)).astype(np.float32)


def _mirror(view: DetectionSample) -> DetectionSample:
    width = view.image.shape[1]

    def flip(boxes: Floats) -> Floats:
        return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)

    image = np.ascontiguousarray(view.image[:, ::-1])
    return replace(view, image=image, xyxy=flip(view.xyxy), ignore=flip(view.ignore))


def vary_colour(image: Image, rng: np.random.Generator, augment: Augment) -> Image:
    """Change hue, saturation, brightness and contrast a little; now and then blur, noise, or grey."""
    if augment.colour > 0:
        gain = 1 + rng.uniform(-1, 1, 3) * augment.colour * np.array([0.03, 0.5, 0.35])
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        steps = np.arange(256)
        table = np.stack(
            [
                (steps + (gain[0] - 1) * 180) % 180,
                np.clip(steps * gain[1], 0, 255),
                np.clip((steps - 128) * rng.uniform(0.8, 1.2) + 128 * gain[2], 0, 255),
            ],
            -1,
        ).astype(np.uint8)
        image = np.asarray(cv2.cvtColor(cv2.LUT(hsv, table[None]), cv2.COLOR_HSV2BGR), np.uint8)
        if rng.random() < 0.05 * augment.colour:
            image = np.repeat(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None], 3, -1)
    if rng.random() < augment.blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2)), np.uint8)
    if rng.random() < augment.blur:
        noise = rng.normal(0, rng.uniform(2, 8), image.shape[:2])[..., None]
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image
