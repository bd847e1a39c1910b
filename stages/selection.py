"""Stage part: which frames training uses: all cameras, unlike each other, the instructive ones first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.types import IGNORE, POSITIVE, FrameLabels, MediaIndex, PseudoLabels

__all__ = ["choose_frames"]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

RECOVERED_WORTH = 1.0
"""Worth of a positive box that the detector alone would have missed; 1 is the worth of any frame."""
DOUBT_COST = 0.3
"""A box to be ignored makes a frame less useful."""
MOST_WORTH = 4.0
GRID = (6, 4)
"""Columns and rows of cells over the picture: two frames are alike if their boxes cover the same cells."""
ALWAYS_ALIKE = 0.5
"""Likeness of two frames of the same layout, however far apart in time; next to each other it is 1."""


def choose_frames(
    frames: MediaIndex, labels: PseudoLabels, budget: int, holdout: float, seed: int
) -> FrameLabels:
    """Split the frames of one session into train, holdout and unused.

    Time is cut into blocks and whole blocks are held out, so that a held-out frame is not the neighbour
    of a training frame. Within each camera frames are picked greedily by worth (recovered people count
    most), each pick lowering the worth of frames whose boxes lie alike, the more the nearer they are in time.

    Args:
        frames: every frame of the session.
        labels: their pseudo labels.
        budget: training frames over all cameras.
        holdout: share of the recording's time that is held out.
        seed: chooses which blocks are held out.

    Returns:
        One row per frame, by camera and index. `weight` is the sampling weight of a training frame.
    """
    order = np.lexsort((frames.index, frames.camera))
    frames = frames.select(order)
    place = _places(frames, labels)
    worth, layout = _worth(len(frames), place, labels), _layouts(len(frames), place, labels)
    held = _held_out(frames.time_s, holdout, np.random.default_rng(seed))
    split = np.full(len(frames), "unused", dtype="U7")
    cameras = sorted(set(frames.camera.tolist()))
    share = {c: budget // len(cameras) + (k < budget % len(cameras)) for k, c in enumerate(cameras)}
    for camera in cameras:
        rows = np.flatnonzero(frames.camera == camera)
        free = rows[~held[rows]]
        split[free[_unlike(frames.time_s[free], worth[free], layout[free], share[camera])]] = "train"
        kept_out = rows[held[rows]]
        size = round(share[camera] * holdout / max(1.0 - holdout, 1e-6)) if holdout else 0
        even = np.ones(len(kept_out))
        split[kept_out[_unlike(frames.time_s[kept_out], even, layout[kept_out], size)]] = "holdout"
    return FrameLabels(
        session=frames.session,
        camera=frames.camera,
        index=frames.index,
        pts=frames.pts,
        split=split,
        weight=np.where(split == "unused", 0.0, np.where(split == "train", worth, 1.0)),
    )


def _places(frames: MediaIndex, labels: PseudoLabels) -> Ints:
    """Row of its frame (L,) of every label."""
    cameras = np.unique(frames.camera)
    span = int(frames.index.max(initial=0)) + 1
    key = np.searchsorted(cameras, frames.camera) * span + frames.index
    at = np.searchsorted(cameras, labels.camera) * span + labels.index
    order = np.argsort(key, kind="stable")
    return np.asarray(order[np.searchsorted(key[order], at)], np.int64)


def _worth(count: int, place: Ints, labels: PseudoLabels) -> Doubles:
    """Worth (F,) of each frame: 1, more with recovered people, less with doubtful boxes."""
    recovered = (labels.state == POSITIVE) & (labels.source != "detected")
    gain = RECOVERED_WORTH * np.bincount(place, recovered * labels.weight, minlength=count)
    loss = DOUBT_COST * np.bincount(place, labels.state == IGNORE, minlength=count)
    return np.clip(1.0 + gain - loss, 0.2, MOST_WORTH)


def _layouts(count: int, place: Ints, labels: PseudoLabels) -> Doubles:
    """Where the boxes of each frame lie: unit vectors (F, cells), zero where there is no box."""
    columns, rows = GRID
    layout = np.zeros((count, rows, columns))
    for camera in np.unique(labels.camera):
        mine = np.flatnonzero(labels.camera == camera)
        box = labels.xyxy[mine].astype(np.float64)
        size = np.maximum(box[:, 2:].max(axis=0), 1.0)
        covered = [
            np.clip(
                np.minimum(box[:, [2 + k]] / size[k] * cells, np.arange(1, cells + 1))
                - np.maximum(box[:, [k]] / size[k] * cells, np.arange(cells)),
                0.0,
                1.0,
            )
            for k, cells in enumerate(GRID)
        ]
        np.add.at(layout, place[mine], covered[1][:, :, None] * covered[0][:, None, :])
    flat = layout.reshape(count, -1)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9))


def _held_out(time_s: Doubles, holdout: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Frames (F,) in the held-out blocks of time, the same for every camera; about `holdout` of all."""
    if holdout <= 0 or len(time_s) < 2:
        return np.zeros(len(time_s), np.bool_)
    start, stop = float(time_s.min()), float(time_s.max())
    blocks = max(2, min(40, round(3.0 / holdout)))
    block = np.minimum(((time_s - start) / max(stop - start, 1e-9) * blocks).astype(np.int64), blocks - 1)
    count = max(1, round(holdout * blocks))
    # One block out of each run of blocks, so that early and late parts are both held out.
    runs = np.array_split(np.arange(blocks), count)
    chosen = [int(rng.choice(run)) for run in runs]
    return np.isin(block, chosen)


def _unlike(time_s: Doubles, worth: Doubles, layout: Doubles, count: int) -> Ints:
    """Rows of `count` frames, each the worthiest that is left after what the earlier picks took; sorted.

    A pick takes from a frame the share of its worth by which the two are alike: the cosine of their
    layouts, in full where they are close in time and by half where they are far apart.
    """
    if count >= len(time_s):
        return np.arange(len(time_s))
    reach = max(float(time_s.max() - time_s.min()) / max(count, 1), 1e-9)
    bare = np.logical_not(layout.any(axis=1), dtype=np.bool_)
    left = np.ones(len(time_s))
    chosen: list[int] = []
    for _ in range(count):
        pick = int(np.argmax(worth * left))
        chosen.append(pick)
        same = np.where(bare & bare[pick], 1.0, layout @ layout[pick])
        near = np.exp(-np.abs(time_s - time_s[pick]) / reach)
        left = np.minimum(left, 1.0 - same * (ALWAYS_ALIKE + (1.0 - ALWAYS_ALIKE) * near))
        left[pick] = -1.0
    return np.sort(np.array(chosen, np.int64))
