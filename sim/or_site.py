"""Puts an operating room together: the room, its staff and patient, their movement and the cameras."""

from __future__ import annotations

import numpy as np

from orveil.sim.filmed import Site
from orveil.sim.maths import Array
from orveil.sim.or_cameras import or_cameras
from orveil.sim.or_equipment import equip
from orveil.sim.or_fittings import fit_out
from orveil.sim.or_room import OperatingRoom, empty_room, theatre_floor_plan
from orveil.sim.or_stations import theatre_places
from orveil.sim.or_wear import patient_person, staff_person
from orveil.sim.person import Person
from orveil.sim.pose import HAND_L, HAND_R, POSE_SIZE, Stance, pose_bones
from orveil.sim.site_options import SiteOptions, plan_cameras
from orveil.sim.staff_motion import Motion
from orveil.sim.textures import Rng

ROLES = ("surgeon", "assistant", "anaesthetist", "circulator", "scrub_nurse", "radiographer", "visitor")


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


def theatre(seed: int) -> OperatingRoom:
    """The furnished room of a seed, without people."""
    rng = np.random.default_rng([seed, 1])
    room = empty_room(rng, seed)
    equip(room, rng)
    fit_out(room, rng)
    return room


def or_site(options: SiteOptions) -> Site:
    """The operating room of these options."""
    seed, room = options.seed, theatre(options.seed)
    sizes = [plan.size for plan in plan_cameras(options)]
    cameras = or_cameras(room, np.random.default_rng([seed, 2]), options.layout, sizes)
    people = room.scene.people = or_people(seed, options.people)
    rng = np.random.default_rng([seed, 4])
    places = theatre_places(room, theatre_floor_plan(room), rng)
    motion = Motion(places, [p for p in people if p.role != "patient"], options.seconds, rng)
    for p in people:
        if p.role == "patient":
            motion.fixed[p.pid] = lying_patient(p, room, rng)
    return Site(room.scene, motion, cameras)


def lying_patient(p: Person, room: OperatingRoom, rng: Rng) -> tuple[Array, Array]:
    """Bones of the patient on the table, one arm on the arm board where there is one."""
    z = np.array([room.along[0], room.along[1], 0.0])
    up = np.array([0, 0, 1.0])
    R = np.stack([up, np.cross(z, up), z], 1)
    origin = room.at(0.98 - p.H, 0, room.table_height + 0.125)
    side, H = 0.16 * p.H, p.H
    P = np.zeros(POSE_SIZE)
    P[2], P[3] = -0.05, rng.uniform(-0.5, 0.5)
    P[HAND_L], P[HAND_R] = [0, side, 0.49 * H], [0, -side, 0.49 * H]
    if room.arm_side:
        left = 1 if R[:2, 1] @ room.across > 0 else -1
        reach = room.arm_side * left
        P[HAND_L if reach > 0 else HAND_R] = [-0.04, reach * 0.66, 0.76 * H]
    return pose_bones(P, p.J, H, Stance(origin, 0.0, lying=R))
