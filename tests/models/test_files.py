"""Where results go: whole or not at all, over nothing that is not ours, and no leftovers of a killed writer."""

import errno
import fcntl
import json
import os
import resource
import signal
import time
from contextlib import contextmanager

import pytest
import torch
from conftest import same, state
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file, save_file

import pruning
from pruning.__main__ import main
from pruning.models import files, outputs, planfile
from pruning.recovery import Training
from pruning.types import Calibration

NOISE = Calibration(samples=2, source="noise")


def tree(folder):
    """Every name below a folder with its bytes; None for a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
            for path in sorted(folder.rglob("*"))}


@contextmanager
def no_room(size=4096):
    """Files may not grow beyond some bytes, so that writing fails on the way, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def masked(tiny):
    """A plan with masks of its own, and another one."""
    return [pruning.plan(tiny, "wanda", ratio, calibration=NOISE, only=("mid_block*",)) for ratio in (0.5, 0.25)]


# Writing.


def test_a_file_takes_its_place_when_it_is_complete(tmp_path):
    file = tmp_path / "new" / "file"
    with files.replacing(file) as part:
        part.write_text("one")
        assert not file.exists()
    with files.replacing(file) as part:
        part.write_text("two")
        assert file.read_text() == "one"
    assert tree(tmp_path) == {"new": None, "new/file": b"two"}


