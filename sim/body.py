"""The naked mesh of a person: torso rings, limbs, hands and feet, in units of body height."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orveil.sim.maths import Array, smooth, unit
from orveil.sim.mesh import Mesh, Ring, Skinned, loft, skinned
from orveil.sim.skeleton import BONE, SIDES, limb_weights, rest_joints, rigid, share, skirt_weights
from orveil.sim.textures import Rng

SHOULDER_Z = 0.812
# z, half width, half depth, forward offset
TORSO = np.array([
    [.455, .060, .058, -.004], [.475, .086, .066, -.006], [.50, .097, .072, -.007], [.53, .100, .073, -.005],
    [.57, .094, .067, .000], [.61, .086, .062, .002], [.65, .087, .063, .003], [.69, .093, .066, .004],
    [.73, .099, .069, .005], [.765, .103, .067, .003], [.795, .104, .060, -.002], [.815, .096, .052, -.006],
    [.832, .074, .044, -.009], [.848, .048, .038, -.010], [.862, .034, .034, -.008]])  # fmt: skip
_Z = SHOULDER_Z
ARM = [(_Z + .02, .014), (_Z + .012, .020), (_Z + .002, .0285), (_Z - .02, .0335), (_Z - .06, .032),
       (_Z - .11, .0275), (_Z - .155, .0250), (_Z - .175, .0245), (_Z - .20, .0255), (_Z - .24, .0235),
       (_Z - .28, .0185), (_Z - .312, .0158), (_Z - .33, .015)]  # fmt: skip
LEG = [(.53, .050), (.50, .0565), (.45, .056), (.38, .050), (.32, .0445), (.285, .0430), (.25, .0425),
       (.20, .0425), (.13, .040), (.07, .039), (.04, .0405)]  # fmt: skip
LEG_AXIS = [(.04, -.006), (.15, -.010), (.25, -.004), (.33, .004), (.45, .002), (.53, 0.)]  # fmt: skip
SHOE = ((-.040, .012, .020), (-.036, .019, .034), (-.022, .0225, .042), (.0, .0235, .045),
        (.022, .0245, .040), (.048, .0275, .031), (.072, .0285, .025), (.090, .0255, .020),
        (.103, .0175, .014), (.108, .008, .009))  # fmt: skip
PALM = ((.012, .014, .011), (0, .0155, .011), (-.015, .020, .0115), (-.035, .0235, .011), (-.05, .024, .010),
        (-.056, .0215, .008))  # fmt: skip
FINGERS = ((0.0165, 0.040), (0.0058, 0.046), (-0.0048, 0.043), (-0.0150, 0.034))


@dataclass(frozen=True)
class Build:
    """Size and proportions of one person: height H in metres, the rest as factors near one."""

    H: float
    width: float
    belly: float
    shoulder: float
    female: bool

    @property
    def joints(self) -> Array:
        """Rest joints (17, 3)."""
        return rest_joints(self.H, self.shoulder)

    @property
    def depth(self) -> float:
        """Depth factor of the trunk: a wide person is deeper too, but less so."""
        return 0.5 + 0.5 * self.width


def sample_build(rng: Rng) -> Build:
    """An adult of random sex, height and stoutness."""
    female = bool(rng.random() < 0.5)
    H = float(np.clip(rng.normal(1.67 if female else 1.79, 0.065), 1.52, 1.98))
    width = float(np.clip(rng.normal(0.97 if female else 1.04, 0.09), 0.85, 1.25))
    belly = float(max(0, rng.normal(0.004, 0.012)))
    return Build(H, width, belly, (0.93 if female else 1.03) * (0.6 + 0.4 * width), female)


def torso_rings(b: Build, inflate: float, low: float = 0.455, high: float = 0.862) -> list[Ring]:
    """Rings of the trunk between two heights (units of H), `inflate` metres outside the skin."""
    rings = []
    for z, w, d, x in TORSO:
        if not low - 1e-6 <= z <= high + 1e-6:
            continue
        w, d = w * b.width, d * b.depth
        bulge = b.belly * 0.5 * math.exp(-(((z - 0.59) / 0.05) ** 2))
        x, d = x + bulge, d + bulge
        if b.female:
            bust = 0.010 * math.exp(-(((z - 0.73) / 0.03) ** 2))
            x, d = x + bust, d + bust
            w -= 0.008 * math.exp(-(((z - 0.63) / 0.04) ** 2))
            w += 0.006 * math.exp(-(((z - 0.52) / 0.04) ** 2))
        rings.append(ellipse_ring(b.H, z, d * b.H + inflate, w * b.H + inflate, x * b.H, 0.86))
    return rings


def ellipse_ring(H: float, z: float, depth: float, width: float, x: float, exponent: float = 1.0) -> Ring:
    """Horizontal ring at height z (units of H); half sizes and forward offset in metres."""
    return Ring((x, 0, z * H), (-depth, 0, 0), (0, width, 0), exponent)


def limb(
    b: Build,
    upper: str,
    lower: str,
    radii: Sequence[tuple[float, float]],
    z_high: float,
    z_low: float,
    n: int = 16,
    axis: Sequence[tuple[float, float]] | None = None,
) -> Mesh:
    """Loft along a hanging limb; radii are (z, r) in units of H, z limits in metres.

    Rings lie closer together round the joint, where the skin bends.
    """
    J, H = b.joints, b.H
    zj = J[BONE[lower]][2]
    near = [zj + d * H for d in (-0.03, -0.015, 0, 0.015, 0.03) if z_low < zj + d * H < z_high]
    zs = np.unique(np.round(np.concatenate([np.linspace(z_low, z_high, 9), near]), 4))
    x0, y0 = J[BONE[upper]][:2]
    zz, rr = zip(*sorted(radii), strict=True)
    rings = []
    for z in zs:
        r = float(np.interp(z / H, zz, rr)) * H
        dx = 0.0
        if axis is not None:
            az, ax = zip(*sorted(axis), strict=True)
            dx = float(np.interp(z / H, az, ax)) * H
        rings.append(Ring((x0 + dx, y0, z), (-r, 0, 0), (0, r, 0), 0.95))
    return loft(rings, n)


def arms(b: Build) -> list[Skinned]:
    """Both bare arms from shoulder to wrist."""
    out, J = [], b.joints
    radii = [(z, r * (0.55 + 0.45 * b.width)) for z, r in ARM]
    for _, n in SIDES:
        m = limb(b, "ua_" + n, "fa_" + n, radii, (_Z + 0.002) * b.H, (_Z - 0.330) * b.H, 14)
        out.append(skinned(m, limb_weights(m.V, b.H, J, "ua_" + n, "fa_" + n, "ha_" + n, 0.025)))
    return out


def sleeves(b: Build, z_low: float, thick: float, flare: float) -> list[Skinned]:
    """Both sleeves down to z_low (units of H), `thick` metres off the arm, wider by `flare` below."""
    out, J, H = [], b.joints, b.H
    mus = 0.55 + 0.45 * b.width
    radii = [(z, r * mus + thick / H * (1 + (flare - 1) * max(0, (_Z - z)) / 0.13)) for z, r in ARM]
    for _, n in SIDES:
        m = limb(b, "ua_" + n, "fa_" + n, radii, (_Z + 0.014) * H, z_low * H, 16)
        w = limb_weights(m.V, H, J, "ua_" + n, "fa_" + n, None, 0.028)
        w = share(w, "chest", smooth((_Z - 0.03) * H, (_Z + 0.03) * H, m.V[:, 2]) * 0.45)
        out.append(skinned(Mesh(m.V, m.UV * [1, 0.2] + [0, 0.66], m.F), w))
    return out


def hands(b: Build, curl: tuple[float, float]) -> list[Skinned]:
    """Both hands, fingers pointing down, palms to the body; `curl` bends the fingers (rad / 0.3)."""
    out = []
    for (s, n), bend in zip(SIDES, curl, strict=True):
        wrist = b.joints[BONE["ha_" + n]]
        pieces = [_palm(b.H, wrist), *_fingers(b.H, wrist, s, bend), _thumb(b.H, wrist, s)]
        out += [skinned(m, rigid(m.V, "ha_" + n)) for m in pieces]
    return out


def _palm(H: float, wrist: Array) -> Mesh:
    x, y, z = wrist
    return loft(
        [Ring((x + 0.002 * H, y, z + t * H), (-a * H, 0, 0), (0, c * H, 0), 0.8) for t, a, c in PALM], 12
    )


def _fingers(H: float, wrist: Array, side: int, curl: float) -> list[Mesh]:
    out = []
    for fx, length in FINGERS:
        p = wrist + np.array([(fx + 0.002) * H, 0, -0.052 * H])
        rings, angle = [], 0.15
        for i in range(6):
            d = np.array([0, -side * math.sin(angle), -math.cos(angle)])
            r = (0.0060 - 0.0006 * i) * H * (1 if i < 5 else 0.4)
            rings.append(Ring(p.copy(), (-r, 0, 0), np.cross(d, [1, 0, 0]) * r))
            p = p + d * length * H / 5
            angle += curl * 0.3
        out.append(loft(rings, 7))
    return out


def _thumb(H: float, wrist: Array, side: int) -> Mesh:
    p = wrist + np.array([0.016, -side * 0.004, -0.012]) * H
    rings = []
    for i in range(5):
        d = unit([0.75 - 0.12 * i, -side * 0.25, -0.6 - 0.1 * i])
        r = (0.0085 - 0.0008 * i) * H * (1 if i < 4 else 0.5)
        u = unit(np.cross(d, [0, 1, 0]))
        rings.append(Ring(p.copy(), u * r, np.cross(d, u) * r))
        p = p + d * 0.0105 * H
    return loft(rings, 7)


def trousers(b: Build, slim: float = 1.0, z_low: float = 0.035) -> list[Skinned]:
    """Trouser legs down to z_low (units of H) and the seat between them."""
    out, J, H = [], b.joints, b.H
    radii = [(z, r * (0.6 + 0.4 * b.width) * slim) for z, r in LEG]
    for _, n in SIDES:
        m = limb(b, "th_" + n, "sh_" + n, radii, 0.525 * H, z_low * H, 18, LEG_AXIS)
        w = limb_weights(m.V, H, J, "th_" + n, "sh_" + n, None, 0.03)
        out.append(skinned(m, share(w, "root", smooth(0.47 * H, 0.53 * H, m.V[:, 2]) * 0.6)))
    crotch = Ring((-0.004 * H, 0, 0.44 * H), (-0.045 * H, 0, 0), (0, 0.07 * H, 0), 0.9)
    flat_belly = Build(b.H, b.width, 0.0, b.shoulder, b.female)
    seat = loft([crotch, *torso_rings(flat_belly, 0.010, 0.455, 0.61)], 24)
    return [*out, skinned(seat, skirt_weights(seat.V, H, 0.35))]


def shoes(b: Build) -> list[Skinned]:
    """Both shoes."""
    out, H = [], b.H
    for s, n in SIDES:
        jx, jy, _ = b.joints[BONE["ft_" + n]]
        rings = [
            Ring(
                (jx + x * H, jy + s * 0.004 * H * (x > 0.03), h * H * 0.5),
                (0, 0, -h * 0.5 * H),
                (0, w * H, 0),
                0.75,
            )
            for x, w, h in SHOE
        ]
        m = loft(rings, 14)
        out.append(skinned(m, rigid(m.V, "ft_" + n)))
    return out
