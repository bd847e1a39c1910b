"""Ingest: a site's videos to tables; what is wrong with a video is said once, with camera and remedy."""

from __future__ import annotations

import json
import os
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import videos

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.kinds import MediaKind
from orveil.pipeline.settings import SiteSettings
from orveil.pipeline.stage import Context, Shard
from orveil.pipeline.tables import read_table
from orveil.pipeline.types import MediaFiles, MediaIndex
from orveil.stages.ingest import Ingest
from orveil.stages.sources import IngestJob, site_media


def ingest(job: IngestJob, externals: dict[str, str], out: Path) -> tuple[MediaFiles, MediaIndex]:
    out.mkdir()
    stage = Ingest()
    [shard] = stage.shards(job, {})
    context = Context(0, out.parent / "scratch", lambda *_: None, externals)
    stage.setup(job, {}, context)
    stage.run(job, {}, shard, out, context)
    MediaKind.validate(out)
    assert shard == Shard()
    return read_table(MediaFiles, out), read_table(MediaIndex, out)


def site(work: Path, **keys: Any) -> SiteSettings:
    return SiteSettings.model_validate({"name": "test", "work": work / "work", **keys})


def cameras(*paths: Path, **keys: Any) -> list[dict[str, Any]]:
    return [{"id": f"cam{n:02d}", "path": path, **keys} for n, path in enumerate(paths, 1)]


