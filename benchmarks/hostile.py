"""Random calls of every event and address of the page, most of them such as no browser sends.

python -m benchmarks.hostile [--calls 1000] [--seed 0]

Each is answered well or refused in a sentence. An answer is bare when it shows a Python error or a place on the
server, and when it admits a fault of ours, however it is worded.
"""

import argparse
import json
import logging
import os
import random
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from traceback import extract_tb
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import httpx

import app
from benchmarks.table import lines, machine
from ui.door import FAULT

LEFT = 1.5  # seconds after which a visitor goes while work is under way
TOGETHER = 20  # calls of one visitor
BARE = re.compile(r"Traceback|\b[A-Z]\w*(?:Error|Exception)\b|has no attribute|<class '|site-packages|object at 0x|"
                  r"\.py\b.*line \d|list index|unsupported operand|positional argument|NoneType")
REFUSAL = re.compile(r'class="alert"[^>]*>(.*?)</p>', re.DOTALL)
PLACE = str(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

WIDE = "[" * 5000 + "]" * 5000
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3.7, 1e308, float("nan"), float("inf"), -10**30, 10**4000, "", " ", "a", "0.5", "²",
    "\x00", "\ud83d", "a" * 20_000, "a," * 200, "a\n" * 200, "../../etc/passwd", "/etc", "/dev/zero", "file:///etc",
    "<img src=x onerror=alert(1)>", "{0.__class__}", "%s%n", "*", "[!", "**/*", "nm", "head", "layer", "row",
    "sensitivity", "isomorphic", "wanda", "taylor", "diff-pruning", "random", "9:3", "1:4", "vae.decoder",
    "text_encoder", "unet.mid_block", "params", "paper", "16", "euler", "other", "emoji-ddpm", "sd-9", "owner/name",
    [], {}, [[]], [None] * 2000, ["a", 1], {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"__type__": "update", "value": 3}, {"value": 1}, {"": {}})
CLICKS: tuple[Any, ...] = (
    {"site": "conv_in"}, {"site": "nothing"}, {"x": 0.5, "y": 0.5}, {"x": -3, "y": 1e300}, {"said": "pizza"},
    {"said": "0"}, {"said": "-1"}, {"said": "9" * 5000}, {"globs": ["conv_in"], "ratio": 0.5},
    {"globs": ["*"], "ratio": None}, {"globs": ["[!"] * 100, "ratio": 0.1}, {"globs": [None, {}], "ratio": "x"},
    {"globs": "all", "ratio": 2}, {"globs": ["mid*"], "ratio": -7})
PATHS = ("queue/data", "queue/data?session_hash=nobody", "queue/status", "call/generate/nothing", "heartbeat/",
         "file=/etc/passwd", "file=../app.py", "file=", "file=%00", "proxy=http://localhost:1/", "proxy=", "info",
         "openapi.json", "app_id", "token", "user", "startup-events", "theme.css", "upload_progress?upload_id=1",
         "runs", "stream/a/b/c/playlist.m3u8", "stream/a/0/1/segment.aac", "custom_component/a/client/x/index.js",
         "custom_component/0/server/x/../../x", "deep_link", "dev/reload", "vibe-code", "nothing", "%ff", "a" * 5000)
POSTS = ("queue/join", "queue/join", "queue/join", "run/generate", "api/generate", "call/generate", "call/load",
         "call/nothing", "call/v2/generate", "run/", "reset", "cancel", "component_server", "upload", "stream/x",
         "stream/x/close", "process_recording", "vibe-edit", "undo-vibe-edit", "vibe-starter-queries")
BODIES = (b"", b"null", b"[]", b"{", b"3", b'"a"', b"{}", b"\xff\xfe", WIDE.encode(), b'{"data": null}',
          b'{"data": {}}', b'{"data": []}', b'{"data": "x", "fn_index": 0}', b'{"data": [], "fn_index": "x"}',
          b'{"data": [], "fn_index": -1}', b'{"data": [], "fn_index": 1e30}', b'{"data": [], "fn_index": 99999999}',
          b'{"data": [], "fn_index": 0, "session_hash": []}', b'{"data": [], "fn_index": 0, "session_hash": null}',
          b'{"data": [], "fn_index": 0, "trigger_id": "x"}', b'{"data": [], "fn_index": 80, "event_data": 3}',
          b'{"data": [' + WIDE.encode() + b'], "fn_index": 4, "session_hash": "deep"}',
          b'{"session_hash": "a", "fn_index": 0, "event_id": "b"}',
          b'{"data": [' + b"1," * 90_000 + b'1], "fn_index": 4}')
