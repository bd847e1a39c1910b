"""Command line: the commands of a machine that adapts; each imports what it needs when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orveil.stages.cli_tools import add_tools

__all__ = ["app", "run_app"]

INTERRUPTED = 130
"""What typer makes of Ctrl-C."""

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


def run_app(arguments: Sequence[str]) -> int:
    """Run a command of this module; returns the exit status."""
    try:
        app(list(arguments), prog_name="orveil")
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            raise KeyboardInterrupt from None
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0
