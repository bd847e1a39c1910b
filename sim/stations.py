"""Where people stand and what they do there, and each person's plan through the recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from orveil.sim.floor import Floor
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
    """All stations of a room, and those `outside` of it; points that nobody can reach are left out."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.stations: dict[str, Station] = {}
        self.outside: list[Station] = []

    def add(self, name: str, x: float, y: float, face: Any, action: str, height: float = 1.0) -> None:
        """Add a station near x, y that looks at `face`, unless nobody can stand there."""
        fx, fy = self.floor.nearest_free(x, y)
        if abs(fx) <= self.floor.inside[0] and np.hypot(fx - x, fy - y) <= 0.8:
            self.stations[name] = Station(fx, fy, (float(face[0]), float(face[1])), action, height)

    def open_floor(self, actions: Sequence[str], face: Any, rng: Rng) -> None:
        """A station for each action somewhere on the free floor."""
        hx, hy = self.floor.inside
        for k, action in enumerate(actions):
            for _ in range(20):
                x, y = rng.uniform(-hx + 0.5, hx - 0.5), rng.uniform(-hy + 0.5, hy - 0.5)
                if self.floor.clearance(x, y) > 0.45:
                    break
            self.add(f"open{k}", x, y, face, action)

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
        home = next((k for k in PREFERRED.get(role, []) if k == OUT or self._is_free(k)), None)
        start = home
        if start is None or (start == OUT and not p.outside):
            start = self._somewhere(rng)
        self.taken.add(start)
        restless = role not in _AT_TABLE and role != "radiographer"
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
