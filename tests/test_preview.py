"""What the slider shows before anything is decided, held to what the plan then does."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pruning import planning, preview
from pruning.errors import Refused
from pruning.scores import Sketch, cut, pooled
from pruning.spread import gone


@pytest.fixture(scope="module")
def scored(tiny):
    """Scores by kind of unit; ratio and spread are free."""
    made = {}
    for units in ("weight", "width", "nm"):
        recipe = planning.request(tiny, ratio=None if units == "nm" else 0.3, units=units,
                                  pattern="2:4" if units == "nm" else None)
        made[units] = (recipe, planning.scored(tiny, recipe))
    return made


@given(ratio=st.floats(0.05, 0.99), spread=st.sampled_from(["layer", "global"]))
def test_totals_are_those_of_the_plan_to_the_unit(tiny, scored, ratio, spread):
    recipe, scores = scored["weight"]
    recipe = replace(recipe, ratio=ratio, spread=spread)
    decision = planning.resolved(tiny, recipe, scores).steps[-1].decision
    counts = preview.counts(scores, recipe)
    exact = {site.name: gone(decision, site) for site in scores.catalog}
    assert sum(counts.values()) == sum(exact.values())
    if spread == "layer":
        assert counts == exact


@given(ratio=st.floats(0.05, 0.95))
def test_a_layer_is_off_by_no_more_than_the_bin_of_the_cut_holds(tiny, scored, ratio):
    recipe, scores = scored["weight"]
    recipe = replace(recipe, ratio=ratio, spread="global")
    decision = planning.resolved(tiny, recipe, scores).steps[-1].decision
    counts = preview.counts(scores, recipe)
    free = [site for site in scores.catalog if gone(decision, site)]
    place = cut(pooled([scores.sketches[site.name] for site in free]), sum(counts.values()))[0]
    for site in free:
        sketch = scores.sketches[site.name]
        assert abs(counts[site.name] - gone(decision, site)) <= sketch.below(place + 1) - sketch.below(place)


@pytest.mark.parametrize("units", ["width", "nm"])
def test_larger_units_and_patterns_are_exact(tiny, scored, units):
    recipe, scores = scored[units]
    decision = planning.resolved(tiny, recipe, scores).steps[-1].decision
    assert preview.counts(scores, recipe) == {site.name: gone(decision, site) for site in scores.catalog}


def test_totals_count_zeros_apart_from_what_is_gone(tiny, scored):
    recipe, scores = scored["weight"]
    seen = preview.totals(scores, recipe, preview.counts(scores, recipe))
    assert seen.units == pytest.approx(0.3, abs=1e-3)
    assert (seen.params, seen.macs) == (0, 0)
    assert 0 < seen.zeros < 0.3
    recipe, scores = scored["width"]
    seen = preview.totals(scores, recipe, preview.counts(scores, recipe))
    assert seen.zeros == 0
    assert 0 < seen.params < 1


def test_the_table_is_the_counts_at_its_ratios(scored):
    recipe, scores = scored["width"]
    of = preview.table(scores, recipe)
    assert len(of.totals) == len(of.shares) == len(preview.RATIOS) == 20
    at = preview.RATIOS.index(0.5)
    wanted = replace(recipe, ratio=0.5)
    counts = preview.counts(scores, wanted)
    assert of.totals[at] == preview.totals(scores, wanted, counts)
    assert of.shares[at] == tuple(counts[site.name] / site.units for site in scores.catalog)


def test_a_ratio_at_which_nothing_can_go_has_no_row(tiny):
    recipe = planning.request(tiny, ratio=0.5, units="head")
    of = preview.table(planning.scored(tiny, recipe), recipe)
    with pytest.raises(Refused):
        preview.counts(planning.scored(tiny, recipe), replace(recipe, ratio=0.05))
    assert of.totals[1] is None
    assert of.shares[1] is None
    assert of.totals[10] is not None


def test_sketches_are_pooled_and_cut_by_hand():
    one, other = Sketch(10, torch.tensor([2, 0, 3])), Sketch(12, torch.tensor([1, 4]))
    whole = pooled([one, other])
    assert (whole.first, whole.counts.tolist()) == (10, [2, 0, 4, 4])
    assert [whole.below(place) for place in (9, 10, 11, 12, 13, 14, 99)] == [0, 0, 2, 2, 6, 10, 10]
    assert cut(whole, 0) == (10, 0)
    assert cut(whole, 2) == (10, 2)
    assert cut(whole, 3) == (12, 1)
    assert cut(whole, 10) == (13, 4)


def test_quantiles_rise_and_span_the_scores(scored):
    recipe, scores = scored["weight"]
    for site in scores.catalog:
        ranks = preview.quantiles(scores, site)
        assert list(ranks) == sorted(ranks)
    site = max(scores.catalog, key=lambda site: site.units)
    (again,) = scores.stream([site.name])
    middle = preview.quantiles(scores, site)[10]
    assert middle == pytest.approx(float(again.values.median()), rel=1 / 128)


def test_few_units_are_shown_one_by_one(scored):
    recipe, scores = scored["width"]
    site = next(site for site in scores.catalog if site.kind == "head")
    assert preview.quantiles(scores, site) == tuple(sorted(scores.values[site.name].tolist()))
