"""`orveil analyse`, `orveil blur --boxes`, `orveil boxes`: what was found, corrected by hand, is rendered."""

from __future__ import annotations

import json

import bundles
import numpy as np
import pytest
import videos

from orveil.pipeline.media import frames
from orveil.stages.redaction.boxes_file import BoxesFile

RED = (20, 20, 230)


def scene(count=20):
    pictures = [videos.stamp(np.full((144, 192, 3), 90, np.uint8), number) for number in range(count)]
    for number, picture in enumerate(pictures):
        if number not in (8, 9):
            picture[60:84, 40 + number : 60 + number] = RED
    return pictures


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bundles.write_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def analysed(orveil, bundle, tmp_path):
    video = videos.write_video(tmp_path / "cam.mp4", scene())
    path = tmp_path / "cam.boxes.json"
    status, said, err = orveil("analyse", video, "--bundle", bundle, "--out", path, "-q", "--hold-s", "0.4",
                               "--looks-s", "0")  # fmt: skip
    assert (status, err) == (0, "")
    assert "20 frames, 20 with boxes, 1 tracks" in said
    return video, path


@pytest.mark.parametrize("roi", [[], ["--roi", "0,0,70,144", "--roi", "100,40,92,104"]])
def test_rendering_unedited_boxes_gives_the_very_video_that_blur_gives(orveil, bundle, tmp_path, roi):
    video = videos.write_video(tmp_path / "cam.mp4", scene(40))
    path = tmp_path / "boxes.json"
    assert orveil("analyse", video, "--bundle", bundle, "--out", path, "-q", "--every", 2, *roi)[0] == 0
    assert (
        orveil("blur", video, "--bundle", bundle, "--out", tmp_path / "a", "-q", "--every", 2, *roi)[0] == 0
    )
    assert orveil("blur", video, "--boxes", path, "--out", tmp_path / "b", "-q", *roi)[0] == 0
    assert (tmp_path / "a" / "cam.mp4").read_bytes() == (tmp_path / "b" / "cam.mp4").read_bytes()
    logs = [json.loads((tmp_path / name / "cam.json").read_text()) for name in "ab"]
    assert logs[0]["output"]["sha256"] == logs[1]["output"]["sha256"]
    assert logs[0]["bundle"] and not logs[0]["boxes_file"]
    assert logs[1]["boxes_file"] == {"sha256": BoxesFile(path).sha256} and not logs[1]["bundle"]
    assert logs[0]["frames"]["with_boxes"] == logs[1]["frames"]["with_boxes"] > 10


def test_boxes_say_where_they_come_from(analysed):
    _, path = analysed
    boxes = BoxesFile(path)
    found = list(boxes.frames())
    assert [f.origins[0].source for f in found] == ["detected"] * 8 + ["filled"] * 2 + ["detected"] * 10
    assert {(f.origins[0].label, f.origins[0].track) for f in found} == {("head", 0)}
    x0, y0, x1, y1 = found[3].xyxy[0]
    assert x0 < 42 and y0 < 59 and x1 > 63 and y1 > 84, "the margin is in the file"
    settings = boxes.header.made_by["settings"]
    assert (
        settings["margin"] == 0.15 and settings["hold_s"] == 0.4 and len(boxes.header.made_by["bundle"]) == 64
    )
    assert "cam" not in path.read_text(), "no names"


def test_what_was_edited_is_what_is_covered(orveil, analysed, tmp_path):
    video, path = analysed
    document = json.loads(path.read_text())
    for frame in document["frames"]:
        frame["boxes"] = [{"xyxy": [100, 90, 140, 130], "label": "face"}] if frame["index"] == 5 else []
    document["frames"][7]["whole"] = "cannot be judged"
    path.write_text(json.dumps(document, indent=2))
    options = ["--style", "solid", "--shape", "box", "--crf", "1", "-q"]
    status, _, err = orveil("blur", video, "--boxes", path, "--out", tmp_path / "out", *options)
    assert status == 1 and "frame 7" in err
    black = [picture.max(axis=2) < 40 for _, _, picture in frames(tmp_path / "out" / "cam.mp4")]
    assert black[5][90:130, 100:140].all() and not black[5][60:84, 46:64].any()
    assert black[7].all() and not black[6][90:130, 100:140].all()
    log = json.loads((tmp_path / "out" / "cam.json").read_text())
    assert log["boxes"]["edited"] == 1 and log["covered"]["face"] == {"boxes": 1, "tracks": 0}
    assert not log["complete"] and log["faults"][0]["first"] == 7


def wrong_video(document):
    document["video"]["sha256"] = "0" * 64


def wrong_size(document):
    document["video"]["width"] += 2


def missing_frame(document):
    del document["frames"][4]


def missing_end(document):
    document["frames"].pop()
    document["video"]["frames"] -= 1


