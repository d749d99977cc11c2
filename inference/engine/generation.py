"""A generation: sequences asked for together, read as text while they are generated."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator

from inference.engine.sequence import Sequence, SequenceGroup
from inference.model.request import Completion
from inference.model.tokenizer import ChatTokenizer, TextStream


class SequenceReader:
    """Reads a sequence's tokens as text, as they come."""

    def __init__(self, sequence: Sequence, tokenizer: ChatTokenizer) -> None:
        self.sequence = sequence
        self._stream, self._ends = TextStream(tokenizer), tokenizer.vocabulary.ends
        self.num_tokens = 0
        """Tokens read so far."""

    @property
    def is_over(self) -> bool:
        """True once everything that comes has been read."""
        return self.sequence.over and self.num_tokens == len(self.sequence.tokens)

    @property
    def has_news(self) -> bool:
        """True if there is something to read, or nothing more comes."""
        return self.sequence.over or len(self.sequence.tokens) > self.num_tokens

    @property
    def text(self) -> str:
        """The request's prefix and the text read so far."""
        return self.sequence.request.prefix + self._stream.text

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt, those of its pictures included."""
        return len(self.sequence.prompt_ids)

    @property
    def picture_distance(self) -> float | None:
        """Of the request's picture from those that the base knows: `ImageEncoding.distance`."""
        return self.sequence.image.distance

    @property
    def seconds(self) -> float:
        """From the generation's start to the last token read."""
        return self.sequence.tokens[self.num_tokens - 1][1] if self.num_tokens else 0.0

    def read(self) -> str | None:
        """Reads the next token; returns the text it completes, `None` if there is no token yet.

        Where a limit or a stop cuts a character in two, its first half is left out: Continue makes it anew.
        """
        if self.num_tokens == len(self.sequence.tokens):
            return None
        token, _ = self.sequence.tokens[self.num_tokens]
        self.num_tokens += 1
        return self._stream.close() if token in self._ends else self._stream.feed(token)

    def completion(self) -> Completion:
        """The completion as far as it has been read."""
        sequence, tokens = self.sequence, self.sequence.tokens[: self.num_tokens]
        return Completion(
            text=self.text,
            token_ids=tuple(token for token, _ in tokens),
            num_tokens=len(tokens),
            seconds=self.seconds,
            first_token_seconds=tokens[0][1] if tokens else 0.0,
            truncated=len(tokens) >= sequence.request.max_new_tokens and not sequence.ended,
            stopped=sequence.stopped and self.is_over,
            prefix_logprobs=sequence.prefix_logprobs,
        )


class Generation:
    """Completions under way, made by `Engine.stream`. Each iteration yields new text as (request's index, text).

        generation = engine.stream(requests, stop)
        for updates in generation:
            for index, text in updates: ...
        generation.completions  # one per request, in order; also in between, as far as they have come

    All generations of an engine share its steps: whoever waits for text makes the next step, unless another thread has
    made it meanwhile. A generation that nothing refers to any more frees its rows. A set `stop` ends it before the next
    step. Iterating raises the error that ended it.
    """

    def __init__(
        self,
        group: SequenceGroup,
        tokenizer: ChatTokenizer,
        step: Callable[[Callable[[], bool]], None],
        give_up: Callable[[SequenceGroup], None],
    ) -> None:
        """`step` and `give_up` are the engine's."""
        self.group, self._step = group, step
        self.readers = [SequenceReader(sequence, tokenizer) for sequence in group.sequences]
        """By request."""
        self._open = list(self.readers)
        weakref.finalize(self, give_up, group).atexit = False

    def __iter__(self) -> Iterator[list[tuple[int, str]]]:
        return self

    def __next__(self) -> list[tuple[int, str]]:
        while True:
            updates = self.read()
            if updates is not None:
                return updates
            if self.is_over:
                raise StopIteration
            self._step(self.has_news)

    @property
    def is_over(self) -> bool:
        """True once every sequence has ended and been read. Raises the error that ended them."""
        self._raise_error()
        return not self._open

    @property
    def completions(self) -> list[Completion]:
        """One per request, in order, as far as they have been read."""
        return [reader.completion() for reader in self.readers]

    def token_ids(self) -> list[list[int]]:
        """Each sequence's new tokens so far, read or not. Raises the error that ended them."""
        self._raise_error()
        return [[token for token, _ in sequence.tokens] for sequence in self.group.sequences]

    def has_news(self) -> bool:
        """True if there is something to read, or nothing more comes."""
        return self.group.error is not None or any(reader.has_news for reader in self._open)

    def has_ended(self) -> bool:
        """True if nothing more comes, read or not."""
        return self.group.error is not None or self.group.is_over

    def read(self) -> list[tuple[int, str]] | None:
        """The new text of one step, without waiting; `None` if no sequence has a new token."""
        texts = [(reader.sequence.index, reader.read()) for reader in self._open]
        self._open = [reader for reader in self._open if not reader.is_over]
        if all(text is None for _, text in texts):
            return None
        return [(index, text) for index, text in texts if text]

    def skip(self) -> None:
        """Read to the end if nothing more comes; for callers that want the completions alone."""
        while self.has_ended() and self.read() is not None:
            pass

    def _raise_error(self) -> None:
        if self.group.error is not None:
            raise self.group.error
