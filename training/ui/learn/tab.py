"""The Learn tab: a run replayed, what its training changed, and one question asked of all checkpoints or strengths."""

from __future__ import annotations

import functools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import gradio as gr

from inference.adapters.record import BASE_NAME, LEARN_FOLDER, RECORD_FILE, SCALED_FILE, adapter_name, digest_or_none
from inference.adapters.served import promote
from inference.adapters.versions import run_of
from inference.common.errors import Busy, UserError
from inference.common.files import read_json, read_lines
from inference.common.html import escape
from inference.common.settings import STARTER
from inference.model.lora_file import WEIGHTS_FILE
from inference.model.lora_layers import Adapter, holding, scaled
from inference.model.request import Completion, Request
from inference.server.service import SERVED, Question, Service
from inference.server.submission import Submission
from inference.ui.answering import EVENT, failed, visitor_of
from inference.ui.components import LiveDropdown, Picture
from inference.ui.probes import asking as probes
from inference.ui.probes.panel import shown
from training.admin.access import Caller
from training.learn.asking import PromotionAsker
from training.learn.record import (
    CHANGES,
    MAX_CHECKPOINTS,
    REPLAY,
    Changes,
    Replay,
    Strengths,
    kept_checkpoints,
    read_record,
    shipped_checkpoints,
)
from training.learn.strength import STRENGTHS, STRENGTHS_FILE, Scaled, part_of, read_scaled, write_scaled
from training.runs.folder import RunFolder
from training.runs.metrics import CURVES, figures_of
from training.ui.answers.pinned import Told
from training.ui.base.guard import HIDDEN, SILENT, Guard
from training.ui.base.html import finite
from training.ui.base.plots import Series
from training.ui.learn.record_html import changes_html, checkpoints_html, replay_html, scaled_html, strengths_html
from training.ui.learn.votes_html import calibration_html
from training.ui.sections.evaluation_tables import verdict_html

RequestsOf = Callable[[Question, Path], list[tuple[str, Request]]]
BOUNDED = HIDDEN | {"concurrency_limit": 4}
"""For events that are open to everybody: so many at a time, the others wait in Gradio's queue."""
MAX_BUILDING = 2
"""Questions to many adapters whose weights are read at a time."""
TELL_SECONDS = 300.0
"""Time that the page waits for the answers after a promotion; later they stand on the adapter's card."""
HERE = Path(__file__).parent
CSS_PATH = HERE / "learn.css"
CHECKPOINTS_FILE = "checkpoints.json"
"""Beside the record: pass@k over the checkpoints, by `evaluate --checkpoints`."""
_JS = (HERE / "learn.js").read_text(encoding="utf-8")
_NOTHING = (
    "<p>There is no record of what this adapter's training changed. Its run writes one at its end; for an earlier run, "
    "<code>python -m training learn RUN</code> does.</p>"
)
_NO_ADAPTER = "<p>No adapter answers here, so there is nothing that training changed. Choose one, or train one.</p>"


