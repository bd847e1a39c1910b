"""Memory does not grow with the recording."""

from __future__ import annotations

import resource
from pathlib import Path

import bundles
import pytest
import videos

from orveil.stages.redact import BlurSettings, blur_video
from orveil.stages.redaction.engine import QUEUE_BYTES, frame_bytes
from orveil.stages.redaction.look import Look
from orveil.stages.runtime import Bundle

STATM = Path("/proc/self/statm")


def resident() -> float:
    """Megabytes of this process in memory."""
    return int(STATM.read_text().split()[1]) * resource.getpagesize() / 1e6


@pytest.mark.skipif(not STATM.exists(), reason="no /proc")
def test_memory_is_flat_over_three_thousand_frames(tmp_path: Path) -> None:
    pictures = videos.scene(100, 96, 64)
    for number, picture in enumerate(pictures):
        picture[30:44, number % 70 : number % 70 + 12] = (20, 20, 255)
    one = videos.write_video(tmp_path / "one.mp4", pictures, fps=30, gop=25)
    source = videos.repeat(one, tmp_path / "in.mkv", 30)
    bundle = Bundle.load(bundles.write_bundle(tmp_path / "bundle", long_side=64))
    seen: dict[int, float] = {}
    log = blur_video(source, tmp_path / "out.mp4", bundle, BlurSettings(every=3),
                     lambda done, *_: seen.setdefault(done, resident()))  # fmt: skip
    assert log.frames["in"] == log.frames["out"] == 3000 and log.boxes["detected"] > 500
    later = [size for done, size in seen.items() if done > 500]
    assert len(later) > 200 and max(later) - seen[500] < 12, "megabytes"


def test_queues_hold_fewer_frames_where_frames_are_larger(tmp_path: Path) -> None:
    small = Look.at(videos.write_video(tmp_path / "a.mp4", videos.scene(2)))
    deep = Look.at(videos.write_video(tmp_path / "b.mkv", videos.scene(2), pixel_format="yuv444p10le"))
    assert frame_bytes(small) == 128 * 96 * 3 // 2 and frame_bytes(deep) == 128 * 96 * 6
    assert 2 <= QUEUE_BYTES // (1920 * 1080 * 3 // 2) < 8