def test_a_file_keeps_its_permissions_and_a_link_stays_one(tmp_path):
    (tmp_path / "file").write_text("one")
    (tmp_path / "file").chmod(0o600)
    (tmp_path / "link").symlink_to("file")
    with files.replacing(tmp_path / "link") as part:
        part.write_text("two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "two"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_after_an_error_all_is_as_it_was(tmp_path, error):
    (tmp_path / "file").write_text("one")
    before = tree(tmp_path)

    def stopped(writing, write):
        with writing as part:
            write(part)
            raise error

    for writing, write in (
            (files.replacing(tmp_path / "file"), lambda part: part.write_text("half")),
            (files.replacing(tmp_path / "new" / "deep" / "file"), lambda part: part.write_text("half")),
            (files.filling(tmp_path / "folder", outputs.empty), lambda part: (part / "a").write_text("half"))):
        with pytest.raises(error):
            stopped(writing, write)
    assert tree(tmp_path) == before


def test_no_room_leaves_the_old_file(tmp_path):
    (tmp_path / "file").write_text("one")
    for write in (lambda part: part.write_bytes(bytes(9000)),
                  lambda part: save_file({"a": torch.zeros(9000)}, part)):
        with no_room(), pytest.raises(pruning.Refused, match=r"not become as large as .*/file; nothing was written"), \
                files.replacing(tmp_path / "file") as part:
            write(part)
    assert tree(tmp_path) == {"file": b"one"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told(tmp_path, number):
    with pytest.raises(pruning.Refused, match=r"disk is full; nothing was written to .*/file\. Free some space"), \
            files.replacing(tmp_path / "file") as part:
        raise OSError(number, "full", str(part))
    assert not tree(tmp_path)


def test_an_empty_folder_is_filled_where_it_is(tmp_path):
    """It may be a mounted disk or a link: it stays that, and keeps its permissions."""
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    (tmp_path / "link").symlink_to("disk")
    (tmp_path / "disk").chmod(0o700)
    inode = (tmp_path / "disk").stat().st_ino
    with files.filling(tmp_path / "link", outputs.empty) as part:
        (part / "config.json").write_text("{}")
        (part / "unet").mkdir()
    assert tree(tmp_path / "disk") == {"config.json": b"{}", "unet": None, "lost+found": None}
    assert (tmp_path / "disk").stat().st_ino == inode
    assert (tmp_path / "disk").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "link").is_symlink()


def test_a_link_that_leads_to_nothing_yet_is_followed(tmp_path):
    (tmp_path / "link").symlink_to("far/folder")
    with files.filling(tmp_path / "link", outputs.empty) as part:
        (part / "note").write_text("a")
    assert (tmp_path / "far" / "folder" / "note").read_text() == "a"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("there", [True, False])
def test_what_came_into_a_folder_meanwhile_stays(tmp_path, there):
    out = tmp_path / "out"
    if there:
        out.mkdir()


    def late():
        with files.filling(out, outputs.empty) as part:
            (part / "config.json").write_text("{}")
            out.mkdir(exist_ok=True)
            (out / "note").write_text("mine")

    with pytest.raises(pruning.Refused, match="not empty"):
        late()
    assert tree(tmp_path) == {"out": None, "out/note": b"mine"}


def test_a_model_takes_the_place_of_another_or_leaves_it(tmp_path, monkeypatch):
    out = tmp_path / "out"
    (out / "old").mkdir(parents=True)
    (out / "config.json").write_text("old")
    before, move = tree(out), os.replace

    def fails_at_last(source, goal):
        if "new" in str(goal):
            raise OSError(errno.EIO, "Input/output error", str(source))
        move(source, goal)

    for fails in (True, False):
        with monkeypatch.context() as patch:
            if fails:
                patch.setattr(os, "replace", fails_at_last)
            try:
                with files.filling(out, outputs.is_model, over=True) as part:
                    (part / "config.json").write_text("other")
                    (part / "new").write_text("new")
            except OSError:
                assert fails
        assert tree(out) == (before if fails else {"config.json": b"other", "new": b"new"})


# Leftovers.


def test_leftovers_of_killed_writers_go_and_work_under_way_stays(tmp_path):
    for name in (".saving-abcd1234", ".saving-_2345678"):  # as versions before wrote them, too
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("half")
    for name in (".saving-file0000", ".saving-notours-at-all", "saving-abcd1234"):
        (tmp_path / name).write_text("")
    with files.filling(tmp_path / "slow", outputs.empty) as slow:
        (slow / "config.json").write_text("slow")
        with files.replacing(tmp_path / "quick") as part:
            part.write_text("quick")
        assert slow.is_dir()
    assert set(tree(tmp_path)) == {"slow", "slow/config.json", "quick", ".saving-notours-at-all", "saving-abcd1234"}


def test_leftovers_stay_where_there_are_no_locks(tmp_path, monkeypatch):
    """Nobody can tell there who is still writing."""
    def none(*how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    (tmp_path / ".saving-abcd1234").mkdir()
    with files.replacing(tmp_path / "file") as part:
        part.write_text("a")
    assert set(tree(tmp_path)) == {"file", ".saving-abcd1234"}


@pytest.mark.filterwarnings("ignore:.*fork")
def test_after_kill_9_the_next_save_cleans_up(tmp_path):
    child = os.fork()
    if not child:
        with files.filling(tmp_path / "out", outputs.empty) as part:
            (part / "half").write_text("half")
            (tmp_path / "begun").touch()
            time.sleep(60)
        os._exit(0)
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    with files.replacing(tmp_path / "first") as part:
        part.touch()
    assert len(list(tmp_path.glob(".saving-*"))) == 1  # of the one that still writes
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with files.replacing(tmp_path / "second") as part:
        part.touch()
    assert set(tree(tmp_path)) == {"begun", "first", "second"}


# Whether something can be written, before the work begins.


def test_a_trial_leaves_nothing(tmp_path):
    for path in (tmp_path, tmp_path / "file", tmp_path / "new" / "deep"):
        assert files.rehearsed(path) == path
    assert not tree(tmp_path)


@pytest.mark.parametrize(("path", "words"), [
    ("file/under", "file is a file"), ("/proc/prunescope/out", "cannot be written"), ("n" * 300, "name too long"),
    ("new/" + "n" * 300, "name too long"), ("circle", "leads nowhere"), ("", "has no name")])
def test_what_cannot_be_written_is_told(tmp_path, monkeypatch, path, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "circle").symlink_to("circle")
    before = tree(tmp_path)
    with pytest.raises(pruning.Refused, match=f"(?i){words}"):
        files.rehearsed(path)
    assert tree(tmp_path) == before


# What may be replaced.


def picture(file, **notes):
    text = PngInfo()
    for name, value in notes.items():
        text.add_text(f"prunescope {name}", value)
    Image.new("RGB", (2, 2)).save(file, pnginfo=text)


def test_ours_is_what_prunescope_wrote(tmp_path, tiny, masked):
    report = pruning.report(tiny, pruning.apply(tiny, masked[0]), masked[0]).to_dict()
    (tmp_path / "plan.json").write_text(masked[0].to_json("m.safetensors"))
    (tmp_path / "old.json").write_text(masked[0].to_json())
    (tmp_path / "report.json").write_text(json.dumps(report, indent=1))
    picture(tmp_path / "own.png", params="3", weights="abc")
    picture(tmp_path / "difference.png", picture="difference")
    for name in ("plan.json", "old.json", "report.json", "own.png", "difference.png"):
        assert outputs.free(tmp_path / name) == tmp_path / name
    picture(tmp_path / "holiday.png")
    (tmp_path / "notes.json").write_text('{"note": "prunescope"}')
    (tmp_path / "empty").write_text("")
    for name in ("holiday.png", "notes.json", "empty"):
        with pytest.raises(pruning.Refused, match=rf"{name} exists, and Prunescope did not write it.*--force"):
            outputs.free(tmp_path / name)
        assert outputs.free(tmp_path / name, force=True) == tmp_path / name


@pytest.mark.parametrize("force", [True, False])
def test_folders_pipes_and_models_are_never_files(tmp_path, force):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "model_index.json").write_text("{}")
    for path, words in ((tmp_path, "is a folder"), (tmp_path / "pipe", "a device"), (f"{tmp_path}/x/", "a folder"),
                        ("/dev/null", "a device"), (tmp_path / "plan.json", "has its own plan")):
        with pytest.raises(pruning.Refused, match=words):
            outputs.plan(path, force)


def test_a_model_may_go_to_an_empty_folder_or_with_force_over_a_model(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    for force in (True, False):
        for name in ("empty", "new"):
            assert outputs.model(tmp_path / name, force) == tmp_path / name
        with pytest.raises(pruning.Refused, match="not empty"):
            outputs.model(tmp_path / "full", force)
        with pytest.raises(pruning.Refused, match="is a file"):
            outputs.model(tmp_path / "full" / "note", force)
        with pytest.raises(pruning.Refused, match="the model that is read"):
            outputs.model(tmp_path / "model", force, ["emoji-sd", str(tmp_path / "x" / ".." / "model")])
    with pytest.raises(pruning.Refused, match="not empty"):
        outputs.model(tmp_path / "model")
    assert outputs.model(tmp_path / "model", force=True) == tmp_path / "model"


# Plans with masks.


def test_masks_beside_a_plan_replace_nothing(tiny, masked, tmp_path):
    (tmp_path / "plan.safetensors").write_text("mine")
    planfile.keep(masked[0], tmp_path / "plan.json")
    beside = f"plan.{masked[0].digest[:8]}.safetensors"
    assert set(tree(tmp_path)) == {"plan.safetensors", "plan.json", beside}
    assert (tmp_path / "plan.safetensors").read_text() == "mine"
    assert same(state(pruning.apply(tiny, planfile.read(tmp_path / "plan.json"))),
                state(pruning.apply(tiny, masked[0])))


def test_a_plan_over_another_takes_its_masks_away(tiny, masked, tmp_path):
    first, second = masked
    file, names = tmp_path / "plan.json", [f"plan.{plan.digest[:8]}.safetensors" for plan in masked]
    planfile.keep(first, file)
    planfile.keep(first, file)  # the same once more
    assert set(tree(tmp_path)) == {"plan.json", names[0]}
    planfile.keep(second, file)
    assert set(tree(tmp_path)) == {"plan.json", names[1]}
    (tmp_path / "copy").write_bytes(file.read_bytes())
    planfile.keep(pruning.plan(tiny, ratio=0.5), file)
    assert set(tree(tmp_path)) == {"plan.json", "copy", names[1]}  # the copy needs them
    assert planfile.read(tmp_path / "copy").tensors.keys() == second.tensors.keys()
    assert planfile.read(file).tensors == {}


def test_a_plan_that_was_moved_finds_its_masks(masked, tmp_path):
    planfile.keep(masked[0], tmp_path / "plan.json")
    (tmp_path / "plan.json").rename(tmp_path / "mine.json")
    assert planfile.read(tmp_path / "mine.json").tensors.keys() == masked[0].tensors.keys()
    (masks,) = tmp_path.glob("*.safetensors")
    masks.rename(tmp_path / "mine.safetensors")
    assert planfile.read(tmp_path / "mine.json").tensors.keys() == masked[0].tensors.keys()


def test_older_plans_have_masks_of_their_own_name(masked, tmp_path):
    (tmp_path / "old.json").write_text(masked[0].to_json())
    save_file(masked[0].tensors, tmp_path / "old.safetensors")
    assert same(planfile.read(tmp_path / "old.json").tensors, masked[0].tensors)


def test_a_plan_without_masks_opens_no_file_beside_it(tiny, tmp_path):
    plan = pruning.plan(tiny, ratio=0.5)
    planfile.keep(plan, tmp_path / "plan.json")
    (tmp_path / "plan.safetensors").write_text("not whole")
    assert planfile.read(tmp_path / "plan.json") == plan


def test_names_in_a_plan_lead_nowhere_else(masked, tmp_path):
    (tmp_path / "in").mkdir()
    save_file(masked[0].tensors, tmp_path / "far.safetensors")
    for name in ("../far.safetensors", str(tmp_path / "far.safetensors"), "", "\0", "\ud800"):
        (tmp_path / "in" / "plan.json").write_text(masked[0].to_json(name))
        assert planfile.read(tmp_path / "in" / "plan.json").tensors == {}
    (tmp_path / "in" / "plan.json").write_text(masked[0].to_json("name").replace('"name"', '"\\x"'))
    with pytest.raises(pruning.Refused, match="not a Prunescope plan"):
        planfile.read(tmp_path / "in" / "plan.json")


def test_a_file_in_the_place_of_masks_stays(masked, tmp_path):
    planfile.keep(masked[1], tmp_path / "plan.json")
    mine = tmp_path / f"plan.{masked[0].digest[:8]}.safetensors"
    mine.write_text("mine")
    before = tree(tmp_path)
    for force in (True, False):
        with pytest.raises(pruning.Refused, match=r"exists, and is not of this plan"):
            planfile.keep(masked[0], tmp_path / "plan.json", force)
    assert tree(tmp_path) == before


def test_no_room_leaves_the_plan_that_was_there(masked, tmp_path):
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"prunescope": 1}))
    with no_room(), pytest.raises(pruning.Refused, match="nothing was written"):
        planfile.keep(masked[0], file)
    assert tree(tmp_path) == {"plan.json": b'{"prunescope": 1}'}


