"""Draws a scene with MuJoCo's OpenGL renderer: colour, who is where, and depth.

Importing this module needs no OpenGL; making a `Renderer` does. `MUJOCO_GL=egl` is the default, on a GPU
where there is one (`MUJOCO_EGL_DEVICE_ID` chooses it), else in software through Mesa.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orveil.pipeline.errors import OrveilError
from orveil.sim.camera import Camera
from orveil.sim.maths import Array, mat2quat
from orveil.sim.person import Person
from orveil.sim.scene import Scene
from orveil.sim.skeleton import BONES

BODY, HEAD, FACE = 1, 2, 3
_CLASS = {"body": BODY, "head": HEAD, "face": FACE}
Poses = Mapping[int, tuple[Array, Array]]
"""Person id to bone positions (17, 3) and rotations (17, 3, 3)."""
_gl: list[Any] = []


@dataclass(frozen=True)
class Frame:
    """One picture and what is known about each pixel.

    rgb (h, w, 3) uint8; person_id (h, w) int32, 0 = nobody; part (h, w) uint8: 0 nothing, 1 body, 2 head,
    3 face; depth (h, w) float32 metres along the optical axis.
    """

    rgb: Array
    person_id: Array
    part: Array
    depth: Array


def load_mujoco() -> Any:
    """The mujoco module, with OpenGL through EGL unless the environment says otherwise.

    Raises:
        OrveilError: MuJoCo or its OpenGL libraries are missing.

    """
    os.environ.setdefault("MUJOCO_GL", "egl")
    os.environ.setdefault("LP_NUM_THREADS", "1")  # Work is spread over processes, not inside Mesa.
    try:
        import mujoco
    except Exception as error:  # MuJoCo raises whatever its OpenGL binding raises (AttributeError, ...).
        raise OrveilError(
            f"the renderer cannot be loaded: {error}",
            where="orveil.sim",
            remedy="pip install 'orveil[sim]', then run scripts/setup_sim for the EGL libraries",
        ) from error
    return mujoco


def _gl_context(mj: Any) -> None:
    """Make this process's OpenGL context current; one lasts for all scenes."""
    if not _gl:
        try:
            _gl.append(mj.GLContext(64, 64))
        except Exception as error:
            raise OrveilError(
                f"OpenGL cannot be started: {error}",
                where=f"MUJOCO_GL={os.environ.get('MUJOCO_GL')}",
                remedy="run scripts/setup_sim (Mesa EGL), or set MUJOCO_EGL_DEVICE_ID to a GPU that can draw",
            ) from error
        # Freed at exit while its library is still there; left to the interpreter it complains.
        atexit.register(_gl[0].free)
    _gl[0].make_current()


