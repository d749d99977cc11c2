"""The Share button under an answer, its panel, and what the address of a shared answer opens.

    sharing = Sharing(service, panel, licence_words)        # None where the owner has not turned sharing on
    sharing.wire(inputs.question_inputs, outputs)
    updates = sharing.updates(view, question)               # for sharing.outputs

Pressed, Share says what is kept, for how long, and under which licence; only then an address is made.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.processing_utils import save_bytes_to_cache

from inference.adapters.record import BASE_NAME
from inference.common.errors import UserError
from inference.common.html import escape
from inference.common.settings import STARTER_NAME
from inference.prompt.format import THINK_PROMPT
from inference.prompt.image import content_key, load_images
from inference.prompt.system_prompt import prompt_name
from inference.server.service import SERVED, Question, Service
from inference.server.shares import Share, SharedAnswer, SharedVerdict
from inference.ui.answering import Panel, visitor_of
from inference.ui.inputs import Emptied
from inference.ui.view import CompletionState, View, notes_html

_JS = Path(__file__).with_name("share.js").read_text(encoding="utf-8")
_SHOWN_JS = """
const shown = () => window.lookthinkShare?.(element);
watch('value', () => requestAnimationFrame(shown));
shown();
"""
_HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_CLOSED: dict[str, Any] = {"visible": False, "value": ""}
SHARED_STATES = (CompletionState.DONE, CompletionState.CUT_OFF)
"""A stopped completion was ended by its visitor, so it is not the model's."""


class Sharing:
    """The button, the panel and a field for the signed answer; make it inside the column of the answer."""

    def __init__(self, service: Service, panel: Panel, licence_words: Callable[[], str]) -> None:
        """`licence_words` returns a sentence on the base's licence and may wait some seconds."""
        self._service, self._panel, self._licence_words = service, panel, licence_words
        with panel.tools:
            self.button = gr.Button("Share", visible=False, size="sm", min_width=0, elem_id="ask-share-button")
        self.dialog = gr.HTML(visible=False, js_on_load=_SHOWN_JS, elem_id="ask-share")
        self.record = gr.Textbox("", visible=False, elem_id="ask-share-record")
        self._calls = gr.HTML(js_on_load=_JS, elem_id="ask-share-calls")
        self.outputs: list[Component] = [self.button, self.dialog, self.record]

    @property
    def emptied(self) -> Emptied:
        """The components with their updates while there is no answer to share."""
        return list(zip(self.outputs, self._updates("")))

    def updates(self, view: View, question: Question | None) -> list[object]:
        """Updates for `outputs` once `view` is on the page."""
        can_share = question is not None and view.state in SHARED_STATES and bool(view.text)
        return self._updates(self._service.shares.sign(self._answer(view, question)) if can_share and question else "")

    def wire(self, inputs: Sequence[Component], buttons: Sequence[Component]) -> None:
        """Wire it: `inputs` as `Inputs.question_inputs`, `buttons` those under the answer that are of an answer given
        now, first the one that stays."""
        self.button.click(self._offer, None, self.dialog, **_HIDDEN)
        pictures = [inputs[0], inputs[-1]]
        self._calls.submit(self._act, [*pictures, self.record], self.dialog, **_HIDDEN)
        outputs = [*inputs, *self._panel.components, *self.outputs, *buttons]

        def open_share(event: gr.EventData) -> list[object]:
            data = event._data if isinstance(event._data, dict) else {}
            try:
                given = self._opened(data.get("id"), data.get("is_own") is True, inputs)
            except UserError as error:
                given = [gr.skip()] * len(outputs)
                given[len(inputs) + self._panel.components.index(self._panel.notes)] = _problem_html(error)
                return given
            return [*given, *self._updates(""), *(gr.update(visible=i == 0) for i in range(len(buttons)))]

        self._calls.select(open_share, None, outputs, **_HIDDEN)

    @property
    def opened(self) -> Callable[..., object]:
        """Gradio's event after which an answer that was shared stands in the panel."""
        return self._calls.select  # type: ignore[no-any-return]

    def _updates(self, record: str) -> list[object]:
        return [gr.update(visible=bool(record)), gr.update(**_CLOSED), record]

    def _offer(self) -> object:
        settings = self._service.shares.settings
        days = f"{settings.days} day{'s' * (settings.days != 1)}"
        return _dialog(
            f"<p>A model made this answer. {escape(self._licence_words())}</p>"
            "<p><strong>What is kept:</strong> the pictures as the model got them, the question, the expected answer, "
            f"the settings and the completion, on this server for at most {days}. Whoever has the address can open it; "
            "it cannot be guessed, and search engines are told to leave it out. You can delete it in this browser at "
            "any time, and so can the owner.</p>",
            ("make", "Make the address"),
            ("close", "Close"),
        )

    def _act(
        self, request: gr.Request, event: gr.EventData, first: str | None, others: list[str] | None, record: str
    ) -> object:
        """A button in the panel, or Delete under a shared answer."""
        act, share_id, key = (str(getattr(event, name, ""))[:64] for name in ("act", "id", "key"))
        shares = self._service.shares
        if act not in ("make", "delete"):
            return gr.update(**_CLOSED)
        try:
            if act == "delete":
                shares.delete(share_id, key)
                return _dialog(f"<p>Deleted: {_gone()}</p>", ("close", "Close"), deleted=share_id)
            images = load_images([first, *(others or ())], self._service.settings.limits)
            share_id, key = shares.save(record, images, visitor_of(request).id)
        except UserError as error:
            return _dialog(_problem_html(error), ("close", "Close"))
        return _dialog(
            '<label>Address<input type="text" readonly></label>',
            ("copy", "Copy"),
            ("delete", "Delete it"),
            ("close", "Close"),
            made=share_id,
            key=key,
        )

    def _answer(self, view: View, question: Question) -> SharedAnswer:
        offer, adapter, verdict = self._service.offer, question.adapter, view.verdict
        prompt = THINK_PROMPT if adapter is None else question.system_prompt_of(adapter)
        return SharedAnswer(
            pictures=tuple(content_key(image).hex() for image in (question.image, *question.more_images)),
            question=question.question,
            expected=_written(question.expected),
            base=self._base_name(),
            adapter=adapter,
            title=f"{self._base_name()} alone" if adapter is None else _written(offer.shown.title(adapter)),
            system_prompt=prompt_name(prompt),
            max_new_tokens=question.max_new_tokens,
            temperature=question.temperature,
            seed=question.seed,
            state=view.state.value,
            text=_written(view.text),
            num_tokens=view.num_tokens,
            seconds=view.seconds,
            thought_tokens=view.thought_tokens,
            thought_seconds=view.thought_seconds,
            picture_distance=view.picture_distance,
            verdict=None
            if verdict is None
            else SharedVerdict(
                correct=verdict.correct,
                gold=_written(verdict.gold),
                answer=_written(verdict.answer),
                rule=_written(verdict.rule),
            ),
        )

    def _base_name(self) -> str:
        settings = self._service.settings
        if settings.is_starter:
            return STARTER_NAME
        return Path(settings.base).name if Path(settings.base).is_absolute() else settings.base

    def _opened(self, share_id: object, is_own: bool, inputs: Sequence[Component]) -> list[object]:
        """Values of the inputs and updates of the panel for a share; raises `UserError`."""
        shares = self._service.shares
        share = shares.read(share_id)
        answer, named = share.answer, str(share_id)
        files = shares.pictures(named, share)
        first, *others = (
            save_bytes_to_cache(data, name, inputs[0].GRADIO_CACHE) for data, name in zip(files, share.files)
        )
        offer = self._service.offer
        adapter: str = BASE_NAME if answer.adapter is None else answer.adapter
        if answer.adapter is not None and (adapter == offer.served or adapter not in offer.visible):
            adapter = SERVED
        values = [first, answer.question, answer.expected, adapter, answer.temperature, answer.max_new_tokens]
        updates = self._panel.updates(_view(answer))
        at = self._panel.components.index(self._panel.notes)
        updates[at] = _shared_html(named, share, is_own) + notes_html(_view(answer), can_continue=False)
        return [*values, answer.seed, others or None, *updates]


