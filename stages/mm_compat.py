"""OpenMMLab room, the entrance: what the packages need to run on today's PyTorch. Import it before them.

Every function here removes one obstacle and says which; each does nothing where the real thing is present.
`STATUS` records what was found, for bug reports (`orveil.stages.mm_compat.STATUS`).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "STATUS",
    "allow_checkpoint_types",
    "greedy_nms",
    "import_datasets_quietly",
    "provide_mmcv_ops",
    "repair_torchvision",
    "repair_xtcocotools",
    "silence",
]  # fmt: skip

REAL, ABSENT = "real", "absent"


def greedy_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Greedy non-maximum suppression, the rule of torchvision and mmcv.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,); equal scores keep their order.
        iou_threshold: a box goes when its IoU with a kept box of higher score is above this.
        offset: 1 where x1 and y1 are inclusive pixels, else 0.

    Returns:
        (K,) int64 indices of the kept boxes, by descending score, on the device of `boxes`.
    """
    order = np.argsort(-scores.detach().cpu().float().numpy(), kind="stable")
    xyxy = boxes.detach().cpu().float().numpy()[order]
    x0, y0, x1, y1 = np.ascontiguousarray(xyxy.T)
    area = (x1 - x0 + offset) * (y1 - y0 + offset)
    alive = np.ones(len(xyxy), dtype=bool)
    for i in range(len(xyxy)):
        if not alive[i]:
            continue
        rest = slice(i + 1, None)
        width = np.minimum(x1[i], x1[rest]) - np.maximum(x0[i], x0[rest]) + offset
        height = np.minimum(y1[i], y1[rest]) - np.maximum(y0[i], y0[rest]) + offset
        intersection = np.maximum(width, 0) * np.maximum(height, 0)
        alive[rest] &= intersection <= iou_threshold * (area[i] + area[rest] - intersection)
    return torch.as_tensor(order[alive], dtype=torch.int64, device=boxes.device)


def repair_torchvision() -> str:
    """Import torchvision even where its C++ operators cannot be loaded.

    The wheel of the package registry is built for CUDA; beside a CPU build of torch its library does not
    load, and `import torchvision` then fails because it registers fake kernels for operators that do not
    exist. Declaring the two schemas is enough; `nms` gets a CPU kernel because mmcv calls it.
    """
    if importlib.util.find_spec("torchvision") is None:
        return ABSENT
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return REAL if torchvision.extension._has_ops() else "no operators"
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    for operator in ("nms", "qnms"):
        schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        torch.library.define(f"torchvision::{operator}", schema)
    torch.library.impl("torchvision::nms", "CPU")(lambda dets, scores, iou: greedy_nms(dets, scores, iou))
    import torchvision

    return "operators declared here"


def repair_xtcocotools() -> str:
    """Let mmpose import xtcocotools, whose wheel holds a `_mask` built for numpy 1.

    `pycocotools._mask` is the same module built for numpy 2.
    """
    if importlib.util.find_spec("xtcocotools") is None:
        return ABSENT
    try:
        importlib.import_module("xtcocotools._mask")
    except (ImportError, ValueError):
        import pycocotools._mask as mask

        sys.modules["xtcocotools._mask"] = mask
        return "mask of pycocotools"
    return REAL


def _missing_operator(name: str) -> Callable[..., Any]:
    def missing(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError(
            f"the mmcv operator {name!r} needs a compiled mmcv; this one is pure Python "
            "(RTMDet and RTMPose do not use it)"
        )

    return missing


def _nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    if offset == 0 and STATUS.get("torchvision") == REAL:
        return torch.ops.torchvision.nms(bboxes, scores, float(iou_threshold))  # type: ignore[no-any-return]
    return greedy_nms(bboxes, scores, iou_threshold, offset)


def provide_mmcv_ops() -> str:
    """Stand in for `mmcv._ext`, without which `import mmdet.models` fails.

    The pure-Python mmcv wheel has no compiled operators. Of these RTMDet needs `nms` at predict, and RTMPose
    none; every other operator raises when it is called, and not before.
    """
    spec = importlib.util.find_spec("mmcv")
    if spec is None or spec.origin is None:
        return ABSENT
    if any(file.suffix in (".so", ".pyd") for file in Path(spec.origin).parent.glob("_ext*")):
        return REAL
    module = types.ModuleType("mmcv._ext")
    module.__spec__ = importlib.util.spec_from_loader("mmcv._ext", loader=None)
    module.nms = _nms  # type: ignore[attr-defined]

    def __getattr__(name: str) -> Callable[..., Any]:  # noqa: N807
        if name.startswith("__"):
            raise AttributeError(name)
        return _missing_operator(name)

    module.__getattr__ = __getattr__  # type: ignore[method-assign]
    sys.modules["mmcv._ext"] = module
    return "nms only"


def _history_buffer_method(owner: object, name: str) -> object:
    """What `getattr` may do in a checkpoint: mmengine's logs pickle `getattr(HistoryBuffer, "mean")`.

    Plain `getattr` in an allowlist would let a file reach any attribute of any allowed type.
    """
    from mmengine.logging.history_buffer import HistoryBuffer

    if owner is not HistoryBuffer or name not in ("mean", "max", "min", "current", "data"):
        raise ValueError(f"refused in a checkpoint: getattr({owner!r}, {name!r})")
    return getattr(owner, name)


def allow_checkpoint_types() -> str:
    """Let `torch.load(weights_only=True)` read mmengine's checkpoints: their logs hold numpy arrays.

    Without this the loader of mmengine falls back to `weights_only=False`, which runs code from the file.
    """
    if importlib.util.find_spec("mmengine") is None:
        return ABSENT
    from mmengine.logging.history_buffer import HistoryBuffer
    from numpy._core import multiarray

    dtypes = [value for value in vars(np.dtypes).values() if isinstance(value, type)]
    allowed: list[Any] = [multiarray._reconstruct, multiarray.scalar, np.ndarray, np.dtype, *dtypes]
    allowed += [HistoryBuffer, (_history_buffer_method, "builtins.getattr")]
    # Files written under numpy 1 name the module by its old place.
    allowed += [
        (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
        (multiarray.scalar, "numpy.core.multiarray.scalar"),
    ]
    torch.serialization.add_safe_globals(allowed)
    return "allowed"


def silence() -> str:
    """Hide warnings and logs of the OpenMMLab packages that no user can act on."""
    for module in ("mmengine", "mmdet", "mmpose", "mmcv", "torch.functional", "onedl"):
        warnings.filterwarnings("ignore", module=rf"{module}.*", category=UserWarning)
        warnings.filterwarnings("ignore", module=rf"{module}.*", category=FutureWarning)
    if importlib.util.find_spec("mmengine") is not None:
        from mmengine.logging import MMLogger

        # Created first, so that `init_weights` does not print every parameter of the model.
        MMLogger.get_instance("mmengine", log_level="ERROR")
    return "done"


def import_datasets_quietly() -> None:
    """Import mmdet's data sets, which the Runner does sooner or later, without the line that they print.

    It says that a data set of the fork's makers cannot be imported, which concerns nobody here.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        importlib.import_module("mmdet.datasets")


STATUS: dict[str, str] = {}
STATUS["torchvision"] = repair_torchvision()
STATUS["xtcocotools"] = repair_xtcocotools()
STATUS["mmcv operators"] = provide_mmcv_ops()
STATUS["checkpoint types"] = allow_checkpoint_types()
STATUS["warnings"] = silence()
