"""Stage part: how probable it is that a box shows a person, from scores, time, size, neighbours and views.

The log odds are a weighted sum of the cues of a box (`cues.py`), so that everybody can read what counts.
Weights were fitted to simulated rooms and several detectors by `scripts/fit_evidence.py`, together with how
much a room or detector that they were not fitted to may differ. What a match in another view is worth is
measured on the site itself, without labels: how often confident tracks find a partner, against how often
clutter does.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.types import Associations, Detections, MediaFiles, MediaIndex, Motion, Tracks
from orveil.stages.cues import CUES, Cues, see

__all__ = ["MODEL_FILE", "Evidence", "Model", "Trust", "load_model", "sigmoid", "weigh"]

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

MODEL_FILE = "evidence.json"
MATCH_WORTH, ALONE_WORTH = 0.4, -1.5
"""Bounds of what a match, or the lack of one, can add. A match tells that somebody is there, not that the
box fits: of the wrong boxes that look probable, two thirds show somebody, and a match leaves those as they
are."""
CLUTTER_MEAN = -1.6
"""Mean log odds of the scores of a track below which it is clutter for counting matches; above 0, sure."""


@dataclass(frozen=True)
class Trust:
    """How far calibrated log odds may be wrong together.

    Attributes:
        spread: standard deviation, over rooms and detectors not fitted to, of what must be added to all.
        together: correlation of the errors of two boxes of one track.
    """

    spread: float
    together: float


@dataclass(frozen=True)
class Model:
    """Weighted sum of K cues, with its calibration.

    Attributes:
        weights: (K,) log odds per unit of each cue; constant: log odds where all cues are 0.
        retrained: what is added for a detector that was trained on pseudo labels of the same room: it agrees
            with its own mistakes, and its scores are too high.
        spread, together: see `Trust`.
    """

    weights: Doubles
    constant: float
    retrained: float
    spread: float
    together: float

    def log_odds(self, value: Doubles) -> Doubles:
        """Log odds (N,) that a box with these cues (N, K) is right and no double."""
        return np.asarray(value @ self.weights + self.constant, np.float64)


@functools.cache
def load_model() -> Model:
    """The model that comes with the package.

    Raises:
        ValueError: it was fitted to other cues; run `scripts/fit_evidence.py`.
    """
    text = resources.files("orveil.configs").joinpath("weights", MODEL_FILE).read_text("utf-8")
    stored = json.loads(text)
    weights = stored.pop("weights")
    if tuple(weights) != CUES:
        raise ValueError(f"{MODEL_FILE} was fitted to other cues than these")
    return Model(np.array(list(weights.values())), **stored)


@dataclass(frozen=True)
class Evidence:
    """What is known about each of N boxes of T tracks.

    Attributes:
        track: (N,) number of the track over all cameras, 0..T-1.
        xyxy: (N, 4) where the person is: the box merged with its doubles.
        log_odds: (N,) that the box shows a person and none that a better box shows.
        alone: (N,) the same without the other views.
        lenient: (N,) log odds where neither keeping still nor an adapted detector counts against a box.
        person: (N,) person id, -1 where unmatched.
        matched: (N,) probability of the match.
        trust: how far the log odds may be wrong together.
    """

    track: Ints
    xyxy: NDArray[np.float32]
    log_odds: Doubles
    alone: Doubles
    lenient: Doubles
    person: Ints
    matched: Doubles
    trust: Trust


def sigmoid(x: Doubles) -> Doubles:
    """Probabilities of log odds."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0))))


def weigh(
    files: MediaFiles,
    frames: MediaIndex,
    tracks: Tracks,
    associations: Associations,
    heads: Detections | None = None,
    retrained: bool = False,
    motion: Motion | None = None,
) -> Evidence:
    """Evidence of every box of one session.

    Args:
        files: one row per camera (picture sizes).
        frames: every frame of the session.
        tracks: tracks of every camera.
        associations: one row per track.
        heads: head candidates; None where the detector knows no heads.
        retrained: whether the detector was trained on labels of this site.
        motion: masks of the frames; None where only boxes are known.
    """
    cues, model = see(files, frames, tracks, heads, motion), load_model()
    person, matched = _matches(cues.names, associations)
    views = _worth_of_views(cues, matched, len(set(tracks.camera.tolist())))
    shift = model.retrained if retrained else 0.0
    own = model.log_odds(cues.value) + shift
    # A match explains why something stands still: others see it as a person too.
    pardon = np.where(cues.still & (matched > 0), -model.weights[CUES.index("still")], 0.0)
    track = cues.track
    trust = Trust(model.spread, model.together)
    helped = own + (views + pardon)[track]
    unmoved = model.weights[CUES.index("moved")] * cues.value[:, CUES.index("moved")]
    lenient = helped - shift - np.minimum(unmoved, 0.0)
    return Evidence(track, cues.xyxy, helped, own, lenient, person[track], matched[track], trust)


def _matches(names: list[tuple[str, int]], associations: Associations) -> tuple[Ints, Doubles]:
    """Person id (T,), -1 where unmatched, and probability of the match (T,)."""
    rows = {
        (camera, track): row
        for row, (camera, track) in enumerate(
            zip(associations.camera.tolist(), associations.track_id.tolist(), strict=True)
        )
    }
    person, matched = np.full(len(names), -1, np.int64), np.zeros(len(names))
    for number, name in enumerate(names):
        row = rows.get(name)
        if row is not None and associations.views[row] > 1:
            person[number] = associations.person_id[row]
            matched[number] = associations.probability[row]
    return person, matched


def _worth_of_views(cues: Cues, matched: Doubles, cameras: int) -> Doubles:
    """Log odds (T,) that a match in another view adds, or the lack of one takes away.

    Both rates are counted on the site: among tracks whose scores say person, and among those whose
    scores say clutter. Where people are never matched, being alone means nothing.
    """
    if cameras < 2 or not (matched > 0).any():
        return np.zeros(len(matched))
    size = np.minimum(cues.boxes, 30).astype(np.float64)
    sure, clutter = cues.mean > 0.0, cues.mean < CLUTTER_MEAN
    rate_sure = (size[sure & (matched > 0)].sum() + 1.0) / (size[sure].sum() + 2.0)
    rate_clutter = (size[clutter & (matched > 0)].sum() + 1.0) / (size[clutter].sum() + 2.0)
    rate_clutter = min(rate_clutter, rate_sure)
    found = float(np.clip(np.log(rate_sure / rate_clutter), 0.0, MATCH_WORTH))
    missed = float(np.clip(np.log((1 - rate_sure) / (1 - rate_clutter)), ALONE_WORTH, 0.0))
    return np.where(matched > 0, found * matched, missed)
