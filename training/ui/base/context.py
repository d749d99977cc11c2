"""The shared context of the Train tab's sections, and `Section`, the part of each that the tab refreshes.

    watch = build_watch(context, note)           # inside the sub-tab's context; builds and wires its own components
    values = watch.refresh(caller, *values_of_its_inputs)
    updates = Shown(note).updates("watch", values)

The tab calls `refresh` when a section is opened, after each change, and every two seconds while it is open and a run
is active. Only what changed is sent to the page: `Shown` reads from a note, which lies in the page in a hidden field,
what the page shows. The note arrives together with the parts that it describes, so a page that missed an answer, or
met a restart of the app, says so at its next refresh.
"""

from __future__ import annotations

import functools
import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import gradio as gr
from gradio.components import Component

from inference.common.files import Json
from inference.common.settings import Settings
from inference.server.queue import RequestQueue
from training.audit.background import SetAudits
from training.data.own_sets.sets import OwnSets
from training.doctor.background import Examination
from training.hub.backup.backup import Backup
from training.hub.publish.offer import PublishOffer
from training.hub.publish.queue import waiting_runs
from training.launch.local import LocalLauncher
from training.launch.watcher import Watcher
from training.learn.asking import PromotionAsker
from training.learn.lab_process import LabProcess
from training.runs.record import RunRecord
from training.runs.snapshot import RunWatch, Snapshot
from training.runs.store import RunStore
from training.ui.base.guard import HIDDEN, Guard

FRESH_SECONDS = 1.0
"""A snapshot this old is still shown, so that many open pages read a run's files once."""
MAX_WATCHED = 8
"""Runs whose figures stay in memory."""
MAX_NOTE_CHARS = 8_000


@dataclass
class _WatchedRun:
    watch: RunWatch
    lock: threading.Lock = field(default_factory=threading.Lock)
    seen_at: float = 0.0
    snapshot: Snapshot | None = None


@dataclass
class Context:
    """The back ends of the Train tab."""

    settings: Settings
    guard: Guard
    store: RunStore
    launcher: LocalLauncher
    watcher: Watcher
    refresh_served: Callable[[], object]
    """Called after a promotion or roll back from the tab, so that the engine sees it at once."""
    backup: Backup
    """Copies the runs to where they outlive this machine."""
    offer: PublishOffer
    """The repository that Start offers to publish to."""
    examination: Examination
    """The doctor of this machine."""
    asker: PromotionAsker
    """Asks what broke with each promotion."""
    queue: RequestQueue | None = None
    """The queue in front of the app's engine; `None` where no page is served."""
    setup_html: Callable[[], str] = str
    """Returns what is not set up yet, for the owner."""
    sets: OwnSets = field(init=False)
    """The datasets that were made on the page."""
    audits: SetAudits = field(init=False)
    regrading: LabProcess = field(init=False)
    """The process that grades rollouts by other settings."""
    _watched: dict[str, _WatchedRun] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.sets, self.audits = OwnSets(self.settings.home), SetAudits(self.settings.home)
        self.regrading = LabProcess(self.settings.home)

    def snapshot(self, record: RunRecord) -> Snapshot:
        """A run's state and figures, at most `FRESH_SECONDS` old."""
        watched = self._watch_of(record)
        with watched.lock:
            snapshot, age = watched.snapshot, time.monotonic() - watched.seen_at
            if snapshot is None or age > FRESH_SECONDS or snapshot.status != record.status:
                snapshot = watched.watch.look(record)
                watched.snapshot, watched.seen_at = snapshot, time.monotonic()
            return snapshot

    def rollouts(self, record: RunRecord, step: int | None) -> tuple[list[int], list[Json]]:
        """The steps of a run that have rollouts, and the groups of one of them (`None`: of the newest)."""
        watched = self._watch_of(record)
        with watched.lock:
            steps = watched.watch.rollouts.steps()
            step = step if step in steps else steps[-1] if steps else None
            return steps, [] if step is None else watched.watch.rollouts.groups(step)

    def _watch_of(self, record: RunRecord) -> _WatchedRun:
        with self._lock:
            watched = self._watched.setdefault(record.id, _WatchedRun(RunWatch(record.folder)))
            for stale in list(self._watched)[:-MAX_WATCHED]:
                if stale != record.id:
                    del self._watched[stale]
            return watched

    def is_busy(self) -> bool:
        """True while a run is active or waits, an adapter is being published, a set is being audited, rollouts are
        being graded, a new adapter is asked what broke, or the doctor looks at this machine."""
        has_runs = any(record.is_active or record.status == "queued" for record in self.store.list())
        works = (self.examination, self.audits, self.regrading, self.asker)
        return (
            has_runs or any(one.is_running for one in works) or next(waiting_runs(self.store.folder), None) is not None
        )


@dataclass(frozen=True)
class Part:
    """A value with its subject, such as a run's id; a held one replaces only values about another subject."""

    value: object
    about: str
    is_held: bool


class Shown:
    """The parts that a page shows, by digest."""

    def __init__(self, note: object) -> None:
        """`note` is `Shown.note` of the page's last refresh; for anything else all parts are sent."""
        text = note if isinstance(note, str) and len(note) <= MAX_NOTE_CHARS else ""
        self._entries = {name: entry for entry in text.split() for name in [entry.split("=")[0]]}

    def updates(self, section: str, values: Sequence[object]) -> list[object]:
        """The values, with `gr.skip()` for those that the page shows already."""
        return [self._update(f"{section}.{i}", value) for i, value in enumerate(values)]

    @property
    def note(self) -> str:
        """For the page to keep."""
        return " ".join(self._entries.values())

    def _update(self, name: str, value: object) -> object:
        if value == gr.skip():
            return value
        part = value if isinstance(value, Part) else Part(value, "", False)
        digest = hashlib.sha256(str(part.value).encode(errors="replace")).hexdigest()[:16]
        entry, before = f"{name}={part.about}={digest}", self._entries.get(name, "")
        if before == entry or part.is_held and before.startswith(f"{name}={part.about}="):
            return gr.skip()
        self._entries[name] = entry
        return part.value


@dataclass
class Section:
    """One sub-tab."""

    name: str
    context: Context
    note: gr.Textbox
    """The hidden field of the whole tab with what the page shows."""
    inputs: Sequence[Component]
    outputs: Sequence[object]
    refresh: Callable[..., Sequence[object]]
    """`refresh(caller, *inputs)` returns one value for each of `outputs`."""
    promotions: list[Callable[..., object]] = field(default_factory=list)
    """Gradio's events after an action that may change which adapter is served."""

    def on(
        self,
        event: Callable[..., gr.events.Dependency],
        handler: Callable[..., Sequence[object]],
        extra: Sequence[Component] = (),
        *,
        with_event: bool = False,
        promotes: bool = False,
        **options: object,
    ) -> gr.events.Dependency:
        """Call `handler(caller, [event data,] *inputs, *extra)` on an event; it returns values as `refresh` does.

        `promotes`: the action may change which adapter is served. Returns Gradio's event, for what comes after it.
        """

        @functools.wraps(handler)
        def handle(*args: object) -> list[object]:
            *values, note = args
            shown = Shown(note)
            return [*shown.updates(self.name, handler(*values)), shown.note]

        guarded = self.context.guard(handle, with_event=with_event)
        done = event(guarded, [*self.inputs, *extra, self.note], [*self.outputs, self.note], **HIDDEN | options)
        if promotes:
            self.promotions.append(done.success)
        return done