def test_cameras_of_different_length_rate_and_size(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    videos.write_video(folder / "b.mp4", videos.scene(20), fps=10)
    videos.write_video(folder / "a.mp4", videos.scene(45, 160, 128), fps=Fraction(30000, 1001))
    upright = [np.ascontiguousarray(np.rot90(p)) for p in videos.scene(12)]
    videos.write_video(folder / "c.mkv", upright, pts=[0, 40, 90, 95, 130, 300, 301, 340, 400, 450, 500, 600],
                       time_base=Fraction(1, 1000))  # fmt: skip
    (folder / "notes.txt").write_text("not a video")
    files, index = ingest(*site_media(site(tmp_path, videos=folder)), tmp_path / "out")
    assert files.camera.tolist() == ["a", "b", "c"] and files.frames.tolist() == [45, 20, 12]
    assert files.width.tolist() == [160, 128, 96] and files.height.tolist() == [128, 96, 128]
    assert files.offset_source.tolist() == ["given", "none", "none"]
    a, c = index.view("main", "a"), index.view("main", "c")
    np.testing.assert_allclose(a.time_s, np.arange(45) * 1001 / 30000)
    np.testing.assert_allclose(c.time_s[[0, 1, 5, 11]], [0, 0.04, 0.3, 0.6])
    assert a.index.tolist() == list(range(45)) and c.pts.tolist()[:3] == [0, 40, 90]
    assert files.duration_s[1] == pytest.approx(2.0)


def test_given_offsets_put_all_cameras_on_the_clock_of_the_first(tmp_path: Path) -> None:
    one, two = (videos.write_video(tmp_path / f"{n}.mp4", videos.scene(10, seed=n)) for n in (1, 2))
    listed = [{"id": "x", "path": one, "offset_s": 0.5}, {"id": "y", "path": two, "offset_s": 0.75}]
    files, index = ingest(*site_media(site(tmp_path, camera=listed)), tmp_path / "out")
    assert files.offset_s.tolist() == [0.0, 0.25] and files.offset_source.tolist() == ["given", "given"]
    np.testing.assert_allclose(index.view("main", "y").time_s, np.arange(10) / 10 + 0.25)


def test_offsets_are_estimated_from_compressed_video(tmp_path: Path) -> None:
    true = [0.0, 0.3, -0.2]
    paths = [
        videos.write_video(tmp_path / f"{c}.mp4", videos.room(30, 10, offset, c, seed=3), gop=10)
        for c, offset in enumerate(true)
    ]
    job, externals = site_media(site(tmp_path, camera=cameras(*paths)))
    files, index = ingest(job, externals, tmp_path / "out")
    assert files.offset_source.tolist() == ["given", "estimated", "estimated"]
    np.testing.assert_allclose(files.offset_s, true, atol=0.05)
    assert index.view("main", "cam02").time_s[0] == pytest.approx(files.offset_s[1])
    content = json.loads((tmp_path / "out" / "sources.json").read_text())
    assert len(content["clock_pairs"]) >= 2 and content["files"][1]["sha256"] == files.sha256[1]


def test_hard_compression_of_unrelated_rooms_gives_no_offset(tmp_path: Path) -> None:
    paths = [
        videos.write_video(
            tmp_path / f"{c}.mp4", videos.room(30, 10, 0, c, seed=c + 30), gop=8, options={"crf": "40"}
        )
        for c in range(3)
    ]
    files, _ = ingest(*site_media(site(tmp_path, camera=cameras(*paths))), tmp_path / "out")
    assert files.offset_source.tolist() == ["given", "none", "none"] and not files.offset_s.any()


def test_a_moved_folder_keeps_parameters_and_content(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    for n in (1, 2):
        videos.write_video(before / f"cam{n}.mp4", videos.scene(10, seed=n))
    job, externals = site_media(site(tmp_path, videos=before))
    ingest(job, externals, tmp_path / "one")
    shutil.move(before, after)
    moved, places = site_media(site(tmp_path, videos=after))
    assert moved == job and places != externals
    ingest(moved, places, tmp_path / "two")
    for name in ("frames.parquet", "sources.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert str(tmp_path) not in (tmp_path / "one" / "sources.json").read_text()
    assert MediaFiles.FILE in Ingest.volatile


def test_digests_are_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = videos.write_video(tmp_path / "a.mp4", videos.scene(5))
    settings = site(tmp_path, camera=cameras(path))
    first, _ = site_media(settings)
    with monkeypatch.context() as patch:
        patch.setattr("orveil.stages.sources.sha256_of", lambda path: pytest.fail("read again"))
        assert site_media(settings)[0] == first
    videos.write_video(path, videos.scene(6))
    os.utime(path, ns=(0, 12345))
    assert site_media(settings)[0] != first


def test_two_sessions_have_a_clock_each(tmp_path: Path) -> None:
    paths = [videos.write_video(tmp_path / f"{n}.mp4", videos.scene(6, seed=n)) for n in range(2)]
    listed = [{"id": "cam01", "path": p, "session": s} for p, s in zip(paths, ("mon", "tue"), strict=True)]
    files, index = ingest(*site_media(site(tmp_path, camera=listed)), tmp_path / "out")
    assert index.view_keys() == [("mon", "cam01"), ("tue", "cam01")]
    assert files.offset_source.tolist() == ["given", "given"]


def test_only_the_first_frames(tmp_path: Path) -> None:
    path = videos.write_video(tmp_path / "a.mp4", videos.scene(30))
    settings = site(tmp_path, camera=cameras(path), ingest={"max_frames": 7})
    files, index = ingest(*site_media(settings), tmp_path / "out")
    assert files.frames.tolist() == [7] and len(index) == 7


def broken(kind: str, folder: Path) -> Path:
    path = videos.write_video(
        folder / f"{kind}.mp4", videos.scene(60, 320, 240), container={"movflags": "+faststart"}
    )
    if kind == "cut":
        videos.truncate(path, 0.6)
    elif kind == "damaged":
        videos.damage(path, 20)
    elif kind == "text":
        path.write_text("no video")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "missing":
        path.unlink()
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [("cut", "cut off|damaged"), ("damaged", "damaged"), ("text", "cannot read"), ("empty", "empty"),
     ("missing", "No such file")],
)  # fmt: skip
def test_one_bad_video_is_one_clear_error(tmp_path: Path, kind: str, message: str) -> None:
    good = videos.write_video(tmp_path / "good.mp4", videos.scene(10))
    settings = site(tmp_path, camera=cameras(good, broken(kind, tmp_path)))
    with pytest.raises(OrveilError, match=message) as caught:
        ingest(*site_media(settings), tmp_path / "out")
    assert f"{kind}.mp4" in caught.value.where and "main/cam02" in caught.value.where
    assert caught.value.remedy


def test_folder_problems(tmp_path: Path) -> None:
    with pytest.raises(OrveilError, match="No such file"):
        site_media(site(tmp_path, videos=tmp_path / "none"))
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / ".hidden.mp4").write_bytes(b"x")
    with pytest.raises(OrveilError, match="holds no video"):
        site_media(site(tmp_path, videos=empty))
    videos.write_video(empty / "OR 1.mp4", videos.scene(3))
    videos.write_video(empty / "OR_1.mkv", videos.scene(4))
    with pytest.raises(OrveilError, match="both be camera OR_1"):
        site_media(site(tmp_path, videos=empty))


def test_the_same_recording_twice(tmp_path: Path) -> None:
    path = videos.write_video(tmp_path / "a.mp4", videos.scene(5))
    shutil.copy(path, tmp_path / "b.mp4")
    with pytest.raises(OrveilError, match="main/cam01 and main/cam02 have the same video"):
        site_media(site(tmp_path, camera=cameras(path, tmp_path / "b.mp4")))


def test_a_file_that_changes_meanwhile(tmp_path: Path) -> None:
    path = videos.write_video(tmp_path / "a.mp4", videos.scene(5))
    job, externals = site_media(site(tmp_path, camera=cameras(path)))
    videos.write_video(path, videos.scene(9))
    with pytest.raises(OrveilError, match="changed") as caught:
        ingest(job, externals, tmp_path / "out")
    assert "cam01" in caught.value.where
