"""Writing video: exact times, no metadata, sound kept packet by packet, nothing half-written."""

from __future__ import annotations

import resource
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import videos

from orveil.pipeline.encode import Writer, output_format
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.media import frames, probe

CASES = {
    "constant": (Fraction(1, 30), list(range(30))),
    "ntsc": (Fraction(1001, 30000), list(range(30))),
    "late start": (Fraction(1, 90000), [7200 + 3003 * k for k in range(30)]),
    "variable": (Fraction(1, 1000), [0, 1, 40, 77, 78, 500, 501, 640, 1900, 1901, 1902, 5000]),
    "sparse": (Fraction(1, 12800), [512 * k for k in range(30)]),
}


@pytest.mark.parametrize("case", CASES)
def test_every_timestamp_comes_back(tmp_path: Path, case: str) -> None:
    base, ticks = CASES[case]
    with Writer(tmp_path / "o.mp4", 128, 96, base) as writer:
        for pts, picture in zip(ticks, videos.scene(len(ticks)), strict=True):
            writer.write(picture, pts)
    seen = probe(tmp_path / "o.mp4")
    read = list(frames(tmp_path / "o.mp4"))
    assert [pts * seen.time_base for _, pts, _ in read] == [pts * base for pts in ticks]
    assert [videos.read_stamp(picture) for _, _, picture in read] == list(range(len(ticks)))


def write(path: Path, **options: object) -> Path:
    with Writer(path, 128, 96, Fraction(1, 10), **options) as writer:  # type: ignore[arg-type]
        for pts, picture in enumerate(videos.scene(20)):
            writer.write(picture, pts)
    return path


def test_same_pictures_give_the_same_bytes_and_no_name_of_anything(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.mp4"), write(tmp_path / "b.mp4")
    assert first.read_bytes() == second.read_bytes()
    assert b"Lavf" not in first.read_bytes() and b"a.mp4" not in first.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def sound_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as source:
        packets = source.demux(source.streams.audio[0])
        return [(p.pts * p.time_base, bytes(p)) for p in packets if p.size and p.pts is not None]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_is_copied_packet_by_packet(tmp_path: Path, suffix: str) -> None:
    source = videos.write_video(tmp_path / f"s{suffix}", videos.scene(20), audio=True,
                                metadata={"title": "Mr Example, left knee"})  # fmt: skip
    target = write(tmp_path / "t.mp4", audio=source)
    before, after = sound_packets(source), sound_packets(target)
    assert [data for _, data in before] == [data for _, data in after] and len(before) > 20
    shifts = [float(a - b) for (a, _), (b, _) in zip(after, before, strict=True)]
    assert np.abs(shifts).max() <= 1e-3  # Matroska counts milliseconds
    assert b"Example" not in target.read_bytes()
    assert not probe(write(tmp_path / "u.mp4")).audio


def test_an_error_inside_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Writer(tmp_path / "o.mp4", 128, 96, Fraction(1, 10)) as writer:
        writer.write(videos.scene(1)[0], 0)
        raise RuntimeError("the program dies here")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_no_more_is_an_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "o.mp4"
    target.write_bytes(b"old")
    noise = np.random.default_rng(0).integers(0, 256, (40, 96, 128, 3), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.raises(OrveilError) as caught, Writer(target, 128, 96, Fraction(1, 10)) as writer:
            for pts, picture in enumerate(noise):
                writer.write(picture, pts)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "o.mp4" in caught.value.where and caught.value.remedy
    assert target.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["o.mp4"]


def test_verification_refuses_a_file_that_differs(tmp_path: Path) -> None:
    with pytest.raises(OrveilError, match="failed its check"), \
            Writer(tmp_path / "o.mp4", 128, 96, Fraction(1, 10)) as writer:  # fmt: skip
        for pts, picture in enumerate(videos.scene(5)):
            writer.write(picture, pts)
        writer.pts.append(5)
    assert list(tmp_path.iterdir()) == []


def test_times_before_zero_are_refused(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "o.mp4", 128, 96, Fraction(1, 10))
    with pytest.raises(OrveilError, match="before time 0"), writer:
        writer.write(videos.scene(1)[0], -3)
    assert list(tmp_path.iterdir()) == []


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OrveilError) as caught:
        Writer(tmp_path / "none" / "o.mp4", 128, 96, Fraction(1, 10))
    assert "none" in caught.value.where


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [("yuv420p", 64, "yuv420p"), ("yuvj420p", 64, "yuv420p"), ("yuv422p10le", 64, "yuv422p10le"),
     ("nv12", 64, "yuv420p"), ("rgb24", 64, "yuv444p"), ("yuv420p", 63, "yuv444p"), ("gray", 64, "yuv444p"),
     ("p010le", 64, "yuv420p10le"), ("yuyv422", 64, "yuv422p")],
)  # fmt: skip
def test_output_keeps_depth_and_chroma(name: str, width: int, expected: str) -> None:
    assert output_format(av.VideoFrame(width, 48, name)) == expected
