"""Speed and quality of online tracking beside the well-known trackers, in one run on one thread.

    python scripts/bench_tracking.py [--people 20 100] [--frames 3000] [--rounds 3] [--json OUT]

One stream of boxes (`orveil.sim.box_stream`: 640x480, smooth paths, 10 % of boxes missing, 15 % of scores
from .11 to .5, 5 % clutter, 1.5 px noise) goes through every tracker, one process at a time, in turns, so
that all share the noise of the machine; CPU time of the update calls, the best of all rounds. norfair, the
slowest by far, runs once. The rivals are installed at first use, each in an environment of its own under
`--cache`.

"orveil" answers at once, "later" looks half a second ahead, "recording" sees everything (offline), "plain" is
plain ByteTrack. IDF1, MOTA and HOTA are those of `stages/track_metrics.py` (equal to TrackEval's), at IoU .5.
"filled": share of the people whose box the detector missed and for whom the tracker put out a box at IoU .5.
At the end: how many boxes the plain mode and roboflow's ByteTrack name alike.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from orveil.pipeline.geometry import iou
from orveil.sim.box_stream import BoxStream, box_stream
from orveil.stages.track_metrics import TrackBoxes, track_figures

RIVALS = {"roboflow": "trackers==2.6.1", "supervision": "supervision==0.25.1", "norfair": "norfair==2.1.1"}
OURS = ("orveil", "later", "recording", "plain")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
ARRAYS = ("time_s", "frame", "xyxy", "score")
GOLDEN_PEOPLE = (8, 40)
Json = dict[str, Any]


def environment(cache: Path, name: str) -> Path:
    """The Python of a rival's own environment, made at first use."""
    home = cache / RIVALS[name].replace("==", "-")
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        print(f"installing {RIVALS[name]} in {home}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", RIVALS[name]], check=True)
        (home / "complete").touch()
    return python


def run(python: Path, name: str, stream: Path, out: Path) -> Json:
    """One pass of one tracker: seconds, frames and its boxes."""
    script = Path(__file__).parent / "tracking_runner.py"
    command = [str(python), str(script), name, str(stream), str(out)]
    subprocess.run(command, check=True, env={**os.environ, **ONE_THREAD})
    with np.load(out, allow_pickle=False) as result:
        return {key: result[key] for key in result.files}


def filled(stream: BoxStream, result: Json) -> float:
    """Share of the boxes that the detector missed and the tracker put out."""
    right = total = 0
    edges = np.searchsorted(result["frame"], np.arange(len(stream.time_s) + 1))
    for frame in range(len(stream.time_s)):
        missed = np.setdiff1d(np.arange(len(stream.truth)), stream.person[stream.at(frame)])
        overlap = iou(stream.truth[missed, frame], result["xyxy"][edges[frame] : edges[frame + 1]])
        right += int((overlap.max(axis=1, initial=0.0) >= 0.5).sum())
        total += len(missed)
    return right / max(total, 1)


def judge(stream: BoxStream, result: Json) -> Json:
    """Quality of one tracker's boxes."""
    people, frames, _ = stream.truth.shape
    every = np.repeat(np.arange(frames), people), np.tile(np.arange(people), frames)
    truth = TrackBoxes(*every, stream.truth.transpose(1, 0, 2).reshape(-1, 4))
    found = track_figures(truth, TrackBoxes(result["frame"], result["track_id"], result["xyxy"]))
    shares = {"idf1": found.idf1, "mota": found.mota, "hota": found.hota, "filled": filled(stream, result)}
    return {**shares, "switches": found.switches}


def agreement(one: Json, other: Json) -> Json:
    """How many boxes two trackers name alike."""
    rows = [
        set(zip(r["frame"].tolist(), r["track_id"].tolist(), map(tuple, r["xyxy"].tolist()), strict=True))
        for r in (one, other)
    ]
    return {"boxes": len(rows[1]), "alike": len(rows[0] & rows[1])}


def write_golden(path: Path, cache: Path) -> None:
    """Ids that roboflow's ByteTrack gives to the boxes of two streams, for the test of the plain mode."""
    ids = {}
    for people in GOLDEN_PEOPLE:
        stream = box_stream(people, 300, 11)
        with tempfile.TemporaryDirectory() as folder:
            given = Path(folder) / "stream.npz"
            np.savez(given, **{name: getattr(stream, name) for name in ARRAYS})
            result = run(environment(cache, "roboflow"), "roboflow", given, Path(folder) / "out.npz")
        names = zip(result["frame"].tolist(), map(tuple, result["xyxy"].tolist()), strict=True)
        known = dict(zip(names, result["track_id"].tolist(), strict=True))
        boxes = zip(stream.frame.tolist(), map(tuple, stream.xyxy.tolist()), strict=True)
        ids[f"people_{people}"] = np.array([known.get(box, -1) for box in boxes])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **ids)


def compare(people: int, options: argparse.Namespace) -> Json:
    """All trackers on one stream."""
    stream = box_stream(people, options.frames, options.seed)
    pythons = {name: environment(options.cache, name) for name in options.rivals}
    pythons |= {name: Path(sys.executable) for name in OURS}
    best: dict[str, Json] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream.npz"
        np.savez(path, **{name: getattr(stream, name) for name in ARRAYS})
        for turn in range(options.rounds):
            for name, python in pythons.items():
                if name == "norfair" and turn:
                    continue
                result = run(python, name, path, Path(folder) / "out.npz")
                if name not in best or result["seconds"] < best[name]["seconds"]:
                    best[name] = result
    rows = {name: {"fps": float(r["frames"] / r["seconds"]), **judge(stream, r)} for name, r in best.items()}
    report: Json = {"people": people, "trackers": rows}
    if options.rivals:
        report["speedup"] = rows["orveil"]["fps"] / max(rows[name]["fps"] for name in options.rivals)
    if "roboflow" in best:
        report["plain_equals_roboflow"] = agreement(best["plain"], best["roboflow"])
    return report


def show(report: Json) -> None:
    """One table."""
    print(f"\n{report['people']} people\n{'':12} frames/CPU s   IDF1   MOTA   HOTA  filled  switches")
    for name, row in report["trackers"].items():
        shares = " ".join(f"{row[key]:6.4f}" for key in ("idf1", "mota", "hota", "filled"))
        print(f"{name:12} {row['fps']:12.0f} {shares} {row['switches']:9d}")
    if "speedup" in report:
        print(f"orveil is {report['speedup']:.1f} times as fast as the fastest rival")
    if "plain_equals_roboflow" in report:
        print(
            "plain mode and roboflow name alike: {alike} of {boxes}".format(**report["plain_equals_roboflow"])
        )


def main() -> None:
    """Read the options, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rivals", nargs="*", choices=list(RIVALS), default=list(RIVALS))
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "orveil" / "trackers")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--golden", type=Path, help="only write the ids that the test of the plain mode wants"
    )
    options = parser.parse_args()
    if options.golden:
        write_golden(options.golden, options.cache)
        return
    reports = []
    for people in options.people:
        reports.append(compare(people, options))
        show(reports[-1])
    if options.json:
        options.json.write_text(json.dumps(reports, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
