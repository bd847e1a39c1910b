"""A filmed room of the source domain: everyday people walking, standing and talking, no operating room."""

from __future__ import annotations

import math

import numpy as np

from orveil.sim.camera import Camera, look_at
from orveil.sim.everyday import sample_tints
from orveil.sim.filmed import Site
from orveil.sim.floor import Floor
from orveil.sim.maths import unit
from orveil.sim.site_options import SiteOptions, plan_cameras
from orveil.sim.source_room import SourceRoom, source_room
from orveil.sim.staff_motion import Motion
from orveil.sim.stations import Places
from orveil.sim.textures import Rng

ACTIONS = ("talk", "cross", "hold", "look", "idle", "talk", "crouch", "hold", "idle", "cross", "talk", "look",
           "crouch", "idle", "hold", "talk")  # fmt: skip


def source_site(options: SiteOptions) -> Site:
    """The everyday room of these options; everybody walks about, nobody is a patient."""
    seed = options.seed
    room = source_room(np.random.default_rng([seed, 31]), options.people)
    rng = np.random.default_rng([seed, 34])
    X, Y, _ = room.size
    places = Places(Floor((X, Y), (X, Y), [(-X, X, -Y, Y)], room.furniture))
    places.open_floor(ACTIONS, (float(rng.uniform(-1, 1)), float(rng.uniform(-1, 1))), rng)
    motion = Motion(places, room.scene.people, options.seconds, rng)
    cameras = _cameras(room, options, np.random.default_rng([seed, 32]))
    tints = {p.pid: sample_tints(rng) for p in room.scene.people}
    return Site(room.scene, motion, cameras, tints)


def _cameras(room: SourceRoom, options: SiteOptions, rng: Rng) -> list[Camera]:
    """Cameras in the corners, then at the middle of the long walls, aimed by the layout."""
    X, Y, Z = room.size
    spots = [(sx * (X - 0.25), sy * (Y - 0.25)) for sx, sy in ((1, 1), (-1, -1), (1, -1), (-1, 1))]
    spots = [spots[i] for i in rng.permutation(4)] + [(0.0, Y - 0.2), (0.0, 0.2 - Y), (X - 0.2, 0.0)]
    aside = {"wide": 0.0, "partial": 0.35, "narrow": 0.6, "split": 0.6}[options.layout]
    out = []
    for k, plan in enumerate(plan_cameras(options)):
        eye = np.array([*spots[k], min(Z - 0.15, float(rng.uniform(2.0, 2.8)))])
        d = unit(-eye[:2])
        side = (1 - 2 * (k % 2)) * aside * min(X, Y)
        middle = np.array([-d[1], d[0]]) * side + rng.uniform(-0.4, 0.4, 2)
        across = math.radians(float(rng.uniform(58, 78)) * (1 - 0.4 * aside))
        tall = plan.size[1] / plan.size[0]
        fovy = math.degrees(2 * math.atan(math.tan(across / 2) * tall))
        out.append(look_at(k + 1, eye, (*middle, float(rng.uniform(0.8, 1.2))), fovy, plan.size))
    return out
