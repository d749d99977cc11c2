"""The Data section: sets of one's own pictures, labelled by hand or uploaded, looked at, audited and kept.

Gradio writes a stub (.pyi) beside this module, for its input of files.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.data_classes import FileData, ListFiles
from gradio_client.utils import is_http_url_like

from inference.common.errors import UserError
from inference.common.html import escape
from inference.ui.components import LiveDropdown, Picture
from training.admin.access import Caller
from training.data.own_sets.sets import OwnSets, SeenRow, seen
from training.data.own_sets.upload import Upload, opened
from training.data.refusals import MAX_PROBLEM_CHARS, Refusal
from training.data.shapes.missing_columns import NoColumn
from training.hub.publish.own_set import keep_set
from training.hub.publish.publisher import hub_api
from training.hub.space.setup import token_here
from training.ui.base.context import Context, Part, Section
from training.ui.base.html import KEEP_FOLDED
from training.ui.sections.data_cards import CARDS_JS, PAGE_ROWS, audit_html, preview_html, rows_html

AS_RECOGNISED = "as recognised"
MAPPED = {"image": "Picture", "problem": "Question", "options": "Options", "solution": "Answer"}
"""Our columns that can be mapped, and their labels."""


def build_data(context: Context, note: gr.Textbox) -> tuple[Section, DataPanel]:
    """The section, inside its sub-tab, and its parts; no set is in it before `refresh`."""
    with gr.Column(elem_id="lt-data"):
        panel = DataPanel(context, note)
    return panel.section, panel


class DataPanel:
    """The components, and the actions behind them."""

    def __init__(self, context: Context, note: gr.Textbox) -> None:
        self._context, self._sets = context, context.sets
        self.first, self.to_delete = gr.State(0), gr.State("")
        with gr.Row(elem_classes="lt-columns"):
            with gr.Column(scale=5, min_width=300, elem_classes="lt-left"):
                self.name = LiveDropdown(
                    [],
                    label="Set",
                    info="Choose one of yours, or type the name of a new one. Every row is saved at once.",
                    allow_custom_value=True,
                    elem_id="data-name",
                )
                with gr.Accordion("Label a picture", open=True, elem_id="data-label", elem_classes="lt-more"):
                    self._build_label()
                with gr.Accordion(
                    "Upload a ZIP, a table or pictures", open=False, elem_id="data-upload", elem_classes="lt-more"
                ):
                    self._build_upload()
            with gr.Column(scale=8, min_width=300):
                self.done = gr.HTML(js_on_load=None, elem_id="data-done")
                self.preview = gr.HTML(js_on_load=None, elem_id="data-preview")
                self.rows = gr.HTML(js_on_load=CARDS_JS + KEEP_FOLDED, elem_id="data-rows")
                self._build_actions()
        self._shown: dict[tuple[object, ...], str] = {}
        """The rows that were shown last, by set, state and page."""
        self._parts: dict[str, object] = {
            name: getattr(self, name)
            for name in (
                *("name", "first", "to_delete", "done", "preview", "rows", "picture", "question", "answer", "options"),
                *("files", "mapping", "split", "take", "actions", "audit", "audited", "hub", "repo", "confirm", "sure"),
            )
        } | {f"column {ours}": component for ours, component in self.columns.items()}
        outputs = list(self._parts.values())
        self.section = Section("data", context, note, [self.name, self.first, self.to_delete], outputs, self.refresh)
        self._wire()

    def _build_label(self) -> None:
        self.picture = Picture(
            type="filepath",
            label="Picture",
            show_label=False,
            sources=["upload", "clipboard", "webcam"],
            height=240,
            elem_id="data-picture",
            elem_classes="lt-picture",
            placeholder="Drop a picture here\nor click to choose one",
        )
        self.question = gr.Textbox(label="Question", lines=2, max_length=MAX_PROBLEM_CHARS, elem_id="data-question")
        self.answer = gr.Textbox(
            label="Answer",
            info="As short as the model should state it: a number, a word, the letter of an option.",
            max_length=MAX_PROBLEM_CHARS,
            elem_id="data-answer",
        )
        self.options = gr.Textbox(
            label="Options",
            info="Only for a multiple choice: one a line; they are written below the question as A., B. and so on.",
            lines=1,
            max_lines=10,
            max_length=MAX_PROBLEM_CHARS,
            elem_id="data-options",
        )
        self.add = gr.Button("Add this row", variant="primary", elem_id="data-add")

    def _build_upload(self) -> None:
        most = self._context.settings.limits.max_upload_mb
        gr.HTML(
            f'<p class="lt-note lt-quiet">At most {most:g} MB at a time. A ZIP may hold tables (CSV, JSON, Parquet) '
            "and the pictures they name; pictures alone become rows to label.</p>",
            js_on_load=None,
        )
        self.files = UploadedFiles(
            file_count="multiple", show_label=False, label="Files", height=140, elem_id="data-files"
        )
        with gr.Column(visible=False, elem_classes="lt-form") as self.mapping:
            self.split = LiveDropdown([], label="Split", elem_id="data-split")
            with gr.Row(elem_classes="lt-two"):
                self.columns = {
                    ours: LiveDropdown([], label=label, allow_custom_value=True, elem_id=f"data-column-{ours}")
                    for ours, label in MAPPED.items()
                }
            self.take = gr.Button("Add these rows to the set", variant="primary", elem_id="data-take")

    def _build_actions(self) -> None:
        with gr.Column(visible=False) as self.actions:
            with gr.Row(elem_classes="lt-actions"):
                self.audit = gr.Button("Audit", size="sm", min_width=72, elem_id="data-audit")
                self.delete = gr.Button("Delete…", size="sm", min_width=72, elem_id="data-delete")
            with gr.Column(visible=False, elem_classes="lt-confirm") as self.confirm:
                self.sure_words = gr.HTML(
                    '<p class="lt-note lt-bad" role="alert">Delete this set with all its pictures? This cannot be '
                    "undone.</p>",
                    js_on_load=None,
                )
                with gr.Row(elem_classes="lt-actions"):
                    self.sure = gr.Button("Delete for good", variant="stop", size="sm", elem_id="data-delete-sure")
                    self.keep = gr.Button("Keep it", size="sm", elem_id="data-keep")
            self.audited = gr.HTML(js_on_load=None, elem_id="data-audited")
            with gr.Row(visible=False, elem_classes="lt-actions", elem_id="data-hub") as self.hub:
                self.repo = gr.Textbox(
                    label="Keep it on the Hub",
                    placeholder="owner/name",
                    info="As a private dataset. HF_TOKEN must have the right to write there.",
                    max_length=120,
                    max_lines=1,
                    scale=3,
                    elem_id="data-repo",
                )
                self.send = gr.Button("Keep it there", scale=1, elem_id="data-send")

    def _wire(self) -> None:
        on = self.section.on
        fields: list[Component] = [self.picture, self.question, self.answer, self.options]
        upload: list[Component] = [self.files, self.split, *self.columns.values()]
        slow: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": self.done, "trigger_mode": "once"}
        on(self.name.input, self._choose)
        on(self.add.click, self._add, fields, **slow)
        for event in (self.files.upload, self.files.clear, self.files.delete):
            on(event, self._look, [self.files], **slow)
        last = slow | {"trigger_mode": "always_last"}
        on(self.split.input, self._split, upload, **last)
        for dropdown in self.columns.values():
            on(dropdown.input, self._map, upload, **last)
        on(self.take.click, self._take, upload, **slow)
        on(self.rows.submit, self._act, with_event=True)
        on(self.audit.click, self._audit)
        on(self.delete.click, self._ask_to_delete)
        on(self.keep.click, self._choose)
        on(self.sure.click, self._delete)
        on(self.send.click, self._send, [self.repo], **slow)

    def refresh(self, caller: Caller, name: object, first: object, to_delete: object) -> list[object]:
        """The sets, the rows of the chosen one, and its audit."""
        return self._values(name, first, to_delete)

    def _values(self, name: object, first: object, to_delete: object = "", **changes: object) -> list[object]:
        """Values for all outputs; those of the upload and of the fields stay unless they are in `changes`."""
        names, chosen = self._sets.names(), str(name or "").strip()
        is_there = chosen in names
        at = first if isinstance(first, int) and first >= 0 else 0
        audits = self._context.audits
        is_running = audits.is_running
        progress = audits.progress if is_running and audits.name == chosen else ""
        found = audits.found(chosen, self._sets.path(chosen)) if is_there and not progress else None
        values: dict[str, object] = {
            "name": gr.update(choices=names, value=chosen or None),
            "first": at,
            "to_delete": to_delete,
            "rows": self._rows(chosen if is_there else "", at),
            "actions": gr.update(visible=is_there),
            "audit": gr.update(interactive=not is_running),
            "audited": audit_html(found, progress),
            "hub": gr.update(visible=is_there and bool(token_here())),
            "repo": gr.update(placeholder=self._repository(chosen) or "owner/name"),
            "confirm": gr.update(visible=is_there and to_delete == chosen),
        }
        return [(values | changes).get(part, gr.skip()) for part in self._parts]

    def _rows(self, name: str, first: int) -> str:
        if not name:
            return rows_html([], 0, 0, 0)
        rows = self._sets.rows(name)
        key = (name, first, hash(tuple(rows)))
        if key not in self._shown:
            page = [(row, self._sets.seen(name, row)) for row in rows[first : first + PAGE_ROWS]]
            self._shown = {key: rows_html(page, first, len(rows), sum(row.is_left_out for row in rows))}
        return self._shown[key]

    def _choose(self, caller: Caller, name: object, first: object, to_delete: object) -> list[object]:
        return self._values(name, 0, done="")

    def _add(self, caller: Caller, name: object, first: object, to_delete: object, *fields: object) -> list[object]:
        """Add the row in the fields, empty them, and show it."""
        picture, *texts = fields
        if not isinstance(picture, str):
            raise UserError("There is no picture yet. Drop, paste or photograph one first.")
        chosen, (problem, solution, options) = _name_of(name), (str(text or "") for text in texts)
        self._sets.add(chosen, picture, problem, solution, options)
        num = self._sets.num_rows(chosen)
        at = (num - 1) // PAGE_ROWS * PAGE_ROWS
        emptied = {"picture": None, "question": "", "answer": "", "options": ""}
        return self._values(
            chosen, at, done=_done(f"Row {num} of {chosen} is saved."), **{k: _anew(v) for k, v in emptied.items()}
        )

    def _look(
        self, caller: Caller, name: object, first: object, to_delete: object, files: Sequence[tuple[str, str]]
    ) -> list[object]:
        """Look at a new upload, in the shape that is recognised."""
        if not files:
            return self._values(name, first, preview="", mapping=gr.update(visible=False))
        return self._previewed(name, first, files, "", {})

    def _split(self, caller: Caller, name: object, first: object, to_delete: object, *upload: object) -> list[object]:
        """Another split has columns of its own."""
        files, split, *_ = upload
        return self._previewed(name, first, files, str(split or ""), {})

    def _map(self, caller: Caller, name: object, first: object, to_delete: object, *upload: object) -> list[object]:
        """Look again with other columns; the dropdowns stay as they are, since their reader may choose on meanwhile."""
        files, split, *columns = upload
        values = self._previewed(name, first, files, str(split or ""), _mapping(columns))
        own = ("split", "mapping", *(f"column {ours}" for ours in MAPPED))
        return [gr.skip() if part in own else value for part, value in zip(self._parts, values, strict=True)]

    def _previewed(
        self, name: object, first: object, files: object, split: str, mapping: Mapping[str, str]
    ) -> list[object]:
        """The first rows of an upload, or the reason why there are none."""
        changes: dict[str, object] = {"done": "", "mapping": gr.update(visible=False)}
        try:
            with opened(_files(files), self._sets.folder) as upload:
                split = split if split in upload.splits else upload.splits[0]
                columns = upload.columns(split)
                changes |= self._columns_updates(upload, split, columns, mapping)
                changes["preview"] = _preview(upload, split, mapping)
        except NoColumn as error:
            words = (
                f"The upload {error.words} Choose the columns under Picture, Question and Answer."
                if columns
                else str(error)
            )
            changes["preview"] = f'<p class="lt-note lt-warn" role="alert">{escape(words)}</p>'
        except UserError as error:
            changes["preview"] = f'<p class="lt-note lt-bad" role="alert">{escape(error)}</p>'
        return self._values(name, first, **changes)

    def _columns_updates(
        self, upload: Upload, split: str, columns: Sequence[str], mapping: Mapping[str, str]
    ) -> dict[str, object]:
        several = len(upload.splits) > 1
        updates: dict[str, object] = {
            "mapping": gr.update(visible=True),
            "split": _anew(gr.update(choices=upload.splits, value=split, visible=several)),
        }
        for ours in MAPPED:
            update = gr.update(
                choices=[AS_RECOGNISED, *columns], value=mapping.get(ours, AS_RECOGNISED), visible=bool(columns)
            )
            updates[f"column {ours}"] = _anew(update)
        return updates

    def _take(self, caller: Caller, name: object, first: object, to_delete: object, *upload: object) -> list[object]:
        """Add the rows of the upload to the set."""
        files, split, *columns = upload
        chosen = _name_of(name)
        self._sets.path(chosen)
        with opened(_files(files), self._sets.folder) as unpacked:
            split = split if split in unpacked.splits else unpacked.splits[0]
            counts = self._sets.take_in(chosen, unpacked.rows(str(split), _mapping(columns)))
        taken = counts.pop("", 0)
        words = f"{taken:,} row{'' if taken == 1 else 's'} added to {chosen}."
        if counts:
            reasons = ", ".join(f"{num:,} {reason}" for reason, num in counts.most_common())
            words += f" {counts.total():,} left out: {reasons}."
        at = max(0, self._sets.num_rows(chosen) - taken) // PAGE_ROWS * PAGE_ROWS
        hidden = gr.update(visible=False)
        return self._values(chosen, at, done=_done(words), preview="", files=_anew(None), mapping=hidden)

    def _act(self, caller: Caller, event: gr.EventData, name: object, first: object, to_delete: object) -> list[object]:
        """A button on a card, or one that turns the page."""
        act, key = (str(getattr(event, field, "") or "") for field in ("act", "row"))
        chosen, words = _name_of(name), ""
        if act == "page":
            first = getattr(event, "first", 0)
        elif act == "save":
            texts = (str(getattr(event, field, "") or "") for field in ("problem", "solution"))
            self._sets.correct(chosen, key, *texts)
            words = "The row is corrected."
        elif act in ("out", "back"):
            self._sets.leave_out(chosen, key, act == "out")
            words = "The row is left out; it stands at the end." if act == "out" else "The row is in the set again."
        else:
            raise UserError("The page did not name an action. Load it again.")
        return self._values(chosen, first, done=_done(words) if words else "")

    def _audit(self, caller: Caller, name: object, first: object, to_delete: object) -> list[object]:
        chosen = self._existing(name)
        self._context.audits.start(chosen, self._sets.path(chosen))
        return self._values(chosen, first, done="")

    def _ask_to_delete(self, caller: Caller, name: object, first: object, to_delete: object) -> list[object]:
        chosen = self._existing(name)
        return self._values(chosen, first, chosen)

    def _delete(self, caller: Caller, name: object, first: object, to_delete: object) -> list[object]:
        chosen = self._existing(name)
        if to_delete != chosen:
            raise UserError("Press Delete first, and then Delete for good, for the same set.")
        self._context.audits.forget(chosen)
        self._sets.delete(chosen)
        return self._values("", 0, done=_done(f"{chosen} is deleted."))

    def _send(self, caller: Caller, name: object, first: object, to_delete: object, repo: object) -> list[object]:
        """Keep the set in a private repository."""
        chosen = self._existing(name)
        target = str(repo or "").strip() or self._repository(chosen)
        keep_set(hub_api(), self._sets, chosen, target)
        return self._values(chosen, first, done=_done(f"{chosen} is kept in {target}, private."))

    def _existing(self, name: object) -> str:
        chosen = _name_of(name)
        if chosen not in self._sets.names():
            raise UserError(f"There is no set {chosen[:60] or 'without a name'}. Choose one first.")
        return chosen

    def _repository(self, name: str) -> str:
        """The repository that is offered; empty where the account is not known."""
        owner = self._context.offer.owner
        return f"{owner}/{name}" if owner and name else ""


def set_choices(sets: OwnSets) -> list[tuple[str, str]]:
    """The sets as choices of a dataset: name and folder."""
    return [(name, str(sets.path(name))) for name in sets.names()]


def _preview(upload: Upload, split: str, mapping: Mapping[str, str]) -> str:
    rows = [
        SeenRow(None, "", "", "", False, cells) if isinstance(cells, Refusal) else seen(cells, folders)
        for cells, folders in upload.rows(split, mapping, PAGE_ROWS)
    ]
    return preview_html(rows, upload.num_rows(split), upload.words)


def _files(files: object) -> list[tuple[str, str]]:
    return [(str(path), str(name)) for path, name in files] if isinstance(files, list) else []


def _mapping(columns: Sequence[object]) -> dict[str, str]:
    """The columns that were chosen, by ours."""
    chosen = {ours: str(theirs or "").strip() for ours, theirs in zip(MAPPED, columns, strict=True)}
    return {ours: theirs for ours, theirs in chosen.items() if theirs and theirs != AS_RECOGNISED}


def _name_of(name: object) -> str:
    return name.strip() if isinstance(name, str) else ""


def _done(words: str) -> str:
    return f'<p class="lt-note lt-done" role="status">{escape(words, 500)}</p>'


def _anew(value: object) -> Part:
    """A value that is sent even if it was sent last: the page's reader has changed it since."""
    return Part(value, secrets.token_hex(4), False)


class UploadedFiles(gr.File):
    """Hands over each upload with the name that its sender gave it."""

    is_template = True

    def preprocess(self, payload: ListFiles | FileData | None) -> list[tuple[str, str]]:  # type: ignore[override]
        """Path and name of each file."""
        files = [] if payload is None else list(payload) if isinstance(payload, ListFiles) else [payload]
        return [(file.path, file.orig_name or Path(file.path).name) for file in files]

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """As Gradio does it, but nothing is fetched from an address that a client names."""
        if url_or_file_path is not None and is_http_url_like(str(url_or_file_path)):
            raise gr.Error("Files are not fetched from addresses; upload them.", print_exception=False)
        return await super().async_move_resource_to_block_cache(url_or_file_path)