def _view(answer: SharedAnswer) -> View:
    """As the page showed it."""
    return View(
        CompletionState(answer.state),
        answer.text,
        num_tokens=answer.num_tokens,
        seconds=answer.seconds,
        thought_tokens=answer.thought_tokens,
        thought_seconds=answer.thought_seconds,
        picture_distance=answer.picture_distance,
        temperature=answer.temperature,
        seed=answer.seed,
        verdict=answer.verdict,
    )


def _shared_html(share_id: str, share: Share, is_own: bool) -> str:
    """Date and model of a shared answer, with Delete for the browser that has the key."""
    answer, date = share.answer, datetime.fromtimestamp(share.created, UTC)
    who = escape(answer.title, 200) + (f" (base {escape(answer.base, 200)})" if answer.adapter is not None else "")
    delete = _button("delete", "Delete it", share_id) if is_own else ""
    return (
        f'<div class="lt-shared"><p class="lt-note"><strong>Shared on {date:%Y-%m-%d}; asked of {who}.</strong></p>'
        f"{delete}</div>"
    )


def _dialog(inner: str, *buttons: tuple[str, str], **data: str) -> object:
    attributes = "".join(f' data-{name}="{escape(value)}"' for name, value in data.items())
    share_id = data.get("made", "")
    row = "".join(_button(act, words, share_id) for act, words in buttons)
    content = f'<section class="lt-share" aria-label="Share this answer"{attributes}>{inner}<div>{row}</div></section>'
    return gr.update(value=content, visible=True)


def _button(act: str, words: str, share_id: str) -> str:
    return f'<button type="button" data-share-act="{act}" data-id="{escape(share_id)}">{html.escape(words)}</button>'


def _problem_html(error: UserError) -> str:
    return f'<div class="lt-notes"><p class="lt-note lt-bad" role="alert">{escape(error)}</p></div>'


def _gone() -> str:
    return "its pictures, question and completion are off this server, and the address opens nothing any more."


def _written(text: str) -> str:
    """The text as UTF-8 can hold it: a client may send half of a character."""
    return text.encode("utf-8", "replace").decode()
