"""Learning: model weights as artifacts, and the stage that takes weights in from outside.

A weights directory holds `model.safetensors`, `config.py` (the resolved mmengine config) and `weights.json`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.pipeline.kinds import WeightsKind
from orveil.pipeline.settings import ImportWeightsParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.types import FACE, HEAD, PERSON

__all__ = [
    "CLASS_LABELS", "VOLATILE", "ImportWeights", "WeightsInfo", "copy_weights", "file_sha256",
    "import_weights_node", "keep_log", "pass_weights", "read_info", "write_weights_dir",
]  # fmt: skip

CLASS_LABELS = {"person": PERSON, "head": HEAD, "face": FACE}
"""Class names that a detector's config may use, and the label each has in the tables."""
MODEL, CONFIG, INFO, LOSSES = "model.safetensors", "config.py", "weights.json", "losses.jsonl"
VOLATILE = frozenset({LOSSES})
"""What does not count in the digest of trained weights: the log holds times."""


@dataclass(frozen=True)
class WeightsInfo:
    """`weights.json`.

    Attributes:
        kind: "detector" or "pose".
        classes: what a detector finds, () for a pose model.
        long_side: longer picture side in px that a detector was last used or trained with, 0 if unknown.
        sha256: of `model.safetensors`.
        freeze_bn: BatchNorm is folded away and must stay in eval mode.
        source: where the weights come from: a name, or the stage that trained them.
        training: what the last training did; empty for weights from outside.
    """

    kind: str
    classes: tuple[str, ...]
    long_side: int
    sha256: str
    freeze_bn: bool
    source: str
    training: Mapping[str, Any] = field(default_factory=dict)


