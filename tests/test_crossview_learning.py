"""Matching across cameras on synthetic pinhole views: identities, disjoint views, clocks, groups."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from crossview_rooms import CAMERAS, ELSEWHERE, SIZE, agreement, room, tables
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orveil.pipeline.settings import AssociateParams
from orveil.pipeline.types import Tracks
from orveil.stages.associate import associate_session
from orveil.trackers.crossview import View, learn
from orveil.trackers.grouping import group
from orveil.trackers.matching import match_marginals
from orveil.trackers.pairing import calibrate
from orveil.trackers.sync import ticks


@settings(max_examples=40)
@given(arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 3)), elements=st.floats(-4, 4)))
def test_match_marginals_are_close_to_exhaustive_enumeration(log_odds):
    n, m = log_odds.shape
    total, pairs = 0.0, np.zeros((n, m))
    for choice in product(range(-1, m), repeat=n):
        used = [c for c in choice if c >= 0]
        if len(set(used)) == len(used):
            weight = float(np.exp(sum(log_odds[i, c] for i, c in enumerate(choice) if c >= 0)))
            total += weight
            for i, c in enumerate(choice):
                if c >= 0:
                    pairs[i, c] += weight
    probability, evidence = match_marginals(log_odds[None])
    assert (probability.sum(axis=1) <= 1 + 1e-6).all() and (probability.sum(axis=2) <= 1 + 1e-6).all()
    np.testing.assert_allclose(probability[0], pairs / total, atol=0.13)
    assert evidence[0] == pytest.approx(np.log(total), abs=0.7)
    if min(n, m) == 1:
        np.testing.assert_allclose(probability[0], pairs / total, atol=1e-6)
        assert evidence[0] == pytest.approx(np.log(total), abs=1e-6)


def test_the_right_partner_scores_above_the_wrong_ones_on_new_frames():
    rows, _ = room(seed=1)
    model = learn(
        [View(t[:, 0].astype(int), t[:, 2:], np.ones(len(t)), np.array(SIZE, float)) for t in rows],
        np.random.default_rng(0),
        restarts=2,
    )
    fresh, _ = room(seed=2)
    for a, b in model.pairs:
        best = total = 0
        for frame in range(0, 360, 5):
            one, other = (fresh[c][fresh[c][:, 0] == frame] for c in (a, b))
            for row in one:
                if row[1] not in other[:, 1]:
                    continue
                n = len(other)
                ratio = model.log_ratio(
                    a, b, model.code(a, row[None, 2:]), model.code(b, other[:, 2:]),
                    np.zeros(n, int), np.arange(n),
                )  # fmt: skip
                best, total = best + (other[np.argmax(ratio), 1] == row[1]), total + 1
        assert total > 50 and best / total > 0.9


def test_persons_are_found_across_cameras_and_repeats_are_equal():
    rows, frames = room(seed=3)
    files, media, tracks, truth = tables(rows, frames, 2.0)
    result = associate_session(files, media, tracks, AssociateParams(), seed=5)
    matched, right = agreement(result, truth)
    assert matched > 0.8 and right > 0.9
    assert (result.probability[result.views > 1] >= 0.8).all() and (
        result.support[result.views > 1] > 0
    ).all()
    again = associate_session(files, media, tracks, AssociateParams(), seed=5)
    for name, column in result.columns().items():
        np.testing.assert_array_equal(column, getattr(again, name))


def test_cameras_of_different_rooms_are_not_matched():
    rows, frames = room(seed=4, views=CAMERAS[:1])
    others, _ = room(seed=5, views=[ELSEWHERE], origin=(100.0, 0.0))
    files, media, tracks, _ = tables(rows + others, frames, 2.0)
    result = associate_session(files, media, tracks, AssociateParams(), seed=0)
    assert (result.views > 1).mean() < 0.1


@pytest.mark.parametrize("cameras", [1, 3])
def test_one_camera_or_nobody_gives_no_match(cameras):
    rows, frames = room(seed=6, seconds=30, views=CAMERAS[:cameras])
    files, media, tracks, _ = tables(rows, frames, 2.0)
    if cameras > 1:
        tracks = Tracks.empty()
    result = associate_session(files, media, tracks, AssociateParams(), seed=0)
    assert len(result) == len({*zip(tracks.camera.tolist(), tracks.track_id.tolist(), strict=True)})
    assert (result.probability == 0).all() and (result.views == 1).all()
    assert len(set(result.person_id.tolist())) == len(result)


def test_a_clock_corrected_by_half_a_frame_still_matches():
    rows, frames = room(seed=7)
    files, media, tracks, truth = tables(rows, frames, 2.0, delay=[0.0, 0.2, -0.1])
    matched, right = agreement(associate_session(files, media, tracks, AssociateParams(), 0), truth)
    assert matched > 0.7 and right > 0.9


def test_ticks_pair_frames_of_different_rates_and_phases():
    slow, fast = np.arange(0, 4, 0.2), 0.03 + np.arange(0, 6, 0.04)
    line, (of_slow, of_fast) = ticks([slow, fast])
    assert of_slow.tolist() == list(range(20)) and (line[:20] == slow).all()
    paired = of_fast >= 0
    assert np.abs(line[of_fast[paired]] - fast[paired]).max() <= 0.1 + 1e-6
    assert len(set(of_fast[paired].tolist())) == paired.sum()
    assert set(range(20)) <= set(of_fast[paired].tolist()), "a frame of the slow camera has no partner"
    assert line[-1] > 5.5, "frames after the end of the slow camera make ticks of their own"
    assert ticks([np.zeros(0), np.zeros(0)])[0].shape == (0,)


def test_groups_never_show_one_person_twice_in_a_camera():
    camera = np.array([0, 0, 1, 1, 2])
    first, last = np.array([0, 5, 0, 50, 0]), np.array([40, 30, 40, 90, 90])
    edges = [(0, 2, 3.0), (1, 2, 2.0), (0, 4, 1.0), (3, 4, 2.5), (1, 4, 0.5)]
    found = group(camera, first, last, np.ones(5, bool), edges).of
    assert found[0] == found[2] == found[4] == found[3] and found[1] != found[0]


def test_negative_evidence_keeps_groups_apart():
    camera, first, last = np.array([0, 1, 2]), np.zeros(3, int), np.full(3, 9)
    found = group(camera, first, last, np.ones(3, bool), [(0, 1, 2.0), (1, 2, 1.0), (0, 2, -5.0)]).of
    assert found[0] == found[1] != found[2]


def test_calibration_finds_share_and_trust():
    rng = np.random.default_rng(0)
    null = rng.normal(-2, 2, 4000)
    score = np.concatenate([rng.normal(-2, 2, 1600), rng.normal(2, 2, 400)])
    found = calibrate(score, null, 0.5)
    # Two normals four apart with variance four: the true log-likelihood ratio is the score itself.
    assert 0.12 < found.share < 0.28 and found.slope == pytest.approx(1.0, abs=0.2)
    assert calibrate(null, rng.normal(-2, 2, 4000), 0.5).share < 0.05
