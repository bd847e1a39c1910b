"""The parts of scripts/bench_adapt.py: the ceiling is what it says, figures are taken at one precision."""

from __future__ import annotations

import gzip
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orveil.pipeline.types import HEAD, IGNORE, KEYPOINTS, PERSON, POSITIVE, MediaIndex
from orveil.stages.metrics import Match
from orveil.stages.truth import Truth, TruthBoxes, TruthFrames

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def bench():
    """The modules, found as the script finds them."""
    sys.path.insert(0, str(ROOT / "scripts"))
    import adapt_graph
    import adapt_pose
    import adapt_score
    import adapt_truth

    yield adapt_graph, adapt_truth, adapt_score, adapt_pose
    sys.path.remove(str(ROOT / "scripts"))


def boxes_of(frame, xyxy, track, ignore):
    count = len(frame)
    no = np.zeros(count, bool)
    sides = np.array(xyxy, np.float32).reshape(-1, 4)
    crowd = np.array(ignore, bool)
    return TruthBoxes(np.array(frame), sides, np.array(track), no, crowd, ~no, (None,) * count)


@pytest.fixture
def room(bench):
    """Two frames of one camera: persons 4 and 2 in the first with a head for 2, a crowd in the second."""
    index = np.arange(2)
    name = np.array(["main"] * 2), np.array(["cam01"] * 2)
    frames = TruthFrames(*name, index, index / 10, index, np.full((2, 2), 100))
    persons = boxes_of([0, 0, 1], [[0, 0, 10, 20], [30, 0, 40, 20], [0, 0, 50, 50]], [4, 2, 9], [0, 0, 1])
    heads = boxes_of([0], [[32, 0, 36, 4]], [2], [0])
    truth = Truth(frames, {PERSON: persons, HEAD: heads}, frozenset({PERSON, HEAD}), 0)
    return truth, MediaIndex(*name, index=index, pts=index * 100, time_s=index / 10)


def test_true_labels_are_everybody_and_crowds_are_ignored(bench, room):
    labels = bench[1]._true_labels(*room)
    assert labels.track_id.tolist() == [2, 4, 9] and labels.pts.tolist() == [0, 0, 100]
    assert labels.state.tolist() == [POSITIVE, POSITIVE, IGNORE]
    assert labels.weight.tolist() == [1, 1, 0]
    assert labels.xyxy[0].tolist() == [30, 0, 40, 20]


def test_true_heads_belong_to_their_person_and_a_person_without_one_has_no_pose(bench, room):
    labels = bench[1]._true_labels(*room)
    heads = bench[1]._true_heads(room[0], labels)
    assert len(heads) == 1 and heads.keypoints.shape == (1, KEYPOINTS, 3)
    assert heads.label_id.tolist() == labels.label_id[labels.track_id == 2].tolist()
    assert heads.head_xyxy[0].tolist() == [32, 0, 36, 4]


def test_lowest_score_of_a_precision_takes_whole_ties(bench):
    lowest = bench[2]._lowest
    score = np.array([0.9, 0.8, 0.7, 0.7, 0.6])
    wanted = np.ones(4, bool)
    result = Match(score, np.ones(5, bool), np.array([0, 1, 2, -1, 3]), wanted)
    assert lowest(result, 0.9) == 0.8  # at 0.7 one of two is wrong, and both come together
    assert lowest(result, 0.75) == 0.6
    assert lowest(replace(result, truth=np.full(5, -1)), 0.9) == np.inf
    crowd = replace(result, truth=np.array([0, 1, 2, -2, 3]))
    assert lowest(crowd, 0.9) == 0.6, "what falls on a crowd does not count"


def test_the_ceiling_trains_by_the_same_schedule_and_nothing_is_blurred(bench, tmp_path):
    graph = bench[0].needed(ROOT / "sim" / "embedded", tmp_path, bench[0].Start(), sources=True)
    nodes = {node.name: node for node in graph}
    assert not {"bundle", "blurred", "report"} & set(nodes)
    for number in (1, 2):
        ours, ceiling = nodes[f"weights_{number}"], nodes[f"ceiling_{number}"]
        assert ours.params == ceiling.params and ours.seed == ceiling.seed
        taught = nodes[ours.inputs["labels"]]
        assert nodes[f"truth_{number}"].inputs["labels"] == taught.inputs["labels"], "the same frames"
    reads_truth = {name for name, node in nodes.items() if "ground_truth" in node.externals}
    assert reads_truth == {"truth_1", "truth_2", "heads_1", "heads_2"}


def test_true_keypoints_score_full_marks_and_shifted_ones_none(bench, tmp_path):
    adapt_pose = bench[3]
    with gzip.open(ROOT / "sim" / "embedded" / "gt.json.gz") as stream:
        person = next(a for a in json.load(stream)["annotations"] if a.get("num_keypoints", 0) > 10)
    points = adapt_pose._points(person)
    right, shown = adapt_pose._near(points, person)
    assert points.shape == (KEYPOINTS, 3) and right.all() and shown.any()
    size = max(person["full_bbox"][2:])
    far, _ = adapt_pose._near(points + np.array([0.06 * size, 0, 0]), person)
    assert not far.any()


def test_pairs_of_boxes_and_persons_use_each_once(bench):
    people = [{"bbox": [0, 0, 10, 10]}, {"bbox": [100, 0, 10, 10]}]
    found = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    assert bench[3]._pairs(found, people) == [(1, people[0])]
    assert bench[3]._pairs(found, []) == []
