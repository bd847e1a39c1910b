"""Stage: from evidence to labels in three states: positive with a weight, ignore, background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.geometry import containment, iou
from orveil.pipeline.kinds import AssociationsKind, DetectionsKind, MediaKind, PseudoLabelsKind, TracksKind
from orveil.pipeline.settings import PseudoLabelParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import read_table, read_tables, write_table
from orveil.pipeline.types import (
    IGNORE,
    PERSON,
    POSITIVE,
    Associations,
    MediaFiles,
    MediaIndex,
    PseudoLabels,
    Tracks,
)
from orveil.stages.coco import write_coco
from orveil.stages.evidence import SURE_SCORE, Evidence, sigmoid, weigh
from orveil.stages.selection import choose_frames

__all__ = ["PseudoLabel", "label_session"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

DOUBLE_IOU = 0.5
"""Overlap from which two boxes of one frame are one person seen twice."""
CERTAIN_IOU = 0.75
"""Overlap from which they are, even where both are matched to different persons."""
NESTED = 0.8
"""Share of the smaller of two boxes inside the other from which it may be a part of the same person."""
LEAST_POSITIVE = 0.5
"""Probability below which no box is positive."""


class PseudoLabel:
    """media, candidates, tracks, associations -> PseudoLabels and FrameLabels: one shard per session."""

    name: ClassVar[str] = "pseudolabel"
    version: ClassVar[int] = 1
    needs: ClassVar[Resources] = Resources()
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {
        "media": MediaKind,
        "candidates": DetectionsKind,
        "tracks": TracksKind,
        "associations": AssociationsKind,
    }
    produces: ClassVar[type[ArtifactType]] = PseudoLabelsKind
    volatile: ClassVar[frozenset[str]] = frozenset()

    def shards(self, params: PseudoLabelParams, inputs: Inputs) -> Sequence[Shard]:
        """One shard per session."""
        frames = read_table(MediaIndex, inputs["media"].path)
        return [Shard(session) for session in sorted(set(frames.session.tolist()))]

    def setup(self, params: PseudoLabelParams, inputs: Inputs, context: Context) -> None:
        """Nothing to load."""

    def run(
        self, params: PseudoLabelParams, inputs: Inputs, shard: Shard, out: Path, context: Context
    ) -> None:
        """Label one session: `labels.parquet`, `frames_used.parquet`, `labels.coco.json`."""
        files = read_table(MediaFiles, inputs["media"].path)
        media = read_table(MediaIndex, inputs["media"].path)
        sessions = max(len(set(media.session.tolist())), 1)
        frames = media.select(media.session == shard.session)
        tracks = read_tables(Tracks, inputs["tracks"].paths(shard.session))
        associations = read_tables(Associations, inputs["associations"].paths(shard.session))
        labels = label_session(
            frames,
            tracks.select(tracks.session == shard.session),
            associations.select(associations.session == shard.session),
            params,
        )
        budget = max(1, round(params.frames / sessions))
        chosen = choose_frames(frames, labels, budget, params.holdout, context.seed)
        write_table(labels, out)
        write_table(chosen, out)
        write_coco(files.select(files.session == shard.session), frames, labels, out)
        context.progress(len(frames), len(frames), "frames")


def label_session(
    frames: MediaIndex, tracks: Tracks, associations: Associations, params: PseudoLabelParams
) -> PseudoLabels:
    """Person labels of every frame of one session.

    Boxes that show a person already shown by a more probable box get no row. Of the others, the most
    probable are positive, as many as the target false-discovery rate allows: the mean of one minus their
    probabilities stays below it. Doubtful ones are to be ignored in training.

    Args:
        frames: every frame of the session.
        tracks: tracks of every camera, filled boxes included.
        associations: one row per track.
        params: false-discovery rate, least size, round.

    Returns:
        Rows by camera and frame; `score` is the calibrated probability, `weight` is 0 where ignored.
    """
    evidence = weigh(frames, tracks, associations)
    probability = sigmoid(evidence.log_odds)
    sides = tracks.xyxy[:, 2:] - tracks.xyxy[:, :2]
    usable = (sides.min(axis=1) >= params.min_side_px) & (probability >= params.ignore_from / 2)
    shown = _one_per_person(tracks, evidence, probability, usable)
    kept = np.flatnonzero(shown.kept)
    probability = np.where(shown.nested, np.minimum(probability, 0.5), probability)
    positive = _discoveries(probability[kept], params.false_discovery_rate)
    worth = positive | (probability[kept] >= params.ignore_from)
    kept, positive = kept[worth], positive[worth]
    positive &= ~shown.nested[kept]
    return _table(tracks, evidence, probability, kept, positive, params.round)


@dataclass(frozen=True)
class _Shown:
    """Rows (N,) that stand for a person of their own, and those of them that may be a part of another."""

    kept: Bools
    nested: Bools


def _one_per_person(tracks: Tracks, evidence: Evidence, probability: Doubles, usable: Bools) -> _Shown:
    """Suppress double boxes frame by frame, the more probable track first.

    Two boxes that overlap are two people where both are matched to different persons in other views;
    otherwise the less probable one is the same person seen twice. A box inside another may be a part of
    that person (legs under a table) or somebody in front: it stays as doubtful unless it scores well
    itself or has its own match.
    """
    kept, nested = np.zeros(len(tracks), np.bool_), np.zeros(len(tracks), np.bool_)
    rows = np.flatnonzero(usable)
    camera = np.unique(tracks.camera, return_inverse=True)[1]
    order = rows[np.lexsort((-probability[rows], tracks.index[rows], camera[rows]))]
    key = np.stack([camera[order], tracks.index[order]], axis=1).reshape(-1, 2)
    cuts = np.flatnonzero((np.diff(key, axis=0) != 0).any(axis=1)) + 1
    person = evidence.person
    for part in np.split(order, cuts):
        overlap, inside = (
            iou(tracks.xyxy[part], tracks.xyxy[part]),
            containment(tracks.xyxy[part], tracks.xyxy[part]),
        )
        alive: list[int] = []
        for k, row in enumerate(part):
            others = np.array(alive, np.int64)
            apart = (person[row] >= 0) & (person[part[others]] >= 0) & (person[part[others]] != person[row])
            limit = np.where(apart, CERTAIN_IOU, DOUBLE_IOU)
            if (overlap[k, others] > limit).any():
                continue
            alive.append(k)
            kept[row] = True
            part_of = (inside[k, others] > NESTED) & ~apart
            nested[row] = bool(part_of.any()) and tracks.score[row] < SURE_SCORE
    return _Shown(kept, nested)


def _discoveries(probability: Doubles, rate: float) -> Bools:
    """The largest set of the most probable boxes whose expected share of errors is at most `rate`."""
    order = np.argsort(-probability, kind="stable")
    expected = np.cumsum(1.0 - probability[order]) / np.arange(1, len(order) + 1)
    allowed = np.flatnonzero(expected <= rate)
    chosen = np.zeros(len(probability), np.bool_)
    chosen[order[: allowed[-1] + 1 if len(allowed) else 0]] = True
    return chosen & (probability >= LEAST_POSITIVE)


def _table(
    tracks: Tracks, evidence: Evidence, probability: Doubles, kept: Ints, positive: Bools, round_: int
) -> PseudoLabels:
    order = np.lexsort((-probability[kept], tracks.index[kept], tracks.camera[kept]))
    kept, positive = kept[order], positive[order]
    gain = evidence.log_odds[kept] - evidence.alone[kept]
    source = np.full(len(kept), "temporal", dtype="U10")
    source[tracks.score[kept] >= SURE_SCORE] = "detected"
    helped = (evidence.matched[kept] > 0) & (gain > 0.5) & (tracks.score[kept] < SURE_SCORE)
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
        xyxy=tracks.xyxy[kept],
        label=np.full(len(kept), PERSON),
        score=probability[kept].astype(np.float32),
        weight=np.where(positive, probability[kept], 0.0).astype(np.float32),
        state=np.where(positive, POSITIVE, IGNORE),
        source=source,
        round=np.full(len(kept), round_),
    )
