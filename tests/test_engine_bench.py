"""Tests: the benchmark of the engine runs and counts what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def test_the_benchmark_compares_the_same_shards(tmp_path: Path) -> None:
    script = Path(__file__).parent.parent / "scripts" / "bench_engine.py"
    options = ["--turns=1", "--cameras=2", "--frames=6", "--chunk=4", "--frame-ms=0.01", "--limit=1e9"]
    done = subprocess.run(
        [sys.executable, str(script), *options, "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "13 shards in 5 nodes, 1 turns" in done.stdout  # 1 + 2 * (2 * 2 + 2)
    assert re.search(r"wall: engine / plain loop = \d+\.\d+", done.stdout)
    assert list(tmp_path.iterdir()) == []
