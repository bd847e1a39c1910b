"""Models by name: the registry in `configs/models.toml`, fetching, checking, and finding their files.

Imports no PyTorch: `orveil models` and the site file's checks work on a machine that cannot train.
Fetched files live in `$ORVEIL_MODELS`, else in `~/.cache/orveil/models`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from orveil.pipeline.errors import OrveilError, explain_os_error

__all__ = [
    "ModelEntry", "ResolvedModel", "list_models", "local_path", "models_folder", "pull", "resolve", "verify",
]  # fmt: skip

BLOCK = 1 << 20
TIMEOUT_S = 30.0
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ModelEntry:
    """One named model of the registry.

    Attributes:
        name: what the site file calls it.
        kind: "detector" or "pose".
        about: one line.
        config: name of its config in `orveil.configs`.
        licence: of the weights.
        file: of an embedded model, else "".
        url: of a model that is fetched, else "".
        sha256: of the file, "" where no one publishes it.
        sha256_prefix: first digits of the sha256, "" where unknown.
        long_side: detector's input it was trained for, px; 0 where that means nothing.
    """

    name: str
    kind: str
    about: str
    config: str
    licence: str
    file: str = ""
    url: str = ""
    sha256: str = ""
    sha256_prefix: str = ""
    long_side: int = 0

    @property
    def file_name(self) -> str:
        """Name of the weights file."""
        return self.file or urllib.parse.urlsplit(self.url).path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class ResolvedModel:
    """A model that is here: its name, config (name or path), weights file or folder, and sha256.

    `sha256` is of the weights file (of `model.safetensors` where `weights` is a folder that orveil wrote).
    """

    name: str
    config: str
    weights: Path
    sha256: str


def list_models(registry: Path | None = None) -> list[ModelEntry]:
    """All entries of the registry, in its order.

    Args:
        registry: another TOML file than the one that comes with the package.
    """
    path = registry or Path(str(resources.files("orveil.configs").joinpath("models.toml")))
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
        return [ModelEntry(name=name, **table) for name, table in tables.items()]
    except (OSError, tomllib.TOMLDecodeError, TypeError) as error:
        raise OrveilError(
            f"the model registry cannot be read: {error}", where=str(path), remedy="install orveil again"
        ) from error


def models_folder() -> Path:
    """Where fetched models are kept."""
    given = os.environ.get("ORVEIL_MODELS")
    return Path(given) if given else Path.home() / ".cache" / "orveil" / "models"


def local_path(entry: ModelEntry, folder: Path | None = None) -> Path:
    """Where the weights of an entry are, or will be once they are fetched."""
    if entry.file:
        return Path(str(resources.files("orveil.configs").joinpath("weights", entry.file)))
    return (folder or models_folder()) / entry.file_name


def pull(
    name: str, dest: Path | None = None, progress: Progress | None = None, registry: Path | None = None
) -> Path:
    """Fetch a model and check it; a file that is here and right is not fetched again.

    The file appears under its name only when it is whole and right. Where only the first digits of the sha256
    are published, the first pull checks these; where none are, it trusts the connection. Either way it pins
    the whole digest beside the file (`<file>.sha256`), and every later pull and verify must meet the pin.

    Args:
        name: of the registry.
        dest: folder; default `models_folder()`.
        progress: called with (bytes so far, bytes in all or 0).
        registry: another registry file.

    Raises:
        OrveilError: unknown name, no network, server's refusal, wrong digest, disk.
    """
    entry = _entry(name, registry)
    path = local_path(entry, dest)
    if path.is_file():
        _check(entry, path, _digest(path))
        return path
    if not entry.url:
        raise OrveilError(
            "an embedded model's file is missing", where=str(path), remedy="install orveil again"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial_name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise explain_os_error(error, str(path)) from error
    partial = Path(partial_name)
    try:
        with os.fdopen(handle, "wb") as file:
            digest = _stream(entry.url, file, progress)
        _check(entry, path, digest)
        partial.replace(path)
        _pin(path).write_text(f"{digest}  {path.name}\n", "utf-8")
    except OSError as error:
        raise explain_os_error(error, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def verify(
    name: str = "all", folder: Path | None = None, registry: Path | None = None
) -> list[tuple[ModelEntry, str]]:
    """Check the digest of one model, or of all.

    Returns:
        entry and its state: "right", "right (pinned at the first pull)", or "not here".

    Raises:
        OrveilError: a file differs from its digest; unknown name.
    """
    entries = list_models(registry) if name == "all" else [_entry(name, registry)]
    states = []
    for entry in entries:
        path = local_path(entry, folder)
        if not path.is_file():
            states.append((entry, "not here"))
            continue
        _check(entry, path, _digest(path))
        states.append((entry, "right" if entry.sha256 else "right (pinned at the first pull)"))
    return states


def resolve(
    name_or_path: str | Path, config: str | None = None, registry: Path | None = None
) -> ResolvedModel:
    """Find the weights and the config of a model.

    Args:
        name_or_path: a name of the registry, a weights file (then `config` is needed), or a folder of weights
            that orveil wrote.
        config: a config's name or path; overrides the registry's.
        registry: another registry file.

    Raises:
        OrveilError: unknown name, a model that was not fetched yet, a file without config, wrong digest.
    """
    given = str(name_or_path)
    entry = next((e for e in list_models(registry) if e.name == given), None)
    if entry is not None:
        path = local_path(entry)
        if not path.is_file():
            remedy = f"run: orveil models pull {given}" if entry.url else "install orveil again"
            raise OrveilError("the weights of this model are not here", where=given, remedy=remedy)
        digest = _digest(path)
        _check(entry, path, digest)
        return ResolvedModel(given, config or entry.config, path, digest)
    path = Path(given)
    if path.is_dir() and (path / "model.safetensors").is_file():
        weights = path / "model.safetensors"
        return ResolvedModel(path.name, config or str(path / "config.py"), path, _digest(weights))
    if not path.is_file():
        names = ", ".join(e.name for e in list_models(registry))
        raise OrveilError(
            "there is no such model",
            where=given,
            remedy=f"give the path of a weights file, or one of: {names}",
        )
    if config is None:
        raise OrveilError(
            "weights given by path need their config",
            where=given,
            remedy="set detector_config (or pose_config) to the name or the path of an mmengine config",
        )
    return ResolvedModel(path.stem, config, path, _digest(path))


def _entry(name: str, registry: Path | None) -> ModelEntry:
    entries = list_models(registry)
    for entry in entries:
        if entry.name == name:
            return entry
    raise OrveilError(
        "there is no model of this name",
        where=name,
        remedy="one of: " + ", ".join(entry.name for entry in entries),
    )


def _stream(url: str, file: object, progress: Progress | None) -> str:
    """Copy a URL into an open file and sync it; returns the sha256."""
    digest = hashlib.sha256()
    request = urllib.request.Request(url, headers={"User-Agent": "orveil"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while block := answer.read(BLOCK):
                file.write(block)  # type: ignore[attr-defined]
                digest.update(block)
                done += len(block)
                if progress:
                    progress(done, total)
    except urllib.error.HTTPError as error:
        raise OrveilError(
            f"the server refused: {error.code} {error.reason}",
            where=url,
            remedy="the file may have moved: fetch it by other means and give its path in the site file",
        ) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise OrveilError(
            f"the model cannot be fetched: {getattr(error, 'reason', error)}",
            where=url,
            remedy="check the network and proxy, or copy the file from another machine into "
            f"{models_folder()}",
        ) from error
    if total and done < total:
        raise OrveilError(
            f"the connection ended after {done} of {total} bytes",
            where=url,
            remedy="run the same command again",
        )
    file.flush()  # type: ignore[attr-defined]
    os.fsync(file.fileno())  # type: ignore[attr-defined]
    return digest.hexdigest()


def _pin(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _pinned(path: Path) -> str:
    try:
        return _pin(path).read_text("utf-8").split()[0]
    except (OSError, IndexError):
        return ""


def _check(entry: ModelEntry, path: Path, digest: str) -> None:
    """Raise where a digest contradicts the registry or the pin of an earlier pull."""
    expected = entry.sha256 or ("" if entry.file else _pinned(path))
    if (expected and digest != expected) or not digest.startswith(entry.sha256_prefix):
        wanted = expected or f"{entry.sha256_prefix}..."
        raise OrveilError(
            f"the file is not the model {entry.name}: its sha256 is {digest}, not {wanted}",
            where=str(path),
            remedy="remove the file (and its .sha256) and pull it again"
            if entry.url
            else "install orveil again",
        )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError as error:
        raise explain_os_error(error, str(path)) from error
    return digest.hexdigest()
