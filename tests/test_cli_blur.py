"""`orveil blur`: several videos at once, exit status, and what is left behind."""

from __future__ import annotations

import json

import pytest
import videos
from bundles import write_bundle

from orveil.pipeline.media import probe

RED = (20, 20, 230)


def scene(frames=20):
    pictures = videos.scene(frames, 192, 144)
    for number, picture in enumerate(pictures):
        picture[60:84, 40 + number : 60 + number] = RED
    return pictures


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle"))


def test_every_video_gets_a_copy_and_a_log(orveil, bundle, tmp_path):
    one = videos.write_video(tmp_path / "one.mp4", scene())
    two = videos.write_video(tmp_path / "two.mkv", scene(12))
    out = tmp_path / "deep" / "out"
    status, said, err = orveil("blur", one, two, "--bundle", bundle, "--out", out, "--target", "head")
    assert status == 0, err
    assert sorted(p.name for p in out.iterdir()) == ["one.json", "one.mp4", "two.json", "two.mp4"]
    assert "one.mp4: 20 frames, 20 of them with somebody covered" in said
    log = json.loads((out / "two.json").read_text())
    assert (log["complete"], log["frames"]["in"], log["frames"]["out"]) == (True, 12, 12)
    assert probe(out / "two.mp4").width == 192
    assert "[1/2] one.mp4" in err, "progress"


def test_options_reach_the_redaction(orveil, bundle, tmp_path):
    source = videos.write_video(tmp_path / "a.mp4", scene(8))
    options = ["--target", "body", "--style", "solid", "--shape", "box", "--margin", "0.4", "--every", "2",
               "--hold-s", "1.5", "--crf", "30", "--preset", "fast", "--quiet", "--kernel", "faceoff3",
               "--roi", "0,0,96,144", "--roi", "100,20,92,100", "--feather", "0.5", "--cells", "4",
               "--looks-s", "0.8", "--codec", "auto"]  # fmt: skip
    status, _, err = orveil("blur", source, "--bundle", bundle, "--out", tmp_path / "out", *options)
    assert (status, err) == (0, "")
    settings = json.loads((tmp_path / "out" / "a.json").read_text())["settings"]
    del settings["sha256"]
    assert settings == {
        "target": "body", "style": "solid", "shape": "box", "margin": 0.4, "every": 2, "hold_s": 1.5,
        "audio": "drop", "crf": 30, "preset": "fast", "kernel": "faceoff3", "cells": 4, "feather": 0.5,
        "looks_s": 0.8, "roi": [[0, 0, 96, 144], [100, 20, 92, 100]], "codec": "auto",
    }  # fmt: skip


def test_one_bad_video_does_not_stop_the_others(orveil, bundle, tmp_path):
    good = videos.write_video(tmp_path / "good.mp4", scene(6))
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"this is no video" * 100)
    gone = tmp_path / "gone.mp4"
    out = tmp_path / "out"
    status, said, err = orveil("blur", bad, gone, good, "--bundle", bundle, "--out", out, "-q")
    assert status == 2
    assert sorted(p.name for p in out.iterdir()) == ["good.json", "good.mp4"]
    assert "good.mp4: 6 frames" in said
    assert err.count("error: ") == 2
    assert "bad.mp4" in err
    assert "gone.mp4" in err


def test_a_damaged_video_is_covered_logged_and_fails(orveil, bundle, tmp_path):
    source = videos.write_video(tmp_path / "cam.mp4", scene(30), options={"bf": "0"})
    videos.damage(source, 12)
    out = tmp_path / "out"
    status, said, err = orveil("blur", source, "--bundle", bundle, "--out", out, "-q")
    assert (status, said) == (1, "")
    assert "was not whole" in err
    assert "remedy" in err
    log = json.loads((out / "cam.json").read_text())
    assert not log["complete"]
    assert log["frames"]["out"] == log["frames"]["in"] == 30


def test_a_cut_off_video_fails_too(orveil, bundle, tmp_path):
    source = videos.truncate(videos.write_video(tmp_path / "cam.mkv", scene(40)), 0.6)
    status, _, err = orveil("blur", source, "--bundle", bundle, "--out", tmp_path / "out", "-q")
    assert status == 1
    assert "cut off" in err


def test_two_videos_of_one_name_are_refused_before_anything_is_written(orveil, bundle, tmp_path):
    (tmp_path / "a").mkdir()
    one = videos.write_video(tmp_path / "a" / "cam.mp4", scene(4))
    two = videos.write_video(tmp_path / "cam.mp4", scene(4))
    status, _, err = orveil("blur", one, two, "--bundle", bundle, "--out", tmp_path / "out")
    assert status == 2
    assert "would both be written to cam.mp4" in err
    assert not (tmp_path / "out").exists()


def test_a_wrong_bundle_is_refused(orveil, tmp_path):
    source = videos.write_video(tmp_path / "cam.mp4", scene(4))
    status, _, err = orveil("blur", source, "--bundle", tmp_path, "--out", tmp_path / "out")
    assert status == 2
    assert "bundle.json" in err
    assert list((tmp_path / "out").glob("*.mp4")) == []


def test_out_that_is_a_file_is_refused(orveil, bundle, tmp_path):
    source = videos.write_video(tmp_path / "cam.mp4", scene(4))
    (tmp_path / "out").write_text("in the way")
    status, _, err = orveil("blur", source, "--bundle", bundle, "--out", tmp_path / "out")
    assert status == 2
    assert err.count("error: ") == 1


def test_the_input_is_never_replaced(orveil, bundle, tmp_path):
    source = videos.write_video(tmp_path / "cam.mp4", scene(4))
    before = source.read_bytes()
    status, _, err = orveil("blur", source, "--bundle", bundle, "--out", tmp_path)
    assert status == 2
    assert "would replace the input" in err
    assert source.read_bytes() == before


def test_export_verify_needs_the_self_test_of_a_bundle(orveil, bundle):
    status, _, err = orveil("export", "--verify", bundle)
    assert status == 2
    assert "selftest.json" in err
