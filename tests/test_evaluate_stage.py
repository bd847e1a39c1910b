"""The evaluation stage: its rows, operating points and errors, on the artifacts of a finished run."""

from __future__ import annotations

import json

import pytest
from finished_site import FRAMES, FinishedSite

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.kinds import MetricsKind
from orveil.pipeline.settings import EvaluateParams
from orveil.pipeline.stage import Context
from orveil.stages.evaluate import Evaluate, round_names


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return FinishedSite(tmp_path_factory.mktemp("site"), rounds=2)


def evaluate(site, out, truth=None, sha256=None, rounds=None):
    stage = Evaluate(site.rounds if rounds is None else rounds)
    inputs = {name: site.inputs[name] for name in stage.consumes}
    params = EvaluateParams(ground_truth_sha256=sha256 or site.truth_sha256)
    out.mkdir(parents=True)
    context = Context(0, out, lambda *_: None, {"ground_truth": str(truth or site.truth)})
    [shard] = stage.shards(params, inputs)
    stage.run(params, inputs, shard, out, context)
    MetricsKind.validate(out)
    return json.loads((out / "metrics.json").read_text())


def test_rows_are_the_detectors_in_order_then_offline_path_and_student(site, tmp_path):
    rows = evaluate(site, tmp_path / "out")["rows"]
    assert [(row["name"], row["source"]) for row in rows] == [
        ("off-the-shelf", "candidates_1"),
        ("round 1", "candidates_2"),
        ("round 2", "candidates_3"),
        ("offline path", "labels_final"),
        ("student", "blurred"),
    ]
    assert rows[-1]["operating_point"] == "person >= 0.40, head >= 0.35"
    assert round_names(0) == [("candidates_1", "off-the-shelf")]


def test_figures_of_every_row(site, tmp_path):
    rows = {row["name"]: row for row in evaluate(site, tmp_path / "out")["rows"]}
    before, after = rows["off-the-shelf"], rows["round 1"]
    # The off-the-shelf detector misses person 3, who is the hard one, in both views.
    assert before["body"]["recall"] == pytest.approx(2 / 3)
    assert before["body"]["precision"] == 1.0
    assert before["body"]["hard_recall"] == 0.0
    assert before["body"]["all_views_recall"] == pytest.approx(2 / 3)
    assert before["head"]["recall"] == pytest.approx(2 / 3)
    assert before["face"]["recall"] is None
    assert after["body"]["recall"] == after["body"]["ap50"] == after["body"]["ap"] == 1.0
    # Person 3 is a doubtful label, neither positive nor judged, in the first 5 frames of each view.
    offline = rows["offline path"]
    assert offline["body"]["recall"] == pytest.approx(1 - 10 / (6 * FRAMES))
    assert offline["body"]["precision"] == 1.0
    assert offline["head"]["recall"] == offline["face"]["recall"] == offline["body"]["recall"]
    # The student misses one body, and with it one (person, moment) of all views.
    student = rows["student"]
    assert student["body"]["recall"] == pytest.approx(1 - 1 / (6 * FRAMES))
    assert student["body"]["all_views_recall"] == pytest.approx(1 - 1 / (3 * FRAMES))
    assert student["cameras"]["main/cam01"]["recall"] == pytest.approx(1 - 1 / (3 * FRAMES))
    assert student["cameras"]["main/cam02"] == {"persons": 120, "recall": 1.0, "precision": 1.0, "ap50": 1.0}


def test_tracks_behind_the_labels(site, tmp_path):
    tracks = evaluate(site, tmp_path / "out")["tracking"]
    # Boxes and names are right; person 3 is not judged in the first 5 frames of each view.
    found = 1 - 10 / (6 * FRAMES)
    assert tracks["mota"] == pytest.approx(found) and tracks["switches"] == 0
    assert tracks["idf1"] == pytest.approx(2 * found / (1 + found))
    assert tracks["det_a"] == pytest.approx(found)
    assert set(tracks["cameras"]) == {"main/cam01", "main/cam02"}
    assert tracks["cameras"]["main/cam02"]["hota"] == pytest.approx(tracks["hota"])


def test_coverage_of_faces_in_the_blurred_videos(site, tmp_path):
    cover = evaluate(site, tmp_path / "out")["blur"]
    assert cover["faces"] == 6 * FRAMES
    assert cover["coverage"] == pytest.approx(1 - 1 / (6 * FRAMES))
    longest = cover["longest_exposure"]
    assert (longest["frames"], longest["camera"], longest["first_frame"]) == (1, "cam01", 12)
    assert longest["seconds"] == pytest.approx(0.1)
    assert cover["cameras"]["main/cam02"]["coverage"] == 1.0


def test_ground_truth_is_described(site, tmp_path):
    truth = evaluate(site, tmp_path / "out")["ground_truth"]
    assert truth["boxes"] == {"person": 240, "head": 240, "face": 240}
    assert (truth["frames"], truth["hard_persons"], truth["images_outside_the_site"]) == (80, 80, 0)
    assert truth["cameras"] == ["main/cam01", "main/cam02"]
    assert truth["sha256"] == site.truth_sha256


def test_the_same_inputs_give_the_same_bytes(site, tmp_path):
    evaluate(site, tmp_path / "one")
    evaluate(site, tmp_path / "two")
    one, two = (tmp_path / name / "metrics.json" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_persons_alone_are_enough(site, tmp_path):
    gt = json.loads(site.truth.read_text())
    gt["categories"] = gt["categories"][:1]
    path = tmp_path / "persons.json"
    path.write_text(json.dumps(gt))
    import hashlib

    result = evaluate(site, tmp_path / "out", path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert result["rows"][0]["head"] == {"recall": None, "precision": None}
    assert result["blur"]["coverage"] is None


def test_ground_truth_that_changed_meanwhile_is_refused(site, tmp_path):
    with pytest.raises(OrveilError, match="changed while the run was going on"):
        evaluate(site, tmp_path / "out", sha256="0" * 64)
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_ground_truth_that_is_gone_is_named(site, tmp_path):
    with pytest.raises(OrveilError, match="No such file") as caught:
        evaluate(site, tmp_path / "out", truth=tmp_path / "gone.json")
    assert "gone.json" in caught.value.where
