"""Reading video: exact indices and timestamps, rotation, random access, damage that is never passed over."""

from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import videos

from orveil.pipeline.decode import Pictures
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.media import FrameReader, external_name, frames, locate, probe
from orveil.pipeline.types import MediaFiles


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos.write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", videos.scene(60), gop=12)


def test_probe_reports_what_was_written(clip: Path) -> None:
    seen = probe(clip)
    assert (seen.width, seen.height, seen.rotation, seen.packets) == (128, 96, 0, 60)
    assert seen.time_base == Fraction(1, 10) and seen.rate == 10 and seen.duration_s == pytest.approx(6.0)
    assert (seen.codec, seen.pixel_format, seen.audio, seen.tail) == ("h264", "yuv420p", False, "")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".ts", ".avi"])
def test_every_frame_has_its_index_and_time(tmp_path: Path, suffix: str) -> None:
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    path = videos.write_video(tmp_path / f"a{suffix}", videos.scene(30), codec=codec)
    seen = probe(path)
    read = list(frames(path))
    assert [videos.read_stamp(picture) for _, _, picture in read] == list(range(30))
    assert [index for index, _, _ in read] == list(range(30)) and seen.packets == 30
    seconds = np.array([float(pts * seen.time_base) for _, pts, _ in read])
    np.testing.assert_allclose(seconds - seconds[0], np.arange(30) / 10, atol=1e-3)


def test_variable_rate_timestamps_are_kept(tmp_path: Path) -> None:
    pts = [5, 6, 9, 17, 18, 40, 41, 42, 90, 120]
    path = videos.write_video(tmp_path / "v.mp4", videos.scene(10), pts=pts, time_base=Fraction(1, 600))
    assert [p for _, p, _ in frames(path)] == pts
    assert probe(path).time_base == Fraction(1, 600)


@pytest.mark.parametrize("with_table", [True, False])
def test_ranges_and_chosen_frames(clip: Path, with_table: bool) -> None:
    pts = list(range(60)) if with_table else None
    got = [(i, p, videos.read_stamp(picture)) for i, p, picture in frames(clip, 31, 44, pts=pts)]
    assert got == [(i, i, i) for i in range(31, 44)]
    wanted = [0, 1, 13, 35, 36, 59]
    chosen = [(i, videos.read_stamp(picture)) for i, _, picture in frames(clip, 1, -1, wanted, pts=pts)]
    assert chosen == [(i, i) for i in wanted[1:]]


