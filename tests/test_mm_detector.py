"""Tests: the fast detector equals mmdet's own prediction, for every size of picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet", reason="needs the OpenMMLab packages (scripts/setup)")

from mm_models import picture, tiny_detector_config, unsettle

from orveil.stages import mm

SIDE = 128


@pytest.fixture(scope="module")
def detector() -> mm.Detector:
    config = tiny_detector_config()
    model = unsettle(mm.build_detector(config))
    return mm.Detector(config, model, long_side=SIDE, score_threshold=0.3, nms_iou=0.5, max_per_image=60)


def mmdet_predicts(detector: mm.Detector, image: np.ndarray) -> tuple[np.ndarray, ...]:
    """The same picture through mmdet's preprocessor, decoder and suppression."""
    from mmdet.structures import DetDataSample
    from mmengine.config import ConfigDict

    canvas, (w, h) = mm.rect_input(image, SIDE)
    height, width = image.shape[:2]
    sample = DetDataSample(
        metainfo={
            "img_shape": (h, w),
            "ori_shape": (height, width),
            "scale_factor": (w / width, h / height),
            "pad_shape": canvas.shape[:2],
        }
    )
    model = detector.model
    model.bbox_head.test_cfg = ConfigDict(
        nms_pre=10**6,
        score_thr=0.3,
        min_bbox_size=0,
        max_per_img=60,
        nms=ConfigDict(type="nms", iou_threshold=0.5),
    )
    data = {"inputs": [torch.from_numpy(canvas.transpose(2, 0, 1).copy())], "data_samples": [sample]}
    with torch.no_grad():
        found = model(**model.data_preprocessor(data), mode="predict")[0].pred_instances
    return found.bboxes.numpy(), found.scores.numpy(), found.labels.numpy()


@pytest.mark.parametrize("size", [(160, 96), (96, 160), (128, 128), (301, 77), (64, 40)])
def test_predictions_equal_those_of_mmdet(detector: mm.Detector, size: tuple[int, int]):
    image = picture(3, *size)
    boxes, scores, labels = detector.predict([image])[0]
    wanted = mmdet_predicts(detector, image)
    assert len(boxes) == len(wanted[0]) > 3
    np.testing.assert_allclose(scores, wanted[1], atol=2e-6)
    np.testing.assert_array_equal(labels, wanted[2])
    np.testing.assert_allclose(boxes, wanted[0], atol=5e-4)
    assert set(labels.tolist()) == {0, 1}


def test_a_batch_equals_its_pictures_one_by_one(detector: mm.Detector):
    images = [picture(1), picture(2, 96, 160), picture(4), picture(5, 96, 160)]
    together = detector.predict(images)
    for image, (boxes, scores, _) in zip(images, together, strict=True):
        alone = detector.predict([image])[0]
        # Far down the list, boxes that overlap by almost exactly the threshold may go either way.
        np.testing.assert_allclose(scores[:10], alone[1][:10], atol=1e-4)
        assert all(np.abs(alone[0] - box).max(1).min() < 1e-2 for box in boxes[:10])
    canvases = np.stack([mm.rect_input(images[i], SIDE)[0] for i in (0, 2)])
    with torch.no_grad():
        scores, boxes = detector.raw(detector.normalise(canvases))
        for k in range(2):
            alone_scores, alone_boxes = detector.raw(detector.normalise(canvases[k : k + 1]))
            torch.testing.assert_close(scores[k], alone_scores[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(boxes[k], alone_boxes[0], atol=1e-3, rtol=0)


def test_output_is_sorted_inside_the_picture_and_limited(detector: mm.Detector):
    image = picture(3)
    boxes, scores, labels = detector.predict([image])[0]
    assert boxes.dtype == scores.dtype == np.float32
    assert labels.dtype == np.int64
    assert len(scores) <= 60
    assert (np.diff(scores) <= 0).all()
    assert (scores > 0.3).all()
    assert (boxes >= 0).all()
    assert (boxes[:, [0, 2]] <= 160).all()
    assert (boxes[:, [1, 3]] <= 96).all()


def test_nothing_above_the_threshold_gives_empty_arrays(detector: mm.Detector):
    config = tiny_detector_config()
    strict = mm.Detector(config, detector.model, long_side=SIDE, score_threshold=0.999999)
    boxes, scores, labels = strict.predict([picture(3)])[0]
    assert boxes.shape == (0, 4)
    assert scores.shape == labels.shape == (0,)
    assert detector.predict([]) == []


def test_a_coco_model_gives_its_person_channel_only():
    config = tiny_detector_config()
    config.merge_from_dict({"model.bbox_head.num_classes": 80})
    config.classes, config.channels = ("person",), (7,)
    model = unsettle(mm.build_detector(config))
    for layer in model.bbox_head.rtm_cls:
        layer.bias.data.fill_(-50.0)
        layer.bias.data[7] = 0.0
    found = mm.Detector(config, model, long_side=SIDE, score_threshold=0.3).predict([picture(3)])[0]
    assert len(found[2])
    assert (found[2] == 0).all()


def test_rect_input_pads_at_the_right_and_the_bottom():
    canvas, (w, h) = mm.rect_input(np.full((50, 100, 3), 7, np.uint8), 100)
    assert (w, h) == (100, 50)
    assert canvas.shape == (64, 128, 3)
    assert (canvas[:50, :100] == 7).all()
    assert (canvas[50:] == 114).all()
    assert (canvas[:, 100:] == 114).all()
