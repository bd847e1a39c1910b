"""Part of scripts/bench_blur.py: whole commands side by side on one clip, seconds and memory; a long run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from bench_blur_data import deface_environment

from orveil.pipeline.decode import Pictures

CRF, PRESET = 20, "veryfast"


@dataclass
class Runs:
    """Seconds, peak resident memory (MB) and CPU seconds of each run of a command."""

    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def floor(source: Path, target: Path) -> None:
    """Decode and encode, nothing else: what no tool can be faster than."""
    with Pictures(source) as pictures, av.open(str(target), "w") as output:
        options = {"crf": str(CRF), "preset": PRESET, "threads": "2"}
        stream = output.add_stream(
            "libx264", rate=pictures.stream.average_rate or Fraction(30), options=options
        )
        known = pictures.stream
        stream.width, stream.height, stream.pix_fmt = known.width, known.height, known.pix_fmt
        for picture in pictures:
            if picture.frame is not None:
                picture.frame.pict_type = 0
                output.mux(stream.encode(picture.frame))
        output.mux(stream.encode(None))


def commands(clip: Path, bundle: Path, work: Path, every: Sequence[int]) -> dict[str, list[str]]:
    """What is compared: name -> command."""
    out = work / "out"
    out.mkdir(exist_ok=True)
    orveil = [
        sys.executable, "-c", "from orveil.stages.cli import main; main()", "blur", str(clip), "-q",
        "--bundle", str(bundle), "--out", str(out), "--preset", PRESET, "--crf", str(CRF),
    ]  # fmt: skip
    ffmpeg = {"codec": "libx264", "ffmpeg_params": ["-preset", PRESET, "-crf", str(CRF)]}
    deface = [str(deface_environment(work) / "deface"), str(clip), "-o", str(out / "deface.mp4"),
              "--ffmpeg-config", json.dumps(ffmpeg)]  # fmt: skip
    script = str(Path(__file__).with_name("bench_blur.py"))
    return {
        "decode + encode": [sys.executable, script, "--floor", str(clip), str(out / "floor.mp4")],
        **{f"orveil --every {k}": [*orveil, "--every", str(k)] for k in every},
        "deface": deface,
        "deface --scale 640x360": [*deface, "--scale", "640x360"],
    }


LAUNCHER = """
import json, os, subprocess, sys, time
os.sched_setaffinity(0, json.loads(sys.argv[1]))
begin = time.perf_counter()
process = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
seconds = time.perf_counter() - begin
print(json.dumps([seconds, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime]))
sys.exit(os.waitstatus_to_exitcode(status) and 1)
"""
"""A process inherits the peak memory of the one that starts it: it has to be a small one."""


def measure(words: Sequence[str], cores: Sequence[int]) -> tuple[float, float, float]:
    """Wall seconds, peak resident MB (of the largest of its processes) and CPU seconds of a command."""
    launcher = [sys.executable, "-I", "-c", LAUNCHER, json.dumps(list(cores))]
    done = subprocess.run([*launcher, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\nfailed:\n{done.stderr[-2000:]}")
    seconds, megabytes, cpu = json.loads(done.stdout)
    return seconds, megabytes, cpu


def side_by_side(jobs: dict[str, list[str]], turns: int) -> dict[str, Runs]:
    """Run all commands in turns, so that what else the machine does falls on all of them."""
    runs = {name: Runs() for name in jobs}
    for turn in range(turns):
        for name in sorted(jobs, reverse=bool(turn % 2), key=list(jobs).index):
            seconds, megabytes, cpu = measure(jobs[name], (0, 1))
            runs[name].cpu.append(cpu)
            runs[name].seconds.append(seconds)
            runs[name].megabytes.append(megabytes)
            print(f"  turn {turn + 1}: {name}: {seconds:.1f} s", flush=True)
    return runs


def table(runs: dict[str, Runs], frames: int, fps: float) -> str:
    """Frames per second, ratios to deface's two ways, real-time factor, peak memory; medians of the turns."""
    median = {name: statistics.median(run.seconds) for name, run in runs.items()}
    lines = ["| command | frames/s | times deface | times deface --scale | real-time factor | peak MB | "
             "frames per CPU second |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, run in runs.items():
        ratios = [median[other] / median[name] for other in ("deface", "deface --scale 640x360")]
        lines.append(
            f"| {name} | {frames / median[name]:.1f} | {ratios[0]:.1f} | {ratios[1]:.1f} | "
            f"{median[name] * fps / frames:.2f} | {max(run.megabytes):.0f} | "
            f"{frames / statistics.median(run.cpu):.1f} |"
        )
    return "\n".join(lines)


def resident_mb(pid: int) -> float:
    """Resident memory of a process now, 0 where it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def long_run(words: Sequence[str], minute: float) -> dict[str, float]:
    """Run a command and watch its memory: see `growth`."""
    begin = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    samples: list[tuple[float, float]] = []
    while process.poll() is None:
        samples.append((time.perf_counter() - begin, resident_mb(process.pid)))
        time.sleep(1.0)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed")
    return growth(samples, minute)


def growth(samples: Sequence[tuple[float, float]], minute: float) -> dict[str, float]:
    """Of (seconds, MB): MB after `minute` seconds, the most from then on, and how much more that is."""
    later = [mb for seconds, mb in samples if seconds >= minute] or [samples[-1][1]]
    return {"seconds": samples[-1][0], "at_minute_mb": later[0], "most_mb": max(later),
            "growth_mb": max(later) - later[0]}  # fmt: skip
