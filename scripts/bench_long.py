"""Recovery on a recording of many hours: time per frame and memory of its first, middle and last pieces.

    python scripts/bench_long.py --hours 8 --cameras 6 --pieces 3

A stream of boxes is made (people who walk, clutter, missed and low boxes) for the pieces that are looked at;
the table of frames is that of the whole recording. The stages run as in an adaptation, one piece after the
other: tracks of every camera, associations, labels. Both must not depend on `--hours`.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from orveil.pipeline.settings import AssociateParams, Params, PseudoLabelParams, TrackParams
from orveil.pipeline.stage import Context, InputRef, Shard, Stage
from orveil.pipeline.tables import write_table
from orveil.pipeline.threads import limit_threads
from orveil.pipeline.types import MOTION_GRID, Detections, MediaFiles, MediaIndex, Motion
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


def boxes_of(rng: np.random.Generator, camera: int, first: int, count: int, fps: int) -> Detections:
    """Candidates of one camera for a range of frames: people on smooth paths, some low, and clutter.

    Every camera looks at the same floor from another side; who is farther away is smaller and higher up.
    """
    number = np.repeat(np.arange(first, first + count), PEOPLE + CLUTTER)
    who = np.tile(np.arange(PEOPLE + CLUTTER), count)
    phase, pace = np.random.default_rng(PEOPLE).uniform(0, 6.3, (2, PEOPLE, 2))
    person = who < PEOPLE
    k = np.minimum(who, PEOPLE - 1)
    floor = 0.45 * np.sin(phase[k] + 0.1 * (0.3 + pace[k]) * (number / fps)[:, None])
    cos, sin = np.cos(1.05 * camera), np.sin(1.05 * camera)
    floor = np.where(
        person[:, None], floor @ np.array([[cos, -sin], [sin, cos]]), rng.random((len(number), 2)) - 0.5
    )
    near = 0.75 + 0.5 * floor[:, 1:]
    size = BOX * near * (1 + rng.normal(0, 0.02, (len(number), 2)))
    middle = np.stack(
        [WIDTH / 2 + 0.55 * WIDTH * floor[:, 0] * near[:, 0], 0.35 * HEIGHT * near[:, 0] + 90], axis=1
    )
    middle += rng.normal(0, 1.5, middle.shape)
    low = rng.random(len(number)) < 0.25
    score = np.where(low, rng.uniform(0.11, 0.5, len(number)), rng.uniform(0.5, 0.95, len(number)))
    score = np.where(person, score, rng.uniform(0.1, 0.3, len(number)))
    use = rng.random(len(number)) > 0.1
    rows = int(use.sum())
    xyxy = np.concatenate([middle - size / 2, middle + size / 2], axis=1)
    return Detections(
        session=np.full(rows, "main"), camera=np.full(rows, name_of(camera)), index=number[use],
        pts=number[use] * 1000 // fps, det_id=(number * 100 + who)[use],
        xyxy=np.clip(xyxy, 0, [WIDTH, HEIGHT] * 2)[use], score=score[use], label=np.zeros(rows, int),
    )  # fmt: skip


def motion_of(camera: int, first: int, count: int, fps: int) -> Motion:
    """Masks of a range of frames: everything moves."""
    number = np.arange(first, first + count)
    return Motion(
        session=np.full(count, "main"), camera=np.full(count, name_of(camera)), index=number,
        pts=number * 1000 // fps, moved=np.ones((count, *MOTION_GRID), np.bool_),
    )  # fmt: skip


def name_of(camera: int) -> str:
    """Name of a camera."""
    return f"cam{camera + 1:02d}"


def run_piece(stages: Stages, inputs: dict[str, InputRef], start: int, out: Path) -> dict[str, float]:
    """CPU seconds of every stage on the piece that starts at `start` seconds."""
    spent = {}
    for name, (stage, params) in stages.items():
        begin = time.process_time()
        done = []
        for shard in (s for s in stage.shards(params, inputs) if s.start == start):
            folder = out / f"{name}-{shard.name.replace('/', '-')}"
            folder.mkdir(parents=True)
            stage.run(params, inputs, shard, folder, context_of(out))
            done.append((shard, folder))
        inputs[name] = InputRef(name, name, tuple(done))
        spent[name] = time.process_time() - begin
    return spent


def context_of(scratch: Path) -> Context:
    """What an executor would hand over."""
    return Context(seed=0, scratch=scratch, progress=lambda done, total, unit: None)


def bench(root: Path, cameras: int, seconds: int, fps: int, pieces: int) -> None:
    """Run and print the pieces of one recording."""
    rng, count, frames = np.random.default_rng(0), max(1, round(seconds / CHUNK_S)), CHUNK_S * fps
    media = root / "media"
    media.mkdir()
    inputs = {"media": media_of(media, [name_of(c) for c in range(cameras)], seconds, fps)}
    stages: Stages = {
        "tracks": (Track(), TrackParams()),
        "associations": (Associate(), AssociateParams()),
        "labels": (PseudoLabel(), PseudoLabelParams()),
    }
    for stage, params in stages.values():
        stage.setup(params, inputs, context_of(root))
    wanted, total = np.unique(np.linspace(0, count - 1, pieces or count).astype(int)).tolist(), 0.0
    begin = time.perf_counter()
    for piece in wanted:
        folder = root / "piece"
        for name in ("candidates", "motion"):
            inputs[name] = InputRef(name, name, ())
        for c in range(cameras):
            shard = Shard("main", name_of(c), piece * frames, (piece + 1) * frames)
            boxes = folder / f"candidates-{c}"
            boxes.mkdir(parents=True)
            write_table(boxes_of(rng, c, piece * frames, frames, fps), boxes)
            inputs["candidates"] = grown(inputs["candidates"], shard, boxes)
            mask = folder / f"motion-{c}"
            mask.mkdir()
            write_table(motion_of(c, piece * frames, frames, fps), mask)
            seconds_of = Shard("main", name_of(c), piece * CHUNK_S, (piece + 1) * CHUNK_S)
            inputs["motion"] = grown(inputs["motion"], seconds_of, mask)
        parts = run_piece(stages, inputs, piece * CHUNK_S, folder)
        shutil.rmtree(folder)
        total += sum(parts.values())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        each = {name: 1e3 * spent / (frames * cameras) for name, spent in parts.items()}
        shares = ", ".join(f"{name} {value:.2f}" for name, value in each.items())
        where = f"{seconds / 3600:g} h, piece {piece + 1} of {count}"
        print(f"{where}: {sum(each.values()):.2f} ms per frame ({shares}), peak {peak:.2f} GB", flush=True)
    mean = 1e3 * total / (frames * cameras * len(wanted))
    print(f"{len(wanted)} pieces: {mean:.2f} ms per frame, {time.perf_counter() - begin:.0f} s")


def grown(ref: InputRef, shard: Shard, folder: Path) -> InputRef:
    """An input with one more shard."""
    return InputRef(ref.node, ref.digest, (*ref.shards, (shard, folder)))


def main() -> None:
    """Make the recording, run the pieces, print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--cameras", type=int, default=6)
    parser.add_argument("--fps", type=int, default=10)
    parser.add_argument("--pieces", type=int, default=3, help="how many, spread over the recording; 0: all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        limit_threads(1)
        bench(Path(name), options.cameras, int(options.hours * 3600), options.fps, options.pieces)


if __name__ == "__main__":
    main()
