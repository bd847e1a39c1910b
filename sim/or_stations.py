"""Where staff stand in the operating room: at the table, at equipment, on the free floor, outside."""

from __future__ import annotations

import numpy as np

from orveil.sim.floor import Floor
from orveil.sim.maths import unit
from orveil.sim.or_room import OperatingRoom, X, Y
from orveil.sim.scene import local_frame
from orveil.sim.stations import Places, Station
from orveil.sim.textures import Rng


def theatre_places(room: OperatingRoom, floor: Floor, rng: Rng) -> Places:
    """All stations of an operating room."""
    places = Places(floor)
    _at_table(places, room, rng)
    _at_equipment(places, room, rng)
    actions = ("hold", "talk", "crouch", "cross", "idle", "crouch")
    places.open_floor(actions, room.table[:2], rng)
    for side in (-1, 1):
        y = float(np.clip(room.door_y + side * 1.9, -Y + 0.4, Y - 0.4))
        if abs(y - room.door_y) > 1.3:
            face = (room.door_side * (X + 1.0), room.door_y)
            places.outside.append(Station(room.door_side * (X + 1.5), y, face, "idle"))
    return places


def _at_table(places: Places, room: OperatingRoom, rng: Rng) -> None:
    zt = room.table_height
    sides = [(0.22, 1), (0.02, -1), (-0.42, 1), (-0.62, -1), (-0.85, 1), (-0.95, -1)]
    for k, (along, side) in enumerate(sides):
        x, y, _ = room.at(along + rng.uniform(-0.06, 0.06), side * 0.62, 0)
        places.add(f"table{k}", x, y, room.at(along - 0.05, 0, 0), "table", zt)
    x, y, _ = room.at(1.42, rng.uniform(-0.15, 0.15), 0)
    places.add("head", x, y, room.at(0.95, 0, 0), "head", zt)


def _at_equipment(places: Places, room: OperatingRoom, rng: Rng) -> None:
    if room.anaesthesia is not None:
        x, y, _ = local_frame(room.anaesthesia)(0.68, 0, 0)
        places.add("anaesthesia", x, y, room.anaesthesia[:2], "machine", 1.1)
    for k, r in enumerate(room.instruments):
        for side in (1, -1):
            x, y, _ = local_frame(r)(0, side * (r[3] + 0.36), 0)
            places.add(f"instruments{k}{side}", x, y, r[:2], "instruments", 0.98)
    for k, r in enumerate(room.machines):
        x, y, _ = local_frame(r)(r[2] + 0.36, 0, 0)
        places.add(f"machine{k}", x, y, r[:2], "machine", 1.0)
    for k, s in enumerate(room.screens[-3:]):
        d = unit([room.table[0] - s[0], room.table[1] - s[1]])
        shift = rng.uniform(-0.5, 0.5)
        x, y = s[0] + d[0] * 0.2 - d[1] * shift + rng.uniform(-0.3, 0.3), s[1] + d[1] * 0.2 + d[0] * shift
        places.add(f"monitor{k}", x, y, s, "look")
