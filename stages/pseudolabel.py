"""Stage: from evidence to labels in three states: positive with a weight, ignore, background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.kinds import (
    AssociationsKind,
    DetectionsKind,
    MediaKind,
    MotionKind,
    PseudoLabelsKind,
    TracksKind,
)
from orveil.pipeline.settings import PseudoLabelParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import read_table, read_tables, write_table
from orveil.pipeline.types import (
    HEAD,
    IGNORE,
    PERSON,
    POSITIVE,
    Associations,
    Detections,
    MediaFiles,
    MediaIndex,
    Motion,
    PseudoLabels,
    Tracks,
)
from orveil.stages.chunks import Recordings, candidates_of, of_chunk, unique_ids
from orveil.stages.coco import write_coco
from orveil.stages.cues import SURE_SCORE
from orveil.stages.evidence import Evidence, Trust, sigmoid, weigh
from orveil.stages.selection import choose_frames
from orveil.trackers.doubles import frames_of, one_each

__all__ = ["PseudoLabel", "discoveries", "label_session", "one_per_person"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_POSITIVE = 0.5
"""Probability below which no box is positive."""
SLACK, LUCK_Z, ROOM_Z = 1.5, 1.64, 2.13
"""The share of errors may exceed the target by this factor only in one room of twenty: quantile of the normal
distribution, and of Student's with 4 degrees of freedom for how rooms differ, which is known from five."""
MANY_TRACKS = 20
"""From so many tracks on, how many of them happen to be wrong counts in full."""


class PseudoLabel:
    """media, motion, candidates, tracks, associations -> PseudoLabels and FrameLabels, by pieces of time."""

    name: ClassVar[str] = "pseudolabel"
    version: ClassVar[int] = 7
    needs: ClassVar[Resources] = Resources()
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {
        "media": MediaKind,
        "motion": MotionKind,
        "candidates": DetectionsKind,
        "tracks": TracksKind,
        "associations": AssociationsKind,
    }
    produces: ClassVar[type[ArtifactType]] = PseudoLabelsKind
    volatile: ClassVar[frozenset[str]] = frozenset()

    _recordings: Recordings

    def shards(self, params: PseudoLabelParams, inputs: Inputs) -> Sequence[Shard]:
        """One shard per session; several for a long one, by time."""
        recordings = Recordings(inputs["media"])
        return [shard for session in recordings.sessions() for shard in recordings.shards(session)]

    def setup(self, params: PseudoLabelParams, inputs: Inputs, context: Context) -> None:
        """Read which frames there are."""
        self._recordings = Recordings(inputs["media"])

    def run(
        self, params: PseudoLabelParams, inputs: Inputs, shard: Shard, out: Path, context: Context
    ) -> None:
        """Label one piece: `labels.parquet`, `frames_used.parquet`, `labels.coco.json`."""
        files = read_table(MediaFiles, inputs["media"].path)
        files = files.select(files.session == shard.session)
        frames = self._recordings.frames(shard)
        tracks = read_tables(Tracks, of_chunk(inputs["tracks"], shard).paths())
        associations = read_tables(Associations, of_chunk(inputs["associations"], shard).paths())
        candidates = candidates_of(inputs["candidates"], frames)
        heads = candidates.select(candidates.label == HEAD)
        motion = read_tables(Motion, of_chunk(inputs["motion"], shard).paths())
        labels = label_session(
            files,
            frames,
            tracks.select(tracks.session == shard.session),
            associations.select(associations.session == shard.session),
            params,
            heads if len(heads) else None,
            motion,
        )
        labels = replace(labels, label_id=unique_ids(labels.label_id, shard))
        budget = max(1, round(params.frames * self._recordings.share(shard)))
        chosen = choose_frames(frames, labels, budget, params.holdout, context.seed)
        write_table(labels, out)
        write_table(chosen, out)
        write_coco(files, frames, labels, out)
        context.progress(len(frames), len(frames), "frames")


def label_session(
    files: MediaFiles,
    frames: MediaIndex,
    tracks: Tracks,
    associations: Associations,
    params: PseudoLabelParams,
    heads: Detections | None = None,
    motion: Motion | None = None,
) -> PseudoLabels:
    """Person labels of every frame of one session.

    Boxes that show a person already shown by a more probable box get no row. Of the others, the most
    probable are positive, as many as the target false-discovery rate allows (see `discoveries`). Doubtful
    ones are to be ignored in training.

    Args:
        files: one row per camera.
        frames: every frame of the session.
        tracks: tracks of every camera, filled boxes included.
        associations: one row per track.
        params: false-discovery rate, least size, round.
        heads: head candidates; None where the detector knows no heads.
        motion: masks of the frames; None where only boxes are known.

    Returns:
        Rows by camera and frame; `score` is the calibrated probability, `weight` is 0 where ignored.
    """
    evidence = weigh(files, frames, tracks, associations, heads, params.round > 1, motion)
    probability = sigmoid(evidence.log_odds)
    # Who keeps still may be a patient: doubtful, but not taught to be background. Nor does anybody become
    # background because a round was trained.
    possible = sigmoid(evidence.lenient)
    sides = evidence.xyxy[:, 2:] - evidence.xyxy[:, :2]
    usable = (sides.min(axis=1, initial=np.inf) >= params.min_side_px) & (possible >= params.ignore_from / 2)
    kept = one_per_person(tracks, evidence, usable)
    positive = discoveries(
        evidence.log_odds[kept], evidence.track[kept], evidence.trust, params.false_discovery_rate
    )
    worth = positive | (possible[kept] >= params.ignore_from)
    return _table(tracks, evidence, probability, kept[worth], positive[worth], params.round)


