"""Command line of the appliance: `orveil live`.

Imports no torch, Ray, pydantic, pyarrow or typer (which needs pydantic).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from orveil.pipeline.errors import explain_os_error
from orveil.stages.cli_options import add_decisions, add_look, number
from orveil.stages.redaction.heap import give_pictures_back
from orveil.stages.redaction.live import Live, LiveReport, live_parts
from orveil.stages.redaction.live_sink import open_sink
from orveil.stages.redaction.live_source import LiveSource
from orveil.stages.redaction.log import CHOICES, BlurSettings
from orveil.stages.runtime import Bundle

__all__ = ["live"]

LATE_S = 1.5
"""A picture that is later than the look-ahead and this is not shown."""

LIVE = """
A picture is shown --hold-s after it came, because what is seen next covers what came before. What is damaged,
or comes too late, is covered or not shown; a source that stalls shows a covered picture. Nothing is stored
unless the sink is a file. The exit status is 1 where pictures were covered as a whole because of a fault.

examples:
  orveil live --source camera --sink window --bundle bundle
  orveil live --source rtsp://10.0.0.7/or2 --sink udp://239.0.0.1:1234?pkt_size=1316 --bundle bundle
"""


def live(arguments: Sequence[str]) -> int:
    """Run `orveil live ARGUMENTS` until the source ends or Control-C; returns the exit status.

    Raises:
        OrveilError: wrong bundle, or source or sink cannot be opened.
    """
    given = _parser().parse_args(arguments)
    give_pictures_back()
    given.roi = tuple(given.roi)
    names = BlurSettings.__dataclass_fields__.keys() & vars(given).keys()
    settings = BlurSettings(**{name: getattr(given, name) for name in names})
    bundle = Bundle.load(given.bundle)
    source = LiveSource(given.source)
    rate = given.rate or float(source.look.rate)
    make_judge, painter, log = live_parts(source.look, bundle, settings, given.threads)
    sink = open_sink(given.sink, source.look, rate, crf=given.crf, codec=given.codec)
    run = Live(source, sink, make_judge, painter, rate=rate, stall_s=given.stall_s,
               late_s=given.hold_s + LATE_S)  # fmt: skip
    tell = None if given.quiet else lambda report: print(report.line(), file=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt):
        run.run(given.seconds, tell)
    if given.log:
        _write(given.log, run.report, log.faults, bundle)
    print(run.report.line() + (f"; ended by {run.report.error}" if run.report.error else ""))
    return int(bool(log.faults or run.report.error))


def _write(path: Path, report: LiveReport, faults: list[dict[str, object]], bundle: Bundle) -> None:
    middle, high = report.latency_ms()
    content = {
        "schema": 1, "bundle": bundle.sha256, "frames": dict(report.counts), "faults": faults,
        "latency_ms": {"p50": round(middle, 1), "p95": round(high, 1)}, "error": report.error,
    }  # fmt: skip
    try:
        path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise explain_os_error(error, str(path)) from error


def _parser() -> argparse.ArgumentParser:
    known = BlurSettings()
    parser = argparse.ArgumentParser(
        "orveil live",
        description="Blur people, heads or faces in a live picture with an exported bundle.",
        epilog=LIVE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--source", required=True, help="camera, camera:N, an address, or a file at its own pace")
    add(
        "--sink",
        required=True,
        help="window, virtual, udp:// or rtsp:// address, NAME.ts, NAME.mkv",
    )
    add("--bundle", type=Path, required=True, help="bundle folder that `orveil adapt` made")
    add_decisions(parser)
    parser.set_defaults(hold_s=0.3, looks_s=0.25)
    add_look(parser)
    add(
        "--rate",
        type=number(float, 0),
        default=0.0,
        metavar="N",
        help="pictures per second (the source's)",
    )
    add("--stall-s", type=number(float, 0.05), default=0.5, metavar="SECONDS",
        help="show a covered picture where nothing comes for so long (%(default)s)")  # fmt: skip
    add("--seconds", type=number(float, 0), default=0.0, metavar="N", help="end after so long (never)")
    add("--crf", type=number(int, 0, 51), default=23, metavar="N", help="H.264 quality (%(default)s)")
    add("--codec", choices=CHOICES["codec"], default=known.codec, help="H.264 encoder (%(default)s)")
    add("--threads", type=number(int, 1), default=2, metavar="N", help="of the detector (%(default)s)")
    add("--log", type=Path, metavar="FILE", help="write counts, faults and latency there (JSON)")
    add("-q", "--quiet", action="store_true", help="say nothing until the end")
    return parser
