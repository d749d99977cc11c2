"""The page: the header (name, base and adapter that answer, state), the tabs, and About."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
from gradio.data_classes import BlocksConfigDict
from gradio_client.utils import is_http_url_like

from inference.common.logs import failure
from inference.common.space_file import ZERO_GPU
from inference.server.queue import EngineState
from inference.server.routes import BROKEN
from inference.server.service import ONLY_OWNER, SERVED, Service
from inference.ui.about import build_about, prompt_note, scores_html
from inference.ui.api import build_endpoints
from inference.ui.ask import UnderAnswer, build_ask
from inference.ui.compare import CompareTab, build_compare
from inference.ui.components import with_uploads
from inference.ui.inputs import Inputs
from inference.ui.probes.panel import Calibrated
from inference.ui.theme import MARK

_TAKE_OVER = """(...values) => {
  const entered = '%s', emptied = %s, left = window.lookthinkTab || 'ask', half = values.length / 2;
  window.lookthinkTab = entered;
  const own = values.slice(0, half), taken = entered === left ? own : values.slice(half);
  const runs = document.querySelector(`#${entered}-stop:not(:disabled)`);
  const isKept = own[0]?.path === taken[0]?.path || runs;
  return [...taken, ...(isKept ? emptied.map(() => ({ __type__: 'update' })) : emptied)];
}"""
"""JavaScript; its values are the fields of the tab that is entered, then those of the other one.

What stands in the panels goes if it belongs to another picture."""


_OPEN_SHARE = "() => { window.lookthinkOpenShare?.(); }"
_STATES = {
    EngineState.LOADING: "loading the model…",
    EngineState.READY: "ready",
    EngineState.RESTING: "paused while a run trains",
    EngineState.FAILED: "the model could not be loaded",
    EngineState.STOPPING: "stopping",
}
PLAIN = "The engine does not know this family of models: each answer is made alone, which is slower."
ZERO_GPU_NOTICE = (
    '<aside class="lt-notice" aria-label="About the GPU"><p><strong>An experiment: this Space answers on ZeroGPU.'
    "</strong> A GPU is lent for each answer and takes from your own quota at Hugging Face. Nobody has reported yet "
    "how well it works.</p></aside>"
)


GO = "window.lookthinkGo = {...window.lookthinkGo, %s: (place) => trigger('submit', place)};"
"""JavaScript by which `addresses.js` reaches a handler."""


class TrainTab(Protocol):
    """The Train tab, which the training half builds."""

    @property
    def promotions(self) -> Sequence[Callable[..., object]]:
        """Gradio's events after which another adapter may be served."""
        ...

    def leave_for(self, others: Sequence[gr.Tab]) -> None:
        """Rest its timer while one of the other tabs is open; called once."""
        ...


class LearnTab(Protocol):
    """The Learn tab, which the training half builds."""

    @property
    def adapter(self) -> gr.Dropdown:
        """The adapter whose training is shown."""
        ...

    @property
    def promoted(self) -> Callable[..., object]:
        """Gradio's event after which another adapter is served."""
        ...


class Page(gr.Blocks):
    """The app's blocks, through which every event of the page and every call of an endpoint passes."""

    def get_config_file(self) -> BlocksConfigDict:
        """As Gradio does it, without a heartbeat; see `inference.ui.sessions`."""
        return super().get_config_file() | {"connect_heartbeat": False}  # type: ignore[return-value]

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **options: Any) -> Any:
        """As Gradio does it, but nothing is fetched from an address that a client names, whatever the component.

        An endpoint's last inputs may be left out, as plain HTTP clients do that were written before these inputs.
        """
        if block_fn.api_visibility == "public":
            inputs = [*inputs, *(field.value for field in block_fn.inputs[len(inputs) :])]
            inputs = [with_uploads(field, value) for field, value in zip(block_fn.inputs, inputs)]
        if _names_address(inputs):
            raise gr.Error("Files are not fetched from addresses; upload the file.", print_exception=False)
        return await super().preprocess_data(block_fn, inputs, *args, **options)

    async def process_api(self, *args: Any, **options: Any) -> dict[str, Any]:
        """As Gradio does it; of anything but a `gr.Error` the client learns, in words, only that it broke."""
        try:
            return await super().process_api(*args, **options)
        except gr.Error:
            raise
        except Exception as error:  # Gradio raises any kind on values that do not fit; its messages quote them
            failure("A request failed.", error)
            raise gr.Error(BROKEN, title="Something broke", print_exception=False) from None


