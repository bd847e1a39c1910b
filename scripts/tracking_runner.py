"""Runs one tracker over one stream of boxes and measures its updates; `bench_tracking.py` starts it.

    python scripts/tracking_runner.py TRACKER STREAM.npz OUT.npz [FRAMES]

Imports numpy and the one tracker only, since every rival lives in an environment of its own. Building the
inputs in the form a tracker asks for is not timed; the CPU seconds of the update calls are.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Frame = tuple[float, Any, Any]
Runner = tuple[list[Any], Callable[[Any], Any], Callable[[Any], tuple[Any, Any]]]


def orveil(frames: list[Frame]) -> Runner:
    """The online tracker without look-ahead."""
    from orveil.trackers.online import OnlineTracker

    tracker = OnlineTracker()
    return frames, lambda f: tracker.update(*f), lambda got: (got[0].track_id, got[0].xyxy)


def plain(frames: list[Frame]) -> Runner:
    """The plain ByteTrack mode; boxes with an id are its output."""
    from orveil.trackers.bytetrack import ByteTrack

    tracker = ByteTrack()

    def rows(got: Any) -> tuple[Any, Any]:
        (_, xyxy, _), ids = got
        return ids[ids >= 0], xyxy[ids >= 0]

    return frames, lambda f: (f, tracker.update(*f)), rows


def roboflow(frames: list[Frame]) -> Runner:
    """ByteTrackTracker with its defaults."""
    import supervision

    # The library of that name, in an environment without this package.
    from trackers import ByteTrackTracker  # noqa: TID251

    tracker = ByteTrackTracker()
    inputs = [supervision.Detections(xyxy=xyxy, confidence=score) for _, xyxy, score in frames]

    def rows(got: Any) -> tuple[Any, Any]:
        named = got.tracker_id >= 0
        return got.tracker_id[named], got.xyxy[named]

    return inputs, tracker.update, rows


def supervision(frames: list[Frame]) -> Runner:
    """ByteTrack with its defaults."""
    import supervision

    tracker = supervision.ByteTrack()
    inputs = [supervision.Detections(xyxy=xyxy, confidence=score) for _, xyxy, score in frames]
    return inputs, tracker.update_with_detections, lambda got: (got.tracker_id, got.xyxy)


def norfair(frames: list[Frame]) -> Runner:
    """Boxes as pairs of points, IoU distance; the tracker's defaults otherwise."""
    import norfair as library

    tracker = library.Tracker(distance_function="iou", distance_threshold=0.7)
    inputs = [
        [
            library.Detection(points=box.reshape(2, 2), scores=np.array([s, s]))
            for box, s in zip(xyxy, score, strict=True)
        ]
        for _, xyxy, score in frames
    ]

    def rows(got: Any) -> tuple[Any, Any]:
        boxes = [t.estimate.ravel() for t in got]
        return np.array([t.id for t in got], int), np.array(boxes).reshape(-1, 4)

    return inputs, tracker.update, rows


RUNNERS: dict[str, Callable[[list[Frame]], Runner]] = {
    "orveil": orveil, "plain": plain, "roboflow": roboflow, "supervision": supervision, "norfair": norfair,
}  # fmt: skip


def read(path: str, most: int) -> list[Frame]:
    """The first frames of a stream: time, boxes, scores."""
    stream = np.load(path, allow_pickle=False)
    edges = np.searchsorted(stream["frame"], np.arange(len(stream["time_s"]) + 1))
    return [
        (float(time_s), stream["xyxy"][a:b].copy(), stream["score"][a:b].copy())
        for time_s, a, b in zip(stream["time_s"][:most], edges, edges[1:], strict=False)
    ]


def main(name: str, stream: str, out: str, most: str = "1000000000") -> None:
    """Run, and write what came out and the CPU seconds."""
    frames = read(stream, int(most))
    inputs, update, rows = RUNNERS[name](frames)
    results, seconds = [], 0.0
    for given in inputs:
        start = time.process_time()
        result = update(given)
        seconds += time.process_time() - start
        results.append(rows(result))
    frame = np.repeat(np.arange(len(results)), [len(ids) for ids, _ in results])
    ids = np.concatenate([ids for ids, _ in results]).astype(np.int64)
    xyxy = np.concatenate([boxes for _, boxes in results])
    np.savez(out, frame=frame, track_id=ids, xyxy=xyxy, seconds=seconds, frames=len(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
