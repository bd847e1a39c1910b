"""Long recordings in pieces: every frame in one piece, bounded reading, ids that differ, the same labels."""

from __future__ import annotations

import numpy as np
import pytest
import test_pseudolabel_states as rooms

from orveil.pipeline.settings import AssociateParams, PseudoLabelParams, TrackParams
from orveil.pipeline.stage import Context, InputRef, Shard
from orveil.pipeline.tables import read_table, read_tables, write_table
from orveil.pipeline.types import Associations, Detections, FrameLabels, MediaIndex, PseudoLabels, Tracks
from orveil.stages import chunks
from orveil.stages.associate import Associate
from orveil.stages.chunks import Recordings, candidates_of, of_chunk, unique_ids
from orveil.stages.pseudolabel import PseudoLabel
from orveil.stages.track import Track

CAMERAS = ("cam1", "cam2")


@pytest.fixture
def media(tmp_path):
    (tmp_path / "media").mkdir()
    write_table(rooms.files(CAMERAS), tmp_path / "media")
    write_table(rooms.media(CAMERAS), tmp_path / "media")
    return InputRef("media", "m", ((Shard(), tmp_path / "media"),))


def run(stage, params, inputs, folder, name):
    context = Context(seed=3, scratch=folder, progress=lambda done, total, unit: None)
    stage.setup(params, inputs, context)
    done = []
    for shard in stage.shards(params, inputs):
        out = folder / name / shard.name.replace("/", "-")
        out.mkdir(parents=True)
        stage.run(params, inputs, shard, out, context)
        done.append((shard, out))
    return InputRef(name, name, tuple(done))


def whole_path(media, folder):
    folder.mkdir()
    shards = []
    for camera in CAMERAS:
        rows = rooms.person(x=60.0, score=0.9, spread=0.02)
        rows = [r for r in rows if not 27 <= r[0] < 32] + rooms.person(x=400.0, score=0.85, speed=-20.0)
        (folder / camera).mkdir()
        write_table(rooms.detections(rows, camera), folder / camera)
        shards.append((Shard("main", camera, 0, rooms.FRAMES), folder / camera))
    write_table(rooms.all_moved(rooms.media(CAMERAS)), folder)
    inputs = {"media": media, "candidates": InputRef("candidates", "c", tuple(shards))}
    inputs["motion"] = InputRef("motion", "v", ((Shard(), folder),))
    inputs["tracks"] = run(Track(), TrackParams(), inputs, folder, "tracks")
    inputs["associations"] = run(Associate(), AssociateParams(), inputs, folder, "associations")
    inputs["labels"] = run(PseudoLabel(), PseudoLabelParams(frames=16), inputs, folder, "labels")
    return inputs


def test_short_recordings_are_not_cut(media):
    recordings = Recordings(media)
    assert recordings.sessions() == ["main"]
    assert recordings.shards("main") == [Shard("main")]
    assert recordings.shards("main", "cam2") == [Shard("main", "cam2")]
    assert len(recordings.frames(Shard("main"))) == 2 * rooms.FRAMES


def test_every_frame_is_in_exactly_one_piece(media, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_S", 2)
    recordings = Recordings(media)
    pieces = recordings.shards("main")
    assert [(s.start, s.stop) for s in pieces] == [(0, 2), (2, 4), (4, 6)]
    assert sum(recordings.share(s) for s in pieces) == pytest.approx(1.0)
    together = MediaIndex.concat([recordings.frames(s) for s in pieces])
    keys = set(zip(together.camera.tolist(), together.index.tolist(), strict=True))
    assert len(keys) == len(together) == 2 * rooms.FRAMES
    around = recordings.frames(Shard("main", "cam1", 2, 4), 0.5)
    assert (around.index.min(), around.index.max()) == (15, 44)


def test_a_clock_that_starts_before_zero_loses_no_frame(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_S", 2)
    number = np.arange(61)
    table = MediaIndex(
        session=["s"] * 61, camera=["c"] * 61, index=number, pts=number, time_s=number / 10 - 0.25
    )
    write_table(table, tmp_path)
    recordings = Recordings(InputRef("media", "m", ((Shard(), tmp_path),)))
    assert sum(len(recordings.frames(s)) for s in recordings.shards("s")) == 61


def test_only_what_concerns_a_piece_is_read(tmp_path):
    shards = []
    for start in (0, 20, 40):
        rows = [r for r in rooms.person() if start <= r[0] < start + 20]
        (tmp_path / str(start)).mkdir()
        write_table(rooms.detections(rows), tmp_path / str(start))
        shards.append((Shard("main", "cam1", start, start + 20), tmp_path / str(start)))
    (tmp_path / "0" / Detections.FILE).unlink()  # reading it would fail
    frames = rooms.media()
    found = candidates_of(
        InputRef("c", "c", tuple(shards)), frames.select((frames.index >= 25) & (frames.index < 45))
    )
    assert found.index.tolist() == list(range(25, 45))
    pieces = of_chunk(InputRef("t", "t", tuple(shards)), Shard("main", "", 20, 30))
    assert [s.start for s, _ in pieces.shards] == [20]
    assert len(of_chunk(InputRef("t", "t", tuple(shards)), Shard("main")).shards) == 3


def test_ids_of_pieces_differ(monkeypatch):
    ids = np.array([-1, 0, 5])
    first, second = unique_ids(ids, Shard("s", "c", 0, 300)), unique_ids(ids, Shard("s", "c", 300, 600))
    assert first.tolist() == [-1, 0, 5] and second[0] == -1 and not set(first[1:]) & set(second[1:])


def test_pieces_give_the_labels_of_the_whole(media, tmp_path, monkeypatch):
    whole = whole_path(media, tmp_path / "whole")
    monkeypatch.setattr(chunks, "CHUNK_S", 3)
    cut = whole_path(media, tmp_path / "cut")
    assert len(cut["tracks"].shards) == 4 and len(cut["labels"].shards) == 2

    def boxes(inputs):
        labels = read_tables(PseudoLabels, inputs["labels"].paths())
        keys = set(zip(labels.camera.tolist(), labels.label_id.tolist(), strict=True))
        assert len(keys) == len(labels)
        return {
            (c, i, tuple(np.round(b).tolist()))
            for c, i, b in zip(labels.camera.tolist(), labels.index.tolist(), labels.xyxy, strict=True)
        }

    # The gap across the cut (frames 27 to 31) is filled on both sides of it.
    one, other = boxes(whole), boxes(cut)
    assert len(one) == 4 * rooms.FRAMES and len(one & other) >= 0.97 * len(one)
    tracks = [read_table(Tracks, path) for _, path in cut["tracks"].shards]
    seen = [set(t.track_id.tolist()) for t in tracks if t.camera[0] == "cam1"]
    assert not seen[0] & seen[1]
    assert read_tables(Associations, cut["associations"].paths()).person_id.min() >= 0
    chosen = read_tables(FrameLabels, cut["labels"].paths())
    assert len(chosen) == 2 * rooms.FRAMES and 14 <= (chosen.split == "train").sum() <= 16
