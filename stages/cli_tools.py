"""Command line: the commands that need no site file: sim, models, export, blur."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orveil.pipeline.errors import OrveilError

__all__ = ["add_tools"]


def add_tools(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command()(sim)


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

    Needs OpenGL (EGL) and the `sim` extra; scripts/setup-sim installs both.
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
