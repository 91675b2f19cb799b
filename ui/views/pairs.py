"""A finished pair as the page says and shows it: pictures, verdict, figures, its place in the strip."""

import json
from pathlib import Path

from pruning.network.subject import DENOISERS, LABELS
from pruning.recovery import Recovery
from pruning.reports.verdict import headline, sentence
from pruning.types import Recipe, Shot
from pruning.units.unit import plural
from ui.plots import cards as card_plots
from ui.plots import pair as pair_plots
from ui.plots import speed as speed_plots
from ui.plots.markup import tag, text
from ui.state import History, Pair
from ui.views.drawing import Frame

PREPARED = Path(__file__).resolve().parents[2] / "assets" / "prepared" / "pair.json"


def prepared() -> Pair:
    """The first paint: a pair made beforehand by the repo's own script, labelled as such."""
    return Pair.from_dict(json.loads(PREPARED.read_text(encoding="utf-8")))


def stage(pair: Pair) -> str:
    """A finished pair."""
    return pair_plots.stage(pair.dense, pair.pruned, pair.differences, pair.film, pair.quality["steps"],
                            note=pair.note, described=described(pair.shot), prefers=prefers(pair))


def running(frame: Frame, shot: Shot) -> str:
    """A pair while it is drawn."""
    left = (frame.dense.ms + frame.pruned.ms) / 1000 * (frame.dense.steps - frame.dense.step)
    note = (f"Drawing both in turn, step {frame.dense.step} of {frame.dense.steps}, about {left:.0f} s left."
            if frame.dense.step < frame.dense.steps else "Decoding and comparing both.")
    return pair_plots.running(frame.dense, frame.pruned, note, described(shot))


def described(shot: Shot) -> str:
    """What the pictures should show."""
    return shot.prompts[0] or "no prompt"


def prefers(pair: Pair) -> str:
    """The side that emoji-clip finds nearer to the prompt; nothing when it cannot tell."""
    alignment = pair.quality["alignment"]
    if alignment is None or alignment[0] == alignment[1]:
        return ""
    return "dense" if alignment[0] > alignment[1] else "pruned"


def figures(pair: Pair) -> list[card_plots.Figure]:
    """A finished pair's figures."""
    return list(card_plots.figures(pair.report, pair.quality, (pair.dense.ms, pair.pruned.ms), pair.recipe.component,
                                   "prepared" if pair.note else "live"))


def said(pair: Pair) -> str:
    """A finished pair in a sentence."""
    return headline(pair.report, pair.quality, pair.recipe.component, pair.recipe.pattern)


def told(pair: Pair) -> str:
    """The verdict, and what there is to say of the prompt; screen readers hear it when it changes."""
    verdict = sentence(pair.report, pair.quality, pair.recipe.component, pair.recipe.pattern)
    return tag("p", text(" ".join([verdict, *pair.notes])), role="status")


def strip(history: History) -> str:
    """The pairs of this tab, newest first, one click each."""
    if len(history.pairs) < 2:
        return ""
    rows = [tag("button", f'<img src="{pair.thumb or pair.pruned.pictures[0]}" alt="">',
                tag("span", text(brief(pair.recipe, pair.recovery)), class_="what"),
                tag("span", text(described(pair.shot)), class_="sub"), type="button", data_say=i,
                aria_pressed=str(i == history.at).lower(),
                aria_label=f"Back to {brief(pair.recipe, pair.recovery)}, {described(pair.shot)}, "
                           f"seed {pair.shot.seed}")
            for i, pair in enumerate(history.pairs)]
    return tag("div", tag("span", "Earlier in this tab", class_="lead"), tag("div", *rows, class_="row"),
               class_="history", role="group", aria_label="Pairs drawn in this tab, newest first")


def brief(recipe: Recipe, recovery: Recovery | None = None) -> str:
    """A recipe in a few words, and whether what stays was trained."""
    what = recipe.pattern or f"{plural(recipe.units)} −{recipe.ratio * 100:.0f} %"
    trained = f", fine-tuned {recovery.steps} steps" if recovery else ""
    where = "" if recipe.component in DENOISERS else f", {LABELS.get(recipe.component, '').removeprefix('The ')}"
    return f"{recipe.method}, {what}{', adjusted' if recipe.update else ''}{trained}{where}"


def panel(pair: Pair) -> str:
    """What is known of its speed."""
    return speed_plots.speed(pair.report, pair.recipe.component, brief(pair.recipe, pair.recovery))
