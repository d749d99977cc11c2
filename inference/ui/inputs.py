"""The left column: pictures, examples, question, and the folded settings. Ask and Compare have the same one."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from inference.adapters.record import BASE_NAME
from inference.common.errors import UserError
from inference.common.settings import Limits
from inference.prompt.image import load_image, load_images, thumbnail_uri
from inference.server.service import MAX_EXPECTED_CHARS, MAX_SEED, MAX_TEMPERATURE, Example, Service
from inference.ui.answering import EVENT, Answering
from inference.ui.components import LiveDropdown, Picture, PictureGallery

THUMBNAIL_PIXELS = 112
"""Side of a thumbnail; it is shown at half of that, for sharp screens."""
_EXAMPLES_JS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-index]');
  if (button) trigger('select', { index: Number(button.dataset.index) });
});
"""
_UNFOLD = "(others) => (others?.length ? {__type__: 'update', open: true} : {__type__: 'update'})"
"""JavaScript: pictures that come from the other tab are not hidden."""
Ask = Callable[..., Iterator[list[object]]]
"""From Gradio's request and the values of the inputs to updates."""
Emptied = Sequence[tuple[Component, object]]
"""Components with the values, or updates, that they have while nothing is asked."""
_HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def asked_with(values: Sequence[object], adapter: str | None, temperature: float) -> tuple[object, ...]:
    """The values of `Inputs.question_inputs` with what answered: by name, so that a promotion changes nothing."""
    picture, question, expected, _, _, *rest = values
    return picture, question, expected, adapter or BASE_NAME, temperature, *rest


