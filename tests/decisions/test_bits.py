"""Plans of methods that see data: the masks themselves, in a file beside the plan, refused where they do not fit."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import output, same, state, unet
from safetensors.torch import load_file, save_file

import pruning
from pruning import cache
from pruning.__main__ import main
from pruning.decisions import bits
from pruning.models import planfile
from pruning.network.notes import plan_of
from pruning.types import Calibration, Plan, digest
from pruning.units.catalog import find

SHOWN = Calibration(("a",), 2, source="generated")
NOISE = Calibration(samples=2, source="noise")
SEEING = ("wanda", "fisher", "taylor")
WEIGHTS = {f"{method} by {spread}": {"method": method, "ratio": 0.3, "spread": spread}
           | ({"only": ("mid_block*",)} if spread == "row" else {})
           for method in SEEING for spread in ("layer", "row", "global")}
PATTERNS = {"wanda 2:4": {"method": "wanda", "pattern": "2:4"}, "fisher 1:4": {"method": "fisher", "pattern": "1:4"}}
WIDTHS = {f"{method} width": {"method": method, "ratio": 0.5, "units": "width"} for method in ("fisher", "taylor")}
CASES = WEIGHTS | PATTERNS | WIDTHS
FEW = ("wanda by layer", "wanda by row", "taylor by global", "wanda 2:4")
CONV = "mid_block.resnets.0.conv1"


def asked(pipe, case, **changes):
    return pruning.plan(pipe, **CASES[case] | {"calibration": SHOWN} | changes)


@pytest.fixture(scope="module")
def planned(tiny):
    """The plan of each case, and the pipeline that went through it; made once."""
    made = {}

    def look(case):
        if case not in made:
            plan = asked(tiny, case)
            made[case] = plan, pruning.apply(tiny, plan)
        return made[case]

    return look


@pytest.fixture
def written(planned, tmp_path):
    """The plan of a case on disk, in a folder of its own: plan.json and plan.safetensors."""
    def write(case="wanda by layer"):
        planfile.write(planned(case)[0], tmp_path / "plan.json")
        return tmp_path / "plan.json"

    return write


def refused(words, work, *given):
    """Some work is refused in one sentence, with a remedy."""
    with pytest.raises(pruning.Refused, match=words) as refusal:
        work(*given)
    assert refusal.value.remedy
    assert "\n" not in str(refusal.value)


# What is decided, and what comes of it.


@pytest.mark.parametrize("case", CASES)
def test_masks_of_weights_are_written_down_and_widths_are_lists(planned, case):
    decision = planned(case)[0].steps[0].decision
    assert len(decision.sites) > 5
    assert decision.kind == ("keep" if case in WIDTHS else "bits")
    assert set(decision.tensors) == (set() if case in WIDTHS else set(decision.sites))


@pytest.mark.parametrize("case", WEIGHTS | PATTERNS)
def test_exactly_what_is_written_down_is_zero(tiny, planned, case):
    plan, pruned = planned(case)
    decision = plan.steps[0].decision
    for site in find(tiny.unet, plan.recipe.units):
        dense, sparse = tiny.unet.get_parameter(site.tensor), pruned.unet.get_parameter(site.tensor)
        if site.name not in decision.sites:
            assert sparse is dense
            continue
        keep = bits.unpacked(decision, site, dense.shape)
        assert torch.equal(sparse, dense * keep)
        gone = decision.sites[site.name][1]
        assert gone == int((~keep).sum()) == int((sparse == 0).sum()) - int((dense[keep] == 0).sum())
        assert gone == {"layer": int(site.units * 0.3 + 0.5), "row": len(dense.flatten()) // site.inputs * int(
            site.inputs * 0.3 + 0.5)}.get(plan.recipe.spread, gone) or case in PATTERNS


def test_globally_the_request_is_met_to_the_weight(tiny, planned):
    for method in SEEING:
        plan, pruned = planned(f"{method} by global")
        units = pruning.report(tiny, pruned, plan).units
        assert units["gone"] == int(units["total"] * 0.3 + 0.5) == sum(
            entry[1] for entry in plan.steps[0].decision.sites.values())


@pytest.mark.parametrize(("case", "n"), [("wanda 2:4", 2), ("fisher 1:4", 1)])
def test_every_group_follows_the_pattern(tiny, planned, case, n):
    plan, pruned = planned(case)
    for site in find(tiny.unet, "nm"):
        if site.name in plan.steps[0].decision.sites:
            groups = site.rows(pruned.unet.get_parameter(site.tensor) != 0).unflatten(-1, (-1, 4))
            assert int(groups.sum(-1).max()) == n


@pytest.mark.parametrize("method", SEEING)
def test_the_lowest_scores_go(tiny, planned, method):
    scores = pruning.score(tiny, method, calibration=SHOWN)
    decision = planned(f"{method} by layer")[0].steps[0].decision
    site = scores.catalog.sites[CONV]
    keep = site.rows(bits.unpacked(decision, site, tiny.unet.get_submodule(CONV).weight.shape))
    values = scores.whole(CONV)
    assert float(values[keep].min()) >= float(values[~keep].max())


def test_another_calibration_makes_other_masks(tiny, planned):
    other = asked(tiny, "wanda by layer", calibration=NOISE)
    assert other.steps[0].decision.sites != planned("wanda by layer")[0].steps[0].decision.sites


def test_equal_requests_make_equal_masks(tiny, planned):
    """Also when all that was looked at is forgotten."""
    cache.forget()
    cache.forget(["calibration samples"])
    plan = asked(tiny, "wanda by layer")
    assert plan == planned("wanda by layer")[0]
    assert same(plan.tensors, planned("wanda by layer")[0].tensors)


# On disk.


@pytest.mark.parametrize("case", [*FEW, "taylor width"])
def test_a_plan_comes_back_from_its_files(tiny, planned, written, case):
    plan, pruned = planned(case)
    file = written(case)
    assert file.with_suffix(".safetensors").exists() == (case not in WIDTHS)
    again = planfile.read(file)
    assert again == plan
    assert (again.digest, json.loads(file.read_text())["digest"]) == (plan.digest, plan.digest)
    assert same(again.tensors, plan.tensors)
    assert again.recipe.calibration == SHOWN
    assert same(state(pruning.apply(tiny, again)), state(pruned))


def test_masks_take_a_bit_a_weight(planned, written):
    file = written().with_suffix(".safetensors")
    weights = sum(bits.numel() for bits in planned("wanda by layer")[0].tensors.values()) * 8
    assert file.stat().st_size * 8 < 1.5 * weights


def flipped(tensors, name):
    tensors[name][-1] ^= 1


def swapped(tensors, name):
    """Two masks of one size change places."""
    twin = next(other for other, bits in tensors.items() if other != name and bits.shape == tensors[name].shape)
    tensors[name], tensors[twin] = tensors[twin], tensors[name]


def longer(tensors, name):
    tensors[name] = torch.cat([tensors[name], tensors[name][:1]])


def of_another_type(tensors, name):
    tensors[name] = tensors[name].bfloat16()


def in_rows(tensors, name):
    tensors[name] = tensors[name].view(2, -1)


@pytest.mark.parametrize("spoil", [flipped, swapped, longer, of_another_type, in_rows, dict.pop])
def test_masks_that_were_changed_are_refused_and_nothing_is_applied(tiny, written, spoil):
    """The last layer's, so that all others are in order."""
    file = written()
    tensors, before = load_file(file.with_suffix(".safetensors")), state(tiny)
    last = "0 " + list(json.loads(file.read_text())["steps"][0]["decision"]["sites"])[-1]
    spoil(tensors, last)
    save_file({name: bits.contiguous() for name, bits in tensors.items()}, file.with_suffix(".safetensors"))
    refused("missing" if spoil is dict.pop else "not those it was made with", pruning.apply, tiny, planfile.read(file))
    assert same(before, state(tiny))
    assert plan_of(tiny) is None


