"""The one plain sentence above the figures: what went, what that did to the pictures, what the clock says, and why.
Where what stays was adjusted, one more says so.

Knows the dictionaries of ``Report`` and ``Quality`` and nothing else, so that it says the same here and later.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pruning.decisions.pattern import parse_pattern
from pruning.network.subject import DENOISERS, LABELS
from pruning.reports.speed import ran_sparse, timed_for
from pruning.timing import intervals
from pruning.units.site import noun
from pruning.units.unit import plural, single

# SSIM has no agreed words. These are read off the first emoji-sd: 16 prompts, magnitude, weights, 2:4, channels, heads
# and neurons at several ratios. From 0.98 on the pair looks equal side by side, and all 16 prompts are still read.
# Down to 0.9 details move (13 to 16 are read); down to 0.7 the subject stays while its shapes fray (9 to 16); at 0.63
# it dissolves (5). A picture that is as good but another scores low, too: the words say how near, not how beautiful.
BANDS = ((0.98, "hardly changes"), (0.9, "keeps"), (0.7, "visibly changes"), (-1.0, "breaks"))
MUCH = 0.01  # of the units; less may go and not move one of the 256 levels that a picture has
TASKS = {"text_encoder": "encoding the prompt", "vae.decoder": "decoding"}  # the others work in each step


def sentence(report: Mapping[str, Any], quality: Mapping[str, Any] | None, component: str = "",
             pattern: str | None = None) -> str:
    """The headline, what is suspicious about it, and what there is to say of weights that were adjusted."""
    found = headline(report, quality, component, pattern) + _suspicious(report, quality)
    adjusted = report.get("adjusted")  # reports of older versions do not have it
    return f"{found} {adjusted['said']}" if adjusted else found


def headline(report: Mapping[str, Any], quality: Mapping[str, Any] | None, component: str = "",
             pattern: str | None = None) -> str:
    """One sentence, and a second for what is not known yet; short enough for a card.

    ``quality`` is None while no pair is drawn with this plan. ``component`` and ``pattern`` are the recipe's: a report
    does not have them.
    """
    if report["fingerprint"]["dense"] == report["fingerprint"]["pruned"]:
        return "Nothing was removed: both sides have the same weights."
    trained = _trained(report)
    removed = "nothing" if trained and not report["units"]["gone"] else _removed(report, component, pattern)
    all_of_it = f"Removing {removed}{trained}{',' if trained else ''}"
    clock = "; ".join(_clock(report, component)) if report["speed"]["measured"] else ""
    if quality is None:
        return (f"{all_of_it} {clock}. The pictures are not drawn yet." if clock else
                f"This plan removes {removed}{trained}; the pictures are not drawn yet. Speed: not measured yet.")
    unread = _unread(quality)
    found = f"{all_of_it} {_picture(quality)}{unread}"
    return f"{found}{',' if unread else ''} and {clock}." if clock else f"{found}. Speed: not measured yet."


def _suspicious(report: Mapping[str, Any], quality: Mapping[str, Any] | None) -> str:
    """That much went and nothing changed: the layers that are left may not be those that draw."""
    units, prints = report["units"], report["fingerprint"]
    unmoved = quality is not None and quality["psnr"] is None and prints["dense"] != prints["pruned"]
    return (" That is suspicious: see that nothing goes on with the dense model (a patch, a cache, compiled code)."
            if unmoved and units["gone"] >= MUCH * units["total"] else "")


def _trained(report: Mapping[str, Any]) -> str:
    """That what stays was trained: the pictures are those of the trained model."""
    recovered = report.get("recovered")  # as adjusted
    return f", fine-tuned for {(n := recovered['steps'])} step{'s' * (n > 1)}" if recovered else ""


def _removed(report: Mapping[str, Any], component: str, pattern: str | None) -> str:
    """What went, and of which component where it is not the denoiser."""
    if pattern:
        n, m = parse_pattern(pattern)
        what = f"{'half' if m == 2 * n else m - n} of each {m} weights ({pattern})"
    else:
        asked = [layer for layer in report["layers"] if layer["requested"]] or report["layers"]
        kinds = dict.fromkeys(plural(layer["kind"]) for layer in asked)
        *others, last = kinds
        named = f"{', '.join(others)} and {last}" if others else last
        what = f"{_percent(report['units']['gone'] / report['units']['total'])} of the {named}"
    label = LABELS.get(component, component)
    return what if component in ("", *DENOISERS) else f"{what} of {label[:1].lower()}{label[1:]}"


def _picture(quality: Mapping[str, Any]) -> str:
    """What became of the pictures: the word of their mean SSIM's band."""
    many = len(quality["ranks"]) > 1
    noun, figure = ("pictures", "mean SSIM") if many else ("picture", "SSIM")
    if quality["psnr"] is None:
        return f"leaves the {noun} exactly as {'they were' if many else 'it was'} ({figure} 1)"
    verb = next(verb for least, verb in BANDS if quality["ssim"] >= least)
    if verb == BANDS[-1][1] and not quality["candidates"]:  # nobody can tell a broken picture from another good one
        return f"makes {'other pictures' if many else 'another picture'} ({figure} {quality['ssim']:.3g})"
    return f"{verb} the {noun} ({figure} {quality['ssim']:.3g})"