def _names_address(values: object) -> bool:
    """True if a file within the values, which are those of JSON, has an address for its path."""
    left = [values]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if is_http_url_like(str(value.get("path", ""))):
                return True
            left.extend(value.values())
        elif isinstance(value, list | tuple):
            left.extend(value)
    return False


def build_page(
    blocks: gr.Blocks,
    service: Service,
    train: Callable[[gr.Tab], TrainTab],
    learn: Callable[[gr.Tab], LearnTab],
    setup: Callable[[], str] = str,
    licence_words: Callable[[], str] = str,
    vote_words: Calibrated = lambda adapter, share: "",
    pin: Callable[[], UnderAnswer] | None = None,
) -> None:
    """Build the page inside the app's `blocks`, whose context must be open.

    `train` and `learn` build the tabs of these names, in their contexts; `setup` returns a notice of what is not set up
    yet as HTML, or ""; `licence_words` a sentence on the licence of the base. `vote_words` is what `Probes` calls
    `calibration`; `pin` builds what stands under an answer for the owner.
    """

    def notices() -> str:
        return notice_html(service) + setup()

    top = gr.HTML(header_html(service), js_on_load=None, elem_id="lt-top")
    notice = gr.HTML(notices(), visible=bool(notices()), js_on_load=None, elem_id="lt-notices")
    with gr.Tabs(elem_id="lt-tabs"):
        with gr.Tab("Ask", id="ask") as ask_tab:
            ask = build_ask(service, licence_words, vote_words, pin)
        with gr.Tab("Compare", id="compare") as compare_tab:
            compare = build_compare(service, vote_words)
        with gr.Tab("Learn", id="learn") as learn_tab:
            learn_part = learn(learn_tab)
        with gr.Tab("Train", id="train") as train_tab:
            train_part = train(train_tab)
        with gr.Tab("About", id="about") as about_tab:
            scores = build_about(service)
    train_part.leave_for([ask_tab, compare_tab, learn_tab, about_tab])
    promotions = [*train_part.promotions, learn_part.promoted]
    _refresh(blocks, service, top, ask, compare, compare_tab, scores, (notice, notices), promotions)
    _share(ask_tab, ask, compare_tab, compare.inputs)
    _open_addresses(service, {"ask": ask.adapter, "compare": compare.inputs.adapter, "learn": learn_part.adapter})
    build_endpoints(service)


def _refresh(
    blocks: gr.Blocks,
    service: Service,
    top: gr.HTML,
    ask: Inputs,
    compare: CompareTab,
    compare_tab: gr.Tab,
    scores: gr.HTML,
    notice: tuple[gr.HTML, Callable[[], str]],
    promotions: Sequence[Callable[..., object]],
) -> None:
    """Refresh what changes while the app runs: when a page or Compare is opened, with each question, after a
    promotion, and each second while the model is being loaded."""
    timer = gr.Timer(1.0, active=is_loading(service))
    tabs = [ask, compare.inputs]
    choices = [dropdown for tab in tabs for dropdown in tab.adapters]

    def look(request: gr.Request, *chosen: object) -> list[object]:
        number, for_owner = len(ask.adapters), service.is_owner(request.cookies)
        adapters = [
            *ask.adapter_updates(*chosen[:number], for_owner=for_owner),
            *compare.inputs.adapter_updates(*chosen[number:], for_owner=for_owner),
        ]
        text = notice[1]()
        shown = gr.update(value=text, visible=bool(text))
        top = [header_html(service), gr.Timer(active=is_loading(service)), scores_html(service), shown]
        return [*top, *compare.state_updates(service), *adapters]

    looked = []
    asking = [event for tab in tabs for event in (tab.run.click, tab.examples.select)]
    for event in (blocks.load, timer.tick, compare_tab.select, *asking, *promotions):
        done = event(
            look,
            choices,
            [top, timer, scores, notice[0], *compare.states, *choices],
            show_progress="hidden",
            api_visibility="private",
            queue=False,
        )
        looked.append(done)
    if service.shares.settings.allowed and isinstance(looked[0], gr.events.Dependency):
        looked[0].then(None, None, None, js=_OPEN_SHARE, api_visibility="private")


