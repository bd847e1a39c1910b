"""Engine: what a stage is. Stages implement this; executors run it; neither knows the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

__all__ = ["ArtifactType", "Context", "InputRef", "Inputs", "Resources", "Shard", "Stage"]


@dataclass(frozen=True)
class Resources:
    """What one shard of a stage needs. `threads` is also the thread count that torch and OpenCV get:
    floating-point sums depend on it, so it is a property of the stage and not of the machine."""

    cpus: int = 1
    gpus: float = 0.0
    threads: int = 1
    loads_model: bool = False


@dataclass(frozen=True, order=True)
class Shard:
    """The piece of work one call of `Stage.run` does: a session, a camera, or a range of its frames
    (detection) or of whole seconds from its start (tracking, association, labels)."""

    session: str = ""
    camera: str = ""
    start: int = 0
    stop: int = -1

    @property
    def name(self) -> str:
        """Short text for progress and paths; "all" for the whole site."""
        parts = [p for p in (self.session, self.camera) if p]
        if self.stop >= 0:
            parts.append(f"{self.start}-{self.stop}")
        return "/".join(parts) or "all"


class ArtifactType(Protocol):
    """A kind of artifact: knows whether a directory holds a complete one."""

    name: ClassVar[str]

    @staticmethod
    def validate(directory: Path) -> None:
        """Raise `OrveilError` where the directory does not hold a complete artifact of this kind."""


@dataclass(frozen=True)
class InputRef:
    """A finished upstream node: its shards' directories, in shard order, and their joint digest."""

    node: str
    digest: str
    shards: tuple[tuple[Shard, Path], ...]

    def paths(self, session: str = "", camera: str = "") -> list[Path]:
        """Directories of the shards that concern this session and camera (whole-site shards always do)."""
        return [
            path
            for shard, path in self.shards
            if (not session or shard.session in ("", session))
            and (not camera or shard.camera in ("", camera))
        ]

    @property
    def path(self) -> Path:
        """The directory of an input that has one shard only."""
        if len(self.shards) != 1:
            raise ValueError(f"{self.node} has {len(self.shards)} shards, not one")
        return self.shards[0][1]


Inputs = Mapping[str, InputRef]


@dataclass(frozen=True)
class Context:
    """What the executor hands to a running shard.

    Attributes:
        seed: derived from the artifact's key; the only source of randomness.
        scratch: a directory that survives a kill (training checkpoints); never part of the artifact.
        progress: call with (done, total, unit) as often as you like; total 0 where unknown.
        externals: locations that are not content (video paths, ground truth), by name; not in the key.
    """

    seed: int
    scratch: Path
    progress: Callable[[int, int, str], None]
    externals: Mapping[str, str] = field(default_factory=dict)


class Stage(Protocol):
    """One arrow of the data flow.

    `params` is a frozen pydantic model; its canonical JSON is in the key. A stage reads its inputs by
    name, as declared in `consumes`, and writes files into `out`; the executor validates them as
    `produces` and commits the directory. `setup` is called once per worker before the first `run` of a
    node and may keep state (a loaded model) on `self`.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    needs: ClassVar[Resources]
    produces: ClassVar[type[ArtifactType]]
    volatile: ClassVar[frozenset[str]]
    """File names in the artifact that do not count in its digest (timings, paths)."""

    @property
    def consumes(self) -> Mapping[str, type[ArtifactType]]:
        """Kinds of the inputs by name: of the class, or of the instance where their number varies."""

    def shards(self, params: Any, inputs: Inputs) -> Sequence[Shard]:
        """The pieces of work, in a fixed order that does not depend on the number of workers."""

    def setup(self, params: Any, inputs: Inputs, context: Context) -> None:
        """Load models once per worker."""

    def run(self, params: Any, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Do one shard and write its files into `out`."""
