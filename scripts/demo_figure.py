"""Scripts: the README's picture, from a finished demo.

    .venv/bin/python scripts/demo_figure.py demo-out/work docs/figures/demo.jpg [--index 90]

The embedded site is simulated: nobody in the picture is real.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from orveil.pipeline.artifact import Store
from orveil.pipeline.explain import finished
from orveil.pipeline.media import frames
from orveil.pipeline.settings import load_site
from orveil.pipeline.tables import read_tables
from orveil.pipeline.types import PERSON, POSITIVE, Detections, PseudoLabels
from orveil.stages.adapt import build_graph

Picture = NDArray[np.uint8]
SEEN, RECOVERED = (90, 200, 90), (60, 140, 255)
OPERATING_POINT = 0.5


def main(
    work: Annotated[Path, typer.Argument(help="Work folder of a finished demo.")],
    out: Annotated[Path, typer.Argument(help="Picture to write.")],
    index: Annotated[int, typer.Option(help="Frame of every camera.")] = 90,
    cameras: Annotated[str, typer.Option(help="Rows of the picture.")] = "cam01,cam03",
) -> None:
    """Draw one row per camera: off the shelf, after two rounds with recovery, blurred by the student."""
    site = load_site(work.parent / "site.toml")
    done = finished(build_graph(site), Store(site.work))
    unfinished = sorted({"candidates_1", "labels_final", "blurred"} - set(done))
    if unfinished:
        raise typer.BadParameter(f"{work}: {', '.join(unfinished)} not finished; run scripts/demo first")
    first = read_tables(Detections, done["candidates_1"].paths())
    last = read_tables(PseudoLabels, done["labels_final"].paths())
    rows = []
    for camera in cameras.split(","):
        picture = _frame(Path(site.videos or ".") / f"{camera}.mp4", index)
        blurred = _frame(work / "results" / "blurred" / f"main-{camera}.mp4", index)
        before = (first.camera == camera) & (first.index == index) & (first.label == PERSON)
        seen = first.xyxy[before & (first.score >= OPERATING_POINT)]
        after = last.xyxy[(last.camera == camera) & (last.index == index) & (last.state == POSITIVE)]
        tiles = [_boxes(picture, seen, SEEN), _boxes(picture, after, RECOVERED), blurred]
        rows.append(np.hstack([cv2.resize(tile, (480, 270), interpolation=cv2.INTER_AREA) for tile in tiles]))
    cv2.imwrite(str(out), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 85])


def _frame(path: Path, index: int) -> Picture:
    return next(picture for _, _, picture in frames(path, index, index + 1))


def _boxes(picture: Picture, boxes: Iterable[Any], colour: tuple[int, int, int]) -> Picture:
    drawn = picture.copy()
    for x0, y0, x1, y1 in boxes:
        corners = [(round(float(x0)), round(float(y0))), (round(float(x1)), round(float(y1)))]
        cv2.rectangle(drawn, *corners, colour, 3)
    return drawn


if __name__ == "__main__":
    typer.run(main)
