"""One decode: rows from their prompts to their completions, as whoever asked for them reads along."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from inference.engine.prefill import Prompt
from inference.engine.tickets import Lane, Ticket
from inference.model.request import Completion
from inference.model.tokenizer import TextStream

if TYPE_CHECKING:
    from inference.engine.engine import Engine


class Reader:
    """Reads along with one lane: its tokens as text."""

    def __init__(self, lane: Lane, stream: TextStream, ends: frozenset[int]) -> None:
        self.lane, self._stream, self._ends = lane, stream, ends
        self.num_tokens = 0
        """Those that have been read."""

    @property
    def is_over(self) -> bool:
        """True once all that comes has been read."""
        return self.lane.over and self.num_tokens == len(self.lane.tokens)

    @property
    def has_news(self) -> bool:
        """True if there is something to read, or nothing comes any more."""
        return self.lane.over or len(self.lane.tokens) > self.num_tokens

    @property
    def text(self) -> str:
        """The row's prefix and what has been read."""
        return self.lane.prompt.row.prefix + self._stream.text

    @property
    def seconds(self) -> float:
        """From the decode's start to the last token read."""
        return self.lane.tokens[self.num_tokens - 1][1] if self.num_tokens else 0.0

    def read(self) -> str | None:
        """The text that the next token completes, `None` if there is none yet.

        Where a limit or a stop cuts a character in two, its first half is left out: Continue then makes it anew.
        """
        if self.num_tokens == len(self.lane.tokens):
            return None
        token, _ = self.lane.tokens[self.num_tokens]
        self.num_tokens += 1
        return self._stream.close() if token in self._ends else self._stream.feed(token)

    def completion(self) -> Completion:
        """As far as it has been read."""
        lane, row, read = self.lane, self.lane.prompt.row, self.lane.tokens[: self.num_tokens]
        return Completion(
            text=self.text,
            token_ids=tuple(id_ for id_, _ in read),
            num_tokens=len(read),
            seconds=self.seconds,
            first_token_seconds=read[0][1] if read else 0.0,
            truncated=len(read) >= row.max_new_tokens and not lane.ended,
            stopped=lane.stopped and self.is_over,
        )


class Decode:
    """Rows being completed. Iterate it: each time it yields the rows' new text as (row index, text).

        decode = engine.stream(rows, stop)
        for updates in decode:
            for index, text in updates: ...
        decode.completions  # one per row, in order; also in between, as far as they have come

    Rows of all decodes of an engine share its steps: whoever waits for text makes the next step, unless another one has
    made it meanwhile. One that is given up (nothing refers to it any more) frees its slots. A set `stop` ends it before
    the next step. Iterating raises what broke its rows.
    """

    def __init__(self, engine: Engine, prompts: Sequence[Prompt], stop: threading.Event | None, started: float) -> None:
        self._engine = engine
        lanes = [Lane(i, prompt) for i, prompt in enumerate(prompts)]
        self.ticket = Ticket(lanes, stop, started)
        ends = engine.tokens.vocabulary.ends
        self.readers = [Reader(lane, TextStream(engine.tokens), ends) for lane in lanes]
        """By row."""
        self._open = list(self.readers)
        weakref.finalize(self, engine.give_up, self.ticket).atexit = False

    def __iter__(self) -> Iterator[list[tuple[int, str]]]:
        return self

    def __next__(self) -> list[tuple[int, str]]:
        while True:
            updates = self.read()
            if updates is not None:
                return updates
            if self.is_over:
                raise StopIteration
            self._engine.step(self.has_news)

    @property
    def is_over(self) -> bool:
        """True once every row has ended and been read. Raises what broke its rows."""
        if self.ticket.error is not None:
            raise self.ticket.error
        return not self._open

    @property
    def completions(self) -> list[Completion]:
        """One per row, in the order of the rows, as far as they have been read."""
        return [reader.completion() for reader in self.readers]

    def token_ids(self) -> list[list[int]]:
        """Each row's new tokens as far as they have come, read or not. Raises what broke its rows."""
        if self.ticket.error is not None:
            raise self.ticket.error
        return [[token for token, _ in lane.tokens] for lane in self.ticket.lanes]

    def has_news(self) -> bool:
        """True if there is something to read, or nothing comes any more."""
        return self.ticket.error is not None or any(reader.has_news for reader in self._open)

    def has_ended(self) -> bool:
        """True if nothing comes any more, read or not."""
        return self.ticket.error is not None or self.ticket.is_over

    def read(self) -> list[tuple[int, str]] | None:
        """The new text of a step, without waiting; `None` if no row has a new token."""
        texts = [(reader.lane.index, reader.read()) for reader in self._open]
        self._open = [reader for reader in self._open if not reader.is_over]
        if all(text is None for _, text in texts):
            return None
        return [(index, text) for index, text in texts if text]

    def skip(self) -> None:
        """Read to the end if nothing more comes; for who wants the completions alone."""
        while self.has_ended() and self.read() is not None:
            pass
