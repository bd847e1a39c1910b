"""Tests: the engine's thread counts reach libraries that are loaded already."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, os, sys
import numpy
from orveil.pipeline import threads
threads.limit_threads(3)
early = "torch" in sys.modules or "cv2" in sys.modules
import cv2
seen = [cv2.getNumThreads()]
for count in (1, 2):
    threads.limit_threads(count)
    seen.append(cv2.getNumThreads())
import ctypes
def blas_threads(path, setter):
    get = getattr(ctypes.CDLL(path), setter.__name__.replace("set_num", "get_num"))
    return get()
blas = [blas_threads(p, f) for p, f in threads._openblas.items() if "numpy" in p]
print(json.dumps({"early": early, "cv2": seen, "blas": blas, "omp": os.environ["OMP_NUM_THREADS"]}))
"""


def test_loaded_libraries_get_the_number_of_threads_and_none_is_loaded_for_it() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True
    )
    seen = json.loads(done.stdout)
    assert not seen["early"] and seen["omp"] == "2"
    assert seen["cv2"][1:] == [1, 2]
    # numpy of some platforms has another BLAS; where it is OpenBLAS, it obeys (as far as there are cores).
    assert all(count == min(2, os.cpu_count() or 1) for count in seen["blas"])
    if sys.platform == "linux" and sys.maxsize > 2**32:
        assert len(seen["blas"]) == 1


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_told_otherwise(given: str | None, expected: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    code = "import os\nfrom orveil.pipeline.threads import limit_threads\nlimit_threads(1)\n"
    code += "print(os.environ['OMP_WAIT_POLICY'])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected]
