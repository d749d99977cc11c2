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
"""JavaScript; its values are the fields of the tab that is entered, then those of the other one."""


class TrainTab(Protocol):
    """The Train tab, which the training half builds."""

    def leave_for(self, others: Sequence[gr.Tab]) -> None:
        """Rest its timer while one of the other tabs is open; called once."""
        ...


def build_page(
    blocks: gr.Blocks, service: Service, train: Callable[[gr.Tab], TrainTab], setup: Callable[[], str] = str
) -> None:
    """Build the page inside the app's `blocks`, whose context must be open.

    `train` builds the Train tab, in its context; `setup` returns a notice of what is not set up yet as HTML, or "".
    """

    def notices() -> dict[str, Any]:
        shown = notice_html(service) + setup()
        return {"value": shown, "visible": bool(shown)}

    top = gr.HTML(header_html(service), js_on_load=None, elem_id="lt-top")
    notice = gr.HTML(**notices(), js_on_load=None, elem_id="lt-notices")
    with gr.Tabs(elem_id="lt-tabs"):
        with gr.Tab("Ask", id="ask") as ask_tab:
            ask = build_ask(service)
        with gr.Tab("Compare", id="compare") as compare_tab:
            compare = build_compare(service)
        with gr.Tab("Train", id="train") as train_tab:
            train_part = train(train_tab)
        with gr.Tab("About", id="about") as about_tab:
            scores = build_about(service)
    train_part.leave_for([ask_tab, compare_tab, about_tab])
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
    """Refresh what changes while the app runs: when a page is opened, with each question, and each second while the
    model is being loaded."""
    timer = gr.Timer(1.0, active=is_loading(service))
    choices = [tab.adapter for tab in tabs]

    def look(*chosen: object) -> list[object]:
        adapters = [tab.adapter_update(value) for tab, value in zip(tabs, chosen)]
        notices = gr.update(**notice[1]())
        return [header_html(service), gr.Timer(active=is_loading(service)), scores_html(service), notices, *adapters]

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
    """Ask and Compare show the same picture and question: the tab that is entered copies the one that was left."""
    for tab, name, fields, others in (
        (ask_tab, "ask", ask.shared, compare.shared),
        (compare_tab, "compare", compare.shared, ask.shared),
    ):
        tab.select(None, [*fields, *others], fields, js=_TAKE_OVER % name, api_visibility="private")
