"""Results of a run under readable names: `<work>/results/`, besides the content-addressed artifacts.

results/report.html, report.json, metrics.json      copies
results/bundle/                                     the folder to copy to the appliance
results/blurred/<session>-<camera>.mp4, .json       hard links where the file system has them, else copies
results/blurred/<session>-<camera>.boxes.json       what is covered, to be corrected (docs/boxes-json.md)
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orveil.pipeline.artifact import MANIFEST
from orveil.pipeline.errors import explain_os_error
from orveil.pipeline.stage import InputRef

__all__ = ["Results", "publish_results"]


@dataclass(frozen=True)
class Results:
    """Where the results lie; None for what the run did not make."""

    folder: Path
    report: Path | None
    metrics: Path | None
    bundle: Path | None
    blurred: tuple[Path, ...]


def publish_results(work: Path, finished: Mapping[str, InputRef]) -> Results:
    """Fill `work/results` anew from the finished nodes report, metrics, bundle and blurred.

    The old folder is replaced in one step when the new one is complete.

    Raises:
        OrveilError: the disk refuses.
    """
    final = work / "results"
    try:
        with _fresh_folder(work) as fresh:
            for node in ("report", "metrics"):
                if node in finished:
                    _copy_files(finished[node].path, fresh)
            if "bundle" in finished:
                _copy_files(finished["bundle"].path, fresh / "bundle")
            if "blurred" in finished:
                _publish_videos(finished["blurred"], fresh / "blurred")
            _replace(fresh, final)
    except OSError as error:
        raise explain_os_error(error, str(final)) from error
    return _results(final)


@contextmanager
def _fresh_folder(work: Path) -> Iterator[Path]:
    fresh = Path(tempfile.mkdtemp(prefix=".results-", dir=work))
    fresh.chmod(0o755)
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _replace(fresh: Path, final: Path) -> None:
    """Put `fresh` at `final`; a folder cannot be renamed over another one, so the old one steps aside."""
    old = fresh.with_name(f"{fresh.name}-old")
    if final.is_symlink() or final.exists():
        final.rename(old)
    fresh.rename(final)
    if old.is_symlink() or old.is_file():
        old.unlink()
    else:
        shutil.rmtree(old, ignore_errors=True)


def _copy_files(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _publish_videos(blurred: InputRef, target: Path) -> None:
    target.mkdir()
    for shard, path in blurred.shards:
        name = f"{shard.session}-{shard.camera}"
        _link(path / "video.mp4", target / f"{name}.mp4")
        shutil.copyfile(path / "redaction.json", target / f"{name}.json")
        shutil.copyfile(path / "boxes.json", target / f"{name}.boxes.json")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _results(folder: Path) -> Results:
    def there(path: Path) -> Path | None:
        return path if path.exists() else None

    return Results(
        folder,
        there(folder / "report.html"),
        there(folder / "metrics.json"),
        there(folder / "bundle"),
        tuple(sorted((folder / "blurred").glob("*.mp4"))),
    )
