"""The visitors' queue: questions wait here, in a fair order, until the engine has free sequences for them.

    queue = RequestQueue(lambda: Engine.load(base))
    submission = queue.submit([Request(image, "How many?")])
    while not submission.wait(0.06):
        print(submission.ahead, submission.progress()[0].text)

One thread loads the engine, so that the page is up before the model is, and then makes the engine's steps. A question
that the engine has free sequences for joins the others at the next step. Reading a submission never slows the engine
down. `stop` works for one that waits, too; `disconnect` stops what a closed page asked.

The order is start-time fair queueing by visitor (Goyal, Vin and Cheng, 1996): a question's turn is the virtual time
when the tokens that its visitor asked for before are paid for, or now if they are; tokens that were not used are given
back. So whoever asks for much goes behind whoever asks for little, and among a visitor's own questions the first that
came is first.
"""

from __future__ import annotations

import bisect
import contextlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from inference.common.errors import Busy
from inference.common.settings import DEFAULT_LIMITS, Limits
from inference.model.request import Request
from inference.server.submission import Submission
from inference.server.visitors import RateLimit, Visitor, whole_seconds

if TYPE_CHECKING:
    from inference.engine.engine import Engine

MAX_DISCONNECTED = 1_024
"""Closed pages remembered; reading a question takes seconds only."""
MAX_SEQS_BESIDE_OTHERS = 4
"""Sequences of one visitor that the engine has at a time while others ask too: each row makes a step longer for all."""
MAX_NEWCOMERS = 2
"""Questions that begin between two steps: their pictures go through the tower, and the others wait for it."""
THE_APP = Visitor()
NOT_LOADED = "The model could not be loaded, so nothing can be answered; the app's log says why."


class EngineState(StrEnum):
    """The state of the engine behind the queue, as `/healthz` names it."""

    LOADING = "loading"
    READY = "ready"
    RESTING = "resting"
    FAILED = "failed"
    STOPPING = "stopping"