def test_masks_that_are_missing_are_refused(tiny, written):
    file, before = written(), state(tiny)
    file.with_suffix(".safetensors").unlink()
    refused(r"masks of this plan are missing.*\.safetensors of a plan beside", pruning.apply, tiny, planfile.read(file))
    assert same(before, state(tiny))


@pytest.mark.parametrize("cut", [0, 5, 200, -1])
def test_masks_that_were_cut_short_are_refused(written, cut):
    file = written().with_suffix(".safetensors")
    file.write_bytes(file.read_bytes()[:cut])
    refused(r"plan\.safetensors has (no safetensors header|\d+ bytes, its header promises)", planfile.read,
            file.with_suffix(".json"))


def test_an_edited_plan_is_refused(written):
    file = written()
    body = json.loads(file.read_text())
    body["steps"][0]["decision"]["sites"][CONV][0] = "0" * 16
    file.write_text(json.dumps(body))
    refused("changed after it was written", planfile.read, file)


def test_a_plan_over_another_forgets_its_masks(tiny, written):
    """The file of masks stays, and is nobody's."""
    file = written()
    plan = pruning.plan(tiny, ratio=0.5)
    planfile.write(plan, file)
    assert planfile.read(file) == plan
    assert same(state(pruning.apply(tiny, planfile.read(file))), state(pruning.apply(tiny, plan)))


