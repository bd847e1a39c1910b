"""Renders the faces that the restoration test attacks: many simulated people, each seen several times.

    python scripts/render_faces.py --out tests/data

Writes faces.jpg, a sheet with one row per person and one square crop per view, and faces.json with the head's
box in every crop. Views of a person differ in head pose, light and distance, people in build, skin, hair,
beard and glasses. Needs OpenGL (scripts/setup_sim). Nobody in it is real.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from orveil.sim.camera import look_at
from orveil.sim.everyday import sample_tints
from orveil.sim.everyday_poses import relaxed
from orveil.sim.pose import HEAD_PITCH, HEAD_YAW, Stance, pose_bones
from orveil.sim.render import FACE, HEAD, Renderer
from orveil.sim.skeleton import BONE
from orveil.sim.source_room import source_room

ROOM = 8
"""People per room."""
AROUND = 1.4
"""Side of a crop over the longer side of the head's box: the mask's margin must find room."""
FOVY, PIXELS = 14.0, 320


def render_person(
    renderer: Renderer, person: Any, tints: dict[str, Any], views: int, rng: np.random.Generator, side: int
) -> tuple[list[NDArray[np.uint8]], list[list[float]]]:
    """Crops (side, side, 3) RGB of one person and the head's box in each, xyxy px."""
    crops: list[NDArray[np.uint8]] = []
    boxes = []
    model = renderer.model
    while len(crops) < views:
        pose = relaxed(person, rng)
        pose[HEAD_PITCH], pose[HEAD_YAW] = rng.normal(0.08, 0.06), rng.normal(0, 0.12)
        bones = pose_bones(pose, person.J, person.H, Stance(np.zeros(3), 0.0))
        renderer.pose({person.pid: bones})
        renderer.tint(person.pid, tints)
        model.vis.headlight.ambient[:] = rng.uniform(0.35, 0.5)
        model.vis.headlight.diffuse[:] = rng.uniform(0.1, 0.4)
        head = bones[0][BONE["head"]] + [0, 0, 0.1]
        turn = rng.normal(0, 0.12)
        place = head + 2.2 * np.array([math.cos(turn), math.sin(turn), rng.normal(0.12, 0.05)])
        frame = renderer.draw(look_at(1, place, head, FOVY, (PIXELS, PIXELS)))
        shown = (frame.person_id == person.pid) & ((frame.part == HEAD) | (frame.part == FACE))
        if not (frame.part[shown] == FACE).sum() > 400:
            continue  # something stands in the way
        crop, box = _crop(frame.rgb, shown, side)
        crops.append(crop)
        boxes.append(box)
    return crops, boxes


def _crop(
    rgb: NDArray[np.uint8], shown: NDArray[np.bool_], side: int
) -> tuple[NDArray[np.uint8], list[float]]:
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
    half = AROUND * max(box[2] - box[0], box[3] - box[1]) / 2
    low = (box[:2] + box[2:]) / 2 - half
    scale = side / (2 * half)
    affine = np.array([[scale, 0, -low[0] * scale], [0, scale, -low[1] * scale]])
    large = cv2.GaussianBlur(rgb, (0, 0), 0.5 / scale)  # the camera's own blur at this distance
    crop = cv2.warpAffine(
        large, affine, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(crop, np.uint8), np.round((box - np.tile(low, 2)) * scale, 2).tolist()


def main() -> int:
    """Render and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=760)
    parser.add_argument("--people", type=int, default=80)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--side", type=int, default=64, help="of a crop, px")
    options = parser.parse_args()
    rows, boxes = [], []
    for start in range(0, options.people, ROOM):
        rng = np.random.default_rng([options.seed, start])
        room = source_room(rng, min(ROOM, options.people - start))
        renderer = Renderer(room.scene, (PIXELS, PIXELS), samples=4, shadow_size=1024)
        for person in room.scene.people:
            tints = sample_tints(rng)
            crops, own = render_person(renderer, person, tints, options.views, rng, options.side)
            rows.append(np.hstack(crops))
            boxes.append(own)
        renderer.close()
        print(f"{len(rows)} of {options.people} people", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    sheet = np.ascontiguousarray(np.vstack(rows)[..., ::-1])
    cv2.imwrite(str(options.out / "faces.jpg"), sheet, [cv2.IMWRITE_JPEG_QUALITY, 80])
    about = {"seed": options.seed, "side": options.side, "people": len(boxes), "views": options.views}
    text = json.dumps({**about, "heads": boxes}, separators=(",", ":"))
    (options.out / "faces.json").write_text(text + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
