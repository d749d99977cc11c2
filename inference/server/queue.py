"""The visitors' queue: questions wait here, in a fair order, until the engine has free sequences for them.

    queue = RequestQueue(lambda: Engine.load(base))
    submission = queue.submit([Request(image, "How many?")])
    while not submission.wait(0.06):
        print(submission.ahead, submission.progress()[0].text)

One thread loads the engine, so that the page is up before the model is, and then makes the engine's steps. A question
that the engine has free sequences for joins the others at the next step. Reading a submission never slows the engine
down. `stop` works for one that waits, too; `disconnect` stops what a closed page asked.

The order is start-time fair queueing by visitor (Goyal, Vin and Cheng, 1996): a question's turn is the virtual time
when the tokens that its visitor asked for before are paid for, or now if they are. So whoever asks for much goes behind
whoever asks for little, and among a visitor's own questions the first that came is first.
"""

from __future__ import annotations

import bisect
import contextlib
import contextvars
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from inference.common.errors import Busy
from inference.common.logs import event
from inference.common.settings import DEFAULT_LIMITS, Limits
from inference.model.request import Completion, Request
from inference.prompt.format import parse_completion
from inference.server.visitors import RateLimit, Visitor, pseudonym, whole_seconds

if TYPE_CHECKING:
    from inference.engine.engine import Engine
    from inference.engine.generation import Generation, SequenceReader

MAX_DISCONNECTED = 1_024
"""Closed pages remembered; reading a question takes seconds only."""
MAX_SEQS_BESIDE_OTHERS = 4
"""Sequences of one visitor that the engine has at a time while others ask too: each row makes a step longer for all."""
MAX_NEWCOMERS = 4
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


@dataclass(frozen=True)
class Progress:
    """One completion so far."""

    text: str
    """The request's prefix and all new text."""
    num_tokens: int = 0
    seconds: float = 0.0
    thought_tokens: int = 0
    """New tokens when the answer began; 0 before that, or if there was no thought."""
    thought_seconds: float = 0.0
    picture_distance: float | None = None
    """Of the picture from those that the base knows: `ImageEncoding.distance`."""
    completion: Completion | None = None
    """Set once the completion has ended."""


class Submission:
    """One question's requests, from the queue to their completions; made by `RequestQueue.submit`."""

    def __init__(self, queue: RequestQueue, requests: Sequence[Request], visitor: Visitor, turn: float) -> None:
        self.requests, self.visitor = tuple(requests), visitor
        self.turn = turn
        """The virtual time at which it may begin, in tokens; a lower one is earlier."""
        self.error: BaseException | None = None
        """The error that ended it, once it has ended; raised again by whoever waits for it."""
        self._stop_error: BaseException | None = None
        self._queue = queue
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._progress = [Progress(request.prefix) for request in requests]
        self._submitted_at = time.monotonic()
        self._waited_seconds = 0.0
        self._generation: Generation | None = None
        self._context = contextvars.copy_context()
        """Of the visitor's thread; ZeroGPU looks there for the visitor whose quota it takes."""

    @property
    def ahead(self) -> int:
        """Its place in the queue: 0 while it is answered, else one more than the number that waits before it."""
        return self._queue.place_of(self)

    @property
    def is_loading(self) -> bool:
        """True while the engine is being loaded."""
        return self._queue.is_loading

    def stop(self, reason: BaseException | None = None) -> None:
        """Leave the queue, or end generation within a step. With a reason, `error` is that."""
        if reason is not None:
            self._stop_error = reason
        self._stop.set()
        if self._queue.remove(self):
            self.error = self._stop_error
            self._ended.set()

    def wait(self, seconds: float | None = None) -> bool:
        """True as soon as it has ended, False if it has not after `seconds`."""
        return self._ended.wait(seconds)

    def progress(self) -> list[Progress]:
        """A snapshot, one entry per request."""
        return list(self._progress)

    def begin(self, engine: Engine) -> bool:
        """Pass the requests to the engine; called by the queue's thread, like `update` and `end`. False on failure."""
        self._waited_seconds = time.monotonic() - self._submitted_at
        try:
            self._generation = self._context.run(engine.stream, self.requests, self._stop, self.turn)
        except Exception as error:  # raised again where the page or the client waits for it
            self.end(error)
            return False
        return True

    def update(self) -> bool:
        """Read the tokens of the engine's last step; True once the submission has ended."""
        assert self._generation is not None, "begin comes first"
        try:
            self._generation.read()
            for i, reader in enumerate(self._generation.readers):
                if self._progress[i].completion is None:
                    self._progress[i] = _advanced(self._progress[i], reader)
            is_over = self._generation.is_over
        except Exception as error:  # as above
            self.end(error)
            return True
        if is_over:
            self.end()
        return is_over

    def end(self, error: Exception | None = None) -> None:
        """Mark it as ended, with the error if there was one, and log figures and names of adapters."""
        self._generation = None
        self.error = error or self._stop_error
        state = "failed" if self.error is not None else "stopped" if self._stop.is_set() else "done"
        event(
            "question_ended",
            state=state,
            visitor=pseudonym(self.visitor.id),
            adapters=",".join(request.adapter or "base" for request in self.requests),
            num_tokens=sum(progress.num_tokens for progress in self._progress),
            waited_seconds=round(self._waited_seconds, 3),
            seconds=round(max(progress.seconds for progress in self._progress), 3),
        )
        self._ended.set()


def _advanced(before: Progress, reader: SequenceReader) -> Progress:
    """The progress up to what the reader has read."""
    text = reader.text
    now = replace(
        before,
        text=text,
        num_tokens=reader.num_tokens,
        seconds=reader.seconds,
        picture_distance=reader.picture_distance,
    )
    if not before.thought_seconds and text != before.text and _thought_has_ended(text):
        now = replace(now, thought_tokens=now.num_tokens, thought_seconds=now.seconds)
    return replace(now, completion=reader.completion()) if reader.is_over else now


def _thought_has_ended(text: str) -> bool:
    """True once there is a thought and an answer has begun."""
    if "</think>" not in text and "<answer>" not in text:
        return False  # cheap, since it is called for every token
    parsed = parse_completion(text, final=False)
    return bool(parsed.thinking and parsed.answer)


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
            raise Busy(
                f"You have asked {self._limits.questions_per_minute} questions in a minute, which is the limit here; "
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
