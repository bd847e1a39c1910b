"""Command line: the commands that need no site file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["add_tools"]


models = typer.Typer(
    name="models",
    help="Off-the-shelf models by name: what there is, fetch one, check files against their sha256.",
    no_args_is_help=True,
)


def add_tools(app: typer.Typer) -> None:
    """Register the commands of this module."""
    passed_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    for command in (blur, live, analyse, boxes, export, sim):  # they have parsers of their own
        app.command(add_help_option=False, context_settings=passed_on)(command)
    app.add_typer(models)


def sim(context: typer.Context) -> None:
    """Render a simulated operating room: one video per camera, and ground truth (orveil sim --help)."""
    from orveil.sim.site import main

    # The options are those of the renderer, which is only loaded when it is asked for.
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    command.command()(main)
    command(context.args, prog_name="orveil sim")


def blur(context: typer.Context) -> None:
    """Blur people, heads or faces in videos with an exported bundle (orveil blur --help)."""
    from orveil.stages import cli_blur

    raise typer.Exit(cli_blur.blur(context.args))


def live(context: typer.Context) -> None:
    """Blur a live picture: camera, stream or file in; window, stream or file out (orveil live --help)."""
    from orveil.stages import cli_live

    raise typer.Exit(cli_live.live(context.args))


def analyse(context: typer.Context) -> None:
    """Find what blur would cover, and write it down for editing (orveil analyse --help)."""
    from orveil.stages import cli_boxes

    raise typer.Exit(cli_boxes.analyse(context.args))


def boxes(context: typer.Context) -> None:
    """Check such a file, take it to CVAT or COCO and back (orveil boxes --help)."""
    from orveil.stages import cli_boxes

    raise typer.Exit(cli_boxes.boxes(context.args))


def export(context: typer.Context) -> None:
    """Check a bundle on this machine (orveil export --help)."""
    from orveil.stages import cli_blur

    raise typer.Exit(cli_blur.export(context.args))


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
