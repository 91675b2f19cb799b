"""Make the prepared pair of the first paint, with the bundled model on this machine.

python -m assets.make.prepared
"""

import json
from dataclasses import replace
from pathlib import Path

from pruning.types import Shot
from ui import device
from ui.setup import row
from ui.views import drawing, pairs

COMMAND = "python -m assets.make.prepared"
PROMPT = row.EXAMPLES[0]
REQUEST = {"method": "magnitude", "ratio": 0.3, "units": "weight", "component": "unet"}
WHAT = "30 % of the U-Net's weights removed by magnitude"


def main(out: Path = pairs.PREPARED) -> None:
    """Draw the pair and write it down with its figures, the machine and this command."""
    wanted = device.recipe("emoji-sd", **REQUEST)
    *_, drawn = drawing.pair(wanted, Shot(PROMPT, seed=7))
    note = (f"Prepared: {PROMPT}, {WHAT}, drawn on {drawn.machine} by “{COMMAND}”. Press Generate to run it on this "
            "machine.")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(replace(drawn, note=note).to_dict()) + "\n", encoding="utf-8")
    print(f"wrote {out}: {drawn.dense.ms:.1f} and {drawn.pruned.ms:.1f} ms per step")


if __name__ == "__main__":
    main()
