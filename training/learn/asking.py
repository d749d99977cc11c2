"""Asks about promotions (`training.learn.promoted`): an app in the background, through its visitors' queue; a process
without an app, such as the command line, with an engine of its own.

    asker = PromotionAsker(settings, queue)
    asker.look()                        # after each promotion: returns at once; later it looks by itself
    asker.ask(before, new)              # from a card
    asker.is_running, asker.asking, asker.last

    print(answers_here(settings))       # after a promotion on the command line

The process that asks holds a lock for as long as it lives, so that no two ask about one promotion.
"""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack

from inference.common.background import PeriodicTask
from inference.common.errors import Busy, UserError, first_line
from inference.common.files import Json, Timeout, exclusive
from inference.common.logs import failure
from inference.common.settings import Settings, base_source
from inference.engine.engine import Engine
from inference.model.request import Completion, Request
from inference.server.queue import MAX_SEQS_BESIDE_OTHERS, EngineState, RequestQueue
from inference.server.visitors import OWNER, Visitor
from training.evaluation.measures.outside import ability_figures
from training.learn.pinned import Asked, Said
from training.learn.promoted import Answers, Promoted, Promotion
from training.runs.store import RunStore

LOCK = "promotions.lock"
EVERY_SECONDS = 2.0
ASK_SECONDS = 120.0
"""The most that the questions of one submission may take."""
MAX_SECONDS = 1_200.0
"""The most that the questions about one adapter may take together."""
RETRY_SECONDS = 2.0
"""Before a submission is tried again that the queue had no room for."""
WAIT_SECONDS = 120.0
"""Time that the command line waits for a running app's answers."""
LATER = "An app that runs, or starts, asks by itself; then the card of the adapter shows the answers."


class PromotionAsker:
    """The promotions of one app's home, asked about one after the other. Thread-safe."""

    def __init__(self, settings: Settings, queue: RequestQueue | None) -> None:
        """Without a `queue` nothing is asked."""
        self.promoted = Promoted(settings)
        self.asking = ""
        """The adapter that is being asked; empty while none is."""
        self.last = ""
        """The adapter that was asked last, and whose answers the page shows first."""
        self._queue, self._lock_path = queue, settings.home / LOCK
        self._task = PeriodicTask(self._pass, EVERY_SECONDS, "promotions")
        self._by_hand: list[Promotion] = []
        self._held = ExitStack()
        self._has_lock = self._is_due = self._is_stopped = False
        self._changing = threading.Lock()

    @property
    def is_running(self) -> bool:
        """True while an adapter is asked, or is about to be."""
        return self._is_due or bool(self.asking)

    @property
    def can_ask(self) -> bool:
        """True if there is an engine, and it answers."""
        return self._queue is not None and self._queue.state is EngineState.READY

    @property
    def waiting(self) -> str:
        """The adapter whose questions wait for the engine; empty if none does."""
        if self._queue is None or self.can_ask:
            return ""
        pending = [*self._by_hand, *self.promoted.pending()]
        return pending[-1].new.name if pending else ""

    def look(self) -> None:
        """Starts what is to be asked, and returns at once."""
        if self._queue is None:
            return
        if self.can_ask and (self._by_hand or self.promoted.pending()):
            self._is_due = True
        self._task.start()
        self._task.wake()

    def ask(self, before: Asked, new: Asked) -> None:
        """Puts the questions to both, as soon as the engine answers."""
        with self._changing:
            if all(one.new != new for one in self._by_hand):
                self._by_hand.append(Promotion(before, new))
        self.look()

    def stop(self, wait_seconds: float = 0.0) -> None:
        """Ends it; what was not asked stays to be asked."""
        self._is_stopped = True
        self._task.stop(wait_seconds)
        self._held.close()

    def _pass(self) -> None:
        try:
            while self._by_hand and self.can_ask:
                self._ask(self._by_hand[0])
                with self._changing:
                    self._by_hand.pop(0)
            pending = self.promoted.pending()
            if not pending or not self._take_lock():
                return
            for promotion in pending:
                if not self.promoted.has_work(promotion):
                    self.promoted.keep_without_asking(promotion)
                elif self.can_ask:
                    self._ask(promotion)
        except Busy:
            pass  # the app stops, or a run has taken the card: it is asked when the engine answers again
        finally:
            self._is_due = False

    def _ask(self, promotion: Promotion) -> None:
        queue = self._queue
        assert queue is not None and queue.engine is not None, "`can_ask` looks"
        deadline = time.monotonic() + MAX_SECONDS

        def complete(requests: Sequence[Request]) -> list[Completion]:
            starts = range(0, len(requests), MAX_SEQS_BESIDE_OTHERS)
            parts = [self._submit(queue, requests[at : at + MAX_SEQS_BESIDE_OTHERS], deadline) for at in starts]
            return [completion for part in parts for completion in part]

        self.asking = self.last = promotion.new.name
        try:
            self.promoted.ask(queue.engine, complete, promotion)
        finally:
            self.asking = ""

    def _submit(self, queue: RequestQueue, requests: Sequence[Request], deadline: float) -> list[Completion]:
        """They are the owner's own questions, so they go behind those of visitors that asked for less."""
        while not self._is_stopped:
            seconds = min(ASK_SECONDS, deadline - time.monotonic())
            if seconds <= 0:
                raise UserError(
                    f"The questions took more than {MAX_SECONDS / 60:.0f} minutes, so this one was not asked. Ask "
                    "again when fewer visitors do."
                )
            try:
                return queue.submit(requests, Visitor(OWNER)).completions(seconds)
            except Busy:
                if not self.can_ask:
                    raise
                time.sleep(RETRY_SECONDS)  # visitors have all the places
        raise Busy("The app stops.")

    def _take_lock(self) -> bool:
        if not self._has_lock:
            try:
                self._held.enter_context(exclusive(self._lock_path))
            except (Timeout, OSError):  # another process asks; or nothing can be written here, which is told elsewhere
                return False
            self._has_lock = True
        return True


