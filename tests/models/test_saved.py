"""What ``save`` writes, ``load`` reads; what it could not read is not written; what changed meanwhile is refused."""

import json
import shutil

import pytest
import torch
from conftest import WORDS, ddpm, pipeline, same, state
from diffusers import StableDiffusionImg2ImgPipeline, UNet2DModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import T5Config, T5EncoderModel

import pruning
from pruning.models import configs
from pruning.models.sources import outline
from pruning.network import memory
from pruning.network.notes import plan_of
from pruning.types import digest

FILE = "diffusion_pytorch_model.safetensors"
MASKED, WIDE = {"ratio": 0.5}, {"ratio": 0.5, "units": "channel"}


def net(seed=0, **changes):
    torch.manual_seed(seed)
    settings = {"sample_size": 8, "block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1,
                "down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D")}
    return UNet2DModel(**settings | changes).eval()


@pytest.fixture(scope="module")
def dense():
    return net()


@pytest.fixture(params=[MASKED, WIDE], ids=["masked", "wide"])
def smaller(dense, request):
    """A bare model, pruned."""
    return pruning.apply(dense, pruning.plan(dense, **request.param))


def refused(work, *words):
    with pytest.raises(pruning.Refused) as refusal:
        work()
    assert refusal.value.remedy
    for word in words:
        assert word in str(refusal.value)


# What was saved.


def flip(weight):
    weight.view(torch.int16 if weight.dtype == torch.float16 else torch.int32).view(-1)[-1] ^= 1


@pytest.mark.parametrize("spoil", [flip, torch.zero_, lambda weight: weight.fill_(torch.nan)])
def test_other_weights_than_were_saved(smaller, tmp_path, spoil):
    folder = pruning.save(smaller, tmp_path / "out")
    assert same(state(pruning.load(folder)), state(smaller))
    tensors = load_file(folder / FILE)
    spoil(tensors["conv_out.weight"])  # protected: no plan says anything of it
    save_file(tensors, folder / FILE)
    refused(lambda: pruning.load(folder), "other weights than were saved with its plan")


def test_the_plan_of_a_sibling(dense, tmp_path):
    one, two = (pruning.save(pruning.apply(dense, pruning.plan(dense, method="random", seed=seed, **WIDE)),
                             tmp_path / str(seed)) for seed in (1, 2))
    shutil.copy(one / "plan.json", two / "plan.json")
    refused(lambda: pruning.load(two), "other weights than were saved")


def test_a_folder_of_before_still_loads(smaller, tmp_path):
    folder = pruning.save(smaller, tmp_path / "out")
    body = json.loads((folder / "plan.json").read_text())
    del body["saved"]
    (folder / "plan.json").write_text(json.dumps(body))
    assert same(state(pruning.load(folder)), state(smaller))
    assert plan_of(pruning.load(folder)) == plan_of(smaller)


def sign_again(folder, change, keep_saved=True):
    body = json.loads((folder / "plan.json").read_text())
    change(body["steps"][0])
    body["digest"] = digest(body["steps"])
    if not keep_saved:
        del body["saved"]
    (folder / "plan.json").write_text(json.dumps(body))


def three_of_four(step):
    step["recipe"] |= {"pattern": "3:4", "ratio": 0.25}
    step["decision"]["sites"] = dict.fromkeys(step["decision"]["sites"], "3:4")


@pytest.mark.parametrize("keep_saved", [True, False])
@pytest.mark.parametrize(("how", "change"), [
    ({"pattern": "2:4"}, three_of_four),
    ({"pattern": "2:4"}, lambda step: step["decision"].update(
        sites=dict.fromkeys(step["decision"]["sites"], "3:4"))),
    (MASKED, lambda step: step["recipe"].update(ratio=float("nan"))),
    (MASKED, lambda step: step["decision"].update(sites={})), (WIDE, lambda step: step["decision"].update(sites={})),
    (MASKED, lambda step: step["decision"].update(kind="keep")),
])
def test_nonsense_that_was_signed_again(dense, tmp_path, how, change, keep_saved):
    folder = pruning.save(pruning.apply(dense, pruning.plan(dense, **how)), tmp_path / "out")
    sign_again(folder, change, keep_saved)
    refused(lambda: pruning.load(folder))


