"""Real rounds on sites made to mislead: the detector that is accepted is not worse than the one at the start.

Everything here is what `orveil adapt` does in a round: candidates, tracks, associations, labels, poses,
training, and the guard; only short. The truth is the simulator's, and nothing but these tests sees it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training extras are not installed")
mm = pytest.importorskip("orveil.stages.mm", reason="OpenMMLab is not installed")

import hard_sites as sites  # noqa: E402

from orveil.pipeline.types import PERSON, POSITIVE  # noqa: E402
from orveil.stages.models import resolve  # noqa: E402
from orveil.stages.weights import read_info, write_weights_dir  # noqa: E402

NOISE = 0.02
"""Average precision on these few pictures moves by so much with any training."""


def spoiled(folder: Path) -> Path:
    """The embedded detector with a classifier that calls most things a person."""
    found = resolve("embedded-detector")
    config, state = mm.load_config(found.config), mm.read_weights(found.weights)
    generator = torch.Generator().manual_seed(0)
    for name, value in state.items():
        if "rtm_cls" in name and name.endswith("weight"):
            value.add_(torch.randn(value.shape, generator=generator) * value.std() * SPOILT)
        if "rtm_cls" in name and name.endswith("bias"):
            value.add_(LOUDER)
    folder.mkdir(parents=True)
    write_weights_dir(folder, config, state, {"source": "spoiled", "long_side": 320})
    return folder


SPOILT, LOUDER = 3.0, 3.0


def accepted(rounds: sites.Round) -> float:
    """Quality of the detector that the guard passed on."""
    info = read_info(rounds.accepted.path)
    after = info.sha256 == read_info(rounds.trained.path).sha256
    assert info.sha256 == read_info((rounds.trained if after else rounds.start).path).sha256
    return sites.quality(rounds.after if after else rounds.before)


def test_where_nobody_appears_nothing_is_learned(tmp_path: Path) -> None:
    rooms = {camera: sites.empty_room(camera) for camera in sites.CAMERAS}
    rounds = sites.run_round(tmp_path, sites.write(tmp_path / "videos", rooms))
    assert len(rounds.before) > 0, "there are candidates that could have been believed"
    assert not (rounds.labels.state == POSITIVE).any()
    assert read_info(rounds.accepted.path).sha256 == read_info(rounds.start.path).sha256
    assert "no person" in read_info(rounds.trained.path).training["skipped"]


def test_a_mannequin_in_every_picture_does_no_harm(tmp_path: Path) -> None:
    rooms = {camera: sites.with_mannequin(camera) for camera in sites.CAMERAS}
    rounds = sites.run_round(tmp_path, sites.write(tmp_path / "videos", rooms))
    assert read_info(rounds.trained.path).training["iterations"] > 0
    assert accepted(rounds) >= sites.quality(rounds.before) - NOISE


def test_first_candidates_that_are_mostly_false_do_no_harm(tmp_path: Path) -> None:
    rooms = {camera: sites.recording(camera) for camera in sites.CAMERAS}
    videos = sites.write(tmp_path / "videos", rooms)
    rounds = sites.run_round(tmp_path, videos, detector=str(spoiled(tmp_path / "spoiled")))
    persons = rounds.before.select(rounds.before.label == PERSON)
    assert sites.share_right(persons.select(persons.score >= 0.5)) < 0.5
    assert accepted(rounds) >= sites.quality(rounds.before) - NOISE


def test_a_training_that_destroys_the_detector_is_rolled_back(tmp_path: Path) -> None:
    rooms = {camera: sites.recording(camera) for camera in sites.CAMERAS}
    rounds = sites.run_round(
        tmp_path, sites.write(tmp_path / "videos", rooms), finetune={**sites.FINETUNE, "learning_rate": 0.015}
    )
    assert sites.quality(rounds.after) < sites.quality(rounds.before) - 2 * NOISE
    assert rounds.verdict["kept"] == "before"
    assert read_info(rounds.accepted.path).sha256 == read_info(rounds.start.path).sha256
    assert json.loads((rounds.accepted.path / "weights.json").read_text())["training"]["stopped"]
