"""The evidence for Diff-Pruning: the table and its sentences by hand, and a run on a tiny model that is stopped."""

import json
from argparse import Namespace
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import exact_in_half, same, state
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

import pruning
from assets.make import evidence, evidence_table, tables
from assets.make.cells import METHODS, WAYS, Cell, Settings, Work, made_fresh, upside_down
from assets.make.features import Eyes
from assets.make.yardstick import Yardstick, kept
from pruning.types import Shot

SMALL = Settings(batch=2, between=1, samples=2, sampling=1, errors=12, seen=2, taylor=2)
SEEDS = range(6)
ONE_SHOT = {"diff-pruning": 2, "taylor": 4, "magnitude": 1, "random": 2}  # errors, times those of the dense model


def figures(error, ssim=0.5, **more):
    bins = dict.fromkeys(("error", "error_0", "error_100", "error_400"), error / 100)
    return bins | {"mse": 0.01, "ssim": ssim, "frechet": 0.1, "mmd": 0.001, "recognised": 0.5, "same": 0.25} | more


def cell(method, seed, *looks, ratio=0.3):
    return {"method": method, "ratio": ratio, "seed": seed, "steps": looks[-1]["steps"], "params": 3856374,
            "macs": 574072073, "published": 535485039, "looks": list(looks)}


def results(seeds=SEEDS):
    """Errors in hundredths, where the dense model's is 1; one ratio. Random is as good as ours, seed by seed or not."""
    cells = [cell(method, seed, {"steps": 0, **figures(error * (1 + (0.01 * (seed % 2) if method == "random" else 0)))})
             for method, error in ONE_SHOT.items() for seed in (seeds if method != "magnitude" else [0])]
    dense = {"params": 6886915, "macs": 983875584, "published": 946345600, **figures(1, ssim=1.0),
             "floor": {"frechet": 0.05, "mmd": 0.0, "recognised": 0.95}}
    return {"command": "do it", "machine": "here", "settings": asdict(Settings()),
            "proxy": "emoji-clip", "dense": dense, "cells": cells}


def test_the_table_by_hand():
    rows = {line.split(" | ")[1]: line.strip("| ").split(" | ")[2:] for line in
            evidence_table.table(results()).splitlines() if line.startswith("| ")}
    assert rows["dense"][:4] == ["–", "6.887 M", "0.984 G", "1"]
    assert rows["Diff-Pruning"] == ["6", "3.856 M", "0.574 G", "2", "2", "2", "2", "50 %", "25 %", "0.5", "0.1"]
    assert rows["random"][3] == "2.01 ± 0.011"
    assert rows["magnitude"][0] == "1"
    assert "same shape, new weights" not in rows  # nobody ran it


def test_the_sentences_follow_from_the_numbers():
    said = evidence_table.table(results()).splitlines()[-1]
    assert said == ("- 30 %, one-shot: Diff-Pruning's error is 0.50 of Taylor's (0.50 to 0.50), 2.00 of magnitude's "
                    "(2.00 to 2.00), level with random's (within 2 %).")


def test_few_seeds_cannot_tell():
    said = evidence_table.table(results(range(5))).splitlines()[-1]
    assert "0.50 of Taylor's (5 seeds, too few to tell)" in said


def test_curves_stand_in_a_table_of_their_own():
    found = results()
    found["cells"] += [cell(method, seed, {"steps": 100, **figures(error)}, {"steps": 200, **figures(error / 2)})
                       for method, error in (("diff-pruning", 1.5), ("random", 3)) for seed in SEEDS]
    text = evidence_table.table(found)
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| 30 %")]
    assert [row[1:5] for row in rows[4:]] == [
        ["Diff-Pruning", "6", "100", "1.5"], ["random", "6", "100", "3"],
        ["Diff-Pruning", "6", "200", "0.75"], ["random", "6", "200", "1.5"]]
    assert text.endswith("- 30 %, fine-tuned for 200 steps: Diff-Pruning's error is 0.50 of random's (0.50 to 0.50).")


