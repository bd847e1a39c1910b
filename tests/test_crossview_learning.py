"""Matching across cameras on synthetic pinhole views: identities, disjoint views, clocks, groups."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orveil.pipeline.settings import AssociateParams
from orveil.pipeline.types import MediaFiles, MediaIndex, Tracks
from orveil.stages.associate import associate_session
from orveil.trackers.crossview import View, learn
from orveil.trackers.grouping import group
from orveil.trackers.matching import match_marginals
from orveil.trackers.pairing import calibrate
from orveil.trackers.sync import ticks

SIZE = (640, 480)


def camera(x, y, height, look_x, look_y, focal=420.0):
    forward = np.array([look_x - x, look_y - y, 1.0 - height])
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward]), np.array([x, y, height]), focal


CAMERAS = [camera(-4, -3, 2.7, 0, 0), camera(4, -3, 2.5, 0, 0), camera(0.5, 4, 2.9, 0, 0)]
ELSEWHERE = camera(96, -3, 2.7, 100, 0)


def project(view, ground, height):
    """Boxes (N, 4) of upright people at ground points (N, 2), and whether the view shows them."""
    rotation, position, focal = view
    corners = []
    for dx, dy, z in product((-0.25, 0.25), (-0.25, 0.25), (0.0, 1.0)):
        offset = np.stack([np.full(len(ground), dx), np.full(len(ground), dy), z * height], axis=1)
        point = (
            np.concatenate([ground, np.zeros((len(ground), 1))], axis=1) + offset - position
        ) @ rotation.T
        corners.append(np.stack([point[:, 0] / point[:, 2], point[:, 1] / point[:, 2], point[:, 2]], axis=1))
    corner = np.stack(corners)
    pixel = corner[:, :, :2] * focal + np.array(SIZE) / 2
    box = np.concatenate([pixel.min(axis=0), pixel.max(axis=0)], axis=1)
    middle = (box[:, :2] + box[:, 2:]) / 2
    shown = (corner[:, :, 2] > 0.5).all(axis=0) & (middle > 0).all(axis=1) & (middle < SIZE).all(axis=1)
    return np.clip(box, 0, np.tile(SIZE, 2)), shown


def room(people=4, seconds=180, fps=2.0, seed=0, views=CAMERAS, origin=(0.0, 0.0)):
    """Per camera: frame, person, box rows of people walking between random places."""
    rng = np.random.default_rng(seed)
    frames = int(seconds * fps)
    stops = rng.uniform(-2.2, 2.2, (people, seconds // 6 + 2, 2))
    at = np.arange(frames) / fps / 6
    low = at.astype(int)
    path = stops[:, low] + (at - low)[None, :, None] * (stops[:, low + 1] - stops[:, low])
    height = rng.uniform(1.6, 1.85, people)
    out = []
    for view in views:
        rows = []
        for person in range(people):
            box, shown = project(view, path[person] + np.array(origin), np.full(frames, height[person]))
            box = box + rng.normal(0, 2.0, box.shape)
            shown &= rng.random(frames) > 0.1
            rows += [(f, person, *box[f]) for f in np.flatnonzero(shown)]
        out.append(np.array(sorted(rows)))
    return out, frames


def tables(rows, frames, fps, pieces=20.0, delay=None):
    """Media and track tables; every person's track is cut every `pieces` seconds."""
    names = [f"cam{c}" for c in range(len(rows))]
    delay = delay or [0.0] * len(rows)
    count = len(names)
    files = MediaFiles(
        session=["main"] * count, camera=names, path=[""] * count, sha256=[""] * count,
        width=[SIZE[0]] * count, height=[SIZE[1]] * count, rotation=[0] * count,
        time_base_num=[1] * count, time_base_den=[1000] * count, frames=[frames] * count,
        duration_s=[1.0] * count, offset_s=[0.0] * count, offset_source=["given"] * count,
    )  # fmt: skip
    index, tracks, truth = [], [], {}
    for c, (name, table) in enumerate(zip(names, rows, strict=True)):
        number = np.arange(frames)
        index.append(
            MediaIndex(
                session=["main"] * frames,
                camera=[name] * frames,
                index=number,
                pts=number,
                time_s=number / fps + delay[c],
            )
        )
        frame, person = table[:, 0].astype(int), table[:, 1].astype(int)
        track = person * 1000 + (frame / fps // pieces).astype(int)
        truth |= {(name, int(t)): int(p) for t, p in zip(track, person, strict=True)}
        n = len(table)
        tracks.append(
            Tracks(
                session=["main"] * n,
                camera=[name] * n,
                index=frame,
                pts=frame,
                track_id=track,
                det_id=np.arange(n),
                xyxy=np.sort(table[:, 2:].reshape(n, 2, 2), axis=1).reshape(n, 4),
                score=np.full(n, 0.8),
                interpolated=np.zeros(n, bool),
            )
        )
    return files, MediaIndex.concat(index), Tracks.concat(tracks), truth


def agreement(result, truth):
    """Share of matched tracks, and share of right pairs among the pairs of tracks given one person."""
    names = list(zip(result.camera.tolist(), result.track_id.tolist(), strict=True))
    matched = result.views > 1
    right = wrong = 0
    for person in np.unique(result.person_id[matched]):
        members = [truth[names[k]] for k in np.flatnonzero(matched & (result.person_id == person))]
        same = sum(a == b for k, a in enumerate(members) for b in members[:k])
        right, wrong = right + same, wrong + len(members) * (len(members) - 1) // 2 - same
    return matched.mean(), right / max(right + wrong, 1)


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
