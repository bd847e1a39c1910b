"""Engine: thread counts of numerical libraries. Sums of floats depend on them, so a stage fixes its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["limit_threads"]

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
"""PyTorch's threads wait for each other after every layer. Where another program needs a core, those
that wait awake take the time it would need to finish, and training becomes many times as slow."""
SETTERS = (
    "scipy_openblas_set_num_threads64_",  # in numpy's wheels
    "scipy_openblas_set_num_threads",  # in scipy's
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)
_openblas: dict[str, Callable[[int], None]] = {}
"""Path of a loaded OpenBLAS -> its function that sets the number of threads."""
_looked_at = 0
"""Number of loaded modules when libraries were last looked for."""


def limit_threads(threads: int) -> None:
    """Give torch, OpenCV and every OpenBLAS `threads` threads, whether they are loaded yet or not.

    Never imports a library: a stage that does without torch must not pay for it.
    """
    for variable in VARIABLES:  # read by a library when it is loaded, and by child processes
        os.environ[variable] = str(threads)
    for variable, value in WAITING.items():
        os.environ.setdefault(variable, value)
    torch, cv2 = sys.modules.get("torch"), sys.modules.get("cv2")
    if torch is not None:
        torch.set_num_threads(threads)
    if cv2 is not None:
        cv2.setNumThreads(threads)
    global _looked_at
    if len(sys.modules) != _looked_at:  # libraries come with modules; looking takes milliseconds
        _find_openblas()
        _looked_at = len(sys.modules)
    for set_threads in _openblas.values():
        set_threads(threads)


def _find_openblas() -> None:
    """Add newly loaded OpenBLAS libraries; numpy, scipy and OpenCV bring one each, with threads of its own.

    Linux only: elsewhere the environment variables must do.
    """
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/maps").read_text("utf-8", "replace").splitlines()
        paths = {line.split(maxsplit=5)[-1] for line in lines if "openblas" in line}
        for path in sorted(paths - _openblas.keys()):
            library = ctypes.CDLL(path)
            names = [name for name in SETTERS if hasattr(library, name)]
            if names:
                function = getattr(library, names[0])
                function.argtypes, function.restype = [ctypes.c_int], None
                _openblas[path] = function