class RequestQueue:
    """The queue in front of one engine; lives as long as the app. Thread-safe."""

    def __init__(self, load: Callable[[], Engine], limits: Limits = DEFAULT_LIMITS) -> None:
        """`load` returns the engine; it runs at once, on the queue's thread."""
        self.engine: Engine | None = None
        """`None` while it is being loaded."""
        self._load, self._limits = load, limits
        self._load_error: Exception | None = None
        self._closed: Busy | None = None
        """The refusal of every question, once the app stops."""
        self._resting: Busy | None = None
        """The refusal of every question between `rest` and `wake`."""
        self._loaded = threading.Event()
        self._rate = RateLimit(limits.questions_per_minute, 60)
        self._waiting: list[Submission] = []
        """By their turn."""
        self._paid_until: dict[str, float] = {}
        """By visitor the virtual time of the next question's turn; those that lie in the past are dropped."""
        self._running: list[Submission] = []
        """Submissions whose requests the engine has, oldest first."""
        self._reading: dict[int, Visitor] = {}
        """Visitors whose questions are being read, by identity."""
        self._disconnected: OrderedDict[str, float] = OrderedDict()
        """Sessions to the time when their page was closed."""
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    @property
    def is_loading(self) -> bool:
        """True while the engine is being loaded."""
        return self.engine is None

    @property
    def state(self) -> EngineState:
        """The engine's state."""
        if self._closed is not None:
            return EngineState.STOPPING
        if self._load_error is not None:
            return EngineState.FAILED
        if self._resting is not None:
            return EngineState.RESTING
        return EngineState.LOADING if self.engine is None else EngineState.READY

    @property
    def num_waiting(self) -> int:
        """Questions that wait; those being answered do not count."""
        return len(self._waiting)

    @property
    def is_answering(self) -> bool:
        """True while the engine has a question."""
        return bool(self._running)

    def wait_loaded(self, seconds: float | None = None) -> Engine | None:
        """Wait for the engine; `None` if it takes longer than `seconds`. Raises the error that loading ended with."""
        if not self._loaded.wait(seconds):
            return None
        if self.engine is None:
            raise self._load_error or RuntimeError("the engine did not load")
        return self.engine

    @contextlib.contextmanager
    def admit(self, visitor: Visitor) -> Iterator[None]:
        """Takes a place for a question while it is read, until it is submitted or the block ends.

        Raises `Busy` if it is refused now. It counts as a question of the visitor's minute in any case.
        """
        with self._changed:
            self._check_room(visitor)
            wait = self._rate.take(visitor.id) if visitor.id else 0.0
            if not wait:
                self._reading[id(visitor)] = visitor
        if wait:
            most = self._limits.questions_per_minute
            raise Busy(
                f"Each visitor may ask {most} question{'s' * (most != 1)} a minute here, and none of yours is left; "
                f"ask again in {whole_seconds(wait)}."
            )
        try:
            yield
        finally:
            with self._changed:
                self._reading.pop(id(visitor), None)

    def submit(self, requests: Sequence[Request], visitor: Visitor = THE_APP) -> Submission:
        """Add one question's requests to the queue; raises `Busy` if too many wait and it has no place by `admit`."""
        if self.engine is not None:
            images = [image for request in requests for image in request.images]
            self.engine.prepare(images)  # on the visitor's thread, so nobody waits
        with self._changed:
            place = self._reading.pop(id(visitor), None)
            self._check_room(visitor, has_place=place is not None)
            submission = Submission(self, requests, visitor, self._take_turn(requests, visitor))
            bisect.insort_right(self._waiting, submission, key=lambda one: one.turn)
            has_left = self._disconnected.get(visitor.session, -math.inf) > visitor.asked_at
            self._changed.notify_all()
        if has_left:
            submission.stop()
        return submission

    def place_of(self, submission: Submission) -> int:
        """Its place: 0 once the engine has it; the first that waits is at 1 if something is being answered."""
        with self._changed:
            waits = submission in self._waiting
            return self._waiting.index(submission) + bool(self._running) if waits else 0

    def remove(self, submission: Submission) -> bool:
        """Take a waiting submission out; False if the engine has it or it has ended."""
        with self._changed:
            if submission not in self._waiting:
                return False
            self._waiting.remove(submission)
            self._give_back(submission, submission.num_asked)
            return True

    def disconnect(self, session: str) -> None:
        """Stop what a closed page, or call, asked, and what it is about to ask."""
        if not session:
            return
        with self._changed:
            self._disconnected[session] = time.monotonic()
            self._disconnected.move_to_end(session)
            while len(self._disconnected) > MAX_DISCONNECTED:
                self._disconnected.popitem(last=False)
            submissions = [s for s in (*self._running, *self._waiting) if s.visitor.session == session]
        for submission in submissions:
            submission.stop()

    @property
    def is_resting(self) -> bool:
        """True between `rest` and `wake`."""
        return self._resting is not None

    def rest(self, reason: str) -> None:
        """Refuse questions until `wake`, end those there are with the reason, and let the model leave the GPU."""
        engine = self.engine
        assert engine is not None, "only a loaded engine can rest"
        refusal = Busy(reason)
        with self._changed:
            self._resting = refusal
        self._end_all(refusal)
        with self._changed:
            while self._running:  # they end at their next step
                self._changed.wait(0.05)
        engine.sleep()

    def wake(self) -> None:
        """Bring the model back and take questions again. Raises torch's error if there is not enough memory yet."""
        if self.engine is not None:
            self.engine.wake_up()
        self._resting = None

    def close(self, reason: str) -> None:
        """Take no more questions, and end all there are with the reason."""
        self._closed = Busy(reason)
        self._end_all(self._closed)

    def _end_all(self, error: Busy) -> None:
        with self._changed:
            submissions = [*self._running, *self._waiting]
        for submission in submissions:
            submission.stop(error)

    def _check_room(self, visitor: Visitor, has_place: bool = False) -> None:
        """Raises `Busy`; the caller holds the lock."""
        if refusal := self._closed or self._resting:
            raise refusal
        if self._load_error is not None:
            raise Busy(NOT_LOADED)
        if has_place:
            return
        asking = [*(s.visitor for s in (*self._running, *self._waiting)), *self._reading.values()]
        num_left = self._limits.max_waiting + 1 - len(asking)
        if num_left <= 0:
            most = self._limits.max_waiting
            raise Busy(f"{most} questions are waiting or being answered already; try again in a minute.")
        num_own = sum(other.id == visitor.id for other in asking) if visitor.id else 0
        if num_own >= self._limits.questions_at_once:
            raise Busy(f"{num_own} questions of yours are not answered yet; ask the next one when one of them is.")
        if num_own > num_left:  # so that a few visitors never fill the queue
            raise Busy(
                f"{num_own} questions of yours are not answered yet, and {num_left} more can wait, which are left to "
                "others; ask the next one when one of yours is answered."
            )

    def _take_turn(self, requests: Sequence[Request], visitor: Visitor) -> float:
        """The turn of a new question, whose tokens its visitor then owes; the caller holds the lock.

        The present is the earliest turn of all questions that are not answered yet.
        """
        turns = [submission.turn for submission in (*self._running, *self._waiting)]
        present = min(turns, default=0.0)
        debts = self._paid_until if turns else {}
        self._paid_until = {one: until for one, until in debts.items() if until > present}
        turn = max(present, self._paid_until.get(visitor.id, 0.0))
        self._paid_until[visitor.id] = turn + sum(request.max_new_tokens for request in requests)
        return turn

    def _give_back(self, submission: Submission, tokens: int) -> None:
        """Takes tokens that a question did not use from what its visitor owes; the caller holds the lock.

        The next question's turn still comes after those of the visitor's questions that are not answered yet.
        """
        visitor = submission.visitor.id
        if visitor in self._paid_until:
            own = [one for one in (*self._running, *self._waiting) if one.visitor.id == visitor and one != submission]
            after_own = max((one.turn + one.num_asked for one in own), default=0.0)
            self._paid_until[visitor] = max(self._paid_until[visitor] - tokens, after_own)

    def _run(self) -> None:
        try:
            self.engine = self._load()
        except Exception as error:  # raised again by wait_loaded, where the app ends with it
            self._load_error = error
            self._end_all(Busy(NOT_LOADED))
            return
        finally:
            self._loaded.set()
        while True:
            self._begin(self.engine, self._next_submissions(self.engine))
            if self._running:
                self._step(self.engine)

    def _next_submissions(self, engine: Engine) -> list[Submission]:
        """The next submissions that the engine has free sequences for; waits while there is nothing to do at all."""
        with self._changed:
            while not self._waiting and not self._running:
                self._changed.wait()
            newcomers: list[Submission] = []
            num_free = engine.num_free_seqs
            most = MAX_NEWCOMERS if self._running else len(self._waiting)
            for submission in tuple(self._waiting):
                if self._running and (len(newcomers) == most or len(submission.requests) > num_free):
                    break
                if self._has_enough(submission.visitor, len(submission.requests)):
                    continue
                newcomers.append(submission)
                self._waiting.remove(submission)
                self._running.append(submission)
                num_free -= len(submission.requests)
        return newcomers

    def _has_enough(self, visitor: Visitor, num_more: int) -> bool:
        """True if a visitor's next question waits for one of theirs to end, as others ask too; under the lock."""
        num_own = sum(len(s.requests) for s in self._running if s.visitor.id == visitor.id)
        if not visitor.id or not num_own or num_own + num_more <= MAX_SEQS_BESIDE_OTHERS:
            return False
        return any(s.visitor.id != visitor.id for s in (*self._running, *self._waiting))

    def _begin(self, engine: Engine, newcomers: Sequence[Submission]) -> None:
        """Apart from the loop, which would keep these submissions, with their adapters, while it waits for others."""
        if len(newcomers) > 1:  # their pictures go through the tower together
            with contextlib.suppress(Exception):  # a picture that fails is reported when its own submission begins
                asked = [request for submission in newcomers for request in submission.requests]
                engine.encode([image for request in asked for image in request.images])
        for submission in newcomers:
            if not submission.begin(engine):
                self._release(submission)

    def _step(self, engine: Engine) -> None:
        """One step of the engine, and its tokens to the submissions."""
        try:
            engine.step()
        except Exception as error:  # errors of one question stay with it, so this hits all; the queue goes on
            for submission in tuple(self._running):
                submission.end(error)
                self._release(submission)
            return
        for submission in tuple(self._running):
            if submission.update():
                self._release(submission)

    def _release(self, submission: Submission) -> None:
        with self._changed:
            self._running.remove(submission)
            self._give_back(submission, submission.num_asked - submission.num_tokens)
