"""Tests: the site file: what is refused, with which words, and where relative paths start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from orveil.pipeline import settings
from orveil.pipeline.errors import OrveilError
from orveil.pipeline.settings import DetectParams, FinetuneParams, Params, SiteSettings, load_site

SMALL = 'name = "OR 3"\nvideos = "clips"\n'


def load(tmp_path: Path, text: str) -> SiteSettings:
    path = tmp_path / "site.toml"
    path.write_text(text, "utf-8")
    return load_site(path)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(OrveilError) as caught:
        load(tmp_path, text)
    assert caught.value.where == str(tmp_path / "site.toml")
    return caught.value.what


def test_a_small_site_file_is_enough(tmp_path: Path) -> None:
    site = load(tmp_path, SMALL)
    assert (site.name, site.videos, site.work) == ("OR 3", tmp_path / "clips", tmp_path / "work")
    assert site.detect == DetectParams() and site.rounds == 2 and site.camera == ()
    assert site.detector == "embedded-detector" and site.evaluate.ground_truth is None


def test_relative_paths_start_at_the_files_folder_and_absolute_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sites"
    folder.mkdir()
    (folder / "site.toml").write_text(
        'name = "a"\nwork = "../out"\ndetector = "weights/net.pth"\ndetector_config = "net.py"\n'
        'pose_model = "/models/pose.pth"\n[evaluate]\nground_truth = "truth.json"\n'
        '[[camera]]\nid = "c1"\npath = "one.mp4"\n[[camera]]\nid = "c2"\npath = "/media/two.mp4"\n'
    )
    monkeypatch.chdir(tmp_path)
    site = load_site(Path("sites/site.toml"))
    assert site.work == folder / ".." / "out" and site.evaluate.ground_truth == folder / "truth.json"
    assert [c.path for c in site.camera] == [folder / "one.mp4", Path("/media/two.mp4")]
    assert (site.detector, site.detector_config) == (str(folder / "weights/net.pth"), str(folder / "net.py"))
    assert site.pose_model == "/models/pose.pth"


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ("colour = 1", "unknown key `colour`"),
        ("[detect]\nlongside = 640", "unknown key `detect.longside`"),
        ('[[camera]]\nid = "a"\npath = "a.mp4"\nfps = 5', "unknown key `camera.0.fps`"),
        ("rounds = -1", "`rounds`"),
        ('rounds = "many"', "`rounds`: Input should be a valid integer"),
        ("[detect]\nscore_threshold = 1.5", "`detect.score_threshold`: Input should be less than 1"),
        ('[blur]\ntarget = "nose"', "`blur.target`: Input should be 'face', 'head' or 'body'"),
        ("detect = 3", "`detect`"),
        ('[run]\nexecutor = "threads"', "`run.executor`"),
    ],
)
def test_wrong_keys_types_and_values_are_named(tmp_path: Path, extra: str, what: str) -> None:
    assert what in refusal(tmp_path, SMALL + extra)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    told = refusal(tmp_path, SMALL + "rounds = 99\ncolour = 1\n[track]\nmin_iou = 2")
    assert "`rounds`" in told and "unknown key `colour`" in told and "`track.min_iou`" in told


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('videos = "v"', "`name`: Field required"),
        ('name = ""\nvideos = "v"', "`name`"),
        ('name = "a"', "not both or none"),
        (SMALL + '[[camera]]\nid = "a"\npath = "a.mp4"', "not both or none"),
        (2 * '[[camera]]\nid = "a"\npath = "a.mp4"\n', "`name`"),
        ('name = "a"\n' + 2 * '[[camera]]\nid = "a"\npath = "a.mp4"\n', "the same session and id"),
        ('name = "a"\n[[camera]]\nid = "../a"\npath = "a.mp4"', "`camera.0.id`"),
        ('name = "a"\n[[camera]]\nid = "a"\nsession = "x/y"\npath = "a.mp4"', "`camera.0.session`"),
        ("name = ", "not valid TOML"),
        ('name = "a"\nname = "b"', "not valid TOML"),
    ],
)
def test_incomplete_or_contradictory_files_are_refused(tmp_path: Path, text: str, what: str) -> None:
    assert what in refusal(tmp_path, text)


def test_the_same_camera_in_two_sessions_is_fine(tmp_path: Path) -> None:
    one = '[[camera]]\nid = "a"\npath = "a.mp4"\nsession = '
    site = load(tmp_path, f'name = "a"\n{one}"monday"\n{one}"tuesday"\n')
    assert [c.session for c in site.camera] == ["monday", "tuesday"]


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(OrveilError, match="no such site file"):
        load_site(tmp_path / "none.toml")
    with pytest.raises(OrveilError, match="not valid TOML"):
        load_site(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OrveilError, match="not valid TOML"):
        load_site(tmp_path / "binary.toml")


def models() -> list[type[BaseModel]]:
    found = [getattr(settings, name) for name in settings.__all__]
    return [m for m in found if isinstance(m, type) and issubclass(m, Params) and m is not Params]


@pytest.mark.parametrize("model", models())
def test_every_settings_model_is_frozen_and_refuses_unknown_keys(model: type[BaseModel]) -> None:
    assert model.model_config["frozen"] and model.model_config["extra"] == "forbid"


@hypothesis_settings(deadline=None)
@given(
    st.builds(
        FinetuneParams,
        iterations=st.integers(1, 10**6),
        learning_rate=st.floats(1e-9, 10.0),
        ema_decay=st.floats(0, 1, exclude_max=True),
    )
)
def test_parameters_survive_the_json_of_a_manifest(params: FinetuneParams) -> None:
    assert FinetuneParams.model_validate_json(params.model_dump_json()) == params
    dumped: dict[str, Any] = params.model_dump(mode="json")
    assert FinetuneParams.model_validate(dumped) == params


def test_settings_cannot_be_changed_in_place() -> None:
    params = DetectParams()
    with pytest.raises(ValidationError, match="frozen"):
        params.long_side = 640  # type: ignore[misc]
