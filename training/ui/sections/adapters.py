"""The Adapters section: every version with its evaluation, and the served one; promote, roll back, publish."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from inference.adapters.catalog import Version, adapter_versions, can_delete, delete_version
from inference.adapters.hub_cache import MAX_NAME_CHARS, hub_name
from inference.adapters.hub_fetch import fetch_adapter
from inference.adapters.record import adapter_name, named_folder
from inference.adapters.served import Serving, promote, roll_back, serving
from inference.adapters.shown import change_shown, read_shown
from inference.common.errors import UserError
from inference.common.html import escape
from inference.common.settings import STARTER_NAME, Settings
from inference.server.shares import Shares
from training.admin.access import Caller
from training.hub.publish.licence import licence_words
from training.hub.publish.merged import MAX_DOWNLOAD_BYTES, base_bytes, merge_command, write_merged
from training.hub.publish.queue import publish_words, queue_run
from training.learn.promoted import ALONE
from training.ui.answers.pinned import PinnedPanel, Told, asked_pair
from training.ui.base.context import Context, Section
from training.ui.base.download import Downloads
from training.ui.base.html import KEEP_FOLDED
from training.ui.sections.adapter_cards import CardFacts, serving_html, shared_html, versions_html
from training.ui.sections.prompt_choice import PromptChoice

HINT = (
    '<p class="lt-quiet">Promote an adapter to let it answer visitors from then on. No restart is needed, and '
    "answers under way end on the adapter they began with.</p>"
)
_BUTTONS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-act]');
  if (!button) return;
  const { act, adapter } = button.dataset;
  if (act === 'delete' && !window.confirm(`Delete the files of ${adapter}? This cannot be undone.`)) return;
  if (act === 'delete shared' && !window.confirm('Delete this shared answer? This cannot be undone.')) return;
  const title = [...element.querySelectorAll('input[data-title]')].find((input) => input.dataset.title === adapter);
  trigger('submit', { act, adapter, title: title?.value ?? '' });
});
"""


def build_adapters(context: Context, note: gr.Textbox, downloads: Downloads) -> Section:
    """Build the section, inside its sub-tab; nothing of an adapter is in it before `refresh`."""
    with gr.Column(elem_id="lt-adapters"):
        served = gr.HTML(js_on_load=_BUTTONS, elem_id="adapters-served")
        done = gr.HTML(js_on_load=None, elem_id="adapters-done")
        found = gr.HTML(js_on_load=None, elem_id="adapters-found")
        gr.HTML(HINT, js_on_load=None)
        with gr.Row(elem_id="adapters-hub", elem_classes="lt-actions"):
            name = gr.Textbox(
                label="An adapter on the Hub",
                placeholder="owner/name or owner/name@revision",
                info="It is fetched, checked, and answers from then on. A private one needs HF_TOKEN.",
                max_length=MAX_NAME_CHARS,
                scale=3,
                elem_id="adapters-hub-name",
            )
            fetch = gr.Button("Fetch and promote", elem_id="adapters-hub-fetch", scale=1)
        choice = PromptChoice(context)
        publish = PublishPanel(context)
        pinned = PinnedPanel(context, _BUTTONS)
        versions = gr.HTML(js_on_load=_BUTTONS + KEEP_FOLDED, elem_id="adapters-list")
        shared = gr.HTML(js_on_load=_BUTTONS + KEEP_FOLDED, elem_id="adapters-shared")
    actions = AdapterActions(context, publish, choice, downloads, pinned)
    outputs = [done, served, publish.licence, versions, shared, pinned.list, found, choice.trials]
    section = Section("adapters", context, note, [], outputs, actions.refresh)
    options: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": done, "trigger_mode": "once"}
    for part in (served, versions, shared, pinned.list):
        fields = [choice.prompt, *publish.fields]
        acted = section.on(part.submit, actions.act, fields, with_event=True, promotes=True, **options)
        section.on(acted.failure, actions.refresh)  # such as after "Look again"
    for event in (fetch.click, name.submit):
        section.on(event, actions.fetch, [name, choice.prompt], promotes=True, **options)
    pinned.clear_after(section.on(pinned.add.click, actions.pin, pinned.fields, **options))
    section.on(choice.compare.click, actions.compare_prompts, [name, choice.prompt], **options)
    return section


