"""What made a result, told again: the script runs, the commands parse, and nothing typed gets out of its quotes."""

import ast
import json
import shlex
import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import pruning
from pruning.__main__ import main, parsed
from pruning.cli import flags
from pruning.errors import Refused
from pruning.planning import request
from pruning.types import Calibration, Recipe, Shot
from ui.replay import CONTROL, command, python, record

HOSTILE = """'; import os; os.remove("x") #\n\\" $(touch owned) `touch owned` $HOME !! {side} %s \\\n\t; touch b #"""
TYPED = st.text(st.characters(codec="utf-8"), max_size=20)
SAYABLE = TYPED.map(lambda text: CONTROL.sub("?", text)).filter(lambda text: text != "--")
RECIPE = Recipe("emoji-sd", "unet", options=(("norm", "l1"),), ratio=0.3)
FULL = Recipe("emoji-sd", "vae.decoder", "magnitude", (("norm", "l2"),), "channel", None, 0.25, spread="global",
              protect=(), only=("up_blocks.*", "mid*"), overrides=(("mid*", 0.5), ("up_blocks.1*", 0.125)))


def requests(pipe):
    """Recipes as the engine makes them, of every kind that the command line and a script can ask for."""
    for keywords in (
            {"ratio": 0.3}, {"ratio": 0.5, "units": "width", "method": "random", "seed": 9}, {"pattern": "2:4"},
            {"ratio": 0.25, "units": "channel", "component": "vae.decoder", "norm": "l2", "spread": "global",
             "protect": (), "only": ("up_blocks.*", "mid*"), "overrides": {"mid*": 0.5, "up_blocks.1*": 0.125}},
            {"ratio": 0.1, "component": "text_encoder", "protect": ("*mlp*",)},
            {"ratio": 0.3, "update": True, "calibration": Calibration(samples=3, source="noise")}):
        yield request.request(pipe, **keywords)


def lines(text):
    """The arguments of each command, as a shell would hand them on."""
    words = shlex.split(text)
    starts = [i for i, word in enumerate(words) if words[i : i + 3] == ["python", "-m", "pruning"]]
    return [words[a + 3 : b] for a, b in zip(starts, [*starts[1:], None], strict=True)]


# Python.


def test_the_script_draws_the_pair_of_the_bundled_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = replace(RECIPE, units="width", ratio=0.5, options=(("norm", "l2"),))
    shot = Shot(HOSTILE, negative="'\"", seed=7, steps=1, images=2)
    space: dict = {}
    exec(python(recipe, shot), space)
    assert space["plan"].recipe == recipe
    assert space["shot"] == shot
    assert ast.literal_eval(capsys.readouterr().out)["requested"] == {"ratio": 0.5, "of": "units"}
    assert {path.name for path in tmp_path.iterdir()} == {f"{side}_{i}.png" for side in ("dense", "pruned")
                                                         for i in (0, 1)}


def test_the_script_asks_for_the_same_recipe(tiny, monkeypatch):
    monkeypatch.setattr(pruning, "load", lambda source: tiny)
    for recipe in requests(tiny):
        space: dict = {}
        exec(python(recipe, Shot()).partition("smaller =")[0], space)
        assert space["plan"].recipe == recipe


def test_the_script_says_what_is_not_as_usual_and_no_more():
    assert "plan = pruning.plan(pipe, method='magnitude', ratio=0.3)\n" in python(RECIPE, Shot("a"))
    assert "shot = pruning.Shot('a')\n" in python(RECIPE, Shot("a"))
    assert "(pipe, method='random', pattern='1:4')" in python(
        replace(RECIPE, method="random", options=(), units="nm", pattern="1:4", ratio=0.75), Shot())
    told = python(replace(FULL, calibration=Calibration(("a",), 4, source="generated")), Shot(("a", "b"), size=64))
    assert "calibration=pruning.Calibration(prompts=('a',), samples=4, source='generated')" in told
    assert "pruning.Shot(('a', 'b'), size=64)" in told
    assert max(map(len, told.splitlines())) < 110
    assert "adjusted" not in told


def test_the_script_says_that_a_plan_does_not_hold_what_was_adjusted(tiny, monkeypatch, capsys):
    shown = Calibration(samples=2, source="noise")
    told = python(replace(RECIPE, options=(), only=("mid*",), update=True, calibration=shown), Shot("a"))
    assert "keep them by pruning.save(smaller, folder)" in told
    monkeypatch.setattr(pruning, "load", lambda source: tiny)
    exec(told.partition("shot =")[0], {})
    assert ast.literal_eval(capsys.readouterr().out)["adjusted"]["layers"] > 0


def strings(source):
    """Every text that a script mentions, and the shape of the script without them."""
    tree = ast.parse(source)
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    said = [node.value for node in found]
    for node in found:
        node.value = ""
    return said, ast.dump(tree)


