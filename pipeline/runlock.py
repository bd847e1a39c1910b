"""Engine: one run per work directory. A lock of the operating system, so a killed run leaves none behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from orveil.pipeline.errors import OrveilError, explain_os_error

__all__ = ["Holder", "holder", "run_lock"]

LOCK_FILE = ".lock"
_held: dict[Path, tuple[int, int]] = {}
"""Lock file -> (descriptor, depth) of this process."""
_guard = threading.RLock()


@dataclass(frozen=True)
class Holder:
    """Who holds a work directory."""

    pid: int
    host: str
    started: str


@contextlib.contextmanager
def run_lock(work: Path) -> Iterator[None]:
    """Hold the work directory; nested uses in one process share the lock.

    `flock` belongs to the open file: the system drops it with the process, also after kill -9.

    Raises:
        OrveilError: another run holds it; names its process, host and start.
    """
    path = work.absolute() / LOCK_FILE
    with _guard:
        if path in _held:
            handle, depth = _held[path]
            _held[path] = (handle, depth + 1)
        else:
            _held[path] = (_take(path), 1)
    try:
        yield
    finally:
        with _guard:
            handle, depth = _held[path]
            if depth > 1:
                _held[path] = (handle, depth - 1)
            else:
                del _held[path]
                os.ftruncate(handle, 0)
                os.close(handle)


def holder(work: Path) -> Holder | None:
    """Who is running on this work directory right now, or None. Takes no lock for longer than a look."""
    path = work.absolute() / LOCK_FILE
    if path in _held:
        return _read(path)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(path)
    finally:
        os.close(handle)
    return None


def _take(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise explain_os_error(error, str(path)) from error
    try:
        _lock(handle)
        me = Holder(os.getpid(), socket.gethostname(), datetime.now().astimezone().isoformat(" ", "seconds"))
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(asdict(me)).encode(), 0)
    except BlockingIOError as error:
        os.close(handle)
        other = _read(path)
        raise OrveilError(
            f"another run (process {other.pid} on {other.host}, started {other.started}) uses this work "
            "directory",
            where=str(path.parent),
            remedy="wait for it, stop it, or choose another `work` folder in the site file",
        ) from error
    except OSError as error:
        os.close(handle)
        raise explain_os_error(error, str(path)) from error
    return handle


def _lock(handle: int) -> None:
    """Take the lock at once; `holder` holds it for an instant when it looks, so ask a few times."""
    for attempt in range(5):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if attempt == 4:
                raise
            time.sleep(0.05)


def _read(path: Path) -> Holder:
    try:
        return Holder(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):  # it is just being written, or by another version
        return Holder(0, "an unknown host", "just now")


def _forget_in_child() -> None:
    """A forked child shares the open file and would keep the lock alive after its parent was killed."""
    for handle, _ in _held.values():
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)