@pytest.mark.parametrize("case", FEW)
def test_other_weights_are_refused(other, planned, case):
    before = state(other)
    refused("made on other weights", pruning.apply, other, planned(case)[0])
    assert same(before, state(other))


def test_other_weights_lose_the_same_heads_neurons_and_channels(other, planned):
    plan, pruned = planned("taylor width")
    shapes = {name: tensor.shape for name, tensor in state(pruning.apply(other, plan)).items()}
    assert shapes == {name: tensor.shape for name, tensor in state(pruned).items()}


# Plans of older versions, whose recipes said less.


def aged(plan):
    """The text of a plan as it was written before ``most`` and ``update``."""
    body = json.loads(plan.to_json())
    for step in body["steps"]:
        del step["recipe"]["most"], step["recipe"]["update"]
    return json.dumps(body | {"digest": digest(body["steps"])}, indent=1)


@pytest.mark.parametrize("how", [{"ratio": 0.3}, {"pattern": "2:4"}, {"ratio": 0.5, "units": "width"}])
def test_an_older_plan_is_read(tiny, how, tmp_path):
    plan = pruning.plan(tiny, **how)
    (tmp_path / "plan.json").write_text(aged(plan))
    assert json.loads(aged(plan))["digest"] != plan.digest
    old = planfile.read(tmp_path / "plan.json")
    assert old == plan
    assert (old.recipe.most, old.recipe.update) == (1.0, False)
    assert same(state(pruning.apply(tiny, old)), state(pruning.apply(tiny, plan)))
    assert Plan.from_json(old.to_json()) == plan


def test_an_older_plan_that_was_changed_is_refused(tiny):
    text = aged(pruning.plan(tiny, ratio=0.3)).replace('"ratio": 0.3', '"ratio": 0.4')
    refused("changed after it was written", Plan.from_json, text)


def test_an_older_folder_is_loaded_and_saved_on(tiny, tmp_path):
    plan = pruning.plan(tiny, ratio=0.3)
    folder = pruning.save(pruning.apply(tiny, plan), tmp_path / "old")
    (folder / "plan.json").write_text(aged(plan))
    again = pruning.load(folder)
    assert plan_of(again) == plan
    newer = pruning.save(again, tmp_path / "new")
    written = json.loads((newer / "plan.json").read_text())
    assert set(written.pop("saved")) == {"plan", "weights"}
    assert written == json.loads(plan.to_json())
    assert same(state(pruning.load(newer)), state(again))


# Folders.


@pytest.mark.parametrize("case", [*FEW, "taylor width"])
def test_what_was_saved_is_loaded(planned, case, tmp_path):
    plan, pruned = planned(case)
    folder = pruning.save(pruned, tmp_path / "out")
    assert (folder / "plan.safetensors").exists() == (case not in WIDTHS)
    again = pruning.load(folder)
    assert plan_of(again) == plan
    assert same(state(again), state(pruned))
    assert same(plan_of(again).tensors, plan.tensors)
    assert torch.equal(output(again, "unet"), output(pruned, "unet"))


def test_zeros_are_zero_in_any_type(saved):
    assert pruning.load(saved, dtype=torch.bfloat16).unet.dtype == torch.bfloat16


def test_a_bare_model_has_its_masks_beside_its_weights(tmp_path):
    net = unet()
    pruned = pruning.apply(net, pruning.plan(net, "wanda", 0.5, calibration=NOISE))
    again = pruning.load(pruning.save(pruned, tmp_path / "out"))
    assert type(again) is type(net)
    assert same(state(again), state(pruned))
    assert plan_of(again) == plan_of(pruned)


@pytest.fixture(scope="module")
def saved(planned, tmp_path_factory):
    return pruning.save(planned("wanda by layer")[1], tmp_path_factory.mktemp("bits") / "out")


@pytest.fixture
def folder(saved, tmp_path):
    """A saved pipeline, to be spoiled."""
    return shutil.copytree(saved, tmp_path / "out")


UNET = "unet/diffusion_pytorch_model.safetensors"


