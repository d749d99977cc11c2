"""One question in the line or before the engine: its rows, how far they have come, and Stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from inference.format import parse_completion
from inference.logs import event
from inference.rows import Completion, Row
from inference.visitors import Asker, pseudonym

if TYPE_CHECKING:
    from inference.engine import Engine


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

    @property
    def ahead(self) -> int:
        """How many jobs are served before this one, the one being served included."""
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

    def run(self, engine: Engine) -> None:
        """Decode to the end; called by the line's thread."""
        waited = time.monotonic() - self._since
        try:
            self._decode(engine)
        except Exception as error:  # raised again where the page or the client waits for it
            self.error = error
        finally:
            self.error = self.error or self._stop_error
            self._log(waited)
            self._ended.set()

    def _decode(self, engine: Engine) -> None:
        decode = engine.stream(self.rows, self._stop)
        for _ in decode:
            for i, completion in enumerate(decode.completions):
                self._note(i, completion)
        for i, completion in enumerate(decode.completions):
            if self._progress[i].completion is None:
                self._finish(i, completion)

    def _note(self, i: int, completion: Completion) -> None:
        """One more step of row `i`; a step that brought it nothing came after its end."""
        before = self._progress[i]
        if before.completion is not None:
            return
        if (completion.num_tokens, completion.text) == (before.num_tokens, before.text):
            self._finish(i, completion)
            return
        new = replace(before, text=completion.text, num_tokens=completion.num_tokens, seconds=completion.seconds)
        if not before.thought_seconds and new.text != before.text and _thought_ends(new.text):
            new = replace(new, thought_tokens=new.num_tokens, thought_seconds=new.seconds)
        self._progress[i] = new

    def _finish(self, i: int, completion: Completion) -> None:
        self._progress[i] = replace(
            self._progress[i],
            text=completion.text,
            num_tokens=completion.num_tokens,
            seconds=completion.seconds,
            completion=completion,
        )

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
    parsed = parse_completion(text, final=False)
    return bool(parsed.thinking and parsed.answer)
