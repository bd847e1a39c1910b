"""Stage part: which frames training uses: spread over cameras and time, the instructive ones first."""

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
NEAR_FRAMES = 0.5
"""A chosen frame takes worth from its neighbours within this share of the mean distance of chosen ones."""


def choose_frames(
    frames: MediaIndex, labels: PseudoLabels, budget: int, holdout: float, seed: int
) -> FrameLabels:
    """Split the frames of one session into train, holdout and unused.

    Time is cut into blocks and whole blocks are held out, so that a held-out frame is not the neighbour
    of a training frame. Within each camera frames are picked greedily by worth (recovered people count
    most), each pick lowering the worth of frames that are near in time and look alike in their boxes.

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
    worth = _worth(frames, labels)
    held = _held_out(frames.time_s, holdout, np.random.default_rng(seed))
    split = np.full(len(frames), "unused", dtype="U7")
    cameras = sorted(set(frames.camera.tolist()))
    share = {c: budget // len(cameras) + (k < budget % len(cameras)) for k, c in enumerate(cameras)}
    for camera in cameras:
        rows = np.flatnonzero(frames.camera == camera)
        free = rows[~held[rows]]
        split[free[_spread(frames.time_s[free], worth[free], share[camera])]] = "train"
        kept_out = rows[held[rows]]
        size = round(share[camera] * holdout / max(1.0 - holdout, 1e-6)) if holdout else 0
        split[kept_out[_spread(frames.time_s[kept_out], np.ones(len(kept_out)), size)]] = "holdout"
    return FrameLabels(
        session=frames.session,
        camera=frames.camera,
        index=frames.index,
        pts=frames.pts,
        split=split,
        weight=np.where(split == "unused", 0.0, np.where(split == "train", worth, 1.0)),
    )


def _worth(frames: MediaIndex, labels: PseudoLabels) -> Doubles:
    """Worth (F,) of each frame: 1, more with recovered people, less with doubtful boxes."""
    cameras = sorted(set(frames.camera.tolist()))
    code = {c: k for k, c in enumerate(cameras)}
    span = int(frames.index.max(initial=0)) + 1
    key = np.array([code[c] for c in frames.camera.tolist()], np.int64) * span + frames.index
    at = np.array([code[c] for c in labels.camera.tolist()], np.int64) * span + labels.index
    order = np.argsort(key, kind="stable")
    place = order[np.searchsorted(key[order], at)] if len(at) else np.zeros(0, np.int64)
    recovered = (labels.state == POSITIVE) & (labels.source != "detected")
    gain = RECOVERED_WORTH * np.bincount(place, recovered * labels.weight, minlength=len(frames))
    loss = DOUBT_COST * np.bincount(place, labels.state == IGNORE, minlength=len(frames))
    return np.clip(1.0 + gain - loss, 0.2, MOST_WORTH)


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


def _spread(time_s: Doubles, worth: Doubles, count: int) -> Ints:
    """Rows of `count` frames, spread over time, the worthier ones preferred; sorted."""
    if count >= len(time_s):
        return np.arange(len(time_s))
    chosen: list[int] = []
    # One frame of each of `count` equal parts of the recording: spread first, worth within the part.
    for part in np.array_split(np.arange(len(time_s)), count) if count else []:
        distance = np.abs(time_s[part] - time_s[chosen[-1]]) if chosen else np.full(len(part), np.inf)
        step = (time_s[-1] - time_s[0]) / count
        near = 1.0 - np.exp(-distance / max(NEAR_FRAMES * step, 1e-9))
        chosen.append(int(part[np.argmax(worth[part] * near)]))
    return np.array(chosen, np.int64)
