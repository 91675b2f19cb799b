"""The command line: exit codes, one JSON object, and the way from a plan to a comparison."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from conftest import pipeline, unet
from PIL import Image
from safetensors.torch import load_file, save_file

import pruning
from pruning.__main__ import main, parsed
from pruning.cli import flags
from pruning.cli.flags import CALIBRATION, DRAW, REQUEST, SHOWN, TRAIN, counted
from pruning.models import saving
from pruning.network.notes import plan_of
from pruning.network.subject import subject
from pruning.types import Calibration, Plan, Shot

REPORT = {"requested", "units", "params", "macs", "bytes", "speed", "fingerprint", "layers", "adjusted", "recovered"}
UNET = "unet/diffusion_pytorch_model.safetensors"
HALF = ("--units", "channel", "--ratio", "0.5")


@pytest.fixture
def call(capsys):
    """Run a command under --json: (exit code, the one object on standard output)."""

    def run(*argv):
        capsys.readouterr()
        code = main([*map(str, argv), "--json"])
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1
        return code, json.loads(lines[0])

    return run


@pytest.fixture
def done(call):
    """Run a command that works; what it printed."""

    def run(*argv):
        code, result = call(*argv)
        assert code == 0, result
        return result

    return run


@pytest.fixture
def refused(call):
    """Run a command that is refused; its sentence with the remedy."""

    def run(*argv):
        code, result = call(*argv)
        assert code == 1
        assert set(result) == {"error"}
        assert set(result["error"]) == {"message", "remedy"}
        assert result["error"]["message"].endswith(".")
        return f"{result['error']['message']} {result['error']['remedy']}"

    return run


@pytest.fixture(scope="module")
def halved(tiny_folder, tmp_path_factory):
    """A folder with half of the U-Net's hidden channels, and the plan that was made before."""
    folder = tmp_path_factory.mktemp("halved")
    assert main(["plan", str(tiny_folder), *HALF, "-o", str(folder / "plan.json")]) == 0
    assert main(["prune", str(tiny_folder), "--plan", str(folder / "plan.json"), "-o", str(folder / "out")]) == 0
    return folder


@pytest.fixture
def copy(tiny_folder, tmp_path):
    """The pipeline's folder, to be spoiled."""
    return shutil.copytree(tiny_folder, tmp_path / "copy")


def usage(*argv):
    with pytest.raises(SystemExit) as caught:
        main(list(map(str, argv)))
    return caught.value.code


def test_flags_are_the_arguments_of_the_public_functions():
    taken = set(inspect.signature(pruning.plan).parameters) - {"pipe", "scores", "calibration", "options"}
    assert set(REQUEST) == taken
    assert set(DRAW) == {f.name for f in fields(Shot)}
    assert set(TRAIN) == set(inspect.signature(pruning.recover).parameters) - {"pruned", "dense", "calibration"}
    assert set(SHOWN) == {f.name for f in fields(Calibration)} - {"timesteps"}
    assert set(CALIBRATION) == {f.name for f in fields(Calibration)}


def test_methods(done, capsys):
    listed = done("methods")["methods"]
    assert {"name", "family", "units", "options", "paper", "status"} == set(listed[0])
    assert [m["name"] for m in listed] == [m.name for m in pruning.methods()]
    assert main(["methods"]) == 0
    assert "magnitude" in capsys.readouterr().out


@pytest.mark.parametrize("component", [None, "text_encoder", "vae.decoder"])
def test_inspect_adds_up(done, tiny, tiny_folder, component):
    found = done("inspect", tiny_folder, *(("--component", component) if component else ()))
    assert list(found) == ["model", "component", "class", "params", "macs", "macs_linear_conv", "input", "blocks"]
    assert set(found["input"]) == {"latent", "tokens", "batch"}
    for key in ("params", "macs"):
        assert type(found[key]) is int
        assert sum(block[key] for block in found["blocks"]) == found[key]
    for block in found["blocks"]:
        assert list(block) == ["name", "params", "macs", "units"]
        assert set(block["units"]) == set(counted())
    assert 0 < found["macs_linear_conv"] < found["macs"]
    assert found["component"] == (component or "unet")
    net = getattr(tiny, found["component"], None) or tiny.vae.decoder
    assert found["params"] == sum(p.numel() for p in net.parameters())
    assert found["class"] == type(net).__name__


