"""The line in front of the engine: questions take its slots in the order asked, and one thread steps for all of them.

    line = Line(lambda: Engine.load(base))
    job = line.submit([Row(image, "How many?")])
    while not job.wait(0.06):
        print(job.ahead, job.progress()[0].text)

The thread loads the engine first, so that the page is up before the model is. Whoever finds a free slot is answered
beside the others, so no stream waits for another's end. The page looks at a job when it likes, which never slows a
decode down; `stop` works for a job that waits, too. Nobody waits for a visitor who has
gone: `left` takes out what a closed page asked.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from inference.common.errors import Busy
from inference.common.settings import DEFAULT_LIMITS, Limits
from inference.model.request import Row
from inference.server.job import Job, Progress, encode_together
from inference.server.rate_limit import RateLimit, whole_seconds
from inference.server.visitors import Asker

if TYPE_CHECKING:
    from inference.engine.engine import Engine

__all__ = ["Job", "Line", "LineState", "Progress"]

MAX_LEFT = 1_024
"""Closed pages remembered; a question is on its way for seconds only."""
THE_APP = Asker()
NOT_LOADED = "The model could not be loaded, so nothing can be answered; the app's log says why."


class LineState(StrEnum):
    """Where the engine stands."""

    LOADING = "loading"
    READY = "ready"
    RESTING = "resting"
    FAILED = "failed"
    STOPPING = "stopping"


class Line:
    """First come, first served. One line stands before one engine and lives as long as the app."""

    def __init__(self, load: Callable[[], Engine], limits: Limits = DEFAULT_LIMITS) -> None:
        """`load` gives the engine; it runs at once, on the line's thread."""
        self.engine: Engine | None = None
        """`None` while it is loaded."""
        self._load, self._limits = load, limits
        self._failure: Exception | None = None
        self._refusal: Busy | None = None
        """Why nothing more is taken, once the app stops."""
        self._resting: Busy | None = None
        """Why nothing is taken for a while."""
        self._loaded = threading.Event()
        self._rate = RateLimit(limits.questions_per_minute, 60)
        self._waiting: deque[Job] = deque()
        self._serving: list[Job] = []
        """Those whose rows the engine has, in the order they came."""
        self._left: OrderedDict[str, float] = OrderedDict()
        """When a session's page was closed."""
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, name="engine-line", daemon=True).start()

    @property
    def is_loading(self) -> bool:
        """True while the engine is not there yet."""
        return self.engine is None

    @property
    def state(self) -> LineState:
        """Where the engine stands."""
        if self._refusal is not None:
            return LineState.STOPPING
        if self._failure is not None:
            return LineState.FAILED
        if self._resting is not None:
            return LineState.RESTING
        return LineState.LOADING if self.engine is None else LineState.READY

    @property
    def num_waiting(self) -> int:
        """Questions in line, those being answered not included."""
        return len(self._waiting)

    @property
    def is_answering(self) -> bool:
        """True while a question is before the engine."""
        return bool(self._serving)

    def wait_loaded(self, seconds: float | None = None) -> Engine | None:
        """Waits for the engine; raises what kept it from loading. `None` if it takes longer than `seconds`."""
        if not self._loaded.wait(seconds):
            return None
        if self.engine is None:
            raise self._failure or RuntimeError("the engine did not load")
        return self.engine

    def admit(self, asker: Asker) -> None:
        """Raises `Busy` if a question would not be taken now; call it before the work of reading one.

        It counts as a question of that visitor's minute, whether or not it is submitted in the end.
        """
        with self._changed:
            self._check_room(asker)
        wait = self._rate.take(asker.visitor) if asker.visitor else 0.0
        if wait:
            raise Busy(
                f"You have asked {self._limits.questions_per_minute} questions in a minute, which is the limit here; "
                f"ask again in {whole_seconds(wait)}."
            )

    def submit(self, rows: Sequence[Row], asker: Asker = THE_APP) -> Job:
        """Take a place; raises `Busy` if too many wait."""
        if self.engine is not None:
            self.engine.prepare([row.image for row in rows])  # on the visitor's thread, which keeps nobody waiting
        with self._changed:
            self._check_room(asker)
            job = Job(self, rows, asker)
            self._waiting.append(job)
            has_gone = self._left.get(asker.session, -math.inf) > asker.since
            self._changed.notify_all()
        if has_gone:
            job.stop()
        return job

    def ahead_of(self, job: Job) -> int:
        """The place of a job: 0 while it is served, and after that; the first that waits is told of one at least."""
        with self._changed:
            return self._waiting.index(job) + bool(self._serving) if job in self._waiting else 0

    def leave(self, job: Job) -> bool:
        """Take a waiting job out; False if it is being served or has been."""
        with self._changed:
            if job not in self._waiting:
                return False
            self._waiting.remove(job)
            return True

    def left(self, session: str) -> None:
        """The page or call of that session has been closed: stop what it asked, and what it is about to."""
        if not session:
            return
        with self._changed:
            self._left[session] = time.monotonic()
            self._left.move_to_end(session)
            while len(self._left) > MAX_LEFT:
                self._left.popitem(last=False)
            jobs = [job for job in (*self._serving, *self._waiting) if job.asker.session == session]
        for job in jobs:
            job.stop()

    @property
    def is_resting(self) -> bool:
        """True between `rest` and `wake`."""
        return self._resting is not None

    def rest(self, reason: str) -> None:
        """Take no questions until `wake`, and let the model leave its card; whoever waits reads the reason."""
        engine = self.engine
        assert engine is not None, "only an engine that is there can rest"
        refusal = Busy(reason)
        with self._changed:
            self._resting = refusal
        self._end_all(refusal)
        with self._changed:
            while self._serving:  # they end at their next step
                self._changed.wait(0.05)
        engine.leave_card()

    def wake(self) -> None:
        """Take questions again, the model being back on its card. Raises torch's error where there is not room yet."""
        if self.engine is not None:
            self.engine.come_back()
        self._resting = None

    def close(self, reason: str) -> None:
        """Take no more questions and end all there are; whoever waits reads the reason."""
        self._refusal = Busy(reason)
        self._end_all(self._refusal)

    def _end_all(self, error: Busy) -> None:
        with self._changed:
            jobs = [*self._serving, *self._waiting]
        for job in jobs:
            job.stop(error)

    def _check_room(self, asker: Asker) -> None:
        """Raises `Busy`; the caller holds the lock."""
        if self._refusal is not None:
            raise self._refusal
        if self._resting is not None:
            raise self._resting
        if self._failure is not None:
            raise Busy(NOT_LOADED)
        jobs = [*self._serving, *self._waiting]
        if len(jobs) > self._limits.max_waiting:
            raise Busy(
                f"{self._limits.max_waiting} questions are waiting or being answered already; try again in a minute."
            )
        own = sum(job.asker.visitor == asker.visitor for job in jobs) if asker.visitor else 0
        if own >= self._limits.questions_at_once:
            raise Busy(f"{own} questions of yours are not answered yet; ask the next one when one of them is.")

    def _serve(self) -> None:
        try:
            self.engine = self._load()
        except Exception as error:  # raised again by wait_loaded, where the app ends with it
            self._failure = error
            self._end_all(Busy(NOT_LOADED))
            return
        finally:
            self._loaded.set()
        while True:
            self._begin(self.engine, self._admitted(self.engine))
            if self._serving:
                self._step(self.engine)

    def _admitted(self, engine: Engine) -> list[Job]:
        """Those that wait and fit into the free slots, the first first; waits while there is nothing to do at all."""
        with self._changed:
            while not self._waiting and not self._serving:
                self._changed.wait()
            new: list[Job] = []
            free = engine.num_slots - sum(len(job.rows) for job in self._serving)
            while self._waiting and (len(self._waiting[0].rows) <= free or not self._serving):
                new.append(self._waiting.popleft())
                self._serving.append(new[-1])
                free -= len(new[-1].rows)
        return new

    def _begin(self, engine: Engine, new: Sequence[Job]) -> None:
        """Apart from the loop, which waits for the next ones and would keep these, with their adapters, meanwhile."""
        encode_together(engine, new)
        for job in new:
            if not job.begin(engine):
                self._release(job)

    def _step(self, engine: Engine) -> None:
        """One token for each row before the engine."""
        try:
            engine.step()
        except Exception as error:  # none of a question, those are the jobs' own: the line goes on with the next ones
            for job in tuple(self._serving):
                job.end(error)
                self._release(job)
            return
        for job in tuple(self._serving):
            if job.look():
                self._release(job)

    def _release(self, job: Job) -> None:
        with self._changed:
            self._serving.remove(job)
