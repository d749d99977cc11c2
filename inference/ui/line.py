"""The line in front of the engine: one decode at a time, in the order asked, on a thread of its own.

    line = Line(lambda: Engine.load(base))
    job = line.submit([Row(image, "How many?")])
    while not job.wait(0.06):
        print(job.ahead, job.progress()[0].text)

The thread loads the engine first, so that the page is up before the model is. The page looks at a job when it
likes, which never slows a decode down; `stop` works for a job that waits, too.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from inference.errors import UserError
from inference.format import parse_completion
from inference.rows import Completion, Row

if TYPE_CHECKING:
    from inference.engine import Engine

MAX_WAITING = 24
"""Jobs that may wait; each keeps a thread of the server."""


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


class Job:
    """Rows on their way; made by `Line.submit`."""

    def __init__(self, line: Line, rows: Sequence[Row]) -> None:
        self.rows = tuple(rows)
        self.error: BaseException | None = None
        self._line = line
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._progress = [Progress(row.prefix) for row in rows]

    @property
    def ahead(self) -> int:
        """How many jobs are served before this one, the one being served included."""
        return self._line.ahead_of(self)

    @property
    def is_loading(self) -> bool:
        """True while the engine itself is not there yet."""
        return self._line.engine is None

    def stop(self) -> None:
        """End the decode within a step, or leave the line."""
        self._stop.set()
        if self._line.leave(self):
            self._ended.set()

    def wait(self, seconds: float | None = None) -> bool:
        """True as soon as the job has ended, False if it has not after `seconds`."""
        return self._ended.wait(seconds)

    def progress(self) -> list[Progress]:
        """A snapshot, one entry a row."""
        return list(self._progress)

    def run(self, engine: Engine) -> None:
        """Decode to the end; called by the line's thread."""
        try:
            self._decode(engine)
        except Exception as error:  # raised again where the page or the client waits for it
            self.error = error
        finally:
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


class Line:
    """First come, first served. One line stands before one engine and lives as long as the app."""

    def __init__(self, load: Callable[[], Engine], max_waiting: int = MAX_WAITING) -> None:
        """`load` gives the engine; it runs at once, on the line's thread."""
        self.engine: Engine | None = None
        """`None` while it is loaded."""
        self._load, self._max_waiting = load, max_waiting
        self._failure: Exception | None = None
        self._loaded = threading.Event()
        self._jobs: deque[Job] = deque()
        """The job being served, then those that wait."""
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, name="engine-line", daemon=True).start()

    def wait_loaded(self) -> Engine:
        """Waits for the engine; raises what kept it from loading."""
        self._loaded.wait()
        if self.engine is None:
            raise self._failure or RuntimeError("the engine did not load")
        return self.engine

    def submit(self, rows: Sequence[Row]) -> Job:
        """Take a place; a `UserError` if too many wait."""
        with self._changed:
            if len(self._jobs) > self._max_waiting:
                raise UserError(f"{self._max_waiting} questions are waiting already; try again in a minute.")
            job = Job(self, rows)
            self._jobs.append(job)
            self._changed.notify_all()
        return job

    def ahead_of(self, job: Job) -> int:
        """The place of a job: 0 while it is served, and after that."""
        with self._changed:
            return self._jobs.index(job) if job in self._jobs else 0

    def leave(self, job: Job) -> bool:
        """Take a waiting job out; False if it is being served or has been."""
        with self._changed:
            if job not in self._jobs or self._jobs[0] is job:
                return False
            self._jobs.remove(job)
            return True

    def _serve(self) -> None:
        try:
            self.engine = self._load()
        except Exception as error:  # raised again by wait_loaded, where the app ends with it
            self._failure = error
            return
        finally:
            self._loaded.set()
        while True:
            with self._changed:
                while not self._jobs:
                    self._changed.wait()
                job = self._jobs[0]
            job.run(self.engine)
            with self._changed:
                self._jobs.popleft()


def _thought_ends(text: str) -> bool:
    """True once something was thought and an answer has begun."""
    parsed = parse_completion(text, final=False)
    return bool(parsed.thinking and parsed.answer)