def test_a_weight_where_the_mask_says_zero_is_refused(folder):
    tensors = load_file(folder / UNET)
    weight = tensors[f"{CONV}.weight"].view(-1)
    where = int((weight == 0).nonzero()[0])
    weight[where] = 2**-20
    weight[int(weight.abs().argmax())] = 0  # another in its place: the count alone does not tell
    save_file(tensors, folder / UNET)
    refused(f"{CONV} has weights where its plan says zero", pruning.load, folder)


def test_a_folder_without_its_masks_is_refused(folder):
    (folder / "plan.safetensors").unlink()
    refused("masks of this plan are missing", pruning.load, folder)


def test_a_folder_with_the_masks_of_another_plan_is_refused(folder, planned):
    save_file(planned("wanda by global")[0].tensors, folder / "plan.safetensors")
    refused("masks of this plan are", pruning.load, folder)
    (folder / "plan.safetensors").write_bytes(b"")
    refused(r"plan\.safetensors has no safetensors header", pruning.load, folder)


# Steps after each other.


def test_steps_have_masks_of_their_own(tiny, tmp_path):
    few = {"only": ("mid_block*",), "calibration": SHOWN}
    once = pruning.apply(tiny, pruning.plan(tiny, "wanda", 0.3, **few))
    plan = pruning.plan(once, "fisher", 0.6, **few)
    twice = pruning.apply(once, plan)
    assert {name.partition(" ")[0] for name in plan.tensors} == {"0", "1"}
    planfile.write(plan, tmp_path / "plan.json")
    assert same(state(pruning.apply(tiny, planfile.read(tmp_path / "plan.json"))), state(twice))
    again = pruning.load(pruning.save(twice, tmp_path / "out"))
    assert same(state(again), state(twice))
    refused("missing", pruning.apply, tiny, Plan.from_json(plan.to_json(), dict(list(plan.tensors.items())[:-1])))


@pytest.mark.parametrize("order", [1, -1])
def test_masks_before_and_after_width(tiny, order, tmp_path):
    pipe = tiny
    for how in ({"method": "wanda", "pattern": "2:4", "calibration": NOISE}, {"ratio": 0.5, "units": "width"})[::order]:
        pipe = pruning.apply(pipe, pruning.plan(pipe, **how))
    again = pruning.load(pruning.save(pipe, tmp_path / "out"))
    assert same(state(again), state(pipe))
    assert same(state(pruning.apply(tiny, plan_of(again))), state(pipe))
    assert same(state(pruning.apply(again, plan_of(again))), state(pipe))  # steps that are done are not repeated


# Scores.


@pytest.mark.parametrize("method", ["wanda", "taylor"])
def test_scores_are_used_again_without_looking(tiny, planned, method):
    scores, passes = pruning.score(tiny, method, calibration=SHOWN), []
    hook = tiny.unet.register_forward_hook(lambda *seen: passes.append(1))
    half, two, three = (asked(tiny, f"{method} by layer", scores=scores, ratio=ratio) for ratio in (0.5, 0.3, 0.3))
    hook.remove()
    assert not passes
    assert two == three == planned(f"{method} by layer")[0]
    assert same(two.tensors, three.tensors)
    assert half != two


def test_scores_of_another_calibration_are_refused(tiny):
    scores = pruning.score(tiny, "wanda", calibration=SHOWN)
    refused("another method, option, calibration or seed", lambda: asked(
        tiny, "wanda by layer", scores=scores, calibration=replace(SHOWN, seed=1)))


# The command line.

FLAGS = ("--method", "wanda", "--ratio", "0.5", "--calibration-samples", "2", "--calibration-source", "noise")


def test_from_a_plan_to_a_folder(tiny_folder, tmp_path, capsys):
    file, out = tmp_path / "new" / "plan.json", tmp_path / "out"
    assert main(["plan", str(tiny_folder), *FLAGS, "-o", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    plan = planfile.read(file)
    masks = file.with_name(f"plan.{plan.digest[:8]}.safetensors")
    assert {path.name for path in file.parent.iterdir()} == {"plan.json", masks.name}
    assert plan.digest == told["digest"]
    assert plan.recipe.calibration == NOISE
    assert main(["prune", str(tiny_folder), "--plan", str(file), "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["units"] == told["units"]
    assert planfile.inside(out) == plan
    assert same(state(pruning.load(out)), state(pruning.apply(pruning.load(tiny_folder), plan)))
    masks.unlink()
    assert main(["prune", str(tiny_folder), "--plan", str(file), "-o", str(tmp_path / "not"), "--json"]) == 1
    assert "missing" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert not (tmp_path / "not").exists()
