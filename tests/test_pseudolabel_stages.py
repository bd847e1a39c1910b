"""The three recovery stages one after another on disk, as an executor runs them."""

from __future__ import annotations

import numpy as np
from test_pseudolabel_states import all_moved

from orveil.pipeline.kinds import AssociationsKind, PseudoLabelsKind, TracksKind
from orveil.pipeline.settings import AssociateParams, PseudoLabelParams, TrackParams
from orveil.pipeline.stage import Context, InputRef, Shard
from orveil.pipeline.tables import read_table, write_table
from orveil.pipeline.types import (
    Associations,
    Detections,
    FrameLabels,
    MediaFiles,
    MediaIndex,
    PseudoLabels,
    Tracks,
)
from orveil.stages.associate import Associate
from orveil.stages.pseudolabel import PseudoLabel
from orveil.stages.track import Track

CAMERAS, FRAMES = ("left", "right"), 30


def media(folder):
    n = len(CAMERAS)
    files = MediaFiles(
        session=["main"] * n, camera=list(CAMERAS), path=[""] * n, sha256=[""] * n, width=[640] * n,
        height=[480] * n, rotation=[0] * n, time_base_num=[1] * n, time_base_den=[1000] * n,
        frames=[FRAMES] * n, duration_s=[3.0] * n, offset_s=[0.0] * n, offset_source=["given"] * n,
    )  # fmt: skip
    number = np.tile(np.arange(FRAMES), n)
    frames = MediaIndex(
        session=["main"] * len(number), camera=np.repeat(CAMERAS, FRAMES), index=number, pts=number * 100,
        time_s=number / 10,
    )  # fmt: skip
    folder.mkdir()
    write_table(files, folder)
    write_table(frames, folder)
    return InputRef("media", "m", ((Shard(), folder),))


def candidates(folder, people):
    """Two chunks per camera; a person and its head in every frame, or nobody."""
    shards = []
    for camera in CAMERAS:
        for start, stop in ((0, 12), (12, FRAMES)):
            shard = Shard("main", camera, start, stop)
            frame = np.arange(start, stop) if people else np.zeros(0, int)
            n = 2 * len(frame)
            left = 100.0 + 3 * np.repeat(frame, 2)
            tall = np.tile([200.0, 30.0], len(frame))
            table = Detections(
                session=["main"] * n, camera=[camera] * n, index=np.repeat(frame, 2),
                pts=np.repeat(frame, 2) * 100, det_id=2 * start + np.arange(n),
                xyxy=np.stack([left, np.full(n, 90.0), left + tall / 3, 90.0 + tall], axis=1),
                score=np.full(n, 0.85), label=np.tile([0, 1], len(frame)),
            )  # fmt: skip
            path = folder / shard.name.replace("/", "-")
            path.mkdir(parents=True)
            write_table(table, path)
            shards.append((shard, path))
    return InputRef("candidates", "c", tuple(shards))


def run(stage, params, inputs, folder, node):
    """All shards of a stage, as one more input."""
    context = Context(seed=3, scratch=folder, progress=lambda done, total, unit: None)
    stage.setup(params, inputs, context)
    shards = []
    for shard in stage.shards(params, inputs):
        out = folder / node / shard.name.replace("/", "-")
        out.mkdir(parents=True)
        stage.run(params, inputs, shard, out, context)
        stage.produces.validate(out)
        shards.append((shard, out))
    return InputRef(node, node, tuple(shards))


def chain(folder, people):
    inputs = {"media": media(folder / "media"), "candidates": candidates(folder / "candidates", people)}
    write_table(all_moved(read_table(MediaIndex, folder / "media")), folder)
    inputs["motion"] = InputRef("motion", "v", ((Shard(), folder),))
    inputs["tracks"] = run(Track(), TrackParams(), inputs, folder, "tracks")
    inputs["associations"] = run(Associate(), AssociateParams(), inputs, folder, "associations")
    params = PseudoLabelParams(frames=8, round=2)
    inputs["labels"] = run(PseudoLabel(), params, inputs, folder, "labels")
    return inputs


def test_stages_follow_each_other_on_disk(tmp_path):
    done = chain(tmp_path, people=True)
    assert (Track.produces, Associate.produces, PseudoLabel.produces) == (
        TracksKind, AssociationsKind, PseudoLabelsKind,
    )  # fmt: skip
    assert [shard for shard, _ in done["tracks"].shards] == [Shard("main", c) for c in CAMERAS]
    tracks = read_table(Tracks, done["tracks"].shards[0][1])
    assert len(tracks) == FRAMES and tracks.index.tolist() == list(range(FRAMES)), "heads are not tracked"
    assert len(read_table(Associations, done["associations"].path)) == 2
    labels = read_table(PseudoLabels, done["labels"].path)
    assert len(labels) == 2 * FRAMES and set(labels.round.tolist()) == {2}
    keys = set(zip(labels.camera.tolist(), labels.label_id.tolist(), strict=True))
    assert len(keys) == len(labels)
    frames = read_table(FrameLabels, done["labels"].path)
    assert len(frames) == 2 * FRAMES and (frames.split == "train").sum() == 8


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    one, other = (chain_bytes(tmp_path / name) for name in ("one", "other"))
    assert one == other


def chain_bytes(folder):
    folder.mkdir()
    done = chain(folder, people=True)
    return {
        (node, path.name): path.read_bytes()
        for node in ("tracks", "associations", "labels")
        for _, directory in done[node].shards
        for path in sorted(directory.iterdir())
    }


def test_nobody_in_any_camera(tmp_path):
    done = chain(tmp_path, people=False)
    assert len(read_table(PseudoLabels, done["labels"].path)) == 0
    assert len(read_table(Associations, done["associations"].path)) == 0
    assert (read_table(FrameLabels, done["labels"].path).split == "train").sum() == 8