# The commands.


def refused(capsys, *argv):
    assert main([*map(str, argv), "--json"]) == 1
    return json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_plan_ruins_no_file_and_no_model(tiny_folder, tmp_path, capsys):
    half, model = ("--ratio", "0.5"), tmp_path / "model"
    (tmp_path / "mine.json").write_text("mine")
    assert main(["prune", str(tiny_folder), *half, "-o", str(model)]) == 0
    (tmp_path / "link.json").symlink_to(model / "plan.json")
    capsys.readouterr()
    before = tree(tmp_path)
    for force in ((), ("--force",)):
        for out in (model / "plan.json", tmp_path / "link.json"):
            assert "has its own plan" in refused(capsys, "plan", tiny_folder, *half, "-o", out, *force)
    assert "did not write it" in refused(capsys, "plan", tiny_folder, *half, "-o", tmp_path / "mine.json")
    assert tree(tmp_path) == before
    assert main(["plan", str(tiny_folder), *half, "-o", str(tmp_path / "mine.json"), "--force"]) == 0
    assert main(["plan", str(tiny_folder), *half, "-o", str(tmp_path / "mine.json")]) == 0  # ours by now
    assert planfile.read(tmp_path / "mine.json").recipe.ratio == 0.5


def test_prune_takes_the_place_of_a_model_with_force_alone(tiny_folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["prune", str(tiny_folder), "--ratio", "0.5", "-o", str(out)]) == 0
    capsys.readouterr()
    before = tree(out)
    assert "not empty" in refused(capsys, "prune", tiny_folder, "--ratio", "0.2", "-o", out)
    assert "the model that is read" in refused(capsys, "prune", out, "--ratio", "0.6", "-o", out, "--force")
    assert tree(out) == before
    assert main(["prune", str(tiny_folder), "--ratio", "0.2", "-o", str(out), "--force"]) == 0
    assert pruning.load(out) is not None
    assert planfile.inside(out).recipe.ratio == 0.2


