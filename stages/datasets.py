"""Learning: pseudo labels and the frames they stand on, as pictures in memory that a training can sample.

Frames are decoded once, at the size that training needs; a few hundred of them fit in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import as_boxes
from orveil.pipeline.media import frames, locate
from orveil.pipeline.stage import Context
from orveil.pipeline.tables import read_table
from orveil.pipeline.types import HEAD, PERSON, MediaFiles, MediaIndex
from orveil.stages.mm_data import DetectionSample
from orveil.stages.paste import Crowd
from orveil.stages.targets import ALL_CLASSES, FrameTargets
from orveil.stages.weights import CLASS_LABELS

__all__ = [
    "LabelledPictures", "Pictures", "label_channels", "labelled_pictures", "read_pictures", "sampling_order",
    "walk_frames",
]  # fmt: skip

Boxes = NDArray[np.float32]
Picture = NDArray[np.uint8]

SAMPLES_PER_FRAME = 4
"""An epoch is this many times the number of frames, so that weights of frames can be told apart."""
ZOOM = 1.25
"""Pictures are kept this much larger than the input of the model, because augmentation zooms in."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Decoded frames, smaller than the source where that is large enough.

    Attributes:
        images: (H, W, 3) uint8 BGR each.
        scales: picture pixels per source pixel, (x, y) each.
    """

    images: Sequence[Picture]
    scales: Sequence[tuple[float, float]]

    def boxes(self, number: int, xyxy: Boxes) -> Boxes:
        """Boxes of picture `number` from source pixels to picture pixels."""
        return as_boxes(xyxy * np.tile(np.array(self.scales[number], np.float32), 2))


def read_pictures(
    media: Path,
    keys: Sequence[tuple[str, str, int]],
    long_side: int,
    externals: Mapping[str, str],
    progress: Callable[[int, int, str], None] | None = None,
) -> Pictures:
    """Decode frames, each once.

    Args:
        media: directory of the media tables.
        keys: (session, camera, index) of each wanted frame.
        long_side: longer side at the model's input, px; 0 keeps the source's size.
        externals: `Context.externals`, with the places of the videos.
        progress: called with (done, total, unit).

    Returns:
        Pictures in the order of `keys`.
    """
    files, index = read_table(MediaFiles, media), read_table(MediaIndex, media)
    images: dict[int, Picture] = {}
    scales: dict[int, tuple[float, float]] = {}
    for session, camera in sorted({key[:2] for key in keys}):
        numbers = sorted(
            (n for n, k in enumerate(keys) if k[:2] == (session, camera)), key=lambda n: keys[n][2]
        )
        path = locate(files, session, camera, externals)
        pts = _all_pts(index.view(session, camera))
        size = _stored_size(files, session, camera, long_side)
        where = f"{session}/{camera}"
        at: dict[int, list[int]] = {}
        for number in numbers:
            at.setdefault(keys[number][2], []).append(number)
        for frame, _, picture in frames(path, wanted=sorted(at), pts=pts, size=size[0], where=where):
            for number in at[frame]:
                images[number], scales[number] = picture, size[1]
            if progress:
                progress(len(images), len(keys), "frames read")
    return Pictures([images[n] for n in range(len(keys))], [scales[n] for n in range(len(keys))])


def walk_frames(
    media: Path,
    session: str,
    camera: str,
    wanted: Sequence[int],
    externals: Mapping[str, str],
    size: tuple[int, int] | None = None,
) -> Iterator[tuple[int, Picture]]:
    """Frames of one camera, in order: (index, picture); of (width, height) px, or as they are."""
    files, index = read_table(MediaFiles, media), read_table(MediaIndex, media)
    path = locate(files, session, camera, externals)
    pts = _all_pts(index.view(session, camera))
    where = f"{session}/{camera}"
    for at, _, picture in frames(path, wanted=sorted(wanted), pts=pts, size=size, where=where):
        yield at, picture


def _all_pts(index: MediaIndex) -> NDArray[np.int64] | None:
    """pts of every frame of a file; None where frames are missing from the index, which forbids seeking."""
    whole = len(index) > 0 and len(index) == int(index.index.max()) + 1
    return index.pts if whole else None


def _stored_size(
    files: MediaFiles, session: str, camera: str, long_side: int
) -> tuple[tuple[int, int] | None, tuple[float, float]]:
    """Size to decode to (None: as it is), and picture pixels per source pixel."""
    row = int(np.flatnonzero((files.session == session) & (files.camera == camera))[0])
    width, height = int(files.width[row]), int(files.height[row])
    if files.rotation[row] % 180:
        width, height = height, width
    scale = ZOOM * long_side / max(width, height)
    if long_side == 0 or scale >= 1:
        return None, (1.0, 1.0)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return size, (size[0] / width, size[1] / height)


class LabelledPictures:
    """Frames and their targets in the form that detector training samples from.

    Args:
        pictures: decoded frames.
        targets: of the same frames, in the same order; boxes in source pixels.
        channels: output channel of the model for each label that it knows; other labels are left out.
        order: which frame is sample 0, 1, ...; a frame may come several times.
        crowds: whether pictures can be asked for with more people in them, who are cut out here for that.
    """

    def __init__(
        self,
        pictures: Pictures,
        targets: Sequence[FrameTargets],
        channels: Mapping[int, int],
        order: NDArray[np.int64],
        crowds: bool = False,
    ) -> None:
        self._order = order
        self._samples = [
            _sample(image, pictures, number, target, channels)
            for number, (image, target) in enumerate(zip(pictures.images, targets, strict=True))
        ]
        cameras = [(target.session, target.camera) for target in targets]
        self._crowd = (
            Crowd(self._samples, cameras, channels[PERSON], channels.get(HEAD))
            if crowds and PERSON in channels
            else None
        )

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> DetectionSample:
        return self._samples[int(self._order[index])]

    def crowded(self, index: int, rng: np.random.Generator) -> DetectionSample:
        """Sample `index` with people from other frames of the camera in it, if any could be cut out."""
        return self[index] if self._crowd is None else self._crowd.join(int(self._order[index]), rng)

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """(width, height) of every frame."""
        return [(sample.image.shape[1], sample.image.shape[0]) for sample in self._samples]


def _sample(
    image: Picture, pictures: Pictures, number: int, target: FrameTargets, channels: Mapping[int, int]
) -> DetectionSample:
    known = np.isin(target.labels, list(channels))
    hidden = np.isin(target.ignored_labels, [ALL_CLASSES, *channels])
    channel_of = {**channels, ALL_CLASSES: ALL_CLASSES}
    return DetectionSample(
        image,
        pictures.boxes(number, target.xyxy[known]),
        np.array([channel_of[label] for label in target.labels[known].tolist()], dtype=np.int64),
        target.weights[known],
        pictures.boxes(number, target.ignored[hidden]),
        np.array([channel_of[label] for label in target.ignored_labels[hidden].tolist()], dtype=np.int64),
    )


def sampling_order(weights: NDArray[np.float32], length: int) -> NDArray[np.int64]:
    """Numbers of the items, each repeated in proportion to its weight (systematic resampling).

    Args:
        weights: (N,), not negative; all zero counts as all equal.
        length: of the result; each item comes floor or ceil of `length` times its share.
    """
    if not len(weights):
        return np.zeros(0, dtype=np.int64)
    share = np.asarray(weights, dtype=np.float64)
    share = np.full(len(share), 1 / len(share)) if share.sum() <= 0 else share / share.sum()
    marks = (np.arange(length) + 0.5) / length
    return np.searchsorted(np.cumsum(share), marks, side="left").clip(max=len(share) - 1).astype(np.int64)


def labelled_pictures(
    media: Path,
    targets: Sequence[FrameTargets],
    weights: np.ndarray[Any, np.dtype[np.float32]],
    config: Any,
    long_side: int,
    context: Context,
    crowds: bool = False,
) -> LabelledPictures:
    """Decode the frames of `targets` for a model of `config`."""
    keys = [(target.session, target.camera, target.index) for target in targets]
    pictures = read_pictures(media, keys, long_side, context.externals, context.progress)
    order = sampling_order(weights, SAMPLES_PER_FRAME * len(targets))
    return LabelledPictures(pictures, targets, label_channels(config), order, crowds)


def label_channels(config: Any) -> dict[int, int]:
    """The model's output channel of each label that its config names."""
    channels = config.get("channels", range(len(config.classes)))
    return {CLASS_LABELS[name]: int(c) for name, c in zip(config.classes, channels, strict=True)}
