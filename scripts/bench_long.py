"""Recovery on a recording of many hours: time per frame and memory of its first, middle and last pieces.

    python scripts/bench_long.py --hours 8 --cameras 6 --pieces 3

A stream of boxes is made (people who walk, clutter, missed and low boxes) for the pieces that are looked at;
the table of frames is that of the whole recording. The stages run as in an adaptation, one piece after the
other: tracks of every camera, associations, labels. Both must not depend on `--hours`.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from orveil.pipeline.settings import AssociateParams, Params, PseudoLabelParams, TrackParams
from orveil.pipeline.stage import Context, InputRef, Shard, Stage
from orveil.pipeline.tables import write_table
from orveil.pipeline.types import Detections, MediaFiles, MediaIndex
from orveil.stages.associate import Associate
from orveil.stages.chunks import CHUNK_S
from orveil.stages.pseudolabel import PseudoLabel
from orveil.stages.track import Track

Stages = dict[str, tuple[Stage, Params]]
WIDTH, HEIGHT, BOX = 960, 540, np.array([70.0, 190.0])
PEOPLE, CLUTTER = 6, 8


def media_of(folder: Path, cameras: list[str], seconds: int, fps: int) -> InputRef:
    """Files and frames of the whole recording."""
    count = seconds * fps
    n, text, one = len(cameras), [""] * len(cameras), [1] * len(cameras)
    files = MediaFiles(
        session=["main"] * n, camera=cameras, path=text, sha256=text, width=[WIDTH] * n, height=[HEIGHT] * n,
        rotation=[0] * n, time_base_num=one, time_base_den=[1000] * n, frames=[count] * n,
        duration_s=[float(seconds)] * n, offset_s=[0.0] * n, offset_source=["given"] * n,
    )  # fmt: skip
    number = np.arange(count)
    frames = [
        MediaIndex(
            session=np.full(count, "main"), camera=np.full(count, c), index=number,
            pts=number * 1000 // fps, time_s=number / fps,
        )
        for c in cameras
    ]  # fmt: skip
    write_table(files, folder)
    write_table(MediaIndex.concat(frames), folder)
    return InputRef("media", "media", ((Shard(), folder),))


def boxes_of(rng: np.random.Generator, camera: str, first: int, count: int, fps: int) -> Detections:
    """Candidates of one camera for a range of frames: people on smooth paths, some low, and clutter."""
    number = np.repeat(np.arange(first, first + count), PEOPLE + CLUTTER)
    who = np.tile(np.arange(PEOPLE + CLUTTER), count)
    phase, pace = rng.uniform(0, 6.3, (2, PEOPLE, 2))
    at = number / fps
    person = who < PEOPLE
    k = np.minimum(who, PEOPLE - 1)
    path = 0.5 + 0.4 * np.sin(phase[k] + 0.1 * (0.3 + pace[k]) * at[:, None])
    centre = np.where(person[:, None], path, rng.random((len(number), 2))) * [WIDTH - 120, HEIGHT - 240]
    corner = centre + rng.normal(0, 1.5, (len(number), 2))
    low = rng.random(len(number)) < 0.25
    score = np.where(low, rng.uniform(0.11, 0.5, len(number)), rng.uniform(0.5, 0.95, len(number)))
    score = np.where(person, score, rng.uniform(0.1, 0.3, len(number)))
    use = rng.random(len(number)) > 0.1
    rows = int(use.sum())
    return Detections(
        session=np.full(rows, "main"), camera=np.full(rows, camera), index=number[use],
        pts=number[use] * 1000 // fps, det_id=(number * 100 + who)[use],
        xyxy=np.concatenate([corner, corner + BOX], axis=1)[use], score=score[use], label=np.zeros(rows, int),
    )  # fmt: skip


def run_piece(stages: Stages, inputs: dict[str, InputRef], start: int, out: Path) -> float:
    """CPU seconds of all stages on the piece that starts at `start` seconds."""
    spent = 0.0
    for name, (stage, params) in stages.items():
        begin = time.process_time()
        done = []
        for shard in (s for s in stage.shards(params, inputs) if s.start == start):
            folder = out / f"{name}-{shard.name.replace('/', '-')}"
            folder.mkdir(parents=True)
            stage.run(params, inputs, shard, folder, context_of(out))
            done.append((shard, folder))
        inputs[name] = InputRef(name, name, tuple(done))
        spent += time.process_time() - begin
    return spent


def context_of(scratch: Path) -> Context:
    """What an executor would hand over."""
    return Context(seed=0, scratch=scratch, progress=lambda done, total, unit: None)


def bench(root: Path, cameras: list[str], seconds: int, fps: int, pieces: int) -> None:
    """Run and print the pieces of one recording."""
    rng, count, frames = np.random.default_rng(0), max(1, round(seconds / CHUNK_S)), CHUNK_S * fps
    (root / "media").mkdir()
    inputs = {"media": media_of(root / "media", cameras, seconds, fps)}
    stages: Stages = {
        "tracks": (Track(), TrackParams()),
        "associations": (Associate(), AssociateParams()),
        "labels": (PseudoLabel(), PseudoLabelParams()),
    }
    for stage, params in stages.values():
        stage.setup(params, inputs, context_of(root))
    for piece in np.unique(np.linspace(0, count - 1, pieces).astype(int)).tolist():
        shards = []
        for c in cameras:
            folder = root / f"candidates-{piece}-{c}"
            folder.mkdir()
            write_table(boxes_of(rng, c, piece * frames, frames, fps), folder)
            shards.append((Shard("main", c, piece * frames, (piece + 1) * frames), folder))
        inputs["candidates"] = InputRef("candidates", "candidates", tuple(shards))
        spent = run_piece(stages, inputs, piece * CHUNK_S, root / f"piece-{piece}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        each = 1e3 * spent / (frames * len(cameras))
        where = f"{seconds / 3600:g} h, piece {piece + 1} of {count}"
        print(f"{where}: {each:.2f} ms per frame, peak {peak:.2f} GB", flush=True)


def main() -> None:
    """Make the recording, run the pieces, print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--cameras", type=int, default=6)
    parser.add_argument("--fps", type=int, default=10)
    parser.add_argument("--pieces", type=int, default=3, help="how many, spread over the recording")
    options = parser.parse_args()
    cameras = [f"cam{k + 1:02d}" for k in range(options.cameras)]
    with tempfile.TemporaryDirectory() as name:
        bench(Path(name), cameras, int(options.hours * 3600), options.fps, options.pieces)


if __name__ == "__main__":
    main()
