"""One decode: rows from their prompts to their completions, a step at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from inference.batch import Batch, Prompt
from inference.rows import Completion
from inference.tokens import TextStream

if TYPE_CHECKING:
    from inference.engine import Engine


class _Lane:
    """A row on its way: what it has said so far."""

    def __init__(self, index: int, prompt: Prompt, stream: TextStream) -> None:
        self.index, self.prompt, self.stream = index, prompt, stream
        self.token_ids: list[int] = []
        self.first_token_seconds = self.seconds = 0.0
        self.ended = self.stopped = False

    @property
    def full(self) -> bool:
        return len(self.token_ids) >= self.prompt.row.max_new_tokens

    def take(self, token: int, ends: frozenset[int], now: float) -> str:
        """Add a token that came `now` seconds after the start; returns the text it completes.

        Where a limit or a stop cuts a character in two, its first half is left out: Continue then makes it anew.
        """
        self.first_token_seconds = self.first_token_seconds or now
        self.seconds = now
        self.token_ids.append(token)
        self.ended = token in ends
        return self.stream.close() if self.ended else self.stream.feed(token)

    def completion(self) -> Completion:
        return Completion(
            text=self.prompt.row.prefix + self.stream.text,
            token_ids=tuple(self.token_ids),
            num_tokens=len(self.token_ids),
            seconds=self.seconds,
            first_token_seconds=self.first_token_seconds,
            truncated=self.full and not self.ended,
            stopped=self.stopped,
        )


class Decode:
    """Rows being completed. Iterate it: each step yields the rows' new text as (row index, text).

        decode = engine.stream(rows, stop)
        for updates in decode:
            for index, text in updates: ...
        decode.completions  # one per row, in order; also in between, as far as they have come

    The engine is held for one step at a time: decodes of different threads take turns, and one that is given up
    half-way holds up nobody. A set `stop` ends it before its next step.
    """

    def __init__(self, engine: Engine, prompts: Sequence[Prompt], stop: threading.Event | None, started: float) -> None:
        self._engine, self._stop, self._started = engine, stop, started
        self._lanes = [_Lane(i, prompt, TextStream(engine.tokens)) for i, prompt in enumerate(prompts)]
        rank: dict[int, int] = {}
        for prompt in prompts:
            rank.setdefault(id(prompt.adapter), len(rank))
        self._live = sorted(self._lanes, key=lambda lane: rank[id(lane.prompt.adapter)])
        self._steps = self._run()

    def __iter__(self) -> Iterator[list[tuple[int, str]]]:
        return self._steps

    @property
    def completions(self) -> list[Completion]:
        """One per row, in the order of the rows."""
        return [lane.completion() for lane in self._lanes]

    def _run(self) -> Iterator[list[tuple[int, str]]]:
        batch: Batch | None = None
        while self._live and not self._is_stopped():
            with self._engine.lock, torch.inference_mode():
                if batch is None:
                    batch = self._engine.new_batch([lane.prompt for lane in self._live])
                    tokens = batch.prefill()
                else:
                    tokens = batch.step()
            updates, keep = self._take(tokens)
            if keep and len(keep) < len(tokens):
                with torch.inference_mode():
                    batch.select(keep)
            yield updates

    def _is_stopped(self) -> bool:
        if self._stop is None or not self._stop.is_set():
            return False
        for lane in self._live:
            lane.stopped = True
        return True

    def _take(self, tokens: list[int]) -> tuple[list[tuple[int, str]], list[int]]:
        """Hand each live row its token; returns the new text, and the places in the batch that go on."""
        now = time.perf_counter() - self._started
        ends = self._engine.tokens.vocabulary.ends
        texts = [(lane.index, lane.take(token, ends, now)) for lane, token in zip(self._live, tokens, strict=True)]
        keep = [place for place, lane in enumerate(self._live) if not (lane.ended or lane.full)]
        self._live = [self._live[place] for place in keep]
        return [(index, text) for index, text in texts if text], keep
