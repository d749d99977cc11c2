"""The scheduler: decides which sequences wait and which run in the batch, and makes a step for all that run.

Prompts are read between two steps. While sequences of others run, `PIECE_TOKENS` are read at a time, so that no stream
stops for longer than these take: a longer prompt is read in pieces, and shorter ones have every second turn. All in all
the steps then get as much time as the reading, so that many prompts make a stream at most twice as slow.

A GPU can work on a step while the host handles the tokens of the step before. So a scheduler may run ahead: it begins
each step before it reads the tokens of the last one. A sequence that reaches its length limit leaves in time, since
that is known without its tokens. One that reaches an end token is found out a step late; its extra token is dropped.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from inference.engine.batch import Batch
from inference.engine.plain import PlainBatch, PlainPrefill
from inference.engine.prefill import Prefill
from inference.engine.sequence import PrefixKey, Sequence, SequenceGroup
from inference.model.device import HostCopy
from inference.model.lora_layers import fit_together

MAX_PREFILL_TOKENS = 8_192
"""Prompt tokens, padding included, that go through one forward where nobody else waits for it."""
PIECE_TOKENS = 256
"""Prompt tokens, padding included, that are read between two steps while sequences of others run."""
UNPAID_SECONDS = 0.05
"""Time that reading may be ahead of the steps while sequences of others run."""
MAX_STEPS_BETWEEN = 16
"""Steps after which reading goes on in any case."""
MAX_OVERTAKEN_STEPS = 256
"""Steps in which others may overtake a sequence whose adapter does not fit beside the running ones. Then all wait."""


@dataclass(frozen=True, eq=False)
class PendingStep:
    """A step that was begun, and whose tokens have not been read."""

    sequences: list[Sequence]
    """By row of the batch in that step."""
    tokens: HostCopy

    @property
    def is_needed(self) -> bool:
        """True unless all its sequences are over."""
        return not all(sequence.over for sequence in self.sequences)


class Scheduler:
    """Sequences by priority, among equals first come, first served. Not thread-safe: the engine holds its lock."""

    def __init__(
        self, batch: Batch | PlainBatch, max_num_seqs: int, ends: frozenset[int], hidden_size: int, runs_ahead: bool
    ) -> None:
        """`max_num_seqs` run at once; `ends` are the end tokens. The model's `hidden_size` decides which adapters may
        share a batch."""
        self._batch, self._max_num_seqs, self._ends, self._hidden_size = batch, max_num_seqs, ends, hidden_size
        self.runs_ahead = runs_ahead
        """True if a step begins before the tokens of the last are read; it may change between steps."""
        self._groups: list[SequenceGroup] = []
        self._waiting: deque[Sequence] = deque()
        self._reading: Prefill | PlainPrefill | None = None
        """A long prompt of which pieces have been read; its sequences neither wait nor run."""
        self._is_turn_of_short = False
        """True if a piece of it was read at the last step, so that short prompts go before the next one."""
        self._unpaid_seconds = 0.0
        """Time that reading took while sequences of others ran, less that of the steps since."""
        self._num_steps_since = 0
        """Steps since the last reading."""
        self._running: list[Sequence] = []
        """By row of the batch. Replaced and never changed in place, since pending steps refer to it."""
        self._pending: deque[PendingStep] = deque()
        """Oldest first; at most one between two calls of `step`."""
        self._num_overtaken = 0
        """Steps in which the first waiting sequence was overtaken."""

    @property
    def num_free(self) -> int:
        """Sequences that could be added and would run in the next step; for any thread."""
        return max(0, self._max_num_seqs - len(self._running) - len(self._being_read) - len(self._waiting))

    @property
    def _being_read(self) -> list[Sequence]:
        reading = self._reading
        return [] if reading is None else reading.sequences

    def add(self, group: SequenceGroup) -> None:
        """Let its sequences wait for room in the batch."""
        self._groups.append(group)
        self._waiting = deque(sorted([*self._waiting, *group.sequences], key=lambda sequence: sequence.priority))

    def release(self) -> None:
        """Give back the batch's memory. Nothing may be running."""
        assert not self._running and self._reading is None, "sequences are running"
        self._batch.release()

    def step(self) -> None:
        """Remove stopped sequences, give each running one a token, and let waiting ones take the free rows.

        An error ends the sequences it hit and is kept in their groups.
        """
        self.tidy()
        started, was_running = time.perf_counter(), bool(self._running)
        if was_running:
            self._begin_step()
        self._finish_steps()
        self._num_steps_since += 1
        self._unpaid_seconds = max(0.0, self._unpaid_seconds - (time.perf_counter() - started))
        while self._read_prompts() and not was_running:
            pass
        self._forget()

    def tidy(self) -> None:
        """Remove the sequences of groups that were stopped, failed or given up."""
        stopped = [group for group in self._groups if group.is_stopped]
        for group in stopped:
            for sequence in group.sequences:
                sequence.stopped, sequence.over = sequence.stopped or not sequence.over, True
        if stopped:
            self._remove_finished()
            self._waiting = deque(sequence for sequence in self._waiting if not sequence.over)
            if all(sequence.over for sequence in self._being_read):
                self._reading = None
        self._forget()

    def _begin_step(self) -> None:
        try:
            self._pending.append(PendingStep(self._running, HostCopy(self._batch.step())))
        except Exception as error:  # out of memory, for example: these sequences are lost, the next ones may fit
            self._read_pending(0)  # those that have come to their end by then are not lost
            self._lose_batch(error)

    def _finish_steps(self) -> None:
        """Hand out the tokens of pending steps; running ahead, all but the last step's."""
        self._read_pending(int(self.runs_ahead))
        self._remove_finished(len(self._pending))
        if not self._running:
            self._read_pending(0)

    def _read_pending(self, num_kept: int) -> None:
        while len(self._pending) > num_kept:
            step = self._pending.popleft()
            if not step.is_needed:
                continue
            try:
                tokens = step.tokens.read()
            except Exception as error:  # errors on the device surface here
                self._fail(step.sequences, error)
                self._lose_batch(error)
            else:
                self._append_tokens(step.sequences, tokens)

    def _read_prompts(self) -> bool:
        """Read prompts of waiting sequences, which then join the batch; True if there may be time for more of them.

        All of them are read where no sequence of others runs, as in a batch of rollouts. Else it is one piece.
        """
        is_alone = not self._running or len(self._groups) == 1
        limit = MAX_PREFILL_TOKENS if is_alone else PIECE_TOKENS
        if not is_alone and self._unpaid_seconds > UNPAID_SECONDS and self._num_steps_since < MAX_STEPS_BETWEEN:
            return False
        prefill = self._next_prefill(limit)
        if prefill is None:
            return False
        started = time.perf_counter()
        is_beside = self._reading is not None and prefill is not self._reading
        self._read(prefill, None if is_beside else limit)
        self._num_steps_since = 0
        if not is_alone:
            self._unpaid_seconds += time.perf_counter() - started
        return is_alone

    def _next_prefill(self, limit: int) -> Prefill | PlainPrefill | None:
        """The prompts whose turn it is: the long one that has begun, or others; of longer ones than `limit` one."""
        reading = self._reading
        if reading is not None and not self._is_turn_of_short:
            self._is_turn_of_short = True
            return reading
        self._is_turn_of_short = False
        newcomers = self._take_waiting(limit)
        return self._batch.prefill(newcomers) if newcomers else reading

    def _read(self, prefill: Prefill | PlainPrefill, max_tokens: int | None) -> None:
        """Read on, and let the sequences join. If that fails for several groups together, each group is tried alone."""
        error = self._join(prefill, max_tokens)
        if error is None:
            return
        sequences = set(prefill.sequences)
        by_group = [part for group in self._groups if (part := [s for s in group.sequences if s in sequences])]
        if len(by_group) == 1:
            self._fail(sequences, error)
            self.tidy()
            return
        del error, prefill  # with what the error's frames hold
        for part in by_group:
            self._read(self._batch.prefill(part), None)

    def _join(self, prefill: Prefill | PlainPrefill, max_tokens: int | None) -> Exception | None:
        """Returns the error, if there was one: the prompts of one group must not end another."""
        if self._reading is prefill:
            self._reading = None
        try:
            if not prefill.read(max_tokens):
                self._reading = prefill
                return None
            tokens = self._batch.join(prefill)  # type: ignore[arg-type]  # a batch joins what it made
        except Exception as error:
            return error
        self._running = [*self._running, *prefill.sequences]
        self._append_tokens(prefill.sequences, tokens)
        self._remove_finished()
        return None

    def _take_waiting(self, limit: int) -> list[Sequence]:
        """Take the next sequences that can be read together, in order; one whose adapter does not fit waits.

        One prompt may be longer than `limit` tokens if no other long one is being read.
        """
        taken: list[Sequence] = []
        held = [*self._running, *self._being_read]
        if not self._waiting or len(held) == self._max_num_seqs:
            return taken
        adapters = {id(sequence.adapter): sequence.adapter for sequence in held if sequence.adapter}
        prefixes: set[PrefixKey] = set()
        longest, overtakes = 0, False
        for sequence in self._waiting:
            if len(held) + len(taken) == self._max_num_seqs:
                break
            if self._reading is not None and len(sequence.prompt_ids) > limit:
                continue
            if sequence.adapter is not None and id(sequence.adapter) not in adapters:
                together = adapters | {id(sequence.adapter): sequence.adapter}
                if not fit_together(together.values(), self._hidden_size):
                    if self._num_overtaken >= MAX_OVERTAKEN_STEPS:
                        break
                    overtakes = True
                    continue
                adapters = together
            longest = max(longest, len(sequence.prompt_ids))
            if taken and longest * len(prefixes | {sequence.prefix_key}) > limit:
                break
            prefixes.add(sequence.prefix_key)
            taken.append(sequence)
        if taken:
            if self._waiting[0] is taken[0]:
                self._num_overtaken = 0
            elif overtakes:
                self._num_overtaken += 1
            new = set(taken)
            self._waiting = deque(sequence for sequence in self._waiting if sequence not in new)
        return taken

    def _append_tokens(self, sequences: list[Sequence], tokens: list[int]) -> None:
        """Give each sequence its token, unless it was over before the token came."""
        clock = time.perf_counter()
        for sequence, token in zip(sequences, tokens, strict=True):
            if sequence.over:
                continue
            sequence.tokens.append((token, clock - sequence.started))
            sequence.ended = token in self._ends
            sequence.over = sequence.ended or not sequence.num_left

    def _forget(self) -> None:
        """Drop references to finished groups: their adapters may be large."""
        if any(group.is_over for group in self._groups):
            self._groups = [group for group in self._groups if not group.is_over]
            self._pending = deque(step for step in self._pending if step.is_needed)

    def _remove_finished(self, num_unread: int = 0) -> None:
        """Free the rows of sequences that are over, or will be after `num_unread` tokens that are still pending."""
        sequences = self._running
        rows = {row for row, s in enumerate(sequences) if s.over or s.num_left <= num_unread}
        if not rows:
            return
        try:
            self._running = [sequences[row] for row in self._batch.leave(rows)]
        except Exception as error:  # as in a step: it is not known any more which row is where
            self._running = [sequence for row, sequence in enumerate(sequences) if row not in rows]
            self._lose_batch(error)

    def _lose_batch(self, error: Exception) -> None:
        """Fail all running sequences and give back the batch's memory."""
        self._fail(self._running, error)
        self._running = []
        self._batch.release()
        self.tidy()  # the waiting sequences of their groups

    def _fail(self, sequences: Iterable[Sequence], error: Exception) -> None:
        failed = {sequence for sequence in sequences if not sequence.over}
        for sequence in failed:
            sequence.over = True
        for group in self._groups:
            if not failed.isdisjoint(group.sequences):
                group.error = error
