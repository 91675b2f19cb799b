"""Whether the server's memory grows with what visitors do: after 200 drawings within 5 % of after 20.

python -m benchmarks.memory

Drawings, moves of a slider by one visitor, and visitors who come, draw and leave: each with a server of its own.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil

from benchmarks.hostile import events, sound
from benchmarks.served import served
from benchmarks.table import publish

PROMPTS = ("red heart on a blue background", "pizza on a teal background", "panda on a red background")
AT = (20, 100, 200)


class Visitor:
    """A tab: its events, one after the other."""

    def __init__(self, client: httpx.Client, session: str) -> None:
        self.client, self.session = client, session

    def does(self, name: str, **changes: Any) -> None:
        """Send an event with some of its values changed, and take all that is told until it ends."""
        event = events()[name][0]
        body = {"data": sound(event, **changes), "fn_index": event._id, "session_hash": self.session}
        self.client.post("queue/join", json=body).raise_for_status()
        with self.client.stream("GET", "queue/data", params={"session_hash": self.session}) as told:
            for line in told.iter_lines():
                said = json.loads(line[5:]) if line.startswith("data:") else {}
                if said.get("msg") == "process_completed" and not said["success"]:
                    raise RuntimeError(said["output"]["error"])


@contextmanager
def visiting(url: str, session: str) -> Iterator[Visitor]:
    """A visitor while the tab is open."""
    with httpx.Client(base_url=f"{url}/gradio_api/", timeout=120) as client, \
            client.stream("GET", f"heartbeat/{session}"):
        yield Visitor(client, session)


def drawing(visitor: Visitor, i: int) -> None:
    """Another ratio, family and prompt each time, as visitors draw."""
    visitor.does("generate", prompt=PROMPTS[i % 3], steps=1, family=("weight", "width", "nm")[i % 3],
                 ratio=10 + i * 7 % 80)


def moving(visitor: Visitor, i: int) -> None:
    """The slider is let go of somewhere else."""
    visitor.does("refreshed", ratio=10 + i * 7 % 80)


def taken(does: Callable[[Visitor, int], None], stay: int) -> dict[int, float]:
    """Megabytes of the server after so many events; a visitor stays for some of them and leaves."""
    found: dict[int, float] = {}
    with served() as (url, server):
        process = psutil.Process(server.pid)
        for first in range(0, AT[-1], stay):
            with visiting(url, f"visitor {first}") as visitor:
                for i in range(first + 1, first + stay + 1):
                    does(visitor, i)
                    if i in AT:
                        found[i] = process.memory_info().rss / 1e6
                        print(f"{does.__name__} {i}: {found[i]:.0f} MB", flush=True)
    return found


def main() -> None:
    """Each kind of visit; the last two also show what a tab holds that stays, and what one leaves that goes."""
    rows = []
    for what, does, stay in (("drawings, ten a visitor", drawing, 10), ("moves of one visitor's slider", moving, 200),
                             ("visitors who draw once and leave", drawing, 1)):
        found = taken(does, stay)
        rows += [{"what": what, "count": count, "memory, MB": mb, "against 20": mb / found[AT[0]]}
                 for count, mb in found.items()]
    publish("memory", "python -m benchmarks.memory", rows)


if __name__ == "__main__":
    main()
