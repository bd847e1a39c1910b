"""Resident memory while a long recording is blurred: a clip is looped to the length asked for, then blurred.

    python scripts/bench_memory.py CLIP --bundle BUNDLE --minutes 60

Prints the resident memory of the command at one minute, at its highest after that, and at the end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av

COMMAND = "import sys; from orveil.stages.cli import main; sys.argv[0] = 'orveil'; main()"


def looped(clip: Path, target: Path, seconds: float) -> Path:
    """The packets of a clip over and over, until the file is as long as asked for."""
    with av.open(str(target), "w") as output:
        shift, stream, long = 0, None, False
        while not long:
            with av.open(str(clip)) as source:
                given = source.streams.video[0]
                if stream is None:
                    stream = output.add_stream_from_template(given)
                    stream.time_base = given.time_base
                end = 0
                for packet in source.demux(given):
                    if packet.dts is None or packet.pts is None:
                        continue
                    end = max(end, packet.pts + (packet.duration or 1))
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    output.mux(packet)
                shift += end
                long = shift * given.time_base >= seconds
    return target


def resident_mb(process: int) -> float:
    """Resident memory of a process in megabytes, 0 when it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS:")), 0.0)


def watched(arguments: list[str]) -> tuple[int, list[tuple[float, float]]]:
    """Run the command line; its exit status, and (seconds, megabytes) once a second."""
    seen, begin = [], time.monotonic()
    with subprocess.Popen([sys.executable, "-c", COMMAND, *arguments]) as process:
        while process.poll() is None:
            time.sleep(1.0)
            seen.append((time.monotonic() - begin, resident_mb(process.pid)))
    return process.returncode, [sample for sample in seen if sample[1] > 0]


def main() -> None:
    """Loop, blur, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--preset", default="veryfast")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as folder:
        source = looped(given.clip, Path(folder) / "long.mkv", given.minutes * 60)
        status, seen = watched(["blur", str(source), "--bundle", str(given.bundle), "--out", f"{folder}/out",
                                "--every", str(given.every), "--preset", given.preset, "-q"])  # fmt: skip
    early = next((size for at, size in seen if at >= 60.0), seen[-1][1])
    late = max((size for at, size in seen if at >= 60.0), default=early)
    print(f"exit status {status}; {given.minutes:g} min of video in {seen[-1][0] / 60:.1f} min")
    print(f"resident: {early:.0f} MB at one minute, at most {late:.0f} MB after it (+{late - early:.0f} MB), "
          f"{seen[-1][1]:.0f} MB at the end")  # fmt: skip


if __name__ == "__main__":
    main()