def test_inspect_expands_lists_of_blocks(done, tiny_folder):
    blocks = {block["name"]: block for block in done("inspect", tiny_folder)["blocks"]}
    assert {"conv_in", "down_blocks.0", "mid_block", "up_blocks.3", "conv_out"} <= set(blocks)
    assert "down_blocks" not in blocks
    assert blocks["conv_in"] == {"name": "conv_in", "params": 4 * 16 * 9 + 16, "macs": 4 * 16 * 9 * 16 ** 2,
                                 "units": {"weight": 4 * 16 * 9, "head": 0, "neuron": 0, "channel": 0}}
    assert blocks["down_blocks.0"]["units"]["head"] == 8  # one transformer block: two attentions of 4 heads


def test_inspect_for_people(tiny_folder, capsys):
    assert main(["inspect", str(tiny_folder)]) == 0
    out = capsys.readouterr().out
    assert "UNet2DConditionModel" in out
    assert "down_blocks.0" in out


def test_macs_that_are_not_counted_are_null(done, tiny, tmp_path):
    tiny.vae.save_pretrained(tmp_path / "vae")
    found = done("inspect", tmp_path / "vae")
    assert found["macs"] is found["macs_linear_conv"] is found["blocks"][0]["macs"] is None
    assert sum(block["params"] for block in found["blocks"]) == found["params"] > 0


def test_from_a_plan_to_a_comparison(done, call, tiny_folder, tmp_path):
    file, out, pictures = tmp_path / "new" / "plan.json", tmp_path / "out", tmp_path / "pictures"
    planned = done("plan", tiny_folder, "--method", "magnitude", *HALF, "--norm", "l2", "-o", file)
    plan = Plan.from_json(file.read_text())
    assert REPORT | {"plan", "digest"} == set(planned)
    assert planned["digest"] == plan.digest
    assert plan.recipe.options == (("norm", "l2"),)

    pruned = done("prune", tiny_folder, "--plan", file, "-o", out)
    assert REPORT | {"folder", "plan", "digest"} == set(pruned)
    assert pruned["params"] == planned["params"]
    assert Plan.from_json((out / "plan.json").read_text()).steps == plan.steps

    compared = done("compare", tiny_folder, out, "--prompt", "a", "--prompt", "b a", "--steps", 2, "-o", pictures)
    names = [f"{side}_{i}.png" for side in ("dense", "pruned", "difference") for i in range(2)] + ["report.json"]
    assert REPORT | {"files", "live_ms_per_step", "notes", "quality", "verdict"} == set(compared)
    assert compared["files"] == [str(pictures / name) for name in names]
    assert json.loads((pictures / "report.json").read_text()) == compared
    assert {key: compared[key] for key in REPORT} == {key: pruned[key] for key in REPORT}
    assert all(ms > 0 for ms in compared["live_ms_per_step"].values())
    assert set(compared["live_ms_per_step"]) == {"dense", "pruned"}
    dense, other, difference = (Image.open(pictures / f"{side}_0.png") for side in ("dense", "pruned", "difference"))
    assert dense.size == other.size == difference.size
    assert difference.getpixel((3, 3)) == tuple(abs(a - b) for a, b in zip(dense.getpixel((3, 3)),
                                                                           other.getpixel((3, 3)), strict=True))
    assert int(other.text["prunescope params"]) < int(dense.text["prunescope params"])

    again = pruning.load(out)
    assert sum(p.numel() for p in again.unet.parameters()) == pruned["params"]["pruned"]
    found = done("inspect", out)
    assert (found["params"], found["macs"]) == (pruned["params"]["pruned"], pruned["macs"]["pruned"])


