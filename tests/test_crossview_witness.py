"""What other views say of a box: people beyond doubt against decoys, and what that teaches about cues."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from crossview_rooms import SIZE, room

from orveil.trackers import witness
from orveil.trackers.crossview import View, learn
from orveil.trackers.pairing import Scene
from orveil.trackers.witness import Testimony, believe

SURE = 0.7
"""Share of boxes of people that the detector is sure of; it doubts the others."""


@functools.cache
def clutter_and_people():
    """Boxes of six people in three views, every one a track; to each frame of a view clutter is added: boxes
    of another time. Who is a person, and the model of the views."""
    rows, frames = room(people=6, seconds=80, fps=2.0, seed=11)
    model = learn(
        [View(t[:, 0].astype(int), t[:, 2:], np.ones(len(t)), np.array(SIZE, float)) for t in rows],
        np.random.default_rng(0),
        epochs=20,
        restarts=1,
    )
    rng = np.random.default_rng(1)
    parts, person = [], []
    for c, table in enumerate(rows):
        extra = table[rng.random(len(table)) < 0.4].copy()
        extra[:, 0] = (extra[:, 0] + rng.integers(frames // 3, frames // 2, len(extra))) % frames
        both = np.concatenate([table, extra])
        parts.append(np.insert(both, 0, c, axis=1))
        person.append(np.repeat([True, False], [len(table), len(extra)]))
    table, person = np.concatenate(parts), np.concatenate(person)
    count = len(table)
    sure = person & (rng.random(count) < SURE)
    scene = Scene(
        camera=table[:, 0].astype(int),
        tick=table[:, 1].astype(int),
        track=np.arange(count),
        xyxy=table[:, 3:],
        score=np.where(sure, 0.9, 0.3),
        sure=sure,
        track_camera=table[:, 0].astype(int),
        tick_s=60.0 * np.arange(frames),
    )
    return scene, model, person


def test_other_views_tell_doubtful_people_from_clutter_without_labels():
    scene, model, person = clutter_and_people()
    testimony = witness.testify(scene, model, scene.sure, np.random.default_rng(0))
    odds = believe(testimony, np.zeros((len(person), 1)))
    doubtful = ~scene.sure
    right = person[doubtful & (odds > 0)]
    assert len(right) > 30 and right.mean() > person[doubtful].mean() + 0.15
    assert odds[doubtful & person].mean() > odds[doubtful & ~person].mean() + 1.0
    again = believe(
        witness.testify(scene, model, scene.sure, np.random.default_rng(0)), np.zeros((len(person), 1))
    )
    np.testing.assert_array_equal(odds, again)


def test_where_people_should_be_is_predicted():
    scene, model, _ = clutter_and_people()
    rows = np.flatnonzero((scene.camera == 0) & scene.sure)
    expected = model.expected(0, 1, scene.xyxy[rows])
    assert expected.shape == (len(rows), 4)
    assert (expected >= 0).all() and (expected <= np.tile(SIZE, 2)).all()
    assert model.expected(0, 0, scene.xyxy[rows]) is None


def test_cues_are_weighed_by_what_other_views_say():
    rng = np.random.default_rng(3)
    person = rng.random(3000) < 0.3
    # The cue is right in nine of ten, the other views in eight.
    cue = np.where(rng.random(3000) < 0.9, person, ~person).astype(float)
    seen = np.where(rng.random(3000) < 0.8, person, ~person).astype(int)
    table = {"people": np.array([[0.2], [0.8]]), "chance": np.array([[0.8], [0.2]])}
    testimony = Testimony(
        np.zeros(3000, bool),
        (seen, np.zeros(3000, int)),
        *({True: table[name], False: table[name]} for name in ("people", "chance")),
    )
    probability = 1 / (1 + np.exp(-believe(testimony, cue[:, None])))
    assert ((probability > 0.5) == person).mean() > 0.88
    assert probability.mean() == pytest.approx(0.3, abs=0.05)
    both, neither = (cue == 1) & (seen == 1), (cue == 0) & (seen == 0)
    assert probability[both].mean() == pytest.approx(person[both].mean(), abs=0.06)
    assert probability[neither].mean() == pytest.approx(person[neither].mean(), abs=0.06)