def _unread(quality: Mapping[str, Any]) -> str:
    """Whether pictures are no longer read as their prompts that were when dense."""
    lost = sum(places is not None and places[0] == 1 < places[1] for places in quality["ranks"])
    of = f"{lost} of which" if len(quality["ranks"]) > 1 else "which"
    return f", {of} {quality['proxy']} (a proxy) no longer reads as the prompt" if lost else ""


def _clock(report: Mapping[str, Any], component: str) -> Iterator[str]:
    """What the clock says of the part that was pruned, and why it does not say what the arithmetic would."""
    macs, ratio = report["macs"], intervals.found_in(timed_for(report["speed"]["measured"], component))
    faster = intervals.state(ratio) == intervals.FASTER
    yield _saved(ratio, TASKS.get(component, "each step"))
    smaller = report["params"]["pruned"] < report["params"]["dense"]
    alone = macs["dense"] / macs["pruned"] if smaller and macs["dense"] else 1.0  # zeros are still computed with
    if alone > 1 and not intervals.agrees(ratio, alone):
        yield (f"compute alone would make it {_times(alone)} faster" if faster and ratio and ratio[0] > alone else
               f"{_times(alone)}{'' if faster else ' faster'} would be possible if compute alone counted")
    ran = ran_sparse(report["speed"]["measured"], component)
    if ran and ran["used"]:
        yield (f"{ran['used']} of {ran['used'] + ran['lost'] + sum(ran['without'].values())} pruned layers run kernels "
               "that skip zeros")
    elif not smaller or any(single(noun(layer["kind"])) for layer in report["layers"]):
        yield "zeros are stored and multiplied like other numbers"


def _saved(ratio: intervals.Interval | None, task: str) -> str:
    """How much faster or slower, and within what; that there is no difference; or that the runs do not tell."""
    state = intervals.state(ratio)
    if ratio is None or state == intervals.NOISE:
        return f"leaves open whether {task} takes less time here: {intervals.said(ratio)}"
    if state == intervals.SAME:
        return f"makes {intervals.said(ratio)} to how long {task} takes here"
    value, low, high = ratio if state == intervals.FASTER else (1 / ratio[0], 1 / ratio[2], 1 / ratio[1])
    return f"makes {task} {_times(value)} {state} here ({low:.2f} to {high:.2f})"


def _percent(share: float) -> str:
    return "less than 0.1 %" if 0 < share < 0.0005 else f"{share * 100:.1f} %"


def _times(ratio: float) -> str:
    """Three significant digits, without a point at the end."""
    return f"{ratio:#.3g}".rstrip(".") + "×"
