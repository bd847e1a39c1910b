"""Triangle meshes made by lofting rings, and MuJoCo's binary skin format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from orveil.sim.maths import Array
from orveil.sim.skeleton import BONES


class Mesh(NamedTuple):
    """Vertices V (n, 3) in metres, texture coordinates UV (n, 2), triangles F (m, 3)."""

    V: Array
    UV: Array
    F: Array


class Skinned(NamedTuple):
    """A mesh whose vertices follow the bones with weights W (n, 17)."""

    V: Array
    UV: Array
    F: Array
    W: Array


class Ring(NamedTuple):
    """One closed curve c + cos t * ax + sin t * ay; an exponent below one makes it squarer."""

    centre: npt.ArrayLike
    ax: npt.ArrayLike
    ay: npt.ArrayLike
    exponent: float = 1.0


def skinned(mesh: Mesh, weights: Array) -> Skinned:
    """Join a mesh and its bone weights (n, 17)."""
    return Skinned(mesh.V, mesh.UV, mesh.F, weights)


def _grid_faces(rows: int, n: int) -> list[tuple[int, int, int]]:
    faces = []
    for i in range(rows - 1):
        for j in range(n):
            a, b = i * (n + 1) + j, (i + 1) * (n + 1) + j
            faces += [(a, a + 1, b + 1), (a, b + 1, b)]
    return faces


def close_ends(
    V: Array, UV: Array, rows: int, n: int, centres: Sequence[Array], v_of: Sequence[float]
) -> Mesh:
    """Faces of a rows x (n + 1) vertex grid, with both ends capped by a fan round a new vertex."""
    faces = _grid_faces(rows, n)
    for row, centre, v in zip((0, rows - 1), centres, v_of, strict=True):
        k = len(V)
        V = np.vstack([V, np.asarray(centre, float)[None]])
        UV = np.vstack([UV, [[0.5, v]]])
        for j in range(n):
            a = row * (n + 1) + j
            faces.append((a, k, a + 1) if row == 0 else (a, a + 1, k))
    return orient(Mesh(V, UV, np.array(faces)))


def loft(rings: Sequence[Ring], n: int = 20) -> Mesh:
    """Surface through the rings with `n` segments around; u runs round, v along, both 0 to 1."""
    theta = np.linspace(0, 2 * np.pi, n + 1)
    co, si = np.cos(theta), np.sin(theta)
    centres = [np.asarray(r.centre, float) for r in rings]
    length = [0.0]
    for a, b in pairwise(centres):
        length.append(length[-1] + float(np.linalg.norm(b - a)) + 1e-6)
    V, UV = [], []
    for centre, ring, along in zip(centres, rings, length, strict=True):
        e = ring.exponent
        cc, ss = np.sign(co) * np.abs(co) ** e, np.sign(si) * np.abs(si) ** e
        V.append(centre + cc[:, None] * np.asarray(ring.ax, float) + ss[:, None] * np.asarray(ring.ay, float))
        UV.append(np.stack([theta / (2 * np.pi), np.full(n + 1, along / length[-1])], 1))
    return close_ends(
        np.concatenate(V), np.concatenate(UV), len(rings), n, (centres[0], centres[-1]), (0.0, 1.0)
    )


def orient(mesh: Mesh) -> Mesh:
    """The mesh with its triangles turned outwards (positive enclosed volume)."""
    V, UV, F = mesh
    a, b, c = V[F[:, 0]], V[F[:, 1]], V[F[:, 2]]
    if np.einsum("ij,ij->i", np.cross(a, b), c).sum() < 0:
        F = F[:, ::-1]
    return Mesh(V, UV, F)


def ellipsoid(
    centre: npt.ArrayLike, radii: npt.ArrayLike, n: int = 12, m: int = 8, R: Array | None = None
) -> Mesh:
    """Ellipsoid with half axes `radii` (3,), optionally turned by R (3, 3), then moved to `centre`."""
    r = np.asarray(radii, float)
    rings = []
    for i in range(m + 1):
        t = -math.pi / 2 + math.pi * i / m
        k = max(math.cos(t), 0.02)
        rings.append(Ring((0, 0, r[2] * math.sin(t)), (r[0] * k, 0, 0), (0, r[1] * k, 0)))
    V, UV, F = loft(rings, n)
    if R is not None:
        V = V @ R.T
    return Mesh(V + np.asarray(centre, float), UV, F)


def merge(parts: Sequence[Skinned]) -> Skinned:
    """All parts as one mesh; weights are normalised to sum to one."""
    offset, faces = 0, []
    for part in parts:
        faces.append(part.F + offset)
        offset += len(part.V)
    W = np.concatenate([p.W for p in parts])
    return Skinned(
        np.concatenate([p.V for p in parts]),
        np.concatenate([p.UV for p in parts]),
        np.concatenate(faces),
        W / W.sum(1, keepdims=True),
    )


def skin_bytes(mesh: Skinned, prefix: str, joints: Array) -> bytes:
    """MuJoCo .skn file: bones are named `prefix_bone`, bound at `joints` (17, 3)."""
    V, UV, F, W = mesh
    used = [b for b in range(len(BONES)) if W[:, b].max() > 1e-4]
    out = [
        np.array([len(V), len(V), len(F), len(used)], np.int32).tobytes(),
        V.astype(np.float32).tobytes(),
        (UV * [1, -1] + [0, 1]).astype(np.float32).tobytes(),
        F.astype(np.int32).tobytes(),
    ]
    for b in used:
        idx = np.nonzero(W[:, b] > 1e-4)[0].astype(np.int32)
        out += [
            f"{prefix}_{BONES[b]}".encode().ljust(40, b"\0"),
            joints[b].astype(np.float32).tobytes(),
            np.array([1, 0, 0, 0], np.float32).tobytes(),
            np.array([len(idx)], np.int32).tobytes(),
            idx.tobytes(),
            W[idx, b].astype(np.float32).tobytes(),
        ]
    return b"".join(out)
