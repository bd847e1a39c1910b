"""Command line of the appliance: `orveil analyse` and `orveil boxes`: what is covered, as a file to edit.

Imports no torch, Ray, pydantic, pyarrow or typer.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from orveil.pipeline.errors import OrveilError, explain_os_error
from orveil.pipeline.progress import make_events
from orveil.stages.cli_options import add_decisions, add_run_options
from orveil.stages.redaction.analyse import analyse as analyse_file
from orveil.stages.redaction.boxes_coco import read_coco, write_coco
from orveil.stages.redaction.boxes_convert import from_video, write_edited
from orveil.stages.redaction.boxes_cvat import read_cvat, write_cvat
from orveil.stages.redaction.boxes_file import BoxesFile
from orveil.stages.redaction.boxes_schema import KIND
from orveil.stages.redaction.log import BlurSettings, RedactionLog
from orveil.stages.redaction.look import Look
from orveil.stages.runtime import Bundle, sha256_of

__all__ = ["analyse", "boxes"]

ANALYSE = """
BOXES.json holds every box of every frame, margin included, and is there to be corrected (docs/boxes-json.md).
The exit status is 1 where frames could not be judged: they are to be covered as a whole.

example:
  orveil analyse cam1.mp4 --bundle bundle --out cam1.boxes.json
  orveil blur cam1.mp4 --boxes cam1.boxes.json --out blurred
"""
BOXES = """
examples:
  orveil boxes check cam1.boxes.json --video cam1.mp4
  orveil boxes convert cam1.boxes.json annotations.xml              # for CVAT
  orveil boxes convert cam1.boxes.json coco.json                    # for COCO tools
  orveil boxes convert annotations.xml new.boxes.json --like cam1.boxes.json
  orveil boxes convert coco.json new.boxes.json --video cam1.mp4
