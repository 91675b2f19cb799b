"""Every way to wrap, compile, hook or patch a model: what is pruned runs pruned, or is refused with the remedy."""

import functools
import sys
import threading
import types
import weakref

import accelerate
import pytest
import torch
from conftest import ddpm, output, pipeline, same, state
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from torch.nn.utils import parametrizations, prune, weight_norm

import pruning
from pruning.network.fingerprint import fingerprint
from pruning.network.obstacles import unwrapped
from pruning.network.subject import module_at, plain

MID = "mid_block.resnets.0"
HERE = sys.modules[__name__]


@pytest.fixture(scope="module")
def want(tiny):
    """What a dense and a pruned U-Net answer that nobody touched."""
    return output(tiny, "unet"), output(pruned(tiny), "unet")


def pruned(pipe, **how):
    return pruning.apply(pipe, pruning.plan(pipe, **{"ratio": 0.5, "units": "width"} | how))


def through(self, *args, **kwargs):
    """A function that holds nothing: it runs whatever it is bound to."""
    return type(self).forward(self, *args, **kwargs)


def closing_over(block):
    return lambda *args, **kwargs: type(block).forward(block, *args, **kwargs)


class Thing:
    """What helpers that people write look like."""

    def __init__(self, block):
        self.block = block

    def __call__(self, *args, **kwargs):
        return type(self.block).forward(self.block, *args, **kwargs)


class Swapped:
    """A class to mix in, as token merging does."""


def swap(block):
    block.__class__ = type("Merged", (Swapped, type(block)), {})
    block._info = {"size": None, "hooks": [block.register_forward_pre_hook(lambda module, args: None)]}