def test_pictures_replace_no_picture_of_others(tiny_folder, tmp_path, capsys):
    argv = ["generate", str(tiny_folder), "--prompt", "a", "--steps", "1", "-o", str(tmp_path)]
    picture(tmp_path / "image_0.png")
    before = tree(tmp_path)
    assert "did not write it" in refused(capsys, *argv)
    assert tree(tmp_path) == before
    assert main([*argv, "--force"]) == 0
    assert main(argv) == 0  # ours by now
    assert set(tree(tmp_path)) == {"image_0.png"}


@pytest.mark.parametrize("flags", [("--sampler", "slow"), ("--steps", "0"), ("--guidance", "x")])
@pytest.mark.parametrize("command", ["generate", "compare"])
def test_pictures_that_cannot_be_drawn_leave_no_folder(tiny_folder, tmp_path, capsys, command, flags):
    models = [tiny_folder] * (2 if command == "compare" else 1)
    refused(capsys, command, *models, "--prompt", "a", *flags, "-o", tmp_path / "new" / "out")
    assert not tree(tmp_path)


@pytest.mark.parametrize("argv", [("plan", "--ratio", "0.5"), ("prune", "--ratio", "0.5"),
                                  ("generate", "--prompt", "a"), ("compare", "m", "--prompt", "a"), ("recover",)])
