"""A plan becomes a new pipeline: masked ≡ sliced, patterns kept, the dense one untouched, wrong plans refused."""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from conftest import PARTS, output, pipeline, same, state, unet

import pruning
from pruning.decisions.pattern import parse_pattern
from pruning.errors import Later
from pruning.network.fingerprint import fingerprint
from pruning.network.notes import plan_of
from pruning.network.subject import subject
from pruning.surgery.norms import KeptGroupNorm
from pruning.types import Decision
from pruning.units.catalog import find
from pruning.units.site import indices

WIDTHS = [("unet", "head", 0.25), ("unet", "head", 0.75), ("unet", "neuron", 0.1), ("unet", "neuron", 0.9),
          ("unet", "channel", 0.25), ("unet", "channel", 0.75), ("unet", "width", 0.5),
          ("vae.decoder", "channel", 0.25), ("vae.decoder", "channel", 0.5), ("vae.decoder", "width", 0.75),
          ("text_encoder", "head", 0.25), ("text_encoder", "neuron", 0.3), ("text_encoder", "width", 0.75)]
EVERY_KIND = [{"ratio": 0.5}, {"ratio": 0.5, "spread": "global", "method": "random", "seed": 1}, {"pattern": "2:4"},
              {"ratio": 0.5, "units": "width"}, {"ratio": 0.5, "units": "channel", "component": "vae.decoder"},
              {"ratio": 0.5, "units": "head", "component": "text_encoder"},
              {"pattern": "1:4", "component": "text_encoder"}]


def steps(pipe, *requests):
    """The pipelines after one request after another, and the plan of all."""
    pipes, plan = [pipe], None
    for request in requests:
        plan = pruning.plan(pipes[-1], **request)
        pipes.append(pruning.apply(pipes[-1], plan))
    return pipes, plan


@pytest.mark.parametrize("spread", ["layer", "global"])
@pytest.mark.parametrize(("component", "units", "ratio"), WIDTHS)
def test_masked_is_sliced(tiny, component, units, ratio, spread):
    plan = pruning.plan(tiny, "random", ratio, component=component, units=units, spread=spread, seed=2)
    masked, sliced = pruning.apply(tiny, plan, masked=True), pruning.apply(tiny, plan)
    dense, zeroed, smaller = (output(pipe, component) for pipe in (tiny, masked, sliced))
    scale = float(dense.abs().max())
    assert float((zeroed - smaller).abs().max()) <= 1e-5 * scale
    assert float((dense - smaller).abs().max()) > 1e-3 * scale


def test_masked_keeps_shapes_and_sliced_does_not(tiny):
    plan = pruning.plan(tiny, ratio=0.5, units="width")
    masked, sliced = pruning.apply(tiny, plan, masked=True), pruning.apply(tiny, plan)
    shapes = {name: tensor.shape for name, tensor in tiny.unet.state_dict().items()}
    assert {name: tensor.shape for name, tensor in masked.unet.state_dict().items()} == shapes
    assert any(isinstance(module, KeptGroupNorm) for module in masked.unet.modules())
    assert not any(isinstance(module, KeptGroupNorm) for module in sliced.unet.modules())
    block = sliced.unet.mid_block.attentions[0].transformer_blocks[0]
    assert (block.attn1.heads, block.attn1.to_q.out_features, block.attn1.to_out[0].in_features) == (2, 16, 16)
    assert (block.ff.net[0].proj.out_features, block.ff.net[2].in_features) == (128, 64)  # value and gate
    resnet = sliced.unet.mid_block.resnets[0]
    assert (resnet.conv1.out_channels, resnet.norm2.num_channels, resnet.conv2.in_channels) == (16, 16, 16)
    assert (resnet.conv1.in_channels, resnet.conv2.out_channels, resnet.time_emb_proj.out_features) == (32, 32, 16)


