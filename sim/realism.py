"""sim, gate: do simulated people look like people to a detector trained on photographs?

    python -m orveil.sim.realism DETECTOR.onnx --operating-room DIR ... --source DIR ...

DIR is what `orveil sim` or `orveil.sim.dataset` wrote: COCO json beside videos or images. The
detector is a COCO person detector as OpenMMLab exports it: input (1, 3, H, W) of normalised BGR, outputs
`dets` (1, N, 5) with xyxy and score after suppression, `labels` (1, N). Exit status 1 means the gate failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer

from orveil.pipeline.decode import Pictures
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.geometry import Fit, from_xywh, iou
from orveil.sim.coco import PERSON, read_gt
from orveil.sim.maths import Array

SCORES = (0.5, 0.3, 0.1)
MIN_IOU = 0.5
WELL_VISIBLE = 0.8
# OpenMMLab's RTMDet normalisation, BGR.
MEAN = np.array([103.53, 116.28, 123.675], np.float32)
STD = np.array([57.375, 57.12, 58.395], np.float32)
PAD = 114
GT_NAMES = ("gt.json", "gt.json.gz", "ann.json")

Detect = Callable[[Array], tuple[Array, Array]]
"""A BGR picture (H, W, 3) uint8 -> xyxy boxes (N, 4) in its pixels and scores (N,)."""
Group = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Target:
    """Recall of one group at one score that the gate asks for, both ends included."""

    domain: str
    group: str
    score: float
    low: float
    high: float = 1.0


GROUPS: dict[str, dict[str, Group]] = {
    "operating room": {
        "everybody": lambda a: True,
        "staff": lambda a: bool(a["role"] != "patient"),
        "well-visible staff": lambda a: bool(
            a["role"] != "patient" and a["visible_fraction"] >= WELL_VISIBLE
        ),
    },
    "source": {
        "everybody": lambda a: True,
        "not hard": lambda a: not a["is_hard"],
        "well visible": lambda a: bool(a["visible_fraction"] >= WELL_VISIBLE),
    },
}
TARGETS = (
    Target("operating room", "well-visible staff", 0.3, 0.75),
    Target("operating room", "everybody", 0.5, 0.30, 0.45),
    Target("operating room", "everybody", 0.1, 0.75, 0.90),
    Target("source", "well visible", 0.3, 0.80),
)


class OnnxPersonDetector:
    """The off-the-shelf detector in ONNX Runtime on the CPU; pictures are fitted into size x size pixels."""

    def __init__(self, path: Path, size: int = 640, threads: int = 1) -> None:
        import onnxruntime

        if not path.is_file():
            raise OrveilError(
                "the detector is missing", where=str(path), remedy="give the path of an ONNX file"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        names = {o.name for o in self._session.get_outputs()}
        if not {"dets", "labels"} <= names or len(self._session.get_inputs()) != 1:
            raise OrveilError(
                f"this model gives {sorted(names)}, not dets and labels", where=str(path),
                remedy="export a person detector with OpenMMLab's end-to-end ONNX form",
            )  # fmt: skip
        self._input = self._session.get_inputs()[0].name
        self._size = size

    def __call__(self, picture: Array) -> tuple[Array, Array]:
        """Persons (label 0) in one BGR picture: xyxy (N, 4) and scores (N,), best first."""
        fit = Fit.of(picture.shape[1], picture.shape[0], self._size)
        square = np.full((self._size, self._size, 3), PAD, np.uint8)
        square[: fit.resized[1], : fit.resized[0]] = cv2.resize(picture, fit.resized)
        tensor = ((square - MEAN) / STD).transpose(2, 0, 1)[None]
        dets, labels = self._session.run(["dets", "labels"], {self._input: np.ascontiguousarray(tensor)})
        found = dets[0][(labels[0] == 0) & (dets[0][:, 4] > 0)]
        found = found[np.argsort(-found[:, 4], kind="stable")]
        return fit.to_source(found[:, :4]), found[:, 4]


def match(truth: Array, boxes: Array, scores: Array, min_iou: float = MIN_IOU) -> Array:
    """The score (N,) at which each true box (N, 4) is found, 0 where it is missed.

    Greedy as in COCO: detections by falling score take the free true box that they overlap most.
    """
    found = np.zeros(len(truth))
    free = np.ones(len(truth), bool)
    overlap = iou(boxes, truth)
    for k in np.argsort(-np.asarray(scores), kind="stable"):
        candidates = np.where(free, overlap[k], -1.0)
        if len(truth) and candidates.max() >= min_iou:
            best = int(candidates.argmax())
            found[best], free[best] = scores[k], False
    return found


@dataclass
class Tally:
    """What was found of one domain: score of every true box, its annotation, and the false alarms."""

    found: list[float] = field(default_factory=list)
    truth: list[Mapping[str, Any]] = field(default_factory=list)
    false_scores: list[float] = field(default_factory=list)
    pictures: int = 0

    def add(self, annotations: Sequence[Mapping[str, Any]], boxes: Array, scores: Array) -> None:
        """Match the detections of one picture."""
        true_boxes = from_xywh(np.array([a["bbox"] for a in annotations], np.float32).reshape(-1, 4))
        found = match(true_boxes, boxes, scores)
        self.found += found.tolist()
        self.truth += annotations
        # A score is false once for each detection beyond those that found somebody.
        left = list(scores)
        for score in found[found > 0]:
            left.remove(score)
        self.false_scores += [float(s) for s in left]
        self.pictures += 1

    def recall(self, group: Group, score: float) -> tuple[float, int]:
        """Share of the group found at this score or better, and the size of the group."""
        hits = [f >= score for f, a in zip(self.found, self.truth, strict=True) if group(a)]
        return (float(np.mean(hits)) if hits else float("nan")), len(hits)

    def false_per_picture(self, score: float) -> float:
        """Detections of nobody (or of somebody twice) per picture."""
        return sum(s >= score for s in self.false_scores) / max(1, self.pictures)


def pictures(
    folder: Path, gt: Mapping[str, Any], every: int = 1
) -> Iterator[tuple[Mapping[str, Any], Array]]:
    """Every n-th picture of each camera of a rendered folder, with its entry in `images`."""
    by_video: dict[str, dict[int, Mapping[str, Any]]] = {}
    for image in gt["images"]:
        name = Path(image["file_name"])
        if name.suffix:
            if image["frame_index"] % every == 0:
                yield image, _read_image(folder / name)
        elif image["frame_index"] % every == 0:
            by_video.setdefault(name.parts[0], {})[image["frame_index"]] = image
    for camera, wanted in sorted(by_video.items()):
        with Pictures(folder / f"{camera}.mp4", camera) as video:
            for index, picture in enumerate(video):
                if index in wanted and picture.frame is not None:
                    yield wanted.pop(index), picture.frame.to_ndarray(format="bgr24")
        if wanted:
            raise OrveilError(
                f"the video lacks {len(wanted)} frames of the ground truth, the first is {min(wanted)}",
                where=str(folder / f"{camera}.mp4"), remedy="render the folder again",
            )  # fmt: skip


def _read_image(path: Path) -> Array:
    data = np.frombuffer(path.read_bytes(), np.uint8) if path.is_file() else np.zeros(0, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise OrveilError("the picture cannot be read", where=str(path), remedy="render the folder again")
    return np.asarray(image)


def measure(folders: Sequence[Path], detect: Detect, every: int = 1) -> Tally:
    """Run the detector over rendered folders and match it with their ground truth.

    Raises:
        OrveilError: a folder has no ground truth, or a picture is missing.

    """
    tally = Tally()
    for folder in folders:
        gt = read_gt(next((folder / n for n in GT_NAMES if (folder / n).is_file()), folder / GT_NAMES[0]))
        people: dict[int, list[Mapping[str, Any]]] = {}
        for annotation in gt["annotations"]:
            if annotation["category_id"] == PERSON:
                people.setdefault(annotation["image_id"], []).append(annotation)
        for image, picture in pictures(folder, gt, every):
            tally.add(people.get(image["id"], []), *detect(picture))
    return tally


def table(tallies: Mapping[str, Tally]) -> list[str]:
    """The figures as lines of a Markdown table: recall in per cent at each score."""
    lines = [
        "| domain | who | boxes | recall at 0.5 / 0.3 / 0.1 | false per picture at 0.5 / 0.3 / 0.1 |",
        "|---|---|---|---|---|",
    ]
    for domain, tally in tallies.items():
        false = " / ".join(f"{tally.false_per_picture(s):.2f}" for s in SCORES)
        for name, group in GROUPS[domain].items():
            recalls = " / ".join(f"{100 * tally.recall(group, s)[0]:.1f}" for s in SCORES)
            lines.append(f"| {domain} | {name} | {tally.recall(group, 0)[1]} | {recalls} | {false} |")
    return lines


def failures(tallies: Mapping[str, Tally]) -> list[str]:
    """Targets that are not met, as sentences; only of the domains that were measured."""
    out = []
    for t in TARGETS:
        if t.domain not in tallies:
            continue
        got, n = tallies[t.domain].recall(GROUPS[t.domain][t.group], t.score)
        if not t.low <= got <= t.high:
            out.append(
                f"{t.domain}, {t.group} at {t.score}: {100 * got:.1f} % of {n}, "
                f"wanted {100 * t.low:.0f} to {100 * t.high:.0f} %"
            )
    return out


def gate(
    detector: Annotated[Path, typer.Argument(help="ONNX person detector trained on COCO photographs")],
    operating_room: Annotated[list[Path] | None, typer.Option(help="rendered OR folder, repeatable")] = None,
    source: Annotated[list[Path] | None, typer.Option(help="rendered source folder, repeatable")] = None,
    every: Annotated[int, typer.Option(min=1, help="use every n-th frame of OR videos")] = 10,
    size: Annotated[int, typer.Option(help="side of the detector's input in pixels")] = 640,
) -> None:
    """Measure how well a real person detector finds simulated people, and fail if that is too seldom."""
    try:
        detect = OnnxPersonDetector(detector, size)
        tallies: dict[str, Tally] = {}
        if operating_room:
            tallies["operating room"] = measure(operating_room, detect, every)
        if source:
            tallies["source"] = measure(source, detect)
    except OrveilError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    if not tallies:
        typer.echo("error: nothing to measure\n  remedy: give --operating-room or --source folders", err=True)
        raise typer.Exit(2)
    typer.echo("\n".join(table(tallies)))
    missed = failures(tallies)
    for line in missed:
        typer.echo(f"FAILED {line}")
    typer.echo("gate: " + ("failed" if missed else "passed"))
    raise typer.Exit(1 if missed else 0)


def main() -> None:
    """Entry point of `python -m orveil.sim.realism`."""
    typer.run(gate)


if __name__ == "__main__":
    main()
