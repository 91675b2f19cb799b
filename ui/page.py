"""The page: the shell, the tabs in the order in which they appear, and what crosses from one to another."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from pruning.models.sources import BUNDLED
from ui.door import Door
from ui.js import script
from ui.setup import model, request, row
from ui.setup.looking import Looking
from ui.setup.outlook import Board
from ui.setup.shell import Shell
from ui.tabs import compare, importance, masks, recover, report, speed
from ui.widgets import places
from ui.widgets.events import VIEW, After, Step
from ui.widgets.head import head

TABS: dict[str, tuple[str, Callable[[Shell], Any]]] = {  # id -> (name, what builds it)
    "compare": ("Compare", compare.build), "importance": ("Importance", importance.build),
    "masks": ("Masks", masks.build), "recover": ("Recover", recover.build), "speed": ("Speed", speed.build),
    "report": ("Report", report.build)}


@dataclass
class Page:
    """The page's parts."""

    demo: Door
    shell: Shell
    compare: compare.Compare
    importance: importance.Importance
    masks: masks.Masks
    recover: recover.Recover
    speed: speed.Speed
    report: report.Report

    @property
    def board(self) -> Board:
        """Where the page shows what the setup asks for."""
        return Board(self.shell.asked, self.shell.picked, self.masks.layers, self.importance.rows,
                       self.shell.places.stale, self.importance.curve, self.importance.heard)

    def after(self) -> After:
        """What follows an event, whichever tab it is in."""
        shell, asked, mask = self.shell, self.shell.asked, self.masks
        return After(
            opened=Step(model.opened, [asked.source, asked.component],
                        [shell.top, asked.component, asked.load_problem, *shell.row.telling]),
            outlook=self.board.step,
            look=Step(mask.looked, [shell.picked, mask.place, *asked.inputs], [mask.detail, mask.histogram]),
            help=Step(row.help_with, [shell.row.prompt, asked.source, shell.row.prompted], [shell.row.unknown]),
            address=Step(shell.query, [shell.tab, shell.picked, *shell.inputs], [shell.line]),
            report=self.report.fill)

    def wire(self) -> None:
        """Every event of the page. What one tab begins, buttons of others stop."""
        after, asked = self.after(), self.shell.asked
        self.shell.wire(self.demo, after)
        taken = Looking(asked).wire(after)
        tried = self.importance.wire(after, self.masks.place)
        self.masks.wire(after)
        drawn = self.compare.wire(after, self.recover.use)
        self.recover.wire(after)
        timed = self.speed.wire(after)
        asked.halt.click(None, None, cancels=[taken, *tried], **VIEW)
        gr.on([self.shell.row.stop.click, self.speed.stop.click], None, cancels=[drawn, timed], **VIEW)


def build() -> Page:
    """The page, wired."""
    with Door(title="Prunescope: see what pruning does to a diffusion model", fill_width=True,
              analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        top = gr.HTML(head(f"{BUNDLED[0]} · starting"), js_on_load=script("head"), elem_id="head")
        line = gr.HTML("", js_on_load=script("address"), elem_id="address")
        pair = places.build()
        with gr.Row(elem_id="page"):
            asked = request.build()
            with gr.Column(elem_id="main", scale=1):
                drawn = row.build(pair)
                tabs, built = gr.Tabs(), dict[str, Any]()
                shell = Shell(top, line, asked, drawn, pair, tabs)
                with tabs:
                    for name, (label, made) in TABS.items():
                        with gr.Tab(label, id=name, render_children=True):
                            built[name] = made(shell)
        whole = Page(demo, shell, **built)
        whole.wire()
        demo.unload(demo.left)
    return whole


def page() -> gr.Blocks:
    """What is served."""
    return build().demo