HEADERS: tuple[dict[str, str], ...] = (
    {}, {}, {"content-type": "text/plain"}, {"content-type": "multipart/form-data"}, {"x-gradio-user": "a"},
    {"referer": "x://"}, {"cookie": "a=" + "b" * 4000}, {"x-forwarded-host": "a\tb"}, {"range": "bytes=9-1"})


@dataclass(frozen=True)
class Call:
    """What is sent: an event with its values, or a request to an address."""

    name: str
    path: str
    content: bytes | None = None
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    session: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came back."""

    kind: str  # well, refused or bare
    text: str = ""


def events() -> dict[str, list[Any]]:
    """Every event that has a handler here, by its handler's name."""
    found: dict[str, list[Any]] = {}
    for event in app.demo.fns.values():
        if event.fn is not None and not event.js:
            found.setdefault(re.sub(r"_\d+$", "", str(event.api_name)), []).append(event)
    return found


def sound(event: Any, **changes: Any) -> list[Any]:
    """The values that the page sends with an event before anything is changed, but for those named by element."""
    return [None if block.stateful else changes.get(block.elem_id or "", getattr(block, "value", None))
            for block in event.inputs]


def event_call(draw: random.Random, name: str, event: Any, session: str) -> Call:
    """An event as the page sends it, with something in it that cannot be."""
    data = sound(event)
    for _ in range(draw.choice((0, 1, 1, 1, 2, 5)) if data else 0):
        data[draw.randrange(len(data))] = draw.choice(ODD)
    match draw.randrange(20):
        case 0:
            data = data[: draw.randrange(len(data) + 1)]
        case 1:
            data = [*data, *draw.choices(ODD, k=draw.choice((1, 500)))]
        case 2:
            data = draw.choices(ODD, k=len(data))
    said = draw.choice((*CLICKS, *CLICKS, *ODD)) if draw.random() < 0.8 else None
    body = {"data": data, "fn_index": event._id, "session_hash": session, "event_data": said,
            "trigger_id": draw.choice((None, None, 0, 85, 99999))}
    return Call(name, "queue/join", json.dumps(body).encode(), session=session)


def address_call(draw: random.Random) -> Call:
    """A request to an address of the server."""
    headers = tuple(draw.choice(HEADERS).items())
    if draw.random() < 0.4:
        return Call("addresses", draw.choice(PATHS), None, headers)
    return Call("addresses", draw.choice(POSTS), draw.choice(BODIES), headers or Call.headers)


