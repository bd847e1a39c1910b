"""Builds a MuJoCo model out of textures, materials, shapes, lights and people."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from orveil.sim.maths import Array, Rect, frame_of, mat2quat, rot_z, unit
from orveil.sim.mesh import Mesh, skin_bytes
from orveil.sim.person import Person
from orveil.sim.skeleton import BONES
from orveil.sim.textures import png

Vec = npt.ArrayLike
PLAIN = 'contype="0" conaffinity="0" group="0"'


def _text(values: npt.ArrayLike) -> str:
    return " ".join(f"{x:.4f}" for x in np.atleast_1d(np.asarray(values, float)))


def local_frame(rect: Rect) -> Callable[[float, float, float], Array]:
    """A function from coordinates of a floor rectangle (u along, v across, z up) to world points."""
    c, s = math.cos(rect[4]), math.sin(rect[4])
    return lambda u, v, z: np.array([rect[0] + c * u - s * v, rect[1] + s * u + c * v, z])


@dataclass
class Scene:
    """A room under construction. Shapes never collide: physics is not used."""

    assets: dict[str, bytes] = field(default_factory=dict)
    textures: list[str] = field(default_factory=list)
    materials: list[str] = field(default_factory=list)
    meshes: list[str] = field(default_factory=list)
    geoms: list[str] = field(default_factory=list)
    lights: list[str] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    ambient: Array = field(default_factory=lambda: np.full(3, 0.4))

    def texture(
        self,
        name: str,
        image: Array,
        repeat: tuple[float, float] | None = None,
        gloss: tuple[float, float] = (0.1, 0.2),
        emission: float = 0.0,
    ) -> str:
        """Add an image (h, w, 3) as texture and material of that name; gloss = specular, shininess."""
        self.assets[name + ".png"] = png(image)
        self.textures.append(f'<texture name="{name}" type="2d" file="{name}.png"/>')
        rep = f'texrepeat="{repeat[0]} {repeat[1]}"' if repeat else ""
        self.materials.append(
            f'<material name="{name}" texture="{name}" {rep} specular="{gloss[0]}" shininess="{gloss[1]}" '
            f'reflectance="0" emission="{emission}"/>'
        )
        return name

    def material(
        self, name: str, rgb: Vec, gloss: tuple[float, float] = (0.2, 0.3), emission: float = 0.0
    ) -> str:
        """Add a plain material."""
        self.materials.append(
            f'<material name="{name}" rgba="{_text(rgb)} 1" specular="{gloss[0]}" shininess="{gloss[1]}" '
            f'emission="{emission}"/>'
        )
        return name

    def geom(
        self,
        kind: str,
        material: str,
        size: Vec,
        position: Vec | None = None,
        R: Array | None = None,
        ends: tuple[Vec, Vec] | None = None,
    ) -> None:
        """Add one primitive, placed by position and rotation or between two end points."""
        place = "" if position is None else f' pos="{_text(position)}"'
        if R is not None:
            place += f' quat="{_text(mat2quat(R))}"'
        if ends is not None:
            place += f' fromto="{_text(ends[0])} {_text(ends[1])}"'
        self.geoms.append(f'<geom type="{kind}" material="{material}" {PLAIN} size="{_text(size)}"{place}/>')

    def box(self, material: str, position: Vec, size: Vec, yaw: float = 0.0) -> None:
        """Box of half sizes `size`, turned by yaw."""
        self.geom("box", material, size, position, rot_z(yaw))

    def quad(
        self, material: str, centre: Vec, normal: Vec, half: tuple[float, float], thick: float = 0.006
    ) -> None:
        """Upright textured panel facing `normal`, half width and half height given."""
        self.geom("box", material, (*half, thick), centre, frame_of(normal))

    def wall(
        self, material: str, centre: Vec, normal: Vec, half: tuple[float, float], back: float = 0.0
    ) -> None:
        """A one-sided wall; `back` moves it along its normal."""
        n = unit(normal)
        self.geom("plane", material, (*half, 0.5), np.asarray(centre, float) + n * back, frame_of(n))

    def capsule(self, material: str, a: Vec, b: Vec, radius: float) -> None:
        """Capsule between two points."""
        self.geom("capsule", material, radius, ends=(a, b))

    def cylinder(self, material: str, a: Vec, b: Vec, radius: float) -> None:
        """Cylinder between two points."""
        self.geom("cylinder", material, radius, ends=(a, b))

    def mesh(self, name: str, mesh: Mesh, material: str, position: Vec) -> None:
        """Add a mesh at a position."""
        lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in mesh.V]
        lines += [f"vt {u:.5f} {v:.5f}" for u, v in mesh.UV]
        lines += ["f " + " ".join(f"{i + 1}/{i + 1}" for i in f) for f in mesh.F]
        self.assets[name + ".obj"] = "\n".join(lines).encode()
        self.meshes.append(f'<mesh name="{name}" file="{name}.obj" inertia="shell" smoothnormal="true"/>')
        self.geoms.append(
            f'<geom type="mesh" mesh="{name}" material="{material}" {PLAIN} pos="{_text(position)}"/>'
        )

    def spot(
        self, position: Vec, direction: Vec, rgb: Vec, *, cutoff: float, exponent: float, shadow: bool
    ) -> None:
        """Add a spot light; angles in degrees."""
        self._light("spot", position, direction, rgb, f'cutoff="{cutoff}" exponent="{exponent}"', shadow)

    def point(self, position: Vec, rgb: Vec, attenuation: str = "1 0 0") -> None:
        """Add a light without direction or shadow."""
        self._light("point", position, (0, 0, -1), rgb, f'attenuation="{attenuation}"', False)

    def _light(self, kind: str, position: Vec, direction: Vec, rgb: Vec, extra: str, shadow: bool) -> None:
        gloss = 0.25 if kind == "spot" else 0.05
        self.lights.append(
            f'<light name="light{len(self.lights)}" type="{kind}" pos="{_text(position)}" '
            f'dir="{_text(direction)}" castshadow="{"true" if shadow else "false"}" diffuse="{_text(rgb)}" '
            f'specular="{gloss} {gloss} {gloss}" ambient="0 0 0" {extra}/>'
        )

    def xml(self, size: tuple[int, int], samples: int, shadow_size: int) -> tuple[str, dict[str, bytes]]:
        """The MJCF text and its files, for pictures up to `size` (width, height)."""
        assets = dict(self.assets)
        textures, materials = list(self.textures), list(self.materials)
        bodies, skins = [], []
        for person in self.people:
            bodies += [f'<body name="p{person.pid}_{b}" mocap="true" pos="0 0 -9"/>' for b in BONES]
            for part in person.parts:
                name = f"p{person.pid}_{part.name}"
                assets[f"{name}.png"] = png(part.texture)
                assets[f"{name}.skn"] = skin_bytes(part.mesh, f"p{person.pid}", person.J)
                textures.append(f'<texture name="{name}" type="2d" file="{name}.png"/>')
                materials.append(
                    f'<material name="{name}" texture="{name}" specular="{part.specular}" '
                    f'shininess="{part.shininess}"/>'
                )
                skins.append(f'<skin name="{name}" file="{name}.skn" material="{name}" group="1"/>')
        return _document(self, size, samples, shadow_size, textures, materials, bodies, skins), assets


def _document(
    scene: Scene,
    size: tuple[int, int],
    samples: int,
    shadow_size: int,
    textures: Sequence[str],
    materials: Sequence[str],
    bodies: Sequence[str],
    skins: Sequence[str],
) -> str:
    return f"""<mujoco><compiler angle="degree"/><statistic extent="5" center="0 0 1"/>
<visual><global offwidth="{size[0]}" offheight="{size[1]}"/>
<quality shadowsize="{shadow_size}" offsamples="{samples}" numslices="16" numstacks="8" numquads="4"/>
<map znear="0.01" zfar="8" shadowscale="0.95" shadowclip="1"/>
<headlight ambient="{_text(scene.ambient)}" diffuse="0.06 0.06 0.06" specular="0 0 0"/></visual>
<asset>{"".join(textures)}{"".join(materials)}{"".join(scene.meshes)}</asset>
<worldbody>{"".join(scene.lights)}{"".join(scene.geoms)}
<camera name="view" pos="0 0 1" fovy="45"/>{"".join(bodies)}</worldbody>
<deformable>{"".join(skins)}</deformable></mujoco>"""
