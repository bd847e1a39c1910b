"""Stages: bundle + media -> blurred videos, with the code that runs on the appliance (`redact.py`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.kinds import BlurredKind, BundleKind, MediaKind
from orveil.pipeline.media import locate
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.pipeline.tables import read_table, write_table
from orveil.pipeline.types import FACE, HEAD, PERSON, Detections, MediaFiles, MediaIndex
from orveil.stages.redact import Observer, blur_video
from orveil.stages.redaction.analyse import frame_of, header_of
from orveil.stages.redaction.boxes_file import BoxesWriter
from orveil.stages.redaction.log import settings_of
from orveil.stages.redaction.look import Look
from orveil.stages.redaction.temporal import Covered
from orveil.stages.runtime import Boxes, Bundle, sha256_of

__all__ = ["Blur"]

LABELS = {"person": PERSON, "head": HEAD, "face": FACE}


class Blur:
    """Blurs every camera of a site with the exported bundle; the same code as on the appliance."""

    name: ClassVar[str] = "blur"
    version: ClassVar[int] = 7
    needs: ClassVar[Resources] = Resources(cpus=2, threads=2, loads_model=True)
    consumes: ClassVar[Mapping[str, type[ArtifactType]]] = {"media": MediaKind, "bundle": BundleKind}
    produces: ClassVar[type[ArtifactType]] = BlurredKind
    volatile: ClassVar[frozenset[str]] = frozenset({"timings.json"})

    def shards(self, params: Any, inputs: Inputs) -> Sequence[Shard]:
        """One per camera of each session."""
        return [Shard(*view) for view in read_table(MediaFiles, inputs["media"].path).view_keys()]

    def setup(self, params: Any, inputs: Inputs, context: Context) -> None:
        """Check the bundle once."""
        self.bundle = Bundle.load(inputs["bundle"].path)

    def run(self, params: Any, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Write video.mp4, redaction.json, the model's raw boxes, and boxes.json (docs/boxes-json.md)."""
        media = inputs["media"].path
        files = read_table(MediaFiles, media)
        source = locate(files, shard.session, shard.camera, context.externals)
        expected = len(read_table(MediaIndex, media).view(shard.session, shard.camera))
        found: list[tuple[int, int, Boxes]] = []
        look, settings = Look.at(source), settings_of(params)
        with BoxesWriter(
            out / "boxes.json", header_of(look, sha256_of(source), self.bundle, settings)
        ) as writer:

            def decided(index: int, pts: int, covered: Covered | None, fault: str) -> None:
                writer.write(frame_of(index, pts, covered, fault, settings.margin, look.size))

            observer = Observer(found=lambda *one: found.append(one), decided=decided)
            log = blur_video(source, out / "video.mp4", self.bundle, params, context.progress,
                             observer=observer, limit=expected, threads=self.needs.threads)  # fmt: skip
        if not log.complete or log.frames["out"] != expected:
            raise OrveilError(
                f"{log.frames['covered']} frames had to be covered as a whole; first: {log.faults[:1]}",
                where=f"{source}, camera {shard.session}/{shard.camera}",
                remedy="the video was intact when it was ingested: check the disk, then the bundle",
            )
        log.write(out / "redaction.json", timings=False)
        (out / "timings.json").write_text(json.dumps(log.timings, indent=1) + "\n", "utf-8")
        write_table(_detections(shard, self.bundle, found), out)


def _detections(shard: Shard, bundle: Bundle, found: list[tuple[int, int, Boxes]]) -> Detections:
    """The model's raw boxes of one camera; labels that orveil does not know are left out."""
    numbers = np.array([LABELS.get(name, -1) for name in bundle.labels], dtype=np.int64)
    rows = [(index, pts, boxes, keep) for index, pts, boxes in found for keep in [numbers[boxes.label] >= 0]]
    count = [int(keep.sum()) for *_, keep in rows]
    total = sum(count)
    return Detections(
        session=np.full(total, shard.session), camera=np.full(total, shard.camera),
        index=np.repeat([index for index, *_ in rows], count), pts=np.repeat([row[1] for row in rows], count),
        det_id=np.arange(total),
        xyxy=np.concatenate([np.zeros((0, 4), np.float32), *(b.xyxy[k] for _, _, b, k in rows)]),
        score=np.concatenate([np.zeros(0, np.float32), *(b.score[k] for _, _, b, k in rows)]),
        label=np.concatenate([np.zeros(0, np.int64), *(numbers[b.label[k]] for _, _, b, k in rows)]),
        meta={"bundle": bundle.sha256},
    )  # fmt: skip