"""


def analyse(arguments: Sequence[str]) -> int:
    """Run `orveil analyse ARGUMENTS`; returns the exit status.

    Raises:
        OrveilError: nothing could be written.
    """
    parser = argparse.ArgumentParser(
        "orveil analyse", description="Find what `orveil blur` would cover, and write it down for editing.",
        epilog=ANALYSE, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("video", type=Path, help="video to analyse")
    parser.add_argument("--bundle", type=Path, required=True, help="bundle folder that `orveil adapt` made")
    parser.add_argument("--out", type=Path, required=True, metavar="BOXES.json", help="file to write")
    add_decisions(parser)
    add_run_options(parser)
    given = parser.parse_args(arguments)
    known = BlurSettings()
    chosen = {name: getattr(given, name, getattr(known, name)) for name in BlurSettings.__dataclass_fields__}
    settings = BlurSettings(**{**chosen, "roi": tuple(given.roi)})
    _not_itself(given.out, given.video)
    bundle, name, begin = Bundle.load(given.bundle), given.video.name, time.perf_counter()
    events = make_events(quiet=given.quiet)
    events.begin({name: "analyse"}, {})
    events.node_started(name, 0, 1)
    said = "failed"
    try:
        log = analyse_file(
            given.video, given.out, bundle, settings,
            lambda done, total, unit: events.progress(name, "all", done, total, unit), threads=given.threads,
        )  # fmt: skip
        said = f"{log.frames['in']} frames"
    finally:
        events.shard_finished(name, "all")
        events.node_finished(name, time.perf_counter() - begin, said)
        events.end()
    return _judged(log, given.out)


def _judged(log: RedactionLog, path: Path) -> int:
    tracks = len(log.tracks)
    print(f"{path}: {log.frames['in']} frames, {log.frames['with_boxes']} with boxes, {tracks} tracks")
    if log.complete:
        return 0
    first = log.faults[0]
    print(
        f"warning: the video was not whole: {log.frames['covered']} frames are to be covered as a whole, "
        f"first frame {first['first']} ({first['reason']})\n  remedy: look at `whole` in {path}",
        file=sys.stderr,
    )
    return 1


def boxes(arguments: Sequence[str]) -> int:
    """Run `orveil boxes ARGUMENTS`; returns the exit status.

    Raises:
        OrveilError: a file is not right, or does not fit.
    """
    parser = argparse.ArgumentParser(
        "orveil boxes", description="Check boxes files, and take them to annotation tools and back.",
        epilog=BOXES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="is the file right, and made for this video?")
    check.add_argument("boxes", type=Path, metavar="BOXES.json")
    check.add_argument("--video", type=Path, help="the video it should be for")
    convert = commands.add_parser("convert", help="to CVAT (.xml) or COCO (.json), or back")
    convert.add_argument("source", type=Path, metavar="FROM")
    convert.add_argument("target", type=Path, metavar="TO")
    frames = convert.add_mutually_exclusive_group()
    frames.add_argument("--like", type=Path, metavar="BOXES.json",
                        help="on the way back: the boxes file that was exported")  # fmt: skip
    frames.add_argument("--video", type=Path, help="on the way back: the video, where there was no such file")
    given = parser.parse_args(arguments)
    if given.command == "check":
        return _check(given.boxes, given.video)
    return _convert(given.source, given.target, given.like, given.video)


def _check(path: Path, video: Path | None) -> int:
    file, count, sources, whole = BoxesFile(path), 0, Counter[str](), 0
    if video is not None:
        file.check_video(sha256_of(video), Look.at(video).size, str(video))
    for frame in file.frames():
        count += len(frame.origins)
        sources.update(origin.source for origin in frame.origins)
        whole += bool(frame.whole)
    listed = "".join(f", {number} {name}" for name, number in sorted(sources.items()))
    print(f"{path}: right; {file.header.frames} frames, {count} boxes{listed}; {whole} frames as a whole")
    return 0


def _convert(source: Path, target: Path, like: Path | None, video: Path | None) -> int:
    _not_itself(target, source)
    kind = _kind(source)
    if kind == "boxes":
        return _export(BoxesFile(source), target)
    if like is not None:
        _not_itself(target, like)
        file = BoxesFile(like)
        header, before = file.header, file.frames()
    elif video is not None:
        header, empty = from_video(video)
        before = iter(empty)
    else:
        raise OrveilError(
            "timestamps and digest of the video are not in such a file", where=str(source),
            remedy="add --like BOXES.json (the file that was exported) or --video VIDEO",
        )  # fmt: skip
    drawn = read_cvat(source, header) if kind == "cvat" else read_coco(source, header)
    counts = write_edited(drawn, header, before, target, str(source))
    print(f"{target}: {counts['frames']} frames, {counts['boxes']} boxes, {counts['edited']} of them edited")
    return 0


def _export(file: BoxesFile, target: Path) -> int:
    suffix = target.suffix.lower()
    if suffix not in (".xml", ".json"):
        raise OrveilError("what to convert to is told by the name", where=str(target),
                          remedy="name it .xml for CVAT or .json for COCO")  # fmt: skip
    number = write_cvat(file, target) if suffix == ".xml" else write_coco(file, target)
    print(f"{target}: {file.header.frames} frames, {number} {'tracks' if suffix == '.xml' else 'boxes'}")
    return 0


def _kind(path: Path) -> str:
    """boxes, cvat or coco, by the beginning of the file."""
    try:
        with path.open("rb") as file:
            begin = file.read(4096)
    except OSError as error:
        raise explain_os_error(error, str(path)) from error
    if begin.startswith(b"PK"):
        raise OrveilError("this is a ZIP archive", where=str(path), remedy="unpack annotations.xml from it")
    if begin.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "cvat"
    return "boxes" if KIND.encode() in begin else "coco"


def _not_itself(target: Path, source: Path) -> None:
    if target.exists() and source.exists() and target.samefile(source):
        raise OrveilError("the output would replace the input", where=str(target),
                          remedy="write to another name")  # fmt: skip
