"""Parts that are added while the engine runs: they are in the page, the shell, the API and the docs at once."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

import pruning
from assets.make import tables
from pruning.cli import flags
from pruning.criteria import METHODS, SiteScores, knob
from pruning.network.notes import plan_of
from pruning.recovery import losses, recovering
from pruning.spreads import SPREADS
from pruning.spreads.layer import Layer
from pruning.types import Calibration
from pruning.units import UNITS
from pruning.units.neuron import Neuron
from ui.setup import request as setup


def test_a_criterion(tiny, monkeypatch):
    @dataclass(frozen=True)
    class Largest:
        """The largest weight first."""

        paper: ClassVar = ""
        units: ClassVar = ("weight",)
        sees: ClassVar = "weights"
        floor: float = knob(0.0, "what the smallest counts", low=0, high=1)

        def __call__(self, subject, catalog, calibration):
            """Score site by site."""
            for site in catalog:
                for start, values in site.scored(subject.net, lambda weight: 1 / (weight.float().abs() + 1)):
                    yield SiteScores(site, values + self.floor, start)

    monkeypatch.setitem(METHODS, "largest", Largest)
    assert "largest" in [method.name for method in pruning.methods()]
    assert "largest" in [row["value"] for row in setup.method_options("weight", {})]
    assert "largest: what the smallest counts" in flags.method_knobs()["floor"].said
    assert "largest" in tables.methods()
    assert pruning.plan(tiny, "largest", 0.5, floor=0.5).recipe.options == (("floor", 0.5),)


def test_a_loss(tiny):
    @losses.loss(needs="teacher")
    def likeness(batch):
        """How far the student is from its teacher."""
        return (batch.answer - batch.teacher(**batch.call.inputs)[0].detach()).square().mean()

    try:
        assert "likeness" in flags.TRAIN["losses"].said
        smaller = pruning.apply(tiny, pruning.plan(tiny, ratio=0.5, units="width"))
        with pytest.raises(pruning.Refused, match=r"compares with a teacher, and there is none\. Give the dense model"):
            next(recovering(smaller, None, pruning.Recovery(losses={"likeness": 1.0}, calibration=Calibration(
                ("a",), 8, source="generated"))))
        tuned = pruning.recover(smaller, tiny, steps=1, batch=2, losses={"likeness": 1.0},
                                calibration=Calibration(("a",), 8, source="generated"))
        assert pruning.report(tiny, tuned, plan_of(tuned)).recovered["steps"] == 1
    finally:
        del losses.LOSSES["likeness"]
        losses.TAUGHT.discard("likeness")
    with pytest.raises(TypeError, match="cannot need 'a miracle'"):
        losses.loss(needs="a miracle")


def test_a_spread(tiny, monkeypatch):
    monkeypatch.setitem(SPREADS, "first", type("First", (Layer,), {
        "order": 9, "label": "First", "explained": "as layer does", "__doc__": "As layer does."}))
    assert "first" in [row["value"] for row in setup.spread_options("weight", {})]
    assert "first" in flags.REQUEST["spread"].said
    plans = [pruning.plan(tiny, ratio=0.5, spread=spread) for spread in ("first", "layer")]
    assert plans[0].decided.decision == plans[1].decided.decision


def test_a_kind_of_unit(tiny, monkeypatch):
    monkeypatch.setitem(UNITS, "cell", type("Cell", (Neuron,), {"order": 9, "label": "Cells", "plural": "cells"}))
    monkeypatch.setattr(METHODS["magnitude"], "units", (*METHODS["magnitude"].units, "cell"))
    assert "cell" in flags.REQUEST["units"].said
    assert "cell" in flags.counted()
    plan = pruning.plan(tiny, ratio=0.5, units="cell")
    report = pruning.report(tiny, pruning.apply(tiny, plan), plan)
    assert report.params["pruned"] < report.params["dense"]
