"""Second looks find who lies or bends; places where somebody keeps still stay covered."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import pytest
import videos
from hypothesis import given
from hypothesis import strategies as st

from orveil.pipeline.decode import Pictures
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.geometry import containment
from orveil.stages.redact import BlurSettings, blur_video
from orveil.stages.redaction import engine
from orveil.stages.redaction.log import Observer
from orveil.stages.redaction.looks import Glance, Looks, SmallGrey
from orveil.stages.redaction.search import UPRIGHT, Search, View, turned_back
from orveil.stages.redaction.still import FINDS, FORGET_S, MOST, Places, Still
from orveil.stages.redaction.temporal import Covered
from orveil.stages.runtime import Boxes, Bundle, ModelError

HEAD = np.array([[80, 60, 110, 100]], np.float32)
NOTHING = np.zeros((0, 4), np.float32)


@st.composite
def turned_boxes(draw: st.DrawFn) -> tuple[int, int, tuple[int, int, int, int], int]:
    width, height = draw(st.integers(4, 40)), draw(st.integers(4, 40))
    x0, y0 = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
    box = x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    return width, height, box, draw(st.integers(0, 3))


@given(turned_boxes())
def test_boxes_of_turned_pictures_come_back(given: tuple[int, int, tuple[int, int, int, int], int]) -> None:
    width, height, (x0, y0, x1, y1), turns = given
    picture = np.zeros((height, width), bool)
    picture[y0:y1, x0:x1] = True
    rows, columns = np.nonzero(np.rot90(picture, turns))
    seen = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
    np.testing.assert_array_equal(turned_back(seen, turns, width, height), [[x0, y0, x1, y1]])


def grey(seed: int = 0) -> np.ndarray:
    """A picture of 320x180, rough everywhere; another seed, another picture."""
    rough = np.random.default_rng(seed).integers(0, 255, (36, 64)).astype(np.uint8)
    return np.kron(rough, np.ones((5, 5), np.uint8))


def glance(time: float, picture: np.ndarray, score: float = 0.9) -> Glance:
    return Glance(time, picture, HEAD, HEAD, np.array([score], np.float32))


def covered_times(places: Places, pictures: list[np.ndarray], step: float = 0.1) -> list[int]:
    """Frames that are covered, each asked about two frames late."""
    found = []
    for k, picture in enumerate(pictures):
        places.see(k * step, picture)
        if k >= 2 and len(places.at((k - 2) * step)):
            found.append(k - 2)
    return found


def test_a_place_is_covered_while_the_picture_is_the_same_whatever_the_light() -> None:
    places = Places(scale=1.0)
    there, gone = grey(1), grey(2)
    places.add(glance(0.0, there))
    darker = (there * 0.6 + 12).astype(np.uint8)
    pictures = [gone] * 10 + [there] * 10 + [darker] * 10 + [gone] * 30 + [there] * 10
    found = covered_times(places, pictures)
    assert set(range(8, 68)) - set(found) == set(range(39, 58)), "covered on for half of the time, then not"
    assert min(found) == 8, "HOLD_S before the picture is that of the find"


def test_one_doubtful_find_is_not_enough() -> None:
    picture = grey()
    single, twice = Places(1.0), Places(1.0)
    for number in range(FINDS):
        twice.add(glance(0.1 * number, picture, 0.3))
    single.add(glance(0.0, picture, 0.3))
    assert covered_times(single, [picture] * 5) == [] and covered_times(twice, [picture] * 5) == [0, 1, 2]


def test_finds_of_one_place_are_covered_together() -> None:
    places, picture = Places(1.0), grey()
    places.add(glance(0.0, picture))
    moved = HEAD + np.array([6, 0, 6, 0], np.float32)
    places.add(Glance(0.1, picture, moved, moved, np.array([0.9], np.float32)))
    places.see(0.2, picture)
    np.testing.assert_array_equal(places.at(0.2), [[80, 60, 116, 100]])


def test_places_are_forgotten_and_bounded() -> None:
    places, picture = Places(1.0), grey(1)
    for number in range(3 * MOST):
        corner = np.array([[number % 64 * 4, number // 64 * 20]], np.float32)
        box = np.concatenate([corner, corner + 12], axis=1).astype(np.float32)
        places.add(Glance(0.0, picture, box, box, np.array([0.9], np.float32)))
    assert len(places._places) == MOST
    places.see(FORGET_S + 1, np.full_like(picture, 90))
    assert len(places._places) == 0


class Looker:
    """Stands in for a detector that finds the head in pictures on their side only."""

    def __init__(self, until: float = 1e9) -> None:
        self.views: list[View] = []
        self.detector = self
        self.bundle: Any = self
        self.thresholds, self.labels, self.until = {"head": 0.3}, ("head",), until

    def __call__(self, frame: Any, view: View = UPRIGHT) -> Boxes:
        self.views.append(view)
        if len(self.views) > self.until:
            raise ModelError("tired")
        xyxy = HEAD if view.turns == 1 else NOTHING
        return Boxes(xyxy, np.full(len(xyxy), 0.8, np.float32), np.zeros(len(xyxy), np.int64))


class Frame:
    width, height = 320, 180

    def __init__(self, picture: np.ndarray) -> None:
        self.picture = picture


class Small(SmallGrey):
    def __init__(self) -> None:
        self.scale = 1.0

    def __call__(self, frame: Any) -> np.ndarray:
        return frame.picture


@pytest.mark.parametrize(("ahead", "first"), [(0.0, 38), (5.0, 0)])
def test_what_is_found_later_counts_where_pictures_are_looked_at_ahead(ahead: float, first: int) -> None:
    looker = Looker()
    looks = Looks(looker, "head", 1.0)  # type: ignore[arg-type]
    looks._last, looks._number = -1.0, 3  # not the first picture: the turns come one by one
    still = Still(looks, Small(), ahead, "head")
    found, waiting = [], list(range(60))
    for k in range(60):
        still.push(k / 10, Frame(grey()))
        while waiting and (still.knows(waiting[0] / 10)):
            found.append(len(still.added(Covered(waiting[0], NOTHING, ()), waiting.pop(0) / 10).xyxy))
    still.finish()
    found += [len(still.added(Covered(k, NOTHING, ()), k / 10).xyxy) for k in waiting]
    assert [v.turns for v in looker.views] == [3, 0, 1, 2, 3, 0]
    assert found.index(1) == (first if ahead else 18) and set(found[20:]) == {1}


def test_a_place_adds_nothing_where_the_head_is_covered_already() -> None:
    still = Still(Looks(Looker(), "head", 1.0), Small(), 0.0, "head")  # type: ignore[arg-type]
    still.push(0.0, Frame(grey()))
    still.finish()
    alone = still.added(Covered(0, NOTHING, ()), 0.0)
    assert alone.sources == ("still",) and alone.origins[0].label == "head"
    known = Covered(0, HEAD + 1, (alone.origins[0],))
    assert still.added(known, 0.0).xyxy.tolist() == known.xyxy.tolist()
    part = Covered(0, np.array([[90, 70, 96, 76]], np.float32), (alone.origins[0],))
    assert len(still.added(part, 0.0).xyxy) == 2, "a small box inside the place does not cover it"


def test_a_body_lies_where_its_head_does() -> None:
    still = Still(Looks(Looker(), "body", 1.0), Small(), 0.0, "person")  # type: ignore[arg-type]
    still.push(0.0, Frame(grey()))
    still.finish()
    [box] = still.added(Covered(0, NOTHING, ()), 0.0).xyxy
    # Turned by a quarter counterclockwise the head stands: before that, its body lies to its left.
    assert box[0] < -100 and box[2] < 120 and box[1] < 60 and box[3] > 100


def test_looks_that_fail_leave_the_plain_search_alone() -> None:
    looks = Looks(Looker(until=2), "head", 0.1)  # type: ignore[arg-type]
    still = Still(looks, Small(), 0.0, "head")
    for k in range(10):
        still.push(k / 10, Frame(grey()))
    still.finish()
    assert looks.failed == "tired" and len(still.added(Covered(0, NOTHING, ()), 0.0).xyxy) == 1


def lying(count: int) -> list[np.ndarray]:
    pictures = videos.scene(count)
    for picture in pictures:
        picture[40:60, 60:90] = (20, 20, 255)
    return pictures


def blind_when_upright(self: Search, frame: Any, view: View = UPRIGHT) -> Boxes:
    found = SEARCH(self, frame, view)
    keep = np.full(len(found.score), view.turns == 1)
    return Boxes(found.xyxy[keep], found.score[keep], found.label[keep])


SEARCH = Search.__call__


@pytest.mark.parametrize("looks_s", [0.2, 0.0])
def test_who_is_found_in_turned_pictures_only_is_covered_in_every_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks_s: float
) -> None:
    monkeypatch.setattr(Search, "__call__", blind_when_upright)
    source = videos.write_video(tmp_path / "in.mp4", lying(12))
    bundle, regions = Bundle.load(bundles.write_bundle(tmp_path / "b")), {}
    observer = Observer(covered=lambda index, found: regions.update({index: found}))
    settings = BlurSettings(looks_s=looks_s, every=2)
    log = blur_video(source, tmp_path / "out.mp4", bundle, settings, observer=observer)
    head = np.array([[60, 40, 90, 60]], np.float32)
    hidden = [k for k, found in regions.items() if len(found) and containment(head, found).max() > 0.95]
    assert hidden == (list(range(12)) if looks_s else []) and sorted(regions) == list(range(12))
    assert (log.boxes["still"] > 0) == bool(looks_s) and log.complete and log.frames["inferred"] == 6


def test_a_file_that_changes_between_the_two_readings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    class Shifted(Pictures):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            opened.append(self)
            self.place = len(opened)

        def __iter__(self) -> Iterator[Any]:
            pictures = list(super().__iter__())
            yield from pictures if self.place == 1 else pictures[1:]

    monkeypatch.setattr(engine, "Pictures", Shifted)
    source = videos.write_video(tmp_path / "in.mp4", lying(8))
    bundle = Bundle.load(bundles.write_bundle(tmp_path / "b"))
    with pytest.raises(OrveilError, match="changed while it was read"):
        blur_video(source, tmp_path / "out.mp4", bundle, BlurSettings())
    assert len(opened) == 2 and not (tmp_path / "out.mp4").exists()


HEAP = """
import ctypes, numpy as np, sys
from orveil.stages.redaction.heap import give_pictures_back
if not give_pictures_back(): print(0); sys.exit()
resident = lambda: int(open('/proc/self/statm').read().split()[1]) * 4096 >> 20
np.ones(24 << 20, np.uint8)  # freed: glibc would now keep blocks up to this size in its heap
before, kept = resident(), []
pictures = []
for _ in range(20):
    pictures.append(np.ones(3 << 20, np.uint8)); kept.append(np.ones(3000, np.uint8))
del pictures
print(resident() - before)
"""


def test_memory_of_pictures_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", HEAP], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 12
