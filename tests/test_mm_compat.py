"""Tests: each workaround for the OpenMMLab packages does what it says, and no more."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

compat = pytest.importorskip("orveil.stages.mm_compat", reason="needs PyTorch")
pytest.importorskip("mmdet", reason="needs the OpenMMLab packages (scripts/setup)")

numbers = st.integers(0, 40)
boxes = st.lists(st.tuples(numbers, numbers, st.integers(1, 30), st.integers(1, 30)), max_size=25)


def one_by_one(xyxy: np.ndarray, order: list[int], threshold: float) -> list[int]:
    """The definition of greedy suppression, pair by pair."""
    kept: list[int] = []
    for i in order:
        for j in kept:
            w = min(xyxy[i, 2], xyxy[j, 2]) - max(xyxy[i, 0], xyxy[j, 0])
            h = min(xyxy[i, 3], xyxy[j, 3]) - max(xyxy[i, 1], xyxy[j, 1])
            common = max(w, 0) * max(h, 0)
            area = [np.prod(xyxy[k, 2:] - xyxy[k, :2]) for k in (i, j)]
            if common > threshold * (area[0] + area[1] - common):
                break
        else:
            kept.append(i)
    return kept


@given(boxes, st.sampled_from([0.25, 0.3, 0.65]), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_suppression_follows_its_definition(rows, threshold, random):
    xyxy = np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float32).reshape(-1, 4)
    scores = np.array([random.randint(0, 5) / 5 for _ in rows], np.float32)
    kept = compat.greedy_nms(torch.from_numpy(xyxy), torch.from_numpy(scores), threshold)
    order = sorted(range(len(rows)), key=lambda i: -scores[i])
    assert kept.tolist() == one_by_one(xyxy, order, threshold)


def test_mmcv_suppresses_through_the_stand_in():
    from mmcv.ops import nms

    xyxy = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]])
    dets, kept = nms(xyxy, torch.tensor([0.5, 0.9, 0.1]), 0.5)
    assert kept.tolist() == [1, 2]
    assert dets[:, 4].tolist() == pytest.approx([0.9, 0.1])


@pytest.mark.skipif(compat.STATUS["mmcv operators"] == "real", reason="this mmcv is compiled")
def test_an_operator_that_is_missing_says_so_only_when_called():
    operator = importlib.import_module("mmcv._ext").roi_align_forward
    with pytest.raises(RuntimeError, match="compiled mmcv"):
        operator()


def test_detection_and_pose_packages_import():
    import mmdet.models  # noqa: F401
    import mmpose.models  # noqa: F401
    import xtcocotools.mask

    assert xtcocotools.mask.area(xtcocotools.mask.encode(np.ones((4, 5), np.uint8, order="F"))) == 20


def test_a_checkpoint_of_mmengine_loads_with_weights_only(tmp_path: Path):
    from mmengine.logging import HistoryBuffer

    history = HistoryBuffer([1.0, 2.0], [1, 1])
    content = {"state_dict": {"w": torch.ones(2)}, "message_hub": {"log": history, "at": np.float64(3)}}
    torch.save(content, tmp_path / "checkpoint.pth")
    loaded = torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    assert loaded["message_hub"]["log"].mean() == 1.5


class RunsCode:
    """A pickle that would call a function when it is read."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("ran"),))


class ReachesOut:
    """A pickle that asks for an attribute that no checkpoint needs."""

    def __reduce__(self) -> tuple[object, ...]:
        return (getattr, (np.ndarray, "tofile"))


@pytest.mark.parametrize("evil", [RunsCode, ReachesOut])
def test_a_checkpoint_with_code_is_refused(evil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": evil()}, "evil.pth")
    with pytest.raises((pickle.UnpicklingError, ValueError)):
        torch.load("evil.pth", weights_only=True)
    assert not Path("ran").exists()
