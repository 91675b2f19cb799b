"""What the running page lets in, what it answers to anything else, and what it keeps of a visitor."""

import asyncio
import json
import threading
import time
from dataclasses import replace
from html import unescape
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
from gradio_client import Client
from test_page import SETUP, SHOT, generate

import app
from benchmarks.hostile import sound
from pruning.errors import Refused
from pruning.types import Calibration
from ui import device, door, limits, page
from ui.plots.markup import picture
from ui.setup import row
from ui.state import History
from ui.tabs import importance, masks
from ui.turns import Turns
from ui.views import drawing, pairs

NUMBERS = {api: fn for fn in app.demo.fns.values() if (api := fn.api_name)}


def call(url, name, data, session="a visitor", event=None):
    """What the page answers to a call, as its stream says: (whether it went well, the sentence or the values)."""
    body = {"data": data, "fn_index": NUMBERS[name]._id, "session_hash": session, "event_data": event,
            "trigger_id": None}
    joined = httpx.post(f"{url}gradio_api/queue/join", json=body)
    assert joined.status_code == 200, joined.text
    with httpx.stream("GET", f"{url}gradio_api/queue/data", params={"session_hash": session}, timeout=60) as stream:
        for line in stream.iter_lines():
            said = json.loads(line[5:]) if line.startswith("data:") else {}
            if said.get("msg") == "process_completed":
                return said["success"], said["output"]
    raise AssertionError("nothing came")


def values(name):
    """What the page itself would send to ``generate`` and the like: its states are not sent."""
    given = {"generate": [None, True, *SHOT.values(), "emoji-sd"]}[name]
    own = [*SETUP].index("samples-from")
    return [*given, *[*SETUP.values()][:own], None, *[*SETUP.values()][own:]]


# What comes in.


@pytest.mark.parametrize(("block", "value", "words"), [
    (gr.Slider(0, 9, label="Steps", render=False), "7", "Steps cannot be '7'. It takes a number."),
    (gr.Slider(0, 9, label="Steps", render=False), float("nan"), "cannot be nan"),
    (gr.Slider(0, 9, label="Steps", render=False), True, "It takes a number"),
    (gr.Number(label="Seed", render=False), 1e300, "It takes a number"),
    (gr.Number(label="Seed", render=False), 10 ** 400, "It takes a number"),
    (gr.Number(label="Seed", render=False), float("-inf"), "It takes a number"),
    (gr.Number(label="Seed", render=False), [[]], "It takes a number"),
    (gr.Checkbox(label="Adjust", render=False), "no", "It is on or off"),
    (gr.Radio(["l1", "l2"], label="norm", render=False), "l3", "Choose one of l1, l2"),
    (gr.Radio(["l1", "l2"], label="norm", render=False), {}, "Choose one of l1, l2"),
    (gr.Textbox(label="Prompt", max_length=3, render=False), "four", "It may have 3"),
    (gr.Textbox(label="Prompt", render=False), "\ud83d", "a character that is not one"),
    (gr.HTML(elem_id="method", render=False), {"value": 1}, "It takes text")])
def test_a_value_that_cannot_come_from_its_control_is_refused(block, value, words):
    with pytest.raises(Refused, match=words):
        door.entry(block, value)
    assert door.entry(block, None) is None  # an empty box


def test_an_event_of_our_own_markup_is_checked_like_any_value():
    event = gr.EventData(None, {"site": "conv_in", "x": 0.5})
    assert (door.heard(event, "site"), door.heard(event, "x", float)) == ("conv_in", 0.5)
    for said in ({}, {"site": 3}, {"site": "x" * 20_000}, None, [1]):
        with pytest.raises(Refused):
            door.heard(gr.EventData(None, said), "site")
    with pytest.raises(Refused, match="says nan for x"):
        masks.picked_place(gr.EventData(None, {"x": float("nan"), "y": 0.5}))
    assert masks.picked_place(gr.EventData(None, {"x": 7, "y": -1})) == (1.0, 0.0)


