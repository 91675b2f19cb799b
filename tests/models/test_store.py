"""Saved and loaded again: every bit, in half precision where that loses nothing, and refused where parts do not fit."""

import errno
import json
import shutil

import pytest
import torch
from conftest import PARTS, output, pipeline, same, state
from diffusers import StableDiffusionPipeline
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

import pruning
from pruning.models import saving
from pruning.network import size
from pruning.network.fingerprint import fingerprint
from pruning.network.notes import plan_of
from pruning.types import digest

WIDTH = {"ratio": 0.5, "units": "width"}
CASES = {
    "weights": [{"ratio": 0.5}], "weights, global": [{"ratio": 0.7, "spread": "global"}], "2:4": [{"pattern": "2:4"}],
    "random weights": [{"method": "random", "ratio": 0.5}], "random 1:4": [{"method": "random", "pattern": "1:4"}],
    "width": [WIDTH], "width, global": [{**WIDTH, "spread": "global"}],
    "decoder": [{"ratio": 0.5, "units": "channel", "component": "vae.decoder"}],
    "decoder weights": [{"ratio": 0.5, "component": "vae.decoder"}],
    "text": [{**WIDTH, "component": "text_encoder"}], "text 2:4": [{"pattern": "2:4", "component": "text_encoder"}],
    "width then 2:4": [WIDTH, {"pattern": "2:4"}], "2:4 then width": [{"pattern": "2:4"}, WIDTH],
    "weights then width": [{"ratio": 0.5}, WIDTH], "width twice": [{**WIDTH, "ratio": 0.25}, WIDTH],
    "everywhere": [WIDTH, {"ratio": 0.5, "units": "channel", "component": "vae.decoder"},
                   {**WIDTH, "component": "text_encoder"}],
}