def test_pruning_a_pruned_model_appends(done, refused, tiny_folder, halved, tmp_path):
    out = halved / "out"
    second = done("prune", out, "--pattern", "2:4", "--only", "mid_block*", "-o", tmp_path / "second")
    assert second["units"]["gone"] * 2 == second["units"]["total"]
    assert len(Plan.from_json((tmp_path / "second" / "plan.json").read_text()).steps) == 2
    for dense in (tiny_folder, out):
        report = done("compare", dense, tmp_path / "second", "--prompt", "a", "--steps", 1, "-o", tmp_path / "pictures")
        assert report["units"] == second["units"]
        assert report["params"]["pruned"] == second["params"]["pruned"]
    assert "gone through this plan already" in refused("prune", out, "--plan", halved / "plan.json",
                                                       "-o", tmp_path / "third")
    assert "a plan of its own" in refused("compare", tmp_path / "second", out, "--prompt", "a", "-o", tmp_path / "x")
    assert "has no plan.json" in refused("compare", out, tiny_folder, "--prompt", "a", "-o", tmp_path / "x")


def test_what_was_adjusted_is_said(done, refused, tiny_folder, tmp_path, capsys):
    """Once in each report; a plan that was asked for adjusts anew, one that was gone through is refused."""
    file, out = tmp_path / "plan.json", tmp_path / "out"
    how = ("--ratio", "0.5", "--update", "--only", "mid_block*", "--calibration-source", "noise",
           "--calibration-samples", "2")
    planned = done("plan", tiny_folder, *how, "-o", file)["adjusted"]
    pruned = done("prune", tiny_folder, "--plan", file, "-o", out)
    told = pruned["adjusted"]
    assert planned["said"].endswith(". The plan adjusts them again wherever it is carried out.")
    assert told == planned | {"said": told["said"]}
    assert told["said"].endswith(". The plan cannot rebuild these weights, so keep the saved folder.")
    assert told["after"] < told["before"]
    errors = Plan.from_json((out / "plan.json").read_text()).steps[-1].decision.sites
    assert {layer["name"]: layer["error"] for layer in pruned["layers"] if layer["error"]} == errors
    compared = ("compare", tiny_folder, out, "--prompt", "a", "--steps", "1", "-o", tmp_path / "pictures")
    assert done(*compared)["verdict"].endswith(f"Speed: not measured yet. {told['said']}")
    assert "adjusted after pruning" in refused("prune", tiny_folder, "--plan", out / "plan.json", "-o", tmp_path / "b")

    again = ("prune", tiny_folder, *how, "-o", tmp_path / "again")
    for command in (compared, again):
        assert main([*map(str, command)]) == 0
        assert capsys.readouterr().out.count(told["said"]) == 1


def test_flags_that_repeat(done, tiny_folder, tmp_path):
    done("plan", tiny_folder, "--ratio", "0.2", "--only", "down*", "--only", "mid*", "--override", "mid*=0.6",
         "--override", "down_blocks.0*=0", "--protect", "none", "--seed", 3, "-o", tmp_path / "plan.json")
    recipe = Plan.from_json((tmp_path / "plan.json").read_text()).recipe
    assert recipe.only == ("down*", "mid*")
    assert recipe.overrides == (("down_blocks.0*", 0.0), ("mid*", 0.6))
    assert recipe.protect == ()
    assert recipe.seed == 3


