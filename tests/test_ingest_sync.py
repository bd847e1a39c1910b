"""Clock offsets from motion: right where there is evidence, silent where there is none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import videos

from orveil.stages.sync import Motion, MotionMeter, Offset, PairLag, _reconcile, estimate_offsets, pair_lag


def measure(pictures: list[videos.Picture], fps: float, start: float = 0.0) -> Motion:
    meter = MotionMeter()
    for number, picture in enumerate(pictures):
        meter.push(start + number / fps, cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))  # type: ignore[arg-type]
    return meter.motion()


TRUE = [0.0, 0.31, -0.22, 0.08]


@pytest.fixture(scope="module")
def motions() -> list[Motion]:
    rates = [10.0, 10.0, 12.5, 10.0]
    return [
        measure(videos.room(40, fps, offset, camera), fps)
        for camera, (fps, offset) in enumerate(zip(rates, TRUE, strict=True))
    ]


def test_offsets_of_several_cameras_are_found_below_the_frame_interval(motions: list[Motion]) -> None:
    offsets, pairs = estimate_offsets(motions, 0.5)
    assert [o.source for o in offsets] == ["none", "estimated", "estimated", "estimated"]
    np.testing.assert_allclose([o.seconds for o in offsets], TRUE, atol=0.05)
    assert len(pairs) >= 3


def test_a_file_that_starts_counting_late_is_no_offset_error(motions: list[Motion]) -> None:
    late = Motion(motions[1].time_s + 3.0, motions[1].cells, motions[1].kinds)
    shifted = Motion(motions[0].time_s + 3.0, motions[0].cells, motions[0].kinds)
    offsets, _ = estimate_offsets([shifted, late], 0.5)
    assert offsets[1].seconds == pytest.approx(TRUE[1], abs=0.05)


def test_offsets_outside_the_permitted_range_are_not_believed(motions: list[Motion]) -> None:
    offsets, _ = estimate_offsets(motions, 0.1)
    assert offsets[1].source == offsets[2].source == "none"
    assert offsets[1].seconds == offsets[2].seconds == 0.0
    assert all(abs(o.seconds) <= 0.1 for o in offsets)


def test_unrelated_rooms_give_nothing() -> None:
    strangers = [measure(videos.room(40, 10, 0, camera, seed=camera + 10), 10) for camera in range(4)]
    offsets, pairs = estimate_offsets(strangers, 0.5)
    assert offsets == [Offset(0.0, "none")] * 4 and pairs == []


def test_false_alarms_are_rare(motions: list[Motion]) -> None:
    """Rotating one series by more than the range makes every match chance."""
    a, b = motions[0], motions[1]
    found = []
    for turn in range(60, 340, 20):
        moved = Motion(b.time_s, np.roll(b.cells, turn, axis=0), b.kinds)
        lag = pair_lag(a, moved, 0.5)
        assert lag is not None
        found.append(lag[1] <= 1e-3)
    assert sum(found) <= 1


def test_still_pictures_and_short_clips_give_nothing(motions: list[Motion]) -> None:
    still = measure([videos.scene(1)[0]] * 200, 10)
    assert pair_lag(still, motions[0], 0.5) is None
    brief = Motion(motions[1].time_s[:30], motions[1].cells[:30], motions[1].kinds[:30])
    assert pair_lag(motions[0], brief, 0.5) is None
    empty = MotionMeter().motion()
    assert estimate_offsets([motions[0], still, brief, empty], 0.5)[0] == [Offset(0.0, "none")] * 4
    assert estimate_offsets([empty], 0.5)[0] == [Offset(0.0, "none")]


@pytest.mark.parametrize("told", [True, False])
def test_coding_rhythm_shared_by_all_files_is_no_evidence(told: bool) -> None:
    """Some pictures are coded sharper, the same ones in both files, and nothing moves in common."""
    sharp = np.random.default_rng(0).random(400) < 0.25
    made = []
    for camera in range(2):
        pictures = videos.room(40, 10, 0, camera, seed=camera + 20)
        meter = MotionMeter()
        for number, picture in enumerate(pictures):
            grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.int16) + 10 * sharp[number]
            kind = int(sharp[number]) if told else 0
            meter.push(number / 10, np.clip(grey, 0, 255).astype(np.uint8), kind)
        made.append(meter.motion())
    assert (estimate_offsets(made, 0.5)[1] == []) == told


def test_a_contradicting_pair_is_dropped() -> None:
    pairs = [PairLag(0, 1, 0.2, 1e-9), PairLag(1, 2, 0.1, 1e-9), PairLag(0, 2, 0.31, 1e-9),
             PairLag(0, 3, 0.1, 1e-8), PairLag(1, 3, 0.4, 1e-4), PairLag(2, 3, -0.2, 1e-8)]  # fmt: skip
    offsets, kept = _reconcile(4, pairs)
    assert pairs[4] not in kept and len(kept) == 5
    np.testing.assert_allclose([offsets[c] for c in (1, 2, 3)], [0.2, 0.305, 0.1], atol=0.02)


def test_a_group_without_the_reference_gets_no_offset() -> None:
    assert _reconcile(4, [PairLag(2, 3, 0.2, 1e-9)]) == ({}, [])