def pruned_by(pipe, requests):
    for request in requests:
        pipe = pruning.apply(pipe, pruning.plan(pipe, **request))
    return pipe


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def tensors(folder, part):
    """name -> (dtype, shape) of the tensors in the files of one component, and their bytes."""
    shapes, size = {}, 0
    for path in sorted((folder / part).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            shapes |= {name: (file.get_slice(name).get_dtype(), tuple(file.get_slice(name).get_shape()))
                       for name in file.keys()}  # noqa: SIM118
        header = int.from_bytes(path.read_bytes()[:8], "little")
        size += path.stat().st_size - 8 - header
    return shapes, size


@pytest.fixture(scope="session")
def narrow(tiny, tmp_path_factory):
    """A folder with a U-Net of half the width."""
    return pruning.save(pruned_by(tiny, [WIDTH]), tmp_path_factory.mktemp("narrow") / "pipeline")


@pytest.fixture(scope="session")
def sparse(tiny, tmp_path_factory):
    """A folder with 2:4 in the U-Net."""
    return pruning.save(pruned_by(tiny, [{"pattern": "2:4"}]), tmp_path_factory.mktemp("sparse") / "pipeline")


@pytest.mark.parametrize("case", CASES)
def test_what_was_saved_is_loaded(tiny, case, tmp_path):
    pruned = pruned_by(tiny, CASES[case])
    before = state(pruned)
    folder = pruning.save(pruned, tmp_path / "out")
    again = pruning.load(folder)
    assert same(before, state(again))
    assert same(before, state(pruned))
    assert plan_of(again) == plan_of(pruned)
    for part in ("unet", "vae.decoder", "text_encoder"):
        assert torch.equal(output(pruned, part), output(again, part))
    assert not any(getattr(again, part).training for part in PARTS)
    assert fingerprint(again.unet) == fingerprint(pruned.unet)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not [name for name in files(folder) if not name.endswith((".safetensors", ".json", ".txt"))]


def test_a_loaded_pipeline_can_be_pruned_on_and_saved_again(narrow, tiny, tmp_path):
    once = pruning.load(narrow)
    twice = pruned_by(once, [{"pattern": "2:4"}])
    again = pruning.load(pruning.save(twice, tmp_path / "out"))
    assert same(state(again), state(pruned_by(tiny, [WIDTH, {"pattern": "2:4"}])))
    assert [step.recipe.units for step in plan_of(again).steps] == ["width", "nm"]


def test_a_dense_pipeline_has_no_plan(tiny, tmp_path):
    folder = pruning.save(tiny, tmp_path / "new" / "deep")
    assert "plan.json" not in files(folder)
    again = pruning.load(str(folder))
    assert plan_of(again) is None
    assert same(state(tiny), state(again))
    assert pruning.plan(again, ratio=0.5).recipe.model == str(folder)


def test_an_empty_folder_may_be_filled(tiny, tmp_path):
    (tmp_path / "out").mkdir()
    assert "model_index.json" in files(pruning.save(tiny, tmp_path / "out"))


def test_half_precision_where_nothing_is_lost(tiny, tmp_path):
    folder = pruning.save(tiny, tmp_path / "half")
    assert {dtype for part in PARTS for dtype, _ in tensors(folder, part)[0].values()} == {"F16"}
    odd = pipeline()
    with torch.no_grad():
        odd.unet.conv_out.bias[0] = 1 / 3
    folder = pruning.save(odd, tmp_path / "whole")
    assert {dtype for part in PARTS for dtype, _ in tensors(folder, part)[0].values()} == {"F32"}
    assert same(state(odd), state(pruning.load(folder)))


@pytest.mark.parametrize(("value", "fits"), [(1.0, True), (65504.0, True), (65536.0, False), (1 / 3, False),
                                             (2.0**-24, True), (2.0**-26, False), (float("inf"), True)])
def test_what_half_precision_holds(value, fits):
    assert size.survives(torch.tensor([value, 0.5])) is fits


@pytest.mark.parametrize(("part", "component"), [("unet", "unet"), ("vae", "vae.decoder"),
                                                 ("text_encoder", "text_encoder")])
@pytest.mark.parametrize("how", [{"ratio": 0.5}, {"ratio": 0.5, "units": "width"}])
def test_bytes_are_those_of_the_files(tiny, part, component, how, tmp_path):
    plan = pruning.plan(tiny, component=component, **how)
    pruned = pruning.apply(tiny, plan)
    report = pruning.report(tiny, pruned, plan)
    shapes, size = tensors(pruning.save(pruned, tmp_path / "pruned"), part)
    size -= sum(2 * torch.Size(shape).numel() for name, (_, shape) in shapes.items()
                if part == "vae" and not name.startswith("decoder."))
    assert report.bytes["dtype"] == "float16"  # what save wrote
    assert report.bytes["pruned"] == size
    assert report.bytes["dense"] >= size
    assert (report.bytes["pruned"] < report.bytes["dense"]) == ("units" in how)


def test_stock_diffusers_reads_zeros_but_not_other_shapes(tiny, narrow, sparse):
    stock = StableDiffusionPipeline.from_pretrained(sparse)
    assert same(state(stock), state(pruned_by(tiny, [{"pattern": "2:4"}])))
    with pytest.raises((ValueError, RuntimeError), match=r"size mismatch|shape"):
        StableDiffusionPipeline.from_pretrained(narrow)
    assert same(state(pruning.load(narrow)), state(pruned_by(tiny, [WIDTH])))


@pytest.mark.parametrize("requests", [[], [WIDTH], [{"pattern": "2:4"}], [{"ratio": 0.5}]])
def test_a_bare_model_is_saved_and_loaded_bare(tiny, requests, tmp_path):
    net = pruned_by(tiny.unet, requests)
    again = pruning.load(pruning.save(net, tmp_path / "out"))
    assert type(again) is type(tiny.unet)
    assert same(state(net), state(again))
    assert plan_of(again) == plan_of(net)
    assert torch.equal(output(net), output(again))


@pytest.mark.parametrize("requests", [[], [{"ratio": 0.5}], [{"units": "head", "ratio": 0.5}]])
def test_a_bare_text_encoder_is_saved_and_loaded_bare(tiny, requests, tmp_path):
    net = pruned_by(tiny.text_encoder, requests)
    again = pruning.load(pruning.save(net, tmp_path / "out"))
    assert type(again) is type(tiny.text_encoder)
    assert same(state(net), state(again))
    assert plan_of(again) == plan_of(net)


def test_a_folder_in_the_home_is_found(tiny_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny_folder.parent))
    assert type(pruning.load(f"~/{tiny_folder.name}")).__name__ == "StableDiffusionPipeline"


