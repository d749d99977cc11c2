"""Rows of many decodes on one set of slots: who waits, who has a slot, and a step for all of them.

A device apart from the host can work on a step while the host is busy with the tokens of the one before. So a pool may
look ahead: it begins each step before it reads the tokens of the last. A row that comes to its length limit leaves in
time, for that can be told without them; one that came to an end token is found out a step late, and the token that it
got meanwhile is nobody's.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence

from inference.engine.batch import Slots
from inference.engine.tickets import Flight, Lane, Ticket
from inference.model.device import Arrival
from inference.model.lora_layers import fit_together

PREFILL_TOKENS = 8_192
"""Prompt tokens, padding included, that are read at once."""
PATIENCE_STEPS = 256
"""Steps in which rows may overtake one whose adapter does not fit beside those that run; then all wait with it."""


class Pool:
    """First come, first served. Whoever steps holds the engine's lock."""

    def __init__(self, slots: Slots, num_slots: int, ends: frozenset[int], hidden_size: int, looks_ahead: bool) -> None:
        """`hidden_size` is the model's: what adapters may run together goes by it."""
        self._slots, self._num_slots, self._ends, self._hidden_size = slots, num_slots, ends, hidden_size
        self.looks_ahead = looks_ahead
        """See above; it may change between steps."""
        self._tickets: list[Ticket] = []
        self._waiting: deque[tuple[Ticket, Lane]] = deque()
        self._running: list[tuple[Ticket, Lane]] = []
        """By place in the slots; never changed in place, since flights have it too."""
        self._flights: deque[Flight] = deque()
        """Steps that were begun and not read, the first first: at most one between two calls."""
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
            self._begin()
        self._land()
        while newcomers := self._next():
            self._admit(newcomers)
            if was_running:
                break  # the others go on after as much of reading as that
        self._forget()

    def _begin(self) -> None:
        """A step of the rows that run."""
        try:
            self._flights.append(Flight(self._running, Arrival(self._slots.step())))
        except Exception as error:  # memory, say: those rows are lost, and the next ones may fit
            self._read(0)  # but not those that have come to their end by then
            self._lose(error)

    def _land(self) -> None:
        """Hand out the tokens of the steps that were begun, but those of the last one where it goes on meanwhile."""
        self._read(int(self.looks_ahead))
        self._leave(len(self._flights))
        if not self._running:
            self._read(0)

    def _read(self, num_kept: int) -> None:
        while len(self._flights) > num_kept:
            flight = self._flights.popleft()
            if not flight.is_awaited:
                continue
            try:
                tokens = flight.tokens.read()
            except Exception as error:  # what broke on the device comes up here
                self._fail(flight.rows, error)
                self._lose(error)
            else:
                self._take(flight.rows, tokens)

    def _admit(self, newcomers: list[tuple[Ticket, Lane]]) -> None:
        """Read their prompts; where that breaks for several decodes together, those of each apart."""
        error = self._join(newcomers)
        if error is None:
            return
        decodes = list(dict.fromkeys(ticket for ticket, _ in newcomers))
        if len(decodes) == 1:
            self._fail(newcomers, error)
            self.tidy()
            return
        del error  # with what its frames hold
        for decode in decodes:
            self._admit([pair for pair in newcomers if pair[0] is decode])

    def _join(self, newcomers: list[tuple[Ticket, Lane]]) -> Exception | None:
        """Returns what broke, memory, say: the prompts of one decode are no other's trouble."""
        try:
            tokens = self._slots.join([lane.prompt for _, lane in newcomers])
        except Exception as error:
            return error
        self._running = [*self._running, *newcomers]
        self._take(newcomers, tokens)
        self._leave()
        return None

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

    def _take(self, rows: Sequence[tuple[Ticket, Lane]], tokens: Sequence[int]) -> None:
        """Hand out a token to each row, but to those that were over before it came."""
        clock = time.perf_counter()
        for (ticket, lane), token in zip(rows, tokens, strict=True):
            if lane.over:
                continue
            lane.tokens.append((token, clock - ticket.started))
            lane.ended = token in self._ends
            lane.over = lane.ended or not lane.num_left

    def tidy(self) -> None:
        """Free what belongs to decodes that are stopped or given up."""
        stopped = [ticket for ticket in self._tickets if ticket.is_stopped]
        for ticket in stopped:
            for lane in ticket.lanes:
                lane.stopped, lane.over = lane.stopped or not lane.over, True
        if stopped:
            self._leave()
            self._waiting = deque(pair for pair in self._waiting if not pair[1].over)
        self._forget()

    def _forget(self) -> None:
        """Keep nothing of decodes that are over: their adapters may be large."""
        if any(ticket.is_over for ticket in self._tickets):
            self._tickets = [ticket for ticket in self._tickets if not ticket.is_over]
            self._flights = deque(flight for flight in self._flights if flight.is_awaited)

    def _leave(self, num_unread: int = 0) -> None:
        """Free the slots of the rows that are over, or will be by the `num_unread` tokens that each has not read."""
        rows = self._running
        places = {place for place, (_, lane) in enumerate(rows) if lane.over or lane.num_left <= num_unread}
        if not places:
            return
        try:
            self._running = [rows[place] for place in self._slots.leave(places)]
        except Exception as error:  # as in a step: which row is where is not known any more
            self._running = [row for place, row in enumerate(rows) if place not in places]
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        """Give up the rows that run, and the memory that they stood in."""
        self._fail(self._running, error)
        self._running = []
        self._slots.release()
        self.tidy()  # their other rows, which wait

    def _fail(self, lanes: Iterable[tuple[Ticket, Lane]], error: Exception) -> None:
        for ticket, lane in lanes:
            if not lane.over:
                ticket.error, lane.over = error, True
