"""Rows of many decodes on one set of slots: who waits, who has a slot, and a step for all of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from inference.prompts import Prompt
from inference.routing import fit_together
from inference.slots import Slots

PREFILL_TOKENS = 8_192
"""Prompt tokens, padding included, that are read at once."""
PATIENCE_STEPS = 256
"""Steps in which rows may overtake one whose adapter does not fit beside those that run; then all wait with it."""


@dataclass(eq=False)
class Lane:
    """A row on its way: what the slots have given it so far. Only the pool writes to it."""

    index: int
    prompt: Prompt
    tokens: list[tuple[int, float]] = field(default_factory=list)
    """Each new token, and the seconds from the decode's start until it came."""
    ended: bool = False
    """It came to an end token."""
    stopped: bool = False
    over: bool = False
    """No more tokens come."""

    @property
    def full(self) -> bool:
        """True if it came to its length limit."""
        return len(self.tokens) >= self.prompt.row.max_new_tokens


@dataclass(eq=False)
class Ticket:
    """The rows of one decode."""

    lanes: Sequence[Lane]
    stop: threading.Event | None
    started: float
    given_up: bool = False
    """Nobody waits for them any more."""
    error: Exception | None = None
    """What broke them."""

    @property
    def is_over(self) -> bool:
        """True once no row of it gets more tokens."""
        return all(lane.over for lane in self.lanes)

    @property
    def is_stopped(self) -> bool:
        """True if its rows are to leave."""
        return self.given_up or self.error is not None or (self.stop is not None and self.stop.is_set())


class Pool:
    """First come, first served. Whoever steps holds the engine's lock."""

    def __init__(self, slots: Slots, num_slots: int, ends: frozenset[int], hidden_size: int) -> None:
        """`hidden_size` is the model's: what adapters may run together goes by it."""
        self._slots, self._num_slots, self._ends, self._hidden_size = slots, num_slots, ends, hidden_size
        self._tickets: list[Ticket] = []
        self._waiting: deque[tuple[Ticket, Lane]] = deque()
        self._running: list[tuple[Ticket, Lane]] = []
        """By place in the slots."""
        self._num_overtaken = 0
        """Steps in which the first that waits was overtaken."""

    def add(self, ticket: Ticket) -> None:
        """Its rows wait for slots from now on. For any thread."""
        self._tickets.append(ticket)
        self._waiting.extend((ticket, lane) for lane in ticket.lanes)

    def release(self) -> None:
        """Give back the slots' memory. No row may be in one."""
        assert not self._running, "rows are in the slots"
        self._slots.release()

    def step(self) -> None:
        """Let rows go that are stopped, give each running row a token, and give free slots to those that wait.

        What breaks is kept in the tickets of the rows it broke.
        """
        self.tidy()
        was_running = bool(self._running)
        if was_running:
            try:
                self._take(self._slots.step())
            except Exception as error:  # memory, say: those rows are lost, and the next ones may fit
                self._lose(error)
        while newcomers := self._next():
            self._admit(newcomers)
            if was_running:
                break  # the others go on after as much of reading as that
        self._forget()

    def _admit(self, newcomers: list[tuple[Ticket, Lane]]) -> None:
        place = len(self._running)
        try:
            tokens = self._slots.join([lane.prompt for _, lane in newcomers])
        except Exception as error:  # as above
            self._fail(newcomers, error)
            self.tidy()
            return
        self._running += newcomers
        self._take(tokens, place)

    def _next(self) -> list[tuple[Ticket, Lane]]:
        """Those that wait and can be read now, the first first, but for one whose adapter has to wait."""
        found: list[tuple[Ticket, Lane]] = []
        if not self._waiting or len(self._running) == self._num_slots:
            return found
        adapters = {id(lane.prompt.adapter): lane.prompt.adapter or {} for _, lane in self._running}
        adapters.pop(id(None), None)
        keys: set[tuple] = set()
        longest, overtakes = 0, False
        for pair in self._waiting:
            prompt = pair[1].prompt
            if len(self._running) + len(found) == self._num_slots:
                break
            if prompt.adapter is not None and id(prompt.adapter) not in adapters:
                together = adapters | {id(prompt.adapter): prompt.adapter}
                if not fit_together(together.values(), self._hidden_size):
                    if self._num_overtaken >= PATIENCE_STEPS:
                        break
                    overtakes = True
                    continue
                adapters = together
            longest = max(longest, len(prompt.ids))
            if found and longest * len(keys | {prompt.key}) > PREFILL_TOKENS:
                break
            keys.add(prompt.key)
            found.append(pair)
        self._note_overtaken(found, overtakes)
        return found

    def _note_overtaken(self, found: list[tuple[Ticket, Lane]], overtakes: bool) -> None:
        """Take those found out of the line."""
        if not found:
            return
        if self._waiting[0] is found[0]:
            self._num_overtaken = 0
        elif overtakes:
            self._num_overtaken += 1
        taken = {id(lane) for _, lane in found}
        self._waiting = deque(pair for pair in self._waiting if id(pair[1]) not in taken)

    def _take(self, tokens: Sequence[int], first: int = 0) -> None:
        """Hand out the tokens of the places from `first` on; free the slots of those that are done."""
        clock = time.perf_counter()
        done = set()
        for place, token in enumerate(tokens, start=first):
            ticket, lane = self._running[place]
            lane.tokens.append((token, clock - ticket.started))
            if token in self._ends:
                lane.ended = True
            elif not lane.full:
                continue
            lane.over = True
            done.add(place)
        self._leave(done)

    def tidy(self) -> None:
        """Free what belongs to decodes that are stopped or given up."""
        stopped = [ticket for ticket in self._tickets if ticket.is_stopped]
        for ticket in stopped:
            for lane in ticket.lanes:
                lane.stopped, lane.over = lane.stopped or not lane.over, True
        if stopped:
            self._leave({place for place, (_, lane) in enumerate(self._running) if lane.over})
            self._waiting = deque(pair for pair in self._waiting if not pair[1].over)
        self._forget()

    def _forget(self) -> None:
        """Keep nothing of decodes that are over: their adapters may be large."""
        if any(ticket.is_over for ticket in self._tickets):
            self._tickets = [ticket for ticket in self._tickets if not ticket.is_over]

    def _leave(self, places: set[int]) -> None:
        if not places:
            return
        try:
            self._running = [self._running[place] for place in self._slots.leave(places)]
        except Exception as error:  # as in a step: which row is where is not known any more
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        """Give up the rows that run, and the memory that they stood in."""
        self._fail([(ticket, lane) for ticket, lane in self._running if not lane.over], error)
        self._running = []
        self._slots.release()
        self.tidy()  # their other rows, which wait

    def _fail(self, lanes: Iterable[tuple[Ticket, Lane]], error: Exception) -> None:
        for ticket, lane in lanes:
            ticket.error, lane.over = error, True
