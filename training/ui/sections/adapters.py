"""The Adapters section: every version with its evaluation, which one is served; promote, roll back, publish."""

from __future__ import annotations

from typing import Any

import gradio as gr

from inference.adapters.catalog import adapter_versions
from inference.adapters.hub_cache import MAX_NAME_CHARS, hub_name
from inference.adapters.hub_fetch import fetch_adapter
from inference.adapters.record import adapter_name, named_folder
from inference.adapters.served import Serving, promote, roll_back, serving
from inference.common.errors import UserError
from inference.common.settings import Settings
from training.admin.access import Caller
from training.ui.base.context import Desk, Section
from training.ui.base.guard import HIDDEN
from training.ui.base.html import Shown
from training.ui.sections import adapter_cards
from training.ui.sections.publish_panel import PublishPart

ALONE = "the base alone"
HINT = (
    '<p class="lt-quiet">To promote an adapter is to let it answer visitors from then on. It needs no restart, and '
    "answers that are under way end on the adapter they began with.</p>"
)
_BUTTONS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-act]');
  if (button) trigger('submit', { act: button.dataset.act, adapter: button.dataset.adapter });
});
"""
_KEEP_FOLDED = """
const open = new Set();
element.addEventListener('click', (event) => {
  const fold = event.target.closest('summary')?.parentElement;
  if (fold) fold.open ? open.delete(fold.dataset.key) : open.add(fold.dataset.key);
});
watch('value', () => {
  element.querySelectorAll('.lt-fold').forEach((fold) => { fold.open = open.has(fold.dataset.key); });
});
"""
"""What was unfolded stays so when the list is sent again. (A click comes before the change.)"""


def build_adapters(desk: Desk) -> Section:
    """The section's contents, inside its sub-tab; nothing of an adapter is in it before `refresh`."""
    with gr.Column(elem_id="lt-adapters"):
        served = gr.HTML(js_on_load=_BUTTONS, elem_id="adapters-served")
        done = gr.HTML(js_on_load=None, elem_id="adapters-done")
        gr.HTML(HINT, js_on_load=None)
        with gr.Row(elem_id="adapters-hub", elem_classes="lt-actions"):
            named = gr.Textbox(
                label="An adapter on the Hub",
                placeholder="owner/name or owner/name@revision",
                info="It is fetched, checked, and answers from then on. A private one needs HF_TOKEN.",
                max_length=MAX_NAME_CHARS,
                scale=3,
                elem_id="adapters-hub-name",
            )
            fetch = gr.Button("Fetch and promote", elem_id="adapters-hub-fetch", scale=1)
        publish = PublishPart(desk)
        versions = gr.HTML(js_on_load=_BUTTONS + _KEEP_FOLDED, elem_id="adapters-list")
        note = gr.Textbox(visible=False)
    section = _Adapters(desk, publish)
    outputs = [served, versions, note]
    options = HIDDEN | {"show_progress": "minimal", "show_progress_on": done, "trigger_mode": "once"}
    for part in (served, versions):
        inputs = [note, *publish.fields]
        part.submit(desk.guard(section.act, with_event=True), inputs, [done, *outputs], **options)
    for event in (fetch.click, named.submit):
        event(desk.guard(section.fetch), [named, note], [done, *outputs], **options)
    return Section(inputs=[note], outputs=outputs, refresh=section.refresh, skips=True)


class _Adapters:
    """What the section shows, and does, for whom it may."""

    def __init__(self, desk: Desk, publish: PublishPart) -> None:
        self._desk, self._publish = desk, publish

    def refresh(self, caller: Caller, note: Any) -> list[Any]:
        """Updates for the section's outputs."""
        shown, settings = Shown(note), self._desk.settings
        now = serving(settings)
        can_promote = now.source != "LOOKTHINK_ADAPTER"
        versions = adapter_versions(settings, now)
        listed = adapter_cards.versions_html(versions, can_promote, self._publish.words(versions))
        return [
            shown.update("served", adapter_cards.serving_html(now, before_name(settings, now))),
            shown.update("versions", listed),
            shown.note,
        ]

    def act(self, caller: Caller, event: gr.EventData, note: Any, *how: Any) -> list[Any]:
        """A button was pressed: promote, roll back, publish. Updates for what was done, then as `refresh`.

        `how` is what the fields of `PublishPart` say.
        """
        act, adapter = (str(getattr(event, name, "")) for name in ("act", "adapter"))
        if act == "promote":
            now = self._promote(adapter, caller)
        elif act == "roll back":
            now = self._roll_back(adapter, caller)
        elif act == "publish":
            said = self._publish.publish(adapter_versions(self._desk.settings), adapter, *how)
            return [_done_html(said), *self.refresh(caller, note)]
        else:
            raise UserError("The page did not say what is to be done. Load it again.")
        return self._done(now, caller, note)

    def fetch(self, caller: Caller, named: Any, note: Any) -> list[Any]:
        """An adapter of the Hub was named: fetch it and promote it. Updates as of `act`."""
        settings = self._desk.settings
        named = str(named or "").strip()
        if hub_name(named) is None:  # a folder of this machine is nothing that a page may name
            raise UserError(
                f"{named[:80]!r} is no adapter's name on the Hub. Write owner/name, or owner/name@revision."
            )
        folder = fetch_adapter(named, settings.home, settings.base)
        return self._done(promote(settings.home, folder, caller.name, settings=settings), caller, note)

    def _done(self, now: Serving, caller: Caller, note: Any) -> list[Any]:
        self._desk.refresh_served()
        return [_done_html(f"{now.name or ALONE} answers from now on."), *self.refresh(caller, note)]

    def _promote(self, adapter: str, caller: Caller) -> Serving:
        settings = self._desk.settings
        found = next((one for one in adapter_versions(settings) if one.name == adapter), None)
        if found is None:
            raise UserError("That adapter is no longer here. Choose another one.")
        return promote(settings.home, found.path, caller.name, settings=settings)

    def _roll_back(self, adapter: str, caller: Caller) -> Serving:
        """To what the button named, and to nothing that came between."""
        settings = self._desk.settings
        now = serving(settings)
        before = before_name(settings, now)
        if before is None or before != adapter:
            what = f"a roll back would now return to {before}" if before else "there is nothing left to return to"
            raise UserError(f"Meanwhile something else was promoted or rolled back, and {what}. Look again.")
        return roll_back(settings.home, caller.name, settings=settings, instead_of=now.digest)


def _done_html(said: str) -> str:
    return f'<p class="lt-note lt-done" role="status">{adapter_cards.escape(said, 300)}</p>'


def before_name(settings: Settings, now: Serving) -> str | None:
    """The name of what a roll back returns to; `None` if there is nothing."""
    if now.before is None:
        return None
    if now.before.adapter is not None:
        return now.before.adapter
    named = named_folder(settings)
    return adapter_name(named) if named else ALONE
