"""The contract that every spread is held to because it is registered."""

import pytest
import torch

import pruning
from pruning.cli import flags
from pruning.planning import resolve
from pruning.planning.request import request
from pruning.progress import drained
from pruning.spreads import SPREADS
from pruning.types import Calibration
from ui.setup import request as setup

CASES = [(name, units) for name in SPREADS.ordered() for units in ("weight", "width")]
CLOSE = {"weight": 0.01, "width": 0.1}  # each layer is rounded; of a small network's width, a unit is much


def asked(tiny, name, units, ratio=0.4):
    looks = Calibration(samples=2, source="noise") if SPREADS[name].sees != "weights" else None
    only = ("mid_block*",) if looks else ()  # layers are tried one by one
    return request(tiny, "magnitude", ratio, units=units, spread=name, calibration=looks, only=only)


def resolved(tiny, recipe):
    return drained(resolve.resolving(tiny, recipe, drained(resolve.scoring(tiny, recipe))))


@pytest.mark.parametrize("name", SPREADS.ordered())
def test_a_spread_describes_itself_and_is_known_everywhere(name):
    spread = SPREADS[name]
    assert spread() == spread()
    assert spread.sees in ("weights", "inputs", "gradients")
    assert all((spread.label, spread.explained, spread.__doc__.endswith(".")))
    assert name in [row["value"] for row in setup.spread_options("weight", {})]
    assert name in flags.REQUEST["spread"].said
    assert sum(SPREADS[other].order == spread.order for other in SPREADS) == 1


@pytest.mark.parametrize(("name", "units"), CASES)
def test_what_was_asked_for_goes(tiny, name, units):
    if refusal := SPREADS[name]().refuses(units):
        with pytest.raises(pruning.Refused, match=refusal.message.split(";")[0]):
            asked(tiny, name, units)
        return
    recipe = asked(tiny, name, units)
    plan = resolved(tiny, recipe)
    told = pruning.report(tiny, pruning.apply(tiny, plan), plan).units
    assert told["gone"] / told["total"] == pytest.approx(0.4, abs=CLOSE[units])
    assert resolved(tiny, recipe).to_json() == plan.to_json()


@pytest.mark.parametrize("name", [name for name in SPREADS.ordered() if SPREADS[name].nests])
def test_more_takes_what_less_took(tiny, name):
    less, more = (pruning.apply(tiny, resolved(tiny, asked(tiny, name, "weight", ratio))) for ratio in (0.3, 0.6))
    for one, other in zip(less.unet.parameters(), more.unet.parameters(), strict=True):
        assert not torch.count_nonzero(other[one == 0])


def test_a_spread_that_looks_says_what_its_looks_depend_on(tiny):
    for name in SPREADS.ordered():
        recipe, spread = asked(tiny, name, "weight"), SPREADS[name]()
        assert (spread.looks(recipe) is None) == (spread.sees == "weights")
        if looks := spread.looks(recipe):
            assert looks == spread.looks(asked(tiny, name, "weight", 0.7))