def distributed(net):
    """As in a training script with one process."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        return nn.parallel.DistributedDataParallel(net)
    finally:
        torch.distributed.destroy_process_group()


def noted(pipe):
    net = pipe.unet
    net.note = torch.ones(1, requires_grad=True) * 2  # has a history, which deepcopy refuses
    net.helper, net.again = functools.partial(net.forward), net.forward
    net.mid_block.register_forward_pre_hook(types.MethodType(lambda module, *_: None, net.mid_block))
    net.conv_in.register_forward_hook(lambda *_: None)


def changed(pipe, **parts):
    for name, part in parts.items():
        setattr(pipe, name, part)


def set_on(owner, name, value):
    setattr(owner, name, value)


CARRIED = {
    "nothing": lambda pipe: None,
    "compiled in place": lambda pipe: pipe.unet.compile(backend="eager"),
    "a block compiled in place": lambda pipe: pipe.unet.mid_block.compile(backend="eager"),
    "compiled": lambda pipe: changed(pipe, unet=torch.compile(pipe.unet, backend="eager")),
    "in DataParallel": lambda pipe: changed(pipe, unet=nn.DataParallel(pipe.unet)),
    "in DistributedDataParallel": lambda pipe: changed(pipe, unet=distributed(pipe.unet)),
    "compiled in DataParallel": lambda pipe: changed(
        pipe, unet=torch.compile(nn.DataParallel(pipe.unet), backend="eager")),
    "forward compiled": lambda pipe: set_on(pipe.unet, "forward", torch.compile(pipe.unet.forward, backend="eager")),
    "a forward of its own": lambda pipe: set_on(
        pipe.unet.mid_block, "forward", types.MethodType(through, pipe.unet.mid_block)),
    "another class": lambda pipe: swap(pipe.unet.get_submodule("mid_block.attentions.0.transformer_blocks.0")),
    "hooks, partials, tensors": noted,
    "FreeU": lambda pipe: pipe.enable_freeu(s1=1.0, s2=1.0, b1=1.0, b2=1.0),
    "plain processors": lambda pipe: pipe.unet.set_attn_processor(AttnProcessor()),
    "attention slicing": lambda pipe: pipe.enable_attention_slicing(1),
    "gradient checkpointing": lambda pipe: pipe.unet.enable_gradient_checkpointing(),
    "frozen": lambda pipe: pipe.unet.requires_grad_(False),
    "hooks that were removed": lambda pipe: (pipe.enable_model_cpu_offload(device="cpu"), pipe.remove_all_hooks()),
}


@pytest.mark.parametrize("way", CARRIED)
def test_what_can_be_carried_is_pruned_as_if_it_were_plain(way, want):
    pipe = pipeline()
    CARRIED[way](pipe)
    before = state(plain(pipe))
    smaller = pruned(pipe)
    assert torch.allclose(output(smaller, "unet"), want[1], atol=1e-5)
    assert not torch.allclose(output(smaller, "unet"), want[0], atol=1e-3)
    assert same(before, state(plain(pipe)))
    assert fingerprint(smaller.unet) == fingerprint(pruned(pipeline()).unet)


REFUSED = {
    "a forward that closes over its block": (
        lambda pipe: set_on(pipe.unet.mid_block, "forward", closing_over(pipe.unet.mid_block)),
        "mid_block has a forward that is not its class's"),
    "a forward that a helper holds": (
        lambda pipe: set_on(pipe.unet.mid_block, "forward", Thing(pipe.unet.mid_block)), "not its class's"),
    "another network's forward": (
        lambda pipe: set_on(pipe.unet, "forward", pipeline(1).unet.forward), "The U-Net has a forward that is not"),
    "a bound function that closes over the block": (
        lambda pipe: set_on(pipe.unet.mid_block, "forward", types.MethodType(
            (lambda block: lambda self, *args: type(block).forward(block, *args))(pipe.unet.mid_block),
            pipe.unet.mid_block)), "not its class's"),
    "a hook that closes over a block": (
        lambda pipe: pipe.unet.mid_block.register_forward_hook(
            lambda module, args, out, block=pipe.unet.mid_block: None), "mid_block has a hook .forward hooks."),
    "a hook of a recorder that holds the model": (
        lambda pipe: pipe.unet.conv_in.register_forward_hook(Thing(pipe.unet).__call__), "conv_in has a hook"),
    "a function in an attribute": (
        lambda pipe: set_on(pipe.unet, "run", closing_over(pipe.unet)), "has in run a function that holds on"),
    "a function in a dictionary": (
        lambda pipe: set_on(pipe.unet, "runs", {"first": [closing_over(pipe.unet)]}), "has in runs a function"),
    "a processor that closes over the model": (
        lambda pipe: set_on(pipe.unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1").processor,
                            "run", closing_over(pipe.unet)), "has in processor a function"),
    "a weak reference": (lambda pipe: set_on(pipe.unet, "me", weakref.ref(pipe.unet)), "has in me"),
    "a lock": (lambda pipe: set_on(pipe.unet, "lock", threading.Lock()), "lock of a UNet2DConditionModel cannot be"),
    "a block compiled in a wrapper": (
        lambda pipe: set_on(pipe.unet, "mid_block", torch.compile(pipe.unet.mid_block, backend="eager")),
        "mid_block is wrapped in OptimizedModule.*compile it in place"),
    "dispatch_model": (lambda pipe: accelerate.dispatch_model(pipe.unet, {"": "cpu"}, force_hooks=True),
                       r"hooks of accelerate.*pipe.remove_all_hooks\(\) first"),
    "weights that wait elsewhere": (lambda pipe: accelerate.cpu_offload(pipe.unet, "cpu"), "hooks of accelerate"),
    "model offload": (lambda pipe: pipe.enable_model_cpu_offload(device="cpu"), "hooks of accelerate"),
    "group offload": (lambda pipe: pipe.unet.enable_group_offload(
        onload_device=torch.device("cpu"), offload_device=torch.device("cpu"), offload_type="leaf_level"),
        "hooks of diffusers .group_offloading."),
    "layerwise casting": (lambda pipe: pipe.unet.enable_layerwise_casting(
        storage_dtype=torch.bfloat16, compute_dtype=torch.float32), "hooks of diffusers .layerwise_casting."),
    "masks of torch": (lambda pipe: prune.l1_unstructured(pipe.unet.mid_block.resnets[0].conv1, "weight", 0.3),
                       f"{MID}.conv1 has a weight masked by torch.*prune.remove"),
    "masks of a bias": (lambda pipe: prune.l1_unstructured(pipe.unet.mid_block.resnets[0].conv1, "bias", 0.3),
                        f"{MID}.conv1 has a bias masked by torch"),
    "weight norm": (lambda pipe: parametrizations.weight_norm(pipe.unet.mid_block.resnets[0].conv1),
                    f"{MID}.conv1 has a weight that is computed by a parametrization.*remove_parametrizations"),
    "spectral norm": (lambda pipe: parametrizations.spectral_norm(pipe.unet.mid_block.resnets[0].conv1),
                      f"{MID}.conv1 has a weight that is computed by a parametrization"),
    "weight norm of old": (lambda pipe: weight_norm(pipe.unet.mid_block.resnets[0].conv1),
                           f"{MID}.conv1 has a weight that is computed by weight_norm.*remove_weight_norm"),
    "spectral norm of old": (lambda pipe: nn.utils.spectral_norm(pipe.unet.mid_block.resnets[0].conv1),
                             f"{MID}.conv1 has a weight that is computed by spectral_norm"),
    "fused projections": (lambda pipe: pipe.fuse_qkv_projections(vae=False), "unfuse_qkv_projections"),
    "integers": (lambda pipe: set_on(pipe.unet.conv_in, "weight", nn.Parameter(
        torch.zeros(16, 4, 3, 3, dtype=torch.int8), requires_grad=False)), "conv_in has a weight of type int8: it is"),
    "an empty weight": (lambda pipe: set_on(pipe.unet.conv_in, "weight", nn.Parameter(torch.zeros(0, 4, 3, 3))),
                        "conv_in has an empty weight"),
    "no weight": (lambda pipe: set_on(pipe.unet.conv_in, "weight", None), "conv_in has no weight of its own"),
    "weights that are not made yet": (lambda pipe: set_on(pipe.unet, "conv_in", nn.LazyConv2d(16, 3, padding=1)),
                                      "conv_in has a weight of class UninitializedParameter"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("way", REFUSED)
def test_what_cannot_be_carried_is_refused_with_what_to_do_first(way):
    change, words = REFUSED[way]
    pipe, plain_one = pipeline(), pipeline()
    plan = pruning.plan(plain_one, ratio=0.5, units="width")  # so that the count of such a model is remembered
    change(pipe)
    with pytest.raises(pruning.Refused, match=words):
        pruned(pipe)
    with pytest.raises(pruning.Refused):
        pruning.apply(pipe, plan)


def test_a_function_that_finds_the_model_among_its_globals_is_refused(monkeypatch):
    pipe = pipeline()
    monkeypatch.setattr(HERE, "BLOCK", pipe.unet.mid_block, raising=False)
    pipe.unet.mid_block.register_forward_hook(lambda *_: BLOCK and None)  # noqa: F821
    with pytest.raises(pruning.Refused, match="mid_block has a hook"):
        pruned(pipe)


class Around(nn.Module):
    """A wrapper of somebody's own."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