def test_hostile_edits_of_layers_stay_bounded():
    many = [f"layer.{i}" for i in range(limits.OWN + 1)]
    for globs in (many, ["*a"] * (limits.GLOBS[0] + 1), ["x" * (limits.GLOBS[1] + 1)]):
        with pytest.raises(Refused):
            importance.overridden((), gr.EventData(None, {"globs": globs, "ratio": 0.5}))
    with pytest.raises(Refused, match="4,001 layers"):
        importance.overridden(tuple((name, 0.1) for name in many[:-1]), gr.EventData(
            None, {"globs": many[-1:], "ratio": 0.5}))


@pytest.mark.parametrize(("asked", "words"), [
    ({"protect": ["a"] * 65}, "64 at most"), ({"only": ["a" * 201]}, "201 characters"),
    ({"overrides": dict.fromkeys(map(str, range(4001)), 0.1)}, "There can be 4,000"),
    ({"calibration": Calibration(("a",) * 65)}, "65 prompts"),
    ({"calibration": Calibration(("a" * 1001,))}, "1,001 characters"),
    ({"calibration": Calibration(timesteps=tuple(range(65)))}, "65 timesteps"),
    ({"calibration": Calibration(samples=65)}, "65 samples")])
def test_a_request_has_a_largest_size(asked, words):
    with pytest.raises(Refused, match=words):
        device.recipe("emoji-sd", ratio=0.5, **{"method": "wanda"} | asked)


def test_a_prompt_and_a_drawing_have_a_largest_size(monkeypatch):
    with pytest.raises(Refused, match="1,001 characters"):
        row.shot(["a" * 1001, "", 0, 20, 3, "ddim", 1])
    wanted, shot = device.recipe("emoji-sd", ratio=0.5), row.shot(["a", "", 0, 20, 3, "ddim", 4])
    side = device.pipeline("emoji-sd").unet.config.sample_size * device.pipeline("emoji-sd").vae_scale_factor
    monkeypatch.setattr(limits, "PIXELS", 80 * side * side - 1)
    assert drawing.heard(wanted, shot) == shot  # at home one may
    monkeypatch.setattr(device, "PUBLIC", True)
    with pytest.raises(Refused, match="4 × 20 steps"):
        drawing.heard(wanted, shot)
    monkeypatch.setattr(limits, "PIXELS", 80 * side * side)
    assert drawing.heard(wanted, shot) == shot


# What goes out.


@pytest.mark.parametrize(("at", "value", "words"), [
    (1, "yes", "It is on or off"), (2, 5, "It takes text"), (5, "many", "It takes a number"),
    (10, "nonsense", "that can be pruned"), (11, "nonsense", "Family cannot be 'nonsense'"),
    (13, "nonsense", "No method is called 'nonsense'")])
def test_a_hostile_call_is_answered_in_a_sentence(url, at, value, words):
    sent = values("generate")
    sent[at] = value
    fine, told = call(url, "generate", sent)
    sentence = told["error"] if not fine else str(told["data"])
    assert words in unescape(sentence)


def test_too_few_values_are_a_sentence(url):
    assert call(url, "generate", [])[1]["error"].startswith("This event takes ")


@pytest.mark.parametrize(("path", "body", "status", "words"), [
    ("queue/join", {"data": [], "fn_index": 99999, "session_hash": "x"}, 404, "no such event"),
    ("queue/join", {"data": "none", "fn_index": 0, "session_hash": "x"}, 422, "body.data cannot be read"),
    ("call/nothing", {"data": []}, 404, "no such event"),
    ("upload", {}, 404, "takes no files"),
    ("queue/join", {"data": ["x" * limits.BODY], "fn_index": 0}, 413, "may have")])
def test_a_request_that_is_no_call_is_answered_in_a_sentence(url, path, body, status, words):
    answered = httpx.post(f"{url}gradio_api/{path}", json=body)
    assert answered.status_code == status
    assert words in answered.json()["detail"]


