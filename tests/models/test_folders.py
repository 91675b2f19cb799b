"""Folders and names as people have them: what is there is found, what is wrong is said before anything is built."""

import json
import os
import re
import shutil

import pytest
import torch
from conftest import PARTS, same, state
from safetensors.torch import load_file, save_file

import pruning
from pruning.models import folders, sources
from pruning.models.sources import outline

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(tiny_folder, tmp_path):
    """The dense pipeline's folder, to be changed."""
    return shutil.copytree(tiny_folder, tmp_path / "copy")


def edit(file, **changes):
    """Change entries of a JSON file; None takes one away."""
    body = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in body.items() if value is not ...}))


def refused(source, *words, **how):
    """Both ways of looking at a folder refuse it, in one sentence with a remedy."""
    for look in (lambda: pruning.load(source, **how), lambda: outline(source)):
        with pytest.raises(pruning.Refused) as refusal:
            look()
        assert refusal.value.remedy
        assert "\n" not in str(refusal.value)
        for word in words:
            assert word in str(refusal.value)


# File names.


@pytest.mark.parametrize("variant", ["fp16", "non_ema", "fp8-e4m3fn"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_shards_of_a_variant_have_it_before_or_after_their_number(tiny, copy, part, variant, before):
    stem = "diffusion_pytorch_model" if part == "unet" else "model"
    (copy / part / f"{stem}.safetensors").unlink()
    getattr(tiny, part).save_pretrained(copy / part, max_shard_size="30KB")
    names = {}
    for file in (copy / part).glob("*-of-*.safetensors"):
        number = re.search(r"-(\d{5}-of-\d{5})", file.name)[1]
        names[file.name] = f"{stem}.{variant}-{number}.safetensors" if before else (
            f"{stem}-{number}.{variant}.safetensors")
        file.rename(file.with_name(names[file.name]))
    assert len(names) > 2
    listed = copy / part / f"{stem}.safetensors.index.json"
    body = json.loads(listed.read_text())
    body["weight_map"] = {key: names[file] for key, file in body["weight_map"].items()}
    listed.unlink()
    (copy / part / f"{stem}.safetensors.index.{variant}.json").write_text(json.dumps(body))
    assert folders.examine(copy).variant == variant
    assert same(state(pruning.load(copy)), state(tiny))
    assert sum(t.numel() for t in outline(copy).unet.parameters()) == sum(t.numel() for t in tiny.unet.parameters())


def test_a_variant_with_a_dash(tiny, copy):
    (copy / UNET).rename(copy / UNET.replace(".safe", ".fp8-e4m3fn.safe"))
    assert same(state(pruning.load(copy)), state(tiny))


@pytest.mark.parametrize("name", ["v1-5-pruned-emaonly.safetensors", "model.ckpt", "model.gguf", "my_lora.safetensors"])
@pytest.mark.parametrize("way", ["absolute", "relative", "dotted", "folder"])
def test_one_file_is_said_to_be_one(tmp_path, monkeypatch, name, way):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "models" / name
    file.parent.mkdir()
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4, 3, 3)}, file)
    kind = "LoRA" if "lora" in name else "GGUF" if "gguf" in name else "single-file checkpoint"
    source = {"absolute": str(file), "relative": f"models/{name}", "dotted": f"./models/{name}",
              "folder": str(file.parent)}[way]
    refused(source, f"a {kind}", folders.ELSEWHERE[kind])


def test_a_file_that_is_not_there_is_not_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused("models/gone.safetensors", "There is no file models/gone.safetensors.")


def test_other_files(copy):
    refused(copy / "model_index.json", "is a file, and not a diffusers folder")


# What is pasted.


def cached(tiny_folder, folder, *revisions):
    for revision in revisions:
        shutil.copytree(tiny_folder, folder / "snapshots" / revision)
    (folder / "refs").mkdir()
    return folder


def test_the_caches_folder_of_a_model(tiny, tiny_folder, tmp_path):
    root = cached(tiny_folder, tmp_path / "models--me--tiny", "0123abc")
    assert same(state(pruning.load(root)), state(tiny))  # the only one
    shutil.copytree(tiny_folder, root / "snapshots" / "newer")
    refused(root, "with 2 snapshots")
    (root / "snapshots" / "newer" / "model_index.json").unlink()
    (root / "refs" / "main").write_text("0123abc\n")
    assert same(state(pruning.load(root)), state(tiny))  # the main one
    assert outline(root).unet.device.type == "meta"
    for outside in ("../../tiny", "", "/"):
        (root / "refs" / "main").write_text(outside)
        refused(root, "with 2 snapshots")


@pytest.mark.parametrize(("text", "source", "revision"), [
    ("owner/name", "owner/name", None), (" owner/name\n", "owner/name", None), ('"owner/name"', "owner/name", None),
    ("'owner/name'", "owner/name", None), ("`owner/name`", "owner/name", None),
    ("https://huggingface.co/owner/name", "owner/name", None), ("hf.co/owner/name/", "owner/name", None),
    ("http://www.huggingface.co/owner/na-me.1?library=diffusers", "owner/na-me.1", None),
    ("<https://huggingface.co/owner/name/tree/fp16>", "owner/name", "fp16"),
    ("https://huggingface.co/owner/name/blob/main/unet/config.json", "owner/name", "main"),
    ("https://huggingface.co/owner/name#usage", "owner/name", None), (" emoji-sd ", "emoji-sd", None),
    ("https://huggingface.co/datasets/owner/name", "https://huggingface.co/datasets/owner/name", None),
    ("https://example.com/owner/name", "https://example.com/owner/name", None),
])
def test_names_as_they_are_pasted(text, source, revision):
    assert sources.pasted(text) == (source, revision)


