"""Stage part: long recordings in pieces of a few minutes, so that memory does not grow with the recording.

A shard of a session (or of one of its cameras) covers the seconds `start` to `stop` of the session's clock.
A recording that is hardly longer than one piece is not cut at all.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.stage import InputRef, Shard
from orveil.pipeline.tables import read_table, read_tables
from orveil.pipeline.types import Detections, MediaIndex

__all__ = ["CHUNK_S", "Recordings", "candidates_of", "of_chunk", "unique_ids"]

CHUNK_S = 300
"""Seconds per piece."""
STRIDE = 10_000_000
"""Ids of a piece start at this times its number."""


class Recordings:
    """The frames of all sessions, read once per worker.

    Args:
        media: the media artifact.
    """

    def __init__(self, media: InputRef) -> None:
        table = read_table(MediaIndex, media.path)
        self.views = {key: table.view(*key) for key in table.view_keys()}

    def sessions(self) -> list[str]:
        """Their names, sorted."""
        return sorted({session for session, _ in self.views})

    def shards(self, session: str, camera: str = "") -> list[Shard]:
        """The pieces of a session, or of one camera of it; a single shard without times where it is short."""
        times = [t.time_s for (s, _), t in self.views.items() if s == session and len(t)]
        first = int(np.floor(min(t.min() for t in times)))
        last = int(np.floor(max(t.max() for t in times))) + 1
        count = max(1, round((last - first) / CHUNK_S))
        if count == 1:
            return [Shard(session, camera)]
        edges = [first + k * CHUNK_S for k in range(count)] + [last]
        # Shards count from 0, while clocks may start before it.
        return [Shard(session, camera, a - first, b - first) for a, b in pairwise(edges)]

    def frames(self, shard: Shard, around_s: float = 0.0) -> MediaIndex:
        """The frames of a piece, and those up to `around_s` before and after it."""
        tables = [t for (s, c), t in self.views.items() if s == shard.session and shard.camera in ("", c)]
        if shard.stop < 0:
            return MediaIndex.concat(tables)
        zero = self._zero(shard.session)
        return MediaIndex.concat(
            [
                t.select(
                    (t.time_s >= zero + shard.start - around_s) & (t.time_s < zero + shard.stop + around_s)
                )
                for t in tables
            ]
        )

    def share(self, shard: Shard) -> float:
        """Share of a piece in all frames of all sessions."""
        return len(self.frames(shard)) / max(sum(len(t) for t in self.views.values()), 1)

    def _zero(self, session: str) -> int:
        return int(
            np.floor(min(t.time_s.min() for (s, _), t in self.views.items() if s == session and len(t)))
        )


def of_chunk(ref: InputRef, shard: Shard) -> InputRef:
    """The shards of an input, itself cut into pieces, that concern this piece and camera."""
    mine = tuple(
        (other, path)
        for other, path in ref.shards
        if other.session in ("", shard.session)
        and (not shard.camera or other.camera in ("", shard.camera))
        and (other.stop < 0 or shard.stop < 0 or (other.start < shard.stop and shard.start < other.stop))
    )
    return InputRef(ref.node, ref.digest, mine)


def candidates_of(candidates: InputRef, frames: MediaIndex) -> Detections:
    """The candidates of these frames; reads only the shards of the detector that hold some of them."""
    tables = [Detections.empty()]
    for session, camera in frames.view_keys():
        index = frames.view(session, camera).index
        first, last = int(index.min()), int(index.max())
        paths = [
            path
            for s, path in candidates.shards
            if s.session in ("", session)
            and s.camera in ("", camera)
            and (s.stop < 0 or (s.start <= last and first < s.stop))
        ]
        table = read_tables(Detections, paths).view(session, camera)
        tables.append(table.select((table.index >= first) & (table.index <= last)))
    return Detections.concat(tables)


def unique_ids(ids: NDArray[np.int64], shard: Shard) -> NDArray[np.int64]:
    """Ids (N,) that no other piece has; -1 stays -1."""
    return np.where(ids >= 0, ids + STRIDE * (shard.start // CHUNK_S), ids)
