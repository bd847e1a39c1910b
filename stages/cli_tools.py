"""Command line: the commands that need no site file: sim, models, export, blur."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from orveil.pipeline.errors import OrveilError

__all__ = ["add_tools"]


models = typer.Typer(
    name="models",
    help="Off-the-shelf models by name: what there is, fetch one, check files against their sha256.",
    no_args_is_help=True,
)


def add_tools(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command()(sim)
    app.add_typer(models)


def sim(
    out: Annotated[Path, typer.Option(help="Folder for cam01.mp4 ... and gt.json.", show_default=False)],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same room and people.")] = 7,
    cameras: Annotated[int, typer.Option(min=1, max=7)] = 4,
    people: Annotated[int, typer.Option(min=0, max=12, help="Staff; a patient is added; 0: nobody.")] = 6,
    seconds: Annotated[float, typer.Option(min=0.1)] = 20.0,
    fps: Annotated[float, typer.Option(min=1.0)] = 10.0,
    size: Annotated[str, typer.Option(help="Width x height in pixels.")] = "960x540",
    layout: Annotated[str, typer.Option(help="How cameras hang: how much their views overlap.")] = "wide",
    offsets: Annotated[
        str, typer.Option(help='Clock offsets of the cameras in seconds, "0,0.05,-0.1"; "random".')
    ] = "",
    drops: Annotated[str, typer.Option(help="Drop-outs: none, gaps, black or frozen.")] = "none",
    distortion: Annotated[bool, typer.Option(help="Distorting lenses.")] = False,
    mixed: Annotated[bool, typer.Option(help="Every second camera has another size and rate.")] = False,
    audio: Annotated[list[int] | None, typer.Option(help="Camera that records sound; repeatable.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes; no effect on the result.")] = 2,
) -> None:
    """Render a simulated operating room: one video per camera, and ground truth.

    Example: orveil sim --seed 7 --cameras 4 --people 6 --seconds 20 --out site7

    Needs OpenGL (EGL) and the `sim` extra; scripts/setup_sim installs both.
    """
    from orveil.pipeline.progress import make_events
    from orveil.sim.site import render_site
    from orveil.sim.site_options import SiteOptions

    width, height = _numbers(size, "x", int, "--size", "give it like 960x540", 2)
    clocks = None if offsets == "random" else tuple(_numbers(offsets, ",", float, "--offsets", "like 0,0.05"))
    options = SiteOptions(
        seed=seed, cameras=cameras, people=people, seconds=seconds, fps=fps, width=int(width),
        height=int(height), layout=layout, offsets=clocks, drops=drops, distortion=distortion, mixed=mixed,
        audio=tuple(audio or ()), jobs=jobs,
    )  # fmt: skip
    events = make_events()
    events.begin({"sim": "sim"}, {})
    events.node_started("sim", 0, 1)
    try:
        truth = render_site(
            options, out, lambda done, total: events.progress("sim", "all", done, total, "pictures")
        )
    finally:
        events.end()
    typer.echo(truth)


def _numbers(text: str, between: str, kind: type, option: str, remedy: str, count: int = 0) -> list[float]:
    try:
        values = [kind(part) for part in text.split(between)] if text else []
    except ValueError:
        values = []
        count = count or 1
    if count and len(values) != count:
        raise OrveilError(f"{option} cannot be {text!r}", where="command line", remedy=remedy)
    return values


@models.command("list")
def list_() -> None:
    """List the models that a site file can name, and which of them are here."""
    from orveil.stages.models import list_models, local_path

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    for column in ("name", "kind", "here", "licence", "about"):
        table.add_column(column, no_wrap=column == "name")
    for entry in list_models():
        here = "yes" if local_path(entry).is_file() else "pull" if entry.url else "missing"
        table.add_row(entry.name, entry.kind, here, entry.licence, entry.about)
    Console().print(table)


@models.command()
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of `orveil models list`.")],
    dest: Annotated[
        Path | None, typer.Option(help="Folder; default: $ORVEIL_MODELS, else ~/.cache/orveil/models.")
    ] = None,
) -> None:
    """Fetch models and check their sha256; what is here and right is not fetched again."""
    from orveil.stages import models as registry

    columns = TextColumn("{task.description}"), DownloadColumn(), TimeRemainingColumn()
    for name in names:
        with Progress(*columns, console=Console(stderr=True)) as bars:
            task = bars.add_task(name, total=None)
            path = registry.pull(name, dest, partial(_advance, bars, task))
        typer.echo(path)


def _advance(bars: Progress, task: TaskID, done: int, total: int) -> None:
    bars.update(task, completed=done, total=total or None)


@models.command()
def verify(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Default: all.")] = "all",
    dest: Annotated[Path | None, typer.Option(help="Folder the models were fetched into.")] = None,
) -> None:
    """Compare the files of models with their sha256."""
    from orveil.stages import models as registry

    for entry, state in registry.verify(name, dest):
        typer.echo(f"{entry.name}: {state}")
