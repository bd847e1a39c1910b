"""Puts an operating room together: the room, its staff and patient, their movement and the cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from orveil.sim.camera import Camera
from orveil.sim.maths import Array
from orveil.sim.or_cameras import or_cameras
from orveil.sim.or_equipment import equip
from orveil.sim.or_fittings import fit_out
from orveil.sim.or_room import OperatingRoom, empty_room
from orveil.sim.or_wear import patient_person, staff_person
from orveil.sim.person import Person
from orveil.sim.site_options import SiteOptions, plan_cameras
from orveil.sim.staff_motion import Motion

ROLES = ("surgeon", "assistant", "anaesthetist", "circulator", "scrub_nurse", "radiographer", "visitor")


@dataclass
class Site:
    """A furnished scene with moving people and cameras; `pinholes` are the cameras without their lens."""

    room: OperatingRoom
    motion: Motion
    pinholes: list[Camera]

    @property
    def people(self) -> list[Person]:
        """Everybody, the patient last."""
        return self.room.scene.people

    def poses(self, t: float) -> dict[int, tuple[Array, Array]]:
        """Bones of everybody at t seconds."""
        return self.motion.poses(t)

    def describe_people(self) -> list[dict[str, Any]]:
        """What goes into the ground truth's list of people."""
        return [
            {"track_id": p.pid, "role": p.role, "outfit": p.outfit, "height": round(p.H, 3)}
            for p in self.people
        ]


def outfit_of(role: str, index: int, rng: np.random.Generator) -> str:
    """What somebody of that role wears."""
    u = rng.random()
    if role == "surgeon":
        return "gown"
    if role == "assistant":
        return "gown" if u < 0.33 else "apron" if u < 0.66 else "scrubs"
    if role == "scrub_nurse":
        return "gown" if u < 0.5 else "scrubs"
    if role == "anaesthetist":
        return "apron" if u < 0.25 else "scrubs"
    if role == "radiographer":
        return "apron"
    if role == "visitor":
        return "coat"
    return "coat" if u < (0.45 if index == 3 else 0.2) else "scrubs"


def or_people(seed: int, staff: int) -> list[Person]:
    """Staff and patient; nobody at all where staff is 0."""
    rng = np.random.default_rng([seed, 3])
    out = []
    for i in range(staff):
        role = ROLES[i] if i < len(ROLES) else "circulator"
        out.append(staff_person(i + 1, role, outfit_of(role, i, rng), np.random.default_rng([seed, 5, i])))
    if staff:
        out.append(patient_person(staff + 1, np.random.default_rng([seed, 5, 99])))
    return out


def or_site(options: SiteOptions) -> Site:
    """The operating room of these options."""
    seed, rng = options.seed, np.random.default_rng([options.seed, 1])
    room = empty_room(rng, seed)
    equip(room, rng)
    fit_out(room, rng)
    sizes = [plan.size for plan in plan_cameras(options)]
    cameras = or_cameras(room, np.random.default_rng([seed, 2]), options.layout, sizes)
    room.scene.people = or_people(seed, options.people)
    motion = Motion(room, room.scene.people, options.seconds, np.random.default_rng([seed, 4]))
    return Site(room, motion, cameras)
