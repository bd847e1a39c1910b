"""A person: build, role and the textured skins that the renderer draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from orveil.sim.body import Build
from orveil.sim.head import ears, head_surface, neck, nose, split_face, tex_head
from orveil.sim.maths import Array
from orveil.sim.mesh import Skinned, merge, skinned
from orveil.sim.skeleton import rigid
from orveil.sim.textures import Rng, mottled

PartClass = Literal["body", "head", "face"]
SKIN_TONES = np.array([
    [.93, .76, .66], [.88, .69, .57], [.83, .62, .49], [.72, .51, .38], [.56, .38, .27], [.40, .26, .19],
    [.90, .72, .60]])  # fmt: skip
HAIR_COLOURS = np.array([
    [.08, .06, .05], [.20, .13, .08], [.36, .24, .13], [.55, .42, .25], [.45, .44, .43],
    [.12, .09, .08]])  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One textured skin. Parts of one `tint` group change colour together; "" never changes."""

    name: str
    cls: PartClass
    mesh: Skinned
    texture: Array
    specular: float = 0.05
    shininess: float = 0.1
    tint: str = ""


@dataclass
class Person:
    """Identity, build and skins of one person; `pid` counts from 1 and is the track id."""

    pid: int
    role: str
    outfit: str
    build: Build
    head_scale: float
    curl: tuple[float, float]
    skin: Array
    hair: Array
    parts: list[Part] = field(default_factory=list)

    @property
    def H(self) -> float:  # noqa: N802 - the field's letter for height
        """Body height in metres."""
        return self.build.H

    @property
    def shoulder(self) -> float:
        """Shoulder width factor."""
        return self.build.shoulder

    @property
    def J(self) -> Array:  # noqa: N802
        """Rest joints (17, 3) in metres."""
        return self.build.joints

    def add(
        self,
        name: str,
        cls: PartClass,
        pieces: Sequence[Skinned],
        texture: Array,
        gloss: tuple[float, float] = (0.05, 0.1),
        tint: str = "",
    ) -> None:
        """Append one skin made of the pieces; `gloss` is specular strength and shininess."""
        self.parts.append(Part(name, cls, merge(pieces), texture, *gloss, tint))


def new_person(pid: int, role: str, outfit: str, build: Build, rng: Rng) -> Person:
    """A bald, naked person without skins, colours drawn from rng."""
    skin = np.clip(SKIN_TONES[rng.integers(0, len(SKIN_TONES))] * rng.uniform(0.94, 1.05), 0, 1)
    hair = HAIR_COLOURS[rng.integers(0, len(HAIR_COLOURS))]
    scale = float(rng.uniform(0.97, 1.06)) * (1.75 / build.H) ** 0.35
    curl = (float(rng.uniform(0.3, 0.9)), float(rng.uniform(0.3, 0.9)))
    return Person(pid, role, outfit, build, scale, curl, skin, hair)


def add_head(p: Person, rng: Rng, glasses: bool) -> None:
    """Neck, face, scalp, nose and ears (no hair, cap or mask)."""
    b = p.build
    skin_texture = mottled(rng, p.skin)
    p.add("neck", "body", neck(b), skin_texture, (0.1, 0.2), "skin")
    face, scalp = split_face(b, head_surface(b, p.head_scale))
    texture = tex_head(rng, p.skin, p.hair, b.female, glasses)
    p.add("face", "face", [skinned(face, rigid(face.V, "head"))], texture, (0.12, 0.3), "skin")
    p.add("scalp", "head", [skinned(scalp, rigid(scalp.V, "head"))], texture, (0.12, 0.3), "skin")
    p.add("nose", "face", nose(b, p.head_scale), skin_texture, (0.12, 0.3), "skin")
    p.add("ears", "head", ears(b, p.head_scale), skin_texture, (0.1, 0.2), "skin")