class LearnTab:
    """The tab's components and events; build it inside its `gr.Tab`."""

    def __init__(
        self,
        service: Service,
        guard: Guard,
        refresh_served: Callable[[], object],
        asker: PromotionAsker,
        tab: gr.Tab,
    ) -> None:
        """`refresh_served` is called after a promotion; then `asker` asks what broke."""
        self._service, self._refresh_served, self._told = service, refresh_served, Told(asker)
        self._building = threading.Semaphore(MAX_BUILDING)
        with gr.Column(elem_id="lt-learn"):
            self.adapter = LiveDropdown(
                service.choices()[:-1] or [("None yet", SERVED)],
                value=SERVED,
                label="What training changed, of the adapter",
                filterable=False,
                elem_id="learn-adapter",
            )
            record = gr.HTML(js_on_load=_JS, elem_id="learn-record")
            promote_best = gr.Button("", visible=False, size="sm", elem_id="learn-promote", elem_classes="lt-small")
            told = gr.HTML(js_on_load=None, elem_id="learn-told")
            gr.HTML(
                "<h2>Your own question</h2><p>The same question to every checkpoint, or to the adapter at every "
                f"strength. It counts as {_num_questions(len(STRENGTHS))} questions of yours at every strength, and "
                f"as up to {_num_questions(MAX_CHECKPOINTS + 1)} at every checkpoint.</p>",
                js_on_load=None,
            )
            with gr.Row(elem_classes="lt-columns"):
                with gr.Column(scale=5, min_width=280):
                    picture = Picture(
                        type="filepath", label="Picture", sources=["upload", "clipboard"], elem_id="learn-picture"
                    )
                with gr.Column(scale=8, min_width=280):
                    question = gr.Textbox(label="Question", lines=3, elem_id="learn-question")
                    with gr.Row(elem_classes="lt-tools"):
                        new = gr.Button("New problem", size="sm", min_width=0, elem_id="learn-new")
                        steps = gr.Button("Ask every checkpoint", size="sm", min_width=0, elem_id="learn-steps")
                        strengths = gr.Button("Ask every strength", size="sm", min_width=0, elem_id="learn-strengths")
            answers = gr.HTML(js_on_load=None, elem_id="learn-answers")
        parts = [self.adapter, record, promote_best]
        shows = [tab.select, self.adapter.change]  # one event, so that the last answer is of the last choice
        gr.on(shows, self._show, self.adapter, parts, trigger_mode="always_last", **BOUNDED)
        new.click(self._new, None, [picture, question, answers], **BOUNDED)
        asked = [self.adapter, picture, question]
        steps.click(self._asker(self._checkpoints), asked, answers, trigger_mode="once", **EVENT)
        strengths.click(self._asker(self._strengths), asked, answers, trigger_mode="once", **EVENT)
        promoted = promote_best.click(guard(self._promote_best), self.adapter, [*parts, told], **HIDDEN)
        self.promoted = promoted.success
        promoted.success(self._show, self.adapter, parts, **SILENT)
        promoted.success(guard(self._tell), None, told, **HIDDEN)

    def _show(self, request: gr.Request, name: object) -> list[object]:
        """The choices, the record of the chosen adapter, and for the owner the promotion of its best strength."""
        is_owner = self._service.is_owner(request.cookies)
        choices = self._service.choices(is_owner)[:-1] or [("None yet", SERVED)]
        chosen = gr.update(choices=choices)  # without the value: another may have been chosen meanwhile
        if name not in [value for _, value in choices]:
            name, chosen = SERVED, gr.update(choices=choices, value=SERVED)
        folder = self._folder(name, is_owner)
        if folder is None:
            return [chosen, _NO_ADAPTER, gr.update(visible=False)]
        scaled = read_scaled(folder)
        origin = scaled_html(scaled, self._address_of(scaled, is_owner)) if scaled else ""
        offered = _offered(folder) if is_owner else None
        words = _offer_words(offered) if offered else ""
        html = origin + record_html(folder, self._metrics(folder))
        return [chosen, html, gr.update(visible=bool(words), value=words)]

    def _address_of(self, scaled: Scaled, is_owner: bool) -> str:
        """The address of the record of the adapter as trained; "" if this reader has no such adapter."""
        offer = self._service.offer
        for name, record in offer.records.items():
            if (is_owner or name in offer.visible) and digest_or_none(record.path) == scaled.of_digest:
                return "#/learn" if name == offer.served else f"#/learn/{quote(name)}"
        return ""

    def _new(self) -> list[object]:
        example = self._service.new_problem()
        return [example.image, example.question, ""]

    def _asker(self, requests_of: RequestsOf) -> Callable[..., Iterator[str]]:
        """A handler that asks what `requests_of` returns, each with its name, and shows the answers in a table."""

        def ask_each(request: gr.Request, name: object, picture: str | None, question: str | None) -> Iterator[str]:
            held: list[Submission] = []
            try:
                is_owner = self._service.is_owner(request.cookies)
                asked = self._service.read_question(picture, question, None, name, for_owner=is_owner)
                folder = self._folder(name, is_owner)
                if folder is None:
                    raise UserError("No adapter answers here. Choose one, or train one.")
                visitor = visitor_of(request)
                with self._service.queue.admit(visitor):  # before any weights are read
                    if not self._building.acquire(blocking=False):
                        raise Busy("Others are asking all checkpoints just now. Try again in some seconds.")
                    try:
                        rows = requests_of(asked, folder)
                    finally:
                        self._building.release()
                yield '<p class="lt-quiet" role="status">Asking…</p>'
                requests = [row for _, row in rows]
                steps = probes.ask(self._service, requests, visitor, held.append, 0, len(requests))
                completions = yield from shown(steps)
                yield answers_html([(title, one) for (title, _), one in zip(rows, completions)], asked)
            except Exception as error:  # as for an answer: the page must not go on waiting
                yield f'<p class="lt-note lt-bad" role="alert">{escape(failed(error).message)}</p>'
            finally:
                for submission in held:
                    submission.stop()

        return ask_each

    def _checkpoints(self, question: Question, folder: Path) -> list[tuple[str, Request]]:
        """The base, and each kept checkpoint of the adapter's run."""
        found = checkpoints_of(folder, self._service.settings.home)
        if not found and (made_of := read_scaled(folder)):
            raise UserError(
                f"This adapter is a copy at another strength. Choose {made_of.of}, whose run it comes from."
            )
        if not found:
            raise UserError("No checkpoints of this adapter's run are on this machine. Choose another adapter.")
        named = [("The base", question.request(None))]
        for step, path in found.items():
            weights = self._read(path)
            row = replace(question.request(question.adapter), adapter=f"step {step}", get_adapter=holding(weights))
            named.append((f"Step {step}", row))
        return named

    def _strengths(self, question: Question, folder: Path) -> list[tuple[str, Request]]:
        """The adapter at each strength; none of it is the base."""
        own, weights, scaled_from = question.request(question.adapter), self._read(folder), read_scaled(folder)
        whole = 1 / scaled_from.strength if scaled_from else 1.0  # of the adapter as trained
        rows = []
        for strength in STRENGTHS:
            name, at_strength = f"{100 * strength:.0f} %", scaled(weights, whole * strength)
            row = replace(own, adapter=name, get_adapter=holding(at_strength))
            rows.append((name, row if strength else question.request(None)))
        return rows

    def _read(self, path: Path) -> Adapter:
        engine = self._service.queue.engine
        if engine is None:
            raise UserError("The model is still being loaded. Try again in a minute.")
        return _weights(engine.read_adapter, path, (path / "adapter_model.safetensors").stat().st_mtime_ns)

    def _folder(self, name: object, is_owner: bool) -> Path | None:
        """The folder of an adapter that this reader may see."""
        adapter = self._service.adapter_named(name, is_owner)
        record = self._service.offer.records.get(adapter) if adapter else None
        return record.path if record else None

    def _metrics(self, folder: Path) -> Path | None:
        """The figures of the steps of the run that made an adapter; `None` if its folder is gone."""
        if folder == STARTER / "adapter":
            return STARTER / "history" / "metrics.jsonl"
        run = run_of(folder)
        path = RunFolder(self._service.settings.home / "runs" / run).metrics if run else None
        return path if path and path.is_file() else None

    def _tell(self, caller: Caller) -> str:
        """The answers after the promotion, once they are known."""
        end = time.monotonic() + TELL_SECONDS
        while self._told.is_running and time.monotonic() < end:
            time.sleep(0.5)
        return self._told.newest_html()

    def _promote_best(self, caller: Caller, name: object) -> list[object]:
        """A copy of the adapter at its best strength is put into service."""
        service, folder = self._service, self._folder(name, True)
        found = _offered(folder) if folder else None
        if folder is None or found is None:
            raise UserError(
                "There is no better strength on record of this adapter; `python -m training learn RUN --strengths 240` "
                "measures them."
            )
        home = service.settings.home
        with tempfile.TemporaryDirectory(dir=home) as made:
            target = Path(made) / f"{adapter_name(folder)}-at-{100 * found.best:.0f}"
            write_scaled(folder, found.best, target)
            promote(home, target, caller.name, settings=service.settings)
        self._refresh_served()
        return [SERVED, gr.skip(), gr.update(visible=False), self._told.newest_html()]


