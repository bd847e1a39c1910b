"""boxes.json: what is written comes back, what is not exactly right is refused, memory stays bounded."""

from __future__ import annotations

import copy
import io
import json
import tracemalloc
from pathlib import Path

import boxes_strategies as make
import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.pipeline.errors import OrveilError
from orveil.stages.redaction import json_stream
from orveil.stages.redaction.boxes_file import BoxesFile, BoxesWriter, BoxSource, Frame
from orveil.stages.redaction.json_stream import JsonError, JsonStream
from orveil.stages.redaction.temporal import Origin

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "boxes.schema.json").read_text("utf-8"))
BOX = np.array([[10, 20, 30, 50]], np.float32)


def some_frames(count: int = 3) -> list[Frame]:
    return [Frame(k, 100 * k, BOX, (Origin("head", "detected", 4, 0.5),)) for k in range(count)]


def by_schema(document: object) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(document)


@settings(max_examples=60, deadline=None)
@given(make.frames())
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, content: list[Frame]) -> None:
    path = tmp_path_factory.mktemp("boxes") / "boxes.json"
    read = make.write(path, content)
    assert read.header.frames == len(content) and read.header.width == make.WIDTH
    assert all(make.same(a, b) for a, b in zip(content, read.frames(), strict=True))
    document = json.loads(path.read_text())
    assert by_schema(document)
    # Another program may write the same content in any layout and order.
    for text in (json.dumps(document, indent=3), json.dumps(dict(reversed(document.items())))):
        path.write_text(text)
        again = BoxesFile(path)
        assert all(make.same(a, b) for a, b in zip(content, again.frames(), strict=True))


def document() -> dict:  # type: ignore[type-arg]
    box = {"xyxy": [10, 20, 30, 50], "label": "head", "source": "detected", "track": 4, "score": 0.5}
    base = {"sha256": "a" * 64, "frames": 3, "width": 320, "height": 240, "time_base": [1, 25]}
    frames = [{"index": k, "pts": 10 * k, "boxes": [dict(box)]} for k in range(3)]
    return {"schema": 1, "kind": "orveil-boxes", "video": base, "made_by": {}, "frames": frames}


def put(target: object, path: str, value: object) -> None:
    *parts, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    for part in parts:
        target = target[part]  # type: ignore[index]
    if value is None:
        del target[last]  # type: ignore[attr-defined]
    else:
        target[last] = value  # type: ignore[index]


WRONG_FORM = [
    ("schema", 2), ("kind", "boxes"), ("kind", None), ("video", []), ("video.sha256", "A" * 64),
    ("video.sha256", "a" * 63), ("video.width", 0), ("video.height", 1.5), ("video.time_base", [1]),
    ("video.time_base", [0, 1]), ("video.frames", None), ("video.name", "patient"), ("made_by", "me"),
    ("notes", "x"), ("frames", None), ("frames", {}), ("frames.1", 5), ("frames.1.index", None),
    ("frames.1.pts", "10"), ("frames.1.boxes", None), ("frames.1.boxs", []), ("frames.1.whole", ""),
    ("frames.1.whole", 1), ("frames.1.boxes.0", []), ("frames.1.boxes.0.xyxy", [1, 2, 3]),
    ("frames.1.boxes.0.xyxy", [1, 2, 3, "4"]), ("frames.1.boxes.0.xyxy", [1, 2, 3, True]),
    ("frames.1.boxes.0.xyxy", [1, 2, 3, 2e6]), ("frames.1.boxes.0.label", "nose"),
    ("frames.1.boxes.0.label", None), ("frames.1.boxes.0.source", "guessed"),
    ("frames.1.boxes.0.track", -1), ("frames.1.boxes.0.track", 1.5), ("frames.1.boxes.0.score", 1.5),
    ("frames.1.boxes.0.colour", "red"),
]  # fmt: skip
WRONG_CONTENT = [
    ("video.frames", 2, "the file holds 3"), ("video.frames", 4, "the file holds 3"),
    ("frames.1", None, "no frame may be missing"), ("frames.1.index", 2, "no frame may be missing"),
    ("frames.1.pts", 0, "time must rise"), ("frames.1.boxes.0.xyxy", [30, 20, 10, 50], "must be larger"),
    ("frames.1.boxes.0.xyxy", [10, 20, 10, 50], "must be larger"),
    ("frames.1.boxes.0.xyxy", [320, 20, 330, 50], "outside the picture"),
    ("frames.1.boxes.0.xyxy", [-20, 20, -10, 50], "outside the picture"),
]  # fmt: skip


def test_the_document_of_these_tests_is_right(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(document()))
    assert by_schema(document()) and BoxesFile(path).header.frames == 3


@pytest.mark.parametrize(("place", "value"), WRONG_FORM)
def test_a_wrong_form_is_refused_here_and_by_the_schema(tmp_path: Path, place: str, value: object) -> None:
    wrong = document()
    put(wrong, place, value)
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(wrong))
    assert not by_schema(wrong)
    with pytest.raises(OrveilError, match="boxes file is not right") as caught:
        BoxesFile(path)
    assert "boxes.json" in caught.value.where and "docs/boxes-json.md" in caught.value.remedy


@pytest.mark.parametrize(("place", "value", "message"), WRONG_CONTENT)
def test_wrong_content_is_refused(tmp_path: Path, place: str, value: object, message: str) -> None:
    wrong = document()
    put(wrong, place, value)
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(wrong))
    with pytest.raises(OrveilError, match=message):
        BoxesFile(path)