def answers_here(settings: Settings, own_run: str | None = None, wait_seconds: float = WAIT_SECONDS) -> str:
    """The answers that belong to promotions nobody has asked about, in lines for a terminal; empty if there are none.

    A running app asks, and is waited for. Without one an engine is loaded, unless a run (but `own_run`) trains here.
    Never raises for what keeps the questions from being asked: the promotion stands, and the lines say why.
    """
    promoted = Promoted(settings)
    pending = promoted.pending()
    if not pending:
        return ""
    try:
        with exclusive(settings.home / LOCK):
            if any(map(promoted.has_work, pending)):
                _check_no_run(settings, own_run)
                engine = Engine.load(base_source(settings.base))
                for promotion in pending:
                    promoted.ask(engine, engine.generate, promotion)
            else:
                for promotion in pending:
                    promoted.keep_without_asking(promotion)
    except Timeout:
        return _answers_of_app(promoted, pending[-1], wait_seconds)
    except Exception as error:  # no memory, no disk, weights that cannot be read: the adapter is served already
        if not isinstance(error, UserError):
            failure("The questions of a promotion failed.", error)
        return f"The pinned questions were not asked: {first_line(error)} {LATER}"
    return answers_text(promoted, pending[-1].new)


def _check_no_run(settings: Settings, own_run: str | None) -> None:
    store = RunStore(settings.home)
    active = store.active() if store.exists() else None
    if active is not None and active.id != own_run and active.launcher == "local":
        raise UserError(f"The run {active.id} has the machine, and a second model could take its memory.")


def _answers_of_app(promoted: Promoted, promotion: Promotion, wait_seconds: float) -> str:
    end = time.monotonic() + wait_seconds
    while True:
        if promotion.at not in (one.at for one in promoted.pending()):
            return answers_text(promoted, promotion.new)
        if time.monotonic() >= end:
            name = promotion.new.name
            return f"The app that runs here asks the pinned questions; the card of {name} shows them when it has."
        time.sleep(0.5)


def answers_text(promoted: Promoted, new: Asked) -> str:
    """The answers of an adapter and the one before it, in lines for a terminal; what broke first."""
    answers = promoted.results().get(new.name)
    if answers is None:
        return ""
    lines = []
    if answers.trouble:
        lines.append(f"The pinned questions were not asked: {answers.trouble} Ask them again on the adapter's card.")
    elif answers.rows:
        lines.append(f"Pinned questions: {counts(new.name, answers)}.")
    for row in answers.ordered():
        said = row.trouble or f"before {_said(row.before)}, now {_said(row.new)}"
        question = textwrap.shorten(row.question, 80)
        lines.append(f"  {row.change}: {question} ({row.gold}): {said}")
    return "\n".join([*lines, *_outside_lines(answers, promoted.outside_of(new))])


def counts(name: str, answers: Answers) -> str:
    """Numbers of questions, what broke first: `1 of 3 broke, 0 mended, against day; night has 2 of 3 right`."""
    total, right = len(answers.rows), sum(bool(row.new and row.new.right) for row in answers.rows)
    unasked = answers.count("not asked")
    left_out = f", {unasked} not asked" if unasked else ""
    return (
        f"{answers.count('broke')} of {total} broke, {answers.count('mended')} mended{left_out}, against "
        f"{answers.before}; {name} has {right} of {total} right"
    )


def _outside_lines(answers: Answers, outside: Json | None) -> list[str]:
    if outside is None:
        return [f"Outside the reward it was not asked: {answers.outside_trouble}"] if answers.outside_trouble else []
    lines = [f"Against the base. {outside.get('sentence', '')}"[:1_000]]
    for name, num_rows, base, adapter, change in ability_figures(outside):
        lines.append(f"  {name}: base {base}, this adapter {adapter}, change in points {change}, of {num_rows} rows")
    return lines


def _said(said: Said | None) -> str:
    return f"{said.answer or 'no answer'} ({'right' if said.right else 'wrong'})" if said else "nothing"