class Renderer:
    """A compiled scene. One camera is moved about freely; people are posed before each picture."""

    def __init__(
        self,
        scene: Scene,
        size: tuple[int, int],
        *,
        samples: int = 4,
        shadow_size: int = 2048,
        alone: float = 0,
    ) -> None:
        """`size` is the largest picture (width, height); `alone` > 0 prepares `alone_counts`."""
        self.mj = mj = load_mujoco()
        _gl_context(mj)
        xml, assets = scene.xml(size, samples, shadow_size)
        self.model = mj.MjModel.from_xml_string(xml, assets)
        self.data = mj.MjData(self.model)
        self.people: list[Person] = scene.people
        self.size = size
        self.context = self.plain = self._context()
        if samples:
            # Identities and depth need no multisampling, and cost far less without.
            self.model.vis.quality.offsamples = 0
            self.plain = self._context()
        self.view = mj.MjvScene(self.model, len(scene.geoms) + len(scene.lights) + 200)
        self.option = mj.MjvOption()
        self.option.geomgroup[:] = 1
        self.option.skingroup[:] = 0
        self.option.skingroup[1] = 1
        self.fixed = mj.MjvCamera()
        self.fixed.type = mj.mjtCamera.mjCAMERA_FIXED
        self.fixed.fixedcamid = 0
        self._index()
        self.alone_factor = alone
        if alone:
            self.alone_view = mj.MjvScene(self.model, 100)
            self.alone_option = mj.MjvOption()
            self.alone_option.geomgroup[:] = 0
            self.alone_option.skingroup[:] = 0
            self.alone_option.skingroup[2] = 1

    def _context(self) -> Any:
        context = self.mj.MjrContext(self.model, self.mj.mjtFontScale.mjFONTSCALE_100)
        context.readDepthMap = self.mj.mjtDepthMap.mjDEPTH_ZEROFAR
        return context

    def _render(self, view: Any, rect: Any, context: Any) -> None:
        # Two contexts share one OpenGL context: each draws into its own frame buffer.
        self.mj.mjr_setBuffer(self.mj.mjtFramebuffer.mjFB_OFFSCREEN, context)
        self.mj.mjr_render(rect, view, context)

    def _index(self) -> None:
        mj, model = self.mj, self.model
        self.mocap = {}
        self.skin_person = np.zeros(model.nskin, np.int32)
        self.skin_class = np.zeros(model.nskin, np.uint8)
        self.skin_material: dict[int, list[tuple[int, str]]] = {}
        for person in self.people:
            ids = [mj.mj_name2id(model, mj.mjtObj.mjOBJ_BODY, f"p{person.pid}_{b}") for b in BONES]
            self.mocap[person.pid] = np.array([model.body_mocapid[i] for i in ids])
            for part in person.parts:
                skin = mj.mj_name2id(model, mj.mjtObj.mjOBJ_SKIN, f"p{person.pid}_{part.name}")
                self.skin_person[skin], self.skin_class[skin] = person.pid, _CLASS[part.cls]
                entry = (int(model.skin_matid[skin]), part.tint)
                self.skin_material.setdefault(person.pid, []).append(entry)

    def close(self) -> None:
        """Free the graphics memory of this scene."""
        self.context.free()
        if self.plain is not self.context:
            self.plain.free()

    def pose(self, poses: Poses) -> None:
        """Put people into their poses; whoever is not named is hidden."""
        for person in self.people:
            if person.pid in poses:
                X, R = poses[person.pid]
                ids = self.mocap[person.pid]
                self.data.mocap_pos[ids] = X
                self.data.mocap_quat[ids] = [mat2quat(r) for r in R]
        shown = np.array([*poses, -1])
        self.model.skin_group[:] = np.where(np.isin(self.skin_person, shown), 1, 3)

    def tint(self, pid: int, tints: Mapping[str, Array]) -> None:
        """Multiply the colours of one person's parts by the tint (3,) of their group."""
        for material, group in self.skin_material[pid]:
            if group in tints:
                self.model.mat_rgba[material, :3] = tints[group]

    def _aim(self, camera: Camera) -> Any:
        mj, model = self.mj, self.model
        model.cam_pos[0] = camera.position
        model.cam_quat[0] = mat2quat(camera.R.T * np.array([1, -1, -1]))
        model.cam_fovy[0] = camera.fovy
        mj.mj_kinematics(model, self.data)
        mj.mj_comPos(model, self.data)
        mj.mj_camlight(model, self.data)
        return mj.MjrRect(0, 0, camera.width, camera.height)

    def draw(self, camera: Camera, *, shadows: bool = True) -> Frame:
        """Colour, identity and depth of the scene as posed, seen by `camera`."""
        mj = self.mj
        rect = self._aim(camera)
        _gl[0].make_current()
        mj.mjv_updateScene(
            self.model, self.data, self.option, None, self.fixed, mj.mjtCatBit.mjCAT_ALL, self.view
        )
        self.view.flags[mj.mjtRndFlag.mjRND_SHADOW] = int(shadows)
        shape = (camera.height, camera.width)
        rgb = np.empty((*shape, 3), np.uint8)
        self._render(self.view, rect, self.context)
        mj.mjr_readPixels(rgb, None, rect, self.context)
        depth = np.empty(shape, np.float32)
        skin = self._identify(self.view, rect, shape, depth)
        person = np.append(self.skin_person, 0)[skin]
        part = np.append(self.skin_class, 0)[skin]
        return Frame(
            rgb[::-1].copy(), person[::-1].copy(), part[::-1].copy(), self._metres(depth)[::-1].copy()
        )

    def _identify(self, view: Any, rect: Any, shape: tuple[int, int], depth: Array | None) -> Array:
        """Skin index at each pixel, rows bottom-up, -1 where there is no skin."""
        mj = self.mj
        flags = (mj.mjtRndFlag.mjRND_SEGMENT, mj.mjtRndFlag.mjRND_IDCOLOR)
        for flag in flags:
            view.flags[flag] = 1
        buffer = np.empty((*shape, 3), np.uint8)
        self._render(view, rect, self.plain)
        mj.mjr_readPixels(buffer, depth, rect, self.plain)
        for flag in flags:
            view.flags[flag] = 0
        # Fewer than 65536 shapes: two of the three bytes are enough.
        codes = buffer[..., 0] | (buffer[..., 1].astype(np.uint16) << 8)
        table = np.full(view.ngeom + 2, -1, np.int32)
        skin = int(mj.mjtObj.mjOBJ_SKIN)
        for i in range(view.ngeom):
            geom = view.geoms[i]
            if geom.objtype == skin:
                table[geom.segid + 1] = geom.objid
        return np.asarray(table[codes])

    def _metres(self, depth: Array) -> Array:
        """Reverse-z buffer values to metres."""
        extent = self.model.stat.extent
        near, far = self.model.vis.map.znear * extent, self.model.vis.map.zfar * extent
        return np.asarray((near * far / (far - near)) / (depth + near / (far - near)), np.float32)

    def vertices(self, pid: int, classes: tuple[int, ...] = (BODY, HEAD, FACE)) -> Array:
        """World positions (n, 3) of one person's skin vertices in the last drawn picture."""
        start, count = np.asarray(self.view.skinvertadr), np.asarray(self.view.skinvertnum)
        all_vertices = np.asarray(self.view.skinvert).reshape(-1, 3)
        mine = np.nonzero((self.skin_person == pid) & np.isin(self.skin_class, classes))[0]
        return np.concatenate([all_vertices[start[i] : start[i] + count[i]] for i in mine])

    def alone_counts(self, pid: int, camera: Camera) -> tuple[float, float, float]:
        """Pixels of person, head (with face) and face if nothing hid them and the picture were larger.

        Rendered at a third of the resolution, in a frustum `alone` times as wide (see the constructor).
        """
        mj, k = self.mj, self.alone_factor
        width = min(round(camera.width * k / 3), self.size[0])
        height = min(round(camera.height * k / 3), self.size[1])
        rect = mj.MjrRect(0, 0, width, height)
        groups = self.model.skin_group.copy()
        self.model.skin_group[:] = np.where(self.skin_person == pid, 2, 1)
        mj.mjv_updateScene(
            self.model,
            self.data,
            self.alone_option,
            None,
            self.fixed,
            mj.mjtCatBit.mjCAT_ALL,
            self.alone_view,
        )
        self.model.skin_group[:] = groups
        for eye in self.alone_view.camera:
            eye.frustum_top *= k
            eye.frustum_bottom *= k
            if eye.frustum_width:
                eye.frustum_width *= k
        self.alone_view.flags[mj.mjtRndFlag.mjRND_SHADOW] = 0
        part = np.append(self.skin_class, 0)[self._identify(self.alone_view, rect, (height, width), None)]
        scale = (camera.width * k / width) * (camera.height * k / height)
        counts = np.bincount(part.ravel(), minlength=4) * scale
        return float(counts[1:].sum()), float(counts[2] + counts[3]), float(counts[3])
