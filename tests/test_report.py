"""The report: what it says about a finished run, with and without ground truth, and that it stands alone."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from finished_site import FRAMES, FinishedSite

from orveil.pipeline.kinds import ReportKind
from orveil.pipeline.settings import ReportParams
from orveil.pipeline.stage import Context, InputRef, Shard
from orveil.stages.report import Report
from orveil.stages.report_charts import Bar, bars, histogram, lines
from orveil.stages.report_data import loss_curves

METRICS = {
    "ground_truth": {
        "frames": 80,
        "boxes": {"person": 240, "head": 240, "face": 240},
        "hard_persons": 80,
    },
    "settings": {"body_iou": 0.5, "head_iou": 0.3, "covered": 0.9},
    "rows": [
        {
            "name": name,
            "operating_point": "score >= 0.5",
            "body": {
                "recall": recall, "precision": 0.9, "ap50": 0.8, "ap": 0.5, "hard_recall": None,
                "all_views_recall": 0.4, "recall_at_precision_90": 0.7,
            },
            "head": {"recall": 0.7, "precision": None},
            "face": {"recall": None, "precision": None},
            "cameras": {"main/cam01": {"persons": 120, "recall": recall, "precision": 0.9, "ap50": 0.8}},
        }
        for name, recall in (("off-the-shelf", 0.4321), ("round 1", 0.6), ("student", 0.9876))
    ],
    "blur": {
        "faces": 240,
        "coverage": 0.981,
        "exposed_faces": 3,
        "longest_exposure": {"frames": 2, "seconds": 0.2, "session": "main", "camera": "cam02",
                             "first_frame": 12},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return FinishedSite(tmp_path_factory.mktemp("site"), rounds=2)


def report_on(site, out, *, metrics=None, **params):
    inputs = dict(site.inputs)
    if metrics is not None:
        folder = out / "metrics"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(metrics))
        inputs["metrics"] = InputRef("metrics", "", ((Shard(), folder),))
    out = out / "report"
    out.mkdir(parents=True)
    stage = Report(site.rounds, with_metrics=metrics is not None)
    assert set(stage.consumes) <= set(inputs)
    context = Context(0, out, lambda *_: None)
    [shard] = stage.shards(ReportParams(), inputs)
    stage.run(ReportParams(title="Theatre <3>", **params), inputs, shard, out, context)
    ReportKind.validate(out)
    return json.loads((out / "report.json").read_text()), (out / "report.html").read_text()


class Checker(HTMLParser):
    """Every element is closed in order, and nothing refers to another place."""

    VOID = frozenset({"meta", "br", "rect", "line", "polyline", "image", "link", "img"})

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src", "action"):
                assert value.startswith("data:image/"), (tag, value)
        assert tag != "script"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.text.append(data)


def text_of(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert not re.search(r"url\(|@import|https?://", page)
    return " ".join(" ".join(checker.text).split())


def test_with_ground_truth_it_shows_the_table(site, tmp_path):
    content, page = report_on(site, tmp_path, metrics=METRICS)
    text = text_of(page)
    assert content["metrics"] == METRICS
    for cell in ("43.2", "98.8", "43.2 → 98.8", "off-the-shelf", "round 1", "student"):
        assert cell in text
    assert "98.1 % of the pixels of 240 visible faces" in text
    assert "longest exposure lasts 2 frames (0.2 s), in main/cam02 from frame 12" in text
    assert "No ground truth" not in text


def test_without_ground_truth_it_says_so_and_stands(site, tmp_path):
    content, page = report_on(site, tmp_path)
    text = text_of(page)
    assert content["metrics"] is None
    assert "No ground truth was given" in text
    assert "after round 2" in text


def test_titles_are_text_and_not_markup(site, tmp_path):
    _, page = report_on(site, tmp_path)
    assert "Theatre &lt;3&gt;" in page
    assert "Theatre <3>" not in page


def test_counts_come_from_the_tables(site, tmp_path):
    content, _ = report_on(site, tmp_path)
    first, last = content["labels"][0]["views"][0], content["labels"][-1]["views"][0]
    # Of 40 frames 4 are gaps; person 3 is recovered across cameras in round 1, doubtful in 5 frames.
    assert first["temporal"] == last["temporal"] == 3 * 4
    assert (first["detected"], first["cross_view"], first["ignored"]) == (2 * 36, 36 - 5, 5)
    assert (last["detected"], last["cross_view"]) == (3 * 36 - 5, 0)
    assert content["detections"][0]["candidates"] == 2 * 2 * FRAMES
    assert content["people"][-1]["people_by_views"] == {"2": 2}
    assert content["people"][-1]["interpolated"] == 2 * 3 * 4
    assert content["frames_used"][0] == {"name": "round 1", "train": 70, "holdout": 10, "unused": 0}
    cameras = content["cameras"]
    assert [(c["frames"], c["fps"], c["offset_s"]) for c in cameras] == [(40, 10.0, 0.0), (40, 10.0, 0.04)]
    assert content["training"][0]["facts"]["guard.kept"] is True


def test_sketches_show_frames_with_recovered_people(site, tmp_path):
    content, page = report_on(site, tmp_path)
    assert {(s["view"], s["index"]) for s in content["sketches"]} == {
        ("main/cam01", 7), ("main/cam01", 27), ("main/cam02", 7), ("main/cam02", 27),
    }  # fmt: skip
    assert all(box["source"] == "temporal" for box in content["sketches"][0]["boxes"])
    assert "data:image" not in page


def test_pictures_come_only_when_asked_for_and_from_blurred_videos(site, tmp_path, monkeypatch):
    from orveil.pipeline import media

    read = []
    original = media.FrameReader.__init__

    def spy(self, path, *arguments, **options):
        read.append(path)
        original(self, path, *arguments, **options)

    monkeypatch.setattr(media.FrameReader, "__init__", spy)
    _, page = report_on(site, tmp_path, pictures=True)
    text_of(page)
    assert page.count("data:image/jpeg;base64,") == 4
    assert {p.name for p in read} == {"video.mp4"}
    assert all("blurred" in p.parts for p in read)


def test_the_counted_part_is_the_same_every_time_and_knows_no_times(site, tmp_path):
    one, page = report_on(site, tmp_path / "one")
    two, _ = report_on(site, tmp_path / "two")
    assert one == two
    assert not {"times", "timings", "curves", "created"} & set(one)
    assert "peak" not in json.dumps(one)
    assert "200 MB" in page
    assert Report.volatile == {"report.html"}


def test_curves_take_the_last_record_of_each_iteration_of_a_resumed_training(site, tmp_path):
    curve = site.inputs["weights_1"].path / "losses.jsonl"
    before = curve.read_text()
    try:
        curve.write_text(before + json.dumps({"iteration": 120, "loss": 7.0}) + "\n")
        changed, page = report_on(site, tmp_path)
        curves = loss_curves(site.inputs, 2)
        curve.unlink()
        assert loss_curves(site.inputs, 2)["detector, round 1"] == {}
        unchanged, _ = report_on(site, tmp_path / "without")
    finally:
        curve.write_text(before)
    assert curves["detector, round 1"]["loss"][-1] == [120, 7.0]
    assert curves["detector, round 1"]["loss_bbox"][-1][0] == 110
    assert curves["student"]["loss"][-1] == [120, pytest.approx(0.5 + 1 / 120)]
    assert changed == unchanged
    text_of(page)


@pytest.mark.parametrize(
    "chart",
    [
        bars([], ["a"], "empty"),
        bars([Bar("<b>", [0.0], "0")], ["a"], "zero"),
        histogram([], 0, 1, "nothing"),
        histogram([0, 0], 0, 1, "zeros"),
        lines({}, "no line"),
        lines({"loss": [(1, float("nan")), (2, 3.0)]}, "a hole"),
    ],
)
def test_charts_of_nothing_are_charts(chart):
    checker = Checker()
    checker.feed(chart)
    assert checker.open == []
    assert "nan" not in chart
    assert "<b>" not in chart


def test_a_camera_with_a_wrong_clock_is_named_with_the_remedy(site, tmp_path):
    folder = site.inputs["associations_final"].paths()[0]
    late = {
        "camera": "cam1",
        "clock_known": True,
        "clock_late_s": 0.25,
        "clock_off": True,
        "moved_at_s": None,
    }
    file = folder / "cameras.json"
    file.write_text(json.dumps({"cameras": [late]}))
    try:
        content, page = report_on(site, tmp_path)
    finally:
        file.unlink()
    assert "its clock is 0.25 s late" in content["warnings"][0]
    assert "set its offset_s to" in page
