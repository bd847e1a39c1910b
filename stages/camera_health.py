"""Stage part: which cameras were moved or have a clock that is off, beside the associations as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from orveil.trackers.clock import ClockOffset
from orveil.trackers.moved import Move

__all__ = ["HEALTH_FILE", "CameraHealth", "camera_health", "read_health", "warnings_of", "write_health"]

HEALTH_FILE = "cameras.json"


@dataclass(frozen=True)
class CameraHealth:
    """What was found out about one camera.

    Attributes:
        camera: its name.
        clock_known: whether enough moving people were seen together with other cameras.
        clock_late_s: seconds by which its times are late against the other cameras; 0 where unknown.
        clock_off: whether that is beyond doubt and worth a correction.
        moved_at_s: time on the common clock at which it was moved; None if it was not.
    """

    camera: str
    clock_known: bool
    clock_late_s: float
    clock_off: bool
    moved_at_s: float | None


def camera_health(
    cameras: Sequence[str], clocks: Sequence[ClockOffset], move: Move | None
) -> list[CameraHealth]:
    """One entry per camera, in the order of `cameras`."""
    return [
        CameraHealth(
            camera=name,
            clock_known=clock.known,
            clock_late_s=round(clock.late_s, 3),
            clock_off=clock.off,
            moved_at_s=round(move.at_s, 1) if move is not None and number in move.cameras else None,
        )
        for number, (name, clock) in enumerate(zip(cameras, clocks, strict=True))
    ]


def write_health(health: Sequence[CameraHealth], folder: Path) -> None:
    """Write `cameras.json`."""
    text = json.dumps({"cameras": [asdict(h) for h in health]}, indent=1)
    (folder / HEALTH_FILE).write_text(text + "\n", "utf-8")


def read_health(folder: Path) -> list[CameraHealth]:
    """Read `cameras.json`; nothing where there is none."""
    path = folder / HEALTH_FILE
    if not path.exists():
        return []
    return [CameraHealth(**entry) for entry in json.loads(path.read_text("utf-8"))["cameras"]]


def warnings_of(health: Sequence[CameraHealth], offsets: Mapping[str, float]) -> list[str]:
    """A line for each camera that needs attention, naming it and the remedy.

    Args:
        health: as written by the association stage.
        offsets: clock offset in seconds that each camera has now, by name.
    """
    lines = []
    for h in health:
        if h.clock_off:
            now = offsets.get(h.camera, 0.0)
            lines.append(
                f"camera {h.camera}: its clock is {abs(h.clock_late_s):.2f} s "
                f"{'late' if h.clock_late_s > 0 else 'early'} against the others; "
                f"set its offset_s to {now - h.clock_late_s:.3f} (now {now:.3f})"
            )
    moved = [h for h in health if h.moved_at_s is not None]
    if moved:
        names = " or ".join(h.camera for h in moved)
        lines.append(
            f"camera {names}: moved at {moved[0].moved_at_s:.0f} s; give what was recorded before and after "
            "as two sessions"
        )
    return lines