def test_the_units_that_stay_are_those_of_the_dense_model(tiny):
    plan = pruning.plan(tiny, ratio=0.5, units="neuron")
    name = "mid_block.attentions.0.transformer_blocks.0.ff"
    kept = torch.tensor(indices(plan.steps[0].decision.sites[f"{name}#neurons"]))
    dense, sliced = (pipe.unet.get_submodule(name) for pipe in (tiny, pruning.apply(tiny, plan)))
    assert torch.equal(sliced.net[2].weight, dense.net[2].weight[:, kept])
    assert torch.equal(sliced.net[0].proj.weight, dense.net[0].proj.weight[torch.cat([kept, kept + 128])])
    assert torch.equal(sliced.net[0].proj.bias, dense.net[0].proj.bias[torch.cat([kept, kept + 128])])


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "4:8"])
@pytest.mark.parametrize("component", ["unet", "vae.decoder", "text_encoder"])
def test_every_group_of_every_layer_follows_the_pattern(tiny, component, pattern):
    n, m = parse_pattern(pattern)
    plan = pruning.plan(tiny, "random", pattern=pattern, component=component)
    pruned = pruning.apply(tiny, plan)
    before, after = (subject(pipe, component).net for pipe in (tiny, pruned))
    touched = plan.steps[0].decision.sites
    assert len(touched) > 5
    for site in find(before, "nm"):
        dense, sparse = before.get_parameter(site.tensor), after.get_parameter(site.tensor)
        if site.name in touched:
            stays = sparse != 0
            assert torch.equal(sparse[stays], dense[stays])
            lost = site.rows((dense != 0) & ~stays).unflatten(-1, (-1, m)).sum(-1)
            left = site.rows(stays).unflatten(-1, (-1, m)).sum(-1)
            assert int(left.max()) == n
            assert int(lost.max()) <= m - n
        else:
            assert sparse is dense


@pytest.mark.parametrize("how", EVERY_KIND)
def test_the_dense_pipeline_stays_as_it_was(tiny, how):
    before, answers = state(tiny), [output(tiny, part) for part in ("unet", "vae.decoder", "text_encoder")]
    versions = [tensor._version for part in PARTS for tensor in getattr(tiny, part).parameters()]
    scheduler, parts = dict(tiny.scheduler.config), dict(tiny.components)
    pruned = pruning.apply(tiny, pruning.plan(tiny, **how))
    output(pruned, how.get("component", "unet"))
    assert same(before, state(tiny))
    assert not same(before, state(pruned))
    assert versions == [tensor._version for part in PARTS for tensor in getattr(tiny, part).parameters()]
    assert all(torch.equal(answer, output(tiny, part))
               for answer, part in zip(answers, ("unet", "vae.decoder", "text_encoder"), strict=True))
    assert (dict(tiny.scheduler.config), plan_of(tiny)) == (scheduler, None)
    assert all(tiny.components[name] is part for name, part in parts.items())


@pytest.mark.parametrize("how", EVERY_KIND)
def test_what_did_not_change_is_shared(tiny, how):
    plan = pruning.plan(tiny, **how)
    pruned = pruning.apply(tiny, plan)
    root = plan.recipe.component.split(".")[0]
    for part in PARTS:
        assert (getattr(pruned, part) is getattr(tiny, part)) == (part != root)
    net = subject(tiny, plan.recipe.component).net
    touched = {member.tensor for site in find(net, plan.recipe.units) if site.name in plan.steps[0].decision.sites
               for member in site.members}
    within = plan.recipe.component.removeprefix(root).lstrip(".")
    for (name, dense), (_, tensor) in zip(getattr(tiny, root).named_parameters(),
                                          getattr(pruned, root).named_parameters(), strict=True):
        inner = name.removeprefix(within + ".") if within else name
        assert (tensor is dense) == (inner not in touched or not name.startswith(within)), name


