"""Three states, sources, one row per person, frame choice and the COCO copy, on hand-made recordings."""

from __future__ import annotations

import json

import numpy as np
import pytest

from orveil.pipeline.kinds import PseudoLabelsKind
from orveil.pipeline.settings import PseudoLabelParams, TrackParams
from orveil.pipeline.tables import write_table
from orveil.pipeline.types import (
    IGNORE,
    MOTION_GRID,
    POSITIVE,
    Associations,
    Detections,
    MediaFiles,
    MediaIndex,
    Motion,
    PseudoLabels,
    Tracks,
)
from orveil.stages.coco import write_coco
from orveil.stages.pseudolabel import label_session
from orveil.stages.selection import choose_frames
from orveil.stages.track import track_camera

FRAMES, FPS = 60, 10.0
PARAMS = PseudoLabelParams()
RNG = np.random.default_rng(0)


def media(cameras=("cam1",), frames=FRAMES):
    parts = []
    for name in cameras:
        number = np.arange(frames)
        parts.append(
            MediaIndex(
                session=["main"] * frames,
                camera=[name] * frames,
                index=number,
                pts=number * 100,
                time_s=number / FPS,
            )
        )
    return MediaIndex.concat(parts)


def all_moved(index):
    """Motion in every cell of every frame."""
    columns = {name: getattr(index, name) for name in ("session", "camera", "index", "pts")}
    return Motion(**columns, moved=np.ones((len(index), *MOTION_GRID), np.bool_))


def files(cameras=("cam1",)):
    n = len(cameras)
    ones, text = [1] * n, [""] * n
    return MediaFiles(
        session=["main"] * n, camera=list(cameras), path=text, sha256=text, width=[640] * n, height=[480] * n,
        rotation=[0] * n, time_base_num=ones, time_base_den=[1000] * n, frames=[FRAMES] * n,
        duration_s=[6.0] * n, offset_s=[0.0] * n, offset_source=["given"] * n,
    )  # fmt: skip


def person(
    x=100.0, y=80.0, speed=20.0, score=0.8, sway=2.0, spread=0.12, w=60.0, h=170.0, frames=range(FRAMES)
):
    """(frame, box, score) rows of one person who walks or sways."""
    rows = []
    for f in range(FRAMES):
        left = x + speed * f / FPS + sway * np.sin(f / 3)
        value = float(np.clip(score + spread * np.sin(f / 2.3), 0.11, 0.99))
        rows.append((f, (left, y, left + 60.0, y + 170.0), value))
    return rows


def detections(rows, camera="cam1"):
    rows = sorted(rows, key=lambda r: r[0])
    n = len(rows)
    return Detections(
        session=["main"] * n,
        camera=[camera] * n,
        index=[r[0] for r in rows],
        pts=[r[0] * 100 for r in rows],
        det_id=np.arange(n),
        xyxy=[r[1] for r in rows],
        score=[r[2] for r in rows],
        label=np.zeros(n, int),
    )


def tracked(rows, camera="cam1"):
    return track_camera(media((camera,)), detections(rows, camera), TrackParams())


def labels_near(labels, x, y, frame=None):
    """Rows whose box contains the point."""
    box = labels.xyxy
    inside = (box[:, 0] <= x) & (x <= box[:, 2]) & (box[:, 1] <= y) & (y <= box[:, 3])
    return labels.select(inside & ((labels.index == frame) if frame is not None else True))


def test_a_confident_person_is_positive_in_every_frame():
    labels = label_session(files(), media(), tracked(person()), Associations.empty(), PARAMS)
    assert len(labels) == FRAMES and (labels.state == POSITIVE).all()
    assert (labels.weight == labels.score).all() and (labels.score > 0.8).all()
    assert set(labels.source.tolist()) == {"detected"} and labels.round.tolist() == [1] * FRAMES
    assert (labels.person_id == -1).all()


def test_somebody_standing_still_with_good_scores_is_positive():
    rows = person(speed=0.0, sway=0.3, score=0.75, spread=0.03)
    labels = label_session(files(), media(), tracked(rows), Associations.empty(), PARAMS)
    assert (labels.state == POSITIVE).mean() > 0.9 and len(labels) == FRAMES


def test_a_steady_low_decoy_never_becomes_positive():
    decoy = person(x=420.0, speed=0.0, sway=0.3, score=0.42, spread=0.02)
    labels = label_session(files(), media(), tracked(person() + decoy), Associations.empty(), PARAMS)
    assert len(labels_near(labels.select(labels.state == POSITIVE), 450, 160)) == 0
    assert len(labels_near(labels.select(labels.state == POSITIVE), 0, 0)) == 0
    assert (labels.state == POSITIVE).sum() == FRAMES


