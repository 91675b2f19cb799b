"""Calls that no browser sends, to every event and many addresses of the running page: see ``benchmarks.hostile``."""

import json

import pytest

from benchmarks import hostile
from ui.door import FAULT


def test_no_call_is_answered_with_a_bare_error(url):
    told = [(call, hostile.tried(url, call)) for call in hostile.calls(80, seed=7)]
    assert [(call.name, found.text) for call, found in told if found.kind == "bare"] == []
    assert {call.name for call, _ in told} == {*hostile.events(), "addresses"}
    assert {found.kind for _, found in told} == {"well", "refused"}


@pytest.mark.parametrize(("said", "kind"), [
    ({"success": False, "output": {"error": "Steps cannot be 'a'. It takes a number."}}, "refused"),
    ({"success": False, "output": {"error": "list index out of range"}}, "bare"),
    ({"success": False, "output": {"error": str(FAULT)}}, "bare"),
    ({"success": False, "output": {"error": None}}, "bare"),
    ({"success": True, "output": {"data": ["<p class=\"alert\" role=\"alert\">No such layer.</p>"]}}, "refused"),
    ({"success": True, "output": {"data": ["<p class=\"alert\">&#x27;NoneType&#x27; object</p>"]}}, "bare"),
    ({"success": True, "output": {"data": [f"{hostile.PLACE}/ui/page.py"]}}, "bare"),
    ({"success": True, "output": {"data": [1, None, "done"]}}, "well")])
def test_an_answer_is_judged_by_what_a_visitor_sees(said, kind):
    assert hostile.ended(said).kind == kind


@pytest.mark.parametrize(("status", "text", "kind"), [
    (500, "Internal Server Error", "bare"), (500, '{"error":"This takes 3 values."}', "refused"),
    (500, '{"error":"list index out of range"}', "bare"), (422, "KeyError: 'data'", "bare"),
    (404, '{"detail": "Not Found"}', "refused"), (200, "{}", "well")])
def test_so_is_an_answer_to_a_request(status, text, kind):
    assert hostile.judged(status, text).kind == kind


def test_a_call_can_be_made_again_from_its_seed():
    one, other = ([call.content for call in hostile.calls(60, seed)] for seed in (3, 3))
    assert one == other
    assert one != [call.content for call in hostile.calls(60, 4)]
    sent = [json.loads(call.content) for call in hostile.calls(60, 3) if call.session]
    assert any(len(body["data"]) != len(hostile.app.demo.fns[body["fn_index"]].inputs) for body in sent)