class PublishPanel:
    """Three fields, and the action behind the Publish buttons on the cards."""

    def __init__(self, context: Context) -> None:
        self._context = context
        training = context.settings.training
        with gr.Row(elem_id="adapters-publish", elem_classes="lt-actions"):
            self.repo = gr.Textbox(
                training.publish_to or "",
                label="Publish to",
                placeholder="owner/name",
                info="The repository on the Hub that Publish, on a card below, sends its adapter to; it is made if it "
                "does not exist. HF_TOKEN must have the right to write there.",
                max_length=120,
                max_lines=1,
                scale=3,
                elem_id="adapters-publish-to",
            )
            with gr.Column(scale=2, min_width=240, elem_id="adapters-publish-how"):
                self.public = gr.Checkbox(
                    training.publish_public, label="Make a new repository public", elem_id="adapters-publish-public"
                )
                self.replace = gr.Checkbox(
                    False,
                    label="Publish on top of somebody else's commit on the main branch",
                    elem_id="adapters-publish-replace",
                )
        self.licence = gr.HTML(js_on_load=None, elem_id="adapters-licence")

    @property
    def fields(self) -> list[Component]:
        """The components whose values `publish` takes, in its order."""
        return [self.repo, self.public, self.replace]

    def licence_words(self) -> str:
        """The licence of the base that answers here, before somebody publishes an adapter of it."""
        settings = self._context.settings
        return licence_words(STARTER_NAME if settings.is_starter else settings.base)

    def states(self, versions: Sequence[Version]) -> dict[str, str]:
        """By the name of each version that can be published, its state on the Hub in words."""
        return {one.name: publish_words(folder) for one in versions if (folder := self._run_folder(one)) is not None}

    def publish(self, versions: Sequence[Version], adapter: str, repo: object, public: object, replace: object) -> str:
        """Queue the run behind a version, for the app's watcher to publish; returns a message."""
        version = next((one for one in versions if one.name == adapter), None)
        folder = self._run_folder(version) if version else None
        if folder is None:
            raise UserError("The run of that adapter is no longer here. Choose another one.")
        target = str(repo or "").strip() or self._context.settings.training.publish_to
        try:
            where = queue_run(folder, target, public=bool(public), replace=bool(replace))
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}). Make room there.") from error
        return f"{folder.name} is on its way to {where}."

    def _run_folder(self, version: Version) -> Path | None:
        """The folder of the run that made it, if it is here; no path comes from the page."""
        if not version.run or version.problem or version.run != Path(version.run).name:
            return None
        folder = self._context.store.folder / version.run
        return folder if (folder / "config.json").is_file() else None