def test_a_confident_track_carries_its_low_boxes_and_its_gap():
    rows = [(f, b, 0.25 if 20 <= f < 26 else s) for f, b, s in person(score=0.9, spread=0.02)]
    rows = [r for r in rows if not 40 <= r[0] < 43]
    labels = label_session(files(), media(), tracked(rows), Associations.empty(), PARAMS)
    at = {int(f): k for k, f in enumerate(labels.index)}
    low, filled, high = at[22], at[41], at[10]
    assert labels.state[[low, filled, high]].tolist() == [POSITIVE] * 3
    assert labels.source[low] == labels.source[filled] == "temporal" and labels.source[high] == "detected"
    assert labels.weight[filled] < labels.weight[high] and labels.weight[low] < labels.weight[high]


def test_doubtful_is_ignored_and_clutter_is_background():
    doubtful = person(x=300.0, score=0.3, spread=0.05)
    clutter = [(f, (550.0, 400.0, 600.0, 440.0), 0.11) for f in (5, 25, 45)]
    rows = person() + person(x=200.0, y=290.0, score=0.85) + doubtful + clutter
    labels = label_session(files(), media(), tracked(rows), Associations.empty(), PARAMS)
    maybe = labels_near(labels, 360, 100, frame=15)
    assert len(maybe) == 1 and maybe.state[0] == IGNORE and maybe.weight[0] == 0
    assert len(labels_near(labels, 575, 420)) == 0


def test_a_double_box_is_one_person_and_neighbours_are_two():
    twin = [(f, (b[0] + 6, b[1] + 4, b[2] + 6, b[3] + 2), 0.55) for f, b, _ in person()]
    beside = person(x=175.0, score=0.8)
    labels = label_session(files(), media(), tracked(person() + twin + beside), Associations.empty(), PARAMS)
    per_frame = np.bincount(labels.index, minlength=FRAMES)
    assert (per_frame == 2).all()


def test_overlapping_people_matched_to_different_persons_stay_two():
    front = [(f, (b[0] + 22, b[1] + 5, b[2] + 22, b[3] + 10), 0.7) for f, b, _ in person()]
    tracks = tracked(person() + front)
    ids = sorted(set(tracks.track_id.tolist()))
    assert len(ids) == 2

    def matched(persons):
        n = len(persons)
        return Associations(
            session=["main"] * n, camera=["cam1"] * n, track_id=ids, person_id=persons,
            probability=[0.95] * n, margin=[3.0] * n, views=[2] * n, support=[50] * n,
        )  # fmt: skip

    wide = [(f, (b[0] + 12, b[1] + 2, b[2] + 12, b[3] + 4), 0.7) for f, b, _ in person()]
    close = tracked(person() + wide)
    assert (np.bincount(label_session(files(), media(), close, matched([1, 2]), PARAMS).index) == 2).all()
    assert (np.bincount(label_session(files(), media(), close, matched([1, 1]), PARAMS).index) == 1).all()


def test_a_match_in_another_view_lifts_a_doubtful_track():
    tracks, rows = [], {"cam1": person(score=0.3, spread=0.03) + person(x=400.0, score=0.3, spread=0.03)}
    rows["cam1"] += person(y=290.0, score=0.9) + [
        (f, (20.0 + 7 * k, 300.0, 40.0 + 7 * k, 340.0), 0.12) for k, f in enumerate(range(0, 60, 3))
    ]
    rows["cam2"] = person(score=0.85)
    tracks = Tracks.concat([tracked(r, c) for c, r in rows.items()])

    def track_at(camera, x, y):
        hit = (tracks.camera == camera) & (tracks.index == 0) & (np.abs(tracks.xyxy[:, 0] - x) < 4)
        return int(tracks.track_id[hit & (np.abs(tracks.xyxy[:, 1] - y) < 4)][0])

    seen = [("cam1", track_at("cam1", 100, 80)), ("cam2", track_at("cam2", 100, 80)),
            ("cam1", track_at("cam1", 100, 290))]  # fmt: skip
    match = Associations(
        session=["main"] * 3, camera=[c for c, _ in seen], track_id=[t for _, t in seen],
        person_id=[7, 7, 8], probability=[0.95] * 3, margin=[3.0] * 3, views=[2] * 3, support=[50] * 3,
    )  # fmt: skip
    room = files(("cam1", "cam2")), media(("cam1", "cam2"))
    with_views = label_session(*room, tracks, match, PARAMS)
    without = label_session(*room, tracks, Associations.empty(), PARAMS)

    def probability(labels, x):
        rows = labels_near(labels.select((labels.camera == "cam1") & (labels.index == 30)), x, 100)
        return float(rows.score[0]) if len(rows) else 0.0

    assert probability(with_views, 190) > probability(without, 190) + 0.03
    assert probability(with_views, 190) > probability(with_views, 490) + 0.1
    lifted = labels_near(with_views.select(with_views.camera == "cam1"), 190, 100, frame=30)
    assert lifted.person_id[0] == 7


