"""The simulated operating room without pictures: options, layouts, plans of cameras, movement of staff."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import orveil.sim
from orveil.pipeline.errors import OrveilError
from orveil.sim.dataset import DatasetOptions, parse_seeds, parse_sizes
from orveil.sim.filmed import Site
from orveil.sim.or_cameras import LAYOUTS, or_cameras
from orveil.sim.or_room import OperatingRoom, X, Y
from orveil.sim.or_site import or_site, theatre
from orveil.sim.site import build_site, parse_cameras, parse_offsets
from orveil.sim.site_options import SiteOptions, plan_cameras
from orveil.sim.staff_motion import MARGIN

NO_GRAPHICS = """
import importlib, pkgutil, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mujoco", "OpenGL"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import orveil.sim
for module in pkgutil.iter_modules(orveil.sim.__path__):
    importlib.import_module("orveil.sim." + module.name)
print("all imported")
"""


@pytest.fixture(scope="module")
def site() -> Site:
    return or_site(SiteOptions(seed=3, seconds=6))


@pytest.fixture(scope="module")
def room() -> OperatingRoom:
    return theatre(3)


def test_every_module_imports_without_mujoco_and_opengl() -> None:
    done = subprocess.run([sys.executable, "-c", NO_GRAPHICS], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "all imported", done.stderr
    assert len(list(Path(orveil.sim.__path__[0]).glob("*.py"))) > 20


@pytest.mark.parametrize(
    "change",
    [
        {"layout": "round"}, {"drops": "some"}, {"domain": "sea"}, {"cameras": 0}, {"people": -1},
        {"fps": 0.0}, {"width": 641}, {"offsets": (9.0,)},
    ],
)  # fmt: skip
def test_impossible_options_are_refused_with_a_remedy(change: dict) -> None:
    with pytest.raises(OrveilError) as caught:
        SiteOptions(**change)
    assert caught.value.remedy


def test_same_seed_same_site_and_another_seed_another() -> None:
    options = SiteOptions(seed=5, seconds=1, people=2)
    a, b, c = or_site(options), or_site(options), or_site(SiteOptions(seed=6, seconds=1, people=2))
    assert a.scene.geoms == b.scene.geoms
    assert a.scene.assets == b.scene.assets
    for t in (0.0, 1.3):
        for pid, (points, turns) in a.poses(t).items():
            assert np.array_equal(points, b.poses(t)[pid][0])
            assert np.array_equal(turns, b.poses(t)[pid][1])
    assert a.scene.geoms != c.scene.geoms


def test_length_of_the_recording_does_not_change_the_room(site: Site) -> None:
    a, b = site, or_site(SiteOptions(seed=3, seconds=1, people=1))
    assert a.scene.geoms == b.scene.geoms
    assert [c.position.tolist() for c in a.pinholes] == [c.position.tolist() for c in b.pinholes]


def test_staff_keep_apart_and_out_of_obstacles(site: Site) -> None:
    floor = site.motion.floor
    tracks = [t[:, :2] for t in site.motion.tracks.values()]
    for i, a in enumerate(tracks):
        for b in tracks[i + 1 :]:
            assert np.hypot(*(a - b).T).min() > 0.28
        clear = np.array([floor.clearance(x, y) for x, y in a[::5]])
        assert clear.min() > 0.1
        steps = np.hypot(*np.diff(a, axis=0).T) * 30
        assert steps.max() < 1.6


def test_everybody_has_a_pose_before_and_after_the_recording(site: Site) -> None:
    for t in (-MARGIN + 0.5, 0.0, 6 + MARGIN - 0.5):
        poses = site.poses(t)
        assert sorted(poses) == [p.pid for p in site.people]
        assert all(np.isfinite(x).all() for pose in poses.values() for x in pose)


def test_patient_lies_still_on_the_table(site: Site, room: OperatingRoom) -> None:
    patient = site.people[-1]
    assert patient.role == "patient"
    points = site.poses(0.0)[patient.pid][0]
    assert np.array_equal(points, site.poses(4.0)[patient.pid][0])
    assert points[:, 2].min() > room.table_height - 0.3
    assert np.ptp(points[:5, 2]) < 0.15


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cameras_hang_inside_the_room_and_differ(room: OperatingRoom, layout: str) -> None:
    cameras = or_cameras(room, np.random.default_rng(4), layout, [(960, 540)] * 4)
    assert [c.id for c in cameras] == [1, 2, 3, 4]
    for c in cameras:
        assert abs(c.position[0]) < X and abs(c.position[1]) < Y and 2 < c.position[2] < 3.2
    places = {tuple(c.position.round(2)) for c in cameras}
    assert len(places) == 4


def shared_area(room: OperatingRoom, layout: str, seed: int) -> float:
    """Share of floor points seen by anybody that all cameras see."""
    cameras = or_cameras(room, np.random.default_rng(seed), layout, [(960, 540)] * 4)
    grid = np.stack(np.meshgrid(np.linspace(-X, X, 30), np.linspace(-Y, Y, 30)), -1).reshape(-1, 2)
    points = np.column_stack([grid, np.full(len(grid), 1.2)])
    seen = np.zeros((len(cameras), len(points)), bool)
    for k, c in enumerate(cameras):
        uv, z = c.project(points)
        seen[k] = (z > 0) & (uv > 0).all(1) & (uv < [c.width, c.height]).all(1)
    return float(seen.all(0).sum() / seen.any(0).sum())


def test_narrow_and_split_layouts_share_less_than_wide(room: OperatingRoom) -> None:
    wide, partial, narrow, split = (
        np.mean([shared_area(room, name, s) for s in range(6)]) for name in LAYOUTS
    )
    assert wide > partial > narrow
    assert split < 0.7 * wide


def test_everyday_site_has_moving_people_and_no_patient() -> None:
    options = SiteOptions(seed=2, domain="source", people=3, seconds=8, cameras=7)
    site = build_site(options)
    assert [p.role for p in site.people] == ["person"] * 3
    assert sorted(site.tints) == [1, 2, 3]
    moved = [np.ptp(track[:, :2], axis=0).max() for track in site.motion.tracks.values()]
    assert max(moved) > 0.5
    assert len({tuple(c.position.round(2)) for c in site.pinholes}) == 7


def test_nobody_is_there_when_nobody_is_asked_for() -> None:
    assert or_site(SiteOptions(people=0, seconds=1)).people == []


def test_mixed_cameras_differ_in_size_and_rate() -> None:
    a, b, *_ = plan_cameras(SiteOptions(mixed=True))
    assert (a.size, a.fps) == ((960, 540), Fraction(10))
    assert (b.size, b.fps) == ((640, 360), Fraction(15))


@pytest.mark.parametrize("seed", range(5))
def test_drop_outs_leave_first_and_last_picture(seed: int) -> None:
    plans = plan_cameras(SiteOptions(seed=seed, drops="gaps", seconds=8))
    assert [bool(p.missing) for p in plans] == [False, True, False, True]
    for p in plans:
        assert p.missing <= set(range(1, p.slots(8) - 1))
        assert p.pictures(8, "gaps") == p.slots(8) - len(p.missing)
        assert p.pictures(8, "black") == p.slots(8)


def test_offsets_and_lenses_come_only_when_asked_for() -> None:
    plain = plan_cameras(SiteOptions())
    assert {p.offset for p in plain} == {0.0} and all(p.lens.identity for p in plain)
    drawn = plan_cameras(SiteOptions(offsets=None, distortion=True))
    assert drawn[0].offset == 0.0 and len({p.offset for p in drawn}) > 1
    assert not any(p.lens.identity for p in drawn)
    given_ = plan_cameras(SiteOptions(offsets=(0.0, 0.25)))
    assert [p.offset for p in given_] == [0.0, 0.25, 0.0, 0.0]


def test_lists_on_the_command_line() -> None:
    assert parse_offsets("0,0.1,-0.2", 4) == (0.0, 0.1, -0.2)
    assert parse_offsets("", 4) == () and parse_offsets("auto", 4) is None
    assert (
        parse_cameras("all", 3) == (1, 2, 3) and parse_cameras("2", 3) == (2,) and parse_cameras("", 3) == ()
    )
    assert parse_seeds("3,7,10-12") == (3, 7, 10, 11, 12)
    assert parse_sizes("512x288,288x512") == ((512, 288), (288, 512))


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (lambda t: parse_offsets(t, 4), "a,b"), (lambda t: parse_offsets(t, 1), "0,1"),
        (lambda t: parse_cameras(t, 3), "4"), (lambda t: parse_cameras(t, 3), "x"),
        (parse_seeds, "1-"), (parse_seeds, "a"), (parse_sizes, "512"),
    ],
)  # fmt: skip
def test_nonsense_on_the_command_line_is_refused(parse: object, text: str) -> None:
    with pytest.raises(OrveilError):
        parse(text)  # type: ignore[operator]


def test_pictures_are_spread_evenly_over_the_seeds() -> None:
    options = DatasetOptions(tuple(range(7)), 25, ((64, 64),))
    counts = [options.count(i) for i in range(7)]
    assert sum(counts) == 25 and max(counts) - min(counts) <= 1