def test_what_half_precision_cannot_hold_still_loads_as_one_type(tmp_path):
    full = pipeline().to(torch.bfloat16)
    with torch.no_grad():
        full.unet.conv_in.weight.view(-1)[0] = 2**-30
    stock = StableDiffusionPipeline.from_pretrained(pruning.save(full, tmp_path / "out"))
    assert {tensor.dtype for part in PARTS for tensor in getattr(stock, part).parameters()} == {torch.float32}


@pytest.mark.parametrize("how", [{"ratio": 0.5}, {"ratio": 0.5, "spread": "global"}, {"pattern": "2:4"}, WIDTH])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_while_loading_keeps_to_the_plan(how, dtype, tmp_path):
    """Weights just above a threshold may be rounded below it; they are still those that the plan kept."""
    full = pipeline()
    with torch.no_grad():
        for tensor in full.unet.parameters():
            tensor.mul_(1 / 3)
    pruned = pruned_by(full, [how])
    again = pruning.load(pruning.save(pruned, tmp_path / "out"), dtype=dtype)
    assert {tensor.dtype for part in PARTS for tensor in getattr(again, part).parameters()} == {dtype}
    for name, tensor in pruned.unet.state_dict().items():
        assert torch.equal(again.unet.state_dict()[name], tensor.to(dtype))


def test_as_stored_is_one_type_for_all(narrow, sparse, tiny_folder):
    """What a GPU gets: no type asked for."""
    for folder, dtype in ((narrow, torch.float16), (sparse, torch.float16), (tiny_folder, torch.float32)):
        pipe = saving.read(folder, None)
        assert {tensor.dtype for part in PARTS for tensor in getattr(pipe, part).parameters()} == {dtype}


# What does not fit together.


@pytest.fixture
def spoiled(narrow, sparse, tmp_path):
    """Copies of the two folders, to be changed."""
    return {folder.parent.name.rstrip("0123456789"): shutil.copytree(folder, tmp_path / folder.parent.name)
            for folder in (narrow, sparse)}


WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def refused(folder, words):
    with pytest.raises(pruning.Refused, match=words) as refusal:
        pruning.load(folder)
    assert refusal.value.remedy
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
@pytest.mark.parametrize("which", ["narrow", "sparse"])
def test_cut_files_are_refused(spoiled, which, cut):
    path = spoiled[which] / WEIGHTS
    path.write_bytes(path.read_bytes()[:cut])
    refused(spoiled[which], "diffusion_pytorch_model.safetensors has")


@pytest.mark.parametrize("which", ["narrow", "sparse"])
@pytest.mark.parametrize("text", ["", "{}", "[]", '{"prunescope": 1}'])
def test_a_broken_plan_is_refused(spoiled, which, text):
    (spoiled[which] / "plan.json").write_text(text)
    refused(spoiled[which], "not a Prunescope plan")


def test_an_edited_plan_is_refused(spoiled):
    path = spoiled["narrow"] / "plan.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    refused(spoiled["narrow"], "changed after it was written")


def test_other_shapes_than_the_plan_are_refused(spoiled, tiny, tmp_path):
    dense = pruning.save(tiny, tmp_path / "dense")
    shutil.copy(dense / WEIGHTS, spoiled["narrow"] / WEIGHTS)
    refused(spoiled["narrow"], "does not fit its plan")


def test_weights_where_the_plan_says_zero_are_refused(spoiled, tiny, tmp_path):
    shutil.copy(pruning.save(tiny, tmp_path / "dense") / WEIGHTS, spoiled["sparse"] / WEIGHTS)
    refused(spoiled["sparse"], "weights where its plan says zero")


@pytest.mark.parametrize("how", [{"ratio": 0.5}, {"ratio": 0.5, "method": "random"}, {"pattern": "2:4"}])
def test_a_single_weight_too_many_is_refused(tiny, how, tmp_path):
    folder = pruning.save(pruned_by(tiny, [how]), tmp_path / "out")
    tensors = load_file(folder / WEIGHTS)
    weight = tensors["mid_block.resnets.0.conv1.weight"]
    weight.view(-1)[int((weight.flatten() == 0).nonzero()[0])] = 2**-20
    save_file(tensors, folder / WEIGHTS)
    refused(folder, "mid_block.resnets.0.conv1 has weights where its plan says zero")


