"""Where staff stand and what they do there, and each person's plan through the recording."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from orveil.sim.floor import Floor
from orveil.sim.maths import unit
from orveil.sim.or_room import OperatingRoom, X, Y
from orveil.sim.scene import local_frame
from orveil.sim.textures import Rng

OUT = "@out"
"""Name of the place outside the room; it stands for any point of the corridor."""
PREFERRED = {
    "surgeon": ["table0", "table1"],
    "assistant": ["table1", "table0", "table3", "table2"],
    "anaesthetist": ["head", "anaesthesia"],
    "scrub_nurse": ["table2", "table3", "table4", "table5", "instruments01", "instruments0-1"],
    "radiographer": ["table5", "table4", "monitor0"],
    "visitor": [OUT],
    "circulator": [],
}
APART = 0.5
"""Metres between the places where two people start."""
_AT_TABLE = ("surgeon", "assistant", "scrub_nurse", "anaesthetist")


class Station(NamedTuple):
    """A standing place: floor point, the point looked at, the action, the height of the work."""

    x: float
    y: float
    face: tuple[float, float]
    action: str
    height: float = 1.0


class Stop(NamedTuple):
    """One entry of a plan: where, and for how many seconds."""

    name: str
    seconds: float


class Places:
    """All stations of a room; points that nobody can reach are left out."""

    def __init__(self, room: OperatingRoom, floor: Floor, rng: Rng) -> None:
        self.floor = floor
        self.stations: dict[str, Station] = {}
        self._at_table(room, rng)
        self._at_equipment(room, rng)
        self._open_floor(room, rng)
        self.outside: list[Station] = []
        for side in (-1, 1):
            y = float(np.clip(room.door_y + side * 1.9, -Y + 0.4, Y - 0.4))
            if abs(y - room.door_y) > 1.3:
                face = (room.door_side * (X + 1.0), room.door_y)
                self.outside.append(Station(room.door_side * (X + 1.5), y, face, "idle"))

    def _add(self, name: str, x: float, y: float, face: Any, action: str, height: float = 1.0) -> None:
        fx, fy = self.floor.nearest_free(x, y)
        if abs(fx) <= X and np.hypot(fx - x, fy - y) <= 0.8:
            self.stations[name] = Station(fx, fy, (float(face[0]), float(face[1])), action, height)

    def _at_table(self, room: OperatingRoom, rng: Rng) -> None:
        zt = room.table_height
        sides = [(0.22, 1), (0.02, -1), (-0.42, 1), (-0.62, -1), (-0.85, 1), (-0.95, -1)]
        for k, (along, side) in enumerate(sides):
            x, y, _ = room.at(along + rng.uniform(-0.06, 0.06), side * 0.62, 0)
            self._add(f"table{k}", x, y, room.at(along - 0.05, 0, 0), "table", zt)
        x, y, _ = room.at(1.42, rng.uniform(-0.15, 0.15), 0)
        self._add("head", x, y, room.at(0.95, 0, 0), "head", zt)

    def _at_equipment(self, room: OperatingRoom, rng: Rng) -> None:
        if room.anaesthesia is not None:
            x, y, _ = local_frame(room.anaesthesia)(0.68, 0, 0)
            self._add("anaesthesia", x, y, room.anaesthesia[:2], "machine", 1.1)
        for k, r in enumerate(room.instruments):
            for side in (1, -1):
                x, y, _ = local_frame(r)(0, side * (r[3] + 0.36), 0)
                self._add(f"instruments{k}{side}", x, y, r[:2], "instruments", 0.98)
        for k, r in enumerate(room.machines):
            x, y, _ = local_frame(r)(r[2] + 0.36, 0, 0)
            self._add(f"machine{k}", x, y, r[:2], "machine", 1.0)
        for k, s in enumerate(room.screens[-3:]):
            d = unit([room.table[0] - s[0], room.table[1] - s[1]])
            shift = rng.uniform(-0.5, 0.5)
            x, y = s[0] + d[0] * 0.2 - d[1] * shift + rng.uniform(-0.3, 0.3), s[1] + d[1] * 0.2 + d[0] * shift
            self._add(f"monitor{k}", x, y, s, "look")

    def _open_floor(self, room: OperatingRoom, rng: Rng) -> None:
        for k, action in enumerate(("hold", "talk", "crouch", "cross", "idle", "crouch")):
            for _ in range(20):
                x, y = rng.uniform(-X + 0.5, X - 0.5), rng.uniform(-Y + 0.5, Y - 0.5)
                if self.floor.clearance(x, y) > 0.45:
                    break
            self._add(f"open{k}", x, y, room.table[:2], action)

    def find(self, name: str, rng: Rng) -> Station | None:
        """The station of that name; a random one outside for `OUT`."""
        if name == OUT:
            return self.outside[int(rng.integers(len(self.outside)))] if self.outside else None
        return self.stations.get(name)

    @property
    def floating(self) -> list[str]:
        """Stations away from the table."""
        first = ("open", "machine", "monitor", "instruments", "anaesthesia")
        return [k for k in self.stations if k.startswith(first)]

    @property
    def crouching(self) -> list[str]:
        """Stations where people crouch."""
        return [k for k, s in self.stations.items() if s.action == "crouch"]


class Planner:
    """Gives each person a first place and a plan; no two start at the same place.

    The first circulator always leaves, comes back and crouches, so that every recording holds these.
    """

    def __init__(self, places: Places, warm_up: float, total: float) -> None:
        self.places, self.warm_up, self.total = places, warm_up, total
        self.taken: set[str] = set()
        self.shown_exit = False

    def plan(self, role: str, rng: Rng) -> list[Stop]:
        """The stops of one person, for a little longer than the recording."""
        p = self.places
        home = next((k for k in PREFERRED[role] if k == OUT or self._is_free(k)), None)
        start = home
        if start is None or (start == OUT and not p.outside):
            start = self._somewhere(rng)
        self.taken.add(start)
        restless = role in ("circulator", "visitor")
        stops = [Stop(start, float(rng.uniform(2, 6) if restless else rng.uniform(6, 14)))]
        if role == "visitor":
            stops = [Stop(start, self.warm_up + float(rng.uniform(1, 4)))]
        elapsed, left = 0.0, False
        if role == "circulator" and not self.shown_exit:
            self.shown_exit = left = True
            stops = [Stop(start, self.warm_up + float(rng.uniform(0.2, 2.0))), *self._exit_and_crouch(rng)]
            elapsed = 12.0
        while elapsed < self.total + 5:
            if role in _AT_TABLE:
                stops += self._round_trip(role, home or start, rng)
                elapsed += 16
            else:
                more, left = self._wander(role, elapsed, left, rng)
                stops += more
                elapsed += 7
        return stops

    def _is_free(self, name: str) -> bool:
        """Whether the station exists and nobody starts there or within arm's length of it."""
        here = self.places.stations.get(name)
        if here is None or name in self.taken:
            return False
        others = [self.places.stations[k] for k in self.taken if k != OUT]
        return all(np.hypot(here.x - s.x, here.y - s.y) >= APART for s in others)

    def _somewhere(self, rng: Rng) -> str:
        """A free station away from the table; the last resort may be crowded."""
        free = [k for k in self.places.floating if k not in self.taken] or self.places.floating
        for _ in range(20):
            start = free[rng.integers(len(free))]
            if self._is_free(start):
                break
        return start

    def _exit_and_crouch(self, rng: Rng) -> list[Stop]:
        stops = [Stop(OUT, float(rng.uniform(0.5, 2.0)))] if self.places.outside else []
        stops += [Stop(k, float(rng.uniform(2.0, 3.5))) for k in self.places.crouching[:1]]
        return stops[::-1] if rng.random() < 0.5 else stops

    def _round_trip(self, role: str, home: str, rng: Rng) -> list[Stop]:
        p = self.places
        away = [k for k in p.floating if k not in self.taken and not k.startswith("open")] or p.floating
        if role == "anaesthetist" and "anaesthesia" in p.stations and rng.random() < 0.6:
            away = ["anaesthesia"]
        if role in ("surgeon", "assistant") and rng.random() < 0.5:
            away = [k for k in p.floating if k.startswith(("instruments", "monitor"))] or away
        there = away[rng.integers(len(away))]
        return [Stop(there, float(rng.uniform(2, 5))), Stop(home, float(rng.uniform(6, 14)))]

    def _wander(self, role: str, elapsed: float, left: bool, rng: Rng) -> tuple[list[Stop], bool]:
        p, stops = self.places, []
        if p.outside and not left and (elapsed > 4 or role == "visitor") and rng.random() < 0.45:
            stops.append(Stop(OUT, float(rng.uniform(1, 4))))
            left = True
        if p.crouching and rng.random() < 0.35:
            stops.append(Stop(p.crouching[rng.integers(len(p.crouching))], float(rng.uniform(2.5, 4))))
        tables = [k for k in p.stations if k.startswith("table") and k not in self.taken][:2]
        anywhere = p.floating + tables
        stops.append(Stop(anywhere[rng.integers(len(anywhere))], float(rng.uniform(2, 5))))
        return stops, left
