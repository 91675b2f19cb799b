"""The way into the running page and out of it, the same for every event.

Gradio's server calls our handlers; this stands between the two. A value that comes in is checked against the control
that it is said to come from. An error that goes out is one sentence: a refusal as it is, a fault of ours without its
details, which are in the log. Work that nobody listens to is stopped, and a session that has left leaves nothing.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from reprlib import repr as shortened
from typing import Any

import gradio as gr
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from gradio.context import LocalContext
from gradio.route_utils import FnIndexInferError
from httpx import InvalidURL
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pruning.errors import Refused, in_words, out_of_memory
from ui import limits
from ui.theme import CSS, theme

LOG = logging.getLogger("prunescope")
SESSIONS = 256  # tabs whose pairs and setup are remembered; those that were quiet longest are forgotten first
UNHEARD, PATIENCE = 32, 30  # messages that wait for a client, and seconds that are waited for it to take one
FAULT = Refused("Something went wrong here, and it is not your doing.", "What it was is in the server's log.")
CLOSED = ("/upload", "/deep_link", "/component_server")  # ways of Gradio's that nothing on this page takes
LARGEST = 1e15  # of a number


class Door(gr.Blocks):
    """The page as it is served."""

    def launch(self, *given: Any, **named: Any) -> Any:
        """Serve the page, however that is asked for: with its looks, its limits and its sentences."""
        served: dict[str, Any] = {
            "theme": theme(), "css": CSS, "footer_links": ["api", "gradio", "settings"], "ssr_mode": False,
            "show_error": False, "max_file_size": 1, "state_session_capacity": SESSIONS,
            "app_kwargs": {"middleware": [Middleware(Bounded)], "exception_handlers": ANSWERS}}
        return super().launch(*given, **served | named)

    async def process_api(self, *given: Any, **named: Any) -> dict[str, Any]:
        """One step of an event: what all of them pass through."""
        session_hash, event_id = named.get("session_hash"), named.get("event_id")
        try:
            if event_id is not None:
                await self._listened(session_hash)
            done = await super().process_api(*given, **named)
        except gr.Error:
            raise
        except Exception as error:
            raise gr.Error(str(_told(error)), print_exception=False) from None
        if session_hash is not None and session_hash == event_id and not done["is_generating"]:  # a call, not a tab
            self._forget(session_hash)
        return done

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False) -> Any:
        """Check what comes in. Gradio's own checks would answer in its words, and refuse an empty slider."""
        block_fn.preprocess = False
        return await super().preprocess_data(block_fn, entered(block_fn.inputs, inputs), state, explicit_call)

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> Any:
        """Let a component that an update makes anew keep the number of the one that it takes the place of.

        Gradio gives it another, and would file all later values under that, beside the old ones, as long as it runs.
        """
        shown = [without_handlers(value) for value in await super().postprocess_data(block_fn, predictions, state)]
        for block in block_fn.outputs if state else ():
            if (made := state.blocks_config.blocks.get(block._id)) is not None:
                made._id = block._id
        return shown

    async def left(self, request: gr.Request) -> None:
        """A tab was closed: what it waited for is stopped, and what was kept for it goes."""
        if LocalContext.event_id.get() is not None:  # sent as an event, while its stream is open
            raise Refused("A tab has left when it is closed.", "Close it.")
        if request.session_hash is not None:
            await self._queue.clean_events(session_hash=request.session_hash)
            self._forget(request.session_hash)
            self._queue.pending_messages_per_session.pop(request.session_hash, None)
            self._queue.pending_event_ids_session.pop(request.session_hash, None)

    def _forget(self, session: str) -> None:
        """Let go of a session's state, and of the empty queues of those that went before."""
        self.state_holder.session_data.pop(session, None)
        self.state_holder.time_last_used.pop(session, None)
        told, waiting = self._queue.pending_messages_per_session, self._queue.pending_event_ids_session
        for other in [one for one, events in waiting.items()
                      if not events and one not in self.state_holder.session_data]:
            waiting.pop(other, None)
            told.pop(other, None)

    async def _listened(self, session: str | None) -> None:
        """Wait while a client takes nothing of what it was told. Work for nobody is stopped."""
        for _ in range(4 * PATIENCE):
            messages = self._queue.pending_messages_per_session.get(session)
            if messages is None:
                break
            if messages.qsize() < UNHEARD:
                return
            await asyncio.sleep(0.25)
        raise Refused("Nobody listened, so this was stopped.", "Ask again.")


def without_handlers(value: Any) -> Any:
    """An update without what Gradio takes for a property of our markup, and is what would listen to its events."""
    if not isinstance(value, dict) or value.get("__type__") != "update":
        return value
    return {name: one for name, one in value.items() if not callable(one)}