def one_more(document):
    document["frames"].append({"index": 20, "pts": 10**6, "boxes": []})
    document["video"]["frames"] += 1


def moved_time(document):
    document["frames"][6]["pts"] += 1


def wrong_box(document):
    document["frames"][3]["boxes"][0]["xyxy"] = [10, 10, 5, 20]


@pytest.mark.parametrize(
    "spoil", [wrong_video, wrong_size, missing_frame, missing_end, one_more, moved_time, wrong_box]
)
def test_a_file_that_does_not_fit_publishes_nothing(orveil, analysed, tmp_path, spoil):
    video, path = analysed
    document = json.loads(path.read_text())
    spoil(document)
    path.write_text(json.dumps(document))
    status, _, err = orveil("blur", video, "--boxes", path, "--out", tmp_path / "out", "-q")
    assert status == 2 and "remedy" in err
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_a_damaged_video_is_covered_though_boxes_say_otherwise(orveil, bundle, tmp_path):
    video = videos.write_video(tmp_path / "cam.mp4", scene(30), options={"bf": "0"})
    videos.damage(video, 12)
    path = tmp_path / "boxes.json"
    status, _, err = orveil("analyse", video, "--bundle", bundle, "--out", path, "-q")
    assert status == 1 and "not whole" in err
    document = json.loads(path.read_text())
    whole = [f["index"] for f in document["frames"] if f.pop("whole", "")]
    assert whole and len(document["frames"]) == 30
    path.write_text(json.dumps(document))  # somebody says that there is nothing in these frames
    assert orveil("blur", video, "--boxes", path, "--out", tmp_path / "out", "-q")[0] == 1
    log = json.loads((tmp_path / "out" / "cam.json").read_text())
    assert log["frames"]["covered"] == len(whole)


def test_settings_of_an_analysis_are_refused_for_a_list(orveil, analysed, tmp_path):
    video, path = analysed
    for options in (["--margin", "0.5"], ["--hold-s", "2"], ["--target", "body"]):
        status, _, err = orveil("blur", video, "--boxes", path, "--out", tmp_path / "out", *options)
        assert status == 2 and options[0] in err and "orveil analyse" in err
    status, _, err = orveil(
        "blur", video, video.with_name("b.mp4"), "--boxes", path, "--out", tmp_path / "out"
    )
    assert status == 2 and "several videos" in err


def test_to_cvat_and_back_and_to_coco_and_back(orveil, analysed, tmp_path):
    video, path = analysed
    for name in ("annotations.xml", "coco.json"):
        there, back = tmp_path / name, tmp_path / f"{name}.boxes.json"
        assert orveil("boxes", "convert", path, there)[0] == 0
        status, said, _ = orveil("boxes", "convert", there, back, "--like", path)
        assert status == 0 and "20 boxes, 0 of them edited" in said
        status, said, _ = orveil("boxes", "check", back, "--video", video)
        assert status == 0 and "18 detected, 2 filled" in said
        for a, b in zip(BoxesFile(path).frames(), BoxesFile(back).frames(), strict=True):
            np.testing.assert_allclose(a.xyxy, b.xyxy, atol=0.011)
        status, said, _ = orveil("boxes", "convert", there, back, "--video", video)
        assert status == 0 and "20 boxes, 20 of them edited" in said
        status, _, err = orveil("boxes", "convert", there, back)
        assert status == 2 and "--like" in err
        status, _, err = orveil("boxes", "convert", path, path)
        assert status == 2 and "replace the input" in err
    status, _, err = orveil("boxes", "convert", path, tmp_path / "boxes.txt")
    assert status == 2 and ".xml" in err
    (tmp_path / "export.zip").write_bytes(b"PK\x03\x04")
    status, _, err = orveil("boxes", "convert", tmp_path / "export.zip", tmp_path / "b.json", "--like", path)
    assert status == 2 and "unpack annotations.xml" in err
    other = videos.write_video(tmp_path / "other.mp4", scene(5))
    status, _, err = orveil("boxes", "check", path, "--video", other)
    assert status == 2 and "another video" in err


def test_analyse_leaves_nothing_where_it_cannot_run(orveil, bundle, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video" * 100)
    for video in (bad, tmp_path / "none.mp4"):
        status, _, err = orveil("analyse", video, "--bundle", bundle, "--out", tmp_path / "boxes.json", "-q")
        assert status == 2 and video.name in err
    status, _, err = orveil("analyse", bad, "--bundle", bundle, "--out", bad, "-q")
    assert status == 2 and "replace the input" in err
    assert [p.name for p in tmp_path.iterdir()] == ["bad.mp4"]


def test_both_commands_are_in_the_list_and_explain_themselves(orveil):
    listed = orveil("--help")[1]
    for command in ("analyse", "boxes"):
        assert f" {command} " in listed
        status, said, _ = orveil(command, "--help")
        assert status == 0 and "boxes.json" in said
    assert orveil("boxes")[0] == 2