def test_where_it_goes_is_tried_before_a_model_is_loaded(argv, capsys, monkeypatch):
    monkeypatch.setattr(pruning, "load", None)
    command, *flags = argv
    assert "/proc/prunescope/out cannot be written" in refused(capsys, command, "m", *flags, "-o",
                                                               "/proc/prunescope/out")


def test_a_state_that_cannot_be_written_is_told_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pruning, "load", None)
    (tmp_path / "file").write_text("mine")
    out = str(tmp_path / "out")
    assert "cannot be written" in refused(capsys, "recover", "m", "-o", out, "--state", "/proc/prunescope/state")
    assert "no state of a recovery" in refused(capsys, "recover", "m", "-o", out, "--state", tmp_path / "file")
    assert "folder that the model goes to" in refused(capsys, "recover", "m", "-o", out, "--state", f"{out}/state")
    assert tree(tmp_path) == {"file": b"mine"}


def test_a_state_on_a_disk_without_room_stays_as_it_was(tmp_path):
    training = Training(step=1, weights={"a": torch.ones(10)})
    training.write(tmp_path / "state")
    before = tree(tmp_path)
    training.weights["a"] = torch.ones(9000)
    with no_room(9000), pytest.raises(pruning.Refused, match="nothing was written"):
        training.write(tmp_path / "state")
    assert tree(tmp_path) == before
    assert load_file(tmp_path / "state")["weights a"].tolist() == [1.0] * 10
