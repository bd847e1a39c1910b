"""Stages: videos -> MediaFiles and MediaIndex: what each camera recorded, and when, on one clock.

The key holds what the videos are (sha256), never where they are: a moved folder redoes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.decode import REPAIR, Picture, Pictures
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.kinds import MediaKind
from orveil.pipeline.media import ToArray, damaged_frame, external_name, rotation_of, upright_size
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import write_table
from orveil.pipeline.types import MediaFiles, MediaIndex
from orveil.stages.runtime import sha256_of
from orveil.stages.sources import IngestJob, MediaSource, site_media
from orveil.stages.sync import Motion, MotionMeter, Offset, PairLag, estimate_offsets

__all__ = ["Ingest", "IngestJob", "MediaSource", "site_media"]

MOTION_S = 900.0
"""Clocks are compared over this much of the recordings."""
DIGITS = 4
"""Decimals of an estimated offset: a tenth of a millisecond is far below what can be known."""


@dataclass(frozen=True)
class _Recording:
    """What reading one video gave."""

    source: MediaSource
    path: Path
    width: int
    height: int
    rotation: int
    time_base: tuple[int, int]
    pts: tuple[int, ...]
    motion: Motion

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Time of each frame on the file's own clock."""
        ticks = np.asarray(self.pts, dtype=np.float64)
        return np.asarray(ticks * self.time_base[0] / self.time_base[1])


