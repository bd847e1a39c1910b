"""Learning: poses of labelled persons, and fine-tuning of the pose model on its own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training extras are not installed")
mm = pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")

from orveil.pipeline.settings import PoseParams, PoseTrainParams  # noqa: E402
from orveil.pipeline.stage import InputRef  # noqa: E402
from orveil.pipeline.tables import read_tables, write_table  # noqa: E402
from orveil.pipeline.types import KEYPOINTS, Poses  # noqa: E402
from orveil.stages import pose_train as room  # noqa: E402
from orveil.stages.pose import Pose  # noqa: E402
from orveil.stages.weights import file_sha256, read_info, write_weights_dir  # noqa: E402
from tests import learning_site as site  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> InputRef:
    root = tmp_path_factory.mktemp("pose")
    config = mm.load_config("pose_embedded")
    write_weights_dir(root, config, mm.build_pose(config).state_dict(), {"source": "test"})
    return site.ref("pose", root)


@pytest.fixture
def inputs(tmp_path: Path, model: InputRef) -> dict[str, InputRef]:
    return {
        "media": site.write_media(tmp_path),
        "candidates": site.write_candidates(tmp_path),
        "labels": site.write_labels(tmp_path, ignore_camera="cam2"),
        "poses": site.write_poses(tmp_path),
        "weights": model,
    }


def poses(done: InputRef) -> Poses:
    return read_tables(Poses, [path for _, path in done.shards])


def test_every_positive_person_has_a_head(inputs: dict[str, InputRef], tmp_path: Path) -> None:
    given = {name: inputs[name] for name in Pose.consumes}
    table = poses(site.run_stage(Pose(), PoseParams(scope="all"), given, tmp_path / "a"))
    assert table.view_keys() == [(site.SESSION, "cam1")]
    assert table.index.tolist() == list(range(site.FRAMES))
    assert table.label_id.tolist() == list(range(site.FRAMES))
    assert (table.head_xyxy[:, 2:] > table.head_xyxy[:, :2]).all()
    # The untrained model is sure of nothing: the head candidates decide.
    assert set(table.head_source.tolist()) == {"detector"}
    for row in range(site.FRAMES):
        np.testing.assert_allclose(table.head_xyxy[row], site.head_box("cam1", row), atol=0.5)


def test_scope_train_leaves_unused_frames_out(inputs: dict[str, InputRef], tmp_path: Path) -> None:
    from orveil.pipeline.types import FrameLabels

    folder = inputs["labels"].path
    used = read_tables(FrameLabels, [folder])
    split = np.where(used.index == 2, "unused", used.split)
    write_table(FrameLabels(**{**used.columns(), "split": split}), folder)
    given = {name: inputs[name] for name in Pose.consumes}
    table = poses(site.run_stage(Pose(), PoseParams(scope="train"), given, tmp_path / "a"))
    assert table.index.tolist() == [0, 1, 3, 4, 5]


def test_nobody_gives_an_empty_table(inputs: dict[str, InputRef], tmp_path: Path) -> None:
    given = {name: inputs[name] for name in Pose.consumes}
    given["labels"] = site.write_labels(tmp_path, nobody=True)
    assert len(poses(site.run_stage(Pose(), PoseParams(), given, tmp_path / "a"))) == 0


def spread_keypoints(inputs: dict[str, InputRef]) -> None:
    """Keypoints all over each figure, so that there is something to learn."""
    folder = inputs["poses"].path
    table = read_tables(Poses, [folder])
    points = np.random.default_rng(0).random((KEYPOINTS, 2), np.float32)
    boxes = [site.figure_box(c, i) for c, i in zip(table.camera.tolist(), table.index.tolist(), strict=True)]
    placed = np.stack([box[:2] + points * (box[2:] - box[:2]) for box in boxes])
    keypoints = np.concatenate([placed, np.full((len(table), KEYPOINTS, 1), 0.9)], 2)
    write_table(Poses(**{**table.columns(), "keypoints": keypoints}), folder)


PARAMS = PoseTrainParams(iterations=3, batch_size=4, checkpoint_every=10)


def agreeing(monkeypatch: pytest.MonkeyPatch, errors: list[float], moved: float = 0.0) -> None:
    """An untrained model agrees with nothing: say what the guard sees, and let all keypoints be learned."""
    answers = iter(errors)
    monkeypatch.setattr(room, "agreement", lambda *_: next(answers))
    monkeypatch.setattr(room, "drift", lambda *_: moved)
    monkeypatch.setattr(room, "keypoint_weights", lambda points, *_: points[:, 2])


@pytest.mark.parametrize(
    ("errors", "moved", "kept"), [([0.2, 0.1], 0.0, True), ([0.1, 0.2], 0.0, False), ([0.2, 0.1], 0.3, False)]
)
def test_training_is_kept_only_if_it_is_no_worse(
    inputs: dict[str, InputRef],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    errors: list[float],
    moved: float,
    kept: bool,
) -> None:
    spread_keypoints(inputs)
    agreeing(monkeypatch, errors, moved)
    given = {name: inputs[name] for name in room.PoseTrain.consumes}
    given["labels"] = site.write_labels(tmp_path)
    done = site.run_stage(room.PoseTrain(), PARAMS, given, tmp_path / "a")
    changed = file_sha256(done.path / "model.safetensors") != file_sha256(
        inputs["weights"].path / "model.safetensors"
    )
    assert changed == kept
    training = read_info(done.path).training
    assert training["persons"] == 2 * (site.FRAMES - 1) if kept else "worse" in training["skipped"]


@pytest.mark.parametrize("iterations", [0, 3])
def test_nothing_to_learn_passes_the_weights_on(
    inputs: dict[str, InputRef], tmp_path: Path, iterations: int
) -> None:
    given = {name: inputs[name] for name in room.PoseTrain.consumes}
    params = PARAMS.model_copy(update={"iterations": iterations, "min_keypoint_score": 0.95})
    done = site.run_stage(room.PoseTrain(), params, given, tmp_path / "a")
    assert file_sha256(done.path / "model.safetensors") == file_sha256(
        inputs["weights"].path / "model.safetensors"
    )
    assert read_info(done.path).training["iterations"] == 0


class Mirror:
    """A model that finds each keypoint at a fixed place of the box, a little to the right."""

    input_size = (160, 192)

    def __init__(self, offset: float) -> None:
        self.offset = offset

    def predict(self, image: Any, xyxy: Any) -> Any:
        del image
        middle = (xyxy[:, :2] + xyxy[:, 2:] - 1) / 2 + np.array([self.offset, 0])
        points = np.repeat(middle[:, None], KEYPOINTS, 1)
        return np.concatenate([points, np.ones((len(xyxy), KEYPOINTS, 1))], 2).astype(np.float32)


def person() -> room.PersonCrops:
    sample = mm.PoseSample(
        np.zeros((100, 80, 3), np.uint8),
        np.array([10.0, 20.0, 50.0, 70.0], np.float32),
        np.zeros((KEYPOINTS, 2), np.float32),
        np.ones(KEYPOINTS, np.float32),
        np.ones(KEYPOINTS, np.float32),
    )
    return room.PersonCrops((sample,), ("holdout",))


def test_mirror_error_measures_what_a_mirror_changes() -> None:
    assert room.agreement(Mirror(0.0), person()) == pytest.approx(0.0, abs=1e-6)
    # 3 px to the right in both views are 6 px apart; the box is 50 px high.
    assert room.agreement(Mirror(3.0), person()) == pytest.approx(6 / 50, abs=1e-5)
    assert room.drift(Mirror(0.0), Mirror(5.0), person()) == pytest.approx(0.1, abs=1e-5)


def test_keypoints_that_the_mirror_moves_weigh_less() -> None:
    points = np.ones((KEYPOINTS, 3), np.float32)
    moved, faint = points.copy(), points.copy()
    moved[0, 0] += 3.0
    faint[1, 2] = 0.4
    weights = room.keypoint_weights(points, np.where(points == faint, moved, faint), 100.0, 0.5)
    assert weights[2] == 1
    assert 0.2 < weights[0] < 0.5
    assert weights[1] == 0
