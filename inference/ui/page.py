"""The page: the header (name, base and adapter that answer, state), the starter's notice, the tabs, and About."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
from gradio_client.utils import is_http_url_like

from inference.adapters.record import AdapterRecord
from inference.common.logs import failure
from inference.common.settings import Settings
from inference.common.space_file import ZERO_GPU
from inference.prompt.format import THINK_PROMPT
from inference.prompt.system_prompt import prompt_name
from inference.server.lifecycle import CLEANING_SECONDS
from inference.server.queue import EngineState
from inference.server.routes import BROKEN
from inference.server.service import Service
from inference.server.visitors import MAX_KEYS, is_on_space
from inference.ui.api import build_endpoints
from inference.ui.ask import build_ask
from inference.ui.compare import CompareTab, build_compare
from inference.ui.inputs import Inputs

_TAKE_OVER = """(...values) => {
  const entered = '%s', left = window.lookthinkTab || 'ask', half = values.length / 2;
  window.lookthinkTab = entered;
  return entered === left ? values.slice(0, half) : values.slice(half);
}"""
"""JavaScript; its values are the fields of the tab that is entered, then those of the other one."""


MARK = (
    '<svg class="lt-mark" viewBox="0 0 32 32" width="32" height="32" aria-hidden="true">'
    '<path d="M3 16c4-6.5 8.3-9.7 13-9.7S25 9.500 29 16c-4 6.500-8.300 9.700-13 9.700S7 22.500 3 16z" '
    'fill="none" stroke="currentColor" stroke-width="2.400" stroke-linejoin="round"/>'
    '<circle cx="16" cy="16" r="4.600" fill="currentColor"/></svg>'
)

_STATES = {
    EngineState.LOADING: "loading the model…",
    EngineState.READY: "ready",
    EngineState.RESTING: "paused while a run trains",
    EngineState.FAILED: "the model could not be loaded",
    EngineState.STOPPING: "stopping",
}
STARTER = """
<h2>The model</h2>
<p>The starter is a Qwen2.5-VL in every part, made very small and trained from nothing on drawn pictures of four
kinds: handwritten digits, bar charts, rectangles and triangles with labels, coloured shapes. It exists so that
everything here works on any machine, with no account and no download. It knows nothing else: its answers about a
photograph, or to other questions, mean nothing.</p>
"""
OTHER = """
<h2>The model</h2>
<p>The base is an instruct model that can look and reason. An adapter is trained with GRPO: the model writes several
answers for each problem, and those that keep the format and are correct are reinforced.</p>
"""
PLAIN = "The engine does not know this family of models: each answer is made alone, which is slower."
ZERO_GPU_NOTICE = (
    '<aside class="lt-notice" aria-label="About the GPU"><p><strong>An experiment: this Space answers on ZeroGPU.'
    "</strong> A GPU is lent for each answer and takes from your own quota at Hugging Face. Nobody has reported yet "
    "how well it works.</p></aside>"
)
LIMITS = """
<h2>Limits</h2>
<p>A thought that sounds sure may be wrong, and the thought shown is not always what led to the answer. Text inside a
picture can steer the model. Do not use it where a mistake can do harm.</p>
"""
LICENCES = """
<h2>Licences</h2>
<p>LookThink and its starter are under Apache-2.0. The handwritten digits are those from the UCI repository
(Optical Recognition of Handwritten Digits, CC BY 4.0). Another base has its own licence: see its card.</p>
"""
PROGRAM = """from gradio_client import Client, handle_file

client = Client("{address}")
result = client.predict(
    image=handle_file("chart.png"),
    question="How high is bar B?",
    expected_answer="7",
    api_name="/ask",
)
print(result["answer"], result["verdict"])"""


_OWN_ADDRESS = "element.querySelectorAll('.lt-address').forEach((place) => { place.textContent = location.origin; });"
"""JavaScript: the address in the program is the one that this page was opened at."""


class TrainTab(Protocol):
    """The Train tab, which the training half builds."""

    @property
    def promotions(self) -> Sequence[Callable[..., object]]:
        """Gradio's events after which another adapter may be served."""
        ...

    def leave_for(self, others: Sequence[gr.Tab]) -> None:
        """Rest its timer while one of the other tabs is open; called once."""
        ...


