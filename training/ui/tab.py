"""The Train tab: who may in, then Start, Watch, Runs and Adapters as sections, one timer, and what has happened.

    train = build_train(desk, archive, train_tab)     # inside the tab's context
    train.leave_for([ask_tab, compare_tab])           # the timer rests while another tab is open

Nothing of a run is in the page before its reader was let in: each section is filled by its `refresh`, behind the
guard, when it is opened. So a reload, another browser or a restart shows what is so, and not what was.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from training.admin.access import Caller, NotAllowed
from training.ui.base.context import Desk, Section
from training.ui.base.download import Archive
from training.ui.base.guard import HIDDEN
from training.ui.login import Gate
from training.ui.sections.adapters import build_adapters
from training.ui.sections.runs import build_runs, chosen_one
from training.ui.sections.start import build_start
from training.ui.sections.watch import build_watch

HERE = Path(__file__).parent
CSS_PATHS = [HERE / "train.css", HERE / "watch.css"]
TICK_SECONDS = 2.0
_REST = "() => ({__type__: 'update', active: false})"
_TICK = "() => ({__type__: 'update', active: true})"
"""Run in the page: nobody is asked."""


class Train:
    """The tab's parts and how they hang together."""

    def __init__(self, desk: Desk, archive: Archive, tab: gr.Tab) -> None:
        self._desk = desk
        self.timer = gr.Timer(TICK_SECONDS, active=False)
        self.open = gr.Textbox("", visible=False, elem_id="train-open", show_label=False, container=False)
        """Name of the section that is open; empty before the first look."""
        self.gate = Gate(desk)
        with gr.Column(visible=False, elem_id="train-desk", elem_classes="lt-train") as self.column:
            self.notice = gr.HTML(js_on_load=None, elem_id="train-notice")
            self.dismiss = gr.Button(
                "Dismiss", size="sm", visible=False, elem_id="train-dismiss", elem_classes="lt-small"
            )
            with gr.Tabs(elem_id="train-tabs") as self.tabs:
                self.sections: dict[str, Section] = {}
                self.heads: dict[str, gr.Tab] = {}
                with gr.Tab("Start", id="start") as self.heads["start"]:
                    self.sections["start"], self.form = build_start(desk)
                with gr.Tab("Watch", id="watch") as self.heads["watch"]:
                    self.sections["watch"] = build_watch(desk)
                with gr.Tab("Runs", id="runs") as self.heads["runs"]:
                    self.sections["runs"], self.runs = build_runs(desk, archive)
                with gr.Tab("Adapters", id="adapters") as self.heads["adapters"]:
                    self.sections["adapters"] = build_adapters(desk)
            with gr.Row(elem_classes="lt-actions"):
                self.gate.build_log_out()
        self.seen = gr.State({})
        """Digests of what this page was sent last, by section and place."""
        self._wire(tab)

    @property
    def _inputs(self) -> list[Any]:
        return [self.open, self.seen, *(part for section in self.sections.values() for part in section.inputs)]

    @property
    def _outputs(self) -> list[Any]:
        sections = [part for section in self.sections.values() for part in section.outputs]
        return [
            self.gate.column,
            self.column,
            self.tabs,
            self.timer,
            self.open,
            self.seen,
            self.notice,
            self.dismiss,
            *sections,
        ]

    def _wire(self, tab: gr.Tab) -> None:
        guard, inputs, outputs = self._desk.guard, self._inputs, self._outputs
        enter = guard(self._enter, refused=self._refused)
        for event in (tab.select, self.gate.entered):
            event(enter, inputs, outputs, **HIDDEN)
        self.timer.tick(guard(self._tick, refused=self._refused), inputs, outputs, trigger_mode="once", **HIDDEN)
        for name, head in self.heads.items():
            head.select(guard(self._opener(name), refused=self._refused), inputs, outputs, **HIDDEN)
        self.dismiss.click(guard(self._dismiss), None, [self.notice, self.dismiss], **HIDDEN)
        self.form.button.click(guard(self._start), [*inputs, *self.form.form], outputs, **HIDDEN)
        self.runs.resume.click(None, None, self.timer, js=_TICK, api_visibility="private")
        self.runs.watch.click(guard(self._watch_chosen), [*inputs, self.runs.chosen], outputs, **HIDDEN)

    def leave_for(self, others: Sequence[gr.Tab]) -> None:
        """Let the timer rest while one of these tabs is open."""
        for other in others:
            other.select(None, None, self.timer, js=_REST, api_visibility="private")

    def _enter(self, caller: Caller, opened: str, seen: Any, *sent: Any) -> list[Any]:
        """The first look shows every section; Watch is open while a run is active."""
        first = opened not in self.sections
        opened = opened if not first else ("watch" if self._desk.store.active() else "start")
        return self._all(caller, opened, {} if first else seen, sent, list(self.sections), move=first)

    def _tick(self, caller: Caller, opened: str, seen: Any, *sent: Any) -> list[Any]:
        opened = opened if opened in self.sections else "watch"
        return self._all(caller, opened, seen, sent, [opened], move=False, ticking=True)

    def _opener(self, name: str) -> Any:
        def open_section(caller: Caller, _: str, seen: Any, *sent: Any) -> list[Any]:
            return self._all(caller, name, seen, sent, [name], move=False)

        return open_section

    def _start(self, caller: Caller, opened: str, seen: Any, *sent: Any) -> list[Any]:
        """Start a run, and go to Watch."""
        count = len(self.form.form)
        run_id = self.form.start(caller, *sent[-count:])
        return self._to_watch(caller, run_id, seen, sent[:-count])

    def _watch_chosen(self, caller: Caller, opened: str, seen: Any, *sent: Any) -> list[Any]:
        return self._to_watch(caller, chosen_one(sent[-1]), seen, sent[:-1])

    def _to_watch(self, caller: Caller, run_id: str, seen: Any, sent: Sequence[Any]) -> list[Any]:
        """Watch, with this run chosen: the first of its inputs. What it showed before does not count as seen."""
        at = len(self.sections["start"].inputs)
        values = [*sent[:at], run_id, *sent[at + 1 :]]
        kept = {key: digest for key, digest in dict(seen or {}).items() if not key.startswith("watch.")}
        return self._all(caller, "watch", kept, values, ["watch"], move=True)

    def _dismiss(self, caller: Caller) -> list[Any]:
        self._desk.store.set_notice(None)
        return self._notices()

    def _all(
        self,
        caller: Caller,
        opened: str,
        seen: Any,
        sent: Sequence[Any],
        names: Sequence[str],
        *,
        move: bool,
        ticking: bool = False,
    ) -> list[Any]:
        """Updates for `_outputs`: those sections of `names` that changed, and the frame."""
        seen = dict(seen) if isinstance(seen, dict) else {}
        updates: list[Any] = []
        at = 0
        for name, section in self.sections.items():
            values = sent[at : at + len(section.inputs)]
            at += len(section.inputs)
            if name not in names:
                updates += [gr.skip()] * len(section.outputs)
                continue
            refreshed = section.refresh(caller, *values)
            updates += refreshed if section.skips else _changed(name, refreshed, seen)
        notices = _changed("notices", self._notices(), seen)
        busy = self._desk.is_busy()
        timer = gr.skip() if ticking and busy else gr.Timer(active=busy)
        tabs = gr.Tabs(selected=opened) if move else gr.skip()
        shown = [gr.skip(), gr.skip()] if ticking else [gr.update(visible=False), gr.update(visible=True)]
        return [*shown, tabs, timer, gr.skip() if ticking else opened, seen, *notices, *updates]

    def _refused(self, refusal: NotAllowed) -> list[Any]:
        """The gate, and nothing behind it: what was shown is taken away."""
        frame = [gr.update(visible=True), gr.update(visible=False), gr.skip(), gr.Timer(active=False), "", {}]
        return [*frame, *[gr.skip()] * (len(self._outputs) - len(frame))]

    def _notices(self) -> list[Any]:
        """What happened to the records, and what is going wrong now."""
        notice, parts = self._desk.store.notice, [self._desk.setup_html()]
        for trouble in filter(None, (self._desk.watcher.trouble, self._desk.keeper.trouble)):
            parts.append(f'<p class="lt-note lt-bad" role="alert">{html.escape(trouble)}</p>')
        if notice:
            parts.append(f'<p class="lt-note lt-warn" role="status">{html.escape(notice)}</p>')
        return ["".join(parts), gr.update(visible=bool(notice))]


def build_train(desk: Desk, archive: Archive, tab: gr.Tab) -> Train:
    """The tab's contents, inside its context."""
    return Train(desk, archive, tab)


def _changed(name: str, updates: Sequence[Any], seen: dict[str, str]) -> list[Any]:
    """`gr.skip()` for what the page has been sent already; `seen` is brought up to date."""
    kept = []
    for i, update in enumerate(updates):
        key, digest = f"{name}.{i}", hashlib.blake2s(repr(update).encode(), digest_size=12).hexdigest()
        kept.append(gr.skip() if seen.get(key) == digest else update)
        seen[key] = digest
    return kept
