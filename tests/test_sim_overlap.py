"""How much views overlap, counted from ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from orveil.sim import coco
from orveil.sim.overlap import report, view_overlap

app = Typer()
app.command()(report)


def site(seen: dict[tuple[int, int], dict[int, float]], cameras: int = 3) -> dict[str, Any]:
    """Ground truth of (camera, frame) -> {person: visible fraction}."""
    frames = []
    for (camera, index), people in seen.items():
        records = tuple(
            coco.PersonRecord(pid, "nurse", (0, 0, 10, 90), (0, 0, 10, 90), fraction, 900)
            for pid, fraction in people.items()
        )
        frames.append(
            coco.FrameRecord(
                f"cam{camera:02d}/{index:06d}", camera, index, index / 10, index, 100, 100, records
            )
        )
    assert len({c for c, _ in seen}) == cameras
    return coco.assemble(frames, {})


def test_counts_people_not_boxes() -> None:
    gt = site({(1, 0): {1: 1.0, 2: 0.9}, (2, 0): {1: 0.1}, (3, 0): {1: 0.5}})
    found = view_overlap(gt)
    assert found.moments == 2
    assert np.allclose(found.views, [0, 0.5, 0, 0.5])
    assert found.in_all == 0.5 and found.mean_views == 2.0
    assert np.allclose(found.shared, [[1, 0.5, 0.5], [0.5, 1, 1], [0.5, 1, 1]])


def test_slivers_need_not_count() -> None:
    gt = site({(1, 0): {1: 1.0, 2: 0.9}, (2, 0): {1: 0.1}, (3, 0): {1: 0.5}})
    assert np.allclose(view_overlap(gt, 0.2).views, [0, 0.5, 0.5, 0])


def test_moments_with_a_missing_camera_are_left_out() -> None:
    gt = site({(1, 0): {1: 1.0}, (2, 0): {1: 1.0}, (1, 1): {1: 1.0}}, cameras=2)
    assert view_overlap(gt).moments == 1
    assert view_overlap(gt).in_all == 1.0


def test_clocks_that_are_off_and_gaps_are_allowed_for() -> None:
    gt = site({(1, 0): {1: 1.0}, (1, 1): {2: 1.0}, (2, 0): {2: 1.0}}, cameras=2)
    late = next(image for image in gt["images"] if image["camera_id"] == 2)
    late["time"] = 0.1 + 0.25  # Its first picture was lost, and its clock is a quarter of a second ahead.
    gt["cameras"] = [{"id": 1, "time_offset": 0.0}, {"id": 2, "time_offset": 0.25}]
    assert view_overlap(gt).moments == 1
    assert view_overlap(gt).in_all == 1.0


def test_nobody_there() -> None:
    found = view_overlap(site({(1, 0): {}, (2, 0): {}}, cameras=2))
    assert found.moments == 0 and found.in_all == 0 and not found.shared.any()


def test_command(tmp_path: Path) -> None:
    gt = site({(1, 0): {1: 1.0, 2: 0.9}, (2, 0): {1: 0.1}, (3, 0): {1: 0.5}})
    for name in ("gt.json", "gt.json.gz"):
        (tmp_path / name).mkdir()
        coco.write_gt(gt, tmp_path / name / name)
        result = CliRunner().invoke(app, [str(tmp_path / name)])
        assert result.exit_code == 0
        assert (
            "2 person-moments, 3 cameras, seen by 1: 50 %, 2: 0 %, 3: 50 %; 2.00 on average" in result.output
        )
    assert CliRunner().invoke(app, [str(tmp_path)]).exit_code == 2


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_pairs_are_symmetric(fraction: float) -> None:
    rng = np.random.default_rng(3)
    seen = {
        (c, k): {p: float(rng.random()) for p in range(1, 6) if rng.random() < 0.6}
        for c in (1, 2, 3)
        for k in range(4)
    }
    found = view_overlap(site(seen), fraction)
    assert np.allclose(found.shared, found.shared.T)
    assert found.moments == 0 or found.views.sum() == pytest.approx(1)
