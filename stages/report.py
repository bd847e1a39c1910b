"""Stage: one HTML page about a run, readable without a network, with or without ground truth.

`report.json` holds what the run found and counts in the artifact's digest; `report.html` shows it together
with times and memory, which differ from run to run.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from orveil.pipeline.kinds import (
    AssociationsKind,
    BlurredKind,
    BundleKind,
    DetectionsKind,
    MediaKind,
    MetricsKind,
    PosesKind,
    PseudoLabelsKind,
    ReportKind,
    TracksKind,
    WeightsKind,
)
from orveil.pipeline.settings import ReportParams
from orveil.pipeline.stage import ArtifactType, Context, Inputs, Resources, Shard
from orveil.stages.report_charts import Bar, Sketch, bars, histogram, lines, sketch
from orveil.stages.report_data import SOURCES, gather, loss_curves, passes, timings

__all__ = ["Report", "render", "report_inputs"]

Json = dict[str, Any]
Pictures = Mapping[tuple[str, int], str]
"""(view, frame index) -> data URI."""


def report_inputs(rounds: int, with_metrics: bool) -> dict[str, type[ArtifactType]]:
    """Input name -> kind; what is only listed for its time is there too, in the order of the flow."""
    wanted: dict[str, type[ArtifactType]] = {
        "media": MediaKind,
        "weights_0": WeightsKind,
        "pose_weights_0": WeightsKind,
    }
    for suffix, _ in passes(rounds):
        wanted[f"candidates_{suffix}"] = DetectionsKind
        wanted[f"tracks_{suffix}"] = TracksKind
        wanted[f"associations_{suffix}"] = AssociationsKind
        wanted[f"labels_{suffix}"] = PseudoLabelsKind
        if suffix != "final":
            wanted[f"poses_{suffix}"] = PosesKind
            wanted[f"weights_{suffix}"] = WeightsKind
            wanted[f"guard_{suffix}"] = WeightsKind
    wanted |= {
        "poses_train": PosesKind,
        "pose_weights": WeightsKind,
        "poses_final": PosesKind,
        "student": WeightsKind,
        "bundle": BundleKind,
        "blurred": BlurredKind,
    }
    return wanted | ({"metrics": MetricsKind} if with_metrics else {})


class Report:
    """Reports on a run of `rounds` rounds; inputs as `report_inputs` lists them."""

    name: ClassVar[str] = "report"
    version: ClassVar[int] = 1
    needs: ClassVar[Resources] = Resources(cpus=1, threads=1)
    produces: ClassVar[type[ArtifactType]] = ReportKind
    volatile: ClassVar[frozenset[str]] = frozenset({"report.html"})

    def __init__(self, rounds: int, with_metrics: bool) -> None:
        self.rounds = rounds
        self.consumes: Mapping[str, type[ArtifactType]] = report_inputs(rounds, with_metrics)

    def shards(self, params: ReportParams, inputs: Inputs) -> Sequence[Shard]:
        """One for the whole site."""
        return [Shard()]

    def setup(self, params: ReportParams, inputs: Inputs, context: Context) -> None:
        """Nothing to load."""

    def run(self, params: ReportParams, inputs: Inputs, shard: Shard, out: Path, context: Context) -> None:
        """Write report.json and report.html."""
        content = gather(inputs, self.rounds, params.title)
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
        (out / "report.json").write_text(text + "\n", "utf-8")
        pictures = _pictures(content["sketches"], inputs) if params.pictures else {}
        times = timings({name: inputs[name] for name in self.consumes})
        curves = loss_curves(inputs, self.rounds)
        (out / "report.html").write_text(render(content, times, curves, pictures), "utf-8")


def render(
    content: Json, times: Sequence[Json], curves: Json, pictures: Mapping[tuple[str, int], str]
) -> str:
    """The page.

    Args:
        content: of `gather`; times: of `timings`; curves: of `loss_curves`.
        pictures: to show under the boxes; empty for none.
    """
    import jinja2

    source = resources.files("orveil.stages").joinpath("templates/report.html").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"share": _share, "size": _size, "seconds": _seconds, "fact": _fact}
    page = environment.from_string(source)
    return page.render(
        **content,
        sources=[(name, SOURCE_NAMES[name]) for name in SOURCES],
        source_names=SOURCE_NAMES,
        times=times,
        curves=curves,
        charts=_charts(content, times, curves, pictures),
        headline=_headline(content),
    )


SOURCE_NAMES = {
    "detected": "seen by the detector",
    "temporal": "recovered in time",
    "cross_view": "recovered across cameras",
    "pose": "recovered by pose",
}


def _charts(content: Json, times: Sequence[Json], curves: Json, pictures: Pictures) -> Json:
    from markupsafe import Markup

    return {
        "labels": [Markup(_label_bars(step)) for step in content["labels"]],
        "scores": [
            Markup(histogram(step["histogram"], 0, 1, "score of candidates"))
            for step in content["detections"]
        ],
        "matches": [
            Markup(histogram(step["probability_histogram"], 0, 1, "match probability"))
            for step in content["people"]
        ],
        "training": [
            Markup(
                lines({k: [(x, y) for x, y in v] for k, v in curves[entry["name"]].items()}, entry["name"])
            )
            for entry in content["training"]
        ],
        "sketches": [Markup(_sketch(entry, pictures)) for entry in content["sketches"]],
        "times": Markup(_time_bars(times)),
    }


def _label_bars(step: Json) -> str:
    rows = []
    for view in step["views"]:
        parts = [view[source] for source in SOURCES] + [view["ignored"]]
        extra = sum(view[source] for source in SOURCES[1:])
        rows.append(Bar(view["view"], parts, f"{sum(parts[:-1])} (+{extra})"))
    return bars(rows, [*SOURCE_NAMES.values(), "doubtful, ignored"], f"labels per camera, {step['name']}")


def _time_bars(times: Sequence[Json]) -> str:
    rows = [Bar(t["node"], [t["seconds"]], f"{_seconds(t['seconds'])}, {t['peak_mb']:.0f} MB") for t in times]
    return bars(rows, ["seconds"], "work by node", 760)


def _sketch(entry: Json, pictures: Pictures) -> str:
    boxes = [
        (*box["xyxy"], SOURCES.index(box["source"]), f"{SOURCE_NAMES[box['source']]}, {box['score']:.2f}")
        for box in entry["boxes"]
    ]
    picture = pictures.get((entry["view"], entry["index"]), "")
    drawn = Sketch(entry["width"], entry["height"], boxes, picture)
    return sketch(drawn, f"{entry['view']}, frame {entry['index']}")


def _headline(content: Json) -> list[Json]:
    """The four figures at the top."""
    last = content["labels"][-1]["views"]
    positive = sum(view[source] for view in last for source in SOURCES)
    recovered = sum(view[source] for view in last for source in SOURCES[1:])
    cards = [
        {"value": f"{len(content['cameras'])}", "name": "cameras",
         "note": f"{sum(c['frames'] for c in content['cameras'])} frames"},
        {"value": f"{positive}", "name": "person labels made",
         "note": f"{recovered} of them the detector alone did not give"},
    ]  # fmt: skip
    if content["metrics"]:
        rows = content["metrics"]["rows"]
        before, after = rows[0]["body"], rows[-1]["body"]
        cards.append({
            "value": f"{_share(before['recall'])} → {_share(after['recall'])}", "name": "body recall",
            "note": f"off-the-shelf → {rows[-1]['name']}",
        })  # fmt: skip
        cover = content["metrics"]["blur"]
        if cover["coverage"] is not None:
            longest = cover["longest_exposure"]["frames"]
            note = f"longest exposure {longest} frame{'' if longest == 1 else 's'}"
            cards.append({"value": _share(cover["coverage"]), "name": "of face pixels covered", "note": note})
    else:
        matched = sum(content["people"][-1]["people_by_views"].values())
        cards.append({"value": f"{matched}", "name": "people matched", "note": "in two cameras or more"})
        cards.append({"value": f"{len(content['blur'])}", "name": "videos blurred", "note": "see below"})
    return cards


def _share(value: float | None) -> str:
    """A figure of the table: 91.3 for 0.913, a dash where it has no meaning."""
    return "–" if value is None else f"{100 * value:.1f}"


def _size(value: float) -> str:
    return f"{value / 2**20:.1f} MB" if value >= 2**20 else f"{value / 2**10:.1f} kB"


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    return f"{value // 60:.0f} min {value % 60:.0f} s"


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _pictures(sketches: Sequence[Json], inputs: Inputs) -> dict[tuple[str, int], str]:
    """Frames of the blurred videos as data URIs: even a report with pictures shows nobody's face."""
    import cv2

    from orveil.pipeline.media import FrameReader

    paths = {f"{shard.session}/{shard.camera}": path for shard, path in inputs["blurred"].shards}
    result = {}
    for entry in sketches:
        if entry["view"] not in paths:
            continue
        with FrameReader(paths[entry["view"]] / "video.mp4") as reader:
            picture = reader.read(entry["index"])
        done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
        if done:
            text = base64.b64encode(data.tobytes()).decode("ascii")
            result[(entry["view"], entry["index"])] = f"data:image/jpeg;base64,{text}"
    return result