class FullyShardedDataParallel(Around):
    """By its name."""


@pytest.mark.parametrize("kind", [Around, FullyShardedDataParallel])
def test_a_wrapper_of_which_nothing_is_known_is_refused(kind):
    pipe = pipeline()
    pipe.unet = kind(pipe.unet)
    with pytest.raises(pruning.Refused, match=f"The U-Net is a {kind.__name__} around another network"):
        pruning.plan(pipe, ratio=0.5)


def test_wrappers_come_off_in_any_order_and_names_are_those_of_the_plain_model(tiny, tmp_path):
    net = pipeline().unet
    assert unwrapped(nn.DataParallel(torch.compile(nn.DataParallel(net), backend="eager"))) is net
    pipe = pipeline()
    pipe.unet = torch.compile(nn.DataParallel(pipe.unet), backend="eager")
    pipe.vae, pipe.text_encoder = (torch.compile(part, backend="eager") for part in (pipe.vae, pipe.text_encoder))
    assert module_at(pipe, "vae.decoder") is unwrapped(pipe.vae).decoder
    for how in ({"ratio": 0.5}, {"ratio": 0.5, "component": "text_encoder"},
                {"ratio": 0.5, "component": "vae.decoder", "units": "channel"},
                {"ratio": 0.5, "protect": ("mid_block*",), "only": ("*resnets*",)}):
        assert pruning.plan(pipe, **how) == pruning.plan(tiny, **how)
    smaller = pruned(pipe, component="vae.decoder", units="channel")
    again = pruning.load(pruning.save(smaller, tmp_path / "out"))
    assert same(state(again), state(pruned(tiny, component="vae.decoder", units="channel")))


