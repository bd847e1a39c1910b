"""Synthetic rooms for tests of the common floor: bodies that walk, stand and sway before pinhole cameras."""

from __future__ import annotations

import numpy as np

from orveil.pipeline.types import MediaFiles, MediaIndex, Tracks
from orveil.trackers.ground_camera import GroundCamera, Pose
from orveil.trackers.pairing import Scene

SIZE = np.array([960.0, 540.0])
FPS = 5.0


def hung(x: float, y: float, height: float, focal: float, look: tuple[float, float] = (0.0, 0.0)):
    """A camera at a place, looking at a point one metre above the floor."""
    away = np.array(look) - (x, y)
    tilt = np.arctan2(height - 1.0, np.hypot(*away))
    return GroundCamera(SIZE, focal, float(tilt), 0.0, height), Pose(
        np.array([x, y]), float(np.arctan2(away[1], away[0]))
    )


CORNERS = [hung(-4, -3, 2.7, 1.0), hung(4, -3, 2.5, 1.1), hung(0.5, 4, 2.9, 0.95)]


def boxes_of(view, ground, height):
    """Boxes (N, 4) in pixels of upright bodies at ground points (N, 2), and whether the view shows them."""
    camera, pose = view
    low, high = [], []
    for dx, dy in ((-0.33, 0.0), (0.33, 0.0), (0.0, -0.33), (0.0, 0.33), (0.0, 0.0)):
        for z, wide in ((0.0, 0.6), (1.0, 1.0), (1.35, 1.0), (height, 0.0)):
            point = np.column_stack([ground + wide * np.array([dx, dy]), np.full(len(ground), z)])
            image, depth = camera.project(pose.back(point))
            low.append(image)
            high.append(depth)
    image, depth = np.stack(low), np.stack(high)
    pixel = image * camera.unit + SIZE / 2
    box = np.concatenate([pixel.min(axis=0), pixel.max(axis=0)], axis=1)
    middle = (box[:, :2] + box[:, 2:]) / 2
    shown = (depth > 0.5).all(axis=0) & (middle > 0).all(axis=1) & (middle < SIZE).all(axis=1)
    return np.clip(box, 0, np.tile(SIZE, 2)), shown


def paths(rng, people, seconds, walking=True):
    """Ground points (people, frames, 2): everybody walks between places with pauses, or stands for good."""
    frames = int(seconds * FPS)
    stops = rng.uniform(-2.0, 2.0, (people, int(seconds / 4) + 3, 2))
    if not walking:
        stops[:] = stops[:, :1]
    at = np.arange(frames) / FPS / 4 + rng.uniform(0, 1, (people, 1))
    low = at.astype(int)
    part = np.clip((at - low) * 2 - 0.5, 0, 1)[..., None]
    who = np.arange(people)[:, None]
    return stops[who, low] + part * (stops[who, low + 1] - stops[who, low])


def filmed(path, views=CORNERS, seed=0, hidden=0.4):
    """Rows (camera, frame, person, x0, y0, x1, y1, score); `hidden` of the people end at a table."""
    rng = np.random.default_rng(seed)
    people, frames = path.shape[:2]
    height = rng.normal(1.70, 0.07, people)
    rows = []
    for camera, view in enumerate(views):
        for person in range(people):
            box, shown = boxes_of(view, path[person], height[person])
            if rng.random() < hidden:
                box[:, 3] -= 0.45 * (box[:, 3] - box[:, 1])
            box = box + rng.normal(0, 2.0, box.shape)
            shown &= rng.random(frames) > 0.1
            rows += [(camera, f, person, *box[f], 0.8) for f in np.flatnonzero(shown)]
    return np.array(sorted(rows))


def scene_of(rows, frames, pieces=8.0):
    """The scene, the person of each track, and picture sizes; tracks are cut every `pieces` seconds."""
    piece = rows[:, 1] // (FPS * pieces)
    key, track = np.unique(np.column_stack([rows[:, 0], rows[:, 2], piece]), axis=0, return_inverse=True)
    box = np.sort(rows[:, 3:7].reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    scene = Scene(
        camera=rows[:, 0].astype(np.int64),
        tick=rows[:, 1].astype(np.int64),
        track=track.reshape(-1).astype(np.int64),
        xyxy=box,
        score=rows[:, 7],
        sure=np.ones(len(key), bool),
        track_camera=key[:, 0].astype(np.int64),
        tick_s=np.arange(frames) / FPS,
    )
    return scene, key[:, 1].astype(int), [SIZE] * (int(rows[:, 0].max()) + 1)


def tables_of(scene):
    """The same scene as the tables that the stage reads."""
    cameras, frames = int(scene.camera.max()) + 1, len(scene.tick_s)
    names = [f"cam{c}" for c in range(cameras)]
    files = MediaFiles(
        session=["main"] * cameras, camera=names, path=[""] * cameras, sha256=[""] * cameras,
        width=[int(SIZE[0])] * cameras, height=[int(SIZE[1])] * cameras, rotation=[0] * cameras,
        time_base_num=[1] * cameras, time_base_den=[1000] * cameras, frames=[frames] * cameras,
        duration_s=[1.0] * cameras, offset_s=[0.0] * cameras, offset_source=["given"] * cameras,
    )  # fmt: skip
    number = np.arange(frames)
    media = MediaIndex.concat(
        [
            MediaIndex(
                session=["main"] * frames, camera=[n] * frames, index=number, pts=number, time_s=scene.tick_s
            )
            for n in names
        ]
    )
    rows = len(scene.tick)
    tracks = Tracks(
        session=["main"] * rows,
        camera=[names[c] for c in scene.camera],
        index=scene.tick,
        pts=scene.tick,
        track_id=scene.track,
        det_id=np.arange(rows),
        xyxy=scene.xyxy,
        score=scene.score,
        interpolated=np.zeros(rows, bool),
    )
    return files, media, tracks
