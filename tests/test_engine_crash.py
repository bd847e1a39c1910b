"""Tests: kill -9 in the middle of a shard, a full disk, and two runs on one work directory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import engine_stages
import pytest
from engine_stages import make_graph

from orveil.pipeline.artifact import Store
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.local import run_local
from orveil.pipeline.runlock import LOCK_FILE, holder, run_lock


def start(work: Path, *pairs: str) -> subprocess.Popen[str]:
    command = [sys.executable, engine_stages.__file__, "local", str(work), *pairs]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def digests(process: subprocess.Popen[str]) -> dict[str, str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    result: dict[str, str] = json.loads(out)
    return result


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return digests(start(tmp_path_factory.mktemp("undisturbed")))


@pytest.mark.parametrize("at", ["main/cam0/0-4", "main/cam1/4-8"])
def test_after_kill_9_only_unfinished_work_is_redone(
    tmp_path: Path, undisturbed: dict[str, str], at: str
) -> None:
    work, log = tmp_path / "work", tmp_path / "log"
    pairs = [f"log={log}", f"die_at={at}", f"marker={tmp_path / 'marker'}"]
    killed = start(work, *pairs)
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    half = list((work / "artifacts" / ".tmp").glob("*/*"))
    assert [path.name for path in half] == ["detections.parquet"]  # the kill did come in the middle
    before = log.read_text().splitlines()
    log.unlink()
    assert digests(start(work, *pairs)) == undisturbed
    after = log.read_text().splitlines()
    finished = [line for line in before if line != "find setup"][:-1]
    redone = set(finished) & set(after[: after.index("join main/cam0")])
    assert redone == set() and f"find {at}" in after
    assert list((work / "artifacts" / ".tmp").iterdir()) == []


def test_killed_from_outside_at_any_point_it_still_comes_to_the_same(
    tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    for delay in (0.35, 0.6, 0.8):
        process = start(tmp_path / "work")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        process.kill()
        process.communicate()
    assert digests(start(tmp_path / "work")) == undisturbed


def test_a_second_run_is_told_who_holds_the_work_directory(tmp_path: Path) -> None:
    work = tmp_path / "work"
    first = start(work, "sleep_s=5")
    try:
        found = None
        for _ in range(400):
            found = holder(work)
            if found is not None or first.poll() is not None:
                break
            time.sleep(0.05)
        assert found is not None and found.pid == first.pid and found.host == socket.gethostname()
        with pytest.raises(OrveilError) as caught:
            run_local(make_graph(), Store(work))
        assert f"process {first.pid} on {socket.gethostname()}" in caught.value.what
        assert found.started in caught.value.what and caught.value.where == str(work)
    finally:
        first.kill()
        first.communicate()
    assert holder(work) is None and (work / LOCK_FILE).exists()
    with run_lock(work):  # the lock of a killed run does not block
        mine = holder(work)
        assert mine is not None and mine.pid == os.getpid()
    assert holder(work) is None


def test_the_lock_is_shared_within_a_process_and_not_kept_by_forked_children(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        with run_lock(tmp_path):
            pass
        assert holder(tmp_path) is not None
        read, write = os.pipe()
        child = os.fork()
        if child == 0:  # outlives the block below, as a data loader's worker would after kill -9
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.close(read)
    try:
        code = "import sys; from pathlib import Path; from orveil.pipeline.runlock import run_lock\n"
        code += "with run_lock(Path(sys.argv[1])): print('free')"
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.strip() == "free", done.stderr
    finally:
        os.close(write)
        os.waitpid(child, 0)


def test_a_lock_file_with_foreign_content_is_survived(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("not json")
    with run_lock(tmp_path):
        assert holder(tmp_path) is not None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount a file system: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_ends_the_run_with_the_remedy_and_keeps_finished_work(
    small_disk: Path, undisturbed: dict[str, str]
) -> None:
    store = Store(small_disk / "work")
    with pytest.raises(OrveilError) as caught:
        run_local(make_graph(), store)
    assert "No space left" in caught.value.what and "node" in caught.value.where
    assert "free some space" in caught.value.remedy
    assert list((store.root / "artifacts" / ".tmp").iterdir()) == []
    kept = set((store.root / "artifacts").glob("*/*/manifest.json"))
    assert kept
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert {name: ref.digest for name, ref in run_local(make_graph(), store).items()} == undisturbed
    assert all(path.exists() for path in kept)
