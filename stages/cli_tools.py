"""Command line: the commands that need no site file: blur, sim, models, export."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["add_tools"]


class Target(StrEnum):
    """What is covered."""

    FACE = "face"
    HEAD = "head"
    BODY = "body"


class Style(StrEnum):
    """How it is covered."""

    GAUSSIAN = "gaussian"
    MOSAIC = "mosaic"
    SOLID = "solid"


class Shape(StrEnum):
    """Shape of a covered region."""

    ELLIPSE = "ellipse"
    BOX = "box"


class Audio(StrEnum):
    """What happens to sound."""

    KEEP = "keep"
    DROP = "drop"


models = typer.Typer(
    name="models",
    help="Off-the-shelf models by name: what there is, fetch one, check files against their sha256.",
    no_args_is_help=True,
)


def add_tools(app: typer.Typer) -> None:
    """Register the commands of this module."""
    passed_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(add_help_option=False, context_settings=passed_on)(sim)
    app.command()(blur)
    app.command()(export)
    app.add_typer(models)


def sim(context: typer.Context) -> None:
    """Render a simulated operating room: one video per camera, and ground truth (orveil sim --help)."""
    from orveil.sim.site import main

    # The options are those of the renderer, which is only loaded when it is asked for.
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    command.command()(main)
    command(context.args, prog_name="orveil sim")


def blur(
    videos: Annotated[
        list[Path], typer.Argument(metavar="VIDEO...", help="Videos to blur.", show_default=False)
    ],
    bundle: Annotated[Path, typer.Option(help="Bundle folder of `orveil adapt`.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for NAME.mp4 and NAME.json.", show_default=False)],
    target: Annotated[Target, typer.Option(help="What to cover.")] = Target.HEAD,
    style: Annotated[Style, typer.Option()] = Style.GAUSSIAN,
    shape: Annotated[Shape, typer.Option()] = Shape.ELLIPSE,
    margin: Annotated[
        float, typer.Option(min=0, max=1, help="Growth on each side, as a share of a box's size.")
    ] = 0.15,
    every: Annotated[int, typer.Option(min=1, help="Run the detector on every n-th frame.")] = 1,
    hold_s: Annotated[
        float, typer.Option(min=0, help="Keep covering for this long where somebody is lost.")
    ] = 0.5,
    audio: Annotated[Audio, typer.Option(help="Voices identify people too.")] = Audio.DROP,
    crf: Annotated[int, typer.Option(min=0, max=51, help="H.264 quality; lower is better, larger.")] = 20,
    preset: Annotated[str, typer.Option(help="Of the x264 encoder.")] = "veryfast",
    threads: Annotated[int, typer.Option(min=1, help="For detector and encoder.")] = 2,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Blur people, heads or faces in videos with an exported bundle; needs no GPU and no network.

    Example: orveil blur cam1.mp4 cam2.mp4 --bundle bundle --out blurred --target head

    Frames in = frames out. A frame that cannot be decoded or analysed is covered as a whole, noted in
    NAME.json, and makes the exit status 1. A video that cannot be blurred at all leaves no file, the others
    are still done, and the exit status is 2.
    """
    from orveil.stages.cli_blur import BlurSettings, run_blur

    settings = BlurSettings(
        target.value, style.value, shape.value, margin, every, hold_s, audio.value, crf, preset
    )
    raise typer.Exit(run_blur(videos, bundle, out, settings, threads, quiet))


def export(
    verify: Annotated[
        Path, typer.Option(metavar="BUNDLE", help="Bundle folder to check.", show_default=False)
    ],
) -> None:
    """Check a bundle on this machine: its files, and that it still detects what it did when it was exported.

    `orveil adapt` makes bundles; run this after copying one to an appliance.
    """
    from orveil.stages.bundle_check import verify_bundle

    figures = verify_bundle(verify)
    typer.echo(
        f"{verify}: right; {figures['boxes']:.0f} boxes, at most {figures['max_box_error_px']:.2g} px and "
        f"{figures['max_score_error']:.2g} in score from those of the export"
    )


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
