"""Tracks of a site's labels against its ground truth: crowds, strays and names that are not given."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from orveil.pipeline.types import IGNORE, PERSON, POSITIVE, PseudoLabels
from orveil.stages.tracking import tracking
from orveil.stages.truth import Truth, TruthBoxes, TruthFrames

FRAMES = 10


def site(track_id=(0, 1), ignore=(False, False)):
    """Two people, 100 px apart, in every frame of one camera."""
    count, people = FRAMES * 2, np.tile([0, 1], FRAMES)
    frame = np.repeat(np.arange(FRAMES), 2)
    x = 100.0 * people
    frames = TruthFrames(
        np.full(FRAMES, "main"), np.full(FRAMES, "cam01"), np.arange(FRAMES), np.arange(FRAMES) / 10,
        np.arange(FRAMES), np.tile([640, 480], (FRAMES, 1)),
    )  # fmt: skip
    boxes = TruthBoxes(
        frame, np.stack([x, x * 0, x + 50, x * 0 + 80], axis=1).astype(np.float32),
        np.array(track_id)[people], np.zeros(count, bool), np.array(ignore)[people],
        np.ones(count, bool), (None,) * count,
    )  # fmt: skip
    return Truth(frames, {PERSON: boxes}, frozenset({PERSON}), 0)


def labels(truth, **columns):
    """A right label for every box."""
    boxes = truth.boxes[PERSON]
    count = len(boxes)
    rows = {
        "session": ["main"] * count, "camera": ["cam01"] * count, "index": boxes.frame, "pts": boxes.frame,
        "label_id": np.arange(count), "track_id": np.tile([7, 8], FRAMES), "person_id": np.full(count, -1),
        "xyxy": boxes.xyxy, "label": np.full(count, PERSON), "score": np.full(count, 0.9),
        "weight": np.ones(count), "state": np.full(count, POSITIVE), "source": ["detected"] * count,
        "round": np.ones(count, int),
    }  # fmt: skip
    return PseudoLabels(**{**rows, **columns})


def test_right_labels_are_right_whatever_their_tracks_are_called():
    found = tracking(site(), labels(site()))
    assert found["hota"] == found["idf1"] == found["mota"] == 1.0
    assert found["cameras"]["main/cam01"]["switches"] == 0


def test_labels_without_a_track_are_strangers_to_each_other():
    found = tracking(site(), labels(site(), track_id=np.tile([7, -1], FRAMES)))
    assert found["idf1"] == pytest.approx((FRAMES + 1) / (2 * FRAMES))
    assert found["switches"] == FRAMES - 1


def test_doubtful_labels_do_not_count_and_a_second_box_of_a_track_gives_way_to_the_better():
    truth = site()
    doubtful = labels(truth, state=np.tile([POSITIVE, IGNORE], FRAMES))
    assert tracking(truth, doubtful)["mota"] == pytest.approx(0.5)
    twice = labels(truth, track_id=np.full(2 * FRAMES, 7), score=np.tile([0.9, 0.6], FRAMES))
    figures = tracking(truth, twice)
    assert figures["idf1"] == pytest.approx(2 / 3) and figures["switches"] == 0


def test_an_ignored_person_is_neither_missed_nor_a_false_alarm():
    truth = site(ignore=(False, True))
    assert tracking(truth, labels(truth))["mota"] == 1.0
    seen = labels(truth).select(np.tile([True, False], FRAMES))
    assert tracking(truth, seen)["mota"] == 1.0


def test_without_names_there_is_nothing_to_say():
    assert tracking(site(track_id=(0, -1)), labels(site())) is None
    truth = site()
    nobody = truth.boxes[PERSON].select(np.zeros(2 * FRAMES, bool))
    assert tracking(dataclasses.replace(truth, boxes={PERSON: nobody}), labels(truth)) is None