@pytest.mark.parametrize("how", EVERY_KIND)
def test_equal_requests_make_equal_plans(tiny, how):
    one, two = pruning.plan(tiny, **how), pruning.plan(tiny, **how)
    assert one == two
    assert one.to_json() == two.to_json()
    again = pruning.Plan.from_json(one.to_json())
    assert (again, again.to_json(), again.digest) == (one, one.to_json(), one.digest)
    assert hash(again.recipe) == hash(one.recipe)
    assert same(state(pruning.apply(tiny, one)), state(pruning.apply(tiny, again)))


@pytest.mark.parametrize("how", [{"ratio": 0.5}, {"pattern": "2:4"}, {"ratio": 0.5, "units": "width"}])
def test_another_seed_draws_other_units(tiny, how):
    one, two = (pruning.apply(tiny, pruning.plan(tiny, "random", seed=seed, **how)) for seed in (0, 1))
    assert not same(state(one), state(two))


@pytest.mark.parametrize("how", EVERY_KIND)
def test_a_plan_for_another_architecture_is_refused(tiny, how):
    plan = pruning.plan(tiny, **how)
    stranger = pruning.apply(tiny, pruning.plan(tiny, "random", 0.25, component=how.get("component"), units={
        "text_encoder": "neuron"}.get(how.get("component"), "channel")))
    del stranger.prunescope_notes  # a model of other shapes from somewhere else
    with pytest.raises(pruning.Refused, match="another architecture"):
        pruning.apply(stranger, plan)


@pytest.mark.parametrize("changes", [{"attention_head_dim": 2}, {"norm_num_groups": 4}])
def test_heads_and_norm_groups_are_part_of_the_architecture(changes):
    """All tensors have equal names and shapes, and still the units are others."""
    dense, stranger = unet(), unet(**changes)
    assert {name: p.shape for name, p in dense.named_parameters()} == {
        name: p.shape for name, p in stranger.named_parameters()}
    with pytest.raises(pruning.Refused, match="another architecture"):
        pruning.apply(stranger, pruning.plan(dense, ratio=0.5, units="width"))


@pytest.mark.parametrize("how", EVERY_KIND)
def test_on_other_weights_only_larger_units_go_and_with_a_warning(tiny, other, how, caplog):
    plan = pruning.plan(tiny, **how)
    with caplog.at_level(logging.WARNING, "prunescope"):
        if plan.steps[0].decision.kind == "keep":
            pruned = pruning.apply(other, plan)
            shapes = {name: tensor.shape for name, tensor in state(pruned).items()}
            assert shapes == {name: tensor.shape for name, tensor in state(pruning.apply(tiny, plan)).items()}
            assert "other weights" in caplog.text
        else:
            with pytest.raises(pruning.Refused, match=r"other weights, and a (threshold|pattern) depends on them"):
                pruning.apply(other, plan)


def test_no_warning_on_the_model_that_the_plan_was_made_on(tiny, caplog):
    with caplog.at_level(logging.WARNING, "prunescope"):
        pruning.apply(tiny, pruning.plan(tiny, ratio=0.5, units="width"))
    assert not caplog.records


