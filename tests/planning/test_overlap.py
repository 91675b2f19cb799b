"""What two methods both want gone: counted by hand on a small network, and on a real one against their own plans."""

from functools import reduce
from operator import add

import pytest
import torch
from torch import nn

import pruning
from pruning.criteria.wanda import Wanda
from pruning.decisions import bits
from pruning.network.subject import subject
from pruning.observe.inputs import Norms
from pruning.planning import request, resolve
from pruning.planning.overlap import Overlap, overlapping, removed
from pruning.progress import drained
from pruning.scores.scores import collecting
from pruning.spreads.deciding import decide
from pruning.types import Calibration, Recipe
from pruning.units.catalog import catalog
from pruning.units.site import indices

NOISE = Calibration(samples=2, source="noise")


def compared(one, other):
    """The overlap of two (scores, recipe)."""
    return drained(overlapping(*one, *other))


# By hand.


def test_shares_by_hand():
    """Of 10, the one takes 4, the other 5, both 3: 3 of 6. By chance both would take 4 * 5 / 10 = 2: 2 of 7."""
    overlap = Overlap(10, 4, 5, 3)
    assert overlap.agreement == 3 / 6
    assert overlap.chance == 2 / 7


def test_the_ends():
    assert Overlap(10, 5, 5, 5).agreement == 1
    assert Overlap(10, 5, 5, 0).agreement == 0
    assert Overlap(10, 10, 10, 10).chance == 1
    assert (Overlap(10, 4, 0, 0).agreement, Overlap(10, 4, 0, 0).chance) == (0, 0)
    assert (Overlap(10, 0, 0, 0).agreement, Overlap(10, 0, 0, 0).chance) == (None, None)


def test_layers_add_up():
    assert Overlap(10, 4, 5, 3) + Overlap(20, 1, 2, 0) == Overlap(30, 5, 7, 3)
    assert reduce(add, [Overlap(3, 1, 1, 1)] * 4) == Overlap(12, 4, 4, 4)


@pytest.mark.parametrize(("units", "share"), [(10_000, 0.5), (10_000, 0.1)])
def test_chance_is_what_random_choices_come_to(units, share):
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.rand(units, generator=draw) < share for _ in range(2))
    overlap = Overlap(units, int(one.sum()), int(other.sum()), int((one & other).sum()))
    assert overlap.agreement == pytest.approx(overlap.chance, abs=0.02)
    assert overlap.chance == pytest.approx(share / (2 - share), abs=0.02)


@pytest.fixture
def small(monkeypatch):
    """Two layers of known weights, and inputs of known size: what magnitude and Wanda say of them."""
    net = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0], [8.0, 7.0, 6.0, 5.0]]))
        net[1].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))

    def input_norms(looked_at, calibration, buckets):
        yield from ()
        return Norms({"0": torch.tensor([[10.0, 1.0, 1.0, 1.0]]), "1": torch.tensor([[1.0, 1.0]])})

    monkeypatch.setattr("pruning.criteria.wanda.input_norms", input_norms)
    looked_at = subject(net)
    found = catalog(net, "weight", looked_at.example)
    return {"magnitude": pruning.score(net, "magnitude"),
            "wanda": drained(collecting(looked_at, found, Wanda(buckets=1), NOISE))}


def test_two_methods_by_hand(small):
    """Wanda holds the first column for ten times as large: its 1 stays, and the 5 goes in its place."""
    recipe = Recipe(ratio=0.5, protect=())
    found = compared((small["magnitude"], recipe), (small["wanda"], recipe))
    assert found == {"0": Overlap(8, 4, 4, 3), "1": Overlap(4, 2, 2, 2)}
    assert (found["0"].agreement, found["1"].agreement) == (3 / 5, 1)
    assert found["0"].chance == 2 / 6
    assert reduce(add, found.values()) == Overlap(12, 6, 6, 5)


def test_masks_by_hand(small):
    """Magnitude takes 1, 2, 3, 4; Wanda 2, 3, 4, 5."""
    for name, first in (("magnitude", [[1, 1, 1, 1], [0, 0, 0, 0]]), ("wanda", [[0, 1, 1, 1], [0, 0, 0, 1]])):
        found = removed(small[name], decide(small[name], Recipe(ratio=0.5, protect=())))
        assert {site.name: mask.int().tolist() for site, mask in found} == {"0": first, "1": [[1, 1], [0, 0]]}


@pytest.mark.parametrize(("how", "expected"), [
    ({"spread": "row"}, {"0": Overlap(8, 4, 4, 3), "1": Overlap(4, 2, 2, 2)}),  # 1 2 | 5 6, and 2 3 | 5 6
    ({"spread": "global"}, {"0": Overlap(8, 3, 3, 2), "1": Overlap(4, 3, 3, 3)}),  # 1 2 3, and 2 3 4
    ({"only": ("1",)}, {"0": Overlap(8, 0, 0, 0), "1": Overlap(4, 2, 2, 2)})])