class Page(gr.Blocks):
    """The app's blocks, through which every event of the page and every call of an endpoint passes."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **options: Any) -> Any:
        """As Gradio does it, but nothing is fetched from an address that a client names, whatever the component.

        An endpoint's last inputs may be left out, as plain HTTP clients do that were written before these inputs.
        """
        if block_fn.api_visibility == "public":
            inputs = [*inputs, *(field.value for field in block_fn.inputs[len(inputs) :])]
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
    blocks: gr.Blocks, service: Service, train: Callable[[gr.Tab], TrainTab], setup: Callable[[], str] = str
) -> None:
    """Build the page inside the app's `blocks`, whose context must be open.

    `train` builds the Train tab, in its context; `setup` returns a notice of what is not set up yet as HTML, or "".
    """

    def notices() -> str:
        return notice_html(service) + setup()

    top = gr.HTML(header_html(service), js_on_load=None, elem_id="lt-top")
    notice = gr.HTML(notices(), visible=bool(notices()), js_on_load=None, elem_id="lt-notices")
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
    _refresh(blocks, service, top, ask, compare, compare_tab, scores, (notice, notices), train_part.promotions)
    _share(ask_tab, ask, compare_tab, compare.inputs)
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
    choices = [tab.adapter for tab in tabs]

    def look(*chosen: object) -> list[object]:
        adapters = [tab.adapter_update(value) for tab, value in zip(tabs, chosen)]
        text = notice[1]()
        shown = gr.update(value=text, visible=bool(text))
        top = [header_html(service), gr.Timer(active=is_loading(service)), scores_html(service), shown]
        return [*top, *compare.state_updates(service), *adapters]

    for event in (blocks.load, timer.tick, compare_tab.select, *(tab.run.click for tab in tabs), *promotions):
        event(
            look,
            choices,
            [top, timer, scores, notice[0], *compare.states, *choices],
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


def header_html(service: Service) -> str:
    """Name and motto on the left, base, adapter and state on the right."""
    facts = [("base", base_title(service)), ("adapter", _adapter_title(service))]
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return (
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
    """The limits of the starter, and that ZeroGPU is an experiment, for visitors; else empty."""
    lent = ZERO_GPU_NOTICE if service.settings.space.hardware == ZERO_GPU else ""
    if not service.settings.is_starter:
        return lent
    return lent + (
        '<aside class="lt-notice" aria-label="About the model that answers">'
        "<p><strong>The starter answers: a model of about 4 million parameters.</strong> It can read handwritten "
        "digits, bar charts, labelled rectangles and triangles, and coloured shapes. It cannot read photographs or "
        "anything else. "
        f'<span class="lt-why">{html.escape(service.settings.base_reason)}</span></p></aside>'
    )


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
    notes = [record.scores, _prompt_note(record)]
    return html.escape(record.name) + "".join(f" <span>{html.escape(note)}</span>" for note in notes if note)


def _size(count: int) -> str:
    """A number of parameters, short."""
    return f"{count / 1e9:.1f} B parameters" if count >= 1e9 else f"{count / 1e6:.1f} M parameters"


def build_about(service: Service) -> gr.HTML:
    """Build the tab; returns its scores, which change with the adapters (`scores_html`)."""
    with gr.Column(elem_classes="lt-about"):
        model = STARTER if service.settings.is_starter else OTHER
        gr.HTML(f"{model}<p>{html.escape(service.settings.base_reason)}</p>", js_on_load=None)
        scores = gr.HTML(scores_html(service), js_on_load=None)
        gr.HTML(LIMITS + privacy_html(service.settings, is_on_space()) + LICENCES, js_on_load=None)
        gr.HTML(
            "<h2>From a program</h2><p>Two endpoints, <code>/ask</code> and <code>/compare</code>, take "
            "<code>image</code>, <code>question</code>, <code>expected_answer</code>, <code>adapter</code>, "
            "<code>max_new_tokens</code>, <code>temperature</code>, <code>seed</code> and <code>more_images</code> "
            "(a list of the pictures after the first).</p>"
            f'<pre tabindex="0"><code>{_program()}</code></pre>',
            js_on_load=_OWN_ADDRESS,
        )
    return scores


def _program() -> str:
    """A program that asks the endpoints, as HTML; the page puts its own address in."""
    return html.escape(PROGRAM).replace("{address}", '<span class="lt-address">http://127.0.0.1:7860</span>')


def privacy_html(settings: Settings, on_space: bool) -> str:
    """Describes what is kept of visitors, where and for how long, by the settings of this deployment."""
    minutes, search = settings.privacy.keep_pictures_minutes, CLEANING_SECONDS // 60
    line = (
        "For each question and each refusal the log has a line: a name for you that is random for each start of the "
        "app, the adapter, the time and the number of tokens."
        if settings.privacy.log_questions
        else "The log has no line about visitors."
    )
    login = (
        "Who signs in with Hugging Face under Train has the login in a cookie of the browser; the app asks the Hub for "
        "the name, and the name of the owner is in the records of the runs that they start. What Hugging Face keeps of "
        "the visit to a Space, its privacy policy says."
        if on_space
        else "Only whoever logs in under Train gets a cookie, for a week."
    )
    items = (
        f"<strong>Pictures.</strong> The file, and what the model has read from it, are deleted {minutes:,} minutes "
        f"after it came, or up to {search} minutes later.",
        "<strong>Questions, expected answers and completions.</strong> They are never written to a disk or a log. In "
        "memory, the newest stay until newer ones take their place, or the app ends. Nothing is trained on them.",
        f"<strong>Your address.</strong> It is in memory alone, to limit how much one visitor asks: of the last "
        f"{MAX_KEYS:,} visitors, until the app ends.",
        f"<strong>The log.</strong> {line}",
        f"<strong>Logins.</strong> {login}",
        "<strong>Other hosts.</strong> The page loads nothing from them.",
    )
    listed = "".join(f"<li>{item}</li>" for item in items)
    return f"<h2>What is kept of you</h2><ul>{listed}</ul>"


def _prompt_note(record: AdapterRecord) -> str:
    """A few words on its system prompt, where that is not the project's own by its makers' word; else empty."""
    if record.system_prompt not in (None, THINK_PROMPT):
        return f"system prompt: {prompt_name(record.system_prompt)}"
    return "" if record.says_prompt else "system prompt not stated"


def prompts_html(service: Service) -> str:
    """The system prompts of adapters that are not asked with the project's own, or may need another one."""
    items = "".join(_prompt_item(record) for record in service.offer.records.values() if _prompt_note(record))
    if not items:
        return ""
    return (
        "<h2>System prompts</h2><p>Base and adapters are asked with LookThink's system prompt, but for these:</p>"
        f"<ul>{items}</ul>"
    )


