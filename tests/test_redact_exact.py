"""A blurred copy keeps the recording (layout, times, duration, sound) and nothing of its origin."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import bundles
import numpy as np
import pytest
import videos

from orveil.pipeline.media import frames, probe
from orveil.stages.redact import BlurSettings, blur_video
from orveil.stages.runtime import Bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(bundles.write_bundle(tmp_path_factory.mktemp("bundle")))


def scene(count: int, width: int = 192, height: int = 112) -> list[videos.Picture]:
    """A red head before a grey wall: at full chroma, edges of other colours could look red to the model."""
    wall = np.random.default_rng(2).integers(60, 140, (height // 8 + 1, width // 8 + 1, 1), dtype=np.uint8)
    wall = wall.repeat(8, axis=0).repeat(8, axis=1)[:height, :width].repeat(3, axis=2)
    pictures = [videos.stamp(wall.copy(), number) for number in range(count)]
    for picture in pictures:
        picture[40:70, 30:60] = (20, 20, 255)
    return pictures


LAYOUTS = ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_and_depth_are_kept_and_the_rest_of_the_picture_is_close(
    tmp_path: Path, bundle: Bundle, layout: str
) -> None:
    source = videos.write_video(tmp_path / "a.mkv", scene(6), pixel_format=layout)
    log = blur_video(source, tmp_path / "o.mp4", bundle, BlurSettings(style="solid", crf=4))
    assert probe(tmp_path / "o.mp4").pixel_format == layout and log.frames["with_boxes"] == 6
    for (_, _, before), (_, _, after) in zip(frames(source), frames(tmp_path / "o.mp4"), strict=True):
        assert after[45:65, 35:55].max() < 40, "the head is gone"
        away = np.abs(before[:, 100:].astype(int) - after[:, 100:])
        assert away.mean() < 2 and np.percentile(away, 99) < 12


@pytest.mark.parametrize(("width", "height"), [(193, 111), (192, 111), (193, 112)])
@pytest.mark.parametrize("rotation", [0, 90])
def test_odd_sizes_and_rotation(
    tmp_path: Path, bundle: Bundle, width: int, height: int, rotation: int
) -> None:
    stored = [np.ascontiguousarray(np.rot90(p, rotation // 90)) for p in scene(5, width, height)]
    source = videos.write_video(tmp_path / "a.mp4", stored, pixel_format="yuv444p", rotation=rotation)
    log = blur_video(source, tmp_path / "o.mp4", bundle, BlurSettings(style="solid"))
    seen = probe(tmp_path / "o.mp4")
    assert (seen.width, seen.height, seen.rotation) == (width, height, 0) and log.input[
        "rotation"
    ] == rotation
    for index, _, after in frames(tmp_path / "o.mp4"):
        assert after[45:65, 35:55].max() < 40 and videos.read_stamp(after) == index


TIMES = {
    "constant": (Fraction(1, 25), list(range(12))),
    "ntsc": (Fraction(1001, 30000), list(range(12))),
    "variable": (Fraction(1, 1000), [0, 33, 70, 71, 200, 260, 300, 301, 500, 900, 901, 2000]),
    "late start": (Fraction(1, 90000), [7200 + 3003 * k for k in range(12)]),
}


RATES = {"constant": 25, "ntsc": Fraction(30000, 1001), "variable": 10, "late start": Fraction(30000, 1001)}


@pytest.mark.parametrize("case", TIMES)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_times_and_duration(tmp_path: Path, bundle: Bundle, case: str, suffix: str) -> None:
    base, ticks = TIMES[case]
    source = videos.write_video(
        tmp_path / f"a{suffix}", scene(12), pts=ticks, time_base=base, fps=RATES[case]
    )
    blur_video(source, tmp_path / "o.mp4", bundle, BlurSettings())
    before, after = probe(source), probe(tmp_path / "o.mp4")
    stamps = [[pts * p.time_base for _, pts, _ in frames(p.path)] for p in (before, after)]
    assert stamps[0] == stamps[1] and before.packets == after.packets == 12
    last = float(stamps[1][-1] - stamps[1][-2])
    assert abs(before.duration_s - after.duration_s) <= max(last, 0.05)


def sound(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [(p.pts * p.time_base, bytes(p)) for p in packets if p.size and p.pts is not None]


@pytest.mark.parametrize("every", [1, 3])
def test_sound_that_is_kept_stays_in_time(tmp_path: Path, bundle: Bundle, every: int) -> None:
    source = videos.write_video(tmp_path / "a.mp4", scene(30), audio=True)
    log = blur_video(source, tmp_path / "o.mp4", bundle, BlurSettings(audio="keep", every=every))
    before, after = sound(source), sound(tmp_path / "o.mp4")
    assert before == after and len(after) > 20 and log.output["audio"] == "kept"
    with av.open(str(tmp_path / "o.mp4")) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    with av.open(str(source)) as container:
        assert samples == sum(frame.samples for frame in container.decode(audio=0))


def test_sound_is_dropped_by_default(tmp_path: Path, bundle: Bundle) -> None:
    source = videos.write_video(tmp_path / "a.mp4", scene(5), audio=True)
    log = blur_video(source, tmp_path / "o.mp4", bundle, BlurSettings())
    assert not probe(tmp_path / "o.mp4").audio and log.output["audio"] == "dropped"


def test_tags_of_the_device_are_lost(tmp_path: Path, bundle: Bundle) -> None:
    tags = {"title": "Mr Example", "creation_time": "2024-05-06T07:08:09Z", "location": "+48.5+007.7/",
            "com.apple.quicktime.model": "Camera 7000", "com.apple.quicktime.make": "Maker"}  # fmt: skip
    source = videos.write_video(tmp_path / "a.mov", scene(5), metadata=tags, audio=True,
                                container={"movflags": "use_metadata_tags"})  # fmt: skip
    assert all(word in source.read_bytes() for word in (b"Mr Example", b"Camera 7000", b"+48.5"))
    blur_video(source, tmp_path / "o.mp4", bundle, BlurSettings(audio="keep"))
    data = (tmp_path / "o.mp4").read_bytes()
    assert not any(word in data for word in (b"Example", b"Camera", b"Maker", b"48.5", b"2024", b"Lavf"))
    creation = data[data.index(b"mvhd") + 8 : data.index(b"mvhd") + 16]
    assert creation == bytes(8), "seconds of creation and of change are 0"