class Inputs:
    """Picture, question and settings of one tab; make it inside a `gr.Blocks` context."""

    def __init__(self, service: Service, name: str, button: str, has_two_sides: bool = False) -> None:
        """`name` begins the element ids, `button` is the text of the main button, two sides have an adapter each."""
        self._service, self._has_two_sides = service, has_two_sides
        self.picture = Picture(
            type="filepath",
            label="Picture",
            show_label=False,
            sources=["upload", "clipboard", "webcam"],
            buttons=["fullscreen"],
            height=240,
            elem_id=f"{name}-picture",
            elem_classes="lt-picture",
            placeholder="Drop or paste a picture anywhere,\nor click to choose one",
            alt_text="The picture you ask about",
        )
        with gr.Row(elem_classes="lt-try"):
            examples = examples_html(service.examples, service.settings.limits)
            self.examples = gr.HTML(examples, js_on_load=_EXAMPLES_JS, elem_id=f"{name}-examples")
            self.new = gr.Button("New problem", size="sm", elem_id=f"{name}-new", elem_classes="lt-new", min_width=80)
        self.question = gr.Textbox(
            label="Question",
            placeholder="What do you want to know about the picture?",
            lines=2,
            max_lines=8,
            max_length=service.settings.limits.max_question_chars,
            elem_id=f"{name}-question",
        )
        if has_two_sides:
            with gr.Row(elem_classes="lt-sides"):
                self.left = self._adapter("Left", f"{name}-left", is_left=True)
                self.adapter = self._adapter("Right", f"{name}-adapter")
        with gr.Row(elem_classes="lt-buttons"):
            self.run = gr.Button(button, variant="primary", elem_id=f"{name}-run", elem_classes="lt-run", min_width=96)
            self.stop = gr.Button(
                "Stop", interactive=False, elem_id=f"{name}-stop", elem_classes="lt-stop", min_width=64
            )
        with gr.Accordion("More pictures", open=False, elem_id=f"{name}-others", elem_classes="lt-more") as self.fold:
            self._build_others(name)
        with gr.Accordion("More", open=False, elem_id=f"{name}-more", elem_classes="lt-more"):
            self._build_more(name)

    def _build_others(self, name: str) -> None:
        limits = self._service.settings.limits
        gr.HTML(
            f'<p class="lt-others-note">For a question about several: up to {limits.max_pictures - 1} more, in this '
            f"order after the one above, of at most {limits.max_pixels / 1e6:,.0f} million pixels together.</p>",
            js_on_load=None,
        )
        self.others = PictureGallery(
            type="filepath",
            label="More pictures",
            show_label=False,
            sources=["upload", "clipboard"],
            file_types=["image"],
            columns=4,
            object_fit="contain",
            allow_preview=False,
            buttons=[],
            interactive=True,
            elem_id=f"{name}-gallery",
            elem_classes="lt-gallery",
        )

    def _build_more(self, name: str) -> None:
        limits = self._service.settings.limits
        self.expected = gr.Textbox(
            label="Expected answer",
            info="If given, the model's answer is compared with it.",
            max_length=MAX_EXPECTED_CHARS,
            elem_id=f"{name}-expected",
        )
        if not self._has_two_sides:
            self.adapter = self._adapter("Adapter", f"{name}-adapter")
        self.temperature = gr.Slider(
            0,
            MAX_TEMPERATURE,
            0,
            step=0.1,
            label="Temperature",
            info="At 0 the most likely token is always taken.",
            elem_id=f"{name}-temperature",
        )
        self.length = gr.Slider(
            1,
            limits.max_new_tokens,
            limits.default_new_tokens,
            step=1,
            label="Length limit (tokens)",
            elem_id=f"{name}-length",
        )
        self.seed = gr.Number(
            0, precision=0, minimum=0, maximum=MAX_SEED, label="Seed", info="Matters only at a temperature above 0."
        )

    def _adapter(self, label: str, elem_id: str, is_left: bool = False) -> LiveDropdown:
        choices = self._choices(is_left)
        return LiveDropdown(choices, value=choices[0][1], label=label, elem_id=elem_id, min_width=120)

    def _choices(self, is_left: bool, for_owner: bool = False) -> list[tuple[str, str]]:
        """On the left the base comes first, else the served adapter."""
        *adapters, base = self._service.choices(for_owner)
        return [base, *adapters] if is_left else [*adapters, base]

    @property
    def adapters(self) -> list[LiveDropdown]:
        """The dropdowns that `adapter_updates` is for."""
        return [self.left, self.adapter] if self._has_two_sides else [self.adapter]

    def adapter_updates(self, *chosen: object, for_owner: bool = False) -> list[dict[str, object]]:
        """Updates that offer the adapters of this moment; a chosen one stays chosen while it exists."""
        updates = []
        for value, dropdown in zip(chosen, self.adapters):
            choices = self._choices(dropdown is not self.adapter, for_owner)
            is_there = value in [name for _, name in choices]
            updates.append(gr.update(choices=choices, value=value if is_there else choices[0][1]))
        return updates

    @property
    def question_inputs(self) -> list[Component]:
        """The components that `Service.read_question` reads, in its order."""
        settings = [self.adapter, self.temperature, self.length, self.seed]
        return [self.picture, self.question, self.expected, *settings, self.others]

    @property
    def asked(self) -> list[Component]:
        """`question_inputs`, after the left adapter where there are two sides."""
        return [*([self.left] if self._has_two_sides else []), *self.question_inputs]

    @property
    def replacing(self) -> list[Callable[..., object]]:
        """Gradio's events after which the answer is no longer that of the picture."""
        return [self.new.click, self.picture.upload, self.picture.clear, self.others.upload, self.others.delete]

    @property
    def shared(self) -> list[Component]:
        """The components that Ask and Compare have in common, the picture first: all but the adapter."""
        return [component for component in self.question_inputs if component is not self.adapter]

    def wire(self, answering: Answering, ask: Ask, outputs: list[Component], emptied: Emptied) -> list[Dependency]:
        """Wire the main button, Stop, the examples, New problem and the check of an upload; returns what asks.

        `ask` reads `asked` and streams updates for `outputs`. Another picture empties the panels, and puts the further
        values of `emptied` into their components.
        """
        service = self._service
        fields = [self.picture, self.question, self.expected, self.others]
        extra, values = [component for component, _ in emptied], [value for _, value in emptied]
        self.emptied = [*zip(answering.outputs, answering.clear()), *emptied]

        def take_example(event: gr.EventData, request: gr.Request) -> list[object]:
            example = service.examples[_example_index(event, len(service.examples))]
            answering.dismiss(request)
            return _filled(example)

        def take_new() -> list[object]:
            return _filled(service.new_problem())

        def cleared(request: gr.Request) -> list[object]:
            rest = [*answering.clear(), *values]
            return [gr.skip()] * len(rest) if answering.is_running(request) else rest  # it is dismissed and ends empty

        def others_changed(path: str | None, others: list[str] | None, request: gr.Request) -> list[object]:
            return [check_others(service, path, others or []), *cleared(request)]

        def dismiss(request: gr.Request) -> None:
            answering.dismiss(request)

        own_changes = (self.others.upload, self.others.delete)
        for replaced in self.replacing:
            replaced(dismiss, None, None, queue=False, **_HIDDEN)
        for own in (self.picture.upload, self.picture.clear):  # the expected answer belonged to another picture
            own(lambda: "", None, self.expected, queue=False, **_HIDDEN)
        for replaced in (self.new.click, self.picture.upload, self.picture.clear):
            replaced(cleared, None, [*answering.outputs, *extra], **_HIDDEN)
        self.stop.click(answering.stop, queue=False, **_HIDDEN)
        taken = self.examples.select(take_example, None, fields, queue=False, **_HIDDEN)
        self.new.click(take_new, None, fields, **_HIDDEN)
        self.picture.change(lambda path: check_picture(service, path), self.picture, self.picture, **_HIDDEN)
        self.others.change(None, self.others, self.fold, js=_UNFOLD, api_visibility="private")
        for own in own_changes:
            own(others_changed, [self.picture, self.others], [self.others, *answering.outputs, *extra], **_HIDDEN)
        return [event(ask, self.asked, outputs, **EVENT) for event in (self.run.click, taken.success)]


