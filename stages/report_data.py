"""Report: everything the page says, gathered from a run's artifacts as plain JSON. Reads no ground truth.

All of it is decided by the artifacts' content; times and memory, which are not, are in `timings`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orveil.pipeline.artifact import MANIFEST
from orveil.pipeline.stage import InputRef, Inputs
from orveil.pipeline.tables import read_table, read_tables
from orveil.pipeline.types import (
    IGNORE,
    PERSON,
    POSITIVE,
    Associations,
    Detections,
    FrameLabels,
    MediaFiles,
    MediaIndex,
    PseudoLabels,
    Tracks,
)
from orveil.stages.camera_health import read_health, warnings_of
from orveil.stages.guard import VERDICT

__all__ = ["SOURCES", "gather", "loss_curves", "passes", "timings"]

Json = dict[str, Any]
SOURCES = ("detected", "temporal", "cross_view", "pose")
"""Where a positive label came from, in drawing order; "ignored" follows in charts."""
SKETCHED = 2
"""Frames drawn per camera."""


def passes(rounds: int) -> list[tuple[str, str]]:
    """(suffix of the inputs, name) of each pass of detection, tracking, association and labelling."""
    return [(str(r), f"round {r}") for r in range(1, rounds + 1)] + [("final", "final")]


def gather(inputs: Inputs, rounds: int, title: str) -> Json:
    """The deterministic content of the report."""
    media = inputs["media"].path
    files, index = read_table(MediaFiles, media), read_table(MediaIndex, media)
    labels = {suffix: _tables(PseudoLabels, inputs[f"labels_{suffix}"]) for suffix, _ in passes(rounds)}
    return {
        "format": 1,
        "title": title,
        "rounds": rounds,
        "cameras": _cameras(files, index),
        "warnings": _warnings(files, inputs["associations_final"]),
        "detections": [
            {"name": name, **_detections(_tables(Detections, inputs[f"candidates_{suffix}"]))}
            for suffix, name in passes(rounds)
        ],
        "labels": [{"name": name, "views": _labels(labels[s], index)} for s, name in passes(rounds)],
        "frames_used": [
            {"name": name, **_frames_used(_tables(FrameLabels, inputs[f"labels_{suffix}"]))}
            for suffix, name in passes(rounds)
        ],
        "people": [{"name": name, **_people(inputs, suffix, index)} for suffix, name in passes(rounds)],
        "training": _training(inputs, rounds),
        "guard": [_verdict(inputs, number) for number in range(1, rounds + 1)],
        "bundle": _bundle(inputs["bundle"].path),
        "blur": [_blurred(view, path) for view, path in _views(inputs["blurred"])],
        "sketches": _sketches(labels["final"], files),
        "metrics": _json(inputs["metrics"].path / "metrics.json") if "metrics" in inputs else None,
    }


def _tables(kind: type[Any], ref: InputRef) -> Any:
    return read_tables(kind, (path for _, path in ref.shards))


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _views(ref: InputRef) -> list[tuple[str, Path]]:
    return [(f"{shard.session}/{shard.camera}", path) for shard, path in ref.shards]


def view_names(table: Any) -> NDArray[np.str_]:
    """(N,) "session/camera" of each row."""
    pairs = zip(table.session.tolist(), table.camera.tolist(), strict=True)
    return np.array([f"{session}/{camera}" for session, camera in pairs], dtype=np.str_)


def _cameras(files: MediaFiles, index: MediaIndex) -> list[Json]:
    rows = []
    for i, view in enumerate(view_names(files).tolist()):
        times = index.view(str(files.session[i]), str(files.camera[i])).time_s
        steps = np.diff(np.sort(times))
        rows.append({
            "view": view,
            "width": int(files.width[i]),
            "height": int(files.height[i]),
            "frames": len(times),
            "fps": round(1 / float(np.median(steps)), 3) if len(steps) and np.median(steps) > 0 else None,
            "duration_s": round(float(files.duration_s[i]), 3),
            "offset_s": round(float(files.offset_s[i]), 4),
            "offset_source": str(files.offset_source[i]),
        })  # fmt: skip
    return rows


def _warnings(files: MediaFiles, associations: InputRef) -> list[str]:
    """Cameras that were moved, or whose clock is off, with the remedy; the same line is said once."""
    lines: dict[str, None] = {}
    for shard, path in associations.shards:
        mine = files.select(files.session == shard.session)
        offsets = dict(zip(mine.camera.tolist(), mine.offset_s.tolist(), strict=True))
        lines |= dict.fromkeys(warnings_of(read_health(path), offsets))
    return list(lines)


def _detections(table: Detections) -> Json:
    persons = table.score[table.label == PERSON]
    return {
        "candidates": len(persons),
        "confident": int((persons >= 0.5).sum()),
        "histogram": np.histogram(persons, bins=20, range=(0, 1))[0].tolist(),
    }


def _labels(table: PseudoLabels, index: MediaIndex) -> list[Json]:
    """Counts of person labels per view: positives by source, and doubtful ones."""
    persons = table.select(table.label == PERSON)
    views = view_names(persons)
    rows = []
    for session, camera in index.view_keys():
        here = views == f"{session}/{camera}"
        positive = here & (persons.state == POSITIVE)
        counts = {source: int((positive & (persons.source == source)).sum()) for source in SOURCES}
        ignored = int((here & (persons.state == IGNORE)).sum())
        frames = len(index.view(session, camera))
        rows.append({"view": f"{session}/{camera}", "frames": frames, **counts, "ignored": ignored})
    return rows


def _frames_used(table: FrameLabels) -> Json:
    return {split: int((table.split == split).sum()) for split in ("train", "holdout", "unused")}


def _people(inputs: Inputs, suffix: str, index: MediaIndex) -> Json:
    tracks = _tables(Tracks, inputs[f"tracks_{suffix}"])
    matches = _tables(Associations, inputs[f"associations_{suffix}"])
    _, lengths = np.unique(_track_keys(tracks), return_counts=True)
    people: dict[tuple[str, int], int] = {}
    for session, person, views in zip(
        matches.session.tolist(), matches.person_id.tolist(), matches.views.tolist(), strict=True
    ):
        people[(session, person)] = max(views, people.get((session, person), 1))
    cameras = max((len(set(_cameras_of(index, s))) for s in set(index.session.tolist())), default=1)
    matched = matches.probability > 0
    return {
        "tracks": len(lengths),
        "median_track_frames": float(np.median(lengths)) if len(lengths) else None,
        "boxes": len(tracks),
        "interpolated": int(tracks.interpolated.sum()),
        "people_by_views": {str(n): sum(v == n for v in people.values()) for n in range(2, cameras + 1)},
        "matched_tracks": int(matched.sum()),
        "probability_histogram": np.histogram(matches.probability[matched], 20, (0, 1))[0].tolist(),
    }


def _track_keys(tracks: Tracks) -> NDArray[np.str_]:
    return np.char.add(np.char.add(view_names(tracks), "/"), tracks.track_id.astype(np.str_))


def _cameras_of(index: MediaIndex, session: str) -> Iterable[str]:
    return (camera for s, camera in index.view_keys() if s == session)


TRAINED = (("pose_weights", "pose model"), ("student", "student"))


def trained(rounds: int) -> list[tuple[str, str]]:
    """(input, name) of everything that was trained."""
    return [(f"weights_{r}", f"detector, round {r}") for r in range(1, rounds + 1)] + list(TRAINED)


def _training(inputs: Inputs, rounds: int) -> list[Json]:
    """What each training says about itself in weights.json."""
    result = []
    for source, name in trained(rounds):
        facts = _json(inputs[source].path / "weights.json").get("training", {})
        result.append({"name": name, "facts": dict(flatten(facts))})
    return result


def _verdict(inputs: Inputs, number: int) -> Json:
    """What the guard saw, and, where there is ground truth, the true AP of the same cameras."""
    verdict = _json(inputs[f"guard_{number}"].path / VERDICT)
    rows = _json(inputs["metrics"].path / "metrics.json")["rows"] if "metrics" in inputs else []
    steps = rows[number - 1 : number + 1]
    cameras = []
    for view, value in sorted(verdict["cameras"].items()):
        true = [step["cameras"][view]["ap50"] for step in steps if view in step["cameras"]]
        cameras.append({"view": view, "before": value["before"], "after": value["after"], "true": true})
    kept = verdict["kept"] == "after"
    return {"name": f"round {number}", "kept": kept, "reason": verdict["reason"], "cameras": cameras}


def loss_curves(inputs: Inputs, rounds: int) -> dict[str, dict[str, list[list[float]]]]:
    """Name of a training -> loss name -> [iteration, value]; empty where nothing was trained.

    Not part of `gather`: smoothed losses begin anew where a training was killed and went on.
    """
    paths = {name: inputs[source].path / "losses.jsonl" for source, name in trained(rounds)}
    return {name: _losses(path) if path.is_file() else {} for name, path in paths.items()}


def _losses(path: Path) -> dict[str, list[list[float]]]:
    """Loss name -> [iteration, value]; of an iteration recorded twice (a resumed run) the last counts."""
    records: dict[int, Mapping[str, Any]] = {}
    for line in path.read_text("utf-8").splitlines():
        record = json.loads(line)
        records[int(record["iteration"])] = record
    names = sorted({name for record in records.values() for name in record if name.startswith("loss")})
    return {
        name: [[i, float(records[i][name])] for i in sorted(records) if name in records[i]] for name in names
    }


def flatten(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Nested mappings as (dotted name, plain value) pairs; lists become text."""
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            yield from flatten(item, f"{name}.")
        elif isinstance(item, list | tuple):
            yield name, ", ".join(map(str, item))
        else:
            yield name, item


