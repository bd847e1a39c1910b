"""Evaluation: ground truth in the project's COCO form, joined to the frames of a site. Read nowhere else.

Images carry `camera_id` (a name, or the number n of the camera `camNN`), `frame_index` or `pts`, and where
the site has several sessions `session`; `time` is on the scene's clock, in seconds. Annotations carry
`track_id` (the same person in all cameras), `is_hard`, and for faces `face_visible` and the face's pixels
as COCO's compressed run lengths. Categories are found by name: person, head, face.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.geometry import from_xywh
from orveil.pipeline.types import FACE, HEAD, PERSON, MediaFiles, MediaIndex
from orveil.sim.coco import read_gt

__all__ = ["Truth", "TruthBoxes", "TruthFrames", "load_truth"]

Json = Mapping[str, Any]
Ints = NDArray[np.int64]
NAMES = {"person": PERSON, "head": HEAD, "face": FACE}
REMEDY = "docs/ground-truth.md describes the form"


@dataclass(frozen=True)
class TruthFrames:
    """The frames of the site that have ground truth.

    Attributes:
        session, camera, index: frame key (K,); time_s: (K,) seconds on one clock for all cameras.
        moment: (K,) the same number for frames of several cameras taken at the same time, -1 for a frame
            that no frame of the reference camera is close to.
        size: (K, 2) width and height in pixels.
    """

    session: NDArray[np.str_]
    camera: NDArray[np.str_]
    index: Ints
    time_s: NDArray[np.float64]
    moment: Ints
    size: Ints

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, table: Any) -> Ints:
        """For each row of a table with a frame key: its frame's row here, -1 where there is none."""
        known = {key: row for row, key in enumerate(self._keys(self))}
        return np.array([known.get(key, -1) for key in self._keys(table)], dtype=np.int64)

    @staticmethod
    def _keys(table: Any) -> Iterable[tuple[str, str, int]]:
        return zip(table.session.tolist(), table.camera.tolist(), table.index.tolist(), strict=True)


@dataclass(frozen=True)
class TruthBoxes:
    """The N boxes of one category.

    Attributes:
        frame: (N,) row in `TruthFrames`; xyxy: (N, 4) float32 px; track_id: (N,), -1 where not given.
        is_hard: (N,) bool; ignore: (N,) bool, neither to be found nor counted as a false alarm (iscrowd).
        face_visible: (N,) bool, True where the file does not say.
        masks: N compressed run lengths, None where the annotation has no pixels.
    """

    frame: Ints
    xyxy: NDArray[np.float32]
    track_id: Ints
    is_hard: NDArray[np.bool_]
    ignore: NDArray[np.bool_]
    face_visible: NDArray[np.bool_]
    masks: tuple[Json | None, ...]

    def __len__(self) -> int:
        return len(self.frame)

    def select(self, rows: NDArray[np.bool_]) -> TruthBoxes:
        """The rows chosen by a boolean mask (N,)."""
        masks = tuple(mask for mask, chosen in zip(self.masks, rows, strict=True) if chosen)
        return TruthBoxes(
            self.frame[rows], self.xyxy[rows], self.track_id[rows], self.is_hard[rows],
            self.ignore[rows], self.face_visible[rows], masks,
        )  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """All ground truth of a site; `unmatched` counts the file's images that are no frame of the site."""

    frames: TruthFrames
    boxes: Mapping[int, TruthBoxes]
    categories: frozenset[int]
    unmatched: int


def load_truth(path: Path, files: MediaFiles, index: MediaIndex) -> Truth:
    """Read ground truth and join it to the site's frames.

    Raises:
        OrveilError: unreadable file, an image or annotation without what it needs, no common frame.
    """
    gt = read_gt(path)
    categories = _categories(gt["categories"], path)
    frames, row_of_image = _frames(gt["images"], files, index, path)
    collected: dict[int, list[tuple[int, Json]]] = defaultdict(list)
    for annotation in gt["annotations"]:
        label = categories.get(_field(annotation, "category_id", "annotation", path))
        image = _field(annotation, "image_id", "annotation", path)
        if image not in row_of_image:
            raise _wrong(f"annotation {annotation.get('id')} names image {image}, which is not there", path)
        row = row_of_image[image]
        if label is not None and row >= 0:
            collected[label].append((row, annotation))
    boxes = {label: _boxes(collected[label], path) for label in NAMES.values()}
    unmatched = sum(row < 0 for row in row_of_image.values())
    return Truth(frames, boxes, frozenset(categories.values()), unmatched)