# What could not be loaded again.


def test_own_training(dense, tmp_path):
    smaller = pruning.apply(dense, pruning.plan(dense, **MASKED))
    with torch.no_grad():
        for parameter in smaller.parameters():
            parameter.add_(0.01)
    refused(lambda: pruning.save(smaller, tmp_path / "out"), "has weights where its plan says zero", "pruning.recover")
    assert not (tmp_path / "out").exists()


def test_layers_of_other_sizes_than_the_config_says(dense, tmp_path):
    changed = net()
    changed.conv_norm_out, changed.conv_out = nn.GroupNorm(4, 8), nn.Conv2d(8, 5, 3, padding=1)
    refused(lambda: pruning.save(changed, tmp_path / "out"), "could not be loaded again", "conv_out.weight is of")
    changed = net()
    changed.more = nn.Linear(2, 2)
    refused(lambda: pruning.save(changed, tmp_path / "out"), "more.weight is unknown to its config")
    changed = net()
    changed.conv_out.bias = None
    refused(lambda: pruning.save(changed, tmp_path / "out"), "conv_out.bias is missing")


def test_a_class_of_another_origin(tmp_path):
    class Own(UNet2DModel):
        pass

    own = Own.from_config(net().config)
    refused(lambda: pruning.save(own, tmp_path / "out"), "which is not part of diffusers or transformers")


def test_one_tensor_in_two_layers(tmp_path):
    tied = net()
    tied.up_blocks[0].resnets[0].conv2.weight = tied.down_blocks[1].resnets[0].conv2.weight
    try:
        folder = pruning.save(tied, tmp_path / "out")
    except pruning.Refused as error:
        assert "share memory" in str(error)  # noqa: PT017
    else:
        assert same(state(pruning.load(folder)), state(tied))


@pytest.mark.parametrize("how", [MASKED, {"pattern": "2:4"}])
def test_a_table_that_two_modules_share(how, tmp_path):
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(WORDS), d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4)
    text = T5EncoderModel(config).eval()
    smaller = pruning.apply(text, pruning.plan(text, **how))
    again = pruning.load(pruning.save(smaller, tmp_path / "out"))
    assert same(state(again), state(smaller))
    assert again.shared.weight is again.encoder.embed_tokens.weight


# Plans go with the networks that they changed.


def test_a_plan_goes_with_its_network(tmp_path):
    pipe = ddpm()
    smaller = pruning.apply(pipe, pruning.plan(pipe, **WIDE))
    done = plan_of(smaller)
    bare = plan_of(smaller.unet)
    assert bare.recipe.component == ""
    assert same(state(pruning.load(pruning.save(smaller.unet, tmp_path / "bare"))), state(smaller.unet))
    taken = ddpm()
    taken.unet = smaller.unet
    assert plan_of(taken) == done
    smaller.unet = pipe.unet
    assert plan_of(smaller) is None
    assert plan_of(pruning.load(pruning.save(smaller, tmp_path / "dense"))) is None


def test_handed_on_to_another_pipeline(tmp_path):
    pipe = pipeline()
    smaller = pruning.apply(pipe, pruning.plan(pipe, ratio=0.5, units="width"))
    other = StableDiffusionImg2ImgPipeline(**smaller.components, requires_safety_checker=False)
    again = pruning.load(pruning.save(other, tmp_path / "out"))
    assert type(again) is StableDiffusionImg2ImgPipeline
    assert same(state(again), state(smaller))
    assert plan_of(again) == plan_of(smaller)