def test_expected_share_of_errors_stays_below_the_target():
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(12):
        rows += person(x=rng.uniform(0, 550), y=rng.uniform(0, 300), speed=rng.uniform(-15, 15),
                       score=rng.uniform(0.15, 0.9))  # fmt: skip
    for rate in (0.02, 0.05, 0.2):
        params = PARAMS.model_copy(update={"false_discovery_rate": rate})
        labels = label_session(files(), media(), tracked(rows), Associations.empty(), params)
        positive = labels.state == POSITIVE
        assert (1 - labels.score[positive]).mean() <= rate + 1e-6
        assert (labels.weight[~positive] == 0).all()


def test_nobody_visible(tmp_path):
    empty = label_session(files(), media(), Tracks.empty(), Associations.empty(), PARAMS)
    assert len(empty) == 0
    chosen = choose_frames(media(), empty, 12, 0.15, 0)
    assert len(chosen) == FRAMES and (chosen.split == "train").sum() == 12
    write_table(empty, tmp_path)
    write_table(chosen, tmp_path)
    write_coco(files(), media(), empty, tmp_path)
    PseudoLabelsKind.validate(tmp_path)
    assert json.loads((tmp_path / "labels.coco.json").read_text())["annotations"] == []


@pytest.mark.parametrize(("budget", "holdout"), [(8, 0.15), (40, 0.3), (500, 0.15), (8, 0.0)])
def test_frames_are_spread_over_cameras_and_time(budget, holdout):
    cameras = ("cam1", "cam2", "cam3")
    index = media(cameras, 200)
    chosen = choose_frames(index, PseudoLabels.empty(), budget, holdout, 3)
    train = chosen.select(chosen.split == "train")
    held = chosen.select(chosen.split == "holdout")
    assert len(train) <= budget and set(train.camera.tolist()) == set(cameras)
    assert len(train) == budget or budget > 400
    per_camera = np.unique(train.camera, return_counts=True)[1]
    assert per_camera.max() - per_camera.min() <= 1
    assert (len(held) > 0) == (holdout > 0)
    assert train.index.max() > 140 and train.index.min() < 60
    # Whole blocks of time are held out: no training frame lies right beside a held-out one of any camera.
    if len(held) and budget < 100:
        blocks = set(held.index.tolist())
        assert not blocks & set(train.index.tolist())
    assert (train.weight > 0).all()
    assert (chosen.weight[chosen.split == "unused"] == 0).all()


def test_frames_with_recovered_people_are_preferred():
    rows = [(f, b, 0.2 if 18 <= f < 23 else s) for f, b, s in person(score=0.9, spread=0.02)]
    labels = label_session(files(), media(), tracked(rows), Associations.empty(), PARAMS)
    assert (labels.source[np.isin(labels.index, range(18, 23))] == "temporal").all()
    chosen = choose_frames(media(), labels, 6, 0.0, 0)
    train = chosen.index[chosen.split == "train"]
    assert len(set(train.tolist()) & set(range(18, 23))) >= 1
    other = chosen.weight[(chosen.split == "train") & ~np.isin(chosen.index, range(18, 23))]
    assert chosen.weight[chosen.index == 20][0] >= other.max() or 20 not in train


def test_coco_copy_holds_every_label(tmp_path):
    labels = label_session(files(), media(), tracked(person()), Associations.empty(), PARAMS)
    document = json.loads(write_coco(files(), media(), labels, tmp_path).read_text())
    assert len(document["annotations"]) == len(labels) and len(document["images"]) == FRAMES
    first = document["annotations"][0]
    image = next(i for i in document["images"] if i["id"] == first["image_id"])
    assert image["frame_index"] == first["frame_index"] and image["camera_id"] == "cam1"
    x, y, w, h = first["bbox"]
    np.testing.assert_allclose([x, y, x + w, y + h], labels.xyxy[0], atol=0.02)
    for key in ("score", "weight", "track_id", "camera_id", "frame_pts", "source", "round", "state"):
        assert key in first
    assert first["frame_pts"] == labels.pts[0] and first["state"] == "positive"