def _bundle(path: Path) -> Json:
    about = _json(path / "bundle.json")
    files = sorted(p for p in path.iterdir() if p.is_file() and p.name != MANIFEST)
    parity = about.get("gate", {}).get("parity", [])
    worst = {
        key: max(row[key] for row in parity) for key in ("max_box_error_px", "max_score_error") if parity
    }
    return {
        "labels": about["labels"],
        "long_side": about["long_side"],
        "thresholds": about["thresholds"],
        "operating_points": about.get("operating_points", {}),
        "recall": about.get("gate", {}).get("recall", {}),
        "parity": {"comparisons": len(parity), **worst},
        "files": [{"name": p.name, "bytes": p.stat().st_size} for p in files],
    }


def _blurred(view: str, path: Path) -> Json:
    log = _json(path / "redaction.json")
    wanted = ("complete", "settings", "frames", "boxes", "longest_gap", "faults")
    size = (path / "video.mp4").stat().st_size
    return {"view": view, "bytes": size, **{name: log[name] for name in wanted}}


def _sketches(labels: PseudoLabels, files: MediaFiles) -> list[Json]:
    """The frames of each camera with the most people recovered beyond the detector's own boxes."""
    persons = labels.select((labels.label == PERSON) & (labels.state == POSITIVE))
    result = []
    for i, view in enumerate(view_names(files).tolist()):
        here = persons.view(str(files.session[i]), str(files.camera[i]))
        for frame in _richest(here):
            rows = here.select(here.index == frame)
            turned = int(files.rotation[i]) % 180 != 0
            size = (int(files.width[i]), int(files.height[i]))
            result.append({
                "view": view,
                "index": frame,
                "width": size[turned],
                "height": size[not turned],
                "boxes": [
                    {"xyxy": [round(float(v), 1) for v in box], "source": source, "score": round(float(s), 3)}
                    for box, source, s in zip(rows.xyxy, rows.source.tolist(), rows.score, strict=True)
                ],
            })  # fmt: skip
    return result