def test_generate(done, tiny_folder, tmp_path, capsys):
    drawn = done("generate", tiny_folder, "--prompt", "a", "--images", 2, "--steps", 2, "--sampler", "euler",
                 "--guidance", 1, "--negative", "b", "--seed", 4, "-o", tmp_path)
    assert drawn["files"] == [str(tmp_path / f"image_{i}.png") for i in range(2)]
    assert drawn["shot"] == Shot("a", "b", 4, 2, 1.0, "euler", 2).to_dict() | {"prompts": ["a"]}
    assert Image.open(drawn["files"][0]).text["prunescope weights"] == drawn["origin"]["weights"]
    assert main(["generate", str(tiny_folder), "--prompt", "a", "--steps", "1", "-o", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "image_0.png" in out
    assert "drawing" in err


@pytest.mark.parametrize(("flags", "words"), [
    (("--ratio", "1.5"), "from 0 up to"),
    (("--ratio", "half"), "a number"),
    (("--method", "magnitude"), "ratio is missing"),
    (("--method", "wishful", "--ratio", "0.5"), "magnitude"),
    (("--method", "random", "--norm", "l2", "--ratio", "0.5"), "no option 'norm'"),
    (("--norm", "l3", "--ratio", "0.5"), "l1, l2"),
    (("--ratio", "0.5", "--units", "atom"), "neuron"),
    (("--ratio", "0.01", "--units", "head"), "25.0%"),
    (("--ratio", "0.3", "--pattern", "2:4"), "0.5"),
    (("--ratio", "0.5", "--component", "unit"), "text_encoder"),
    (("--ratio", "0.5", "--override", "0.5"), "GLOB=RATIO"),
    (("--ratio", "0.5", "--override", "mid*=much"), "a number"),
    (("--ratio", "0.5", "--seed", "x"), "whole number"),
])
def test_requests_that_are_refused(refused, tiny_folder, tmp_path, flags, words):
    assert words in refused("prune", tiny_folder, *flags, "-o", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("argv", "words"), [
    (("inspect", "emoji-sad"), "emoji-sd"),
    (("inspect", "./nowhere"), "no folder"),
    (("inspect", "emoji-clip"), "cannot draw"),
    (("bench", "emoji-sd", "out"), "not part of this version"),
    (("recover", "emoji-sd", "--loss", "tusk", "-o", "x"), "There are task"),
    (("sweep",), "not part of this version"),
    (("generate", "emoji-sd", "-o", "x"), "There is no prompt"),
    (("generate", "emoji-sd", "--prompt", "a", "--steps", "0", "-o", "x"), "1 to 1000"),
    (("prune", "emoji-sd", "--plan", "nowhere.json", "-o", "x"), "nowhere.json: No such file"),
    (("prune", "emoji-sd", "--plan", ".", "-o", "x"), ". is a folder"),
])
def test_commands_that_are_refused(refused, argv, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert words in refused(*argv)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{}", "[1]", "\0\xff", '{"prunescope": 1}'])
def test_a_corrupt_plan(refused, tiny_folder, tmp_path, text):
    (tmp_path / "plan.json").write_bytes(text.encode("latin-1"))
    assert "not a Prunescope plan" in refused("prune", tiny_folder, "--plan", tmp_path / "plan.json",
                                              "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_plans_of_others(refused, tiny_folder, other, halved, tmp_path):
    edited = (halved / "plan.json").read_text().replace('"ratio": 0.5', '"ratio": 0.4')
    (tmp_path / "edited.json").write_text(edited)
    assert "digest" in refused("prune", tiny_folder, "--plan", tmp_path / "edited.json", "-o", tmp_path / "out")
    wider = pipeline()
    wider.unet = unet(block_out_channels=(32, 32, 32, 32))
    wider.save_pretrained(tmp_path / "wider")
    assert "another architecture" in refused("prune", tmp_path / "wider", "--plan", halved / "plan.json",
                                             "-o", tmp_path / "out")
    assert "another architecture" in refused("compare", tmp_path / "wider", halved / "out", "--prompt", "a",
                                             "-o", tmp_path / "out")
    smaller = pruning.load(halved / "out")
    with pytest.raises(pruning.Refused, match="another architecture"):
        pruning.report(wider, smaller, plan_of(smaller))
    assert main(["plan", str(tiny_folder), "--ratio", "0.5", "-o", str(tmp_path / "weights.json")]) == 0
    other.save_pretrained(tmp_path / "other")
    assert "other weights" in refused("prune", tmp_path / "other", "--plan", tmp_path / "weights.json",
                                      "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_outputs_in_the_way(refused, tiny_folder, halved, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    assert "not empty" in refused("prune", tiny_folder, *HALF, "-o", tmp_path / "full")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["note"]
    assert "is a file" in refused("prune", tiny_folder, *HALF, "-o", tmp_path / "full" / "note")
    assert "is a file" in refused("generate", tiny_folder, "--prompt", "a", "-o", tmp_path / "full" / "note")
    assert "is a folder" in refused("plan", tiny_folder, *HALF, "-o", tmp_path / "full")


def test_a_refusal_for_people(capsys, tiny_folder, tmp_path):
    assert main(["plan", str(tiny_folder), "--ratio", "2", "-o", str(tmp_path / "plan.json")]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert "The ratio cannot be 2.0. It is the share to remove" in err


@pytest.mark.parametrize("argv", [
    (), ("prone", "m"), ("inspect",), ("inspect", "m", "--what"), ("plan", "m", "--ratio", "0.5"),
    ("plan", "m", "--rat", "0.5", "-o", "x"), ("prune", "m", "-o", "x"), ("generate", "m"),
    ("prune", "m", "--plan", "p", "--ratio", "0.5", "-o", "x"), ("compare", "m", "--prompt", "a", "-o", "x"),
])
def test_usage(argv, capsys):
    assert usage(*argv) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "usage" in err


def test_help_names_the_knobs(capsys):
    assert usage("plan", "--help") == 0
    out = capsys.readouterr().out
    assert "--norm" in out
    assert "l1, l2" in out


# Folders that are refused.


def pickled(folder):
    for file in folder.rglob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))


def foreign(folder):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"unet": ["my_unet", "MyUNet"]}))


def cut_short(folder):
    (folder / UNET).write_bytes((folder / UNET).read_bytes()[:-10])


def of_another_shape(folder):
    tensors = load_file(folder / UNET)
    save_file(tensors | {"conv_in.weight": torch.zeros(3, 3)}, folder / UNET, {"format": "pt"})


@pytest.mark.parametrize(("spoil", "words"), [
    (pickled, "only pickled weights"), (foreign, "no remote code is run"), (cut_short, "its header promises"),
    (of_another_shape, "does not load"), (lambda folder: (folder / UNET).unlink(), "no safetensors"),
    (lambda folder: (folder / "model_index.json").unlink(), "no model_index.json"),
    (lambda folder: (folder / "unet/config.json").write_text("{"), "is not a JSON object"),
])
def test_folders_that_are_refused(refused, copy, spoil, words):
    spoil(copy)
    assert words in refused("inspect", copy)


def test_bare_models(done, refused, copy):
    assert done("inspect", copy / "unet")["component"] == ""
    assert done("inspect", copy / "text_encoder")["class"] == "CLIPTextModel"
    pickled(copy)
    assert "only pickled weights" in refused("inspect", copy / "unet")
    assert "only pickled weights" in refused("inspect", copy / "text_encoder")
    (copy / "text_encoder" / "config.json").write_text("{}")
    assert "names no class" in refused("inspect", copy / "text_encoder")


def test_a_variant_alone(tiny, copy):
    (copy / UNET).rename(copy / "unet/diffusion_pytorch_model.fp16.safetensors")
    assert all(map(torch.equal, saving.read(copy, None).unet.parameters(), tiny.unet.parameters()))
    bare = saving.read(copy / "unet", None)
    assert all(map(torch.equal, bare.parameters(), tiny.unet.parameters()))


@pytest.mark.parametrize("flags", [HALF, ("--ratio", "0.5"), ("--pattern", "2:4")])
def test_a_pruned_folder_that_lost_something(refused, tiny_folder, tmp_path, flags):
    out = tmp_path / "out"
    assert main(["prune", str(tiny_folder), *flags, "-o", str(out)]) == 0
    assert saving.read(out, torch.bfloat16).unet.dtype == torch.bfloat16  # a coarser type is still zero where it must
    tensors = load_file(out / UNET)
    del tensors["mid_block.resnets.0.conv1.weight"]
    save_file(tensors, out / UNET, {"format": "pt"})
    assert "mid_block.resnets.0.conv1.weight is missing" in refused("inspect", out)
    (out / "plan.json").write_text("{}")
    assert "not a Prunescope plan" in refused("inspect", out)


def test_a_narrow_folder_without_its_plan(refused, halved, tmp_path):
    shutil.copytree(halved / "out", tmp_path / "out")
    (tmp_path / "out" / "plan.json").unlink()
    assert "does not load" in refused("inspect", tmp_path / "out")


# The program itself.


def program(*argv):
    return subprocess.run([sys.executable, "-m", "pruning", *map(str, argv)], capture_output=True, text=True,
                          cwd=Path(__file__).parents[2], env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300)


def test_the_program(tiny_folder, tmp_path):
    ran = program("prune", tiny_folder, *HALF, "-o", tmp_path / "out", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["units"]["gone"] > 0
    assert "scoring" in ran.stderr


def test_the_program_refuses():
    ran = program("inspect", "emoji-sad", "--json")
    assert (ran.returncode, set(json.loads(ran.stdout))) == (1, {"error"})


def test_score_says_what_a_method_thinks_of_every_layer(done, tiny_folder, capsys):
    looked = ("--calibration-source", "generated", "--calibration-samples", "2")
    result = done("score", tiny_folder, "--method", "wanda", "--buckets", "2", *looked)
    assert {len(layer["by_timestep"]) for layer in result["layers"]} == {2}
    assert all(layer["quantiles"] == sorted(layer["quantiles"]) for layer in result["layers"])
    assert done("score", tiny_folder, "--units", "head")["layers"][0]["by_timestep"] is None
    assert main(["score", str(tiny_folder), "--method", "random"]) == 0
    assert "low to high noise" in capsys.readouterr().out


def test_overlap_compares_two_methods(done, tiny_folder, capsys):
    result = done("overlap", tiny_folder, "--method", "magnitude", "--norm", "l2", "--rival", "random", "--ratio", 0.5)
    assert result["agreement"] == pytest.approx(result["chance"], abs=0.05)
    assert sum(layer["one"] for layer in result["layers"]) > 0
    assert done("overlap", tiny_folder, "--rival", "magnitude", "--pattern", "2:4")["agreement"] == 1
    assert usage("overlap", tiny_folder, "--ratio", "0.5") == 2
    assert main(["overlap", str(tiny_folder), "--rival", "random", "--ratio", "0.5"]) == 0
    assert "is the choice of both" in capsys.readouterr().out


def test_a_method_that_listens_to_single_timesteps_says_which(done, tiny_folder, capsys):
    flags = ("--method", "diff-pruning", "--threshold", "0.5", "--every", "250", "--calibration-samples", "1")
    heard = done("score", tiny_folder, *flags)["timesteps"]
    assert (heard["steps"], len(heard["losses"]), heard["threshold"]) == ([0, 250, 500, 750], 4, 0.5)
    assert heard["counts"] == [loss > 0.5 * max(heard["losses"]) for loss in heard["losses"]]
    assert done("score", tiny_folder)["timesteps"] is None
    assert main(["score", str(tiny_folder), *flags]) == 0
    assert f"{sum(heard['counts'])} of 4 timesteps count" in capsys.readouterr().out


def test_channels_go_as_in_diff_pruning(done, tiny_folder, tmp_path):
    made = done("prune", tiny_folder, "--method", "diff-pruning", "--ratio", "0.5", "--every", "250",
                "--calibration-samples", "1", "--multiple", "8", "-o", tmp_path / "out")
    assert {layer["kind"] for layer in made["layers"]} == {"channel", "stream"}
    assert made["macs"]["published"]["pruned"] < made["macs"]["published"]["dense"]
    assert "error" not in made


@pytest.mark.parametrize(("given", "expected"), [
    (("--calibration-seed", "3"), (64, "generated")), (("--calibration-samples", "5"), (5, "generated")),
    (("--calibration-source", "some/folder"), (1024, "some/folder"))])
def test_how_many_samples_a_recovery_is_shown_depends_on_where_they_come_from(tiny, given, expected):
    asked = flags.recovery(parsed(["recover", "in", "-o", "out", *given]), subject(tiny)).calibration
    assert (asked.samples, asked.source) == expected
    assert flags.recovery(parsed(["recover", "in", "-o", "out"]), subject(tiny)).calibration is None
