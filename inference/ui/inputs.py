"""The left column: pictures, examples, question, and the folded settings. Ask and Compare have the same one."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from inference.common.errors import UserError
from inference.prompt.image import load_image, load_images, thumbnail_uri
from inference.server.service import MAX_EXPECTED_CHARS, MAX_SEED, MAX_TEMPERATURE, Example, Service
from inference.ui.answering import Answering
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
_HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class Inputs:
    """Picture, question and settings of one tab; make it inside a `gr.Blocks` context."""

    def __init__(self, service: Service, name: str, button: str, base_alone: bool = True) -> None:
        """`name` begins the element ids, `button` is the text of the main button, `base_alone` offers no adapter."""
        self._service, self._base_alone = service, base_alone
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
            examples = examples_html(service.examples)
            self.examples = gr.HTML(examples, js_on_load=_EXAMPLES_JS, elem_id=f"{name}-examples")
            self.new = gr.Button("New problem", size="sm", elem_id=f"{name}-new", elem_classes="lt-new", min_width=80)
        with gr.Accordion("More pictures", open=False, elem_id=f"{name}-others", elem_classes="lt-more") as self.fold:
            self._build_others(name)
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
        choices = self._service.choices(self._base_alone)
        self.expected = gr.Textbox(
            label="Expected answer",
            info="If given, the model's answer is compared with it.",
            max_length=MAX_EXPECTED_CHARS,
            elem_id=f"{name}-expected",
        )
        self.adapter = LiveDropdown(
            choices, value=choices[0][1] if choices else None, label="Adapter", elem_id=f"{name}-adapter"
        )
        self.temperature = gr.Slider(
            0, MAX_TEMPERATURE, 0, step=0.1, label="Temperature", info="At 0 the most likely token is always taken."
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

    def adapter_update(self, chosen: object) -> dict[str, object]:
        """The update that offers the adapters of this moment; the chosen one stays chosen while it exists."""
        choices = self._service.choices(self._base_alone)
        values = [value for _, value in choices]
        return gr.update(choices=choices, value=chosen if chosen in values else next(iter(values), None))

    @property
    def question_inputs(self) -> list[Component]:
        """The components that `Service.read_question` reads, in its order."""
        settings = [self.adapter, self.temperature, self.length, self.seed]
        return [self.picture, self.question, self.expected, *settings, self.others]

    @property
    def shared(self) -> list[Component]:
        """The components that Ask and Compare have in common: all but the adapter."""
        return [component for component in self.question_inputs if component is not self.adapter]

    def wire(self, answering: Answering, extra: list[Component], emptied: list[object]) -> None:
        """Wire Stop, the examples, New problem and the check of an upload; another picture empties the panels.

        `extra` are further components to empty, with the values `emptied`.
        """
        service = self._service
        fields = [self.picture, self.question, self.expected, self.others]

        def take_example(event: gr.EventData) -> list[object]:
            return _filled(service.examples[_example_index(event, len(service.examples))])

        def take_new() -> list[object]:
            return _filled(service.new_problem())

        def cleared(request: gr.Request) -> list[object]:
            rest = [*answering.clear(), *emptied]
            if answering.is_running(request):  # it empties the panels itself if dismissed; a change of tabs is none
                rest = [gr.skip()] * len(rest)
            return rest

        def changed(path: str | None, request: gr.Request) -> list[object]:
            return [check_picture(service, path), *cleared(request)]

        def others_changed(path: str | None, others: list[str] | None, request: gr.Request) -> list[object]:
            return [check_others(service, path, others or []), *cleared(request)]

        def dismiss(request: gr.Request) -> None:
            answering.dismiss(request)

        own_changes = (self.others.upload, self.others.delete)
        for replaced in (self.examples.select, self.new.click, self.picture.upload, self.picture.clear, *own_changes):
            replaced(dismiss, None, None, queue=False, **_HIDDEN)
        for own in (self.picture.upload, self.picture.clear):  # the expected answer belonged to another picture
            own(lambda: "", None, self.expected, queue=False, **_HIDDEN)
        self.stop.click(answering.stop, queue=False, **_HIDDEN)
        self.examples.select(take_example, None, fields, **_HIDDEN)
        self.new.click(take_new, None, fields, **_HIDDEN)
        self.picture.change(changed, [self.picture], [self.picture, *answering.outputs, *extra], **_HIDDEN)
        self.others.change(None, self.others, self.fold, js=_UNFOLD, api_visibility="private")
        for own in own_changes:
            own(others_changed, [self.picture, self.others], [self.others, *answering.outputs, *extra], **_HIDDEN)


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


def examples_html(examples: Sequence[Example]) -> str:
    """A button with a thumbnail for each example, named by its question."""
    buttons = "".join(
        f'<button type="button" data-index="{i}" title="{html.escape(example.question)}">'
        f'<img src="{thumbnail_uri(example.image, THUMBNAIL_PIXELS)}" alt="Example: {html.escape(example.question)}" '
        f'width="{THUMBNAIL_PIXELS // 2}" height="{THUMBNAIL_PIXELS // 2}"></button>'
        for i, example in enumerate(examples)
    )
    return f'<div class="lt-examples" role="group" aria-label="Examples">{buttons}</div>'


def _filled(example: Example) -> list[object]:
    return [example.image, example.question, example.expected, None]


def _example_index(event: gr.EventData, count: int) -> int:
    """The index of the example that was clicked; a client can send anything."""
    index = (event._data or {}).get("index") if isinstance(event._data, dict | None) else None
    if not isinstance(index, int) or not 0 <= index < count:
        raise gr.Error(f"There is no such example; choose 0 to {count - 1}.", print_exception=False)
    return index