# Names in files.


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
@pytest.mark.parametrize("how", [None, MASKED, WIDE])
def test_what_a_wrapper_put_before_names_is_taken_off(dense, tmp_path, prefix, how):
    folder = pruning.save(pruning.apply(dense, pruning.plan(dense, **how)) if how else dense, tmp_path / "out")
    want = state(pruning.load(folder))
    save_file({prefix + key: value for key, value in load_file(folder / FILE).items()}, folder / FILE)
    if how:  # its digest has the names
        sign_again(folder, lambda step: None, keep_saved=False)
    else:
        refused(lambda: outline(folder), "saved together with its wrapper")
    assert same(state(pruning.load(folder)), want)


@pytest.mark.parametrize(("change", "words"), [
    (lambda tensors: tensors.pop("conv_in.weight"), "conv_in.weight is missing"),
    (lambda tensors: tensors.update(more=torch.zeros(1)), "more is unknown to its config"),
    (lambda tensors: tensors.update({"conv_in.bias": torch.zeros(3)}), "conv_in.bias is of another shape"),
    (lambda tensors: tensors.update({"conv_in.bias": torch.zeros(8, dtype=torch.int8)}), "as quantized ones do"),
    (dict.clear, "conv_in.weight is missing"),
])
def test_names_and_shapes_that_do_not_fit(dense, tmp_path, change, words):
    folder = pruning.save(dense, tmp_path / "out")
    tensors = load_file(folder / FILE)
    change(tensors)
    save_file(tensors, folder / FILE)
    refused(lambda: pruning.load(folder), words)
    refused(lambda: outline(folder), words)


def test_a_text_encoder_is_never_a_random_one(tiny, tmp_path):
    folder = pruning.save(tiny.text_encoder, tmp_path / "out")
    file = folder / "model.safetensors"
    whole = load_file(file)
    save_file({f"cond_stage_model.transformer.{key}": value for key, value in whole.items()}, file)
    refused(lambda: pruning.load(folder), "is missing")
    refused(lambda: outline(folder), "is missing")
    save_file(whole | {"vision_model.a": torch.zeros(1), "text_model.embeddings.position_ids": torch.arange(8)}, file)
    assert same(state(pruning.load(folder)), state(tiny.text_encoder))  # the other half of a CLIP


# Loading takes no numbers, no time and no memory that it need not take.


def test_the_random_stream_stays_where_it_was(dense, smaller, tiny, tmp_path):
    for number, model in enumerate((dense, smaller, tiny.text_encoder)):
        folder = pruning.save(model, tmp_path / str(number))
        torch.manual_seed(7)
        before = torch.get_rng_state()
        pruning.load(folder)
        assert torch.equal(torch.get_rng_state(), before)


def enlarge(folder, **settings):
    body = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps(body))


@pytest.mark.parametrize(("settings", "words"), [
    ({"block_out_channels": [8000, 8000]}, "is of another shape"),
    ({"layers_per_block": 100_000}, f"more than {configs.MOST_PARTS} layers and tensors"),
])
def test_configs_of_another_size(smaller, tmp_path, monkeypatch, settings, words):
    folder = pruning.save(smaller, tmp_path / "out")
    enlarge(folder, **settings)
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda tensor, *_, **__: tensor if tensor.is_meta else pytest.fail(
        "values were drawn"))
    with pytest.raises(pruning.Refused):
        pruning.load(folder)
    (folder / "plan.json").unlink()
    if plan_of(smaller).decided.decision.kind != "keep":
        refused(lambda: pruning.load(folder), words)
        refused(lambda: outline(folder), words)


def test_more_than_memory_holds(smaller, tmp_path, monkeypatch):
    folder = pruning.save(smaller, tmp_path / "out")
    size = sum(tensor.numel() for tensor in smaller.state_dict().values()) * 4
    monkeypatch.setattr(memory, "available", lambda: size)
    refused(lambda: pruning.load(folder), "and the limit here is", "80 % of the free memory")
    monkeypatch.setattr(memory, "available", lambda: size * 2)
    pruning.load(folder)
