"""Sliding averages over frames: what FaceOff's kernel fills and smears; size 1 changes nothing."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.stages.redaction.kernels import KERNELS, SlidingAverage, Smoother, make_smoother
from orveil.stages.redaction.temporal import Covered, Temporal

HEAD = np.array([[100, 50, 130, 90]], np.float32)
NOTHING = np.zeros((0, 4), np.float32)


def run(smoother: Smoother, frames: Iterable[np.ndarray | None], score: float = 0.9) -> list[Covered]:
    out: list[Covered] = []
    for number, boxes in enumerate(frames):
        found = None if boxes is None else {"head": (boxes, np.full(len(boxes), score, np.float32))}
        smoother.push(number, number / 10, found)
        out += smoother.ready()
    return [*out, *smoother.ready(end=True)]


def kernel(name: str) -> Smoother:
    return make_smoother(name, {"person": 0.5, "head": 0.5}, "head", 0.5)


def test_every_name_gives_a_smoother_and_tracks_are_the_default() -> None:
    assert isinstance(kernel(KERNELS[0]), Temporal)
    assert [k.half for k in map(kernel, KERNELS[1:]) if isinstance(k, SlidingAverage)] == [1, 2, 3, 0]


def test_none_covers_what_was_detected_and_nothing_else() -> None:
    out = run(kernel("none"), [HEAD, NOTHING, None, HEAD + 3])
    assert [len(c.xyxy) for c in out] == [1, 0, 0, 1]
    np.testing.assert_array_equal(out[3].xyxy, HEAD + 3)
    assert out[0].sources == ("detected",) and out[0].origins[0].score == pytest.approx(0.9)


@pytest.mark.parametrize(("name", "reach"), [("faceoff3", 1), ("faceoff5", 2), ("faceoff7", 3)])
def test_a_detection_reaches_half_a_window_into_frames_without(name: str, reach: int) -> None:
    out = run(kernel(name), [HEAD if number == 10 else NOTHING for number in range(20)])
    covered = [c.frame for c in out if len(c.xyxy)]
    assert covered == list(range(10 - reach, 10 + reach + 1))
    assert out[10].sources == ("detected",) and out[10 - reach].sources == ("filled",)


def test_boxes_of_one_face_are_averaged() -> None:
    shift = [0.0, 3.0, 9.0]
    out = run(kernel("faceoff3"), [HEAD + np.float32(s) for s in shift])
    np.testing.assert_allclose(out[1].xyxy, HEAD + np.float32(4.0), atol=1e-4)
    np.testing.assert_allclose(out[0].xyxy, HEAD + np.float32(1.5), atol=1e-4)


def test_two_faces_stay_two() -> None:
    pair = np.concatenate([HEAD, HEAD + np.float32(200)]).astype(np.float32)
    out = run(kernel("faceoff5"), [pair, pair[:1], pair, pair[1:], pair])
    assert [len(c.xyxy) for c in out] == [2] * 5
    np.testing.assert_allclose(out[1].xyxy, pair, atol=1e-4)


def test_scores_below_the_threshold_do_not_count() -> None:
    assert all(len(c.xyxy) == 0 for c in run(kernel("faceoff7"), [HEAD] * 9, score=0.4))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["seen", "missed", "skipped"]), max_size=25), st.sampled_from(KERNELS))
def test_every_frame_comes_once_in_order(kinds: list[str], name: str) -> None:
    boxes = {"seen": HEAD, "missed": NOTHING, "skipped": None}
    out = run(kernel(name), [boxes[kind] for kind in kinds])
    assert [c.frame for c in out] == list(range(len(kinds)))
    for covered, kind in zip(out, kinds, strict=True):
        assert len(covered.xyxy) == len(covered.origins)
        assert kind != "seen" or len(covered.xyxy)


def test_memory_is_the_window() -> None:
    smoother = SlidingAverage({"head": 0.5}, "head", 7)
    for number in range(500):
        smoother.push(number, number / 10, {"head": (HEAD, np.ones(1, np.float32))})
        assert len(list(smoother.ready())) == (number >= 3)
    assert len(smoother._window) == 6
