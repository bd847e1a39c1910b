"""Head and face boxes from keypoints, head candidates and person boxes: every source, and never nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from orveil.pipeline.geometry import iou
from orveil.pipeline.types import KEYPOINTS
from orveil.stages import heads as room
from orveil.stages.heads import HeadBoxes, head_boxes, heads_from_tracks

SIZE = (640, 480)
PERSON = np.array([[250.0, 100.0, 350.0, 440.0]], np.float32)
HEAD = np.array([280.0, 100.0, 320.0, 154.0], np.float32)
"""An upright person of 340 px and its head, 54 px from chin to crown."""


def upright(score: float = 0.9) -> NDArray[np.float32]:
    """A person seen from the front whose head is `HEAD`; points that are not set have confidence 0."""
    points = np.zeros((KEYPOINTS, 3), np.float32)
    places = {
        0: (300, 133), 1: (307, 127), 2: (293, 127), 3: (317, 130), 4: (283, 130),
        5: (340, 175), 6: (260, 175), 11: (325, 290), 12: (275, 290),
    }  # fmt: skip
    for number, place in places.items():
        points[number] = (*place, score)
    # 68 face points: jaw from ear to ear over the chin, brows, nose, eyes, mouth.
    turn = np.linspace(0, np.pi, 17)
    points[23:40, 0], points[23:40, 1] = 300 - 16 * np.cos(turn), 130 + 24 * np.sin(turn)
    points[40:50, 0], points[40:50, 1] = np.linspace(286, 314, 10), 123
    points[50:59, 0], points[50:59, 1] = 300, np.linspace(128, 137, 9)
    points[59:71, 0], points[59:71, 1] = np.linspace(288, 312, 12), 127
    points[71:91, 0], points[71:91, 1] = np.linspace(292, 308, 20), 144
    points[23:91, 2] = score
    return points


def without(points: NDArray[np.float32], *numbers: int) -> NDArray[np.float32]:
    hidden = points.copy()
    hidden[list(numbers), 2] = 0.0
    return hidden


FACELESS = range(23, 91)
NO_FACE = without(upright(), *FACELESS)
ONLY_SHOULDERS = without(NO_FACE, *range(5))
NOTHING = np.zeros((KEYPOINTS, 3), np.float32)
NONE = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)


def one(
    points: NDArray[np.float32], candidates: tuple[NDArray[np.float32], NDArray[np.float32]] = NONE
) -> HeadBoxes:
    return head_boxes(points[None], PERSON, *candidates, SIZE)


@pytest.mark.parametrize(
    ("points", "source", "least"),
    [
        (upright(), "face", 0.6),
        (NO_FACE, "ears", 0.5),
        (ONLY_SHOULDERS, "shoulders", 0.3),
        (NOTHING, "body", 0.2),
    ],
)
def test_each_source_finds_the_head(points: NDArray[np.float32], source: str, least: float) -> None:
    found = one(points)
    assert found.source.tolist() == [source]
    assert iou(found.head_xyxy, HEAD[None])[0, 0] > least


def test_trust_falls_with_the_source() -> None:
    scores = [float(one(p).head_score[0]) for p in (upright(), NO_FACE, ONLY_SHOULDERS, NOTHING)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4


def test_detector_is_used_where_keypoints_are_missing() -> None:
    found = one(NOTHING, (HEAD[None], np.array([0.6], np.float32)))
    assert found.source.tolist() == ["detector"]
    np.testing.assert_allclose(found.head_xyxy[0], HEAD)


def test_agreeing_sources_are_trusted_more_and_meet_in_between() -> None:
    alone, candidate = one(NO_FACE), HEAD + np.array([2, -2, 2, -2], np.float32)
    both = one(NO_FACE, (candidate[None], np.array([0.7], np.float32)))
    assert both.head_score[0] > alone.head_score[0]
    assert iou(both.head_xyxy, candidate[None])[0, 0] > iou(alone.head_xyxy, candidate[None])[0, 0]


def test_one_head_belongs_to_one_person() -> None:
    persons = np.repeat(PERSON, 2, axis=0) + np.array([[0, 0, 0, 0], [15, 4, 15, 4]], np.float32)
    found = head_boxes(np.stack([NOTHING] * 2), persons, HEAD[None], np.array([0.9], np.float32), SIZE)
    assert sorted(found.source.tolist()) == ["body", "detector"]


def test_heads_low_or_outside_the_person_are_not_its_own() -> None:
    low, away = HEAD + np.array([0, 250, 0, 250]), HEAD + np.array([200, 0, 200, 0])
    candidates = np.stack([low, away]).astype(np.float32)
    assert one(NOTHING, (candidates, np.array([0.9, 0.9], np.float32))).source.tolist() == ["body"]


def test_a_bent_person_has_its_head_where_the_keypoints_are() -> None:
    turned = upright()
    turned[:, :2] = np.stack([400 - (turned[:, 1] - 133), 300 + (turned[:, 0] - 300)], 1)
    person = np.array([[90.0, 245.0, 440.0, 355.0]], np.float32)
    found = head_boxes(turned[None], person, *NONE, SIZE)
    x0, y0, x1, y1 = HEAD
    expected = np.array([[400 - (y1 - 133), 300 + x0 - 300, 400 - (y0 - 133), 300 + x1 - 300]], np.float32)
    assert iou(found.head_xyxy, expected)[0, 0] > 0.6


def test_face_ends_at_the_chin_and_is_the_head_where_it_is_not_seen() -> None:
    seen = one(upright())
    face, head = seen.face_xyxy[0], seen.head_xyxy[0]
    assert seen.face_score[0] > 0.5
    assert (face[:2] >= head[:2] - 1e-3).all() and (face[2:] <= head[2:] + 1e-3).all()
    assert face[1] < 124 and 145 < face[3] < 160
    unseen = one(NO_FACE)
    assert unseen.face_score[0] == 0
    np.testing.assert_array_equal(unseen.face_xyxy, unseen.head_xyxy)


def test_track_helps_out_where_only_the_body_is_seen() -> None:
    step = np.array([10, 0, 10, 0], np.float32)
    persons = np.concatenate([PERSON, PERSON + step])
    first = head_boxes(upright()[None], persons[:1], *NONE, SIZE)
    second = head_boxes(NOTHING[None], persons[1:], *NONE, SIZE)
    joined = HeadBoxes(
        *(np.concatenate(pair) for pair in zip(_columns(first), _columns(second), strict=True))
    )
    same = np.array([4, 4])
    near = heads_from_tracks(joined, persons, same, np.array([0.0, 0.1]), SIZE)
    assert near.source.tolist() == ["face", "track"]
    np.testing.assert_allclose(near.head_xyxy[1], first.head_xyxy[0] + step, atol=1e-3)
    assert second.head_score[0] < near.head_score[1] < first.head_score[0]
    for tracks, times in (
        (same, [0.0, 5.0]),
        (np.array([4, 5]), [0.0, 0.1]),
        (np.array([-1, -1]), [0.0, 0.1]),
    ):
        kept = heads_from_tracks(joined, persons, tracks, np.array(times), SIZE)
        assert kept.source.tolist() == ["face", "body"]


def _columns(heads: HeadBoxes) -> tuple[NDArray[np.generic], ...]:
    return heads.head_xyxy, heads.head_score, heads.source, heads.face_xyxy, heads.face_score


def test_nobody() -> None:
    found = head_boxes(np.zeros((0, KEYPOINTS, 3), np.float32), *NONE[:1], *NONE, SIZE)
    assert len(found) == 0
    assert found.head_xyxy.shape == (0, 4)
    assert len(heads_from_tracks(found, NONE[0], np.zeros(0, np.int64), np.zeros(0), SIZE)) == 0


@settings(max_examples=60, deadline=None)
@given(
    points=hnp.arrays(
        np.float32,
        (2, KEYPOINTS, 3),
        elements=st.floats(-200, 900, width=32),
    ),
    corner=hnp.arrays(np.float32, (2, 2), elements=st.floats(-50, 700, width=32)),
    sides=hnp.arrays(np.float32, (2, 2), elements=st.floats(0, 400, width=32)),
    score=st.floats(0, 1, width=32),
)
def test_never_nothing(
    points: NDArray[np.float32], corner: NDArray[np.float32], sides: NDArray[np.float32], score: float
) -> None:
    points[..., 2] = np.clip(points[..., 2] / 900, 0, 1)
    persons = np.concatenate([corner, corner + sides], 1)
    found = head_boxes(points, persons, HEAD[None], np.array([score], np.float32), SIZE)
    for boxes in (found.head_xyxy, found.face_xyxy):
        assert np.isfinite(boxes).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes >= 0).all() and (boxes <= np.array([*SIZE, *SIZE])).all()
    assert ((found.head_score >= 0) & (found.head_score <= 1)).all()
    assert ((found.face_score >= 0) & (found.face_score <= 1)).all()
    assert set(found.source.tolist()) <= set(room.TRUST)
