"""Whose face was masked cannot be told: the attacks of scripts/attack_faces.py do no better than chance.

The same attacks on a blur that does not grow with the face tell people apart, so that this test can fail.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
ERROR = 1e-3 / 15
"""Chance of a hit count above the bound in any of the 15 comparisons (5 attacks, 3 styles) is 1 in 1000."""


def load_script():
    spec = importlib.util.spec_from_file_location("attack_faces", ROOT / "scripts" / "attack_faces.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


attack_faces = load_script()
FACES = attack_faces.Faces.load(ROOT / "tests" / "data")
SUSPECTS = len(FACES.crops) // 2
PROBES = SUSPECTS * (FACES.crops.shape[1] - 1)
BOUND = attack_faces.chance_bound(PROBES, SUSPECTS, ERROR)


@pytest.mark.parametrize("style", ["gaussian", "mosaic", "solid"])
def test_attacks_do_no_better_than_chance_on_what_blur_does(style):
    attacker = attack_faces.Attacker(FACES, attack_faces.orveil_mask(style))
    hits = {attack: attacker.hits(attack) for attack in attack_faces.ATTACKS}
    assert attacker.probes == PROBES
    assert max(hits.values()) <= BOUND, hits


def test_the_same_attacks_succeed_on_a_weak_blur():
    attacker = attack_faces.Attacker(FACES, attack_faces.weak_mask(1.0))
    hits = {attack: attacker.hits(attack) for attack in attack_faces.ATTACKS}
    assert min(hits.values()) > 1.5 * BOUND, hits


@pytest.mark.parametrize("style", ["gaussian", "mosaic"])
def test_masks_of_more_averages_are_told_apart(style):
    """What the default protects from: six averages across a head."""
    attacker = attack_faces.Attacker(FACES, attack_faces.orveil_mask(style, cells=6))
    assert attacker.hits("parrot") > BOUND


def test_the_bound_is_the_binomial_one():
    generator = np.random.default_rng(0)
    drawn = generator.binomial(PROBES, 1 / SUSPECTS, 200_000)
    loose = attack_faces.chance_bound(PROBES, SUSPECTS, 0.01)
    assert (drawn > loose).mean() < 0.01 < (drawn > loose - 1).mean()
    assert attack_faces.chance_bound(10, 1, 0.5) == 10


def test_a_mask_that_leaves_nothing_identifies_nobody():
    def black(picture, head):
        return np.zeros_like(picture)

    attacker = attack_faces.Attacker(FACES, black)
    assert [attacker.hits(attack) for attack in attack_faces.ATTACKS] == [0] * len(attack_faces.ATTACKS)
