"""Motion: what differs from a camera's usual picture, and how much of a box that is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import test_pseudolabel_states as rooms
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.pipeline.settings import MotionParams
from orveil.pipeline.stage import Context
from orveil.pipeline.tables import read_table
from orveil.pipeline.types import MOTION_GRID, MediaFiles, MediaIndex, Motion, Tracks
from orveil.stages.evidence import weigh
from orveil.stages.motion import FindMotion, moved_share, unusual, usual_picture
from tests import learning_site as site
from tests.videos import write_video

ROWS, COLUMNS = MOTION_GRID
WIDTH, HEIGHT = 640, 480


def walk(frames=12, light=0):
    """A textured wall before which somebody walks from the left to the right."""
    wall = np.random.default_rng(0).integers(60, 120, (40, 60, 3)).astype(np.uint8)
    pictures = np.stack([wall] * frames)
    for at in range(frames):
        pictures[at, 10:30, 4 * at : 4 * at + 8] = 250
    pictures[-1] = np.clip(pictures[-1].astype(int) + light, 0, 255)
    return pictures


@pytest.mark.parametrize("light", [0, 30])
def test_somebody_who_walks_is_unusual_and_the_wall_is_not_even_in_other_light(light) -> None:
    pictures = walk(light=light)
    mask = unusual(pictures[-1], usual_picture(pictures), 20.0)
    here = np.zeros_like(mask)
    here[10:30, 44:52] = True
    assert mask[here].all() and not mask[~here].any()


def masks(cells, frames=range(rooms.FRAMES)) -> Motion:
    index = rooms.media().select(np.array(list(frames)))
    columns = {name: getattr(index, name) for name in ("session", "camera", "index", "pts")}
    return Motion(**columns, moved=np.broadcast_to(cells, (len(index), ROWS, COLUMNS)))


@settings(max_examples=60)
@given(
    st.lists(st.tuples(*[st.floats(-50, 700)] * 2, *[st.floats(0, 500)] * 2), min_size=1, max_size=8),
    st.integers(0, 2**31),
)
def test_a_share_is_the_mean_of_the_cells_below_a_box(boxes, seed) -> None:
    cells = np.random.default_rng(seed).random((ROWS, COLUMNS)) < 0.3
    rows = [(7, (x, y, x + w, y + h), 0.5) for x, y, w, h in boxes]
    tracks = rooms.tracked(rows)
    share = moved_share(masks(cells), rooms.files(), tracks, tracks.xyxy)
    assert ((share >= 0) & (share <= 1)).all()
    scale = np.array([COLUMNS / WIDTH, ROWS / HEIGHT] * 2)
    for box, found in zip(tracks.xyxy, share, strict=True):
        x0, y0, x1, y1 = np.round(box * scale).astype(int)
        if 0 <= x0 < x1 <= COLUMNS and 0 <= y0 < y1 <= ROWS:
            assert found == pytest.approx(cells[y0:y1, x0:x1].mean())


def test_a_frame_without_a_mask_has_no_share() -> None:
    tracks = rooms.tracked(rooms.person())
    share = moved_share(masks(np.ones((ROWS, COLUMNS), bool), range(20)), rooms.files(), tracks, tracks.xyxy)
    assert np.isnan(share[tracks.index >= 20]).all() and (share[tracks.index < 20] == 1).all()
    assert len(moved_share(Motion.empty(), rooms.files(), Tracks.empty(), np.zeros((0, 4)))) == 0


def test_what_moves_is_more_probable_than_what_never_does() -> None:
    tracks = rooms.tracked(rooms.person(score=0.6))
    room = rooms.files(), rooms.media(), tracks, rooms.Associations.empty()
    moved, still = (
        weigh(*room, motion=masks(np.full((ROWS, COLUMNS), value))).log_odds for value in (True, False)
    )
    unknown = weigh(*room).log_odds
    assert (moved > still + 0.5).all() and (unknown > still).all()
    assert weigh(*room, motion=Motion.empty()).log_odds == pytest.approx(unknown)


def test_who_keeps_still_is_doubtful_and_no_background() -> None:
    tracks = rooms.tracked(rooms.person(score=0.45))
    room = rooms.files(), rooms.media(), tracks, rooms.Associations.empty()
    still = masks(np.zeros((ROWS, COLUMNS), np.bool_))
    evidence = weigh(*room, motion=still)
    assert (evidence.lenient > evidence.log_odds + 0.5).all()
    labels = rooms.label_session(*room, rooms.PARAMS, motion=still)
    assert len(labels) == len(tracks) and (labels.state == rooms.IGNORE).all()


def run_stage(folder, name="cam1", keep=slice(None), fps=5.0) -> Motion:
    """The stage on a video in which somebody walks before a wall."""
    pictures = [np.repeat(np.repeat(p, 8, 0), 8, 1) for p in walk(30)]
    folder.mkdir(exist_ok=True)
    reference = site.write_media(folder)
    write_video(folder / f"{name}.mp4", pictures)
    files = read_table(MediaFiles, reference.path).select([0])
    files = replace(files, camera=[name], path=[str(folder / f"{name}.mp4")], width=[480], height=[320])
    index = MediaIndex(
        session=["main"] * 30, camera=[name] * 30, index=range(30), pts=range(30), time_s=np.arange(30) / fps
    ).select(keep)  # fmt: skip
    for table in (files, index):
        site.write_table(table, reference.path)
    stage, inputs = FindMotion(), {"media": reference}
    context = Context(0, folder, lambda *_: None, {})
    stage.setup(MotionParams(), inputs, context)
    (shard,) = stage.shards(MotionParams(), inputs)
    out = folder / "out"
    out.mkdir()
    stage.run(MotionParams(), inputs, shard, out, context)
    stage.produces.validate(out)
    return read_table(Motion, out)


def test_the_stage_sees_who_walks_in_a_real_video(tmp_path) -> None:
    motion = run_stage(tmp_path / "a")
    assert motion.index.tolist() == list(range(30))
    box = np.array([[4 * 8 * 9, 80, 4 * 8 * 9 + 64, 240]] * 30, np.float32) / (480, 320, 480, 320)
    cells = np.round(box * (COLUMNS, ROWS, COLUMNS, ROWS)).astype(int)[0]
    inside = motion.moved[:, cells[1] : cells[3], cells[0] : cells[2]].mean(axis=(1, 2))
    assert inside[9] > 0.9 and inside[20] < 0.1 and motion.moved.mean() < 0.2


def test_few_frames_or_a_second_say_nothing(tmp_path) -> None:
    few = run_stage(tmp_path / "few", keep=slice(0, 5), fps=0.5)
    brief = run_stage(tmp_path / "brief", fps=30.0)
    assert len(few) == 0 and len(brief) == 0
