"""Command line of the appliance: options that `orveil blur` and `orveil analyse` share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from orveil.stages.redaction.log import CHOICES, BlurSettings

__all__ = ["DECISIONS", "add_decisions", "add_look", "add_run_options", "number"]

DECISIONS = ("target", "margin", "every", "hold_s", "kernel", "looks_s")
"""Settings that decide where something is covered; how it then looks is another matter."""


def add_decisions(parser: argparse.ArgumentParser) -> None:
    """What is covered: DECISIONS and the regions of interest."""
    known, add = BlurSettings(), parser.add_argument
    add("--target", choices=CHOICES["target"], default=known.target, help="what to cover (%(default)s)")
    add("--margin", type=number(float, 0, 1), default=known.margin, metavar="SHARE",
        help="growth on each side, as a share of a box's size (%(default)s)")  # fmt: skip
    add("--roi", type=_region, action="append", default=[], metavar="X,Y,W,H",
        help="search and change only this rectangle, px; may be given several times")  # fmt: skip
    add("--every", type=number(int, 1), default=known.every, metavar="N",
        help="run the detector on every n-th frame (%(default)s)")  # fmt: skip
    add("--hold-s", type=number(float, 0), default=known.hold_s, metavar="SECONDS",
        help="keep covering for this long where somebody is lost (%(default)s)")  # fmt: skip
    add("--looks-s", type=number(float, 0), default=known.looks_s, metavar="SECONDS",
        help="look again at turned and larger pictures this often, for those who lie or bend; 0: never "
        "(%(default)s)")  # fmt: skip
    add("--kernel", choices=CHOICES["kernel"], default=known.kernel,
        help="carries detections over time; others are there to compare with (%(default)s)")  # fmt: skip


def add_look(parser: argparse.ArgumentParser) -> None:
    """How a covered region looks."""
    known, add = BlurSettings(), parser.add_argument
    add("--style", choices=CHOICES["style"], default=known.style, help="of a mask (%(default)s)")
    add("--shape", choices=CHOICES["shape"], default=known.shape, help="of a mask (%(default)s)")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """How it is run."""
    parser.add_argument("--threads", type=number(int, 1), default=2, metavar="N",
                        help="of detector and encoder (%(default)s)")  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def _region(text: str) -> tuple[int, int, int, int]:
    """X,Y,W,H."""
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y,WIDTH,HEIGHT in pixels") from error
    return x, y, width, height


def number(kind: type[float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """A parser of numbers within [low, high], for argparse."""

    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            above = f" and at most {high:g}" if high < math.inf else ""
            raise argparse.ArgumentTypeError(f"{text} must be at least {low:g}{above}")
        return value

    parse.__name__ = "whole number" if kind is int else "number"
    return parse
