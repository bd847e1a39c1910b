"""Trackers: all cameras of a site on one floor, and which of them can be told to be there.

The cameras are joined one after the other (a beam search over the best poses of every pair), so that a
place counts only if all pairs agree with it. Whether the agreement of a camera is more than chance is asked
of its mirror image: left and right exchanged, it sees as many people who stand and move as much, but fits
nowhere. Two people who stand still fit their mirror image as well: then nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from orveil.trackers.ground_align import Meetings, agreement, best_poses, evidence_at, meetings
from orveil.trackers.ground_camera import Pose, Poses
from orveil.trackers.ground_sight import Sight

__all__ = ["Joiner", "Placement"]

BEAM = 8
"""Partial placements kept."""
ORIGIN = Pose(np.zeros(2), 0.0)


@dataclass(frozen=True)
class Placement:
    """Cameras placed so far: poses and what they see on the common floor; their evidence when searched."""

    poses: dict[int, Pose]
    seen: dict[int, Sight]
    evidence: float

    def without(self, camera: int) -> Placement:
        """The others."""
        poses = {c: p for c, p in self.poses.items() if c != camera}
        return Placement(poses, {c: s for c, s in self.seen.items() if c != camera}, self.evidence)


class Joiner:
    """What cameras see, each on its own floor, and the meetings of every pair (a < b)."""

    def __init__(self, sights: dict[int, Sight]) -> None:
        self.sights = dict(sights)
        self.met: dict[tuple[int, int], Meetings] = {}
        for a, b in combinations(sorted(self.sights), 2):
            met = meetings(self.sights[a].tick, self.sights[b].tick)
            if len(met.row_a):
                self.met[a, b] = met

    def pair(self, a: int, b: int) -> Meetings | None:
        """Meetings of a with b, in this order; None if they never see anybody at one time."""
        if (a, b) in self.met:
            return self.met[a, b]
        return _swapped(self.met[b, a]) if (b, a) in self.met else None

    def partners(self, camera: int, placed: dict[int, Sight]) -> tuple[list[Sight], list[Meetings]]:
        """What the other placed cameras see, and their meetings with this one."""
        both = [(s, self.pair(o, camera)) for o, s in placed.items() if o != camera]
        return [s for s, m in both if m is not None], [m for _, m in both if m is not None]

    def evidence(self, camera: int, pose: Pose, placed: dict[int, Sight]) -> float:
        """Agreement of a camera at a pose with those placed."""
        there = self.sights[camera].on(pose)
        known, met = self.partners(camera, placed)
        return float(sum(agreement(s, there, m)[0] for s, m in zip(known, met, strict=True)))

    def search(self) -> Placement | None:
        """The placement of all cameras that explains most."""
        found = {
            (a, b): best_poses([self.sights[a]], self.sights[b], [met]) for (a, b), met in self.met.items()
        }
        beam = [
            Placement({a: ORIGIN, b: pose}, {a: self.sights[a], b: self.sights[b].on(pose)}, evidence)
            for (a, b), options in found.items()
            for evidence, pose in options
        ]
        while beam:
            beam = sorted(beam, key=lambda p: -p.evidence)[:BEAM]
            longer = [n for partial in beam for n in self._extended(partial, found)]
            if not longer:
                return beam[0]
            beam = longer
        return None

    def _extended(
        self, partial: Placement, found: dict[tuple[int, int], list[tuple[float, Pose]]]
    ) -> list[Placement]:
        """The best way to add each camera that has not been placed."""
        out = []
        for camera in self.sights.keys() - partial.poses.keys():
            options = []
            for other, base in partial.poses.items():
                for _, pose in found.get((other, camera), []):
                    options.append(pose.after(base))
                for _, pose in found.get((camera, other), []):
                    options.append(ORIGIN.seen_from(pose).after(base))
            if not options:
                continue
            known, met = self.partners(camera, partial.seen)
            scored = evidence_at(known, self.sights[camera], met, Poses.of(options))
            for k in np.argsort(-scored, kind="stable")[:2]:
                there = self.sights[camera].on(options[k])
                out.append(
                    Placement(
                        {**partial.poses, camera: options[k]},
                        {**partial.seen, camera: there},
                        partial.evidence + float(scored[k]),
                    )
                )
        return out

    def moved(self, placed: Placement, camera: int, pose: Pose) -> Placement:
        """The same with one camera at another pose."""
        seen = {**placed.seen, camera: self.sights[camera].on(pose)}
        return Placement({**placed.poses, camera: pose}, seen, placed.evidence)

    def margin(self, camera: int, placed: Placement) -> tuple[float, Pose]:
        """How much better a camera agrees with the others than its mirror image does where that fits best,
        and the pose of the mirror image there."""
        known, met = self.partners(camera, placed.seen)
        if not known:
            return -np.inf, ORIGIN
        real = self.evidence(camera, placed.poses[camera], placed.seen)
        chance, pose = best_poses(known, self.sights[camera].mirrored(), met)[0]
        return real - chance, pose


def _swapped(met: Meetings) -> Meetings:
    frames, a, b = met.shape
    return Meetings(met.row_b, met.row_a, met.frame, met.slot_b, met.slot_a, (frames, b, a), met.log_crowd)