def _richest(labels: PseudoLabels) -> list[int]:
    """Up to `SKETCHED` frames: most recovered boxes, then most boxes; at least 20 frames apart."""
    frames, inverse = np.unique(labels.index, return_inverse=True)
    recovered = np.bincount(inverse.reshape(-1), labels.source != "detected", len(frames))
    boxes = np.bincount(inverse.reshape(-1), minlength=len(frames))
    chosen: list[int] = []
    for position in np.lexsort((frames, -boxes, -recovered)).tolist():
        index = int(frames[position])
        if len(chosen) < SKETCHED and all(abs(index - other) >= 20 for other in chosen):
            chosen.append(index)
    return sorted(chosen)


def timings(inputs: Inputs) -> list[Json]:
    """Seconds of work and highest memory of each node, from the manifests of its artifacts."""
    rows = []
    for ref in inputs.values():
        manifests = [
            _json(path / "manifest.json") for _, path in ref.shards if (path / "manifest.json").is_file()
        ]
        if manifests:
            rows.append({
                "node": ref.node,
                "stage": manifests[0]["stage"],
                "shards": len(manifests),
                "seconds": sum(float(m["seconds"]) for m in manifests),
                "peak_mb": max(int(m["peak_rss_bytes"]) for m in manifests) / 2**20,
            })  # fmt: skip
    return rows
