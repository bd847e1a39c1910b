"""Cues of boxes, the model that weighs them, and the choice that keeps a false-discovery rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import test_pseudolabel_states as rooms
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.pipeline.types import HEAD, Associations, Tracks
from orveil.stages.cues import CUES, near_mean, see
from orveil.stages.evidence import Trust, load_model, sigmoid, weigh
from orveil.stages.pseudolabel import SLACK, discoveries
from orveil.trackers.doubles import frames_of

EXACT = Trust(0.0, 0.0)


def column(cues, name):
    return cues.value[:, CUES.index(name)]


def cues_of(rows, heads=None):
    tracks = rooms.tracked(rows)
    return tracks, see(rooms.files(), rooms.media(), tracks, heads)


def test_no_boxes_have_no_cues():
    cues = see(rooms.files(), rooms.media(), Tracks.empty(), None)
    assert cues.value.shape == (0, len(CUES)) and cues.xyxy.shape == (0, 4) and cues.names == []
    evidence = weigh(rooms.files(), rooms.media(), Tracks.empty(), Associations.empty())
    assert len(evidence.log_odds) == 0


def test_every_cue_is_a_finite_number():
    rows = [r for r in rooms.person() if not 20 <= r[0] < 25] + rooms.person(x=300.0, score=0.2)
    _, cues = cues_of(rows)
    assert cues.value.shape[1] == len(CUES) == len(set(CUES)) and np.isfinite(cues.value).all()


def test_a_box_between_doubles_becomes_their_mean():
    left = rooms.person(score=0.6, spread=0.0)
    right = [(f, (b[0] + 20, b[1], b[2] + 20, b[3]), 0.6) for f, b, _ in left]
    tracks, cues = cues_of(left + right)
    first = np.flatnonzero(tracks.index == 10)
    middle = cues.xyxy[first, 0]
    assert (column(cues, "twins")[first] == pytest.approx(0.6, abs=1e-3)) and len(first) == 2
    assert np.ptp(middle) < np.ptp(tracks.xyxy[first, 0])
    alone = cues_of(left)
    assert np.allclose(alone[1].xyxy, alone[0].xyxy, atol=1e-3) and not column(alone[1], "twins").any()


def test_a_part_of_a_better_box_is_known_as_one():
    body = rooms.person(score=0.9, spread=0.0)
    legs = [(f, (b[0] + 5, b[1] + 90, b[2] - 5, b[3]), 0.3) for f, b, _ in body]
    tracks, cues = cues_of(body + legs)
    part = tracks.score < 0.5
    assert column(cues, "nested")[part].all() and not column(cues, "nested")[~part].any()
    assert (column(cues, "holds")[~part] > 0.25).all()


def test_heads_count_where_a_head_belongs():
    rows = rooms.person(score=0.4, spread=0.0)
    top = [(f, (b[0] + 18, b[1] + 2, b[0] + 42, b[1] + 30), 0.9) for f, b, _ in rows]
    low = [(f, (b[0] + 18, b[3] - 40, b[0] + 42, b[3] - 10), 0.9) for f, b, _ in rows]

    def head_cue(boxes):
        found = rooms.detections(boxes)
        return column(cues_of(rows, replace(found, label=np.full(len(found), HEAD)))[1], "head")

    assert head_cue(top).min() == 2.0 and head_cue(low).max() == -2.0
    assert not column(cues_of(rows)[1], "head").any(), "a detector without heads says nothing"


def test_a_box_of_the_wrong_size_stands_out():
    people = rooms.person(score=0.8) + rooms.person(x=300.0, score=0.8)
    small = [(f, (500.0, 80.0, 520.0, 110.0), 0.3) for f in range(rooms.FRAMES)]
    tracks, cues = cues_of(people + small)
    odd = tracks.score < 0.5
    assert (column(cues, "taller")[odd] == 4.0).all() and column(cues, "taller")[~odd].max() < 2.0


def test_a_gap_cut_off_by_the_end_takes_the_side_it_has():
    tracks = rooms.tracked([r for r in rooms.person(score=0.9, spread=0.0) if not 20 <= r[0] < 25])
    cut = tracks.select(tracks.index >= 22)
    cues = see(rooms.files(), rooms.media(), cut, None)
    filled = cut.interpolated
    assert filled.sum() == 3 and np.isfinite(cues.value).all() and not column(cues, "apart")[filled].any()
    assert column(cues, "own")[filled] == pytest.approx(column(cues, "own")[~filled][0], abs=0.2)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.floats(-3, 3)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_near_mean_is_the_mean_of_what_is_near(rows):
    track, when, value = (np.array(c) for c in zip(*rows, strict=True))
    seconds = when / 10
    found = near_mean(track, seconds, value.astype(float))
    for k in range(len(rows)):
        near = (track == track[k]) & (np.abs(when - when[k]) <= 5)
        assert found[k] == pytest.approx(value[near].mean(), abs=1e-9)


def test_frames_cover_every_row_once():
    tracks = Tracks.concat([rooms.tracked(rooms.person(), c) for c in ("cam2", "cam1")])
    rows = np.random.default_rng(0).permutation(len(tracks))[:90]
    groups = frames_of(tracks.camera, tracks.index, rows)
    assert sorted(np.concatenate(groups).tolist()) == sorted(rows.tolist())
    for group in groups:
        assert len(set(tracks.index[group].tolist())) == len(set(tracks.camera[group].tolist())) == 1
    assert frames_of(tracks.camera, tracks.index, np.zeros(0, np.int64)) == []


def test_the_model_in_the_package_says_what_is_plain():
    model = load_model()
    weight = dict(zip(CUES, model.weights.tolist(), strict=True))
    assert min(weight[k] for k in ("own", "near", "peak", "head", "twins")) > 0
    assert max(weight[k] for k in ("still", "nested", "filled", "gap", "taller")) < 0
    assert model.retrained <= 0 <= model.spread and 0 <= model.together <= 1


def test_a_retrained_detector_is_trusted_less():
    tracks = rooms.tracked(rooms.person(score=0.6))
    first, second = (
        weigh(rooms.files(), rooms.media(), tracks, Associations.empty(), retrained=again)
        for again in (False, True)
    )
    assert np.allclose(second.log_odds - first.log_odds, load_model().retrained)


def test_better_scores_never_make_a_person_less_probable():
    chances = []
    for score in (0.15, 0.3, 0.5, 0.7, 0.9):
        tracks = rooms.tracked(rooms.person(score=score, spread=0.0))
        evidence = weigh(rooms.files(), rooms.media(), tracks, Associations.empty())
        chances.append(float(np.median(sigmoid(evidence.log_odds))))
    assert np.all(np.diff(chances) > -0.02) and chances[-1] > chances[0] + 0.3


@given(st.integers(0, 2**31), st.sampled_from([0.02, 0.05, 0.2]))
@settings(max_examples=40, deadline=None)
def test_expected_errors_stay_below_the_rate_and_the_best_are_chosen(seed, rate):
    rng = np.random.default_rng(seed)
    odds, track = rng.normal(2.0, 2.0, 200), rng.integers(0, 30, 200)
    for trust in (EXACT, Trust(0.4, 0.3)):
        chosen = discoveries(odds, track, trust, rate)
        if chosen.any():
            assert (1 - sigmoid(odds[chosen])).mean() <= rate + 1e-9
            assert odds[chosen].min() >= odds[~chosen].max(initial=-np.inf)
        assert chosen.sum() <= discoveries(odds, track, EXACT, rate).sum()


def test_the_rate_holds_in_rooms_that_differ_and_where_whole_tracks_are_wrong():
    rng = np.random.default_rng(0)
    trust, rate = Trust(0.5, 1.0), 0.05
    shares, naive = [], []
    for _ in range(200):
        per_track = rng.normal(2.5, 1.5, 60)
        real = rng.random(60) < sigmoid(per_track + rng.normal(0, trust.spread))
        track = np.repeat(np.arange(60), 50)
        odds = per_track[track] + rng.normal(0, 1e-3, len(track))
        for known, found in ((trust, shares), (EXACT, naive)):
            chosen = discoveries(odds, track, known, rate)
            found.append(float((~real[track[chosen]]).mean()) if chosen.any() else 0.0)
    assert np.mean(np.array(shares) > SLACK * rate) <= 0.15
    assert np.mean(np.array(naive) > SLACK * rate) > 0.2, "otherwise this room tests nothing"
    assert np.mean(shares) > 0.0, "and something is chosen"
