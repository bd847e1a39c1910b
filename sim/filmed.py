"""What a film is made of, whatever the room: a scene, people who move in it, and cameras."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orveil.sim.camera import Camera
from orveil.sim.maths import Array
from orveil.sim.person import Person
from orveil.sim.scene import Scene
from orveil.sim.staff_motion import Motion


@dataclass
class Site:
    """A furnished scene with moving people and cameras.

    `pinholes` are the cameras without their lens; `tints` colour the clothes of people (by id) whose
    textures are made to be coloured.
    """

    scene: Scene
    motion: Motion
    pinholes: list[Camera]
    tints: dict[int, dict[str, Array]] = field(default_factory=dict)

    @property
    def people(self) -> list[Person]:
        """Everybody; the patient is the last."""
        return self.scene.people

    def poses(self, t: float) -> dict[int, tuple[Array, Array]]:
        """Bones of everybody at t seconds."""
        return self.motion.poses(t)

    def describe_people(self) -> list[dict[str, Any]]:
        """What goes into the ground truth's list of people."""
        return [
            {"track_id": p.pid, "role": p.role, "outfit": p.outfit, "height": round(p.H, 3)}
            for p in self.people
        ]