def test_the_readme_has_the_table_where_its_marks_are(monkeypatch, tmp_path):
    file = tmp_path / "found.json"
    file.write_text(json.dumps(results()))
    monkeypatch.setattr(evidence_table, "RESULTS", file)
    text = tables.filled("before\n<!-- evidence -->\nold\n<!-- /evidence -->\nafter")
    assert text == f"before\n<!-- evidence -->\n{evidence_table.table(results())}\n<!-- /evidence -->\nafter"


class Clerk:
    """Reads a picture by the place of its brightest channel."""

    enough = 0.0

    def fit(self, pictures):
        return torch.from_numpy(pictures.astype(np.float32)).mean((1, 2))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A tiny pipeline of 16 x 16 pixels, and pictures of noise for all that is looked at."""
    torch.manual_seed(0)
    net = UNet2DModel(sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
                      down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                      up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=8)
    pipe = DDPMPipeline(exact_in_half(net), DDPMScheduler())
    pipe.set_progress_bar_config(disable=True)
    folder = tmp_path_factory.mktemp("evidence")
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
    yardstick = Yardstick(pipe, kept(noise, folder / "held"), SMALL.errors, noise[4:], noise[:4], Clerk(), Eyes(),
                          Shot(steps=1), SMALL.samples)
    return Work(pipe, yardstick, kept(noise, folder / "learnt"), folder, SMALL)


def test_cells_keep_their_sizes_and_a_run_goes_on(work, monkeypatch):
    cells, made = [*(Cell(method, 0.5, 0) for method in METHODS if method != "every-1"), Cell("random", 0.5, 0, 2)], []
    once = Work.done
    monkeypatch.setattr(Work, "done", lambda self, cell: made.append(cell) or once(self, cell))
    before = state(work.dense.unet)
    going = evidence.run(work, cells)
    dense, first, second = (next(going) for _ in range(3))
    going.close()  # stopped
    assert made == cells[:2]
    assert (dense["ssim"], dense["same"]) == (1, 1)
    assert dense["floor"].keys() == {"frechet", "mmd", "recognised"}
    rows = list(evidence.run(work, cells))
    assert made == cells
    assert rows[:3] == [dense, first, second]
    by_method = {row["method"]: row for row in rows[1:-1]}
    alike = [row for row in rows[1:] if not WAYS[row["method"]].meets]
    assert {(row["arch"], row["params"], row["macs"]) for row in alike} == {
        (first["arch"], first["params"], first["macs"])}
    for meets in ("params", "macs"):  # within what whole channels allow of so small a network
        assert by_method[f"magnitude-{meets}"][meets] == pytest.approx(first[meets], rel=0.1)
        assert by_method[f"magnitude-{meets}"]["arch"] != first["arch"]
    assert first["params"] < dense["params"]
    assert first["published"] < first["macs"] < dense["macs"]
    errors = {method: row["looks"][0]["error"] for method, row in by_method.items()}
    assert errors.pop("no-gate") == errors["diff-pruning"]  # with random weights no timestep has a small loss
    assert len(set(errors.values())) == len(errors)
    assert [look["steps"] for look in rows[-1]["looks"]] == [1, 2]
    assert len({look["error"] for look in (*by_method["random"]["looks"], *rows[-1]["looks"])}) == 3
    assert same(before, state(work.dense.unet))
    work.file(cells[3]).unlink()
    assert list(evidence.run(work, cells))[4]["looks"] == rows[4]["looks"]
    assert made == [*cells, cells[3]]


def test_errors_stand_by_bins_of_timesteps(work):
    found = work.yardstick.error(work.dense)
    pictures = {0: 1, 100: 4, 400: 7}  # of twelve, at 41, 125, 208 ...
    assert found["error"] == pytest.approx(sum(found[f"error_{low}"] * n for low, n in pictures.items()) / 12)


def test_a_method_that_listens_to_all_timesteps_is_asked_to(work, monkeypatch):
    asked = []
    monkeypatch.setattr(pruning, "score", lambda pipe, method, **rest: asked.append((method, rest["every"])))
    with pytest.raises(AttributeError):
        work.plan(Cell("every-1", 0.5, 5))
    assert asked == [("diff-pruning", 1)]


def test_a_run_takes_few_of_what_takes_long():
    asked = Namespace(seeds=3, random=4, few=1, steps=100, long=300, ratios=(0.3,), at=(0.5,), tuned=("random",),
                      methods=METHODS)
    planned = evidence.planned(asked)
    cells = Counter((cell.method, cell.steps) for cell in planned)
    assert {(cell.ratio, bool(cell.steps)) for cell in planned} == {(0.3, False), (0.5, True)}
    assert cells["diff-pruning", 0] == cells["taylor", 0] == 3
    assert (cells["random", 0], cells["random", 100], cells["random", 300]) == (4, 2, 1)
    assert cells["magnitude", 0] == cells["every-1", 0] == cells["fresh", 0] == 1


def test_other_settings_are_other_cells(work):
    other = Work(work.dense, work.yardstick, work.pictures, work.out, Settings(seen=3))
    assert other.file(None) != work.file(None)
    assert work.file(Cell("random", 0.5, 0)) != work.file(Cell("random", 0.5, 1))


def test_other_sizes_are_refused(work, monkeypatch):
    monkeypatch.setattr(Work, "file", lambda self, cell: work.out / f"wrong-{cell}.json")
    monkeypatch.setattr(Work, "of_dense", lambda self: {})
    monkeypatch.setattr(Work, "done", lambda self, cell: {"arch": cell.method})
    with pytest.raises(ValueError, match="does not have the sizes"):
        list(evidence.run(work, [Cell("taylor", 0.5, 0), Cell("random", 0.5, 0)]))


def test_seeds_see_other_pictures(work):
    seen = [{file.name for file in Path(work.looks(seed, 4).source).iterdir()} for seed in (0, 1, 2)]
    assert all(len(names) == SMALL.seen for names in seen)
    assert seen[0] != seen[1] or seen[1] != seen[2]


def test_upside_down_the_lowest_stay(work):
    scores = work.scores("diff-pruning", 0)
    turned = upside_down(scores)
    for name, values in scores.values.items():
        assert torch.equal(turned.values[name].argsort(), values.argsort(descending=True)) or len(set(
            values.tolist())) < len(values)
        assert (turned.values[name] >= 0).all()


def test_a_fresh_network_leaves_the_others_alone(work):
    pruned = pruning.apply(work.dense, work.plan(Cell("magnitude", 0.5, 0)))
    net = pruned.unet
    before, dense = state(net), state(work.dense.unet)
    made_fresh(pruned, 3)
    assert pruned.unet is not net
    assert same(before, state(net))
    assert same(dense, state(work.dense.unet))
    assert [p.shape for p in pruned.unet.parameters()] == [p.shape for p in net.parameters()]
    assert not any(torch.equal(new, old) for new, old in zip(pruned.unet.parameters(), net.parameters(), strict=True)
                   if new.ndim > 1)


def test_the_estimate_counts_what_is_open(work, monkeypatch):
    cells = [Cell("random", 0.75, seed) for seed in (7, 8)]
    assert work.yardstick.pace() > 0
    monkeypatch.setattr(Yardstick, "pace", lambda self: 2.0)
    each = (SMALL.samples * SMALL.sampling + SMALL.errors) / 8
    assert evidence.estimate(work, cells) == 2 * 2 * each
    work.file(cells[0]).touch()
    assert evidence.estimate(work, cells) == 2 * each
    tuned, looked = Cell("random", 0.75, 9, steps=4), Cell("taylor", 0.75, 9)
    assert evidence.estimate(work, [tuned]) == 2 * (4 * each + 3 * 4 * 2 / 8)
    assert evidence.estimate(work, [looked]) == 2 * (each + 3 * 2)
    work.file(cells[0]).unlink()


def test_the_command_names_what_was_changed():
    assert evidence.command(Settings()) == "python -m assets.make.evidence"
    assert evidence.command(Settings(seen=32, batch=64)) == "python -m assets.make.evidence --batch 64 --seen 32"
    assert evidence.command(Settings(), steps=0, ratios=[0.3, 0.5]) == (
        "python -m assets.make.evidence --steps 0 --ratios 0.3 0.5")
