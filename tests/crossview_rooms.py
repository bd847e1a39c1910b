"""Synthetic rooms for the tests of matching across cameras: upright people before pinhole cameras."""

from __future__ import annotations

from itertools import product

import numpy as np

from orveil.pipeline.types import MediaFiles, MediaIndex, Tracks

SIZE = (640, 480)


def camera(x, y, height, look_x, look_y, focal=420.0):
    forward = np.array([look_x - x, look_y - y, 1.0 - height])
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward]), np.array([x, y, height]), focal


CAMERAS = [camera(-4, -3, 2.7, 0, 0), camera(4, -3, 2.5, 0, 0), camera(0.5, 4, 2.9, 0, 0)]
ELSEWHERE = camera(96, -3, 2.7, 100, 0)


def project(view, ground, height):
    """Boxes (N, 4) of upright people at ground points (N, 2), and whether the view shows them."""
    rotation, position, focal = view
    corners = []
    for dx, dy, z in product((-0.25, 0.25), (-0.25, 0.25), (0.0, 1.0)):
        offset = np.stack([np.full(len(ground), dx), np.full(len(ground), dy), z * height], axis=1)
        point = (
            np.concatenate([ground, np.zeros((len(ground), 1))], axis=1) + offset - position
        ) @ rotation.T
        corners.append(np.stack([point[:, 0] / point[:, 2], point[:, 1] / point[:, 2], point[:, 2]], axis=1))
    corner = np.stack(corners)
    pixel = corner[:, :, :2] * focal + np.array(SIZE) / 2
    box = np.concatenate([pixel.min(axis=0), pixel.max(axis=0)], axis=1)
    middle = (box[:, :2] + box[:, 2:]) / 2
    shown = (corner[:, :, 2] > 0.5).all(axis=0) & (middle > 0).all(axis=1) & (middle < SIZE).all(axis=1)
    return np.clip(box, 0, np.tile(SIZE, 2)), shown


def room(people=4, seconds=180, fps=2.0, seed=0, views=CAMERAS, origin=(0.0, 0.0)):
    """Per camera: frame, person, box rows of people walking between random places."""
    rng = np.random.default_rng(seed)
    frames = int(seconds * fps)
    stops = rng.uniform(-2.2, 2.2, (people, seconds // 6 + 2, 2))
    at = np.arange(frames) / fps / 6
    low = at.astype(int)
    path = stops[:, low] + (at - low)[None, :, None] * (stops[:, low + 1] - stops[:, low])
    height = rng.uniform(1.6, 1.85, people)
    out = []
    for view in views:
        rows = []
        for person in range(people):
            box, shown = project(view, path[person] + np.array(origin), np.full(frames, height[person]))
            box = box + rng.normal(0, 2.0, box.shape)
            shown &= rng.random(frames) > 0.1
            rows += [(f, person, *box[f]) for f in np.flatnonzero(shown)]
        out.append(np.array(sorted(rows)))
    return out, frames


def tables(rows, frames, fps, pieces=20.0, delay=None):
    """Media and track tables; every person's track is cut every `pieces` seconds."""
    names = [f"cam{c}" for c in range(len(rows))]
    delay = delay or [0.0] * len(rows)
    count = len(names)
    files = MediaFiles(
        session=["main"] * count, camera=names, path=[""] * count, sha256=[""] * count,
        width=[SIZE[0]] * count, height=[SIZE[1]] * count, rotation=[0] * count,
        time_base_num=[1] * count, time_base_den=[1000] * count, frames=[frames] * count,
        duration_s=[1.0] * count, offset_s=[0.0] * count, offset_source=["given"] * count,
    )  # fmt: skip
    index, tracks, truth = [], [], {}
    for c, (name, table) in enumerate(zip(names, rows, strict=True)):
        number = np.arange(frames)
        index.append(
            MediaIndex(
                session=["main"] * frames,
                camera=[name] * frames,
                index=number,
                pts=number,
                time_s=number / fps + delay[c],
            )
        )
        frame, person = table[:, 0].astype(int), table[:, 1].astype(int)
        track = person * 1000 + (frame / fps // pieces).astype(int)
        truth |= {(name, int(t)): int(p) for t, p in zip(track, person, strict=True)}
        n = len(table)
        tracks.append(
            Tracks(
                session=["main"] * n,
                camera=[name] * n,
                index=frame,
                pts=frame,
                track_id=track,
                det_id=np.arange(n),
                xyxy=np.sort(table[:, 2:].reshape(n, 2, 2), axis=1).reshape(n, 4),
                score=np.full(n, 0.8),
                interpolated=np.zeros(n, bool),
            )
        )
    return files, MediaIndex.concat(index), Tracks.concat(tracks), truth


def agreement(result, truth):
    """Share of matched tracks, and share of right pairs among the pairs of tracks given one person."""
    names = list(zip(result.camera.tolist(), result.track_id.tolist(), strict=True))
    matched = result.views > 1
    right = wrong = 0
    for person in np.unique(result.person_id[matched]):
        members = [truth[names[k]] for k in np.flatnonzero(matched & (result.person_id == person))]
        same = sum(a == b for k, a in enumerate(members) for b in members[:k])
        right, wrong = right + same, wrong + len(members) * (len(members) - 1) // 2 - same
    return matched.mean(), right / max(right + wrong, 1)


def ring(count):
    """Cameras on the walls all around, looking at the middle."""
    turn = 2 * np.pi * np.arange(count) / count + 0.3
    return [camera(4.5 * np.cos(t), 4.0 * np.sin(t), 2.5 + 0.1 * (k % 3), 0, 0) for k, t in enumerate(turn)]