def test_other_requests_by_hand(small, how, expected):
    recipe = Recipe(ratio=0.5, **{"protect": ()} | how)
    assert compared((small["magnitude"], recipe), (small["wanda"], recipe)) == expected


def test_other_ratios_nest(small):
    """The one takes two of eight, the other four, and those two are among them."""
    one, other = (Recipe(ratio=ratio, protect=()) for ratio in (0.25, 0.5))
    found = compared((small["magnitude"], one), (small["magnitude"], other))
    assert found == {"0": Overlap(8, 2, 4, 2), "1": Overlap(4, 1, 2, 1)}


def test_nothing_goes_of_a_layer(small):
    recipe = Recipe(ratio=0.0, protect=())
    found = compared((small["magnitude"], recipe), (small["wanda"], recipe))
    assert found == {"0": Overlap(8, 0, 0, 0), "1": Overlap(4, 0, 0, 0)}
    assert reduce(add, found.values()).agreement is None


# On a real network.

WAYS = [{"ratio": 0.3}, {"ratio": 0.3, "spread": "global"}, {"pattern": "2:4"}, {"ratio": 0.5, "units": "width"},
        {"ratio": 0.5, "units": "head", "spread": "global"}]
ONLY = {"only": ("mid_block*", "up_blocks.0*")}


@pytest.fixture(scope="module")
def taken(tiny):
    """A request and its scores."""
    made = {}

    def take(method, seed=0, **how):
        recipe = request.request(tiny, method, calibration=NOISE, seed=seed, **ONLY | how)
        key = method, seed, recipe.units
        if key not in made:
            made[key] = drained(resolve.scoring(tiny, recipe))
        return made[key], recipe

    return take


@pytest.mark.parametrize("how", WAYS)
def test_a_method_agrees_with_itself(taken, how):
    found = compared(taken("magnitude", **how), taken("magnitude", **how))
    touched = [overlap for overlap in found.values() if overlap.one]
    assert len(touched) > 1
    assert all(overlap.agreement == 1 and overlap.one == overlap.other == overlap.both for overlap in touched)
    assert all(overlap.chance < 1 for overlap in touched)


@pytest.mark.parametrize("how", WAYS)
def test_order_does_not_matter(taken, how):
    ahead = compared(taken("magnitude", **how), taken("random", **how))
    back = compared(taken("random", **how), taken("magnitude", **how))
    assert ahead == {name: Overlap(o.units, o.other, o.one, o.both) for name, o in back.items()}
    assert list(ahead) == list(back)


def taken_out(plan, site, shape):
    """What goes of a site, by its plan."""
    decision = plan.steps[0].decision
    if site.name not in decision.sites:
        return torch.zeros(shape, dtype=torch.bool)
    if decision.kind == "bits":
        return ~bits.unpacked(decision, site, shape)
    stays = torch.tensor(indices(decision.sites[site.name]))
    return torch.ones(site.units, dtype=torch.bool).index_fill_(0, stays, False)


@pytest.mark.parametrize("how", WAYS)
def test_it_is_the_overlap_of_the_plans(tiny, taken, how):
    one, other = ("magnitude" if "units" in how else "wanda"), "activation"
    found = compared(taken(one, **how), taken(other, **how))
    plans = [pruning.plan(tiny, method, calibration=NOISE, **ONLY | how) for method in (one, other)]
    for site in taken(other, **how)[0].catalog:
        shape = torch.Size([site.units]) if "units" in how else tiny.unet.get_parameter(site.tensor).shape
        mine, theirs = (taken_out(plan, site, shape) for plan in plans)
        assert found[site.name] == Overlap(site.units, int(mine.sum()), int(theirs.sum()), int((mine & theirs).sum()))


def test_random_choices_agree_by_chance(taken):
    found = compared(taken("random", ratio=0.3), taken("random", seed=1, ratio=0.3))
    whole = reduce(add, (overlap for overlap in found.values() if overlap.one))
    assert whole.agreement == pytest.approx(whole.chance, abs=0.005)
    assert whole.chance == pytest.approx(0.3 / 1.7, abs=0.005)


def test_weights_alone_and_in_groups_compare(taken):
    """Both are masks of the same layers: half of each, with a pattern and without."""
    found = compared(taken("magnitude", pattern="2:4"), taken("magnitude", ratio=0.5))
    whole = reduce(add, (overlap for overlap in found.values() if overlap.one))
    assert whole.one == whole.other
    assert whole.chance < whole.agreement < 1


def test_progress(taken):
    told = list(overlapping(*taken("magnitude", ratio=0.3), *taken("random", ratio=0.3)))
    sites = len(taken("magnitude", ratio=0.3)[0].catalog.sites)
    assert [(event.done, event.of) for event in told] == [(i + 1, sites) for i in range(sites)]


def test_what_removes_nothing_is_refused(taken):
    few = {"units": "head", "only": ("mid_block*",)}
    with pytest.raises(pruning.Refused, match="less than one"):
        compared(taken("magnitude", ratio=0.5, **few), taken("random", ratio=0.1, **few))
