"""What users stand on is as it was: names, flags, keys, plans to the byte, links, endpoints."""

import hashlib
import json

import pytest

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
