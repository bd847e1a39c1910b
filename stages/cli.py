"""Command line `orveil`. Light: everything heavy is imported by the command that needs it.

What a user can put right is one message on stderr and exit status 2; an interrupted run is status 130.
`orveil blur` runs on appliances without torch, Ray or pydantic.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.stages.cli_tools import add_tools

__all__ = ["app", "main"]

app = typer.Typer(
    name="orveil",
    help="""Adapt person and face detection to an operating room without labels, and blur its video.

A first run, from a folder with one video per camera:

    orveil adapt theatre3.toml      # adapt, distil, export, blur, report

A site file needs no more than a name and the folder (docs/site-file.md lists every key):

    name = "theatre 3"
    videos = "recordings/monday"

On the appliance, with the bundle that the run made:

    orveil blur cam1.mp4 cam2.mp4 --bundle work/results/bundle --out blurred
""",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SiteFile = Annotated[
    Path, typer.Argument(metavar="SITE.toml", help="The site file.", show_default=False, dir_okay=False)
]


class Executor(StrEnum):
    """Where shards run."""

    LOCAL = "local"
    RAY = "ray"


@contextmanager
def _interruptible() -> Iterator[None]:
    """Say what Ctrl-C leaves behind."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("stopped; finished work is kept: run the same command again to go on", err=True)
        raise typer.Exit(130) from None


@app.command()
def adapt(
    site: SiteFile,
    executor: Annotated[
        Executor | None, typer.Option(help="Where to run; default: as the site file says, else local.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="CPUs of the Ray cluster started here.")] = None,
    until: Annotated[
        str | None, typer.Option(metavar="NODE", help="Stop after this node (see `orveil status`).")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, results only.")] = False,
) -> None:
    """Adapt to a site: from its videos to a report, a bundle for the appliance, and blurred videos.

    Stop it whenever you like; the same command goes on where it was. Results are under WORK/results.
    """
    from orveil.stages.cli_run import run_adapt

    with _interruptible():
        run_adapt(site, executor.value if executor else None, workers, until, quiet)


@app.command()
def status(site: SiteFile) -> None:
    """Say how far a run is, node by node; works while it is going on."""
    from orveil.stages.cli_run import run_status

    run_status(site)


@app.command()
def explain(
    site: SiteFile,
    node: Annotated[
        str | None,
        typer.Argument(metavar="[NODE]", help="Default: all that would run next.", show_default=False),
    ] = None,
) -> None:
    """Say why a node must run (again): which setting, input or version changed, and where it began."""
    from orveil.stages.cli_run import run_explain

    run_explain(site, node)


@app.command()
def report(site: SiteFile) -> None:
    """Print the path of the report of a finished run."""
    from orveil.stages.cli_run import run_report

    run_report(site)


@app.command()
def evaluate(
    site: SiteFile,
    ground_truth: Annotated[
        Path | None, typer.Option(help="COCO file (.json, .json.gz); default: as the site file says.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, the table only.")] = False,
) -> None:
    """Compare off-the-shelf detector, rounds and student with ground truth, and print the table.

    Runs what the comparison needs and is not done yet.
    """
    from orveil.stages.cli_run import run_evaluate

    with _interruptible():
        run_evaluate(site, ground_truth, quiet)


@app.command()
def version() -> None:
    """Print the version of orveil, and of what decides its results."""
    import importlib.metadata as metadata

    for package in ("orveil", "torch", "onnxruntime", "av", "numpy", "opencv-python-headless"):
        try:
            typer.echo(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            typer.echo(f"{package} not installed")


add_tools(app)


def main() -> None:
    """Entry point: turns what a user can put right into one message."""
    try:
        app()
    except OrveilError as error:
        _fail(error)
    except BrokenPipeError:  # the reader of our output (head, less) is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(explain_os_error(error, error.filename or "orveil"))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "orveil":
            raise
        _fail(
            OrveilError(
                f"this command needs the Python package {error.name}, which is not installed",
                remedy="install orveil with scripts/setup; a bare `pip install` has only what `blur` needs",
            )
        )


def _fail(error: OrveilError) -> None:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
