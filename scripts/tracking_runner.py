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
Runner = tuple[list[Any], Callable[[Any], Any], Callable[[Any], list[tuple[Any, Any]]]]
"""Inputs, the call that is timed, and what it answered: ids and boxes of none, one or several frames."""

LOOK_AHEAD_S = 0.5


def orveil(frames: list[Frame]) -> Runner:
    """The online tracker without look-ahead."""
    from orveil.trackers.online import OnlineTracker

    tracker = OnlineTracker()
    return frames, lambda f: tracker.update(*f), lambda got: [(a.track_id, a.xyxy) for a in got]


def later(frames: list[Frame]) -> Runner:
    """The online tracker with look-ahead; the last input is the end of the stream."""
    from orveil.trackers.online import OnlineTracker

    tracker = OnlineTracker(look_ahead_s=LOOK_AHEAD_S)

    def update(frame: Frame | None) -> Any:
        return tracker.flush() if frame is None else tracker.update(*frame)

    return [*frames, None], update, lambda got: [(a.track_id, a.xyxy) for a in got]


def recording(frames: list[Frame]) -> Runner:
    """The whole recording at once; shown are tracks of three boxes and more, one of them confident."""
    from orveil.trackers.tracklets import track_recording

    times = np.array([time_s for time_s, _, _ in frames])
    frame = np.repeat(np.arange(len(frames)), [len(score) for _, _, score in frames])
    xyxy, score = (np.concatenate([f[k] for f in frames]) for k in (1, 2))

    def rows(found: Any) -> list[tuple[Any, Any]]:
        ids = np.concatenate([found.track_id, found.fill.track_id])
        boxes = np.concatenate([xyxy, found.fill.xyxy])
        place = np.concatenate([frame, found.fill.frame])
        best = np.zeros(ids.max(initial=-1) + 1)
        np.maximum.at(best, found.track_id, score)
        shown = (np.bincount(found.track_id)[ids] >= 3) & (best[ids] >= 0.5)
        return [(ids[at], boxes[at]) for k in range(len(frames)) for at in [shown & (place == k)]]

    return [None], lambda _: track_recording(times, frame, xyxy, score), rows


def plain(frames: list[Frame]) -> Runner:
    """The plain ByteTrack mode; boxes with an id are its output."""
    from orveil.trackers.bytetrack import ByteTrack

    tracker = ByteTrack()

    def rows(got: Any) -> list[tuple[Any, Any]]:
        (_, xyxy, _), ids = got
        return [(ids[ids >= 0], xyxy[ids >= 0])]

    return frames, lambda f: (f, tracker.update(*f)), rows


def roboflow(frames: list[Frame]) -> Runner:
    """ByteTrackTracker with its defaults."""
    import supervision

    # The library of that name, in an environment without this package.
    from trackers import ByteTrackTracker  # noqa: TID251

    tracker = ByteTrackTracker()
    inputs = [supervision.Detections(xyxy=xyxy, confidence=score) for _, xyxy, score in frames]

    def rows(got: Any) -> list[tuple[Any, Any]]:
        named = got.tracker_id >= 0
        return [(got.tracker_id[named], got.xyxy[named])]

    return inputs, tracker.update, rows


def supervision(frames: list[Frame]) -> Runner:
    """ByteTrack with its defaults."""
    import supervision

    tracker = supervision.ByteTrack()
    inputs = [supervision.Detections(xyxy=xyxy, confidence=score) for _, xyxy, score in frames]
    return inputs, tracker.update_with_detections, lambda got: [(got.tracker_id, got.xyxy)]


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

    def rows(got: Any) -> list[tuple[Any, Any]]:
        boxes = [t.estimate.ravel() for t in got]
        return [(np.array([t.id for t in got], int), np.array(boxes).reshape(-1, 4))]

    return inputs, tracker.update, rows


RUNNERS: dict[str, Callable[[list[Frame]], Runner]] = {
    "orveil": orveil, "later": later, "recording": recording, "plain": plain,
    "roboflow": roboflow, "supervision": supervision, "norfair": norfair,
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
        results += rows(result)
    frame = np.repeat(np.arange(len(results)), [len(ids) for ids, _ in results])
    ids = np.concatenate([ids for ids, _ in results]).astype(np.int64)
    xyxy = np.concatenate([boxes for _, boxes in results])
    np.savez(out, frame=frame, track_id=ids, xyxy=xyxy, seconds=seconds, frames=len(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