def _wrong(what: str, path: Path, remedy: str = REMEDY) -> OrveilError:
    return OrveilError(f"ground truth: {what}", where=str(path), remedy=remedy)


def _field(record: Json, name: str, kind: str, path: Path) -> Any:
    if name not in record:
        raise _wrong(f"{kind} {record.get('id', '?')} has no `{name}`", path)
    return record[name]


def _categories(records: Sequence[Json], path: Path) -> dict[int, int]:
    """Category number in the file -> label of this project; categories of other names are left out."""
    found = {
        int(_field(record, "id", "category", path)): NAMES[str(record.get("name", "")).lower()]
        for record in records
        if str(record.get("name", "")).lower() in NAMES
    }
    if PERSON not in found.values():
        raise _wrong("there is no category named person", path)
    return found


def _frames(
    images: Sequence[Json], files: MediaFiles, index: MediaIndex, path: Path
) -> tuple[TruthFrames, dict[Any, int]]:
    """The frames with truth in the order of the file, and image id -> row (-1 where not in the site)."""
    cameras = _Cameras(files)
    positions = _Positions(index)
    row_of_image: dict[Any, int] = {}
    media_rows: list[int] = []
    times: list[float] = []
    sizes: list[tuple[int, int]] = []
    for image in images:
        view = cameras.find(image, path)
        position = positions.find(view, image, path) if view else None
        identity = _field(image, "id", "image", path)
        if identity in row_of_image:
            raise _wrong(f"two images have the id {identity}", path)
        row_of_image[identity] = -1 if position is None else len(media_rows)
        if position is not None:
            media_rows.append(position)
            times.append(float(image.get("time", np.nan)))
            sizes.append((int(image.get("width", 0)), int(image.get("height", 0))))
    if not media_rows:
        known = ", ".join(f"{s}/{c}" for s, c in index.view_keys())
        raise _wrong(
            "no image belongs to a frame of this site", path, f"`camera_id` must name a camera: {known}"
        )
    if len(set(media_rows)) != len(media_rows):
        raise _wrong("two images belong to the same frame of the same camera", path)
    rows = np.array(media_rows, dtype=np.int64)
    given = np.array(times)
    time_s = given if np.isfinite(given).all() else index.time_s[rows]
    session, camera = index.session[rows], index.camera[rows]
    moment = moments(session, camera, time_s)
    size = np.array(sizes, dtype=np.int64).reshape(-1, 2)
    return TruthFrames(session, camera, index.index[rows], time_s, moment, size), row_of_image


class _Cameras:
    """Which (session, camera) of the site an image belongs to."""

    def __init__(self, files: MediaFiles) -> None:
        self.sessions = sorted(set(files.session.tolist()))
        self.names: dict[tuple[str, str], tuple[str, str]] = {}
        for session, camera, path in zip(files.session, files.camera, files.path, strict=True):
            view = (str(session), str(camera))
            self.names.setdefault((view[0], Path(str(path)).stem), view)
        for session, camera in zip(files.session.tolist(), files.camera.tolist(), strict=True):
            self.names[(session, camera)] = (session, camera)

    def find(self, image: Json, path: Path) -> tuple[str, str] | None:
        session = image.get("session")
        if session is None:
            if len(self.sessions) > 1:
                raise _wrong(f"image {image.get('id')} must name its `session`: the site has several", path)
            session = self.sessions[0]
        camera = _field(image, "camera_id", "image", path)
        folder = str(image.get("file_name", "")).partition("/")[0]
        guesses = [str(camera)]
        if isinstance(camera, int):
            guesses += [folder, f"cam{camera:02d}", f"cam{camera}"]
        return next((self.names[(session, g)] for g in guesses if (session, g) in self.names), None)