def test_a_missing_and_an_unknown_tensor_are_refused(spoiled):
    for change in (lambda t: t.pop("conv_out.bias"), lambda t: t.update(conv_more=torch.zeros(1))):
        tensors = load_file(spoiled["narrow"] / WEIGHTS)
        change(tensors)
        save_file(tensors, spoiled["narrow"] / WEIGHTS)
        refused(spoiled["narrow"], "does not fit its plan|does not load")


def test_a_narrow_model_without_its_plan_is_refused(spoiled):
    (spoiled["narrow"] / "plan.json").unlink()
    refused(spoiled["narrow"], "does not load")


@pytest.mark.parametrize("which", ["narrow", "sparse"])
def test_the_plan_of_another_model_is_refused(spoiled, which, tiny):
    plan = pruning.plan(tiny.vae.decoder, ratio=0.5, units="channel")
    (spoiled[which] / "plan.json").write_text(plan.to_json())
    refused(spoiled[which], "has no component ''")
    plan = pruning.plan(tiny, component="text_encoder", **WIDTH)
    (spoiled["sparse"] / "plan.json").write_text(plan.to_json())
    refused(spoiled["sparse"], "does not fit its plan")


@pytest.mark.parametrize("ending", [".bin", ".ckpt", ".pt"])
def test_pickles_are_not_opened(tiny_folder, ending, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "pickled")
    for path in folder.rglob("*.safetensors"):
        path.with_suffix(ending).write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
        path.unlink()
    refused(folder, "pickle")


def test_one_pickled_part_is_enough(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "pickled")
    (folder / WEIGHTS).rename((folder / WEIGHTS).with_suffix(".bin"))
    refused(folder, "no safetensors that fit together for unet")


def test_what_is_no_model_folder_is_refused(tmp_path):
    refused(tmp_path, "is not a diffusers folder")
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "Wonder"}))
    save_file({"a": torch.zeros(1)}, tmp_path / "diffusion_pytorch_model.safetensors")
    refused(tmp_path, "Wonder")


# Saving.


def test_nothing_is_overwritten(tiny, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, words in (("out", "not empty"), ("file", "file")):
        with pytest.raises(pruning.Refused, match=words):
            pruning.save(tiny, tmp_path / name)
    assert files(tmp_path) == {"out/mine.txt", "file"}


FULL = [OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")]


@pytest.mark.parametrize("error", FULL)
@pytest.mark.parametrize("last", [False, True])
def test_a_full_disk_leaves_nothing_behind(tiny, error, last, tmp_path, monkeypatch):
    write = StableDiffusionPipeline.save_pretrained

    def full(self, folder, **options):
        if last:
            write(self, folder, **options)
        else:
            (folder / "unet").mkdir()
            (folder / "unet" / "part").write_text("half of it")
        raise error

    monkeypatch.setattr(StableDiffusionPipeline, "save_pretrained", full)
    with pytest.raises(pruning.Refused, match="disk is full"):
        pruning.save(tiny, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_other_errors_while_saving_are_shown_and_leave_nothing(tiny, tmp_path, monkeypatch):
    def broken(self, folder, **options):
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(StableDiffusionPipeline, "save_pretrained", broken)
    with pytest.raises(pruning.Refused, match="broken disk"):
        pruning.save(tiny, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_masked_pipeline_is_not_saved(tiny, tmp_path):
    masked = pruning.apply(tiny, pruning.plan(tiny, **WIDTH), masked=True)
    with pytest.raises(pruning.Refused, match="without masked=True"):
        pruning.save(masked, tmp_path / "masked")
    net = pruning.apply(tiny.unet, pruning.plan(tiny.unet, **WIDTH), masked=True)
    for wrapped in (torch.compile(net), torch.nn.DataParallel(net)):  # what is noted is seen through wrappers
        with pytest.raises(pruning.Refused, match="without masked=True"):
            pruning.save(wrapped, tmp_path / "masked")
    assert not (tmp_path / "masked").exists()


def test_a_plan_without_steps_is_none():
    for steps in ((), []):
        with pytest.raises(pruning.Refused, match=r"no steps|cannot be"):
            pruning.Plan(steps)
    empty = {"prunescope": 1, "digest": digest([]), "steps": []}
    with pytest.raises(pruning.Refused, match="not a Prunescope plan: it has no steps"):
        pruning.Plan.from_json(json.dumps(empty))
    with pytest.raises(pruning.Refused, match="not a Prunescope plan"):
        pruning.Plan.from_json("[" * 100_000)
