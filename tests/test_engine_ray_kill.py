"""Tests: a Ray run as the command line starts it, with a cluster of its own, killed and run again."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import engine_stages
import psutil
import pytest
from engine_stages import FindParams, make_graph

from orveil.pipeline.artifact import Store
from orveil.pipeline.local import run_local

pytest.importorskip("ray", reason="Ray is not installed")


def count_lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_killed_driver_leaves_no_processes_and_the_next_run_goes_on(tmp_path: Path) -> None:
    work, log = tmp_path / "work", tmp_path / "log"
    command = [sys.executable, engine_stages.__file__, "ray", str(work), f"log={log}", "sleep_s=0.3"]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while (
        killed.poll() is None and len(log.read_text().splitlines() if log.exists() else []) < 5
    ):  # media, setups, and a shard or two
        time.sleep(0.05)
    assert killed.poll() is None, killed.communicate()[1]
    children = psutil.Process(killed.pid).children(recursive=True)
    family = [child for child in children if not child.name().endswith("Agent")]  # these look up rarely
    killed.kill()
    killed.communicate()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    finished = {path.parent for path in (work / "artifacts").glob("[!.]*/*/manifest.json")}
    assert finished
    times = {path: path.stat().st_mtime_ns for path in finished}

    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in finished} == times  # kept, not made again
    graph = make_graph(find=FindParams(sleep_s=0.3))
    undisturbed = run_local(graph, Store(tmp_path / "local"))
    assert json.loads(done.stdout) == {name: ref.digest for name, ref in undisturbed.items()}
    links = Path(tempfile.gettempdir()).glob("orveil-*/ray")
    assert work / "logs" / "ray" not in [link.readlink() for link in links]
    assert (work / "logs" / "ray").is_dir() and not list((work / "artifacts" / ".tmp").iterdir())
