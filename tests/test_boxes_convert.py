"""Boxes to and from CVAT and COCO: nothing gets lost on the way, and wrong or hostile files are refused."""

from __future__ import annotations

import json
from pathlib import Path

import boxes_strategies as make
import numpy as np
import pytest
import videos
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.pipeline.errors import OrveilError
from orveil.stages.redaction import boxes_cvat
from orveil.stages.redaction.boxes_coco import read_coco, write_coco
from orveil.stages.redaction.boxes_convert import Drawn, DrawnBox, from_video, write_edited
from orveil.stages.redaction.boxes_cvat import keyframes, read_cvat, write_cvat
from orveil.stages.redaction.boxes_file import BoxesFile, Frame
from orveil.stages.redaction.temporal import Origin
from orveil.stages.runtime import sha256_of


def by_place(frame: Frame) -> list[tuple]:  # type: ignore[type-arg]
    rows = zip(frame.xyxy.tolist(), frame.origins, strict=True)
    return sorted(
        (o.label, *np.round(box, 4), o.source, o.score if o.score == o.score else -1) for box, o in rows
    )


@settings(max_examples=60, deadline=None)
@given(make.frames())
def test_coco_and_back_is_the_same(tmp_path_factory: pytest.TempPathFactory, content: list[Frame]) -> None:
    folder = tmp_path_factory.mktemp("boxes")
    boxes = make.write(folder / "boxes.json", content)
    assert write_coco(boxes, folder / "coco.json") == sum(len(f.origins) for f in content)
    drawn = read_coco(folder / "coco.json", boxes.header)
    counts = write_edited(drawn, boxes.header, boxes.frames(), folder / "back.json", "coco.json")
    assert counts["frames"] == len(content)
    for before, after in zip(content, BoxesFile(folder / "back.json").frames(), strict=True):
        assert make.same(before, after)


@settings(max_examples=60, deadline=None)
@given(make.frames())
def test_cvat_and_back_is_the_same(tmp_path_factory: pytest.TempPathFactory, content: list[Frame]) -> None:
    folder = tmp_path_factory.mktemp("boxes")
    boxes = make.write(folder / "boxes.json", content)
    write_cvat(boxes, folder / "annotations.xml")
    drawn = read_cvat(folder / "annotations.xml", boxes.header)
    write_edited(drawn, boxes.header, boxes.frames(), folder / "back.json", "annotations.xml")
    for before, after in zip(content, BoxesFile(folder / "back.json").frames(), strict=True):
        assert (before.index, before.pts, before.whole) == (after.index, after.pts, after.whole)
        assert len(before.origins) == len(after.origins)
        for one, other in zip(by_place(before), by_place(after), strict=True):
            assert one[0] == other[0] and one[5:] == other[5:]
            np.testing.assert_allclose(one[1:5], other[1:5], atol=boxes_cvat.TOLERANCE_PX + 1e-4)


@settings(max_examples=60, deadline=None)
@given(st.lists(make.boxes(), min_size=1, max_size=25), st.floats(0, 20))
def test_keyframes_give_every_frame_again(sides: list[list[float]], tolerance: float) -> None:
    values = np.array(sides, np.float64)
    keys = keyframes(values, tolerance)
    assert keys[0] == 0 and keys[-1] == len(values) - 1 and (np.diff(keys) > 0).all()
    for side in range(4):
        line = np.interp(np.arange(len(values)), keys, values[keys, side])
        assert np.abs(line - values[:, side]).max() <= tolerance + 1e-6


def test_a_steady_walk_needs_two_keyframes(tmp_path: Path) -> None:
    walk = [np.array([[k, 20, 30 + k, 50]], np.float32) for k in range(100)]
    content = [Frame(k, k, walk[k], (Origin("head", "detected", 7, 0.9),)) for k in range(100)]
    content += [Frame(100, 100, np.zeros((0, 4), np.float32), ())]
    boxes = make.write(tmp_path / "boxes.json", content)
    assert write_cvat(boxes, tmp_path / "a.xml") == 1
    text = (tmp_path / "a.xml").read_text()
    assert (
        text.count("<box ") == 3 and text.count('outside="1"') == 1 and '<track id="7" label="head"' in text
    )


