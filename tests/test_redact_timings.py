"""The timing table: ten sections, the graph's own share of them, and sums that hold together."""

from __future__ import annotations

import json
from pathlib import Path

import bundles
import numpy as np
import pytest
import videos

from orveil.stages.redact import BlurSettings, blur_video
from orveil.stages.redaction.clock import SECTIONS, Clock, timing_table
from orveil.stages.redaction.profile import RUNS, operator_times
from orveil.stages.runtime import Bundle


def scene(count: int) -> list[videos.Picture]:
    pictures = videos.scene(count)
    for picture in pictures:
        picture[40:60, 40:60] = (20, 20, 255)
    return pictures


@pytest.mark.parametrize("roi", [(), ((0, 0, 128, 96),)])
def test_every_section_of_every_frame(tmp_path: Path, roi: tuple[tuple[int, int, int, int], ...]) -> None:
    source = videos.write_video(tmp_path / "a.mp4", scene(21))
    bundle = Bundle.load(bundles.write_bundle(tmp_path / "b"))
    settings = BlurSettings(every=2, roi=roi)
    log = blur_video(source, tmp_path / "o.mp4", bundle, settings, timings=True)
    assert set(log.spread) <= set(SECTIONS)
    counts = {name: row["frames"] for name, row in log.spread.items()}
    assert counts["start"] == counts["blur"] == counts["save"] == 21
    assert counts["preprocessing"] == counts["inference"] == counts["score filter"] == 11
    assert all(0 <= row["p50"] <= row["p95"] for row in log.spread.values())
    assert log.timings["total"] >= log.timings["verify"] > 0 and log.input["seconds"] == pytest.approx(2.1)
    table = timing_table(log.spread, log.timings["total"], log.input["seconds"], 21)
    assert all(any(line.startswith(name) for line in table.splitlines()) for name in SECTIONS)
    assert "real-time factor" in table


def test_without_asking_nothing_is_kept_per_frame(tmp_path: Path) -> None:
    source = videos.write_video(tmp_path / "a.mp4", scene(5))
    log = blur_video(
        source, tmp_path / "o.mp4", Bundle.load(bundles.write_bundle(tmp_path / "b")), BlurSettings()
    )
    assert log.spread == {} and log.timings["inference"] > 0


def test_spread_is_the_median_and_the_95th_percentile() -> None:
    clock = Clock(spread=True)
    for number in range(101):
        clock.add("blur", number / 1000)
    row = clock.spread()["blur"]
    assert row["p50"] == pytest.approx(50, abs=1e-3) and row["p95"] == pytest.approx(95, abs=1e-3)
    assert clock.seconds() == {"blur": pytest.approx(5.05)}


def event(name: str, kind: str, begin: int, length: int) -> dict[str, object]:
    return {"cat": "Node", "name": name, "ts": begin, "dur": length, "args": {"op_name": kind}}


def test_operators_belong_to_network_decoding_or_suppression(tmp_path: Path) -> None:
    kinds = [("Cast", 5), ("Conv", 60), ("Sigmoid", 3), ("Conv", 20), ("Concat", 7), ("NonMaxSuppression", 4),
             ("Gather", 2)]  # fmt: skip
    begins = np.cumsum([100, *(length for _, length in kinds)])
    events: list[dict[str, object]] = [
        {"cat": "Session", "name": "model_run", "ts": 100, "dur": 120, "args": {}}
    ]
    events += [event(k, k, int(b), length) for (k, length), b in zip(kinds, begins, strict=False)]
    (tmp_path / "t.json").write_text(json.dumps(events[::-1]))
    times = operator_times(tmp_path / "t.json")
    assert times == {
        "inference": [pytest.approx(107e-6)], "decode of outputs": [pytest.approx(7e-6)],
        "NMS": [pytest.approx(6e-6)],
    }  # fmt: skip
    assert RUNS > 10
