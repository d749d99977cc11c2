"""One question in the line or before the engine: its rows, how far they have come, and Stop."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from inference.common.logs import event
from inference.model.request import Completion, Row
from inference.prompt.format import parse_completion
from inference.server.visitors import Asker, pseudonym

if TYPE_CHECKING:
    from inference.engine.engine import Engine
    from inference.engine.generation import Decode, Reader


@dataclass(frozen=True)
class Progress:
    """How far one row has come."""

    text: str
    """The row's prefix and all new text."""
    num_tokens: int = 0
    seconds: float = 0.0
    thought_tokens: int = 0
    """New tokens when the answer began; 0 while there is none, or when nothing was thought before it."""
    thought_seconds: float = 0.0
    completion: Completion | None = None
    """Set once the row has ended."""


class _Line(Protocol):
    """What a job asks of its line."""

    @property
    def is_loading(self) -> bool: ...
    def ahead_of(self, job: Job) -> int: ...
    def leave(self, job: Job) -> bool: ...


class Job:
    """Rows on their way; made by `Line.submit`."""

    def __init__(self, line: _Line, rows: Sequence[Row], asker: Asker) -> None:
        self.rows, self.asker = tuple(rows), asker
        self.error: BaseException | None = None
        """What ended it, once it has ended; raised again where somebody waits for it."""
        self._stop_error: BaseException | None = None
        self._line = line
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._progress = [Progress(row.prefix) for row in rows]
        self._since = time.monotonic()
        self._waited = 0.0
        self._decode: Decode | None = None

    @property
    def ahead(self) -> int:
        """The job's place in the line: 0 while it is served, else one more than those that wait before it."""
        return self._line.ahead_of(self)

    @property
    def is_loading(self) -> bool:
        """True while the engine itself is not there yet."""
        return self._line.is_loading

    def stop(self, reason: BaseException | None = None) -> None:
        """End the decode within a step, or leave the line; with a reason, whoever waits is told that instead."""
        if reason is not None:
            self._stop_error = reason
        self._stop.set()
        if self._line.leave(self):
            self.error = self._stop_error
            self._ended.set()

    def wait(self, seconds: float | None = None) -> bool:
        """True as soon as the job has ended, False if it has not after `seconds`."""
        return self._ended.wait(seconds)

    def progress(self) -> list[Progress]:
        """A snapshot, one entry a row."""
        return list(self._progress)

    def begin(self, engine: Engine) -> bool:
        """Take the rows to the engine; called by the line's thread, as `look` and `end` are. False if that failed."""
        self._waited = time.monotonic() - self._since
        try:
            self._decode = engine.stream(self.rows, self._stop)
        except Exception as error:  # raised again where the page or the client waits for it
            self.end(error)
            return False
        return True

    def look(self) -> bool:
        """Note what the engine's last step brought; true once the job has ended."""
        assert self._decode is not None, "begin comes first"
        try:
            self._decode.read()
            for i, reader in enumerate(self._decode.readers):
                if self._progress[i].completion is None:
                    self._note(i, reader)
            is_over = self._decode.is_over
        except Exception as error:  # as above
            self.end(error)
            return True
        if is_over:
            self.end()
        return is_over

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes; whoever waits is told why, if that was an error."""
        self._decode = None
        self.error = error or self._stop_error
        self._log(self._waited)
        self._ended.set()

    def _note(self, i: int, reader: Reader) -> None:
        """How far row `i` has come."""
        before, text = self._progress[i], reader.text
        new = replace(before, text=text, num_tokens=reader.num_tokens, seconds=reader.seconds)
        if not before.thought_seconds and text != before.text and _thought_ends(text):
            new = replace(new, thought_tokens=new.num_tokens, thought_seconds=new.seconds)
        if reader.is_over:
            new = replace(new, completion=reader.completion())
        self._progress[i] = new

    def _log(self, waited: float) -> None:
        """Figures and names of adapters only."""
        ended = "stopped" if self._stop.is_set() else "done"
        event(
            "question_ended",
            state=ended if self.error is None else "failed",
            visitor=pseudonym(self.asker.visitor),
            adapters=",".join(row.adapter or "base" for row in self.rows),
            num_tokens=sum(progress.num_tokens for progress in self._progress),
            waited_seconds=round(waited, 3),
            seconds=round(max(progress.seconds for progress in self._progress), 3),
        )


def _thought_ends(text: str) -> bool:
    """True once something was thought and an answer has begun."""
    if "</think>" not in text and "<answer>" not in text:
        return False  # quickly, since it is asked at every token
    parsed = parse_completion(text, final=False)
    return bool(parsed.thinking and parsed.answer)


def encode_together(engine: Engine, jobs: Sequence[Job]) -> None:
    """Pictures of questions that begin together go through the tower together; each then finds its own there."""
    if len(jobs) > 1:
        with contextlib.suppress(Exception):  # one that breaks is told to whoever asked it, when it begins
            engine.encode([row.image for job in jobs for row in job.rows])
