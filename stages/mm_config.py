"""OpenMMLab room, configs: from a name or a path to a resolved mmengine config, and back to text.

A config file of this project declares

- `kind`: "detector" or "pose";
- `classes`: names of the labels that leave the model, in the order of `orveil.pipeline.types` (a detector),
  and `channels`: the model's output channel of each (a COCO model has 80, of which one is used);
- `model`: the model in mmengine's registry form;
- `freeze_bn` (optional): train with BatchNorm in eval mode, because it was folded into the convolutions;
- `lr_scale` (optional, a detector): factors on the learning rate by a part of a parameter's name; "" is all;
- `input_size` (pose): width and height of the crop.

A config is Python and runs when it is read: use only configs that you trust. Reading one loads neither torch
nor the models, unless the config asks for it (`custom_imports`).
"""

from __future__ import annotations

import importlib
import pprint
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from orveil.pipeline.errors import OrveilError

__all__ = ["config_names", "load_config", "resolved_config_text"]


def config_names() -> list[str]:
    """Names of the configs that come with the package, sorted."""
    folder = resources.files("orveil.configs")
    names = (entry.name for entry in folder.iterdir() if entry.name.endswith(".py"))
    return sorted(name[:-3] for name in names if not name.startswith("_"))


def load_config(path_or_name: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a model config.

    Args:
        path_or_name: a path of a `.py` config, or a name in `orveil.configs` such as `detector_embedded`.
        overrides: dotted keys and their values, for example `{"model.bbox_head.num_classes": 1}`.

    Raises:
        OrveilError: no such config, it does not run, or it is no model config.
    """
    path = _find(path_or_name)
    try:
        config = Config.fromfile(path, import_custom_modules=False)
        config.merge_from_dict(dict(overrides or {}))
        if "custom_imports" in config:
            importlib.import_module("orveil.stages.mm_compat")  # before any OpenMMLab import
            import_modules_from_strings(**config.custom_imports)
    except Exception as error:  # a config is a program and fails in any way it likes
        raise OrveilError(
            f"the model config cannot be read: {error}", where=str(path), remedy="correct the config file"
        ) from error
    missing = [key for key in ("kind", "model") if key not in config]
    if missing:
        raise OrveilError(
            f"the model config lacks `{'` and `'.join(missing)}`",
            where=str(path),
            remedy="start from one of the configs that come with orveil: " + ", ".join(config_names()),
        )
    return config


def resolved_config_text(config: Config) -> str:
    """The config as one flat Python file: same config, same text; `load_config` reads it back."""
    # Names with an underscore are helpers inside a config file.
    items = sorted((key, value) for key, value in config.to_dict().items() if not key.startswith("_"))
    return "".join(f"{key} = {pprint.pformat(_plain(value), width=100)}\n" for key, value in items)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return value


def _find(path_or_name: str | Path) -> Path:
    text = str(path_or_name)
    if text in config_names():
        return Path(str(resources.files("orveil.configs").joinpath(f"{text}.py")))
    path = Path(text)
    if not path.is_file():
        raise OrveilError(
            "there is no such model config",
            where=text,
            remedy="give the path of a .py config, or one of: " + ", ".join(config_names()),
        )
    return path
