"""Stage: candidates of a detector in every frame, at a threshold low enough to miss little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from orveil.pipeline.kinds import DetectionsKind, MediaKind, WeightsKind
from orveil.pipeline.media import frames, locate
from orveil.pipeline.settings import DetectParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import read_table, write_table
from orveil.pipeline.types import Detections, MediaFiles, MediaIndex
from orveil.stages.weights import CLASS_LABELS, read_info

__all__ = ["DET_ID_STRIDE", "Detect"]

BATCH = 8
DET_ID_STRIDE = 10_000
"""`det_id` is frame index times this plus the rank in the frame, so that shards number alike."""


class Detect:
    """Run the detector of `weights` over `media`; one shard per camera and range of frames."""

    name: ClassVar[str] = "detect"
    version: ClassVar[int] = 1
    needs: ClassVar[Resources] = Resources(cpus=2, threads=2, loads_model=True)
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {"media": MediaKind, "weights": WeightsKind}
    produces: ClassVar[type[ArtifactType]] = DetectionsKind
    volatile: ClassVar[frozenset[str]] = frozenset()

    _detector: Any = None
    _labels: np.ndarray[Any, np.dtype[np.int64]]
    _sha256: str

    def shards(self, params: DetectParams, inputs: Inputs) -> Sequence[Shard]:
        """Ranges of `chunk_frames` frames of each camera."""
        index = read_table(MediaIndex, inputs["media"].path)
        shards = []
        for session, camera in index.view_keys():
            last = int(index.view(session, camera).index.max()) + 1
            for start in range(0, last, params.chunk_frames):
                shards.append(Shard(session, camera, start, min(start + params.chunk_frames, last)))
        return shards

    def setup(self, params: DetectParams, inputs: Inputs, context: Context) -> None:
        """Build the detector."""
        from orveil.stages import mm  # OpenMMLab loads slowly, and the graph is built without it

        directory = inputs["weights"].path
        config = mm.load_config(directory / "config.py")
        self._detector = mm.Detector(
            config,
            directory / "model.safetensors",
            long_side=params.long_side,
            score_threshold=params.score_threshold,
            nms_iou=params.nms_iou,
            max_per_image=min(params.max_per_image, DET_ID_STRIDE),
        )
        self._labels = np.array([CLASS_LABELS[name] for name in self._detector.classes], dtype=np.int64)
        self._sha256 = read_info(directory).sha256

    def run(self, params: DetectParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Write the candidates of one range of frames, in frame order, best first within a frame."""
        media = inputs["media"].path
        index = read_table(MediaIndex, media).view(shard.session, shard.camera)
        mine = index.select((index.index >= shard.start) & (index.index < shard.stop))
        path = locate(read_table(MediaFiles, media), shard.session, shard.camera, context.externals)
        reader = frames(
            path,
            wanted=mine.index.tolist(),
            pts=index.pts if len(index) == int(index.index.max()) + 1 else None,
            where=f"{shard.session}/{shard.camera}",
        )
        rows: list[Detections] = []
        batch: list[Any] = []
        for at, _, picture in reader:
            batch.append((at, picture))
            if len(batch) == BATCH or len(rows) + len(batch) == len(mine):
                rows += self._detect(mine, batch)
                batch = []
                context.progress(len(rows), len(mine), "frames")
        table = Detections.concat(rows) if rows else Detections.empty()
        write_table(Detections(**table.columns(), meta={"weights": self._sha256}), out)

    def _detect(self, index: MediaIndex, batch: list[tuple[int, Any]]) -> list[Detections]:
        """One table for each (frame index, picture) of a batch."""
        results = self._detector.predict([picture for _, picture in batch])
        return [self._table(index, at, *result) for (at, _), result in zip(batch, results, strict=True)]

    def _table(self, index: MediaIndex, at: int, xyxy: Any, score: Any, label: Any) -> Detections:
        count = len(xyxy)
        row = int(np.searchsorted(index.index, at))
        return Detections(
            session=np.repeat(index.session[row], count),
            camera=np.repeat(index.camera[row], count),
            index=np.full(count, at),
            pts=np.full(count, index.pts[row]),
            det_id=at * DET_ID_STRIDE + np.arange(count),
            xyxy=xyxy,
            score=score,
            label=self._labels[label],
        )