def read_info(directory: Path) -> WeightsInfo:
    """Read `weights.json` of a weights directory.

    Raises:
        OrveilError: it is missing or damaged.
    """
    path = directory / INFO
    try:
        raw = json.loads(path.read_text("utf-8"))
        return WeightsInfo(**{**raw, "classes": tuple(raw["classes"])})
    except OSError as error:
        raise explain_os_error(error, str(path)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise OrveilError(
            f"this is not a description of weights: {error}",
            where=str(path),
            remedy="give a folder that orveil wrote, or a weights file with its config",
        ) from error


def write_weights_dir(
    out: Path, config: Any, state: Mapping[str, Any], info: Mapping[str, Any]
) -> WeightsInfo:
    """Write a weights directory; the same tensors always give the same bytes.

    Args:
        out: an existing directory.
        config: mmengine config of the model.
        state: named tensors.
        info: `source`, and where known `long_side` and `training`.
    """
    from orveil.stages import mm  # OpenMMLab loads slowly, and the graph is built without it

    text = mm.resolved_config_text(config)
    sha256 = mm.write_weights(state, out / MODEL)
    written = WeightsInfo(
        kind=str(config.kind),
        classes=tuple(config.get("classes", ())),
        long_side=int(info.get("long_side", 0)),
        sha256=sha256,
        freeze_bn=bool(config.get("freeze_bn", False)),
        source=str(info["source"]),
        training=dict(info.get("training", {})),
    )
    _write_text(out / CONFIG, text)
    _write_text(out / INFO, json.dumps(asdict(written), indent=1, sort_keys=True) + "\n")
    return written


def pass_weights(directory: Path, out: Path) -> None:
    """Pass weights on byte for byte, so that they keep their digest."""
    _copy(directory, out, (MODEL, CONFIG, INFO))


def copy_weights(directory: Path, out: Path, reason: str, *, stopped: bool = False) -> WeightsInfo:
    """Pass weights on untouched, with the reason why nothing was learned.

    Args:
        directory: weights directory.
        out: an existing directory.
        reason: for the report.
        stopped: later rounds shall not train them either.
    """
    info = read_info(directory)
    training = {"iterations": 0, "skipped": reason, **({"stopped": True} if stopped else {})}
    _copy(directory, out, (MODEL, CONFIG))
    copied = replace(info, training=training)
    _write_text(out / INFO, json.dumps(asdict(copied), indent=1, sort_keys=True) + "\n")
    return copied


def keep_log(work_dir: Path, out: Path) -> None:
    """Copy the training's log beside the weights, where there is one."""
    if (work_dir / LOSSES).is_file():
        _write_text(out / LOSSES, (work_dir / LOSSES).read_text("utf-8"))


def _copy(directory: Path, out: Path, names: Sequence[str]) -> None:
    try:
        for name in names:
            shutil.copyfile(directory / name, out / name)
    except OSError as error:
        raise explain_os_error(error, str(out)) from error


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise explain_os_error(error, str(path)) from error


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise explain_os_error(error, str(path)) from error
    return digest.hexdigest()


def import_weights_node(
    kind: str, name: str, weights: Path, config: str | None, long_side: int = 0
) -> tuple[ImportWeightsParams, dict[str, str]]:
    """Parameters and externals of an `ImportWeights` node; reads the files to learn their digests.

    Args:
        kind: "detector" or "pose".
        name: what to call the source in reports: a registry name, or the file's name.
        weights: a `.safetensors` or `.pth` file, or a weights directory.
        config: a config's path or its name in `orveil.configs`; None with a weights directory.
        long_side: of the detector's input, px.
    """
    if weights.is_dir():
        config, weights = config or str(weights / CONFIG), weights / MODEL
    if config is None:
        raise OrveilError(
            f"weights of a {kind} by path need a config",
            where=str(weights),
            remedy=f'add `{kind}_config = "FILE.py"` to the site file',
        )
    from orveil.stages import mm_config  # mmengine alone: the models load much more slowly

    text = mm_config.resolved_config_text(mm_config.load_config(config))
    params = ImportWeightsParams(
        kind=kind,
        name=name,
        sha256=file_sha256(weights),
        config_sha256=hashlib.sha256(text.encode()).hexdigest(),
        long_side=long_side,
    )
    return params, {f"weights/{kind}": str(weights), f"config/{kind}": config}


class ImportWeights:
    """Take a model in: check that the weights fit the config, and store both as they will be used.

    Externals: `weights/<kind>` and `config/<kind>`.
    """

    name: ClassVar[str] = "import-weights"
    version: ClassVar[int] = 1
    needs: ClassVar[Resources] = Resources(cpus=1, threads=1)
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {}
    produces: ClassVar[type[ArtifactType]] = WeightsKind
    volatile: ClassVar[frozenset[str]] = frozenset()

    def shards(self, params: ImportWeightsParams, inputs: Inputs) -> Sequence[Shard]:
        """One."""
        del params, inputs
        return [Shard()]

    def setup(self, params: ImportWeightsParams, inputs: Inputs, context: Context) -> None:
        """Nothing to load."""

    def run(
        self, params: ImportWeightsParams, inputs: Inputs, shard: Shard, out: Path, context: Context
    ) -> None:
        """Read, check, and write a weights directory.

        Raises:
            OrveilError: the file changed since its digest was taken, or it does not fit the config.
        """
        from orveil.stages import mm  # OpenMMLab loads slowly

        del inputs, shard
        weights = Path(context.externals[f"weights/{params.kind}"])
        found = file_sha256(weights)
        if found != params.sha256:
            raise OrveilError(
                f"the file's sha256 is {found}, expected {params.sha256}",
                where=str(weights),
                remedy="the file changed while the run was prepared: start the run again",
            )
        config = mm.load_config(context.externals[f"config/{params.kind}"])
        _check_config(config, params.kind, str(weights))
        build = mm.build_detector if params.kind == "detector" else mm.build_pose
        model = build(config, weights)
        state = model.state_dict()
        _check_finite(state, weights)
        write_weights_dir(out, config, state, {"source": params.name, "long_side": params.long_side})


def _check_config(config: Any, kind: str, where: str) -> None:
    if config.kind != kind:
        raise OrveilError(
            f"the config describes a {config.kind}, expected a {kind}",
            where=where,
            remedy="check which weights the site file names as `detector` and as `pose_model`",
        )
    unknown = [name for name in config.get("classes", ()) if name not in CLASS_LABELS]
    if unknown or (kind == "detector" and "person" not in config.get("classes", ())):
        raise OrveilError(
            f"the detector's classes are {', '.join(config.get('classes', ())) or 'not given'}",
            where=where,
            remedy="`classes` in its config must hold person, and may hold head and face; "
            "`channels` says which of the model's outputs they are",
        )


def _check_finite(state: Mapping[str, Any], where: Path) -> None:
    bad = [name for name, value in state.items() if not bool(value.isfinite().all())]
    if bad:
        raise OrveilError(
            f"{len(bad)} tensors hold values that are not finite, for example {bad[0]}",
            where=str(where),
            remedy="these weights are damaged or their training diverged: use others",
        )