def _told(error: Exception) -> Refused:
    """An error as people read it. A fault of ours is logged with all there is to know."""
    if isinstance(error, Refused):
        return error
    if out_of_memory(error):
        return in_words(error)
    LOG.error("An event of the page failed.", exc_info=error)
    return FAULT


# What comes in.


def entered(inputs: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """The values of an event's inputs, checked; states are not sent, they are here.

    Raises:
        Refused: there are too few, or one cannot come from its control.
    """
    if len(values) < len(inputs):
        raise Refused(f"This event takes {len(inputs)} values; {len(values)} came.", "Reload the page.")
    return [None if block.stateful else entry(block, value) for block, value in zip(inputs, values, strict=False)]


def entry(block: Any, value: Any) -> Any:
    """One value. None is an empty box; what that means is known where the value is used."""
    name = getattr(block, "label", None) or getattr(block, "elem_id", None) or "This value"
    match block:
        case gr.Slider() | gr.Number():
            fits, remedy = number(value), "It takes a number."
        case gr.Checkbox():
            fits, remedy = isinstance(value, bool), "It is on or off."
        case gr.Radio():
            choices = [str(choice) for _, choice in block.choices]
            fits, remedy = isinstance(value, str) and value in choices, f"Choose one of {', '.join(choices)}."
        case _:
            fits, remedy = isinstance(value, str), "It takes text."
    if value is not None and not fits:
        raise Refused(f"{name} cannot be {shortened(value)}.", remedy)
    if isinstance(value, str):
        plain(value, name, getattr(block, "max_length", None) or limits.TEXT)
    return value


def number(value: Any) -> bool:
    """Whether a value is a number that one can reckon with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def plain(value: str, name: str, most: int = limits.TEXT) -> str:
    """A text, unless it is too long or no text at all: half of a character of two parts cannot be sent back."""
    if len(value) > most:
        raise Refused(f"{name} has {len(value):,} characters.", f"It may have {most:,}.")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise Refused(f"{name} holds a character that is not one.", "Type it again.")
    return value


def heard(event: gr.EventData, name: str, kind: type | tuple[type, ...] = str) -> Any:
    """What an event of our own markup says; the browser sends it, so it may be anything."""
    said = event._data if isinstance(event._data, Mapping) else {}
    value = said.get(name)
    if not isinstance(value, kind) or (isinstance(value, int | float) and not number(value)):
        raise Refused(f"This click says {shortened(value)} for {name}.", "Reload the page.")
    return plain(value, name) if isinstance(value, str) else value


# What comes in before it is an event: requests.


class Bounded:
    """Refuses requests that are too large, and ways of Gradio's that nothing on this page takes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if any(f"{scope['path']}/".endswith(f"{way}/") for way in CLOSED):
            return await answer(404, "This page takes no files, and nothing else is at this address.")(
                scope, receive, send)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limits.BODY:
            return await answer(413, f"A request may have {limits.BODY:,} bytes.")(scope, receive, send)
        taken = 0

        async def counted() -> Message:
            """A part of the body, of which there may be only so much whatever was said of its length."""
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            return {"type": "http.disconnect"} if taken > limits.BODY else message

        return await self.app(scope, counted, send)


def answer(status: int, sentence: str) -> JSONResponse:
    """A refusal to a request that is not an event."""
    return JSONResponse({"detail": sentence, "error": sentence}, status)


async def malformed(_: Request, error: Any) -> JSONResponse:
    """A body that is not a call."""
    places = [".".join(map(str, fault.get("loc", ()))) for fault in error.errors()][:3]
    return answer(422, f"This is not a call of the page: {', '.join(places)} cannot be read. Reload the page.")


async def unread(_: Request, error: Exception) -> JSONResponse:
    """A body that Gradio stumbles over before an event begins."""
    LOG.info("A request could not be read.", exc_info=error)
    return answer(422, "This is not a call of the page. See its API at the foot of the page.")


async def unplaced(_: Request, error: Exception) -> JSONResponse:
    """Headers from which no address of the page can be made."""
    return answer(400, "The host that this request names is not an address. Open the page by its own address.")


async def unknown(_: Request, error: Exception) -> JSONResponse:
    """A call of something that is not there."""
    return answer(404, "The page has no such event. Reload it, or see its API at the foot of the page.")


async def failed(_: Request, error: Exception) -> JSONResponse:
    """Anything else; the server logs it."""
    return answer(500, str(FAULT))


ANSWERS: dict[Any, Any] = {
    RequestValidationError: malformed, FnIndexInferError: unknown, KeyError: unknown, TypeError: unread,
    ValueError: unread, InvalidURL: unplaced, Exception: failed}