class _Positions:
    """Row of the media index of a frame given by its position in the file or by its pts."""

    def __init__(self, index: MediaIndex) -> None:
        views = list(zip(index.session.tolist(), index.camera.tolist(), strict=True))
        self.by_index = {
            (v, i): row for row, (v, i) in enumerate(zip(views, index.index.tolist(), strict=True))
        }
        self.by_pts = {(v, p): row for row, (v, p) in enumerate(zip(views, index.pts.tolist(), strict=True))}

    def find(self, view: tuple[str, str], image: Json, path: Path) -> int | None:
        if "frame_index" in image:
            return self.by_index.get((view, int(image["frame_index"])))
        return self.by_pts.get((view, int(_field(image, "pts", "image", path))))


def moments(session: NDArray[np.str_], camera: NDArray[np.str_], time_s: NDArray[np.float64]) -> Ints:
    """Number the moments at which several cameras saw the same scene.

    The camera of a session with the most frames is the reference; each of its frames is one moment, to
    which every other camera contributes its nearest frame, if that is at most half a frame away.

    Returns:
        (K,) moment of each frame, -1 for frames that belong to none.
    """
    result = np.full(len(time_s), -1, dtype=np.int64)
    first = 0
    for name in sorted(set(session.tolist())):
        rows = np.nonzero(session == name)[0]
        cameras = sorted(set(camera[rows].tolist()))
        by_camera = {c: rows[camera[rows] == c] for c in cameras}
        by_camera = {c: r[np.argsort(time_s[r], kind="stable")] for c, r in by_camera.items()}
        reference = max(cameras, key=lambda c: len(by_camera[c]))
        ticks = time_s[by_camera[reference]]
        half = 0.5 * float(np.median(np.diff(ticks))) if len(ticks) > 1 else 0.5
        for view in by_camera.values():
            nearest = _nearest(time_s[view], ticks)
            close = np.abs(time_s[view][nearest] - ticks) <= half * 1.001
            result[view[nearest[close]]] = first + np.nonzero(close)[0]
        first += len(ticks)
    return result


def _nearest(times: NDArray[np.float64], wanted: NDArray[np.float64]) -> Ints:
    """Positions in sorted `times` (N >= 1) of the values nearest to `wanted`."""
    right = np.clip(np.searchsorted(times, wanted), 1, max(1, len(times) - 1))
    right = np.minimum(right, len(times) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(times[left] - wanted) <= np.abs(times[right] - wanted), left, right)


def _boxes(records: Sequence[tuple[int, Json]], path: Path) -> TruthBoxes:
    boxes = np.zeros((len(records), 4), dtype=np.float64)
    for row, (_, record) in enumerate(records):
        try:
            boxes[row] = np.array(record["bbox"], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise _wrong(f"annotation {record.get('id')} has no box x, y, width, height", path) from error
        if not np.isfinite(boxes[row]).all() or (boxes[row, 2:] < 0).any():
            raise _wrong(f"annotation {record.get('id')} has the impossible box {record['bbox']}", path)

    def flag(name: str, missing: bool) -> NDArray[np.bool_]:
        return np.array([bool(record.get(name, missing)) for _, record in records], dtype=bool)

    return TruthBoxes(
        frame=np.array([row for row, _ in records], dtype=np.int64),
        xyxy=from_xywh(boxes),
        track_id=np.array([int(record.get("track_id", -1)) for _, record in records], dtype=np.int64),
        is_hard=flag("is_hard", False),
        ignore=flag("iscrowd", False) | flag("ignore", False),
        face_visible=flag("face_visible", True),
        masks=tuple(_mask(record) for _, record in records),
    )


def _mask(record: Json) -> Json | None:
    mask = record.get("segmentation")
    return mask if isinstance(mask, Mapping) and isinstance(mask.get("counts"), str) else None
