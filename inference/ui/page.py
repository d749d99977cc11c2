"""The page: header, notice and tabs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gradio as gr

from inference.server.service import Service
from inference.ui.about import build_about, scores_html
from inference.ui.api import build_endpoints
from inference.ui.ask import build_ask
from inference.ui.compare import build_compare
from inference.ui.header import header_html, is_loading, notice_html
from inference.ui.inputs import Inputs

_TAKE_OVER = """(...values) => {
  const entered = '%s', left = window.lookthinkTab || 'ask', half = values.length / 2;
  window.lookthinkTab = entered;
  return entered === left ? values.slice(0, half) : values.slice(half);
}"""
"""Runs in the page: its values are the fields of the tab entered, then those of the other one."""


class Tab(Protocol):
    """A tab that the app adds."""

    def leave_for(self, others: Sequence[gr.Tab]) -> None:
        """Told once which the other tabs are."""
        ...


def build_page(
    blocks: gr.Blocks, service: Service, train: Callable[[gr.Tab], Tab], setup: Callable[[], str] = str
) -> None:
    """Everything inside the app's `blocks`, whose context must be open.

    `train` fills the tab Train, in its context; `setup` gives what is not set up yet as HTML, or nothing.
    """

    def notices() -> dict[str, Any]:
        said = notice_html(service) + setup()
        return {"value": said, "visible": bool(said)}

    top = gr.HTML(header_html(service), js_on_load=None, elem_id="lt-top")
    notice = gr.HTML(**notices(), js_on_load=None, elem_id="lt-notices")
    with gr.Tabs(elem_id="lt-tabs"):
        with gr.Tab("Ask", id="ask") as ask_tab:
            ask = build_ask(service)
        with gr.Tab("Compare", id="compare") as compare_tab:
            compare = build_compare(service)
        with gr.Tab("Train", id="train") as train_tab:
            trained = train(train_tab)
        with gr.Tab("About", id="about") as about_tab:
            scores = build_about(service)
    trained.leave_for([ask_tab, compare_tab, about_tab])
    _refresh(blocks, service, top, [ask, compare], scores, (notice, notices))
    _share(ask_tab, ask, compare_tab, compare)
    build_endpoints(service)


def _refresh(
    blocks: gr.Blocks,
    service: Service,
    top: gr.HTML,
    tabs: list[Inputs],
    scores: gr.HTML,
    notice: tuple[gr.HTML, Callable[[], dict[str, Any]]],
) -> None:
    """What changes while the app runs: looked at when a page is opened and whenever it asks; each second, and no
    longer, while the model is loaded."""
    timer = gr.Timer(1.0, active=is_loading(service))
    choices = [tab.adapter for tab in tabs]

    def look(*chosen: Any) -> list[Any]:
        adapters = [tab.adapters_now(value) for tab, value in zip(tabs, chosen)]
        said = gr.update(**notice[1]())
        return [header_html(service), gr.Timer(active=is_loading(service)), scores_html(service), said, *adapters]

    for event in (blocks.load, timer.tick, *(tab.run.click for tab in tabs)):
        event(
            look,
            choices,
            [top, timer, scores, notice[0], *choices],
            show_progress="hidden",
            api_visibility="private",
            queue=False,
        )


def _share(ask_tab: gr.Tab, ask: Inputs, compare_tab: gr.Tab, compare: Inputs) -> None:
    """Ask and Compare show the same picture and question: the one entered takes over from the one left."""
    for tab, name, fields, others in (
        (ask_tab, "ask", ask.shared, compare.shared),
        (compare_tab, "compare", compare.shared, ask.shared),
    ):
        tab.select(None, [*fields, *others], fields, js=_TAKE_OVER % name, api_visibility="private")
