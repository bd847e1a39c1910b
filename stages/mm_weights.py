"""OpenMMLab room, weights: read and write them without ever running code from a file; models from both."""

from __future__ import annotations

import orveil.stages.mm_compat  # noqa: F401  before any OpenMMLab import

# isort: split
import copy
import hashlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from orveil.pipeline.errors import OrveilError, explain_os_error

__all__ = ["build_model", "load_weights", "read_checkpoint", "read_weights", "write_weights"]

_REMEDY_FILE = "pull or copy the file again, and compare its sha256 with the one of its source"
# Buffers that are not learned, or that older versions stored and newer ones do not.
_NOT_LEARNED = ("num_batches_tracked", "data_preprocessor.mean", "data_preprocessor.std")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Everything in a `.pth` checkpoint, read with `weights_only=True`.

    Raises:
        OrveilError: no such file, not a checkpoint, cut short, or it holds objects that are not allowed.
    """
    path = Path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise explain_os_error(error, str(path)) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OrveilError(
            f"the weights file cannot be read safely: {reason[:200]}", where=str(path), remedy=_REMEDY_FILE
        ) from error
    if not isinstance(content, Mapping):
        raise OrveilError("the file holds no weights", where=str(path), remedy=_REMEDY_FILE)
    return dict(content)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Named tensors of a `.safetensors` file, or of a `.pth` checkpoint or plain state dict.

    Half-precision tensors come back as float32.

    Raises:
        OrveilError: as `read_checkpoint`.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        try:
            state: Mapping[str, Any] = safetensors.torch.load_file(path)
        except OSError as error:
            raise explain_os_error(error, str(path)) from error
        except safetensors.SafetensorError as error:
            raise OrveilError(
                f"the weights file is damaged: {error}", where=str(path), remedy=_REMEDY_FILE
            ) from error
    else:
        content = read_checkpoint(path)
        inner = content.get("state_dict", content)
        state = inner if isinstance(inner, Mapping) else {}
    tensors = {name.removeprefix("module."): t for name, t in state.items() if isinstance(t, Tensor)}
    if not tensors:
        raise OrveilError("the file holds no weights", where=str(path), remedy=_REMEDY_FILE)
    return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}


def write_weights(state: Mapping[str, Tensor], path: str | Path, *, half: bool = False) -> str:
    """Write a `.safetensors` file in one step (temporary file, fsync, rename); same tensors, same bytes.

    Args:
        state: named tensors.
        path: final place.
        half: store floating-point tensors as float16.

    Returns:
        sha256 of the file, hexadecimal.
    """
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        if half and tensor.is_floating_point():
            tensor = tensor.half()
        tensors[name] = tensor.contiguous().clone()
    content = safetensors.torch.save(tensors)
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise explain_os_error(error, str(path)) from error
    return hashlib.sha256(content).hexdigest()


def build_model(
    config: Config,
    kind: str,
    registry: Registry,
    weights: str | Path | Mapping[str, Tensor] | None,
    seed: int,
) -> nn.Module:
    """The model of a config, on the CPU and in eval mode.

    Args:
        config: its `kind` must be the one asked for.
        kind: "detector" or "pose".
        registry: of mmdet or mmpose.
        weights: file or named tensors; None: fresh weights, drawn from `seed`.
        seed: of the fresh weights.

    Raises:
        OrveilError: the config is for something else, or the weights are of another architecture.
    """
    if config.get("kind") != kind:
        raise OrveilError(
            f"this config is not of a {kind} model",
            where=str(config.get("filename") or "config"),
            remedy=f'the config of a {kind} model says kind = "{kind}"',
        )
    scope = str(registry.scope)
    with DefaultScope.overwrite_default_scope(scope), torch.random.fork_rng(devices=[]):
        # Some layers draw their weights when they are made, others in `init_weights`.
        torch.manual_seed(seed)
        # The registry takes keys out of the config that it builds from.
        model: Any = registry.build(copy.deepcopy(config.model))
        if weights is None:
            model.init_weights()
    if weights is not None:
        load_weights(model, weights)
    network: nn.Module = model.eval()
    return network


def load_weights(model: nn.Module, weights: str | Path | Mapping[str, Tensor]) -> None:
    """Put weights into a model; every learned tensor must be there with the right shape.

    Raises:
        OrveilError: the weights belong to another architecture; says which tensors differ.
    """
    given = weights if isinstance(weights, Mapping) else read_weights(weights)
    where = "weights in memory" if isinstance(weights, Mapping) else str(weights)
    own = model.state_dict()
    missing = [name for name in own if name not in given and not name.endswith(_NOT_LEARNED)]
    unknown = [name for name in given if name not in own and not name.endswith(_NOT_LEARNED)]
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    if missing or unknown or shapes:
        parts = [
            _some(f"{len(missing)} of {len(own)} tensors are missing", missing),
            _some(f"{len(unknown)} are unknown to the model", unknown),
            _some(f"{len(shapes)} have another shape", shapes),
        ]
        raise OrveilError(
            "these are the weights of another architecture: " + "; ".join(part for part in parts if part),
            where=where,
            remedy="give the config that these weights were trained with, or weights of this config's model",
        )
    model.load_state_dict({name: given[name] for name in own if name in given}, strict=False)


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    return f"{what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _safe_local_loader(filename: str, map_location: Any = None) -> dict[str, Any]:
    del map_location  # read to the CPU; the caller copies into a model on its device
    if str(filename).endswith(".safetensors"):
        return {"state_dict": read_weights(filename), "meta": {}}
    return read_checkpoint(filename)


def _refuse_remote(filename: str, *_unused: Any, **_unused_too: Any) -> dict[str, Any]:
    raise OrveilError(
        "a config may not fetch weights while it is loaded",
        where=filename,
        remedy="fetch them with `orveil models pull` and give the path",
    )


def _install_safe_loaders() -> None:
    """Send `load_from`, `resume` and `init_cfg` of mmengine through this module.

    Its own loaders fall back to `weights_only=False`, and an `init_cfg` of an OpenMMLab config would download
    from the network in the middle of a run.
    """
    for prefix in list(CheckpointLoader._schemes):
        loader = _refuse_remote if prefix else _safe_local_loader
        CheckpointLoader.register_scheme(prefixes=prefix, loader=loader, force=True)


_install_safe_loaders()
