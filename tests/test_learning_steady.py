"""Learning: a second look decides which boxes teach where a body ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orveil.pipeline.settings import SteadyParams
from orveil.pipeline.stage import InputRef
from orveil.pipeline.tables import read_table, read_tables, write_table
from orveil.pipeline.types import MOTION_GRID, FrameLabels, MediaIndex, Motion, PseudoLabels
from orveil.stages.steady import Steady, _lowest_of_best, second_look, steadiness
from tests import learning_site as site

BOXES = st.lists(
    st.tuples(st.floats(0, 50), st.floats(0, 50), st.floats(1, 50), st.floats(1, 50)), max_size=6
).map(lambda rows: np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float32).reshape(-1, 4))


class Seer:
    """A detector that finds the brightest columns of a picture, as one person and one head."""

    classes = ("person", "head")

    def predict(self, pictures: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        results = []
        for picture in pictures:
            columns = np.flatnonzero(picture[..., 0].max(axis=0) > 0)
            box = np.array([columns[0], 0, columns[-1] + 1, len(picture)], np.float32)
            head = box.copy()
            results.append((np.stack([box, head]), np.array([0.9, 0.99], np.float32), np.array([0, 1])))
        return results


def test_what_is_seen_in_the_mirror_is_given_where_it_is() -> None:
    picture = np.zeros((20, 100, 3), np.uint8)
    picture[:, 10:25] = 200
    ((boxes, scores),) = second_look(Seer(), [picture])
    assert boxes.tolist() == [[10, 0, 25, 20]] and scores.tolist() == pytest.approx([0.9])


@given(BOXES, BOXES)
def test_steadiness_is_a_share_and_nothing_is_steady_where_nothing_is_found(own, found) -> None:
    scores = np.linspace(0.1, 1, len(found)).astype(np.float32)
    value = steadiness(own, found, scores)
    assert value.shape == (len(own),) and (value >= 0).all() and (value <= 1 + 1e-6).all()
    assert (steadiness(own, found[:0], scores[:0]) == 0).all()
    if len(own):
        again = steadiness(own, np.concatenate([found, own[:1]]), np.append(scores, np.float32(1)))
        assert again[0] == pytest.approx(1, abs=1e-5) and (again >= value - 1e-6).all()


def test_the_box_of_a_neighbour_is_no_second_look() -> None:
    own, neighbour = np.array([[0, 0, 10, 10]], np.float32), np.array([[8, 0, 18, 10]], np.float32)
    assert steadiness(own, neighbour, np.ones(1, np.float32))[0] == 0


class Fixed(Steady):
    """The stage with a detector that sees nobody, or everybody where they are labelled."""

    def setup(self, params: SteadyParams, inputs: Any, context: Any) -> None:
        self._detector = Seer()


def run(tmp_path: Path, params: SteadyParams, stage: Steady) -> tuple[PseudoLabels, PseudoLabels, InputRef]:
    labels = site.write_labels(tmp_path)
    inputs = {"media": site.write_media(tmp_path), "labels": labels, "weights": site.write_detector(tmp_path)}
    index = read_table(MediaIndex, inputs["media"].path)
    columns = {name: getattr(index, name) for name in ("session", "camera", "index", "pts")}
    moved = np.broadcast_to(np.float32(index.index % 2)[:, None, None] > 0, (len(index), *MOTION_GRID))
    write_table(Motion(**columns, moved=moved), tmp_path)
    inputs["motion"] = site.ref("motion", tmp_path)
    done = site.run_stage(stage, params, inputs, tmp_path / "out")
    before, after = (read_tables(PseudoLabels, ref.paths()) for ref in (labels, done))
    frames = [read_tables(FrameLabels, ref.paths()) for ref in (labels, done)]
    assert [len(table) for table in frames] == [len(frames[0])] * 2
    return before, after, done


def test_unsteady_boxes_keep_their_state_and_lose_their_weight_where_training_sees_them(tmp_path) -> None:
    pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")
    before, after, done = run(tmp_path, SteadyParams(least=0.99, least_motion=0), Fixed())
    order = np.lexsort((before.index, before.camera))
    before = before.select(order)
    used = read_tables(FrameLabels, done.paths())
    held = set(used.index[used.split == "holdout"].tolist())
    assert held and (after.state == before.state).all()
    np.testing.assert_array_equal(after.xyxy, before.xyxy)
    outside = np.isin(after.index, list(held))
    assert (after.weight[~outside] == 0).all() and (after.weight[outside] > 0).all()


def test_what_shows_the_usual_picture_does_not_teach(tmp_path) -> None:
    before, after, done = run(tmp_path, SteadyParams(least=0, least_motion=0.5), Steady())
    used = read_tables(FrameLabels, done.paths())
    trained = np.isin(after.index, used.index[used.split == "train"])
    still = trained & (after.index % 2 == 0)  # the masks of `run` say that odd frames moved
    assert still.any() and (after.weight[still] == 0).all()
    assert (after.weight[~still] > 0).all() and len(before) == len(after)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 1))
def test_the_steadiest_share_teaches(values, share) -> None:
    value = np.array(values, np.float32)
    kept = value >= _lowest_of_best(value, share)
    assert kept.sum() >= max(round(share * len(value)), 1)
    assert share == 1 or (~kept).sum() == 0 or value[kept].min() > value[~kept].max()
    assert _lowest_of_best(value[:0], share) <= 1


def test_without_a_bar_labels_pass_unseen(tmp_path) -> None:
    pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")
    before, after, _ = run(tmp_path, SteadyParams(least=0, least_motion=0), Steady())
    assert sorted(after.weight.tolist()) == sorted(before.weight.tolist())


def test_a_real_detector_takes_a_second_look(tmp_path) -> None:
    pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")
    params = SteadyParams(least=1e-9, least_motion=0, long_side=128)
    before, after, _ = run(tmp_path, params, Steady())
    strict = run(tmp_path / "strict", params.model_copy(update={"least": 0.999}), Steady())[1]
    assert len(after) == len(before) and strict.weight.sum() <= after.weight.sum()
