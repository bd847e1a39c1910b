"""Learning: pseudo labels and the frames they stand on, as pictures in memory that a training can sample.

Frames are decoded once, at the size that training needs; a few hundred of them fit in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import as_boxes, expand, iou
from orveil.pipeline.media import frames, locate
from orveil.pipeline.tables import read_table
from orveil.pipeline.types import (
    HEAD,
    PERSON,
    POSITIVE,
    FrameLabels,
    MediaFiles,
    MediaIndex,
    Poses,
    PseudoLabels,
)

__all__ = [
    "ALL_CLASSES", "FrameTargets", "Pictures", "frame_targets", "read_pictures", "sampling_order",
    "walk_frames",
]  # fmt: skip

Boxes = NDArray[np.float32]
Picture = NDArray[np.uint8]

ALL_CLASSES = -1
"""Label of an ignored place that hides every class."""
ZOOM = 1.25
"""Pictures are kept this much larger than the input of the model, because augmentation zooms in."""
SURE_HEAD = 0.5
"""A head below this score is no label: its surroundings are ignored for the head class."""
HEAD_MARGIN = 0.3


@dataclass(frozen=True, eq=False)
class FrameTargets:
    """What is known about one frame; boxes in source pixels.

    Attributes:
        xyxy: (K, 4); labels: (K,) PERSON or HEAD; weights: (K,) in the loss.
        ignored: (M, 4) places that are neither object nor background.
        ignored_labels: (M,) PERSON, HEAD or `ALL_CLASSES`.
    """

    session: str
    camera: str
    index: int
    xyxy: Boxes
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    ignored: Boxes
    ignored_labels: NDArray[np.int64]


def frame_targets(
    used: FrameLabels, labels: PseudoLabels, poses: Poses | None, split: str = "train"
) -> list[FrameTargets]:
    """The targets of every frame of a split, in the order of `used`; frames without labels included.

    Heads come from the poses of positive persons, and from head rows of the labels where no such head lies.
    A head that is not sure is ignored, and so are the heads of a person without a pose.
    """
    chosen = used.select(used.split == split)
    rows = _by_frame(labels)
    heads = {} if poses is None else _by_frame(poses)
    nothing = np.zeros(0, dtype=np.int64)
    targets = []
    for key in zip(chosen.session.tolist(), chosen.camera.tolist(), chosen.index.tolist(), strict=True):
        own = labels.select(rows.get(key, nothing))
        own_poses = None if poses is None else poses.select(heads.get(key, nothing))
        targets.append(_one_frame(key, own, own_poses))
    return targets


def _by_frame(table: PseudoLabels | Poses) -> dict[tuple[str, str, int], NDArray[np.int64]]:
    """Row numbers of each frame."""
    keys = zip(table.session.tolist(), table.camera.tolist(), table.index.tolist(), strict=True)
    found: dict[tuple[str, str, int], list[int]] = {}
    for row, key in enumerate(keys):
        found.setdefault(key, []).append(row)
    return {key: np.array(members, dtype=np.int64) for key, members in found.items()}


def _one_frame(key: tuple[str, str, int], labels: PseudoLabels, poses: Poses | None) -> FrameTargets:
    positive = (labels.state == POSITIVE) & (labels.weight > 0)
    person = positive & (labels.label == PERSON)
    boxes, kinds, weights = [labels.xyxy[person]], [labels.label[person]], [labels.weight[person]]
    hidden = ~positive
    ignored = [labels.xyxy[hidden]]
    # A doubtful person hides a doubtful head as well.
    ignored_kinds = [np.where(labels.label[hidden] == PERSON, ALL_CLASSES, labels.label[hidden])]
    head, trust, unsure = _pose_heads(labels.select(person), poses)
    boxes.append(head)
    kinds.append(np.full(len(head), HEAD))
    weights.append(trust)
    ignored.append(unsure)
    ignored_kinds.append(np.full(len(unsure), HEAD))
    rest = np.flatnonzero(positive & (labels.label == HEAD))
    if len(rest):
        new = rest[iou(labels.xyxy[rest], head).max(axis=1, initial=0.0) < 0.3]
        boxes.append(labels.xyxy[new])
        kinds.append(labels.label[new])
        weights.append(labels.weight[new])
    return FrameTargets(
        *key,
        as_boxes(np.concatenate(boxes)),
        np.concatenate(kinds).astype(np.int64),
        np.concatenate(weights).astype(np.float32),
        as_boxes(np.concatenate(ignored)),
        np.concatenate(ignored_kinds).astype(np.int64),
    )


def _pose_heads(persons: PseudoLabels, poses: Poses | None) -> tuple[Boxes, NDArray[np.float32], Boxes]:
    """Sure heads (K, 4) with their weights (K,), and places (M, 4) where a head may be."""
    if poses is None:
        return as_boxes([]), np.zeros(0, np.float32), persons.xyxy
    row_of = {label: row for row, label in enumerate(poses.label_id.tolist())}
    rows = np.array([row_of.get(label, -1) for label in persons.label_id.tolist()], dtype=np.int64)
    without = persons.xyxy[rows < 0]
    rows, weight = rows[rows >= 0], persons.weight[rows >= 0]
    sure = poses.head_score[rows] >= SURE_HEAD
    unsure = expand(poses.head_xyxy[rows[~sure]], HEAD_MARGIN)
    trust = (weight * poses.head_score[rows])[sure].astype(np.float32)
    return poses.head_xyxy[rows[sure]], trust, as_boxes(np.concatenate([without, unsure]))


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
    media: Path, session: str, camera: str, wanted: Sequence[int], externals: Mapping[str, str]
) -> Iterator[tuple[int, Picture]]:
    """Frames of one camera at full size, in order: (index, picture)."""
    files, index = read_table(MediaFiles, media), read_table(MediaIndex, media)
    path = locate(files, session, camera, externals)
    pts = _all_pts(index.view(session, camera))
    for at, _, picture in frames(path, wanted=sorted(wanted), pts=pts, where=f"{session}/{camera}"):
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
