"""What a simulated site is made of, and what the seed decides about each camera."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from orveil.pipeline.errors import OrveilError
from orveil.sim.lens import Lens, sample_lens
from orveil.sim.or_cameras import LAYOUTS
from orveil.sim.post import Look, room_camera_look
from orveil.sim.staff_motion import MARGIN

DROPS = ("none", "gaps", "black", "frozen")
DOMAINS = ("or", "source")
_OTHER_SIZE = Fraction(2, 3)


@dataclass(frozen=True)
class SiteOptions:
    """Everything that decides what a site looks like; together with the seed it fixes every pixel.

    Args:
        people: members of staff; a patient is added. 0 means that nobody is there at all.
        layout: one of `LAYOUTS`.
        distortion: lens distortion on every camera.
        offsets: clock offset in seconds per camera; missing ones are 0. None lets the seed choose.
        drops: `gaps` leaves pictures out (gaps in pts), `black` and `frozen` show black or the last one.
        audio: ids of the cameras that record sound.
        mixed: every second camera has another size and 1.5 times the rate.
        crf: H.264 quality of all cameras; None gives each its own.
        samples: multisampling of the renderer, 0 for none.
    """

    seed: int = 7
    cameras: int = 4
    people: int = 6
    seconds: float = 20.0
    fps: float = 10.0
    width: int = 960
    height: int = 540
    domain: str = "or"
    layout: str = "wide"
    distortion: bool = False
    offsets: tuple[float, ...] | None = ()
    drops: str = "none"
    audio: tuple[int, ...] = ()
    mixed: bool = False
    crf: int | None = None
    samples: int = 4
    jobs: int = 2

    def __post_init__(self) -> None:
        _check(self.layout in LAYOUTS, f"unknown layout {self.layout!r}", f"use one of {', '.join(LAYOUTS)}")
        _check(self.drops in DROPS, f"unknown drop-out {self.drops!r}", f"use one of {', '.join(DROPS)}")
        _check(self.domain in DOMAINS, f"unknown domain {self.domain!r}", f"use one of {', '.join(DOMAINS)}")
        _check(1 <= self.cameras <= 7, f"{self.cameras} cameras", "ask for 1 to 7")
        _check(0 <= self.people <= 12, f"{self.people} people", "ask for 0 to 12")
        _check(self.seconds > 0 and self.fps > 0, "length and rate must be positive", "ask for more")
        even = self.width % 2 == 0 and self.height % 2 == 0 and min(self.width, self.height) >= 64
        _check(even, f"size {self.width}x{self.height}", "H.264 needs even numbers of at least 64")
        far = [o for o in self.offsets or () if abs(o) > MARGIN - 0.5]
        _check(not far, f"clock offset {far}", f"stay within {MARGIN - 0.5} s")


def _check(ok: bool, what: str, remedy: str) -> None:
    if not ok:
        raise OrveilError(what, where="site options", remedy=remedy)


@dataclass(frozen=True)
class CameraPlan:
    """What the seed and the options decide about one camera, except where it hangs."""

    id: int
    size: tuple[int, int]
    fps: Fraction
    offset: float
    lens: Lens
    look: Look
    crf: int
    sound: bool
    missing: frozenset[int]
    """Slots (multiples of 1 / fps) without a fresh picture."""

    def slots(self, seconds: float) -> int:
        """Number of pictures of an undisturbed recording."""
        return max(1, round(seconds * self.fps))

    def pictures(self, seconds: float, drops: str) -> int:
        """Number of pictures in the file: those missing in `gaps` are not in it."""
        return self.slots(seconds) - (len(self.missing) if drops == "gaps" else 0)


def plan_cameras(options: SiteOptions) -> list[CameraPlan]:
    """The plan of every camera."""
    return [_plan(options, k) for k in range(options.cameras)]


def _plan(o: SiteOptions, k: int) -> CameraPlan:
    rng = np.random.default_rng([o.seed, 21, k])
    look, lens = room_camera_look(rng), sample_lens(rng)
    drawn = round(float(rng.uniform(-0.4, 0.4)), 1) if k else 0.0
    offset = drawn if o.offsets is None else float(o.offsets[k]) if k < len(o.offsets) else 0.0
    fps, size = Fraction(o.fps).limit_denominator(1001), (o.width, o.height)
    if o.mixed and k % 2:
        fps = fps * Fraction(3, 2)
        size = (int(o.width * _OTHER_SIZE) // 2 * 2, int(o.height * _OTHER_SIZE) // 2 * 2)
    missing = frozenset[int]()
    if o.drops != "none" and (k % 2 or o.cameras == 1):
        missing = _drop_outs(rng, max(1, round(o.seconds * fps)), fps)
    return CameraPlan(
        id=k + 1,
        size=size,
        fps=fps,
        offset=offset,
        lens=lens if o.distortion else Lens(),
        look=look,
        crf=o.crf if o.crf is not None else look.crf,
        sound=k + 1 in o.audio,
        missing=missing,
    )


def _drop_outs(rng: np.random.Generator, slots: int, fps: Fraction) -> frozenset[int]:
    """Two or three stretches of 0.2 to 1.2 s; the first and the last picture are always there."""
    out: set[int] = set()
    for _ in range(int(rng.integers(2, 4))):
        length = max(1, round(float(rng.uniform(0.2, 1.2)) * fps))
        first = int(rng.integers(1, max(2, slots - length - 1)))
        out |= set(range(first, min(first + length, slots - 1)))
    return frozenset(out)
