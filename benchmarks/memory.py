"""Whether the server's memory grows with what is drawn: after 200 drawings within 5 % of after 20.

python -m benchmarks.memory
"""

import psutil
from gradio_client import Client

from benchmarks.served import served
from benchmarks.table import publish
from pruning.criteria import METHODS
from pruning.registry import knobs

SHOT = {"negative": "", "seed": 7, "steps": 1, "guidance": 3, "sampler": "ddim", "images": 1}
SETUP = {"component": "unet", "family": "", "inner": "width", "method": "magnitude", "pattern": "2:4", "ratio": 0,
         "spread": "layer", "protect": "conv_in, conv_out, *embed*", "only": "", "seed": 0, "of": "units", "most": 100,
         "update": False, "source": "", "samples": 16, "prompts": "", "timesteps": "", "guidance": 0,
         "seed of samples": 0, **{f"{name} {knob.name}": knob.default for name, part in sorted(METHODS.items())
                                  for knob in knobs(part)}}
PROMPTS = ("red heart on a blue background", "pizza on a teal background", "panda on a red background")
AT = (20, 100, 200)


def main() -> None:
    """Other ratios, families and prompts all the time, as visitors do; one visitor in ten is new."""
    taken: dict[int, float] = {}
    with served() as (url, server):
        process = psutil.Process(server.pid)
        for i in range(1, AT[-1] + 1):
            if i % 10 == 1:
                client = Client(url, verbose=False)
            family, ratio = ("weight", "width", "nm")[i % 3], 10 + i * 7 % 80
            shot = [PROMPTS[i % len(PROMPTS)], *SHOT.values()]
            setup = (SETUP | {"family": family, "ratio": ratio}).values()
            client.predict(*shot, *setup, api_name="/generate")
            if i in AT:
                taken[i] = process.memory_info().rss / 1e6
    rows = [{"drawings": count, "memory, MB": mb, "against 20": mb / taken[AT[0]]} for count, mb in taken.items()]
    publish("memory", "python -m benchmarks.memory", rows)


if __name__ == "__main__":
    main()