def _num_questions(num_requests: int) -> int:
    """Number of questions that so many requests count as: one for the weights, and one for each group."""
    return 1 + -(-num_requests // probes.MAX_REQUESTS)


def record_html(folder: Path, metrics: Path | None = None) -> str:
    """All that is on record beside an adapter; `metrics` are the figures of the steps of its run."""
    files = [folder / LEARN_FOLDER / name for name in ("", CHANGES, REPLAY, STRENGTHS_FILE, CHECKPOINTS_FILE)]
    files += [*(folder / name for name in (RECORD_FILE, SCALED_FILE, WEIGHTS_FILE)), *([metrics] if metrics else [])]
    return _record_html(folder, metrics, tuple(map(_state, files)))


@functools.lru_cache(maxsize=8)
def _record_html(folder: Path, metrics: Path | None, states: tuple[object, ...]) -> str:
    """The record in one state of its files; a picture that is replaced changes the state of the folder."""
    changes, replay = read_record(folder, CHANGES, Changes), read_record(folder, REPLAY, Replay)
    strengths, scaled = read_record(folder, STRENGTHS_FILE, Strengths), read_scaled(folder)
    path = part_of(folder, CHECKPOINTS_FILE)
    is_known = bool(changes or replay or strengths)
    parts = [
        ("What the test problems say", verdict_html(folder)),
        ("The run, checkpoint by checkpoint", replay and replay.rows and replay_html(folder, replay, _curves(metrics))),
        ("Something new, or the same more reliably?", checkpoints_html((path and read_json(path)) or {})),
        ("Does the share of votes tell whether it is right?", calibration_html(folder)),
        ("What training changed", changes and changes_html(folder, changes)),
        ("How much of the adapter is needed", is_known and strengths_html(strengths, scaled)),
    ]
    shown = "".join(f"<h2>{title}</h2>{part}" for title, part in parts if part)
    return shown if is_known or scaled else f"{shown}{_NOTHING}"


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size


def _curves(metrics: Path | None) -> dict[str, Series]:
    """The curves of a run; empty without its figures."""
    rows = [row for line in read_lines(metrics) if (row := figures_of(line))] if metrics else []
    pairs = {
        name: [(finite(row.get("step")), finite(row.get(column))) for row in rows] for name, column in CURVES.items()
    }
    return {name: [(x, y) for x, y in own if x is not None and y is not None] for name, own in pairs.items()}


def _offered(folder: Path) -> Strengths | None:
    """The strengths of an adapter as trained, if one of them is better than the whole."""
    found = read_record(folder, STRENGTHS_FILE, Strengths)
    return found if found is not None and found.best != 1 and read_scaled(folder) is None else None


def _offer_words(found: Strengths) -> str:
    """The label of the promotion; it says where the strength is not shown to be better than the whole."""
    shares = dict(zip(found.strengths, found.accuracy))
    whole = shares.get(1.0)
    is_better = whole is not None and shares[found.best][1] > whole[2]
    doubt = "" if is_better else " (not shown to be better)"
    return f"Put this adapter into service at {100 * found.best:.0f} % of its strength{doubt}"


def checkpoints_of(adapter: Path, home: Path) -> dict[int, Path]:
    """The adapters of the kept checkpoints of the run that made an adapter, by step."""
    if adapter == STARTER / "adapter":
        return shipped_checkpoints()
    run = run_of(adapter)
    path = home / "runs" / run if run else None
    return kept_checkpoints(RunFolder(path)) if path and path.is_dir() else {}


def answers_html(named: Sequence[tuple[str, Completion]], question: Question) -> str:
    """Each completion with its name, in a table; where a text is that of the row before, it says so."""
    rows, before = "", None
    for title, completion in named:
        text = completion.text
        if text == before:
            cell = '<p class="lt-quiet">the same text as above</p>'
        else:
            cell = _answer_html(completion)
        rows += f'<tr><th scope="row">{escape(title, 40)}</th><td>{cell}</td></tr>'
        before = text
    caption = f"{escape(question.adapter or BASE_NAME, 120)}, asked: {escape(question.question, 300)}"
    table = f'<table class="lt-probe-table"><caption>{caption}</caption><tbody>{rows}</tbody></table>'
    return f'<div class="lt-wide">{table}</div>'


def _answer_html(completion: Completion) -> str:
    parts = probes.parts_of(completion)
    cut = ' <span class="lt-quiet">(cut off)</span>' if completion.truncated else ""
    return (
        f"<p>{escape(parts.thought, 2_000) or '(no thought)'}</p><p class='lt-side-answer'>"
        f"{escape(parts.answer, 200) or '(no answer)'}{cut}</p>"
    )


@functools.lru_cache(maxsize=9)
def _weights(read: Callable[[Path], Adapter], path: Path, modified: int) -> Adapter:
    """The adapter of a folder in one state of its file, kept for the next question."""
    return read(path)