def one_per_person(tracks: Tracks, evidence: Evidence, usable: Bools) -> Ints:
    """Rows that stand for a person of their own: double boxes go, frame by frame, the less probable first.

    Two boxes that overlap are two people where both are matched to different persons in other views;
    otherwise the less probable one is the same person seen twice.

    Returns:
        Rows, sorted.
    """
    frames = frames_of(tracks.camera, tracks.index, np.flatnonzero(usable))
    return one_each(frames, evidence.xyxy, evidence.log_odds, evidence.person, tracks.xyxy)


def discoveries(log_odds: Doubles, track: Ints, trust: Trust, rate: float) -> Bools:
    """The largest set (N,) of the most probable boxes that keeps a false-discovery rate.

    Two conditions. The expected share of errors is at most `rate`. And it is at most `SLACK` times `rate`
    in a bad case: a room and a detector that differ from those fitted to (all log odds are lower by `ROOM_Z`
    times the spread that they have), and the luck of counting (`LUCK_Z`), where the boxes of a track tend to
    be right or wrong together, so that a hundred of them are far from a hundred observations.

    Args:
        log_odds: (N,) calibrated.
        track: (N,) number of the track of each box.
        trust: how far log odds may be wrong together.
        rate: target share of wrong boxes among those chosen.
    """
    order = np.argsort(-log_odds, kind="stable")
    count = np.arange(1, len(order) + 1)
    wrong = 1.0 - sigmoid(log_odds[order])
    expected = np.cumsum(wrong) / count
    room = np.cumsum(1.0 - sigmoid(log_odds[order] - ROOM_Z * trust.spread)) / count - expected
    alone, joint = np.cumsum(wrong * (1.0 - wrong)), _joint_variance(track[order], wrong)
    luck = LUCK_Z * np.sqrt(alone + trust.together * np.maximum(joint - alone, 0.0)) / count
    # No bound holds for a handful of tracks: there the expectation must do.
    first = np.zeros(len(order))
    first[np.unique(track[order], return_index=True)[1]] = 1.0
    luck *= np.minimum((np.cumsum(first) - 1.0) / MANY_TRACKS, 1.0)
    allowed = np.flatnonzero((expected <= rate) & (expected + np.hypot(room, luck) <= SLACK * rate))
    chosen = np.zeros(len(order), np.bool_)
    chosen[order[: allowed[-1] + 1 if len(allowed) else 0]] = True
    return chosen & (sigmoid(log_odds) >= LEAST_POSITIVE)


def _joint_variance(track: Ints, wrong: Doubles) -> Doubles:
    """For every prefix (N,) of boxes: variance of the number of errors if the boxes of a track err as one.

    With n boxes of mean probability q of being wrong that is n^2 q (1 - q), summed over tracks.
    """
    order = np.argsort(track, kind="stable")
    starts = np.flatnonzero(np.diff(track[order], prepend=-1))
    size = np.diff(np.append(starts, len(order)))
    number = np.arange(1, len(order) + 1) - np.repeat(starts, size)
    total = np.cumsum(wrong[order])
    mass = total - np.repeat(total[starts] - wrong[order][starts], size)
    variance = mass * (number - mass)
    step = np.empty(len(order))
    step[order] = variance - np.where(number > 1, np.concatenate([[0.0], variance[:-1]])[: len(order)], 0.0)
    return np.maximum(np.cumsum(step), 0.0)


def _table(
    tracks: Tracks, evidence: Evidence, probability: Doubles, kept: Ints, positive: Bools, round_: int
) -> PseudoLabels:
    order = np.lexsort((-probability[kept], tracks.index[kept], tracks.camera[kept]))
    kept, positive = kept[order], positive[order]
    gain = evidence.log_odds[kept] - evidence.alone[kept]
    source = np.full(len(kept), "temporal", dtype="U10")
    source[tracks.score[kept] >= SURE_SCORE] = "detected"
    helped = (evidence.matched[kept] > 0) & (gain > 0.2) & (tracks.score[kept] < SURE_SCORE)
    source[helped & (sigmoid(evidence.alone[kept]) < 0.8)] = "cross_view"
    camera = tracks.camera[kept]
    first = np.searchsorted(camera, camera)
    return PseudoLabels(
        session=tracks.session[kept],
        camera=camera,
        index=tracks.index[kept],
        pts=tracks.pts[kept],
        label_id=np.arange(len(kept)) - first,
        track_id=tracks.track_id[kept],
        person_id=evidence.person[kept],
        xyxy=evidence.xyxy[kept],
        label=np.full(len(kept), PERSON),
        score=probability[kept].astype(np.float32),
        weight=np.where(positive, probability[kept], 0.0).astype(np.float32),
        state=np.where(positive, POSITIVE, IGNORE),
        source=source,
        round=np.full(len(kept), round_),
    )
