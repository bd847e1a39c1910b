"""Tests: the fast pose estimator equals mmpose's top-down inference."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmpose", reason="needs the OpenMMLab packages (scripts/setup)")

from mm_models import picture, tiny_pose_config, unsettle

from orveil.stages import mm

BOXES = np.array([[10, 5, 60, 90], [30, 40, 150, 80], [-20, -10, 40, 60], [100, 20, 101, 21]], np.float32)


@pytest.fixture(scope="module")
def estimator() -> mm.PoseEstimator:
    config = tiny_pose_config()
    return mm.PoseEstimator(config, unsettle(mm.build_pose(config, seed=2)), batch_size=3)


def test_keypoints_equal_those_of_mmpose(estimator: mm.PoseEstimator):
    from mmengine.dataset import Compose
    from mmengine.registry import DefaultScope
    from mmpose.datasets.transforms import GetBBoxCenterScale, PackPoseInputs, TopdownAffine

    image = picture(1)
    pipeline = Compose([GetBBoxCenterScale(), TopdownAffine(estimator.input_size), PackPoseInputs()])
    found = estimator.predict(image, BOXES)
    assert found.shape == (4, 133, 3)
    with DefaultScope.overwrite_default_scope("mmpose"):
        for box, points in zip(BOXES, found, strict=True):
            data = pipeline({"img": image, "bbox": box[None], "bbox_score": np.ones(1, np.float32)})
            batch = {"inputs": [data["inputs"]], "data_samples": [data["data_samples"]]}
            wanted = estimator.model.test_step(batch)[0].pred_instances
            seen = wanted.keypoint_scores[0] > 0
            assert seen.sum() > 60
            np.testing.assert_allclose(points[seen, :2], wanted.keypoints[0][seen], atol=1e-3)
            np.testing.assert_allclose(points[:, 2], np.clip(wanted.keypoint_scores[0], 0, 1), atol=1e-5)


def test_no_box_gives_no_keypoints(estimator: mm.PoseEstimator):
    assert estimator.predict(picture(1), np.zeros((0, 4), np.float32)).shape == (0, 133, 3)


def test_a_box_of_no_size_gives_finite_keypoints(estimator: mm.PoseEstimator):
    found = estimator.predict(picture(1), np.array([[5, 5, 5, 5]], np.float32))
    assert np.isfinite(found).all()


def test_the_crop_centres_the_box_and_keeps_its_shape():
    matrix = mm.crop_affine(np.array([[10.0, 20, 30, 100]]), (160, 192))[0]
    centre = matrix @ [20, 60, 1]
    np.testing.assert_allclose(centre, [80, 96])
    top = matrix @ [20, 20, 1]
    # 1.25 times the box's height fills the crop's 192 px.
    assert centre[1] - top[1] == pytest.approx(40 * 192 / 100)
