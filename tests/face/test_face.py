"""What users stand on is as it was: names, flags, keys, plans to the byte, links, endpoints."""

import hashlib
import json

import pytest

import pruning
from tests.face.golden import GOLDEN, PARTS, PLANS, plan, written

AGAIN = "If that is meant, take it anew with `python -m tests.face.golden`, and say it in the changelog."


@pytest.mark.parametrize("name", PARTS)
def test_the_face_is_as_it_was(name):
    now, held = json.loads(written(PARTS[name]())), json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    assert now == held, AGAIN


@pytest.mark.parametrize("name", PLANS)
def test_plans_are_the_same_to_the_byte(name):
    held = (GOLDEN / "plans" / f"{name}.json").read_text(encoding="utf-8")
    assert hashlib.sha256(plan(name).encode()).digest() == hashlib.sha256(held.encode()).digest(), AGAIN


def test_what_methods_are_written_with_is_where_it_was():
    """What docs and users' files import, besides ``pruning`` itself."""
    from pruning import registry, scores
    from pruning.criteria import METHODS, Calibration, Catalog, Looked, SiteScores, Subject, knob
    from pruning.recovery import LOSSES, recovering
    from pruning.types import Plan, Recipe

    assert (knob, SiteScores) == (registry.knob, scores.SiteScores)
    assert (Plan, Recipe, Calibration) == (pruning.Plan, pruning.Recipe, pruning.Calibration)
    assert "magnitude" in METHODS
    assert "task" in LOSSES
    assert all(map(callable, (recovering, pruning.clock.turns, Catalog, Looked, Subject)))