def test_a_folder_with_spaces_in_its_name(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / " a 'b' ")
    assert outline(f"{tmp_path}/ a 'b' ").unet.device.type == "meta"


# Configs and indexes.


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
@pytest.mark.parametrize(("how", "named"), [
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "quantized with bitsandbytes"),
    ({"quant_method": "torchao"}, "quantized with torchao"), ({}, "is quantized."), ("int8", "is quantized."),
    ({"quant_method": ["x"]}, "is quantized."),
])
def test_quantized_parts_are_refused_by_the_name_of_what_did_it(copy, part, how, named):
    edit(copy / part / "config.json", quantization_config=how)
    refused(copy, f"The {part} of {copy}", named)
    refused(copy / part, "The model of", named)
    with pytest.raises(pruning.Refused, match="quantized"):
        pruning.load(copy, weights="random")


@pytest.mark.parametrize("part", ["unet", "tokenizer", "scheduler", "vae"])
@pytest.mark.parametrize("value", [None, 3, "UNet2DConditionModel", {}, True])
def test_a_component_is_a_library_and_a_class(copy, part, value):
    edit(copy / "model_index.json", **{part: value})
    refused(copy, f"describes '{part}' as")


@pytest.mark.parametrize("value", [["diffusers"], ["diffusers", 3], ["a", "b", "c"]])
def test_a_component_is_two_words(copy, value):
    edit(copy / "model_index.json", unet=value)
    refused(copy, "describes 'unet' as")


@pytest.mark.parametrize("part", ["tokenizer", "scheduler", "unet"])
def test_parts_that_are_not_there(copy, part):
    shutil.rmtree(copy / part)
    refused(copy, f"has no files for {part}")


def test_a_tokenizer_is_never_an_empty_one(tiny, copy):
    whole = {file.name for file in (copy / "tokenizer").iterdir()}
    assert "tokenizer.json" in whole
    with (copy / "tokenizer" / "vocab.json").open("w") as file:
        json.dump(tiny.tokenizer.get_vocab(), file)
    (copy / "tokenizer" / "merges.txt").write_text("")
    (copy / "tokenizer" / "tokenizer.json").unlink()
    assert pruning.load(copy).tokenizer.get_vocab() == tiny.tokenizer.get_vocab()
    (copy / "tokenizer" / "vocab.json").unlink()
    refused(copy, "has no vocab.json for tokenizer")


@pytest.mark.parametrize(("part", "settings"), [
    ("unet", {"norm_num_groups": 0}), ("unet", {"block_out_channels": None}),
    ("unet", {"attention_head_dim": 0}), ("unet", {"down_block_types": ["x"]}), ("vae", {"norm_num_groups": 0}),
    ("text_encoder", {"num_attention_heads": 0}), ("text_encoder", {"hidden_size": "x"}),
    ("text_encoder", {"hidden_act": "nothing"}),
])
def test_settings_that_build_nothing(copy, part, settings):
    edit(copy / part / "config.json", **settings)
    refused(copy, "does not load")


# Files that are no plain files, or larger than any real one.


@pytest.mark.parametrize("name", ["model_index.json", UNET, "unet/config.json", "tokenizer/vocab.json", "plan.json",
                                  "plan.safetensors", "tokenizer/odd"])
@pytest.mark.parametrize("device", ["pipe", "/dev/zero"])
def test_pipes_and_devices_are_not_opened(copy, name, device):
    (copy / name).unlink(missing_ok=True)
    if device == "pipe":
        os.mkfifo(copy / name)
    else:
        (copy / name).symlink_to(device)
    refused(copy, f"{name.rpartition('/')[2]} is a pipe or a device")


def test_links_to_files_are_files(copy, tmp_path, tiny):
    (copy / UNET).rename(tmp_path / "elsewhere")
    (copy / UNET).symlink_to(tmp_path / "elsewhere")
    (copy / "unet" / "nowhere.json").symlink_to(tmp_path / "nothing")
    assert same(state(pruning.load(copy)), state(tiny))


@pytest.mark.parametrize(("name", "size"), [("model_index.json", 9 << 20), ("unet/config.json", 9 << 20),
                                            ("tokenizer/vocab.json", 65 << 20), ("tokenizer/merges.txt", 65 << 20)])
def test_settings_larger_than_any_real_ones(copy, name, size):
    with (copy / name).open("ab") as file:
        file.truncate(size)
    refused(copy, f"{name.rpartition('/')[2]} has", "the limit here is")


def test_a_header_larger_than_any_real_one(copy):
    with (copy / UNET).open("wb") as file:
        file.write((95 << 20).to_bytes(8, "little") + b"{")
        file.truncate(96 << 20)
    refused(copy, "has a header of 99.61 MB, and the limit here is 16.78 MB")


@pytest.mark.parametrize("header", [b"[]", b'{"a": 1}', b'{"a": {"dtype": "F32", "shape": 3, "data_offsets": '
                                    b'[0, 4]}}', b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}'])
def test_headers_that_say_nothing(copy, header):
    (copy / UNET).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4 if b"4" in header else 0))
    refused(copy, "diffusion_pytorch_model.safetensors")


def test_headers_are_handed_on(tiny, copy):
    held = folders.examine(copy)
    for part in PARTS:
        stored = {key: tuple(entry["shape"]) for key, entry in held.tensors(part).items()}
        assert stored == {key: tuple(t.shape) for key, t in load_file(copy / held.weights(part)[0]).items()}
