"""Choice of frames: unlike each other, the instructive ones first, whole blocks of time held out."""

from __future__ import annotations

import numpy as np
from test_pseudolabel_states import media

from orveil.pipeline.types import IGNORE, POSITIVE, PseudoLabels
from orveil.stages.selection import choose_frames


def labels_of(rows, camera="cam1"):
    """(frame, box, state, source) rows."""
    n = len(rows)
    return PseudoLabels(
        session=["main"] * n, camera=[camera] * n, index=[r[0] for r in rows], pts=[r[0] * 100 for r in rows],
        label_id=np.arange(n), track_id=np.zeros(n), person_id=np.full(n, -1), xyxy=[r[1] for r in rows],
        label=np.zeros(n), score=np.full(n, 0.9), weight=[0.9 if r[2] == POSITIVE else 0.0 for r in rows],
        state=[r[2] for r in rows], source=[r[3] for r in rows], round=np.ones(n),
    )  # fmt: skip


LEFT, RIGHT = (10.0, 100.0, 110.0, 400.0), (500.0, 100.0, 600.0, 400.0)


def train(chosen):
    return chosen.index[chosen.split == "train"].tolist()


def test_a_rare_layout_is_chosen_before_more_of_the_common_one():
    rows = [(f, RIGHT if 90 <= f < 94 else LEFT, POSITIVE, "detected") for f in range(200)]
    picks = train(choose_frames(media(frames=200), labels_of(rows), 4, 0.0, 0))
    assert len(picks) == 4 and any(90 <= f < 94 for f in picks)


def test_frames_are_not_every_nth():
    rng = np.random.default_rng(0)
    recovered = set(rng.choice(200, 40, replace=False).tolist())
    rows = []
    for f in range(200):
        x = float(rng.uniform(0, 500))
        rows.append((f, (x, 100.0, x + 80, 380.0), POSITIVE, "temporal" if f in recovered else "detected"))
    picks = train(choose_frames(media(frames=200), labels_of(rows), 20, 0.0, 0))
    assert len(set(np.diff(picks).tolist())) > 3
    assert np.mean([f in recovered for f in picks]) > 0.5, "recovered people are worth more"


def test_doubtful_frames_come_last():
    rows = [(f, LEFT, POSITIVE, "detected") for f in range(60)]
    rows += [(f, RIGHT, IGNORE, "temporal") for f in range(30)]
    rows += [(f, RIGHT, POSITIVE, "detected") for f in range(30, 60)]
    chosen = choose_frames(media(), labels_of(rows), 6, 0.0, 0)
    assert np.mean(np.array(train(chosen)) >= 30) > 0.5


def test_same_layout_is_spread_over_time():
    rows = [(f, LEFT, POSITIVE, "detected") for f in range(200)]
    for labels in (labels_of(rows), PseudoLabels.empty()):
        picks = train(choose_frames(media(frames=200), labels, 8, 0.0, 0))
        assert np.diff(picks).min() >= 8 and picks[0] < 40 and picks[-1] > 160


def test_the_seed_decides_only_what_is_held_out():
    rows = [(f, LEFT, POSITIVE, "detected") for f in range(200)]
    one, same, other = (choose_frames(media(frames=200), labels_of(rows), 20, 0.2, s) for s in (1, 1, 2))
    assert (one.split == same.split).all() and (one.split != other.split).any()
    held = np.flatnonzero(one.split == "holdout")
    assert len(held) == 5 and not set(held.tolist()) & set(train(one))