def _prompt_item(record: AdapterRecord) -> str:
    name = f"<li><strong>{html.escape(record.name)}</strong> "
    if record.system_prompt is None:
        return f"{name}does not say which one it was trained with, and is asked with LookThink's.</li>"
    text = f'<pre class="lt-prompt" tabindex="0"><code>{html.escape(record.system_prompt)}</code></pre>'
    return f"{name}is asked with {html.escape(prompt_name(record.system_prompt))}:{text}</li>"


def scores_html(service: Service) -> str:
    """A table with a row for each adapter that has an evaluation, and the system prompts that are not the project's."""
    return _scores_table(service) + prompts_html(service)


def _scores_table(service: Service) -> str:
    rows = "".join(_score_row(record) for record in service.offer.records.values() if record.test_accuracy is not None)
    if not rows:
        what = "No adapter answers yet" if service.offer.served is None else "The served adapter has no recorded scores"
        return f"<h2>Scores</h2><p>{what}.</p>"
    return (
        "<h2>Scores</h2><p>On problems never seen in training, asked with the thinking prompt. The last answer stated "
        'counts, inside its tags or not.</p><div class="lt-table" tabindex="0" role="group" aria-label="Scores">'
        "<table><thead><tr>"
        "<th>Adapter</th><th>Correct with it</th><th>Correct without it</th><th>Problems</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _score_row(record: AdapterRecord) -> str:
    cells = [
        html.escape(record.name),
        _percent(record.test_accuracy),
        _percent(record.base_accuracy),
        f"{record.num_rows:,}" if record.num_rows else "not recorded",
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _percent(share: float | None) -> str:
    return "not recorded" if share is None else f"{100 * share:.0f} %"