def test_a_late_start_begins_at_the_keyframe_before_it(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sought: list[int] = []
    seek = Pictures.seek
    monkeypatch.setattr(Pictures, "seek", lambda self, pts: (sought.append(pts), seek(self, pts))[1])
    [(index, _, picture)] = frames(clip, wanted=[50], pts=list(range(60)))
    assert (index, videos.read_stamp(picture), sought) == (50, 50, [50])


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_late_frames_of_files_without_a_full_index(tmp_path: Path, suffix: str) -> None:
    path = videos.write_video(tmp_path / f"a{suffix}", videos.scene(420, 96, 64), gop=25)
    pts = [p for _, p, _ in frames(path)]
    reader = FrameReader(path, pts)
    assert [videos.read_stamp(reader.read(n)) for n in (390, 0, 401, 12)] == [390, 0, 401, 12]
    assert reader._cursor is not None and reader._cursor.pts is not None  # seeking has worked
    reader.close()
    for wanted in (380, 20, 419):
        [(index, stamp, picture)] = frames(path, wanted=[wanted], pts=pts)
        assert (index, stamp, videos.read_stamp(picture)) == (wanted, pts[wanted], wanted)


def test_reader_gives_any_order_from_cache_or_file_and_can_be_sent_to_a_worker(clip: Path) -> None:
    with FrameReader(clip, list(range(60)), cache_bytes=3 * 128 * 96 * 3) as reader:
        for index in (40, 3, 41, 3, 59, 0, 12, 11, 40):
            assert videos.read_stamp(reader.read(index)) == index
        assert len(reader._cache) == 3
        copy = pickle.loads(pickle.dumps(reader))  # noqa: S301
    assert videos.read_stamp(copy.read(7)) == 7
    copy.close()


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied(tmp_path: Path, rotation: int) -> None:
    upright = videos.scene(8)
    stored = [np.ascontiguousarray(np.rot90(picture, rotation // 90)) for picture in upright]
    path = videos.write_video(tmp_path / "r.mp4", stored, rotation=rotation)
    assert probe(path).rotation == rotation
    for index, _, picture in frames(path):
        assert picture.shape == (96, 128, 3) and videos.read_stamp(picture) == index
    small = next(frames(path, size=(64, 48), pixel_format="gray"))[2]
    assert small.shape == (48, 64)


def test_display_matrix_of_a_quarter_turn_is_the_one_players_know(tmp_path: Path) -> None:
    """A clockwise quarter turn is stored as (0, 1, -1, 0) in 16.16 fixed point in the track header."""
    path = videos.write_video(tmp_path / "r.mp4", videos.scene(2), rotation=90)
    data = path.read_bytes()
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 16
    values = np.frombuffer(data[matrix : matrix + 20], ">i4")
    assert values[[0, 1, 3, 4]].tolist() == [0, 65536, -65536, 0]


def test_damaged_picture_raises_with_file_camera_and_frame(tmp_path: Path) -> None:
    path = videos.write_video(tmp_path / "d.mp4", videos.scene(40, 320, 240), gop=10)
    pts = videos.damage(path, 14)
    with pytest.raises(OrveilError, match="damaged") as caught:
        list(frames(path, where="main/cam07"))
    assert (
        str(path) in caught.value.where
        and "main/cam07" in caught.value.where
        and "frame" in caught.value.where
    )
    intact = [i for i, _, _ in frames(path, 30, 40, pts=list(range(40)))]
    assert intact == list(range(30, 40)) and pts < 20


def test_everything_built_on_a_damaged_picture_is_distrusted_until_the_next_keyframe(tmp_path: Path) -> None:
    path = videos.write_video(tmp_path / "d.mp4", videos.scene(40, 320, 240), gop=10)
    pts = videos.damage(path, 11)  # the first picture after the second keyframe in decoding order
    with Pictures(path) as source:
        pictures = list(source)
    assert [p.pts for p in pictures] == list(range(40))
    bad = {p.pts for p in pictures if p.frame is None}
    assert pts in bad and set(range(pts, 20)) <= bad
    assert bad <= set(range(11, 20))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_cut_off_file_says_so(tmp_path: Path, suffix: str) -> None:
    front = {"movflags": "+faststart"} if suffix == ".mp4" else None
    path = videos.write_video(tmp_path / f"t{suffix}", videos.scene(60), container=front)
    videos.truncate(path, 0.6)
    with Pictures(path) as source:
        count = sum(p.frame is not None for p in source)
        assert 0 < count < 60 and source.tail


def test_healthy_files_have_no_missing_tail(clip: Path, tmp_path: Path) -> None:
    for path in (clip, videos.write_video(tmp_path / "a.mkv", videos.scene(30), audio=True)):
        with Pictures(path) as source:
            assert all(p.frame is not None for p in source) and source.tail == ""


def test_bad_files_are_clear_errors(tmp_path: Path) -> None:
    empty, text, front = tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "moov.mp4"
    empty.write_bytes(b"")
    text.write_text("this is no video " * 100)
    videos.truncate(videos.write_video(front, videos.scene(30)), 0.7)  # the index at the end is gone
    for path in (tmp_path / "missing.mp4", empty, text, front):
        with pytest.raises(OrveilError) as caught:
            probe(path, "camera main/cam02")
        assert path.name in caught.value.where and "cam02" in caught.value.where and caught.value.remedy


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    videos.write_sound(path, 1.0)
    with pytest.raises(OrveilError, match="no video stream"):
        probe(path)


def test_index_beyond_the_end(clip: Path) -> None:
    with pytest.raises(OrveilError, match="only 60 frames"):
        FrameReader(clip).read(60)


def test_locate_prefers_where_the_video_is_now(tmp_path: Path) -> None:
    now = tmp_path / "now.mp4"
    now.write_bytes(b"x")
    columns = {name: [0] for name in MediaFiles.COLUMNS}
    files = MediaFiles(**{**columns, "session": ["s"], "camera": ["c"], "path": ["/gone.mp4"]})
    assert locate(files, "s", "c", {external_name("s", "c"): str(now)}) == now
    with pytest.raises(OrveilError, match="not there"):
        locate(files, "s", "c", {})
    with pytest.raises(OrveilError, match="not there"):
        locate(files, "s", "other", {})