def test_a_track_has_one_box_of_a_label_in_a_frame(tmp_path: Path) -> None:
    wrong = document()
    wrong["frames"][2]["boxes"].append(dict(wrong["frames"][2]["boxes"][0]))
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(wrong))
    with pytest.raises(OrveilError, match="two boxes in one frame") as caught:
        BoxesFile(path)
    assert "frame 2" in caught.value.where
    wrong["frames"][2]["boxes"][1]["label"] = "person"
    path.write_text(json.dumps(wrong))
    assert BoxesFile(path).header.frames == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cut off"), ("[]", "expected '{'"), ('{"schema": 1', "cut off|expected '}'"),
        ("{} x", "follows"), ('{"a": NaN}', "NaN"), ('{"a": 1, "a": 2}', "twice"),
        ('{"frames": [{"index": 0, "index": 1}]}', "twice"), ('{"a": "\\u12"}', "escape"),
        ('{"a": 1' + "0" * 5000 + "}", "digits"), ('{"a" 1}', "expected ':'"), ("{1: 2}", "not a string"),
        ('{"a": ' + "[" * 100_000 + "}", "deep|Expecting"), ('{"made_by": {} "x": 1}', "expected '}'"),
        ('{"frames": [', "cut off"), ('{"frames": 1}', "expected '\\['"),
    ],
)  # fmt: skip
def test_text_that_is_not_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(OrveilError, match=message):
        BoxesFile(path)
    path.write_bytes(b'{"a": "\xff\xfe"}')
    with pytest.raises(OrveilError, match="UTF-8"):
        BoxesFile(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=4), json_values, max_size=5), st.lists(json_values, max_size=6),
       st.integers(1, 7), st.sampled_from([None, 1]))  # fmt: skip
def test_the_stream_reads_what_json_reads(
    content: dict[str, object], elements: list[object], chunk: int, indent: int | None
) -> None:
    content["list"] = elements
    raw = json.dumps(content, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    before = json_stream.CHUNK
    json_stream.CHUNK = chunk  # numbers, escapes and characters are cut everywhere
    try:
        read = list(JsonStream(io.BytesIO(raw), "list").members())
    finally:
        json_stream.CHUNK = before
    assert [value for key, value in read if key == "list"] == elements
    assert {k: v for k, v in read if k != "list"} == {k: v for k, v in content.items() if k != "list"}


def test_a_piece_that_never_ends_is_refused_before_it_is_read() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, count: int = -1) -> bytes:
            self.given += count
            return b'{"a": "' if self.given == count else b"x" * count

    endless = Endless()
    with pytest.raises(JsonError):
        list(JsonStream(endless).members())  # type: ignore[arg-type]
    assert endless.given < 4 * json_stream.MAX_PIECE


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path, count = tmp_path / "boxes.json", 6000
    tracemalloc.start()
    with BoxesWriter(path, make.header(0)) as writer:
        for k in range(count):
            writer.write(Frame(k, k, BOX, (Origin("head", "held", 1),)))
    assert sum(1 for _ in BoxesFile(path).frames()) == count
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (
        most < 8 * json_stream.CHUNK < path.stat().st_size
    )  # parsed as a whole it would take 5 times its size


def test_nothing_is_left_where_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    with pytest.raises(ZeroDivisionError), BoxesWriter(path, make.header(0)) as writer:
        writer.write(some_frames()[0])
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OrveilError):
        BoxesWriter(tmp_path / "no" / "boxes.json", make.header(0))
    with pytest.raises(OrveilError):
        BoxesFile(tmp_path / "none.json")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    boxes = make.write(tmp_path / "boxes.json", some_frames())
    changed = copy.deepcopy(json.loads(boxes.path.read_text()))
    changed["frames"][1]["boxes"] = []
    boxes.path.write_text(json.dumps(changed))
    with pytest.raises(OrveilError, match="changed while"):
        list(boxes.frames())


def test_the_source_gives_each_picture_its_boxes_and_no_other(tmp_path: Path) -> None:
    content = some_frames(2)
    content.append(Frame(2, 200, BOX, (Origin("head", "edited"),), "the model failed"))
    boxes = make.write(tmp_path / "boxes.json", content)
    source = BoxSource(boxes)
    covered = source.at(0, 0)
    assert covered is not None and covered.sources == ("detected",) and covered.frame == 0
    np.testing.assert_array_equal(covered.xyxy, BOX)
    with pytest.raises(OrveilError, match="timestamp 101"):
        source.at(1, 101)
    source = BoxSource(boxes)
    assert [source.at(k, 100 * k) is None for k in range(3)] == [False, False, True]
    source.finish(3)
    with pytest.raises(OrveilError, match="the video has 2 pictures"):
        source.finish(2)
    with pytest.raises(OrveilError, match="do not fit"):
        source.at(3, 300)
    boxes.check_video("a" * 64, (320, 240), "x.mp4")
    with pytest.raises(OrveilError, match="another video"):
        boxes.check_video("b" * 64, (320, 240), "x.mp4")
    with pytest.raises(OrveilError, match="320x240"):
        boxes.check_video("a" * 64, (240, 320), "x.mp4")


def test_the_page_shows_a_file_of_the_form() -> None:
    page = (Path(__file__).parent.parent / "docs" / "boxes-json.md").read_text("utf-8")
    begin = page.index('    {"schema": 1')
    example = page[begin : page.index("\n\n", begin)].replace("{...}", "{}")
    shown = json.loads(example.replace('"sha256": "..."', f'"sha256": "{"a" * 64}"'))
    assert by_schema(shown)
    for name in [*SCHEMA["properties"]["video"]["properties"]]:
        assert name in page
    frame = SCHEMA["properties"]["frames"]["items"]["properties"]
    for name in [*frame, *frame["boxes"]["items"]["properties"]]:
        assert f"`{name}`" in page or name == "boxes"
