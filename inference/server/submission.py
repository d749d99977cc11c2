"""One question from the queue to its completions: its place, its progress, its end.

    submission = queue.submit([Request(image, "How many?")])
    while not submission.wait(0.06):
        print(submission.ahead, submission.progress()[0].text)

The queue's thread calls `begin`, `update` and `end`; any thread may call the rest.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from inference.common.errors import UserError
from inference.common.logs import event
from inference.model.known_pictures import unknown_warning
from inference.model.request import Completion, Request
from inference.prompt.format import parse_completion
from inference.server.visitors import Visitor, pseudonym

if TYPE_CHECKING:
    from inference.engine.engine import Engine
    from inference.engine.generation import Generation, SequenceReader


class Queue(Protocol):
    """The queue that a submission waits in."""

    @property
    def is_loading(self) -> bool: ...

    def place_of(self, submission: Submission) -> int:
        """Its place: 0 while it is answered."""
        ...

    def remove(self, submission: Submission) -> bool:
        """Takes it out; False if it does not wait any more."""
        ...


@dataclass(frozen=True)
class Progress:
    """One completion so far."""

    text: str
    """The request's prefix and all new text."""
    num_tokens: int = 0
    num_prompt_tokens: int = 0
    """Those of the pictures included; 0 while it waits."""
    seconds: float = 0.0
    thought_tokens: int = 0
    """New tokens when the answer began; 0 before that, or if there was no thought."""
    thought_seconds: float = 0.0
    picture_distance: float | None = None
    """Of the picture from those that the base knows: `ImageEncoding.distance`."""
    completion: Completion | None = None
    """Set once the completion has ended."""

    @property
    def warning(self) -> str | None:
        """A sentence where the picture is unlike all that the base knows."""
        return unknown_warning(self.picture_distance) or None


class Submission:
    """One question's requests, from the queue to their completions; made by `RequestQueue.submit`."""

    def __init__(self, queue: Queue, requests: Sequence[Request], visitor: Visitor, turn: float) -> None:
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

    @property
    def num_asked(self) -> int:
        """The most new tokens that its requests may take."""
        return sum(request.max_new_tokens for request in self.requests)

    @property
    def num_tokens(self) -> int:
        """New tokens up to now."""
        return sum(progress.num_tokens for progress in self._progress)

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

    def completions(self, seconds: float) -> list[Completion]:
        """The completions once all have ended. Raises the error that ended it, and `UserError` where it was stopped,
        or takes more than `seconds`, which stops it."""
        if not self.wait(seconds):
            self.stop()
            raise UserError(f"The answers took more than {seconds:.0f} s, so they were stopped. Try again later.")
        if self.error is not None:
            raise self.error
        found = [progress.completion for progress in self._progress]
        ended = [completion for completion in found if completion is not None and not completion.stopped]
        if len(ended) < len(found):
            raise UserError("The answers were stopped. Ask again.")
        return ended

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
            num_tokens=self.num_tokens,
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
        num_prompt_tokens=reader.num_prompt_tokens,
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
