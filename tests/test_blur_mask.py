"""Masks: what is inside is gone, what is outside is untouched, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orveil.stages.redaction.mask import CELLS, cover_planes, draw_mask, fill_planes, regions_px

LAYOUTS = {"420": (2, 2), "422": (1, 2), "444": (1, 1)}


def planes(layout: str, bits: int, width: int = 96, height: int = 64) -> list[np.ndarray]:
    down, across = LAYOUTS[layout]
    generator = np.random.default_rng(0)
    kind, top = (np.uint8, 256) if bits == 8 else (np.uint16, 1024)
    shapes = [(height, width), (height // down, width // across), (height // down, width // across)]
    return [generator.integers(0, top, shape).astype(kind) for shape in shapes]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("style", ["gaussian", "mosaic", "solid"])
@pytest.mark.parametrize("shape", ["ellipse", "box"])
def test_only_the_masked_samples_change(layout: str, bits: int, style: str, shape: str) -> None:
    before, after = planes(layout, bits), planes(layout, bits)
    regions = np.array([[10.3, 8.7, 51.2, 49.9], [70, 40, 96, 64]], np.float32)
    cover_planes(after, regions, style, shape, bits)
    mask = draw_mask(regions, shape, 96, 64)
    assert 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(after[0][~mask], before[0][~mask])
    down, across = LAYOUTS[layout]
    coarse = mask.reshape(64 // down, down, 96 // across, across).any(axis=(1, 3))
    for old, new in zip(before[1:], after[1:], strict=True):
        np.testing.assert_array_equal(new[~coarse], old[~coarse])
        assert (new[coarse] != old[coarse]).mean() > 0.9
    assert (after[0][mask] != before[0][mask]).mean() > 0.9


@pytest.mark.parametrize("cells", [CELLS, 6])
@pytest.mark.parametrize("style", ["gaussian", "mosaic"])
def test_few_averages_survive(style: str, cells: int) -> None:
    """From the blurred region alone, no more than its cells can be told: fine detail is gone."""
    texture = np.zeros((200, 200), np.uint8)
    texture[::8] = 255  # period of 8 px: 25 cycles per region
    after = [texture.copy()]
    cover_planes(after, np.array([[0, 0, 200, 200]], np.float32), style, "box", cells=cells)
    rows = after[0].astype(float).mean(axis=1)
    spectrum = np.abs(np.fft.rfft(rows - rows.mean()))
    assert spectrum[cells + 1 :].max() < 0.02 * np.abs(np.fft.rfft(texture[:, 0].astype(float)))[25]
    assert len(np.unique(after[0])) <= (cells + 1) ** 2 if style == "mosaic" else after[0].std() < 5


boxes = st.tuples(st.floats(-30, 110), st.floats(-30, 80), st.floats(0, 60), st.floats(0, 60)).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)


@settings(max_examples=60, deadline=None)
@example([[0.0, 0.0, 1.0, 1.0]], 0.0, "ellipse")
@given(st.lists(boxes, max_size=4), st.floats(0, 1), st.sampled_from(["ellipse", "box"]))
def test_any_box_may_be_drawn(xyxy: list[list[float]], margin: float, shape: str) -> None:
    regions = regions_px(np.array(xyxy, np.float32), margin, 96, 64)
    assert ((regions[:, :2] >= 0) & (regions[:, 2:] <= [96, 64])).all()
    mask = draw_mask(regions, shape, 96, 64)
    assert mask.shape == (64, 96)
    for x0, y0, x1, y1 in regions:
        assert mask[min(int((y0 + y1) / 2), 63), min(int((x0 + x1) / 2), 95)]
    after = planes("420", 8)
    cover_planes(after, regions, "gaussian", shape)
    np.testing.assert_array_equal(after[0][~mask], planes("420", 8)[0][~mask])


def test_box_covers_every_pixel_it_touches() -> None:
    mask = draw_mask(np.array([[2.5, 3.0, 4.0, 4.2]]), "box", 8, 8)
    assert np.argwhere(mask).tolist() == [[3, 2], [3, 3], [4, 2], [4, 3]]


def test_ellipse_with_margin_holds_the_ellipse_in_the_box() -> None:
    box = np.array([[20, 10, 60, 50]], np.float32)
    inner = draw_mask(box, "ellipse", 96, 64)
    outer = draw_mask(regions_px(box, 0.15, 96, 64), "ellipse", 96, 64)
    assert (outer | ~inner).all() and outer.sum() > 1.5 * inner.sum()


def test_whole_frame_is_black() -> None:
    for bits, levels in ((8, (16, 128, 128)), (10, (64, 512, 512))):
        frame = planes("420", bits)
        fill_planes(frame, bits)
        assert [set(np.unique(p).tolist()) for p in frame] == [{level} for level in levels]


def test_no_region_changes_nothing() -> None:
    after = planes("420", 8)
    cover_planes(after, np.zeros((0, 4), np.float32), "solid", "box")
    assert all((a == b).all() for a, b in zip(after, planes("420", 8), strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", ["ellipse", "box"])
def test_feathering_fades_inside_the_margin_and_leaves_the_rest_alone(layout: str, shape: str) -> None:
    inner, outer = np.array([[30, 20, 60, 48]], np.float32), np.array([[24, 14, 66, 54]], np.float32)
    hard, soft = planes(layout, 8), planes(layout, 8)
    cover_planes(soft, inner, "solid", shape, soft=outer)
    cover_planes(hard, inner, "solid", shape)
    before = planes(layout, 8)
    full, reach = draw_mask(inner, shape, 96, 64), draw_mask(outer, shape, 96, 64)
    assert (soft[0][full] == 16).all()
    np.testing.assert_array_equal(soft[0][~reach], before[0][~reach])
    ring = reach & ~full
    distance = np.abs(soft[0][ring].astype(int) - 16), np.abs(before[0][ring].astype(int) - 16)
    assert (distance[0] <= distance[1]).all(), "between what was there and the fill, never beyond"
    assert 0.2 < distance[0].sum() / distance[1].sum() < 0.9


def test_a_face_cut_by_the_picture_has_no_round_corners_there() -> None:
    """The visible half of a head at the border is covered up to the border."""
    regions = regions_px(np.array([[-20, 10, 20, 50]], np.float32), 0.0, 96, 64)
    mask = draw_mask(regions, "ellipse", 96, 64)
    y, x = np.mgrid[:64, :96] + 0.5
    head = ((x - 0) / 20) ** 2 + ((y - 30) / 20) ** 2 <= 1
    assert mask[head].all() and not mask[:, 21:].any()
    corner = draw_mask(regions_px(np.array([[80, 50, 120, 90]], np.float32), 0.0, 96, 64), "ellipse", 96, 64)
    assert corner[63, 95] and not corner[50, 80]


def test_limits_cut_regions_and_one_box_may_reach_into_two() -> None:
    limits = np.array([[0, 0, 40, 64], [40, 0, 60, 64]], np.float32)
    regions = regions_px(np.array([[30, 10, 50, 30], [70, 10, 90, 30]], np.float32), 0.0, 96, 64, limits)
    assert regions.tolist() == [[30, 10, 40, 30], [40, 10, 50, 30]]
    after = planes("420", 8)
    cover_planes(after, regions, "solid", "ellipse", limits=limits)
    assert (after[0][15:25, 38:42] == 16).all(), "no gap where the two meet"


@pytest.mark.parametrize("cells", [2, 6, 24])
def test_fewer_cells_leave_less(cells: int) -> None:
    texture = np.random.default_rng(3).integers(0, 256, (120, 120), dtype=np.uint8)
    after = [texture.copy()]
    cover_planes(after, np.array([[0, 0, 120, 120]], np.float32), "mosaic", "box", cells=cells)
    assert len(np.unique(after[0].reshape(-1, 120), axis=0)) == cells
