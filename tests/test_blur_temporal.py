"""Boxes over time: gaps are bridged in both directions, tracks are held, and nobody is left out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.pipeline.geometry import containment
from orveil.stages.redaction.temporal import Covered, Origin, Temporal, targets, upper_part

FPS = 10.0
HEAD = np.array([[100, 50, 130, 90]], np.float32)
NOTHING = np.zeros((0, 4), np.float32)


def shift(boxes: np.ndarray, x: float, y: float = 0.0) -> np.ndarray:
    return (boxes + np.array([x, y, x, y])).astype(np.float32)


def run(temporal: Temporal, frames: Iterable[dict | None]) -> list[Covered]:  # type: ignore[type-arg]
    out: list[Covered] = []
    for number, found in enumerate(frames):
        temporal.push(number, number / FPS, found)
        out += temporal.ready()
    return [*out, *temporal.ready(end=True)]


def heads(boxes: np.ndarray, score: float = 0.9) -> dict:  # type: ignore[type-arg]
    return {
        "head": (boxes, np.full(len(boxes), score, np.float32)),
        "person": (NOTHING, np.zeros(0, np.float32)),
    }


def tracker(hold_s: float = 0.5, target: str = "head") -> Temporal:
    return Temporal({"person": 0.5, "head": 0.5}, target, hold_s)


def test_gap_is_filled_and_ends_are_held() -> None:
    moving = [shift(HEAD, 4 * k) for k in range(30)]
    seen = [10, 11, 12, 16, 17, 20]
    out = run(tracker(), [heads(moving[k] if k in seen else NOTHING) for k in range(30)])
    assert [c.frame for c in out] == list(range(30))
    covered = [c.frame for c in out if len(c.xyxy)]
    assert covered == list(range(5, 26))
    sources = {c.frame: c.sources for c in out}
    assert sources[9] == sources[21] == ("held",)
    assert sources[14] == ("filled",) and sources[16] == ("detected",)
    for k in range(10, 21):
        np.testing.assert_allclose(out[k].xyxy, moving[k], atol=1.0)
    for k in range(5, 26):  # held boxes have grown enough for a walker
        assert containment(out[k].xyxy, moving[k])[0, 0] > 0.95


def test_gap_longer_than_the_hold_is_covered_from_both_sides_up_to_it() -> None:
    out = run(tracker(0.3), [heads(HEAD if k in (5, 20) else NOTHING) for k in range(30)])
    assert [c.frame for c in out if len(c.xyxy)] == [*range(2, 9), *range(17, 24)]


def test_weak_detections_continue_a_track_but_start_none() -> None:
    frames = [heads(HEAD, 0.3)] * 5 + [heads(HEAD, 0.9)] + [heads(HEAD, 0.3)] * 20
    out = run(tracker(0.2), frames)
    assert [c.frame for c in out if len(c.xyxy)] == list(range(3, 26))


def test_answers_come_with_bounded_delay_and_memory() -> None:
    temporal = tracker()
    for number in range(2000):
        temporal.push(number, number / FPS, heads(HEAD))
        done = list(temporal.ready())
        assert len(done) <= 1 and (number < 6 or done[0].frame == number - 6)
    assert len(temporal._frames) <= 6
    assert [len(t.times) for t in temporal.labels["head"].tracks] <= [10]


def test_frames_between_runs_of_the_detector_are_interpolated() -> None:
    moving = [shift(HEAD, 6 * k) for k in range(25)]
    out = run(tracker(), [heads(moving[k]) if k % 3 == 0 else None for k in range(25)])
    for k in range(25):
        np.testing.assert_allclose(out[k].xyxy, moving[k], atol=0.1)


def test_two_people_who_cross_keep_their_masks() -> None:
    a = [shift(HEAD, 5 * k) for k in range(30)]
    b = [shift(HEAD, 150 - 5 * k, 8) for k in range(30)]
    both = [np.concatenate([a[k], b[k]]) for k in range(30)]
    lost = {13, 14, 15, 16}
    out = run(tracker(), [heads(both[k][:1] if k in lost else both[k]) for k in range(30)])
    for k in range(30):
        assert (containment(both[k], out[k].xyxy).max(axis=1) > 0.5).all()


def test_longest_gap_is_reported() -> None:
    temporal = tracker()
    run(temporal, [heads(HEAD if k not in (4, 5, 6, 9) else NOTHING) for k in range(15)])
    assert temporal.longest_gap() == {"missed_runs": 3, "seconds": 0.4}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.floats(0, 1))
def test_every_frame_comes_once_and_every_detection_is_covered(seen: list[bool], hold: float) -> None:
    out = run(tracker(hold), [heads(HEAD if s else NOTHING) for s in seen])
    assert [c.frame for c in out] == list(range(len(seen)))
    for covered, s in zip(out, seen, strict=True):
        assert len(covered.xyxy) == len(covered.sources)
        if s:
            assert (containment(covered.xyxy, HEAD) > 0.99).any()


PERSON = np.array([[100, 40, 160, 240]], np.float32)


def known(person: np.ndarray = NOTHING, head: np.ndarray = NOTHING, face: np.ndarray | None = None) -> dict:  # type: ignore[type-arg]
    given = {"person": person, "head": head, **({} if face is None else {"face": face})}
    return {
        name: (boxes, [Origin(name, "detected", row, 0.9) for row in range(len(boxes))])
        for name, boxes in given.items()
    }


def choose(evidence: dict, target: str) -> tuple[np.ndarray, tuple[str, ...]]:  # type: ignore[type-arg]
    boxes, origins = targets(evidence, target)
    return boxes, tuple(origin.source for origin in origins)


def test_person_without_a_head_is_covered_at_the_top() -> None:
    boxes, sources = choose(known(PERSON), "head")
    assert sources == ("body",) and boxes[0, 1] == 40 and boxes[0, 3] == pytest.approx(110)
    head = np.array([[115, 45, 145, 80]], np.float32)
    assert choose(known(PERSON, head), "head")[1] == ("detected",)
    feet = np.array([[115, 205, 145, 238]], np.float32)
    assert choose(known(PERSON, feet), "head")[1] == ("detected", "body")


def test_one_head_serves_one_person() -> None:
    pair = np.concatenate([PERSON, shift(PERSON, 20, 5)]).astype(np.float32)
    head = np.array([[115, 45, 145, 80]], np.float32)
    boxes, sources = choose(known(pair, head), "head")
    assert sources == ("detected", "body") and boxes[1, 0] == 120


def test_lying_person_without_a_head_is_covered_as_a_whole() -> None:
    lying = np.array([[100, 100, 300, 160]], np.float32)
    np.testing.assert_array_equal(choose(known(lying), "head")[0], lying)
    assert upper_part(NOTHING).shape == (0, 4)


def test_face_falls_back_to_head_and_body() -> None:
    head = np.array([[115, 45, 145, 80]], np.float32)
    face = np.array([[118, 52, 142, 78]], np.float32)
    np.testing.assert_array_equal(choose(known(PERSON, head, face), "face")[0], face)
    np.testing.assert_array_equal(choose(known(PERSON, head, NOTHING), "face")[0], head)
    np.testing.assert_array_equal(choose(known(PERSON, head), "face")[0], head)
    assert choose(known(PERSON, face=NOTHING), "face")[1] == ("body",)


def test_body_target_covers_a_lone_head_with_a_body() -> None:
    head = np.array([[115, 45, 145, 80]], np.float32)
    assert choose(known(PERSON, head), "body")[1] == ("detected",)
    boxes, sources = choose(known(head=head), "body")
    assert sources == ("head",) and containment(boxes, head)[0, 0] == 1.0 and boxes[0, 3] > 300


def test_nothing_anywhere() -> None:
    for target in ("face", "head", "body"):
        boxes, sources = choose(known(), target)
        assert boxes.shape == (0, 4) and sources == ()


def test_boxes_say_what_they_cover_and_which_track_they_belong_to() -> None:
    moving = [shift(HEAD, 4 * k) for k in range(12)]
    seen = {2: 0.9, 3: 0.6, 6: 0.8}
    out = run(tracker(0.4), [heads(moving[k], seen[k]) if k in seen else heads(NOTHING) for k in range(12)])
    origins = [c.origins[0] for c in out if c.origins]
    assert {o.label for o in origins} == {"head"} and len({o.track for o in origins}) == 1
    scores = {c.frame: c.origins[0].score for c in out if c.origins}
    assert {k: round(v, 3) for k, v in scores.items() if not np.isnan(v)} == seen
    both = {"person": (PERSON, np.array([0.9], np.float32)), "head": (shift(HEAD, 500), np.array([0.9]))}
    [covered] = run(tracker(), [both])
    assert [(o.label, o.source) for o in covered.origins] == [("head", "detected"), ("head", "body")]
    assert np.isnan(covered.origins[1].score) and len({o.track for o in covered.origins}) == 2
    guessed = targets(known(head=HEAD), "body")[1][0]
    assert (guessed.label, guessed.source, guessed.track) == ("person", "head", 0)
