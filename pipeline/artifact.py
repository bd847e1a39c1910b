"""Engine: content-addressed artifacts on disk: keys, manifests, and a commit that is whole or absent.

Layout under the work directory:

    artifacts/<stage>/<first 16 hex digits of the key>/   the stage's files and manifest.json
    artifacts/.tmp/<key>-<random>/                        being written; nothing ever reads it
    scratch/<key>/                                        training checkpoints; survives a kill

An artifact exists when its directory has a readable manifest.json with the same key. The manifest is
written last, into the temporary directory, and one rename publishes the whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.pipeline.stage import ArtifactType, Shard

__all__ = ["MANIFEST", "Artifact", "FileRecord", "Key", "Manifest", "Store", "canonical", "content_digest"]

MANIFEST = "manifest.json"
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def content_digest(parts: Any) -> str:
    """sha256 (hex) of the canonical JSON of `parts`."""
    return hashlib.sha256(canonical(parts)).hexdigest()


@dataclass(frozen=True)
class Key:
    """Everything that decides what an artifact holds; its hash is the artifact's identity.

    Attributes:
        stage: name of the stage.
        version: version of the stage's code.
        params: canonical JSON form of the stage's parameters.
        inputs: content digest of every input, by input name.
        shard: the piece of work.
        site_seed: the user's seed, 0 for stages without randomness.
    """

    stage: str
    version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    shard: Shard
    site_seed: int = 0

    @cached_property
    def hex(self) -> str:
        """64 hex digits."""
        return content_digest(asdict(self))

    @property
    def short(self) -> str:
        """The 16 hex digits used in paths."""
        return self.hex[:16]

    @property
    def seed(self) -> int:
        """The only source of randomness of this shard, in [0, 2**31): what every library accepts."""
        return int(self.hex[-8:], 16) & 0x7FFFFFFF


class FileRecord(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    sha256: str
    bytes: int


class Manifest(BaseModel):
    """What manifest.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1] = 1
    key: str
    node: str
    stage: str
    version: int
    params: dict[str, Any]
    inputs: dict[str, str]
    shard: Shard
    site_seed: int
    seed: int
    kind: str
    files: dict[str, FileRecord]
    volatile: list[str]
    digest: str
    seconds: float
    peak_rss_bytes: int
    versions: dict[str, str]
    created: str