@given(st.text(max_size=20), st.text(max_size=20), st.text(min_size=1, max_size=20))
@example(HOSTILE, HOSTILE, HOSTILE)
def test_nothing_typed_becomes_code(prompt, model, glob):
    said, shape = strings(python(replace(RECIPE, model=model, only=(glob,)), Shot(prompt, seed=1)))
    assert {prompt, model, glob} <= set(said)
    assert shape == strings(python(replace(RECIPE, model="a", only=("b",)), Shot("c", seed=1)))[1]


# Commands.


def test_the_commands_prune_and_compare(tiny_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = replace(FULL, model=str(tiny_folder))
    shot = Shot("a' b\nc", negative="-x", seed=3, steps=1, guidance=2.5, sampler="euler")
    prune, compare = lines(command(recipe, shot))
    assert main(prune) == 0
    assert main(compare) == 0
    plan = pruning.Plan.from_json(next(tmp_path.glob("out/*/plan.json")).read_text())
    assert plan.recipe == recipe
    assert {path.name for path in tmp_path.glob("out/*-pair/*")} == {"dense_0.png", "pruned_0.png", "difference_0.png",
                                                                    "report.json"}


def test_the_commands_ask_for_the_same_recipe_and_shot(tiny):
    shot = Shot(("red heart", "", "-o x"), "--steps 3", 7, 2, 1.5, "dpm++", 2)
    for recipe in requests(tiny):
        prune, compare = map(parsed, lines(command(recipe, shot)))
        assert (prune.command, prune.model, prune.plan) == ("prune", recipe.model, None)
        assert request.request(tiny, **flags.request(prune)) == recipe
        assert (compare.command, compare.pruned) == ("compare", prune.out)
        assert Shot(**flags.given(compare, flags.DRAW)) == shot


@given(SAYABLE, SAYABLE, SAYABLE.filter(bool))
@example(HOSTILE, HOSTILE, HOSTILE)
@example("--plan", "--plan=x", "-o")
@example("---", "-", "-- --")
def test_nothing_typed_becomes_a_flag(prompt, model, glob):
    recipe, shot = replace(RECIPE, model=model, only=(glob,)), Shot(prompt, negative=model)
    prune, compare = map(parsed, lines(command(recipe, shot)))
    assert (prune.plan, prune.only) == (None, [glob])
    assert prune.model == compare.model == (f"./{model}" if model.startswith("-") else model)
    assert Shot(**flags.given(compare, flags.DRAW)) == shot


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_a_shell_hands_everything_on_as_it_was_typed(tmp_path):
    told = command(replace(RECIPE, model=HOSTILE, only=(HOSTILE, "-*")), Shot((HOSTILE, "!! ~ *"), "-'"))
    script = f"""python() {{ printf '%s\\0' python "$@"; }}\n{told}"""
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == shlex.split(told)
    assert HOSTILE in done.stdout.split("\0")
    assert (done.stderr, list(tmp_path.iterdir())) == ("", [])


def test_what_no_command_can_say_is_refused():
    for recipe, shot, words in ((RECIPE, Shot("a\x1b[201~b"), "take part of it for keys"),
                                (replace(RECIPE, model="a\x00"), Shot(), "for keys"),
                                (RECIPE, Shot("--"), "ends the flags")):
        with pytest.raises(Refused, match=words) as caught:
            command(recipe, shot)
        assert caught.value.remedy == "Take the Python script."
        compile(python(recipe, shot).encode(), "script", "exec")


def test_a_command_says_the_size():
    assert "--size 64" in command(RECIPE, Shot(size=64))


def test_an_option_that_the_method_has_not_is_refused():
    for told in (python, command):
        with pytest.raises(Refused, match="no option"):
            told(replace(RECIPE, options=(("x); import os; (y", 1),)), Shot())


# A record.


def test_a_record_is_stable_and_leads_back():
    report = {"layers": ({"name": "a", "reason": None},), "speed": {"theory": float("inf")}}
    kept = record(FULL, Shot(HOSTILE), report, {"psnr": float("nan"), "ssim": 0.5}, None)
    text = json.dumps(kept, allow_nan=False)
    assert text == json.dumps(record(FULL, Shot(HOSTILE), report, {"psnr": float("nan"), "ssim": 0.5}, None))
    again = json.loads(text)
    assert again == kept
    assert Recipe.from_dict(again["recipe"]) == FULL
    assert Shot(**again["shot"]) == Shot(HOSTILE)
    assert (again["report"]["speed"]["theory"], again["quality"]) == ("Infinity", {"psnr": "NaN", "ssim": 0.5})
    assert again["report"]["layers"] == [{"name": "a", "reason": None}]
    assert again["machine"] is None
    assert set(again["versions"]) == {"prunescope", "torch", "diffusers"}