class Ingest:
    """Reads every video once, from end to end: what is indexed here is known to be decodable."""

    name: ClassVar[str] = "ingest"
    version: ClassVar[int] = 1
    needs: ClassVar[Resources] = Resources(cpus=2, threads=1)
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {}
    produces: ClassVar[type[ArtifactType]] = MediaKind
    # files.parquet holds paths; what of it is content is in sources.json too.
    volatile: ClassVar[frozenset[str]] = frozenset({MediaFiles.FILE})

    def shards(self, params: IngestJob, inputs: Inputs) -> Sequence[Shard]:
        """One: clocks are compared across cameras."""
        return [Shard()]

    def setup(self, params: IngestJob, inputs: Inputs, context: Context) -> None:
        """Nothing to load."""

    def run(self, params: IngestJob, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Index all videos; `externals` says where each camera's video is (`media.external_name`)."""
        progress = _Progress(len(params.sources), context)
        with ThreadPoolExecutor(self.needs.cpus) as pool:
            jobs = [
                pool.submit(_read, source, params, context.externals, progress) for source in params.sources
            ]
            try:
                recordings = [job.result() for job in jobs]
            except BaseException:
                progress.stop = True
                pool.shutdown(cancel_futures=True)
                raise
        offsets: dict[tuple[str, str], Offset] = {}
        pairs: list[dict[str, Any]] = []
        for session in dict.fromkeys(source.session for source in params.sources):
            members = [r for r in recordings if r.source.session == session]
            found, lags = _offsets(members, params)
            offsets |= {(session, r.source.camera): o for r, o in zip(members, found, strict=True)}
            pairs += [_pair_row(session, members, lag) for lag in lags]
        files, index = _tables(recordings, offsets)
        write_table(files, out)
        write_table(index, out)
        content = {
            "files": [
                {name: column[row].item() for name, column in files.columns().items() if name != "path"}
                for row in range(len(files))
            ],
            "clock_pairs": pairs,
        }
        (out / "sources.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")


class _Progress:
    """Counts frames of all cameras together; several threads read at once."""

    def __init__(self, cameras: int, context: Context) -> None:
        self.done, self.totals, self.cameras, self.context, self.stop = 0, 0, cameras, context, False

    def step(self, expected: int) -> None:
        self.done += 1
        if self.done % 50 == 0:
            self.context.progress(self.done, max(expected * self.cameras, self.done), "frames")


def _read(
    source: MediaSource, params: IngestJob, externals: Mapping[str, str], progress: _Progress
) -> _Recording:
    where = f"{source.session}/{source.camera}"
    path = Path(externals[external_name(source.session, source.camera)])
    if sha256_of(path) != source.sha256:
        raise OrveilError(
            "the video changed while it was about to be read", where=f"{path}, camera {where}",
            remedy="wait until the recording is complete and run again",
        )  # fmt: skip
    with Pictures(path, where) as pictures:
        index = _Index(path, where, pictures.time_base, params.sync == "estimate")
        expected = params.max_frames or pictures.stream.frames
        for picture in pictures:
            if progress.stop or (params.max_frames and len(index.pts) == params.max_frames):
                break
            index.add(picture)
            progress.step(expected)
        else:
            _refuse_tail(pictures.tail, path, where, len(index.pts))
        return index.recording(source)


class _Index:
    """Builds one recording from its pictures, in order."""

    def __init__(self, path: Path, where: str, time_base: Fraction, measure: bool) -> None:
        self.path, self.where, self.time_base, self.measure = path, where, time_base, measure
        self.pts: list[int] = []
        self.meter = MotionMeter()
        self.first: av.VideoFrame | None = None
        self.shrink: ToArray | None = None

    def add(self, picture: Picture) -> None:
        """Append one picture; a damaged one, or one of another size, is an error."""
        frame = picture.frame
        if frame is None:
            raise damaged_frame(self.path, len(self.pts), self.where)
        if self.first is None or self.shrink is None:
            self.first = frame
            upright = upright_size(frame.width, frame.height, rotation_of(frame))
            self.shrink = ToArray(MotionMeter.size(*upright), "gray")
        if (frame.width, frame.height) != (self.first.width, self.first.height):
            raise OrveilError(
                f"the picture size changes from {self.first.width} x {self.first.height} "
                f"to {frame.width} x {frame.height}",
                where=f"{self.path}, camera {self.where}, frame {len(self.pts)}", remedy=REPAIR,
            )  # fmt: skip
        self.pts.append(picture.pts)
        if self.measure and float((picture.pts - self.pts[0]) * self.time_base) <= MOTION_S:
            self.meter.push(float(picture.pts * self.time_base), self.shrink(frame), int(frame.pict_type))

    def recording(self, source: MediaSource) -> _Recording:
        """What was read."""
        if self.first is None:
            raise OrveilError("the video holds no picture that can be decoded",
                              where=f"{self.path}, camera {self.where}", remedy=REPAIR)  # fmt: skip
        base = self.time_base.numerator, self.time_base.denominator
        return _Recording(source, self.path, self.first.width, self.first.height, rotation_of(self.first),
                          base, tuple(self.pts), self.meter.motion())  # fmt: skip


def _refuse_tail(tail: str, path: Path, where: str, held: int) -> None:
    if tail:
        raise OrveilError(
            f"the video is cut off: {tail}", where=f"{path}, camera {where}, after frame {held - 1}",
            remedy="copy the file again; or set `max_frames` under [ingest] to use only what is before the "
                   "cut; or " + REPAIR,
        )  # fmt: skip


def _offsets(members: list[_Recording], params: IngestJob) -> tuple[list[Offset], list[PairLag]]:
    given = [r.source.offset_s for r in members]
    lags: list[PairLag] = []
    estimated = [Offset(0.0, "none")] * len(members)
    if params.sync == "estimate" and None in given[1:]:
        estimated, lags = estimate_offsets([r.motion for r in members], params.max_offset_s)
    reference = given[0] or 0.0
    result = []
    for position, (value, guess) in enumerate(zip(given, estimated, strict=True)):
        if value is not None:
            result.append(Offset(round(value - reference, 9), "given"))
        elif position == 0:
            result.append(Offset(0.0, "given"))  # the reference is its own clock
        else:
            result.append(Offset(round(guess.seconds, DIGITS), guess.source, guess.pairs))
    return result, lags


def _pair_row(session: str, members: list[_Recording], lag: PairLag) -> dict[str, Any]:
    return {"session": session, "a": members[lag.a].source.camera, "b": members[lag.b].source.camera,
            "seconds": round(lag.seconds, DIGITS)}  # fmt: skip


def _tables(
    recordings: list[_Recording], offsets: Mapping[tuple[str, str], Offset]
) -> tuple[MediaFiles, MediaIndex]:
    rows: dict[str, list[Any]] = {name: [] for name in MediaFiles.COLUMNS}
    parts = []
    for r in recordings:
        offset = offsets[r.source.session, r.source.camera]
        seconds = r.seconds
        step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
        values = {
            "session": r.source.session, "camera": r.source.camera, "path": str(r.path.resolve()),
            "sha256": r.source.sha256, "width": r.width, "height": r.height, "rotation": r.rotation,
            "time_base_num": r.time_base[0], "time_base_den": r.time_base[1], "frames": len(r.pts),
            "duration_s": float(seconds[-1] - seconds[0] + step), "offset_s": offset.seconds,
            "offset_source": offset.source,
        }  # fmt: skip
        for name, value in values.items():
            rows[name].append(value)
        count = len(r.pts)
        keys = {"session": np.full(count, r.source.session), "camera": np.full(count, r.source.camera)}
        parts.append(
            MediaIndex(**keys, index=np.arange(count), pts=np.array(r.pts), time_s=seconds + offset.seconds)
        )
    return MediaFiles(**rows), MediaIndex.concat(parts)  # type: ignore[arg-type]
