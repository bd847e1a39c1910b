"""Pairs of tracks judged together: rivals, third cameras, doubles; densities that know what is strange."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orveil.trackers.agreement import agree, link
from orveil.trackers.density import anybody, chain, regress
from orveil.trackers.doubles import frames_of, neighbours, one_each, without_nested
from orveil.trackers.matching import match_marginals


def grid(n, m):
    """All pairs of n boxes of camera 0 with m boxes of camera 1, in one frame."""
    a, b = np.repeat(np.arange(n), m), n + np.tile(np.arange(m), n)
    camera, tick = np.repeat([0, 1], [n, m]), np.zeros(n + m, int)
    return link(a, b, camera, tick, tick)


@settings(max_examples=30)
@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.floats(-5, 5)))
def test_single_frames_are_judged_like_a_matching(ratio):
    n, m = ratio.shape
    odds = agree(grid(n, m), ratio.ravel(), np.zeros(n * m, int))
    probability = (1 / (1 + np.exp(-odds))).reshape(n, m)
    # A dozen rounds of belief propagation leave a remainder where many partners are equally good.
    assert (probability.sum(axis=0) <= 1.1).all() and (probability.sum(axis=1) <= 1.1).all()
    # With the share that was found, the marginals are those of the dense matching.
    share = np.clip(probability.sum() / min(n, m), 0.01, 0.95)
    dense, _ = match_marginals((ratio + np.log(share / (1 - share)) - 0.5 * np.log(n * m))[None])
    np.testing.assert_allclose(probability, dense[0], atol=0.12)


def test_hopeless_pairs_are_no_rivals_but_count_as_seen():
    n, m = 3, 4
    ratio = np.where(np.eye(n, m, dtype=bool), 4.0, -9.0).ravel()
    a, b = np.repeat(np.arange(n), m), n + np.tile(np.arange(m), n)
    camera, tick = np.repeat([0, 1], [n, m]), np.zeros(n + m, int)
    pruned = link(a, b, camera, tick, tick, ratio > -8)
    assert len(pruned.rows) == n and pruned.crowd_a.tolist() == [m] * (n * m)
    odds, every = (agree(which, ratio, np.zeros(n * m, int)) for which in (pruned, grid(n, m)))
    np.testing.assert_allclose(odds[pruned.rows], every[pruned.rows], atol=0.01)
    assert (np.delete(odds, pruned.rows) == -9.0).all()


def test_pairs_count_as_a_crowd_only_at_the_same_time():
    a, b, camera = np.array([0, 0, 0]), np.array([1, 2, 3]), np.array([0, 1, 1, 1])
    links = link(a, b, camera, np.array([0, 0, 5, 3]), np.array([9, 4, 9, 4]))
    assert links.crowd_a.tolist() == [2, 1, 2] and links.crowd_b.tolist() == [1, 1, 1]
    assert links.rivals_a.toarray().tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]


def test_a_better_partner_takes_a_track_away_only_at_the_same_time():
    a, b, camera = np.array([0, 0]), np.array([1, 2]), np.array([0, 1, 1])
    kind, ratio = np.zeros(2, int), np.array([6.0, 2.0])
    together = agree(link(a, b, camera, np.array([0, 0, 0]), np.array([9, 9, 9])), ratio, kind)
    in_turn = agree(link(a, b, camera, np.array([0, 0, 5]), np.array([9, 4, 9])), ratio, kind)
    assert together[0] > 0 > together[1]
    assert (in_turn > 0).all()


def test_a_third_camera_decides_between_equal_partners():
    # Track 0 could be 1 or 2; track 3 of the third camera is 0, and it is 1, not 2.
    a, b = np.array([0, 0, 0, 1, 2]), np.array([1, 2, 3, 3, 3])
    camera, tick = np.array([0, 1, 1, 2]), np.zeros(4, int)
    odds = agree(link(a, b, camera, tick, tick), np.array([1.0, 1.0, 4.0, 4.0, -4.0]), np.zeros(5, int))
    assert odds[0] > 0 > odds[1] and odds[0] - odds[1] > 2


def test_nothing_to_judge():
    none = np.zeros(0, int)
    assert agree(
        link(none, none, np.array([0, 1]), np.zeros(2, int), np.zeros(2, int)), np.zeros(0), none
    ).shape == (0,)
    assert frames_of(none, none) == [] and one_each([], np.zeros((0, 4)), np.zeros(0), none).shape == (0,)


def test_of_double_boxes_one_stays_unless_other_views_tell_two_people():
    xyxy = np.array([[0, 0, 100, 200], [50, 0, 150, 200], [300, 0, 400, 200], [30, 0, 100, 200.0]])
    worth, frames = np.array([0.6, 0.9, 0.9, 0.7]), frames_of(np.zeros(4, int), np.zeros(4, int))
    nobody = np.full(4, -1)
    # The first overlaps the last by .7 and the second by .33, the second overlaps the last by .42.
    assert one_each(frames, xyxy, worth, nobody).tolist() == [1, 2, 3]
    assert one_each(frames, xyxy, worth, np.array([4, -1, -1, 5])).tolist() == [0, 1, 2, 3]
    assert one_each(frames, xyxy, worth, np.array([5, -1, -1, 5])).tolist() == [1, 2, 3]
    # Boxes drawn together by merging are compared as they were found, but only between people told apart.
    merged = np.tile(xyxy[:1], (4, 1))
    assert one_each(frames, merged, worth, np.arange(4), xyxy).tolist() == [0, 1, 2, 3]
    assert one_each(frames, merged, worth, nobody, xyxy).tolist() == [1]
    apart = frames_of(np.zeros(4, int), np.arange(4))
    assert len(apart) == 4 and one_each(apart, merged, worth, nobody).tolist() == [0, 1, 2, 3]


def test_boxes_inside_others_do_not_teach_and_are_told_from_their_neighbours():
    xyxy = np.array([[0, 0, 100, 200], [20, 20, 70, 120], [300, 0, 400, 200.0], [0, 0, 400, 200]])
    score, frames = np.array([0.9, 0.6, 0.9, 0.7]), frames_of(np.zeros(4, int), np.zeros(4, int))
    assert without_nested(frames, xyxy, score).tolist() == [0, 2]
    cue = neighbours(frames, xyxy, score)
    np.testing.assert_allclose(cue[1], [0.9, 0.9 * 0.25, 0.9 * 0.25], atol=1e-6)
    np.testing.assert_allclose(cue[3], [0.9 * 0.25, 0.9, 0.9 * 0.25], atol=1e-6)
    assert (cue[[0, 2]] == 0).all(), "nothing better is near them"
    some = frames_of(np.array(["a", "b", "a", "a"]), np.zeros(4, int), np.array([3, 0, 1]))
    assert [rows.tolist() for rows in some] == [[3, 0], [1]]


def test_variance_of_few_rows_is_not_taken_for_small():
    rng = np.random.default_rng(0)
    rows, columns = 60, 35
    feature = np.concatenate([np.ones((rows, 1)), rng.normal(size=(rows, columns - 1))], axis=1)
    line = regress(feature, rng.normal(size=rows), np.ones(rows), prior=1.0)
    assert line.variance > 0.5, "the residuals of the fit itself would say less than half of that"


def test_second_coordinate_is_certain_once_the_first_is_known():
    rng = np.random.default_rng(1)
    n, feature = 400, np.ones((400, 1))
    first = rng.normal(size=n)
    target = np.stack([first, 2 * first + rng.normal(0, 0.05, n)], axis=1)
    fitted = chain(feature, np.zeros((n, 2)), target, target, np.ones(n), np.ones(2) * 0.02)
    off = np.array([[1.0, 2.0], [1.0, 0.0]])
    density = fitted.log_density(feature[:1], np.zeros((1, 2)), off, off, np.zeros(2, int), np.arange(2))
    assert density[0] - density[1] > 4, "both lie within the spread of each coordinate by itself"


@pytest.mark.parametrize("rounds", [1, 3])
def test_numbers_fitted_together_are_those_fitted_one_by_one(rounds):
    rng = np.random.default_rng(3)
    feature = np.concatenate([np.ones((90, 1)), rng.normal(size=(90, 5))], axis=1)
    partner, unit, weight = rng.normal(size=(90, 2)), rng.standard_t(3, (90, 2)), rng.uniform(0, 1, 90)
    fitted = chain(feature, partner, 2 * unit, unit, weight, np.array([0.1, 0.3]), rounds)
    z = unit[:, :1]
    second = np.concatenate([feature, z, 0.5 * z * z, 0.5 * z * partner], axis=1)
    for line, columns, k, prior in zip(fitted.lines, (feature, second), (0, 1), (0.1, 0.3), strict=True):
        alone = regress(columns, 2 * unit[:, k], weight, prior, rounds=rounds)
        np.testing.assert_allclose(line.coefficients, alone.coefficients, atol=1e-9)
        np.testing.assert_allclose(line.doubt, alone.doubt, atol=1e-9)
        assert line.variance == pytest.approx(alone.variance)


def test_a_box_where_none_was_seen_is_strange_not_impossible():
    rng = np.random.default_rng(2)
    density = anybody(rng.normal(size=(300, 4)), np.ones(300))
    near, far = density.log_density(np.array([[0.0] * 4, [12.0] * 4]))
    assert near > -8 and -35 < far < near - 8
    at = rng.normal(size=(200000, 4)) * 3
    weight = np.exp(density.log_density(at) + 0.5 * (at / 3) ** 2 @ np.ones(4)) * (2 * np.pi * 9) ** 2
    assert weight.mean() == pytest.approx(1.0, abs=0.1), "a density integrates to one"