def calls(number: int, seed: int = 0) -> Iterator[Call]:
    """So many calls: each handler in turn, and every sixth to an address."""
    known = events()
    names = list(known)
    for i in range(number):
        draw = random.Random(f"{seed} {i}")
        if i % 6 == 5:
            yield address_call(draw)
        else:
            name = names[(i - i // 6) % len(names)]
            yield event_call(draw, name, draw.choice(known[name]), f"hostile {seed} {i // TOGETHER}")


def tried(url: str, call: Call) -> Outcome:
    """Send a call and judge its answer."""
    try:
        return sent(url, call)
    except httpx.TransportError as error:
        return Outcome("bare", f"The connection broke: {error!r}")


def sent(url: str, call: Call) -> Outcome:
    """Send a call and read its answer."""
    with httpx.Client(base_url=f"{url.rstrip('/')}/gradio_api/", timeout=60) as client:
        if call.content is None:
            with client.stream("GET", call.path, headers=dict(call.headers)) as told:
                first = next(told.iter_bytes(), b"") if told.status_code == 200 else told.read()
                return judged(told.status_code, first.decode(errors="replace"))
        told = client.post(call.path, content=call.content, headers=dict(call.headers))
        if not call.session or told.status_code != 200:
            return judged(told.status_code, told.text)
        return answered(client, call.session, told.json()["event_id"])


def answered(client: httpx.Client, session: str, event: str) -> Outcome:
    """How an event ends, or that it is under way still when the visitor goes."""
    until = time.monotonic() + LEFT
    with client.stream("GET", "queue/data", params={"session_hash": session}) as told:
        for line in told.iter_lines():
            said = json.loads(line[5:]) if line.startswith("data:") else {}
            if said.get("msg") == "process_completed" and said.get("event_id") == event:
                return ended(said)
            if said.get("msg") == "process_generating" and (fault := faulty(shown(said["output"]))):
                return Outcome("bare", fault)
            if time.monotonic() > until:
                return Outcome("well", "under way")
    return Outcome("bare", "no answer")


def ended(said: dict[str, Any]) -> Outcome:
    """The end of an event: its values, or one sentence."""
    if not said["success"]:
        text = str(said["output"].get("error"))
        return Outcome("bare" if faulty(text) or not text.endswith(".") else "refused", text)
    text = shown(said["output"].get("data"))
    if fault := faulty(text):
        return Outcome("bare", fault)
    refusal = REFUSAL.search(text)
    return Outcome("refused", refusal.group(1)) if refusal else Outcome("well")


def shown(values: Any) -> str:
    """All that a visitor could see of some values, without pictures."""
    return unescape(re.sub(r"data:image/[^\"'\\]+", "", json.dumps(values, ensure_ascii=False)).replace('\\"', '"'))


def faulty(text: str) -> str:
    """Where a text shows a Python error or a place on the server, or admits a fault; nothing where it does not."""
    found = BARE.search(text) or re.search(f"{re.escape(PLACE)}|{re.escape(FAULT.message)}", text)
    return text[max(0, found.start() - 100) : found.end() + 100] if found else ""


def judged(status: int, text: str) -> Outcome:
    """An answer that is not an event's. Gradio tells a refusal with the status of a fault, so the sentence counts."""
    told = re.match(r'\{"error":"([^"]+\.)"', text)
    if (status >= 500 and not told) or (status >= 400 and faulty(text)):
        return Outcome("bare", f"{status} {text[:300]}")
    return Outcome("refused" if status >= 400 else "well", text[:200])


class Faults(logging.Handler):
    """Where the faults that were told to nobody came from."""

    def __init__(self) -> None:
        super().__init__()
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Note the line of ours that a fault came through last."""
        if record.exc_info and record.exc_info[1]:
            error = record.exc_info[1]
            frames = [frame for frame in extract_tb(error.__traceback__) if frame.filename.startswith(PLACE)]
            at = f"{frames[-1].filename.removeprefix(PLACE)}:{frames[-1].lineno}" if frames else ""
            self.last = f"{type(error).__name__}: {str(error)[:200]} {at}"


def main(number: int = 1000, seed: int = 0) -> int:
    """Make the calls; print what came of them by handler, and each distinct fault once."""
    faults = Faults()
    logging.getLogger("prunescope").addHandler(faults)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    _, url, _ = app.demo.launch(prevent_thread_lock=True, server_name="127.0.0.1", server_port=port, quiet=True)
    counts, bare, began = Counter[tuple[str, str]](), dict[str, str](), time.perf_counter()
    for i, call in enumerate(calls(number, seed)):
        faults.last = ""
        found = tried(url, call)
        counts[call.name, found.kind] += 1
        if found.kind == "bare":
            print(f"call {i}: {call.name}: {found.text} {faults.last}", flush=True)
            bare.setdefault(faults.last or found.text[:80],
                            f"call {i}: {call.name} {call.path} {(call.content or b'')[:300]!r}\n    {found.text}")
    app.demo.close()
    kinds = ("well", "refused", "bare")
    names = sorted({name for name, _ in counts})
    rows = [{"event": name, **{kind: counts[name, kind] for kind in kinds}} for name in names]
    total = {"event": "all", **{kind: sum(counts[name, kind] for name in names) for kind in kinds}}
    print(f"hostile ({machine()})\n\n" + "\n".join(lines([*rows, total])))
    print(f"\n{number} calls in {time.perf_counter() - began:.0f} s, seed {seed}; {len(bare)} distinct faults")
    for where, one in bare.items():
        print(f"\n{where}\n    {one}")
    return int(bool(bare))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sys.exit(main(args.calls, args.seed))
