"""The contract that every kind of unit is held to because it is registered."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from conftest import output

import pruning
from pruning.cli import flags
from pruning.decisions import DECISIONS
from pruning.network.size import total
from pruning.network.subject import module_at, subject
from pruning.units import UNITS
from pruning.units.catalog import catalog
from pruning.units.site import Site
from pruning.units.unit import FAMILIES, Unit
from ui.setup import request as setup


@pytest.mark.parametrize("units", UNITS.ordered())
def test_a_kind_describes_itself(units):
    kind = UNITS[units]
    assert kind.decisions
    assert set(kind.decisions) <= set(DECISIONS)
    assert kind.family in FAMILIES
    assert all((kind.plural, kind.named, kind.label, kind.explained.endswith("."), kind.__doc__.endswith(".")))
    assert sum(UNITS[other].order == kind.order for other in UNITS) == 1


@pytest.mark.parametrize("units", UNITS.ordered())
def test_a_kind_is_known_everywhere(units):
    assert units in setup.EXPLAINED
    assert units in setup.INNER or units in FAMILIES
    assert units in flags.REQUEST["units"].said
    assert any(units in method.units for method in pruning.methods())


@pytest.mark.parametrize("units", UNITS.ordered())
def test_what_goes_is_gone(tiny, tmp_path, units):
    """What the catalog says is what the network loses, cut out or as zeros; and the same after saving and loading."""
    how = {"pattern": "2:4"} if units == "nm" else {"ratio": 0.5, "units": units}
    plan = pruning.plan(tiny, **how)
    looked_at = subject(tiny)
    sites = catalog(looked_at.net, units, looked_at.example)
    smaller = pruning.apply(tiny, plan)
    told = pruning.report(tiny, smaller, plan)
    assert told.units["gone"] > 0
    kept = {layer.name: layer.units - layer.gone for layer in told.layers}
    if UNITS[units].single:
        assert told.params["dense"] - told.params["nonzero"] >= told.units["gone"]
        assert total(smaller.unet) == total(tiny.unet)
    else:
        assert (total(smaller.unet), told.macs["pruned"]) == sites.count(kept)
        masked = pruning.apply(tiny, plan, masked=True)
        assert torch.allclose(output(masked, "unet"), output(smaller, "unet"), atol=1e-5)
    again = pruning.load(pruning.save(smaller, tmp_path / "smaller"))
    assert torch.equal(output(again, "unet"), output(smaller, "unet"))
    assert total(module_at(again, "unet")) == total(smaller.unet)


@dataclass(frozen=True)
class Stage(Unit):
    """Stages of a network."""

    order: ClassVar = 9
    plural: ClassVar = "stages"
    named: ClassVar = "stages"
    label: ClassVar = "Stages"
    explained: ClassVar = "Stages go."

    def looked(self, net):
        """Every stage, without saying what it owns."""
        return ((name, Site(f"{name}#stage", "stage", 1, ())) for name, _ in net.named_children())


@pytest.mark.parametrize("ends", [(), ("forget",), ("threshold",), ("keep", "threshold")])
def test_a_kind_that_nothing_carries_out_is_refused_when_it_registers(ends):
    with pytest.raises(TypeError, match="cannot carry out what it says"):
        UNITS.add("stage")(type("Stage", (Stage,), {"decisions": ends}))
    assert "stage" not in UNITS


def test_sites_that_own_nothing_are_refused(tiny, monkeypatch):
    monkeypatch.setitem(UNITS, "stage", type("Stage", (Stage,), {"decisions": ("keep",)}))
    with pytest.raises(TypeError, match="owns no part of any tensor"):
        list(UNITS["stage"]().sites(tiny.unet))
