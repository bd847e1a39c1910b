"""HOTA, IDF1 and MOTA: equal to TrackEval's, and right on cases small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trackeval.datasets._base_dataset import _BaseDataset
from trackeval.metrics import CLEAR, HOTA, Identity

from orveil.sim.box_stream import box_stream
from orveil.stages.track_metrics import TrackBoxes, track_figures


def boxes(rows):
    """Rows (frame, track, x) of boxes 10 wide and 20 high."""
    table = np.array(rows, float).reshape(-1, 3)
    x = table[:, 2]
    xyxy = np.stack([x, np.zeros(len(x)), x + 10, np.full(len(x), 20.0)], axis=1)
    return TrackBoxes(table[:, 0].astype(int), table[:, 1].astype(int), xyxy)


def reference(truth, predicted):
    """TrackEval's own figures of one sequence."""
    frames = np.union1d(truth.frame, predicted.frame)
    data = {"num_timesteps": len(frames)}
    for side, key in ((truth, "gt"), (predicted, "tracker")):
        names, number = np.unique(side.track_id, return_inverse=True)
        rows = [np.flatnonzero(side.frame == frame) for frame in frames]
        data[f"{key}_ids"] = [number[r] for r in rows]
        data[f"{key}_boxes"] = [np.asarray(side.xyxy[r], np.float32).astype(float) for r in rows]
        data[f"num_{key}_ids"], data[f"num_{key}_dets"] = len(names), len(side)
    data["similarity_scores"] = [
        _BaseDataset._calculate_box_ious(g, p, box_format="x0y0x1y1")
        for g, p in zip(data["gt_boxes"], data["tracker_boxes"], strict=True)
    ]
    quiet = {"PRINT_CONFIG": False}
    return {
        **HOTA().eval_sequence(data),
        **Identity(quiet).eval_sequence(data),
        **CLEAR(quiet).eval_sequence(data),
    }


def tracked(people, frames, seed, keep=0.9, swap=0.02, jitter=3.0, clutter=0.1):
    """Ground truth, and what a bad tracker makes of it: gaps, swapped names, clutter, empty frames."""
    rng = np.random.default_rng(seed)
    truth = box_stream(people, frames, seed).truth
    names = np.tile(np.arange(people) * 7 + 3, (frames, 1))
    for frame in np.flatnonzero(rng.random(frames) < swap * people):
        names[frame:] = names[frame:, rng.permutation(people)]
    shown = (rng.random((frames, people)) < 0.95) & (rng.random(frames) > 0.05)[:, None]
    found = (rng.random((frames, people)) < keep) & (rng.random(frames) > 0.05)[:, None]
    g, p = np.nonzero(shown), np.nonzero(found)
    extra = np.flatnonzero(rng.random(frames) < clutter)
    wrong = truth[rng.integers(0, people, len(extra)), extra] + rng.normal(0, 20, (len(extra), 1))
    return TrackBoxes(g[0], g[1], truth[g[1], g[0]]), TrackBoxes(
        np.concatenate([p[0], extra]),
        np.concatenate([names[p], 1000 + np.arange(len(extra)) // 3]),
        np.concatenate([truth[p[1], p[0]] + rng.normal(0, jitter, (len(p[0]), 4)), wrong]),
    )


def same(ours, theirs):
    """Every figure equal."""
    for mine, name in (
        (ours.hota_tp, "HOTA_TP"), (ours.hota_fn, "HOTA_FN"), (ours.hota_fp, "HOTA_FP"),
        (ours.idtp, "IDTP"), (ours.idfn, "IDFN"), (ours.idfp, "IDFP"),
        (ours.tp, "CLR_TP"), (ours.fn, "CLR_FN"), (ours.fp, "CLR_FP"), (ours.switches, "IDSW"),
    ):  # fmt: skip
        np.testing.assert_array_equal(mine, theirs[name], err_msg=name)
    for mine, name in (
        (ours.hota, "HOTA"), (ours.det_a, "DetA"), (ours.ass_a, "AssA"), (ours.loc_a, "LocA"),
        (ours.idf1, "IDF1"), (ours.mota, "MOTA"),
    ):  # fmt: skip
        assert mine == pytest.approx(np.mean(theirs[name]), abs=1e-12), name


@settings(max_examples=25, deadline=None)
@given(
    people=st.integers(1, 12),
    frames=st.integers(1, 40),
    seed=st.integers(0, 10_000),
    keep=st.floats(0.2, 1.0),
    swap=st.floats(0.0, 0.2),
    jitter=st.floats(0.0, 6.0),
    clutter=st.floats(0.0, 1.0),
)
def test_figures_equal_trackeval(people, frames, seed, keep, swap, jitter, clutter):
    truth, predicted = tracked(people, frames, seed, keep, swap, jitter, clutter)
    if len(truth) and len(predicted):
        same(track_figures(truth, predicted), reference(truth, predicted))


def test_figures_equal_trackeval_in_a_crowd_and_over_sequences():
    parts = [tracked(60, 80, seed, jitter=2.0) for seed in (1, 2)]
    ours = [track_figures(*part) for part in parts]
    theirs = {str(k): reference(*part) for k, part in enumerate(parts)}
    for mine, other in zip(ours, theirs.values(), strict=True):
        same(mine, other)
    quiet = {"PRINT_CONFIG": False}
    both = ours[0] + ours[1]
    for metric in (HOTA(), Identity(quiet), CLEAR(quiet)):
        combined = metric.combine_sequences(theirs)
        for name, value in (("HOTA", both.hota), ("IDF1", both.idf1), ("MOTA", both.mota)):
            if name in combined:
                assert value == pytest.approx(np.mean(combined[name]), abs=1e-12)


def test_a_switch_halfway_costs_identity_but_hardly_detection():
    truth = boxes([(f, 0, 5 * f) for f in range(10)])
    predicted = boxes([(f, f // 5, 5 * f) for f in range(10)])
    figures = track_figures(truth, predicted)
    assert (figures.switches, figures.fp, figures.fn) == (1, 0, 0)
    assert figures.mota == pytest.approx(0.9) and figures.idf1 == pytest.approx(0.5)
    assert figures.det_a == 1.0 and figures.ass_a == pytest.approx(0.5)
    assert figures.hota == pytest.approx(np.sqrt(0.5))


def test_perfect_tracks_whatever_they_are_called():
    truth = boxes([(f, p, 40 * p + f) for f in range(5) for p in range(3)])
    renamed = TrackBoxes(truth.frame, 90 - truth.track_id, truth.xyxy)
    figures = track_figures(truth, renamed)
    assert figures.hota == figures.idf1 == figures.mota == figures.loc_a == 1.0


def test_nobody_found_nobody_there_and_nothing_at_all():
    some, none = boxes([(0, 1, 0), (1, 1, 0)]), boxes([])
    missed = track_figures(some, none)
    assert (missed.hota, missed.idf1, missed.mota, missed.fn) == (0.0, 0.0, 0.0, 2)
    alarm = track_figures(none, some)
    assert alarm.fp == 2 and alarm.mota is None and alarm.hota is None and alarm.idf1 is None
    assert track_figures(none, none).mota is None
    assert (missed + alarm).mota == pytest.approx(-1.0)


def test_two_boxes_of_a_track_in_a_frame_are_refused():
    with pytest.raises(ValueError, match="two boxes"):
        boxes([(0, 1, 0), (0, 1, 50)])