CHAINS = {
    "width then 2:4": ({"ratio": 0.5, "units": "width"}, {"pattern": "2:4"}),
    "2:4 then width": ({"pattern": "2:4"}, {"ratio": 0.5, "units": "width"}),
    "unet then decoder": ({"ratio": 0.25, "units": "width"}, {"ratio": 0.5, "units": "channel",
                                                              "component": "vae.decoder"}),
    "width twice": ({"ratio": 0.25, "units": "width"}, {"ratio": 0.5, "units": "width"}),
    "weights twice": ({"ratio": 0.3}, {"ratio": 0.6, "spread": "global"}),
    "three": ({"ratio": 0.25, "units": "head"}, {"ratio": 0.3, "component": "text_encoder"}, {"pattern": "1:4"}),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_steps_together_are_steps_one_by_one(tiny, chain):
    pipes, plan = steps(tiny, *CHAINS[chain])
    assert len(plan.steps) == len(CHAINS[chain])
    at_once = pruning.apply(tiny, pruning.Plan.from_json(plan.to_json()))
    assert same(state(at_once), state(pipes[-1]))
    assert plan_of(at_once) == plan_of(pipes[-1]) == plan
    for part in ("unet", "vae.decoder", "text_encoder"):
        assert torch.equal(output(at_once, part), output(pipes[-1], part))
        assert torch.isfinite(output(at_once, part)).all()
    for earlier, later in pairwise(pipes):
        assert not same(state(earlier), state(later))


def test_what_a_pipeline_went_through_is_not_forgotten(tiny):
    """A plan for another component that was made on the dense pipeline follows the steps that are done."""
    narrow = pruning.plan(tiny, ratio=0.25, units="width")
    text = pruning.plan(tiny, ratio=0.5, component="text_encoder")
    both = pruning.apply(pruning.apply(tiny, narrow), text)
    assert plan_of(both).steps == narrow.steps + text.steps
    assert same(state(both), state(pruning.apply(tiny, plan_of(both))))


def test_steps_that_are_done_are_not_repeated(tiny):
    plan = pruning.plan(tiny, ratio=0.5, units="width")
    pruned = pruning.apply(tiny, plan)
    assert same(state(pruning.apply(pruned, plan)), state(pruned))


def test_masked_shows_one_width_step(tiny):
    _, plan = steps(tiny, *CHAINS["width then 2:4"])
    with pytest.raises(pruning.Refused, match="one width step only"):
        pruning.apply(tiny, plan, masked=True)


@pytest.mark.parametrize("how", [{"ratio": 0.5, "units": "width"}, {"ratio": 0.5}, {"pattern": "2:4"}])
def test_a_bare_model_comes_back_bare_and_equal(tiny, how):
    plan = pruning.plan(tiny.unet, **how)
    pruned = pruning.apply(tiny.unet, plan)
    assert type(pruned) is type(tiny.unet)
    assert pruned is not tiny.unet
    assert plan.recipe.component == ""
    assert same(state(pruned), state(pruning.apply(tiny, pruning.plan(tiny, **how)).unet))
    assert plan_of(tiny.unet) is None


def test_a_pipeline_that_load_did_not_make_is_welcome(tiny):
    assert pruning.plan(tiny, ratio=0.5).recipe.model == ""


def test_fingerprints_follow_values_not_storage(tiny):
    net = unet()
    arch, weights = fingerprint(net)
    assert fingerprint(tiny.unet) == (arch, weights)
    assert fingerprint(net.half()) == (arch, weights)  # the weights survive that
    net.float().conv_out.bias.data = net.conv_out.bias.data + 1
    assert fingerprint(net)[0] == arch
    changed = fingerprint(net)[1]
    assert changed != weights
    with torch.no_grad():
        net.conv_out.bias -= 1
    assert fingerprint(net)[1] not in (changed, "")
    assert fingerprint(unet(seed=1))[0] == arch


# Plans that someone changed.


@pytest.fixture(scope="module")
def written(tiny):
    return json.loads(pruning.plan(tiny, ratio=0.5, units="width").to_json())


def set_in(body, value, *path):
    *outer, last = path
    for key in outer:
        body = body[key]
    body[last] = value


SITE = "mid_block.attentions.0.transformer_blocks.0.attn1#heads"


@pytest.mark.parametrize(("path", "value", "words"), [
    (("steps", 0, "recipe", "ratio"), 0.4, "changed after it was written"),
    (("steps", 0, "decision", "sites", SITE), [[0, 4]], "changed after it was written"),
    (("steps", 0, "weights"), "0" * 16, "changed after it was written"),
    (("digest",), "0" * 16, "changed after it was written"),
    (("steps",), [], "it has no steps"),
    (("prunescope",), 2, "version 2"),
    (("steps", 0, "recipe", "colour"), "red", "unknown parts: colour"),
    (("steps", 0, "recipe"), None, "not a Prunescope plan"),
    (("steps", 0, "decision"), {}, "not a Prunescope plan"),
    (("steps",), 5, "not a Prunescope plan")])
def test_a_changed_plan_is_refused(written, path, value, words):
    body = json.loads(json.dumps(written))
    set_in(body, value, *path)
    with pytest.raises(pruning.Refused, match=words):
        pruning.Plan.from_json(json.dumps(body))


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", '{"prunescope": 1}', "not json"])
def test_what_is_no_plan_is_refused(text, written):
    with pytest.raises(pruning.Refused, match="not a Prunescope plan"):
        pruning.Plan.from_json(text)
    with pytest.raises(pruning.Refused, match="not a Prunescope plan"):
        pruning.Plan.from_json(json.dumps(written)[:-100])


CHANNELS, CONV = "mid_block.resnets.0#channels", "mid_block.resnets.0.conv1"


@pytest.mark.parametrize(("how", "sites"), [
    ({"units": "width"}, {SITE: [[0, 5]]}), ({"units": "width"}, {SITE: [[-1, 2]]}), ({"units": "width"}, {SITE: []}),
    ({"units": "width"}, {SITE: [[2, 4], [0, 1]]}), ({"units": "width"}, {SITE: [[0, 2], [1, 3]]}),
    ({"units": "width"}, {SITE: [[0, 0]]}),
    ({"units": "width"}, {SITE: "all"}), ({"units": "width"}, {SITE: [[0, 1.5]]}), ({"units": "width"}, {SITE: None}),
    ({"units": "width"}, {SITE: [[0, 10**12]]}), ({"units": "width"}, {"gone": [[0, 1]]}),
    ({"units": "channel"}, {CHANNELS: [[0, 16]]}), ({"units": "channel"}, {CHANNELS: [[1, 32]]}),
    ({"pattern": "2:4"}, {CONV: "4:2"}), ({"pattern": "2:4"}, {CONV: "2:7"}), ({}, {CONV: [-1, 0]}), ({}, {CONV: [5]}),
    ({}, {CONV: [5, 10**6]}), ({}, {CONV: ["5", "6"]})])
def test_a_plan_of_units_that_are_not_there_is_refused(tiny, how, sites):
    """The digest is made anew, so that only the model can tell."""
    plan = pruning.plan(tiny, **{"ratio": 0.5} | how)
    step = plan.steps[0]
    forged = replace(plan, steps=(replace(step, decision=Decision(step.decision.kind, step.decision.sites | sites)),))
    forged = pruning.Plan.from_json(forged.to_json())
    before = state(tiny)
    with pytest.raises(pruning.Refused, match=r"that the model does not have|its decision is another"):
        pruning.apply(tiny, forged)
    assert same(before, state(tiny))


def test_kinds_of_decisions_that_come_later_are_refused(tiny):
    plan = pruning.plan(tiny, ratio=0.5)
    assert isinstance(plan.steps[0].decision.sites, Mapping)
    for kind in ("layout",):
        with pytest.raises(Later, match=kind):
            pruning.apply(tiny, replace(plan, steps=(replace(plan.steps[0], decision=Decision(kind, {})),)))


@pytest.mark.parametrize("kind", ["forget", "", None, 3, [], {"keep": 1}, "recovered"])
def test_kinds_of_decisions_that_there_are_not_are_refused(tiny, kind):
    step = pruning.plan(tiny, ratio=0.5).steps[0]
    with pytest.raises(pruning.Refused, match=r"kind of decision is called .*There are bits, keep, pattern, threshold"):
        pruning.apply(tiny, pruning.Plan((replace(step, decision=Decision(kind, step.decision.sites)),)))


def test_two_pipelines_of_one_seed_are_one(tiny):
    """The fixture itself: what other tests call equal is not equal by sharing."""
    assert same(state(tiny), state(pipeline()))