@pytest.mark.parametrize("path", ["gradio_api/openapi.json", "gradio_api/info", "config"])
def test_a_host_that_is_no_address_is_answered_in_a_sentence(url, path):
    """Gradio makes addresses of what a proxy says of itself."""
    answered = httpx.get(f"{url}{path}", headers={"x-forwarded-host": "a\tb"})
    assert (answered.status_code, answered.json()["error"]) == (
        400, "The host that this request names is not an address. Open the page by its own address.")


def test_a_body_of_unknown_length_is_cut_off(url):
    sent = httpx.post(f"{url}gradio_api/queue/join", content=(b"x" * 65536 for _ in range(20)), timeout=20)
    assert 400 <= sent.status_code < 500


def test_a_fault_of_ours_is_in_the_log_and_not_in_the_answer(url, monkeypatch, caplog):
    def broken(*_):
        raise KeyError("/secret/path")

    monkeypatch.setattr(drawing, "pair", broken)
    fine, told = call(url, "generate", values("generate"))
    assert (fine, told["error"]) == (False, str(door.FAULT))
    assert any("/secret/path" in str(record.exc_info) for record in caplog.records)


def test_no_answer_names_a_place_on_the_server(url):
    config = httpx.get(f"{url}config").text + httpx.get(f"{url}gradio_api/info").text + httpx.get(url).text
    for place in (str(page.__file__).rpartition("/ui/")[0], "site-packages", "/tmp/gradio"):
        assert place not in config
    for there in ("/etc/passwd", "app.py"):
        assert "root:" not in (told := httpx.get(f"{url}gradio_api/file={there}")).text
        assert told.status_code >= 400


def test_an_update_shows_nothing_of_the_server(url):
    event = next(event for event in app.demo.fns.values() if event.api_name == "refreshed")
    fine, told = call(url, "refreshed", sound(event))
    assert fine
    assert any(isinstance(value, dict) and value.get("props", {}).get("table") for value in told["data"])
    assert " at 0x" not in json.dumps(told)


# What is kept.


def test_values_after_updates_do_not_pile_up(url):
    client = Client(url, verbose=False)
    sizes = []
    for ratio in (10, 20, 30):
        generate(client, {"steps": 1}, ratio=ratio)
        kept = app.demo.state_holder.session_data[client.session_hash]
        sizes.append((len(kept.config_values), len(kept.blocks_config.blocks)))
    assert sizes[0] == sizes[1] == sizes[2] == (len(app.demo.blocks),) * 2


def test_a_tab_that_left_leaves_nothing(url):
    client = Client(url, verbose=False)
    generate(client, {"steps": 1})
    session = client.session_hash
    assert session in app.demo.state_holder.session_data
    client.close()
    kept = (app.demo.state_holder.session_data, app.demo.state_holder.time_last_used,
            app.demo._queue.pending_messages_per_session, app.demo._queue.pending_event_ids_session)
    until = time.monotonic() + 40
    while any(session in one for one in kept) and time.monotonic() < until:
        time.sleep(0.2)
    assert [session in one for one in kept] == [False] * 4


def test_a_call_without_a_tab_leaves_nothing(url):
    before = len(app.demo.state_holder.session_data)
    sent = [value for value, block in zip(values("generate"), NUMBERS["generate"].inputs, strict=True)
            if not block.skip_api]
    event = httpx.post(f"{url}gradio_api/call/generate", json={"data": sent}).json()["event_id"]
    httpx.get(f"{url}gradio_api/call/generate/{event}", timeout=60)
    assert event not in app.demo.state_holder.session_data
    assert len(app.demo.state_holder.session_data) == before


class Endless:
    """A drawing that goes on until it is closed, or for 40 s."""

    def __init__(self):
        self.begun, self.closed = threading.Event(), threading.Event()

    def __call__(self, *_):
        self.begun.set()
        try:
            for _ in range(400):
                time.sleep(0.1)
                yield device.Looked(1, 2)
        finally:
            self.closed.set()