def _share(ask_tab: gr.Tab, ask: Inputs, compare_tab: gr.Tab, compare: Inputs) -> None:
    """Ask and Compare show the same picture and question: the tab that is entered copies the one that was left."""
    for tab, name, entered, other in ((ask_tab, "ask", ask, compare), (compare_tab, "compare", compare, ask)):
        components, values = zip(*entered.emptied)
        take_over = _TAKE_OVER % (name, json.dumps(values))
        outputs = [*entered.shared, *components]
        tab.select(None, [*entered.shared, *other.shared], outputs, js=take_over, api_visibility="private")


def _open_addresses(service: Service, fields: dict[str, gr.Dropdown]) -> None:
    """Choose the adapter that an address names; see `addresses.js`."""
    place = gr.HTML(visible="hidden", elem_id="lt-go", js_on_load=GO % "page")

    def choose(request: gr.Request, event: gr.EventData) -> list[object]:
        tab, name = (str(getattr(event, part, "")) for part in ("tab", "adapter"))
        choices = service.choices(service.is_owner(request.cookies))[: -1 if tab == "learn" else None]
        value = next((value for label, value in choices if name in (value, label.removesuffix(ONLY_OWNER))), None)
        if value is None:
            gr.Warning(f"There is no adapter {html.escape(name[:80])} here, or none any more.", title="Not found")
            value = choices[0][1] if choices else SERVED
        update = gr.update(choices=choices, value=value)
        return [update if field == tab else gr.skip() for field in fields]

    place.submit(choose, None, list(fields.values()), show_progress="hidden", api_visibility="private")


def header_html(service: Service) -> str:
    """Name and motto on the left, base, adapter and state on the right."""
    facts = [("base", base_title(service)), ("adapter", _adapter_title(service))]
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return (
        '<a class="lt-skip" href="#lt-tabs">Skip to the content</a>'
        f'<header class="lt-header"><div class="lt-brand">{MARK}<div><h1>LookThink</h1>'
        f'<p>look · think · answer</p></div></div><dl class="lt-facts">{items}'
        f'<div class="lt-ready" data-ready="{str(is_ready(service)).lower()}"><dt>state</dt><dd>'
        f'<span class="lt-dot" aria-hidden="true"></span>{_STATES[service.queue.state]}</dd>'
        "</div></dl></header>"
    )


def is_ready(service: Service) -> bool:
    """True once the engine is loaded."""
    return service.queue.engine is not None


def is_loading(service: Service) -> bool:
    """True until the engine is loaded or has failed to load."""
    return service.queue.state is EngineState.LOADING


def notice_html(service: Service) -> str:
    """Tells visitors that ZeroGPU is an experiment; else empty."""
    return ZERO_GPU_NOTICE if service.settings.space.hardware == ZERO_GPU else ""


def base_title(service: Service) -> str:
    """The base's name and, once it is loaded, its size."""
    base, engine = service.settings.base, service.queue.engine
    name = "starter" if service.settings.is_starter else (Path(base).name if Path(base).is_absolute() else base)
    if engine is None:
        return html.escape(name)
    plain = f' <span title="{PLAIN}">the plain way</span>' if engine.is_plain else ""
    return f"{html.escape(name)} <span>{_size(engine.num_parameters)}</span>{plain}"


def _adapter_title(service: Service) -> str:
    """The served adapter's name, with its scores if they were measured."""
    offer = service.offer
    if offer.served is None:
        return "none yet"
    record = offer.records[offer.served]
    notes = [record.scores, prompt_note(record)]
    return html.escape(record.name) + "".join(f" <span>{html.escape(note)}</span>" for note in notes if note)


def _size(count: int) -> str:
    """A number of parameters, short."""
    return f"{count / 1e9:.1f} B parameters" if count >= 1e9 else f"{count / 1e6:.1f} M parameters"
