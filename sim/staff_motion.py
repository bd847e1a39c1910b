"""Moves people about a room: plans, walking, giving way, turning and working."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from orveil.sim.maths import Array, unit, wrap
from orveil.sim.person import Person
from orveil.sim.pose import Stance, pose_bones
from orveil.sim.staff_actions import Manner, act, sample_manner, strolling
from orveil.sim.stations import Places, Planner, Station, Stop
from orveil.sim.textures import Rng

TICK = 1.0 / 30.0
MARGIN = 3.5
"""Seconds simulated before and after the recording, so that clocks may be off by almost as much."""


@dataclass
class Agent:
    """One walking person; `record` holds x, y, yaw, phase, amplitude, stride and the pose per tick."""

    person: Person
    plan: list[Stop]
    station: Station
    manner: Manner
    speed: float
    position: Array
    yaw: float
    phase: float
    velocity: Array = field(default_factory=lambda: np.zeros(2))
    next_stop: int = 1
    left: float = 0.0
    path: Array | None = None
    way_point: int = 0
    target: Station | None = None
    goal: Array = field(default_factory=lambda: np.zeros(2))
    stuck: float = 0.0
    pose: Array | None = None
    gait: float = 0.0
    amplitude: float = 0.0
    record: list[Array] = field(default_factory=list)


class Motion:
    """Movement of people between stations, simulated once; `poses` gives any time of the recording.

    `fixed` may be filled with the poses of people who do not move.
    """

    def __init__(self, places: Places, people: Sequence[Person], seconds: float, rng: Rng) -> None:
        self.rng, self.places, self.floor = rng, places, places.floor
        planner = Planner(self.places, MARGIN, seconds + 2 * MARGIN)
        self.agents = [self._enter(p, planner) for p in people]
        for k in range(round((seconds + 2 * MARGIN) / TICK) + 1):
            before = np.array([a.position for a in self.agents])
            for i, agent in enumerate(self.agents):
                self._step(i, agent, before, k * TICK)
        self.tracks = {a.person.pid: np.array(a.record) for a in self.agents}
        self.people = {p.pid: p for p in people}
        self.fixed: dict[int, tuple[Array, Array]] = {}

    def _enter(self, person: Person, planner: Planner) -> Agent:
        plan = planner.plan(person.role, self.rng)
        station = self.places.find(plan[0].name, self.rng)
        assert station is not None
        yaw = math.atan2(station.face[1] - station.y, station.face[0] - station.x)
        at = np.array([station.x, station.y])
        agent = Agent(
            person, plan, station, sample_manner(self.rng), float(self.rng.uniform(0.75, 1.15)), at, yaw,
            float(self.rng.random()),
        )  # fmt: skip
        agent.left, agent.goal = plan[0].seconds, at.copy()
        return agent

    def _step(self, i: int, a: Agent, before: Array, t: float) -> None:
        if a.path is None:
            a.left -= TICK
            if a.left <= 0 and a.next_stop < len(a.plan):
                self._set_out(a)
        if a.path is None:
            speed = self._turn(a)
            wanted = act(a.person, a.manner, a.station, a.position, a.yaw, t)
        else:
            speed = self._walk(i, a, before)
            wanted = strolling(a.person, a.manner, t)
        if a.pose is None:
            a.pose = wanted.copy()
        a.pose = a.pose + (wanted - a.pose) * (1 - math.exp(-TICK / 0.28))
        quick = 1 - math.exp(-TICK / 0.15)
        a.gait += (speed - a.gait) * quick
        a.amplitude += (min(1.0, a.gait / 0.55) - a.amplitude) * quick
        stride = (0.50 + 0.60 * a.gait) * (a.person.H / 1.75)
        a.phase += a.gait * TICK / stride
        a.record.append(np.concatenate([a.position, [a.yaw, a.phase, a.amplitude, stride], a.pose]))

    def _set_out(self, a: Agent) -> None:
        """Start for the next stop, unless somebody is there or nothing leads there."""
        stop = a.plan[a.next_stop]
        a.next_stop += 1
        a.left = 1.5
        target = self.places.find(stop.name, self.rng)
        if target is None:
            return
        goal = np.array([target.x, target.y])
        if any(b is not a and np.hypot(*(b.goal - goal)) < 0.55 for b in self.agents):
            return
        path = self.floor.path(a.position, goal)
        if path is not None and len(path) > 1:
            a.path, a.way_point, a.target, a.goal = np.vstack([path, goal[None]]), 0, target, goal
            a.left, a.stuck = stop.seconds, 0.0

    def _turn(self, a: Agent) -> float:
        """Turn on the spot towards the work; returns the speed of the small steps."""
        face = a.station.face
        off = float(wrap(math.atan2(face[1] - a.position[1], face[0] - a.position[0]) - a.yaw))
        a.yaw += float(np.clip(off, -2.6 * TICK, 2.6 * TICK))
        return min(0.5, abs(off)) * 0.8 if abs(off) > 0.15 else 0.0

    def _walk(self, i: int, a: Agent, before: Array) -> float:
        path, target = a.path, a.target
        assert path is not None and target is not None
        while a.way_point < len(path) - 1 and np.hypot(*(path[a.way_point] - a.position)) < 0.28:
            a.way_point += 1
        remaining = float(np.hypot(*(path[-1] - a.position)))
        desired = unit(path[a.way_point] - a.position) * a.speed * min(1, 0.25 + remaining / 0.6)
        desired = self._give_way(i, a, before, desired)
        a.velocity = a.velocity + (desired - a.velocity) * min(1, TICK / 0.22)
        new = self._keep_apart(i, a, before, a.position + a.velocity * TICK)
        moved = float(np.hypot(*(new - a.position))) / TICK
        a.stuck = a.stuck + TICK if moved < 0.12 else 0.0
        a.position = new
        if moved > 0.08:
            off = wrap(math.atan2(a.velocity[1], a.velocity[0]) - a.yaw)
            a.yaw += float(np.clip(off, -3.2 * TICK, 3.2 * TICK))
        if remaining < 0.10 or a.stuck > 2.5:
            # Whoever could not get there stays where the way ended.
            here = Station(float(new[0]), float(new[1]), target.face, "idle")
            a.station = target if remaining < 0.10 else here
            a.path, a.velocity = None, np.zeros(2)
            a.manner.style = self.rng.random(4)
        return moved

    def _give_way(self, i: int, a: Agent, before: Array, desired: Array) -> Array:
        """Steer round other people and away from obstacles."""
        for j, other in enumerate(before):
            v = a.position - other
            d = float(np.hypot(*v)) + 1e-6
            if j == i or d >= 1.0:
                continue
            away = v / d
            sideways = np.array([-away[1], away[0]])
            if sideways @ desired < 0:
                sideways = -sideways
            weight = max(0.0, (0.95 - d) / 0.45)
            desired = desired + away * weight * 0.7 + sideways * weight * 0.5
        clearance = self.floor.clearance(*a.position)
        if clearance < 0.30:
            desired = desired + self.floor.uphill(*a.position) * (0.30 - clearance) * 4
        speed = float(np.hypot(*desired))
        return desired if speed <= 1.25 else desired * 1.25 / speed

    def _keep_apart(self, i: int, a: Agent, before: Array, new: Array) -> Array:
        """A new position outside other people and obstacles, not too far from the old one."""
        for j, other in enumerate(before):
            v = new - other
            d = float(np.hypot(*v)) + 1e-9
            if j != i and d < 0.46:
                new = other + v / d * 0.46
        if self.floor.clearance(*new) < 0.16:
            new = a.position + self.floor.uphill(*new) * 0.01
        step = float(np.hypot(*(new - a.position)))
        longest = 1.5 * TICK
        return new if step <= longest else a.position + (new - a.position) * (longest / step)

    def poses(self, t: float) -> dict[int, tuple[Array, Array]]:
        """Bone positions and rotations of everybody at t seconds, -MARGIN to seconds + MARGIN."""
        out = dict(self.fixed)
        for pid, track in self.tracks.items():
            u = float(np.clip((t + MARGIN) / TICK, 0, len(track) - 1.001))
            k = int(u)
            s = track[k] * (1 - (u - k)) + track[k + 1] * (u - k)
            p = self.people[pid]
            stance = Stance(
                np.array([s[0], s[1], 0.0]), float(s[2]), float(s[3]), float(np.clip(s[4], 0, 1)), float(s[5])
            )
            out[pid] = pose_bones(s[6:], p.J, p.H, stance)
        return out