@dataclass(frozen=True)
class Artifact:
    """A committed artifact: its directory and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def digest(self) -> str:
        """Content digest over the files that are not volatile."""
        return self.manifest.digest


class Store:
    """All artifacts of one work directory. Any number of processes may commit to it at the same time."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @property
    def _temporary(self) -> Path:
        return self.root / "artifacts" / ".tmp"

    def path(self, key: Key) -> Path:
        """Where the artifact of this key is or will be."""
        if not SAFE_NAME.fullmatch(key.stage):
            raise OrveilError(f"stage name {key.stage!r} cannot be a folder name", where="graph")
        return self.root / "artifacts" / key.stage / key.short

    def find(self, key: Key, *, verify: bool = False) -> Artifact | None:
        """The finished artifact of this key, or None where it is missing, damaged or incomplete.

        Sizes are always compared with the manifest; `verify` reads and hashes every file.
        """
        artifact = self._load(self.path(key))
        if artifact is None or artifact.manifest.key != key.hex or not _whole(artifact, verify):
            return None
        return artifact

    def artifacts(self, stage: str) -> list[Artifact]:
        """All finished artifacts of a stage, the most recently used one first."""
        found: list[tuple[int, Artifact]] = []
        for manifest in sorted((self.root / "artifacts" / stage).glob(f"*/{MANIFEST}")):
            artifact = self._load(manifest.parent)
            if artifact is not None:
                found.append((manifest.stat().st_mtime_ns, artifact))
        return [artifact for _, artifact in sorted(found, key=lambda pair: pair[0], reverse=True)]

    def mark_used(self, artifact: Artifact) -> None:
        """Record that a run used this artifact (the manifest's modification time)."""
        with contextlib.suppress(OSError):  # a read-only copy of a work directory can still be used
            os.utime(artifact.path / MANIFEST)

    @contextlib.contextmanager
    def writing(self, key: Key) -> Iterator[Path]:
        """A fresh directory for the files of `key`; whatever was not committed is gone afterwards."""
        try:
            self._temporary.mkdir(parents=True, exist_ok=True)
            out = Path(tempfile.mkdtemp(prefix=f"{key.short}-", dir=self._temporary))
            out.chmod(0o755)  # mkdtemp makes it private; artifacts are shared like other files
        except OSError as error:
            raise explain_os_error(error, str(self._temporary)) from error
        try:
            yield out
        finally:
            shutil.rmtree(out, ignore_errors=True)

    def commit(
        self,
        key: Key,
        out: Path,
        *,
        node: str,
        produces: type[ArtifactType],
        volatile: Iterable[str] = (),
        seconds: float = 0.0,
        peak_rss_bytes: int = 0,
        versions: Mapping[str, str] | None = None,
    ) -> Artifact:
        """Validate, hash and sync the files in `out`, then publish them in one rename.

        Raises:
            OrveilError: the files are not a whole artifact of that kind, or the disk refuses.
        """
        produces.validate(out)
        try:
            files = {name: _record(out / name) for name in _file_names(out)}
            counted = {name: record.sha256 for name, record in files.items() if name not in set(volatile)}
            manifest = Manifest(
                key=key.hex, node=node, stage=key.stage, version=key.version, params=dict(key.params),
                inputs=dict(key.inputs), shard=key.shard, site_seed=key.site_seed, seed=key.seed,
                kind=produces.name, files=files, volatile=sorted(volatile), digest=content_digest(counted),
                seconds=round(seconds, 4), peak_rss_bytes=peak_rss_bytes, versions=dict(versions or {}),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
            )  # fmt: skip
            (out / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", "utf-8")
            _sync_tree(out)
            return self._publish(key, out, Artifact(self.path(key), manifest))
        except OSError as error:
            raise explain_os_error(error, str(self.path(key))) from error

    def _publish(self, key: Key, out: Path, artifact: Artifact) -> Artifact:
        final = artifact.path
        final.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(10):
            try:
                out.rename(final)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            else:  # no sync of the parent: a rename lost in a power cut costs time, never a wrong result
                return artifact
            existing = self.find(key, verify=True)
            if existing is not None:  # another process was faster with the same work
                return existing
            self._set_aside(final)
        raise OrveilError("cannot publish the artifact: its folder keeps coming back", where=str(final))

    def _set_aside(self, broken: Path) -> None:
        """Move what is in the way (a damaged artifact) out of sight in one step, then delete it."""
        aside = Path(tempfile.mkdtemp(prefix="damaged-", dir=self._temporary))
        with contextlib.suppress(FileNotFoundError):  # another process moved it first
            broken.rename(aside / broken.name)
        shutil.rmtree(aside, ignore_errors=True)

    def scratch(self, key: Key) -> Path:
        """The directory of `key` that survives a kill, made if missing."""
        path = self.root / "scratch" / key.short
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, str(path)) from error
        return path

    def drop_scratch(self, key: Key) -> None:
        """Delete the scratch directory of a committed key."""
        shutil.rmtree(self.root / "scratch" / key.short, ignore_errors=True)

    def clean_leftovers(self) -> int:
        """Delete what killed runs left behind. Only the holder of the run lock may call this.

        Returns:
            Number of directories deleted: half-written artifacts, scratch of work that is committed.
        """
        leftovers = [path for path in _children(self._temporary) if path.is_dir()]
        finished = {path.parent.name for path in (self.root / "artifacts").glob(f"[!.]*/*/{MANIFEST}")}
        leftovers += [path for path in _children(self.root / "scratch") if path.name in finished]
        for path in leftovers:
            shutil.rmtree(path, ignore_errors=True)
        return len(leftovers)

    def _load(self, directory: Path) -> Artifact | None:
        try:
            return Artifact(directory, Manifest.model_validate_json((directory / MANIFEST).read_bytes()))
        except (OSError, ValidationError):
            return None


def _children(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _file_names(out: Path) -> list[str]:
    """Relative POSIX names of the files in `out`; anything that could point out of it is refused."""
    names = []
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()) or name == MANIFEST:
            raise OrveilError(
                f"the stage wrote {name}, which an artifact cannot hold",
                where=str(out),
                remedy="artifacts hold plain files, and manifest.json is the engine's own: report this bug",
            )
        if path.is_file():
            names.append(name)
    return names


def _record(path: Path) -> FileRecord:
    with path.open("rb") as stream:
        return FileRecord(sha256=hashlib.file_digest(stream, "sha256").hexdigest(), bytes=path.stat().st_size)


def _whole(artifact: Artifact, verify: bool) -> bool:
    for name, record in artifact.manifest.files.items():
        path = artifact.path / name
        try:
            if path.stat().st_size != record.bytes or (verify and _record(path) != record):
                return False
        except OSError:
            return False
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(directory: Path) -> None:
    for path in directory.rglob("*"):
        _sync(path)
    _sync(directory)
