"""Tests: keys, commit, damage, disk errors and leftovers of the artifact store."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orveil.pipeline.artifact import MANIFEST, Artifact, Key, Store
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.kinds import FilesKind
from orveil.pipeline.stage import Shard


class NoteKind(FilesKind):
    """note.json."""

    name = "note"
    files: ClassVar[tuple[str, ...]] = ("note.json",)


def make_key(**changes: object) -> Key:
    parts: dict[str, object] = {
        "stage": "noting", "version": 1, "params": {"a": 1, "b": [1.5, None]}, "inputs": {"x": "1" * 64},
        "shard": Shard("main", "cam0", 0, 10),
    }  # fmt: skip
    return Key(**{**parts, **changes})  # type: ignore[arg-type]


def commit(store: Store, key: Key, text: str = "{}", volatile: tuple[str, ...] = ()) -> Artifact:
    with store.writing(key) as out:
        (out / "note.json").write_text(text)
        (out / "pictures").mkdir()
        (out / "pictures" / "one.txt").write_text("one")
        for name in volatile:
            (out / name).write_text(os.urandom(8).hex())
        return store.commit(key, out, node="n", produces=NoteKind, volatile=volatile, seconds=1.0)


def temporary(store: Store) -> list[Path]:
    return list((store.root / "artifacts" / ".tmp").iterdir())


def test_a_committed_artifact_is_found_with_everything_in_its_manifest(tmp_path: Path) -> None:
    store, key = Store(tmp_path), make_key()
    assert store.find(key) is None
    made = commit(store, key)
    found = store.find(key, verify=True)
    assert found is not None and found.manifest == made.manifest
    assert set(found.manifest.files) == {"note.json", "pictures/one.txt"}
    assert found.manifest.files["note.json"].bytes == 2
    assert (found.manifest.stage, found.manifest.seed, found.manifest.kind) == ("noting", key.seed, "note")
    assert found.path == tmp_path / "artifacts" / "noting" / key.hex[:16]
    assert temporary(store) == []


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "other"}, {"version": 2}, {"params": {"a": 2, "b": [1.5, None]}}, {"params": {"a": 1}},
        {"inputs": {"x": "2" * 64}}, {"inputs": {"y": "1" * 64}}, {"shard": Shard("main", "cam1", 0, 10)},
        {"shard": Shard("main", "cam0", 0, 11)}, {"site_seed": 1},
    ],
)  # fmt: skip
def test_every_part_of_a_key_counts(change: dict[str, object]) -> None:
    assert make_key(**change).hex != make_key().hex
    assert make_key(**change).seed != make_key().seed


@settings(deadline=None)
@given(
    st.dictionaries(st.text(), st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False))
)
def test_the_order_of_parameters_does_not_count(params: dict[str, object]) -> None:
    turned = dict(reversed(list(params.items())))
    one, two = make_key(params=params), make_key(params=turned)
    assert one.hex == two.hex and 0 <= one.seed < 2**31


def test_a_nan_in_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        _ = make_key(params={"a": float("nan")}).hex


def test_volatile_files_do_not_count_in_the_digest_but_are_kept(tmp_path: Path) -> None:
    one = commit(Store(tmp_path / "1"), make_key(), volatile=("timing.txt",))
    two = commit(Store(tmp_path / "2"), make_key(), volatile=("timing.txt",))
    assert (one.path / "timing.txt").read_text() != (two.path / "timing.txt").read_text()
    assert one.digest == two.digest
    other = commit(Store(tmp_path / "3"), make_key(), text="[]", volatile=("timing.txt",))
    assert other.digest != one.digest


def test_what_is_not_a_whole_artifact_is_not_committed(tmp_path: Path) -> None:
    store, key = Store(tmp_path), make_key()
    with pytest.raises(OrveilError, match=r"did not write note\.json"), store.writing(key) as out:
        store.commit(key, out, node="n", produces=NoteKind)
    assert store.find(key) is None and temporary(store) == []


def test_links_and_reserved_names_are_refused(tmp_path: Path) -> None:
    store, key = Store(tmp_path), make_key()
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(OrveilError, match=r"wrote link\.txt"), store.writing(key) as out:
        (out / "note.json").write_text("{}")
        (out / "link.txt").symlink_to(tmp_path / "secret")
        store.commit(key, out, node="n", produces=NoteKind)
    with pytest.raises(OrveilError, match=r"wrote manifest\.json"), store.writing(key) as out:
        (out / "note.json").write_text("{}")
        (out / MANIFEST).write_text("{}")
        store.commit(key, out, node="n", produces=NoteKind)
    assert store.find(key) is None and temporary(store) == []


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "x" * 65])
def test_a_stage_name_cannot_leave_the_work_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(OrveilError, match="folder name"):
        Store(tmp_path).path(make_key(stage=name))


@pytest.mark.parametrize("damage", ["empty", "cut", "not json", "other key", "other format", "gone"])
def test_a_damaged_manifest_counts_as_missing_and_is_replaced(tmp_path: Path, damage: str) -> None:
    store, key = Store(tmp_path), make_key()
    path = commit(store, key).path / MANIFEST
    text = path.read_text()
    document = json.loads(text)
    if damage == "gone":
        path.unlink()
    else:
        path.write_text(
            {
                "empty": "", "cut": text[: len(text) // 2], "not json": "\x00" * 50,
                "other key": json.dumps({**document, "key": "0" * 64}),
                "other format": json.dumps({**document, "format": 99}),
            }[damage]
        )  # fmt: skip
    assert store.find(key) is None
    again = commit(store, key)
    assert store.find(key, verify=True) is not None and again.path == path.parent
    assert temporary(store) == []


def test_damaged_files_are_noticed(tmp_path: Path) -> None:
    store, key = Store(tmp_path), make_key()
    path = commit(store, key, text='{"a": 1}').path / "note.json"
    path.write_text('{"a": 2}')  # the same size: only hashing can tell
    assert store.find(key) is not None and store.find(key, verify=True) is None
    path.write_text('{"a": 22}')
    assert store.find(key) is None
    path.unlink()
    assert store.find(key) is None


def test_the_second_of_two_equal_commits_gives_way(tmp_path: Path) -> None:
    store, key = Store(tmp_path), make_key()
    with store.writing(key) as slow:
        (slow / "note.json").write_text("{}")
        first = commit(store, key)
        second = store.commit(key, slow, node="late", produces=NoteKind)
    assert second.manifest == first.manifest and second.manifest.node == "n"
    assert temporary(store) == []


@pytest.mark.parametrize("call", ["fsync", "rename", "write"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_error_in_a_commit_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    store, key = Store(tmp_path), make_key()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with store.writing(key) as out:
        (out / "note.json").write_text("{}")
        with monkeypatch.context() as patch:
            if call == "fsync":
                patch.setattr(os, "fsync", refuse)
            else:
                patch.setattr(Path, "rename" if call == "rename" else "write_text", refuse)
            with pytest.raises(OrveilError) as caught:
                store.commit(key, out, node="n", produces=NoteKind)
    assert os.strerror(number) in str(caught.value) and caught.value.remedy
    assert store.find(key) is None and temporary(store) == []
    commit(store, key)
    assert store.find(key) is not None


def test_leftovers_of_killed_runs_go_and_useful_scratch_stays(tmp_path: Path) -> None:
    store, done, open_key = Store(tmp_path), make_key(), make_key(version=2)
    commit(store, done)
    (store.scratch(done) / "epoch_1.pth").write_text("x")
    (store.scratch(open_key) / "epoch_1.pth").write_text("x")
    left = tmp_path / "artifacts" / ".tmp" / "0123-abc"
    (left / "deep").mkdir(parents=True)
    (left / "deep" / "half.mp4").write_text("x")
    assert store.clean_leftovers() == 2
    assert temporary(store) == [] and store.find(done) is not None
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == [open_key.short]
    assert Store(tmp_path / "never").clean_leftovers() == 0


def test_artifacts_are_listed_by_last_use(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = [commit(store, make_key(version=v)) for v in (1, 2, 3)]
    for seconds, artifact in enumerate(made):
        os.utime(artifact.path / MANIFEST, (seconds, seconds))
    assert [a.manifest.version for a in store.artifacts("noting")] == [3, 2, 1]
    store.mark_used(made[0])
    assert [a.manifest.version for a in store.artifacts("noting")] == [1, 3, 2]
    assert store.artifacts("nothing") == []


def test_a_work_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    store = Store(tmp_path / "file")
    with pytest.raises(OrveilError, match="file"), store.writing(make_key()):
        raise AssertionError("never here")
