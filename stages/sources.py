"""Stages: which videos a site has: found in a folder or listed, named by content (sha256), never by place."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pydantic import Field

from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.pipeline.media import external_name
from orveil.pipeline.settings import Camera, IngestParams, Params, SiteSettings
from orveil.stages.runtime import sha256_of

__all__ = ["IngestJob", "MediaSource", "site_media"]

SUFFIXES = (
    ".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv",
)  # fmt: skip


class MediaSource(Params):
    """One video, by content."""

    session: str
    camera: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    offset_s: float | None = None


class IngestJob(IngestParams):
    """Settings of the stage and the videos it reads; the first camera of a session is its clock."""

    sources: tuple[MediaSource, ...]


def site_media(site: SiteSettings) -> tuple[IngestJob, dict[str, str]]:
    """The videos of a site: parameters that say what they are, and externals that say where they are.

    Args:
        site: settings with absolute paths; digests are remembered in `work/hashes.json`.

    Raises:
        OrveilError: missing or empty folder, missing or empty file, a camera or a video given twice.
    """
    cameras = site.camera or _cameras_in(site.videos or Path())
    digests = _Digests(site.work / "hashes.json")
    sources, externals = [], {}
    owner: dict[str, Camera] = {}
    for camera in cameras:
        sha256 = digests.of(camera.path, f"{camera.session}/{camera.id}")
        twin = owner.setdefault(sha256, camera)
        if twin is not camera:
            raise OrveilError(
                f"cameras {twin.session}/{twin.id} and {camera.session}/{camera.id} have the same video",
                where=str(camera.path), remedy="give each camera its own recording, each only once",
            )  # fmt: skip
        sources.append(
            MediaSource(session=camera.session, camera=camera.id, sha256=sha256, offset_s=camera.offset_s)
        )
        externals[external_name(camera.session, camera.id)] = str(camera.path)
    digests.save()
    return IngestJob(**site.ingest.model_dump(), sources=tuple(sources)), externals


def _cameras_in(folder: Path) -> tuple[Camera, ...]:
    """One camera per video file of a folder, in the order of their names; the first is the clock."""
    try:
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    except OSError as error:
        raise explain_os_error(error, str(folder)) from error
    cameras: dict[str, Camera] = {}
    for path in found:
        name = re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)[:32]
        if name in cameras:
            raise OrveilError(
                f"two files of the folder would both be camera {name}",
                where=f"{cameras[name].path} and {path}",
                remedy="keep one video per camera in the folder, or list them as [[camera]]",
            )
        cameras[name] = Camera(id=name, path=path)
    if not cameras:
        raise OrveilError(
            "the folder holds no video",
            where=str(folder),
            remedy=f"put one video per camera there ({' '.join(SUFFIXES)})",
        )
    return tuple(cameras.values())


class _Digests:
    """sha256 of files, remembered by (path, size, modification time)."""

    def __init__(self, store: Path) -> None:
        self.store, self.changed = store, False
        try:
            self.known: dict[str, str] = json.loads(store.read_text("utf-8"))
        except (OSError, ValueError):
            self.known = {}

    def of(self, path: Path, where: str) -> str:
        """Digest of the file's bytes."""
        try:
            status = path.stat()
            if not path.is_file() or status.st_size == 0:
                raise OrveilError("the video file is empty or is no file", where=f"{path}, camera {where}",
                                  remedy="copy the recording again")  # fmt: skip
            key = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
            if key not in self.known:
                self.known[key], self.changed = sha256_of(path), True
            return self.known[key]
        except OSError as error:
            place = f"{path}, camera {where}"
            raise explain_os_error(OSError(error.errno, error.strerror), place) from error

    def save(self) -> None:
        """Write what is known, whole or not at all."""
        if self.changed:
            try:
                self.store.parent.mkdir(parents=True, exist_ok=True)
                partial = self.store.with_suffix(".partial")
                partial.write_text(json.dumps(self.known, indent=1, sort_keys=True), "utf-8")
                partial.replace(self.store)
            except OSError as error:
                raise explain_os_error(error, str(self.store)) from error
