"""Make the prepared pair of the first paint, with the bundled model on this machine.

python -m assets.make.prepared
"""

import json
from pathlib import Path

from pruning.clock import machine
from pruning.types import Shot
from ui import compare, device

COMMAND = "python -m assets.make.prepared"
PROMPT = compare.EXAMPLES[0]
REQUEST = {"method": "magnitude", "ratio": 0.3, "units": "weight", "component": "unet"}
WHAT = "30 % of the U-Net's weights removed by magnitude"


def main(out: Path = compare.PREPARED) -> None:
    """Draw the pair and write it down with its figures, the machine and this command."""
    wanted = device.recipe("emoji-sd", **REQUEST)
    *_, last = device.pair(wanted, Shot(PROMPT, seed=7))
    out.parent.mkdir(parents=True, exist_ok=True)
    where = machine(device.pipeline("emoji-sd"))
    out.write_text(json.dumps({"prompt": PROMPT, "what": WHAT, "machine": where, "command": COMMAND,
                               "recipe": wanted.to_dict(), **compare.keep(last)}) + "\n", encoding="utf-8")
    print(f"wrote {out}: {last.dense.ms:.1f} and {last.pruned.ms:.1f} ms per step")


if __name__ == "__main__":
    main()