def check_picture(service: Service, path: str | None) -> object:
    """An update that removes an upload that is not a picture, with a warning; a picture stays and is preprocessed."""
    if path is None:
        return gr.skip()
    try:
        service.prepare(load_image(path, service.settings.limits))
    except UserError as error:
        gr.Warning(html.escape(str(error)), title="This picture cannot be used")
        return None
    return gr.skip()


def check_others(service: Service, first: str | None, others: Sequence[str]) -> object:
    """An update that removes what cannot be asked about beside `first`, with a warning for each reason."""
    limits = service.settings.limits
    before = [first] if first else []
    try:
        for image in load_images([*before, *others], limits)[len(before) :]:
            service.prepare(image)
        return gr.skip()
    except UserError:
        pass
    kept: list[str] = []
    reasons: dict[str, None] = {}
    for path in others[: limits.max_pictures]:  # a client can send any number
        try:
            load_images([*before, *kept, path], limits)
            kept.append(path)
        except UserError as error:
            reasons[str(error)] = None
    for reason in reasons:
        gr.Warning(html.escape(reason), title="This picture cannot be used")
    return kept or None


def examples_html(examples: Sequence[Example], limits: Limits) -> str:
    """A button with a thumbnail for each example, named by its question; and to what size the page scales pictures."""
    buttons = "".join(
        f'<button type="button" data-index="{i}" title="Ask: {html.escape(example.question)}">'
        f'<img src="{thumbnail_uri(example.image, THUMBNAIL_PIXELS)}" alt="Example: {html.escape(example.question)}" '
        f'width="{THUMBNAIL_PIXELS // 2}" height="{THUMBNAIL_PIXELS // 2}"></button>'
        for i, example in enumerate(examples)
    )
    return (
        f'<div class="lt-examples" role="group" aria-label="Examples" data-max-pixels="{limits.max_model_pixels}">'
        f"{buttons}</div>"
    )


def _filled(example: Example) -> list[object]:
    return [example.image, example.question, example.expected, None]


def _example_index(event: gr.EventData, count: int) -> int:
    """The index of the example that was clicked; a client can send anything."""
    index = (event._data or {}).get("index") if isinstance(event._data, dict | None) else None
    if not isinstance(index, int) or not 0 <= index < count:
        raise gr.Error(f"There is no such example; choose 0 to {count - 1}.", print_exception=False)
    return index
