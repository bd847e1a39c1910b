"""sim, measure: how much the views of a site's cameras overlap, from its ground truth.

python -m orveil.sim.overlap DIR ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from orveil.pipeline.errors import OrveilError
from orveil.sim.coco import PERSON, read_gt
from orveil.sim.maths import Array


@dataclass(frozen=True)
class Overlap:
    """Who is seen how often at once.

    Attributes:
        cameras: their ids, in the order of the rows of `shared`.
        views: (cameras + 1,) share of all person-moments seen by exactly k cameras; views[0] is 0 because
            nobody annotates who is nowhere seen.
        shared: (cameras, cameras) people seen by both / people seen by either, per pair.
        moments: number of person-moments (one person at one time) counted.

    """

    cameras: tuple[int, ...]
    views: Array
    shared: Array
    moments: int

    @property
    def in_all(self) -> float:
        """Share of person-moments in every view."""
        return float(self.views[-1])

    @property
    def mean_views(self) -> float:
        """Cameras that see a person at a time, on average."""
        return float(self.views @ np.arange(len(self.views)))


def view_overlap(gt: Mapping[str, Any], min_fraction: float = 0.0) -> Overlap:
    """Overlap of the cameras in `gt`, counting views in which a person shows at least `min_fraction`.

    Pictures belong to the same moment where their cameras' clocks show the same time. Moments at which a
    camera has no picture (drop-outs, another rate) are left out.
    """
    offset = {camera["id"]: camera.get("time_offset", 0.0) for camera in gt.get("cameras", ())}

    def clock(image: Mapping[str, Any]) -> float:
        return round(float(image["time"]) - float(offset.get(image["camera_id"], 0.0)), 3)

    cameras = tuple(sorted({image["camera_id"] for image in gt["images"]}))
    column = {camera: k for k, camera in enumerate(cameras)}
    images = {image["id"]: image for image in gt["images"]}
    present: dict[float, set[int]] = {}
    for image in gt["images"]:
        present.setdefault(clock(image), set()).add(image["camera_id"])
    seen: dict[tuple[float, int], Array] = {}
    for a in gt["annotations"]:
        image = images[a["image_id"]]
        moment = clock(image)
        complete = len(present[moment]) == len(cameras)
        if a["category_id"] == PERSON and complete and a["visible_fraction"] >= min_fraction:
            row = seen.setdefault((moment, a["track_id"]), np.zeros(len(cameras), bool))
            row[column[image["camera_id"]]] = True
    table = np.array(list(seen.values()), float).reshape(-1, len(cameras))
    views = np.bincount(table.sum(1).astype(int), minlength=len(cameras) + 1) / max(1, len(table))
    both = table.T @ table
    single = np.diag(both)
    either = single[:, None] + single[None] - both
    shared = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return Overlap(cameras, views, shared, len(table))


def report(
    folders: Annotated[list[Path], typer.Argument(help="folders written by orveil sim")],
    min_fraction: Annotated[float, typer.Option(help="visible fraction from which a view counts")] = 0.0,
) -> None:
    """Print, per folder, the share of people seen by 1, 2, ... cameras at once."""
    for folder in folders:
        packed = folder / "gt.json.gz"
        try:
            found = view_overlap(read_gt(packed if packed.is_file() else folder / "gt.json"), min_fraction)
        except OrveilError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from error
        shares = ", ".join(f"{k}: {100 * v:.0f} %" for k, v in enumerate(found.views) if k)
        typer.echo(
            f"{folder.name}: {found.moments} person-moments, {len(found.cameras)} cameras, "
            f"seen by {shares}; {found.mean_views:.2f} on average"
        )


if __name__ == "__main__":
    typer.run(report)