def test_work_stops_when_its_client_has_gone(url, monkeypatch):
    endless = Endless()
    monkeypatch.setattr(drawing, "pair", endless)
    body = {"data": values("generate"), "fn_index": NUMBERS["generate"]._id, "session_hash": "gone"}
    httpx.post(f"{url}gradio_api/queue/join", json=body)
    with httpx.stream("GET", f"{url}gradio_api/queue/data", params={"session_hash": "gone"}, timeout=60) as stream:
        assert endless.begun.wait(20)
        next(stream.iter_lines())
    assert endless.closed.wait(15)


def test_work_that_nobody_ever_listened_to_stops(url, monkeypatch):
    endless = Endless()
    monkeypatch.setattr(drawing, "pair", endless)
    monkeypatch.setattr(door, "UNHEARD", 4)
    monkeypatch.setattr(door, "PATIENCE", 1)
    body = {"data": values("generate"), "fn_index": NUMBERS["generate"]._id, "session_hash": "silent"}
    httpx.post(f"{url}gradio_api/queue/join", json=body)
    assert endless.begun.wait(20)
    assert endless.closed.wait(15)


def test_a_slow_client_is_waited_for():
    """Work goes on as soon as something was taken."""
    messages = asyncio.Queue()
    for _ in range(door.UNHEARD):
        messages.put_nowait("")
    served = SimpleNamespace(_queue=SimpleNamespace(pending_messages_per_session={"slow": messages}))

    async def taken():
        await asyncio.sleep(0.3)
        messages.get_nowait()

    async def both():
        await asyncio.gather(taken(), door.Door._listened(served, "slow"))

    asyncio.run(both())


def test_a_history_is_bounded_in_bytes_and_its_strip_is_small():
    first = pairs.prepared()
    *_, drawn = drawing.pair(device.recipe("emoji-sd", ratio=0.5), row.shot(["pizza", "", 0, 1, 3, "ddim", 1]))
    assert picture(drawn.thumb).size == (96, 96)
    assert drawn.thumb in pairs.strip(History((drawn, first)))
    assert drawn.pruned.pictures[0] not in pairs.strip(History((drawn, first)))
    huge = replace(drawn, differences=("x" * (3 << 20),))
    assert len(History((huge,)).added(replace(huge, note="a")).pairs) == 1  # the newest stays
    assert len(History((drawn,)).added(huge).pairs) == 2


# Taking turns.


def test_turns_are_taken_in_the_order_of_asking():
    lock, order = Turns(), []

    def visit(name):
        with lock:
            order.append(name)

    with lock, lock:  # the holder may take it again
        visitors = []
        for name in "abc":
            visitors.append(threading.Thread(target=visit, args=(name,)))
            visitors[-1].start()
            while len(lock._waiting) < len(visitors):
                time.sleep(0.001)
    for visitor in visitors:
        visitor.join()
    assert order == ["a", "b", "c"]
    assert lock.acquire(timeout=0.01)
    lock.release()


def test_who_waits_gets_in_between_the_steps_of_long_work():
    lock, stop, steps = Turns(), threading.Event(), []

    def long():
        while not stop.is_set():
            with lock:
                steps.append(time.sleep(0.005))

    worker = threading.Thread(target=long)
    worker.start()
    while not steps:
        time.sleep(0.001)
    waited = []
    for _ in range(20):
        before = len(steps)
        with lock:
            waited.append(len(steps) - before)
    stop.set()
    worker.join()
    assert max(waited) <= 2  # the step under way, and none or one more


def test_one_who_gives_up_waiting_is_passed_over():
    lock, got = Turns(), []
    with lock:
        visitor = threading.Thread(target=lambda: got.append(lock.acquire(timeout=0.01)))
        visitor.start()
        visitor.join()
    assert got == [False]
    with lock:
        pass
    with pytest.raises(RuntimeError):
        lock.release()


def test_looking_has_a_queue_of_its_own():
    """Long looks of one visitor hold nobody's drawing: they take turns, step by step."""
    names = {name: NUMBERS[name].concurrency_id for name in ("suggest", "agreement", "generate", "measure")}
    assert names["suggest"] == names["agreement"] != names["generate"] == names["measure"]
