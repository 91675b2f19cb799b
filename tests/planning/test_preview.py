"""What the slider shows before anything is decided, held to what the plan then does."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.decisions.kind import gone
from pruning.errors import Refused
from pruning.planning import preview, request, resolve
from pruning.progress import drained


@pytest.fixture(scope="module")
def scored(tiny):
    """Scores by kind of unit; ratio and spread are free."""
    made = {}
    for units in ("weight", "width", "nm"):
        recipe = request.request(tiny, ratio=None if units == "nm" else 0.3, units=units,
                                  pattern="2:4" if units == "nm" else None)
        made[units] = (recipe, drained(resolve.scoring(tiny, recipe)))
    return made


@given(ratio=st.floats(0.05, 0.99), spread=st.sampled_from(["layer", "global"]))
def test_totals_are_those_of_the_plan_to_the_unit(tiny, scored, ratio, spread):
    recipe, scores = scored["weight"]
    recipe = replace(recipe, ratio=ratio, spread=spread)
    decision = drained(resolve.resolving(tiny, recipe, scores)).steps[-1].decision
    counts = preview.counts(scores, recipe)
    exact = {site.name: gone(decision, site) for site in scores.catalog}
    assert sum(counts.values()) == sum(exact.values())
    if spread == "layer":
        assert counts == exact


@given(ratio=st.floats(0.05, 0.95), spread=st.sampled_from(["global", "isomorphic"]))
def test_a_layer_is_off_by_no_more_than_is_said(tiny, scored, ratio, spread):
    recipe, scores = scored["weight"]
    recipe = replace(recipe, ratio=ratio, spread=spread)
    decision = drained(resolve.resolving(tiny, recipe, scores)).steps[-1].decision
    counts = preview.counts(scores, recipe)
    assert sum(counts.values()) == sum(gone(decision, site) for site in scores.catalog)
    worst = max(abs(counts[site.name] - gone(decision, site)) / site.units for site in scores.catalog)
    assert worst <= preview.unsure(scores, recipe)


def test_what_is_exact_is_not_unsure(scored):
    for units, spread in (("weight", "layer"), ("weight", "row"), ("width", "global"), ("nm", "layer")):
        recipe, scores = scored[units]
        assert preview.unsure(scores, replace(recipe, spread=spread)) == 0


@pytest.mark.parametrize("units", ["width", "nm"])
def test_larger_units_and_patterns_are_exact(tiny, scored, units):
    recipe, scores = scored[units]
    decision = drained(resolve.resolving(tiny, recipe, scores)).steps[-1].decision
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
    recipe = request.request(tiny, ratio=0.5, units="head")
    of = preview.table(drained(resolve.scoring(tiny, recipe)), recipe)
    with pytest.raises(Refused):
        preview.counts(drained(resolve.scoring(tiny, recipe)), replace(recipe, ratio=0.05))
    assert of.totals[1] is None
    assert of.shares[1] is None
    assert of.totals[10] is not None


def test_quantiles_rise_and_span_the_scores(scored):
    recipe, scores = scored["weight"]
    for site in scores.catalog:
        ranks = preview.quantiles(scores, site)
        assert list(ranks) == sorted(ranks)
    site = max(scores.catalog, key=lambda site: site.units)
    middle = preview.quantiles(scores, site)[10]
    assert middle == pytest.approx(float(scores.whole(site.name).median()), rel=1 / 128)


def test_few_units_are_shown_one_by_one(scored):
    recipe, scores = scored["width"]
    site = next(site for site in scores.catalog if site.kind == "head")
    assert preview.quantiles(scores, site) == tuple(sorted(scores.values[site.name].tolist()))