def test_a_wrapped_model_keeps_its_plan():
    net = pruned(ddpm().unet)
    twice = pruned(nn.DataParallel(net), units="weight")
    assert len(pruning.network.notes.plan_of(twice).steps) == 2
    assert type(twice) is type(net)


def test_methods_of_a_decoder_and_of_a_pipeline_go_with_the_copy(tiny):
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    pipe = pipeline()
    pipe.vae.decode = torch.compile(pipe.vae.decode, backend="eager")
    pipe.encode_prompt = torch.compile(pipe.encode_prompt, backend="eager")
    pipe.check = types.MethodType(lambda self: self, pipe)
    how = {"component": "vae.decoder", "units": "channel"}
    dense, smaller = pruned(pipe, **how), pruned(tiny, **how)
    with torch.no_grad():
        assert torch.equal(dense.vae.decode(latents)[0], smaller.vae.decode(latents)[0])
    assert "encode_prompt" not in vars(dense)
    pipe = pipeline()
    pipe.encode_prompt = lambda *args: type(pipe).encode_prompt(pipe, *args)
    with pytest.raises(pruning.Refused, match="StableDiffusionPipeline has a encode_prompt that is not its class's"):
        pruned(pipe, component="text_encoder", ratio=0.25)
    pipe = pipeline()
    pipe.vae.decode = functools.partial(type(pipe.vae).decode, pipe.vae)
    with pytest.raises(pruning.Refused, match="The VAE decoder has a decode that is not its class's"):
        pruning.plan(pipe, ratio=0.5, **how)


def test_a_lora_is_fused_first():
    peft = pytest.importorskip("peft")
    pipe = pipeline()
    plan = pruning.plan(pipe, ratio=0.5)
    pipe.unet.add_adapter(peft.LoraConfig(r=4, target_modules=["to_q"]))
    for work in (lambda: pruning.plan(pipe, ratio=0.5), lambda: pruning.apply(pipe, plan)):
        with pytest.raises(pruning.Refused, match=r"LoRA loaded\. Fuse and unload it first"):
            work()
    pipe.unet.fuse_lora()
    pipe.unet.unload_lora()
    assert output(pruned(pipe), "unet").shape == (2, 4, 16, 16)


def test_torchscript_is_refused():
    net = torch.jit.trace(nn.Sequential(nn.Linear(4, 4)), torch.ones(1, 4))
    with pytest.raises(pruning.Refused, match="is TorchScript"):
        pruning.plan(net, ratio=0.5)


def test_hooks_are_shared_and_do_not_meet_the_meta_device(want):
    """A recorder goes on recording, of the pruned model too, and is not asked while MACs are counted."""
    seen, pipe = [], pipeline()
    pipe.unet.conv_in.register_forward_hook(lambda module, args, out: seen.append(float(out.sum())))
    smaller = pruned(pipe)
    assert not seen
    assert torch.equal(output(smaller, "unet"), want[1])
    assert len(seen) == 1


def test_a_model_without_some_of_its_weights_is_not_called_one_without_any():
    pipe = pipeline()
    pipe.unet.mid_block.to("meta")
    with pytest.raises(pruning.Refused, match="lacks some of its weights: mid_block"):
        pruning.plan(pipe, ratio=0.5)


def test_a_patched_component_that_is_not_pruned_is_saved_all_the_same(tmp_path):
    pipe = pipeline()
    smaller = pruned(pipe)
    smaller.vae.decode = closing_over(smaller.vae)
    smaller.enable_model_cpu_offload(device="cpu")
    again = pruning.load(pruning.save(smaller, tmp_path / "out"))
    assert same(state(again), state(smaller))