class AdapterActions:
    """The section's actions; each returns a message, the served adapter, the licence of the base, the cards, the
    shared answers, the pinned questions, what was said with the last promotion, and the problems under each system
    prompt."""

    def __init__(
        self,
        context: Context,
        publish: PublishPanel,
        choice: PromptChoice,
        downloads: Downloads,
        pinned: PinnedPanel,
    ) -> None:
        self._context, self._publish, self._choice, self._downloads = context, publish, choice, downloads
        self._pinned, self._told = pinned, Told(context.asker)

    def refresh(self, caller: Caller) -> list[object]:
        """The current values, with the message as it was."""
        settings = self._context.settings
        now = serving(settings)
        versions = adapter_versions(settings, now)
        size = base_bytes(settings.base)
        facts = CardFacts(
            can_promote=now.source != "LOOKTHINK_ADAPTER",
            publishing=self._publish.states(versions),
            shown=read_shown(settings.home),
            base=settings.base,
            licence=self._publish.licence_words(),
            can_merge=size is not None and size <= MAX_DOWNLOAD_BYTES,
            deletable=frozenset(one.name for one in versions if can_delete(one, settings.home)),
            told=self._told.cards(versions),
        )
        cards = versions_html(versions, facts)
        licence = f'<p class="lt-quiet">{escape(facts.licence)}</p>'
        shared = shared_html(Shares(settings.home, settings.sharing))
        serving_now = serving_html(now, before_name(settings, now))
        pinned = [self._pinned.list_html(), self._told.newest_html()]
        return [gr.skip(), serving_now, licence, cards, shared, *pinned, gr.skip()]

    def act(self, caller: Caller, event: gr.EventData, prompt: object, *fields: object) -> list[object]:
        """A button on a card: promote (with the chosen system prompt), roll back, publish and so on.

        `fields` are the values of `PublishPanel.fields`.
        """
        act, adapter = (str(getattr(event, name, "")) for name in ("act", "adapter"))
        if act == "promote":
            return self._served(self._promote(adapter, prompt, caller), caller)
        if act == "roll back":
            now = self._roll_back(adapter, caller)
            self._context.asker.last = ""  # what broke is no longer served
            return self._served(now, caller)
        if act == "publish":
            message = self._publish.publish(adapter_versions(self._context.settings), adapter, *fields)
            return self._done(message, caller)
        if act == "delete shared":
            Shares(self._context.settings.home, self._context.settings.sharing).delete_as_owner(adapter)
            return self._done("The shared answer is deleted.", caller)
        if act == "unpin":
            self._pinned.questions.remove(adapter)
            return self._done("The question is no longer pinned.", caller)
        settings = self._context.settings
        now = serving(settings)
        versions = adapter_versions(settings, now)
        version = next((one for one in versions if one.name == adapter), None)
        if version is None:
            raise UserError("That adapter is no longer here. Choose another one.")
        if act == "ask pinned":
            self._context.asker.ask(*asked_pair(version, versions, before_name(settings, now)))
            return ["", *self.refresh(caller)[1:]]
        if act in ("download", "merge"):
            folder = version.path if act == "download" else self._merged(version)
            return self._done("", caller, _link(self._downloads.folder_address(folder), folder.name))
        return self._done(self._changed(act, version, str(getattr(event, "title", ""))), caller)

    def _changed(self, act: str, version: Version, title: str) -> str:
        """Rename, show, hide or delete; returns a message."""
        home, name = self._context.settings.home, version.name
        if act == "rename":
            shown = change_shown(home, name, title="" if title.strip() == name else title)
            return f"{name} is called {shown.title(name)} on the page."
        if act in ("show", "hide"):
            change_shown(home, name, is_shown=act == "show")
            self._context.refresh_served()
            return f"Visitors {'see' if act == 'show' else 'no longer see'} {name}."
        if act == "delete":
            delete_version(home, version)
            return f"{name} is deleted."
        raise UserError("The page did not name an action. Load it again.")

    def _merged(self, version: Version) -> Path:
        """The folder of a version merged into the base; those that were made before it are deleted."""
        settings = self._context.settings
        size = base_bytes(settings.base)
        if size is None or size > MAX_DOWNLOAD_BYTES:
            raise UserError(
                f"The base has more than {MAX_DOWNLOAD_BYTES / 1e9:.0f} GB: {merge_command(str(version.path))} merges "
                "it on the machine."
            )
        target = settings.home / "merged" / f"{version.name}-merged"
        shutil.rmtree(target.parent, ignore_errors=True)
        write_merged(settings.base, version.path, target)
        return target

    def fetch(self, caller: Caller, typed: object, prompt: object) -> list[object]:
        """Fetch an adapter of the Hub by its name, and promote it, with the chosen system prompt if it says none."""
        settings, chosen = self._context.settings, self._choice.chosen(prompt)
        folder = self._fetched(typed)
        now = promote(settings.home, folder, caller.name, settings=settings, system_prompt=chosen)
        return self._served(now, caller)

    def pin(self, caller: Caller, picture: str | None, question: object, gold: object) -> list[object]:
        """Pin a question."""
        self._pinned.questions.add(picture, question, gold)
        return self._done("The question is pinned.", caller)

    def compare_prompts(self, caller: Caller, typed: object, prompt: object) -> list[object]:
        """Fetch an adapter of the Hub by its name, and ask it a few problems under each system prompt."""
        trials = self._choice.trials_html(self._fetched(typed), prompt)
        return [*self._done("Choose the system prompt that it does better under.", caller)[:-1], trials]

    def _fetched(self, typed: object) -> Path:
        settings = self._context.settings
        name = str(typed or "").strip()
        if hub_name(name) is None:  # a page may not name a folder of this machine
            raise UserError(f"{name[:80]!r} is no adapter's name on the Hub. Write owner/name, or owner/name@revision.")
        return fetch_adapter(name, settings.home, settings.base)

    def _served(self, now: Serving, caller: Caller) -> list[object]:
        self._context.refresh_served()
        return self._done(f"{now.name or ALONE} answers from now on.", caller)

    def _done(self, message: str, caller: Caller, link: str = "") -> list[object]:
        _, *rest = self.refresh(caller)
        return [f'<p class="lt-note lt-done" role="status">{escape(message, 300)}{link}</p>', *rest]

    def _promote(self, adapter: str, prompt: object, caller: Caller) -> Serving:
        settings, chosen = self._context.settings, self._choice.chosen(prompt)
        version = next((one for one in adapter_versions(settings) if one.name == adapter), None)
        if version is None:
            raise UserError("That adapter is no longer here. Choose another one.")
        return promote(settings.home, version.path, caller.name, settings=settings, system_prompt=chosen)

    def _roll_back(self, adapter: str, caller: Caller) -> Serving:
        """Return to the adapter that the button named, and to no other that was promoted meanwhile."""
        settings = self._context.settings
        now = serving(settings)
        before = before_name(settings, now)
        if before is None or before != adapter:
            what = f"a roll back would now return to {before}" if before else "there is nothing left to return to"
            raise UserError(f"Meanwhile something else was promoted or rolled back, and {what}. Look again.")
        return roll_back(settings.home, caller.name, settings=settings, instead_of=now.digest)


def before_name(settings: Settings, now: Serving) -> str | None:
    """The name of the adapter that a roll back returns to; `None` if there is none."""
    if now.before is None:
        return None
    if now.before.adapter is not None:
        return now.before.adapter
    folder = named_folder(settings)
    return adapter_name(folder) if folder else ALONE


def _link(address: str, name: str) -> str:
    """A link to a file, as HTML."""
    return f'<a href="{escape(address)}">Download {escape(name, 120)}.zip</a> (the link works once, within a minute)'