def test_an_edit_is_kept_and_marked(tmp_path: Path) -> None:
    box = np.array([[10, 20, 30, 50]], np.float32)
    content = [Frame(k, 10 * k, box, (Origin("head", "held", 3),)) for k in range(4)]
    boxes = make.write(tmp_path / "boxes.json", content)
    write_coco(boxes, tmp_path / "coco.json")
    document = json.loads((tmp_path / "coco.json").read_text())
    document["annotations"][2]["bbox"][2] = 40
    document["annotations"].append({"image_id": 1, "category_id": 1, "bbox": [100, 100, 9, 9], "id": 99})
    del document["annotations"][1]
    document["images"].reverse()
    (tmp_path / "coco.json").write_text(json.dumps(document))
    drawn = read_coco(tmp_path / "coco.json", boxes.header)
    counts = write_edited(drawn, boxes.header, boxes.frames(), tmp_path / "new.json", "coco.json")
    assert counts == {"frames": 4, "boxes": 4, "edited": 2}
    edited = BoxesFile(tmp_path / "new.json")
    assert edited.header.made_by["edited"] is True
    sources = [[(o.label, o.source, o.track) for o in frame.origins] for frame in edited.frames()]
    added = ("face", "edited", -1)
    assert sources == [[("head", "held", 3), added], [], [("head", "edited", 3)], [("head", "held", 3)]]


def test_boxes_drawn_by_hand_on_a_video(tmp_path: Path) -> None:
    video = videos.write_video(tmp_path / "v.mp4", videos.scene(6), rotation=90)
    header, empty = from_video(video)
    assert (header.frames, header.width, header.height) == (6, 96, 128)
    assert header.sha256 == sha256_of(video) and [f.index for f in empty] == list(range(6))
    drawn = Drawn()
    drawn.add(4, DrawnBox((1, 2, 30, 40), "head", 0))
    write_edited(drawn, header, empty, tmp_path / "boxes.json", "hand")
    assert [len(f.xyxy) for f in BoxesFile(tmp_path / "boxes.json").frames()] == [0, 0, 0, 0, 1, 0]
    for wrong in ((5, 5, 5, 9), (200, 1, 220, 9)):
        drawn = Drawn()
        drawn.add(0, DrawnBox(wrong, "head", 0))
        with pytest.raises(OrveilError, match=r"extent|outside"):
            write_edited(drawn, header, empty, tmp_path / "wrong.json", "hand")
        assert not (tmp_path / "wrong.json").exists()


SIZE = "<original_size><width>320</width><height>240</height></original_size>"
META = f"<meta><task><size>10</size>{SIZE}</task></meta>"


def xml(body: str, meta: str = META, version: str = "1.1") -> str:
    return f"<annotations><version>{version}</version>{meta}{body}</annotations>"


def track(*boxes: str, keys: str = 'id="0" label="head"') -> str:
    return f"<track {keys}>{''.join(boxes)}</track>"


def box(frame: int, x: float = 10, outside: int = 0, keyframe: int = 1, more: str = "") -> str:
    sides = f'xtl="{x}" ytl="20" xbr="{x + 20}" ybr="50"'
    return f'<box frame="{frame}" outside="{outside}" occluded="0" keyframe="{keyframe}" {sides} {more}/>'


def lefts(path: Path, text: str) -> list[float | None]:
    path.write_text(text)
    drawn = read_cvat(path, make.header(10))
    return [round(boxes[0].xyxy[0], 3) if boxes else None for boxes in drawn.by_frame(10)]


