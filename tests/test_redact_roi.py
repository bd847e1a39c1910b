"""Regions of interest: searched and changed inside, the very same samples outside, in every layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bundles
import numpy as np
import pytest
import videos

from orveil.pipeline.decode import Pictures
from orveil.pipeline.encode import Writer
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.planes import planes_of, steps_of, upright_copy
from orveil.stages.redact import BlurSettings, Observer, blur_video
from orveil.stages.redaction.search import limits_of
from orveil.stages.runtime import Bundle

WIDTH, HEIGHT = 192, 112


def composite(count: int) -> list[videos.Picture]:
    """A room at the left with a red and a blue head; another view at the right with a red head of its own."""
    pictures = videos.scene(count, WIDTH, HEIGHT)
    for number, picture in enumerate(pictures):
        picture[40:60, 20 + number : 36 + number] = (20, 20, 255)
        picture[70:90, 140:160] = (20, 20, 255)
        picture[70:90, 66:80] = (255, 20, 20)
    return pictures


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(bundles.write_bundle(tmp_path_factory.mktemp("bundle")))


def blurred_planes(
    monkeypatch: pytest.MonkeyPatch, source: Path, bundle: Bundle, **settings: Any
) -> tuple[list[list[np.ndarray]], list[np.ndarray]]:
    """The planes of every frame as they go into the encoder, and the regions of every frame."""
    given, regions = [], []
    write = Writer.write_frame

    def watch(self: Writer, frame: Any, pts: int) -> None:
        given.append([plane.copy() for plane in planes_of(frame)])
        write(self, frame, pts)

    monkeypatch.setattr(Writer, "write_frame", watch)
    blur_video(source, source.with_name("out.mp4"), bundle, BlurSettings(**settings),
               observer=Observer(covered=lambda _, r: regions.append(r)))  # fmt: skip
    return given, regions


def original_planes(source: Path, layout: str) -> list[list[np.ndarray]]:
    with Pictures(source) as pictures:
        return [planes_of(upright_copy(p.frame, layout)) for p in pictures if p.frame is not None]


def outside(shape: tuple[int, int], plane: int, steps: list[tuple[int, int]], rois: list[Any]) -> np.ndarray:
    down, across = steps[plane]
    mask = np.ones(shape, bool)
    for x, y, w, h in rois:
        mask[y // down : -(-(y + h) // down), x // across : -(-(x + w) // across)] = False
    return mask


@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("style", ["gaussian", "solid"])
def test_outside_the_regions_every_sample_stays(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, layout: str, style: str
) -> None:
    source = videos.write_video(tmp_path / "in.mkv", composite(8), pixel_format=layout)
    rois = [(0, 30, 60, 50), (60, 60, 40, 40)]
    after, regions = blurred_planes(
        monkeypatch, source, bundle, style=style, roi=tuple(rois), margin=1.0, shape="box", feather=0.3
    )
    for old, new, mine in zip(original_planes(source, layout), after, regions, strict=True):
        steps = steps_of(old)
        for number, (a, b) in enumerate(zip(old, new, strict=True)):
            away = outside(a.shape, number, steps, rois)
            np.testing.assert_array_equal(a[away], b[away])
            assert (a != b).any() and away.mean() > 0.5
        assert len(mine) >= 2, "both heads inside are covered; a grown one reaches into both regions"
        assert (mine[:, 2] <= 100).all(), "the head in the other view is not"


def test_without_regions_the_other_view_is_blurred_too(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = videos.write_video(tmp_path / "in.mkv", composite(4))
    _, regions = blurred_planes(monkeypatch, source, bundle)
    assert all((r[:, 2] > 140).any() for r in regions)


def test_regions_see_small_heads_better_than_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each region is scaled to the detector's size on its own."""
    pictures = videos.scene(3, 768, 448)
    for picture in pictures:
        picture[200:208, 100:106] = (20, 20, 255)
    source = videos.write_video(tmp_path / "in.mkv", pictures, options={"crf": "1"})
    coarse = Bundle.load(bundles.write_bundle(tmp_path / "b", long_side=96))
    _, whole = blurred_planes(monkeypatch, source, coarse)
    _, region = blurred_planes(monkeypatch, source, coarse, roi=((64, 180, 96, 56),), looks_s=0)
    assert [len(r) for r in whole] == [0, 0, 0] and [len(r) for r in region] == [1, 1, 1]
    x0, y0, x1, y1 = region[1][0]
    assert x0 <= 100 and y0 <= 200 and x1 >= 106 and y1 >= 208 and x1 - x0 < 14


def test_regions_are_in_upright_pixels(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = [np.ascontiguousarray(np.rot90(p)) for p in composite(4)]
    source = videos.write_video(tmp_path / "in.mp4", stored, rotation=90)
    _, regions = blurred_planes(monkeypatch, source, bundle, roi=((130, 60, 62, 50),), looks_s=0)
    assert all(len(r) == 1 and r[0, 0] >= 130 and r[0, 1] >= 60 for r in regions)


@pytest.mark.parametrize("roi", [(0, 0, 0, 5), (-2, 0, 10, 10), (180, 0, 20, 20), (0, 100, 20, 20)])
def test_a_region_that_is_not_in_the_picture(tmp_path: Path, bundle: Bundle, roi: Any) -> None:
    source = videos.write_video(tmp_path / "in.mp4", composite(3))
    with pytest.raises(OrveilError, match="not inside the picture") as caught:
        blur_video(source, tmp_path / "out.mp4", bundle, BlurSettings(roi=(roi,)))
    assert "192x112" in caught.value.where and not (tmp_path / "out.mp4").exists()


def test_limits_are_widened_to_whole_chroma_samples() -> None:
    assert limits_of([(3, 5, 8, 8)], 64, 48).tolist() == [[2, 4, 12, 14]]
    assert limits_of([(3, 5, 8, 8)], 64, 48, step=1).tolist() == [[3, 5, 11, 13]]
    assert limits_of([], 63, 47).tolist() == [[0, 0, 63, 47]]
    assert limits_of([(60, 40, 3, 7)], 63, 47).tolist() == [[60, 40, 63, 47]]
