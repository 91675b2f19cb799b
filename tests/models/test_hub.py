"""Fetching from a hub on 127.0.0.1: the good way, and one sentence with a remedy for every other."""

import errno
import json
import shutil
import socket

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from hub_stub import HubStub
from huggingface_hub import constants
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pruning.errors import Refused
from pruning.models import folders, hub

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory):
    """A folder with a random StableDiffusionPipeline, a few hundred kB."""
    torch.manual_seed(0)
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "a": 3}
    text = CLIPTextConfig(vocab_size=4, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                          num_attention_heads=2, max_position_embeddings=8, bos_token_id=0, eos_token_id=1)
    unet = UNet2DConditionModel(sample_size=8, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
                                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=16,
                                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=4)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4, sample_size=8)
    folder = tmp_path_factory.mktemp("hub") / "pipeline"
    StableDiffusionPipeline(vae=vae, text_encoder=CLIPTextModel(text), tokenizer=CLIPTokenizer(vocab=words, merges=[]),
                            unet=unet, scheduler=DDIMScheduler(), safety_checker=None, feature_extractor=None,
                            requires_safety_checker=False).save_pretrained(folder)
    return folder


@pytest.fixture
def copy(pipeline, tmp_path):
    """The pipeline's folder, to be spoiled."""
    return shutil.copytree(pipeline, tmp_path / "copy")


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """The hub, an empty cache, no token, and no way to any other host."""
    connect = socket.socket.connect

    def loopback_only(self, address):
        assert address[0] == "127.0.0.1", f"a test wants to reach {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", loopback_only)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    with HubStub() as served:
        for name, value in served.env.items():
            monkeypatch.setenv(name, value)
        yield served


def refused(*words, repo_id="some/model", **options):
    """The refusal, whose sentence has all of the words."""
    with pytest.raises(Refused) as caught:
        hub.fetch(repo_id, **options)
    assert caught.value.message
    assert caught.value.remedy
    for word in words:
        assert word in str(caught.value)
    return caught.value


def edit_index(folder, **changes):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | changes))


def test_a_good_pipeline_arrives_and_loads(stub, copy):
    for junk in ("unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors", "all.safetensors",
                 "unet/flax_model.msgpack", "unet/evil.py", "pipeline.py", "unet/openvino.xml", "README.md",
                 "unet/diffusion_pytorch_model.bin.index.json"):
        (copy / junk).write_bytes(b"junk")
    stub.add("some/model", copy)
    folder = hub.fetch("some/model")
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert names == {"model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
                     "text_encoder/model.safetensors", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json",
                     "unet/config.json", UNET, "vae/config.json", "vae/diffusion_pytorch_model.safetensors"}
    assert folders.examine(folder).variant is None
    loaded = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    weights = load_file(copy / UNET)
    assert all(torch.equal(value, weights[name]) for name, value in loaded.unet.state_dict().items())


def test_a_plan_comes_along(stub, copy):
    (copy / "plan.json").write_text("{}")
    stub.add("some/model", copy)
    assert (hub.fetch("some/model") / "plan.json").is_file()


def test_shards_come_together(stub, copy, pipeline):
    StableDiffusionPipeline.from_pretrained(pipeline).unet.save_pretrained(copy / "unet", max_shard_size="30KB")
    (copy / UNET).unlink(missing_ok=True)
    stub.add("some/model", copy)
    folder = hub.fetch("some/model")
    assert (folder / "unet/diffusion_pytorch_model.safetensors.index.json").is_file()
    StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    next((copy / "unet").glob("*-00002-of-*")).unlink()
    stub.add("some/model", copy)
    refused("no safetensors that fit together for unet", "save_pretrained")


def test_a_variant_is_taken_when_there_is_nothing_else(stub, copy):
    (copy / UNET).rename(copy / "unet/diffusion_pytorch_model.fp16.safetensors")
    stub.add("some/model", copy)
    folder = hub.fetch("some/model")
    assert folders.examine(folder).variant == "fp16"
    StableDiffusionPipeline.from_pretrained(folder, variant="fp16", local_files_only=True)
    (copy / "vae/diffusion_pytorch_model.safetensors").rename(copy / "vae/diffusion_pytorch_model.bf16.safetensors")
    stub.add("some/model", copy)
    refused("no safetensors that fit together for unet, vae", "save_pretrained")


