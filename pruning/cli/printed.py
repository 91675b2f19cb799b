"""The command line's results for people: short tables. ``--json`` has the same in full."""

from collections.abc import Mapping, Sequence
from typing import Any

from pruning.cli.flags import counted
from pruning.scores.repeats import said as repeated

Result = dict[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Aligned columns; numbers to the right, with thousands set apart."""
    text = [[f"{cell:,}" if isinstance(cell, int) else str(cell or "") for cell in row] for row in rows]
    width = [max(map(len, column)) for column in zip(head, *text, strict=True)]
    right = [any(isinstance(row[i], int) for row in rows) for i in range(len(head))]
    lines = [[cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, width, right, strict=True)]
             for line in (head, *text)]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def methods(result: Result) -> str:
    """The methods as a table."""
    rows = [(m["name"], m["family"], " ".join(m["units"]), " ".join(f"{k}={v}" for k, v in m["options"].items()),
             m["paper"]) for m in result["methods"]]
    return table(("method", "family", "units", "options", "paper"), rows)


def inspected(result: Result) -> str:
    """The blocks as a table under the totals."""
    size = result["input"]
    macs = "MACs are not counted for this class" if result["macs"] is None else (
        f"{result['macs']:,} MACs at latent {size['latent']}, {size['tokens']} tokens, batch {size['batch']}; "
        f"{result['macs_linear_conv']:,} of them in linear layers and convolutions")
    rows = [(b["name"], b["params"], b["macs"], *(b["units"][kind] for kind in counted()))
            for b in result["blocks"] if b["params"]]
    return (f"{' '.join(filter(None, (result['model'], result['component'], result['class'])))}\n"
            f"{result['params']:,} parameters\n{macs}\n\n"
            + table(("block", "params", "macs", *(f"{kind}s" for kind in counted())), rows))


def scored(result: Result) -> str:
    """Every layer's scores at three ranks, what they come to from little noise to much, against the largest, and how
    far they repeat.
    """
    rows = []
    for layer in result["layers"]:
        profile = layer["by_timestep"] or []
        top = max(profile, default=0) or 1
        rows.append((layer["name"], layer["units"], *(f"{value:.3g}" for value in (
            layer["quantiles"][0], layer["quantiles"][len(layer["quantiles"]) // 2], layer["quantiles"][-1])),
            " ".join(f"{value / top:.0%}" for value in profile),
            "" if layer["repeatability"] is None else f"{layer['repeatability']:.2f}"))
    found = [table(("layer", "units", "lowest", "middle", "highest", "low to high noise", "halves agree"), rows)]
    return "\n\n".join([*found, *filter(None, (repeated(result["repeatability"]), result["timesteps"] and listened(
        result["timesteps"])))])


def listened(heard: Mapping[str, Any]) -> str:
    """The loss at single timesteps, and which of them count."""
    rows = [(step, f"{loss:.4g}", "yes" if counts else "no")
            for step, loss, counts in zip(heard["steps"], heard["losses"], heard["counts"], strict=True)]
    return (f"{sum(heard['counts'])} of {len(rows)} timesteps count: their loss is above {heard['threshold']:g} of the "
            f"largest.\n{table(('timestep', 'loss', 'counts'), rows)}")


def overlapped(result: Result) -> str:
    """The agreement of two methods in all, and layer by layer."""
    rows = [(layer["name"], layer["units"], layer["one"], layer["other"], layer["both"],
             "" if layer["agreement"] is None else f"{layer['agreement']:.1%}") for layer in result["layers"]]
    said = "Neither method removes anything." if result["agreement"] is None else (
        f"Of what either removes, {result['agreement']:.1%} is the choice of both; by chance {result['chance']:.1%}.")
    return table(("layer", "units", result["method"], result["rival"], "both", "agreement"), rows) + f"\n\n{said}"


def report(result: Result) -> str:
    """What was asked for and what came of it, and of the weights that were adjusted."""
    written = result.get("folder") or result.get("plan")
    said = [result[how]["said"] for how in ("adjusted", "recovered") if result[how]]
    return "\n\n".join([_summed(result), *said, *([f"written to {written}"] if written else [])])


def _summed(result: Result) -> str:
    units, rows = result["units"], []
    for name in ("params", "macs", "bytes"):
        row = result[name]
        rows.append((name, row["dense"], row["pruned"], row.get("nonzero")))
        if published := row.get("published"):
            rows.append(("macs as published", published["dense"], published["pruned"], None))
    layers = [(layer["name"], layer["units"], layer["gone"], f"{layer['gone'] / layer['units']:.1%}",
               layer["reason"]) for layer in result["layers"]]
    return (table(("layer", "units", "gone", "share", "why"), layers)
            + f"\n\nasked for {result['requested']['ratio']:.1%} of {result['requested']['of']}; "
            f"gone {units['gone']:,} of {units['total']:,}\n\n" + table(("", "dense", "pruned", "not zero"), rows)
            + f"\n\n{_speed(result['speed'])}")


def _speed(speed: Result) -> str:
    theory = "" if speed["theory"] is None else f"in theory {speed['theory']:.2f} times as fast; "
    return f"{theory}{'' if speed['measured'] else 'not measured yet. '}{speed['why']}"


def recovered(result: Result) -> str:
    """What training did to the error, and where the model is."""
    each = result["seconds"] / result["training"]["steps"]
    return f"{result['said']}\n\n{each:.3g} s a step\n\nwritten to {result['folder']}"


def drawn(result: Result) -> str:
    """The files, the live clock, and what there is to say of the prompt."""
    return "\n".join([*result["files"], f"{result['live_ms_per_step']:.1f} ms a step, taken live", *result["notes"]])


def compared(result: Result) -> str:
    """The report, the verdict, what there is to say of the prompt, the live clock of both, and the files."""
    live = ", ".join(f"{side} {ms:.1f}" for side, ms in result["live_ms_per_step"].items())
    clock = f"ms a step, taken live while both were drawn in turn: {live}"
    return "\n".join([_summed(result), "", result["verdict"], *result["notes"], "", clock, "", *result["files"]])
