"""The left column: picture, question, and the folded rest. Ask and Compare have the same one."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from inference.common.errors import UserError
from inference.prompt.image import load_image
from inference.server.service import MAX_EXPECTED_CHARS, MAX_SEED, MAX_TEMPERATURE, Example, Service
from inference.ui.adapter_choice import AdapterChoice
from inference.ui.answering import Exchange
from inference.ui.components import Picture
from inference.ui.examples import EXAMPLES_JS, examples_html


class Inputs:
    """Picture, question and settings of one tab; make it inside a `gr.Blocks` context."""

    def __init__(self, service: Service, name: str, button: str, base_alone: bool = True) -> None:
        """`name` begins the element ids, `button` is the text of the main button, `base_alone` offers no adapter."""
        self._service = service
        self.picture = Picture(
            type="filepath",
            label="Picture",
            show_label=False,
            sources=["upload", "clipboard", "webcam"],
            buttons=["fullscreen"],
            height=308,
            elem_id=f"{name}-picture",
            elem_classes="lt-picture",
            placeholder="Drop a picture here\nor click to choose one",
            alt_text="The picture you ask about",
        )
        with gr.Row(elem_classes="lt-try"):
            self.examples = gr.HTML(examples_html(service.examples), js_on_load=EXAMPLES_JS, elem_id=f"{name}-examples")
            self.new = gr.Button("New problem", size="sm", elem_id=f"{name}-new", elem_classes="lt-new", min_width=80)
        self.question = gr.Textbox(
            label="Question",
            placeholder="What do you want to know about the picture?",
            lines=2,
            max_lines=8,
            max_length=service.settings.limits.max_question_chars,
            elem_id=f"{name}-question",
        )
        with gr.Row(elem_classes="lt-buttons"):
            self.run = gr.Button(button, variant="primary", elem_id=f"{name}-run", elem_classes="lt-run", min_width=96)
            self.stop = gr.Button(
                "Stop", interactive=False, elem_id=f"{name}-stop", elem_classes="lt-stop", min_width=64
            )
        with gr.Accordion("More", open=False, elem_id=f"{name}-more", elem_classes="lt-more"):
            self._build_more(name, base_alone)

    def _build_more(self, name: str, base_alone: bool) -> None:
        limits = self._service.settings.limits
        choices = self._service.choices(base_alone)
        self._base_alone = base_alone
        self.expected = gr.Textbox(
            label="Expected answer",
            info="If given, the answer is compared with it.",
            max_length=MAX_EXPECTED_CHARS,
            elem_id=f"{name}-expected",
        )
        self.adapter = AdapterChoice(
            choices, value=choices[0][1] if choices else None, label="Adapter", elem_id=f"{name}-adapter"
        )
        self.temperature = gr.Slider(
            0, MAX_TEMPERATURE, 0, step=0.1, label="Temperature", info="0 always takes the likeliest token."
        )
        self.length = gr.Slider(
            1,
            limits.max_new_tokens,
            limits.default_new_tokens,
            step=1,
            label="Length limit in tokens",
            elem_id=f"{name}-length",
        )
        self.seed = gr.Number(
            0, precision=0, minimum=0, maximum=MAX_SEED, label="Seed", info="Matters above temperature 0."
        )

    def adapters_now(self, chosen: Any) -> dict[str, Any]:
        """The update that offers the adapters of this moment; what was chosen stays chosen while it is there."""
        choices = self._service.choices(self._base_alone)
        values = [value for _, value in choices]
        return gr.update(choices=choices, value=chosen if chosen in values else next(iter(values), None))

    @property
    def prompt(self) -> list[Any]:
        """The components that `Service.read_question` reads, in its order."""
        return [
            self.picture,
            self.question,
            self.expected,
            self.adapter,
            self.temperature,
            self.length,
            self.seed,
        ]

    @property
    def shared(self) -> list[Any]:
        """What Ask and Compare have in common."""
        return [self.picture, self.question, self.expected, self.temperature, self.length, self.seed]

    def wire(self, exchange: Exchange, extra: list[Any], emptied: list[Any]) -> None:
        """Stop, the examples, New problem and the check of an upload; another picture empties the panels.

        `extra` are further components to empty, with the values `emptied`.
        """
        service = self._service
        hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        fields = [self.picture, self.question, self.expected]

        def take_example(event: gr.EventData) -> list[Any]:
            return _filled(service.examples[_example_index(event, len(service.examples))])

        def take_new() -> list[Any]:
            return _filled(service.new_problem())

        def changed(path: str | None, request: gr.Request) -> list[Any]:
            rest = [*exchange.clear(), *emptied]
            if exchange.is_running(request):  # it empties the panels itself if dismissed; a change of tabs is none
                rest = [gr.skip()] * len(rest)
            return [check_picture(service, path), *rest]

        def drop(request: gr.Request) -> None:
            exchange.dismiss(request)

        for replaced in (self.examples.select, self.new.click, self.picture.upload, self.picture.clear):
            replaced(drop, None, None, queue=False, **hidden)
        for own in (self.picture.upload, self.picture.clear):  # what was expected was of another
            own(lambda: "", None, self.expected, queue=False, **hidden)
        self.stop.click(exchange.stop, queue=False, **hidden)
        self.examples.select(take_example, None, fields, **hidden)
        self.new.click(take_new, None, fields, **hidden)
        self.picture.change(changed, [self.picture], [self.picture, *exchange.outputs, *extra], **hidden)


def check_picture(service: Service, path: str | None) -> Any:
    """Says at once if an upload is no picture, and takes it away again; else leaves it, and begins to work on it."""
    if path is None:
        return gr.skip()
    try:
        service.prepare(load_image(path, service.settings.limits))
    except UserError as error:
        gr.Warning(html.escape(str(error)), title="This picture cannot be used")
        return None
    return gr.skip()


def _filled(example: Example) -> list[Any]:
    return [example.image, example.question, example.expected]


def _example_index(event: gr.EventData, count: int) -> int:
    """Which example was clicked; a client can send anything."""
    index = (event._data or {}).get("index") if isinstance(event._data, dict | None) else None
    if not isinstance(index, int) or not 0 <= index < count:
        raise gr.Error(f"There is no such example; choose 0 to {count - 1}.", print_exception=False)
    return index