@pytest.mark.parametrize("repo_id", ["", "a/b/c", "../../etc", "some/model.git", "some model", "https://x.org/a"])
def test_malformed_id(stub, repo_id):
    refused("is not a hub model id", "owner/name", repo_id=repo_id)
    assert not stub.requests


def test_unknown_and_private(stub, pipeline):
    refused("does not exist, or is private", "spelling", "HF_TOKEN", stub.url)
    refused("no model some/model", "spelling", token="hf_other")
    stub.add("some/model", pipeline, private="hf_good")
    refused("is private", "HF_TOKEN")
    assert hub.fetch("some/model", token="hf_good").is_dir()


def test_forbidden(stub, pipeline):
    stub.add("some/model", pipeline, status=403)
    refused("not open to you", "HF_TOKEN")


def test_unknown_revision(stub, pipeline):
    stub.add("some/model", pipeline)
    refused("no revision 'v9'", "branches and tags", revision="v9")
    refused("no revision", "a branch", revision="../../x")


def test_gated(stub, pipeline):
    stub.add("some/model", pipeline, gated="hf_good")
    refused("gated", "Accept its conditions", "HF_TOKEN", f"{stub.url}/some/model")
    refused("gated", "Accept its conditions", token="hf_other")
    assert hub.fetch("some/model", token="hf_good").is_dir()


def test_no_network(stub, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        refused("cannot be reached", "network", "local folder")


def test_offline_mode(stub, monkeypatch, pipeline):
    stub.add("some/model", pipeline)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("cannot be reached", "HF_HUB_OFFLINE", "bundled model")
    assert not stub.requests


def test_an_answer_that_is_no_hub(stub, tmp_path, monkeypatch):
    monkeypatch.setattr("hub_stub.Handler.json", lambda self, value: self.answer(200, b"<html>please log in", {}))
    stub.add("some/model", tmp_path)
    refused("cannot be reached", "network")


def test_the_cached_copy_does_without_network(stub, monkeypatch, pipeline):
    stub.add("some/model", pipeline)
    folder = hub.fetch("some/model")
    stub.down = True
    assert hub.fetch("some/model") == folder
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.fetch("some/model") == folder
    shutil.rmtree(folder.parents[1] / "trees")  # as older libraries left it
    monkeypatch.setattr("huggingface_hub._tree_cache._IN_MEMORY_TREE_CACHE", {})
    assert hub.fetch("some/model") == folder
    refused("the limit here is", "smaller model", limit_bytes=1000)
    (folder / UNET).unlink()
    refused("no complete copy", "network")


def test_an_incomplete_cached_copy_is_not_used(stub, pipeline):
    stub.add("some/model", pipeline)
    (hub.fetch("some/model") / "tokenizer/tokenizer.json").unlink()
    stub.down = True
    refused("HTTP 503", "no complete copy", "network")


@pytest.mark.parametrize(("files", "library", "tags", "words"), [
    (("config.json", "model.safetensors"), "transformers", (), ("library: transformers", "save_pretrained")),
    (("model-q4.gguf",), None, ("gguf",), ("gguf", "converted from")),
    (("pytorch_lora_weights.safetensors",), "diffusers", ("lora",), ("LoRA", "base model")),
    (("sd.safetensors",), None, (), ("single-file", "from_single_file")),
    (("sd.ckpt",), "diffusers", (), ("single-file", "from_single_file")),
    (("config.json", "x.safetensors"), "diffusers", (), ("lone component", "a pipeline that contains it")),
])
def test_wrong_library(stub, tmp_path, files, library, tags, words):
    stub.add("some/model", tmp_path, library=library, tags=tags, announce=dict.fromkeys(files, 10))
    refused("no model_index.json", *words)
    assert not stub.fetched()


def test_only_pickles(stub, copy):
    for path in copy.rglob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))
    stub.add("some/model", copy)
    refused("only pickled weights", ".bin", "Ask its author", "convert")
    assert not stub.fetched(".bin")


