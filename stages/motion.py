"""Stage: where each picture differs from what its camera usually shows.

The cameras of an operating room stand still, so that the median picture of a few minutes is the room without
those who move about. What equals it, a monitor or a coat on its hook, may look like a person for the whole
recording without being one. Kept is a coarse mask of each frame: cells that show something unusual. People
who do not move for minutes are usual too; a mask is evidence, no verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.kinds import MediaKind, MotionKind
from orveil.pipeline.media import upright_size
from orveil.pipeline.settings import MotionParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import write_table
from orveil.pipeline.types import MOTION_GRID, MediaFiles, Motion
from orveil.stages.chunks import Recordings
from orveil.stages.datasets import walk_frames

__all__ = ["FindMotion", "moved_share", "unusual", "usual_picture"]

SAMPLES = 60
"""Frames of a piece, evenly spread, that make its median picture."""
FEWEST_SAMPLES, LEAST_S = 8, 5.0
"""Fewer frames, or a shorter time, have no telling median: people stand in it. Then there are no masks."""

Cells = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Picture = NDArray[np.uint8]


class FindMotion:
    """media -> Motion: one shard per camera, several for a long recording, by time."""

    name: ClassVar[str] = "motion"
    version: ClassVar[int] = 2
    needs: ClassVar[Resources] = Resources()
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {"media": MediaKind}
    produces: ClassVar[type[ArtifactType]] = MotionKind
    volatile: ClassVar[frozenset[str]] = frozenset()

    _recordings: Recordings

    def shards(self, params: MotionParams, inputs: Inputs) -> Sequence[Shard]:
        """Every camera of every session, in the pieces that the label stages use."""
        del params
        recordings = Recordings(inputs["media"])
        return [shard for key in sorted(recordings.views) for shard in recordings.shards(*key)]

    def setup(self, params: MotionParams, inputs: Inputs, context: Context) -> None:
        """Read which frames there are."""
        del params, context
        self._recordings = Recordings(inputs["media"])

    def run(self, params: MotionParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Write `motion.parquet` of one piece of one camera; without rows where motion cannot be told."""
        index = self._recordings.frames(shard)
        index = index.select(np.argsort(index.index, kind="stable"))
        at = index.index.tolist()
        spread = sorted({at[round(k)] for k in np.linspace(0, len(at) - 1, SAMPLES)}) if at else []
        if len(spread) < FEWEST_SAMPLES or np.ptp(index.time_s) < LEAST_S:
            write_table(Motion.empty(), out)
            return

        def pictures(wanted: Sequence[int]) -> Iterator[Picture]:
            walk = walk_frames(
                inputs["media"].path, shard.session, shard.camera, wanted, context.externals,
                size=MOTION_GRID[::-1],
            )  # fmt: skip
            return (picture for _, picture in walk)

        usual = usual_picture(np.stack(list(pictures(spread))))
        masks = np.zeros((len(at), *MOTION_GRID), np.bool_)
        for done, picture in enumerate(pictures(at)):
            masks[done] = unusual(picture, usual, params.least_difference)
            context.progress(done + 1, len(at), "frames")
        columns: dict[str, Any] = {
            name: getattr(index, name) for name in ("session", "camera", "index", "pts")
        }
        write_table(Motion(**columns, moved=masks), out)


def usual_picture(pictures: Picture) -> Doubles:
    """Median (H, W, 3) of the pictures (K, H, W, 3) of a camera."""
    return np.asarray(np.median(pictures, axis=0), np.float64)


def unusual(picture: Picture, usual: Doubles, least: float) -> Cells:
    """Which pixels (H, W) of a picture differ from the usual one by at least `least` of 255 in a colour.

    A lamp that is switched changes the whole picture: what most pixels have in common does not count.
    """
    difference = picture - usual
    difference -= np.median(difference, axis=(0, 1))
    return np.asarray(np.abs(difference).max(axis=-1) >= least)


def moved_share(motion: Motion, files: MediaFiles, table: Any, xyxy: NDArray[np.floating]) -> Doubles:
    """Share of each box that shows something unusual.

    Args:
        motion: masks, of all frames or of some.
        files: one row per camera (picture sizes).
        table: N rows with a frame key; xyxy: (N, 4) their boxes, px.

    Returns:
        (N,) in [0, 1]; nan where the frame has no mask. A box narrower than a cell counts that cell.
    """
    share = np.full(len(table), np.nan)
    for session, camera in motion.view_keys():
        rows = np.flatnonzero((table.session == session) & (table.camera == camera))
        masks = motion.view(session, camera)
        order = np.argsort(masks.index, kind="stable")
        place = np.searchsorted(masks.index[order], table.index[rows])
        known = place < len(order)
        known[known] = masks.index[order][place[known]] == table.index[rows[known]]
        rows, place = rows[known], order[place[known]]
        cells = _cells(xyxy[rows], _picture_size(files, session, camera))
        share[rows] = _share(masks.moved, place, cells)
    return share


def _picture_size(files: MediaFiles, session: str, camera: str) -> tuple[int, int]:
    row = int(np.flatnonzero((files.session == session) & (files.camera == camera))[0])
    return upright_size(int(files.width[row]), int(files.height[row]), int(files.rotation[row]))


def _cells(xyxy: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.int64]:
    """First and last cell (exclusive) of each box: (N, 4), at least one cell each."""
    grid = np.array(MOTION_GRID[::-1])
    scaled = np.asarray(xyxy, np.float64).reshape(-1, 2, 2) * grid / np.array(size)
    first = np.clip(np.round(scaled[:, 0]), 0, grid - 1)
    last = np.clip(np.round(scaled[:, 1]), first + 1, grid)
    return np.concatenate([first, last], axis=1).astype(np.int64)


def _share(masks: Cells, place: NDArray[np.int64], cells: NDArray[np.int64]) -> Doubles:
    """Mean of the mask at `place` (N,) within the cells (N, 4), by summed-area tables."""
    frames, where = np.unique(place, return_inverse=True)
    sums = np.zeros((len(frames), masks.shape[1] + 1, masks.shape[2] + 1), np.int32)
    sums[:, 1:, 1:] = masks[frames].cumsum(axis=1, dtype=np.int32).cumsum(axis=2, dtype=np.int32)
    x0, y0, x1, y1 = cells.T
    total = sums[where, y1, x1] - sums[where, y0, x1] - sums[where, y1, x0] + sums[where, y0, x0]
    return np.asarray(total / np.maximum((x1 - x0) * (y1 - y0), 1), np.float64)