def test_keyframes_are_joined_as_cvat_joins_them(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    body = track(box(1, 10), box(2, 99, keyframe=0), box(3, 14), box(6, 20, outside=1), box(8, 50))
    assert lefts(path, xml(body)) == [None, 10, 12, 14, 16, 18, None, None, 50, 50]
    assert lefts(path, xml("")) == [None] * 10
    turned = xml(track(box(0, 10, more='rotation="90.0"'), box(1, outside=1)))
    path.write_text(turned)
    [first, *_] = read_cvat(path, make.header(10)).by_frame(10)
    np.testing.assert_allclose(first[0].xyxy, (5, 25, 35, 45), atol=1e-4)


BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
HOSTILE = [
    (BOMB + xml(track(box(0))).replace("1.1", "&c;"), "document type"),
    (OUTSIDE + xml("").replace("1.1", "&x;"), "document type"),
    ('<!DOCTYPE annotations SYSTEM "http://127.0.0.1:1/x.dtd">' + xml(""), "document type"),
    (xml(track(box(0))).replace("1.1", "&undefined;"), "undefined entity"),
    (xml("<a>" * 40 + "</a>" * 40), "too deep"),
    (xml(f'<track id="0" label="{"x" * 3_000_000}"/>'), "too large"),
    ("<annotations>", "no element|unclosed|meta"), ("", "no element"), ("{}", "not well-formed|syntax"),
    (b"\x00\x01\x02".decode(), "not well-formed|invalid"),
]  # fmt: skip
WRONG = [
    (xml(track(box(0)), version="1.0"), "1.0"), (xml(track(box(0)), meta=""), "how many frames"),
    (xml(track(box(0)), META.replace("10<", "9<")), "the video has 10"),
    (xml(track(box(0)), META.replace("320", "640")), "the video has 320"),
    (xml(track(box(0)), META.replace("<size>", "<start_frame>5</start_frame><size>")), "start_frame"),
    (xml(track(box(0)), META.replace("<size>", "<frame_filter>step=2</frame_filter><size>")), "frame_filter"),
    (xml('<image id="0" name="a.png"/>'), "images"), (xml(track("<polygon/>")), "polygon"),
    (xml(track(box(10))), "frame 10"), (xml(track(box(0), keys='id="0" label="nose"')), "nose"),
    (xml(track(box(0)) * 2), "id 0"), (xml(track(box(3), box(3))), "two keyframes"),
    (xml(track()), "no keyframe"),
    (xml(track(box(0), keys='label="head"')), "id="), (xml(track(box(0).replace('"10"', '"nan"'))), "xtl"),
    (xml(track(box(0).replace('"10"', '"1e9"'))), "xtl"), (xml(track(box(0).replace('xtl="10"', ""))), "xtl"),
    (xml(track(box(0).replace('frame="0"', 'frame="-1"'))), "frame="),
    ("<other/>", "not <annotations>"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), HOSTILE + WRONG)
def test_cvat_files_that_are_wrong_or_hostile_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "annotations.xml"
    path.write_text(text)
    with pytest.raises(OrveilError, match=message) as caught:
        read_cvat(path, make.header(10))
    assert "annotations.xml" in caught.value.where


def test_the_document_of_these_tests_is_right(tmp_path: Path) -> None:
    assert lefts(tmp_path / "a.xml", xml(track(box(0)))) == [10] * 10


def coco() -> dict:  # type: ignore[type-arg]
    return {
        "images": [
            {"id": k, "file_name": f"a/frame_{k:06d}.PNG", "width": 320, "height": 240} for k in range(3)
        ],
        "categories": [{"id": 5, "name": "Head"}, {"id": 6, "name": "table"}],
        "annotations": [{"id": 1, "image_id": 2, "category_id": 5, "bbox": [10, 20, 20, 30]}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("images.1", None, "2 images, the video has 3"), ("images.1.id", 0, "this id"),
        ("images.1.file_name", "frame_000000", "the same frame"), ("images.1.file_name", "x", "frame_index"),
        ("images.1.width", 640, "width"), ("images.1.frame_index", 9, "the video has 3"),
        ("images.1", 3, "object"),
        ("annotations.0.image_id", 7, "image 7"), ("annotations.0.category_id", 6, "category 6"),
        ("annotations.0.bbox", [1, 2, 3], "bbox"), ("annotations.0.bbox", [1, 2, 3, "x"], "bbox"),
        ("annotations.0.bbox", None, "bbox"), ("annotations.0.bbox", [1, 2, 3, 1e99], "bbox"),
        ("annotations.0.image_id", True, "image_id"), ("annotations.0.track_id", -2, "track_id"),
    ],
)  # fmt: skip
def test_coco_files_that_are_wrong_are_refused(
    tmp_path: Path, place: str, value: object, message: str
) -> None:
    from test_boxes_file import put

    path, document = tmp_path / "coco.json", coco()
    path.write_text(json.dumps(document))
    assert [len(b) for b in read_coco(path, make.header(3)).by_frame(3)] == [0, 0, 1]
    put(document, place, value)
    path.write_text(json.dumps(document))
    with pytest.raises(OrveilError, match=message) as caught:
        read_coco(path, make.header(3))
    assert "coco.json" in caught.value.where