def test_one_component_without_safetensors(stub, copy):
    (copy / UNET).rename(copy / "unet/diffusion_pytorch_model.bin")
    stub.add("some/model", copy)
    refused("no safetensors that fit together for unet", "Ask its author")
    (copy / "unet/diffusion_pytorch_model.bin").unlink()
    stub.add("some/model", copy)
    refused("no safetensors that fit together for unet", "Ask its author")
    assert not stub.fetched(".safetensors")


def test_too_large(stub, pipeline):
    stub.add("some/model", pipeline, announce={UNET: 90_000_000_000})
    refused("90 GB", "the limit here is 2 GB", "smaller model", limit_bytes=2_000_000_000)
    stub.add("some/model", pipeline, announce={UNET: 9_000_000_000_000})
    refused("9000 GB", "smaller model")
    stub.add("some/model", pipeline, announce={UNET: None})
    refused("does not say how large", "give the folder")
    assert not stub.fetched(".safetensors")


def test_cut_short(stub, pipeline):
    stub.add("some/model", pipeline, cut={UNET: 100})
    refused("cut short", "ask again")
    stub.add("some/model", pipeline)
    assert hub.fetch("some/model").is_dir()


@pytest.mark.parametrize("garbage", [b"", b"\0" * 64, b"<html>not found</html>", b"\x02" + b"\0" * 7 + b"[]",
                                     b"\x10" + b"\0" * 7 + b'{"a":{"x":"yyy"}}'])
def test_broken_header(stub, pipeline, garbage):
    stub.add("some/model", pipeline, serve={UNET: garbage})
    refused("arrived broken", "no safetensors header", "deleted", "ask again")


def test_a_retry_after_a_broken_file_works(stub, pipeline):
    whole = (pipeline / UNET).read_bytes()
    stub.add("some/model", pipeline)
    folder = hub.fetch("some/model")
    blob = (folder / UNET).resolve()
    blob.write_bytes(whole[:-4])
    refused("arrived broken", f"{len(whole) - 4} bytes", "deleted")
    assert not blob.exists()
    assert (hub.fetch("some/model") / UNET).read_bytes() == whole


def test_disk_full(stub, pipeline, monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    stub.add("some/model", pipeline)
    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    refused("disk is full", "Free some space", "HF_HUB_CACHE")
    assert not list((tmp_path / "cache").rglob("*.incomplete"))


@pytest.mark.parametrize("changes", [
    {"_class_name": "MyOwnPipeline"},
    {"_class_name": ["pipeline", "MyOwnPipeline"]},
    {"_class_name": None},
    {"_class_name": "UNet2DConditionModel"},
    {"unet": ["my_unet", "MyUNet"]},
    {"unet": ["os", "system"]},
    {"unet": ["diffusers", "MyUNet"]},
    {"text_encoder": ["transformers", "AutoNothing"]},
])
def test_no_remote_code(stub, copy, changes):
    edit_index(copy, **changes)
    (copy / "unet/my_unet.py").write_text("raise SystemExit")
    (copy / "pipeline.py").write_text("raise SystemExit")
    stub.add("some/model", copy)
    refused("no remote code is run", "part of diffusers")
    assert not stub.fetched(".py")


@pytest.mark.parametrize("changes", [{"unet": ["diffusers", "UNet2DConditionModel", {}]}, {"unet": ["diffusers", None]},
                                     {"../unet": ["diffusers", "UNet2DConditionModel"]}])
def test_malformed_component(changes):
    with pytest.raises(Refused, match="a library and a class"):
        folders.check_index({"_class_name": "StableDiffusionPipeline"} | changes)


def test_what_an_index_may_say():
    folders.check_index({"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0", "layers": [1, 2],
                     "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "vae": [None, None],
                     "feature_extractor": ["transformers", "CLIPFeatureExtractor"], "requires_safety_checker": True})


def test_an_index_that_is_none(stub, copy):
    stub.add("some/model", copy, serve={"model_index.json": b"[1, 2"})
    refused("not a JSON object", "save_pretrained")


def test_check_safetensors(pipeline, tmp_path):
    folders.check_safetensors(pipeline / UNET)
    longer = tmp_path / "longer.safetensors"
    longer.write_bytes((pipeline / UNET).read_bytes() + b"\0")
    with pytest.raises(Refused, match="its header promises"):
        folders.check_safetensors(longer)
    with pytest.raises(Refused, match="no safetensors header"):
        folders.check_safetensors(tmp_path / "missing.safetensors")
