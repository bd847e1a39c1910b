"""Boxes and keypoints: properties that must hold for any box, and small cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from orveil.pipeline import geometry as g

FEW = settings(max_examples=60, deadline=None)


@st.composite
def boxes(draw: st.DrawFn, least: int = 0, most: int = 12) -> NDArray[np.float32]:
    number = draw(st.integers(least, most))
    span = st.floats(-50, 500, width=32)
    corner = draw(arrays(np.float32, (number, 2), elements=span))
    side = draw(arrays(np.float32, (number, 2), elements=st.floats(0, 300, width=32)))
    return np.concatenate([corner, corner + side], axis=1)


def brute_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a.astype(float), b.astype(float)
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    return float(w * h / union) if union > 0 else 0.0


@FEW
@given(boxes(), boxes())
def test_iou_agrees_with_the_definition(a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
    got = g.iou(a, b)
    assert got.shape == (len(a), len(b))
    want = np.array([[brute_iou(p, q) for q in b] for p in a]).reshape(got.shape)
    np.testing.assert_allclose(got, want, atol=1e-9)
    np.testing.assert_allclose(g.iou(b, a).T, got)
    assert (g.containment(a, b) >= got - 1e-12).all()


def test_overlap_by_hand() -> None:
    outer, inner, apart = [[0, 0, 10, 10]], [[0, 0, 5, 10]], [[20, 20, 30, 30]]
    assert g.iou(outer, inner)[0, 0] == pytest.approx(0.5)
    assert g.containment(outer, inner)[0, 0] == 1.0
    assert g.iou(outer, apart)[0, 0] == 0.0
    assert g.iou([[1, 1, 1, 1]], [[1, 1, 1, 1]])[0, 0] == 0.0


@FEW
@given(boxes(), st.floats(0.05, 0.95), st.sampled_from(["iou", "containment"]), st.data())
def test_nms_keeps_no_clash_and_drops_only_clashes(
    xyxy: NDArray[np.float32], threshold: float, overlap: str, data: st.DataObject
) -> None:
    score = np.array(data.draw(st.lists(st.floats(0, 1), min_size=len(xyxy), max_size=len(xyxy))))
    label = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(xyxy), max_size=len(xyxy))), int)
    kept = g.nms(xyxy, score, threshold, label, overlap)  # type: ignore[arg-type]
    measure = g.iou if overlap == "iou" else g.containment
    clash = (measure(xyxy, xyxy) > threshold) & (label[:, None] == label[None, :])
    assert not clash[np.ix_(kept, kept)][~np.eye(len(kept), dtype=bool)].any()
    assert (np.diff(score[kept]) <= 0).all()
    for row in set(range(len(xyxy))) - set(kept.tolist()):
        assert any(clash[row, k] and score[k] >= score[row] for k in kept)


def test_nms_prefers_the_better_box_and_then_the_earlier_one() -> None:
    xyxy = np.array([[0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60], [50, 50, 60, 60]], np.float32)
    assert g.nms(xyxy, np.array([0.5, 0.9, 0.4, 0.4]), 0.5).tolist() == [1, 2]


@FEW
@given(boxes(least=1), st.integers(1, 400), st.integers(1, 400))
def test_clip_stays_inside_and_changes_nothing_there(
    xyxy: NDArray[np.float32], width: int, height: int
) -> None:
    cut = g.clip(xyxy, width, height)
    assert cut.dtype == np.float32
    assert (cut >= 0).all() and (cut[:, ::2] <= width).all() and (cut[:, 1::2] <= height).all()
    assert (cut[:, 2:] >= cut[:, :2]).all()
    np.testing.assert_array_equal(g.clip(cut, width, height), cut)


@FEW
@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(32, 2048))
def test_fit_keeps_the_long_side_and_pads_to_the_stride(width: int, height: int, long_side: int) -> None:
    fit = g.Fit.of(width, height, long_side)
    assert max(fit.resized) == long_side
    for resized, padded in zip(fit.resized, fit.padded, strict=True):
        assert padded % 32 == 0 and 0 <= padded - resized < 32
    whole = np.array([[0, 0, width, height]], np.float32)
    np.testing.assert_allclose(fit.to_input(whole)[0, 2:], fit.resized, rtol=1e-5)


@FEW
@given(boxes(), st.integers(8, 2000), st.integers(8, 2000), st.integers(64, 1024))
def test_fit_there_and_back(xyxy: NDArray[np.float32], width: int, height: int, long_side: int) -> None:
    inside = g.clip(xyxy, width, height)
    fit = g.Fit.of(width, height, long_side)
    np.testing.assert_allclose(fit.to_source(fit.to_input(inside)), inside, atol=1e-2)


@FEW
@given(boxes(), st.floats(0, 1))
def test_expand_keeps_centre_and_grows_sides(xyxy: NDArray[np.float32], margin: float) -> None:
    grown = g.expand(xyxy, margin)
    np.testing.assert_allclose(g.centre(grown), g.centre(xyxy), atol=1e-2)
    want = (xyxy[:, 2:] - xyxy[:, :2]) * (1 + 2 * margin)
    np.testing.assert_allclose(grown[:, 2:] - grown[:, :2], want, rtol=1e-3, atol=1e-2)


@FEW
@given(boxes())
def test_xywh_there_and_back(xyxy: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(g.from_xywh(g.to_xywh(xyxy)), xyxy, atol=1e-3)


def test_interpolation_is_exact_at_the_ends_linear_between_and_held_outside() -> None:
    xyxy = np.array([[0, 0, 10, 10], [10, 20, 30, 40]], np.float32)
    got = g.interpolate(np.array([-1.0, 0.0, 0.5, 1.0, 3.0]), np.array([0.0, 1.0]), xyxy)
    np.testing.assert_allclose(got, [xyxy[0], xyxy[0], [5, 10, 20, 25], xyxy[1], xyxy[1]])
    assert g.interpolate(np.array([]), np.array([0.0]), xyxy[:1]).shape == (0, 4)


def test_keypoints_box_counts_only_confident_finite_points() -> None:
    points = np.zeros((3, 4, 3), np.float32)
    points[0] = [[1, 2, 0.9], [5, 8, 0.4], [100, 100, 0.1], [np.nan, 3, 0.9]]
    points[1, :, 2] = 0.1
    points[2] = [[3, 3, 1]] * 4
    xyxy, number = g.keypoints_box(points, 0.3)
    np.testing.assert_allclose(xyxy, [[1, 2, 5, 8], [0, 0, 0, 0], [3, 3, 3, 3]])
    assert number.tolist() == [2, 0, 4]
    empty, none = g.keypoints_box(np.zeros((0, 133, 3)), 0.3)
    assert empty.shape == (0, 4) and none.shape == (0,)


def test_empty_arrays_everywhere() -> None:
    none = np.zeros((0, 4), np.float32)
    one = np.array([[0, 0, 1, 1]], np.float32)
    assert g.iou(none, one).shape == (0, 1) and g.containment(one, none).shape == (1, 0)
    assert g.nms(none, np.zeros(0), 0.5).shape == (0,)
    fit = g.Fit.of(64, 48, 416)
    for result in (g.clip(none, 5, 5), g.expand(none, 0.2), g.to_xywh(none), g.from_xywh(none),
                   fit.to_input(none), fit.to_source(none)):  # fmt: skip
        assert result.shape == (0, 4) and result.dtype == np.float32
    assert g.area(none).shape == (0,) and g.centre(none).shape == (0, 2)


def test_union_box() -> None:
    np.testing.assert_allclose(g.union_box([[0, 5, 2, 9], [1, 1, 7, 6]]), [0, 1, 7, 9])


def test_fit_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="positive"):
        g.Fit.of(0, 10, 416)
