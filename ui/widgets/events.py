"""What events of the page are like, and what follows them, whichever tab they are in.

ALONE: one drawing or measurement at a time, whoever asks. TOGETHER: what is looked at takes turns with it, and with
what others look at, step by step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

VIEW: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
NEWEST: dict[str, Any] = {**VIEW, "trigger_mode": "always_last"}
ALONE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model", "show_progress": "hidden"}
TOGETHER: dict[str, Any] = {"concurrency_limit": 4, "concurrency_id": "look", "show_progress": "hidden"}


class Step(NamedTuple):
    """A handler, the components whose values it gets, and those that it fills in."""

    act: Callable[..., Any]
    inputs: list[Any]
    outputs: list[Any]


@dataclass(frozen=True)
class After:
    """What follows an event."""

    opened: Step  # a model is in use
    outlook: Step  # what the setup asks for would do
    look: Step  # the picked layer
    help: Step  # the words of the prompt
    address: Step  # the page in the address line
    report: Step  # the shown pair in Report

    def ready(self, event: Any) -> None:
        """A model was opened: everything that is about the former one is made anew."""
        for step in (self.opened, self.outlook, self.look, self.help, self.address):
            event = event.then(*step, **VIEW)

    def asked(self, event: Any, how: dict[str, Any] = NEWEST) -> None:
        """The setup asks for something else."""
        self.picked(event.then(*self.outlook, **how), how)

    def picked(self, event: Any, how: dict[str, Any] = NEWEST) -> None:
        """Another layer is looked at."""
        event.then(*self.look, **how).then(*self.address, **how)

    def shown(self, event: Any) -> None:
        """Another pair is shown."""
        event.then(*self.report, **VIEW)
