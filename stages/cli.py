"""Command line `orveil`: the entry point. Light: everything heavy is imported by the command that needs it.

What a user can put right is one message on stderr and exit status 2; an interrupted run is status 130.
`blur`, `analyse`, `boxes` and `export --verify` run on appliances with numpy, OpenCV, PyAV, ONNX Runtime and
rich alone; all other commands are in `cli_app.py`, which needs typer (and so pydantic).
"""

from __future__ import annotations

import importlib.util
import io
import os
import sys
from collections.abc import Sequence

from orveil.pipeline.errors import OrveilError, explain_os_error

__all__ = ["main"]

APPLIANCE = """usage: orveil COMMAND ...

  blur      blur people, heads or faces in videos
  live      the same for a camera, a stream, or a file at its own pace
  analyse   find what blur would cover, and write it down for editing
  boxes     check such a file, take it to CVAT or COCO and back
  export    check a bundle on this machine

`orveil COMMAND --help` says more. All other commands need what scripts/setup installs."""


def main() -> None:
    """Run one command and exit with its status; what a user can put right becomes one message."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be text
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(sys.argv[1:])
    except OrveilError as error:
        status = _say(error)
    except BrokenPipeError:  # the reader of our output (head, less) is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as error:
        status = _say(explain_os_error(error, error.filename or "orveil"))
    except KeyboardInterrupt:
        print("stopped; finished work is kept: run the same command again to go on", file=sys.stderr)
        status = 130
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "orveil":
            raise
        status = _say(_missing(error.name or "?"))
    sys.exit(status)


def _run(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["blur"]:
        from orveil.stages import cli_blur

        return cli_blur.blur(arguments[1:])
    if arguments[:1] == ["export"]:
        from orveil.stages import cli_blur

        return cli_blur.export(arguments[1:])
    if arguments[:1] == ["live"]:
        from orveil.stages import cli_live

        return cli_live.live(arguments[1:])
    if arguments[:1] in (["analyse"], ["boxes"]):
        from orveil.stages import cli_boxes

        run = cli_boxes.analyse if arguments[0] == "analyse" else cli_boxes.boxes
        return run(arguments[1:])
    if arguments[:1] in ([], ["-h"], ["--help"]) and importlib.util.find_spec("typer") is None:
        print(APPLIANCE)
        return 0
    from orveil.stages.cli_app import run_app

    return run_app(arguments)


def _missing(package: str) -> OrveilError:
    return OrveilError(
        f"this command needs the Python package {package}, which is not installed",
        remedy="install orveil with scripts/setup; a bare `pip install` has only what `orveil blur` needs",
    )


def _say(error: OrveilError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2
