"""What a pool knows of a decode: its rows on their way, who waits for them, and the steps that give them tokens."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from inference.engine.prefill import Prompt
from inference.model.device import Arrival


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
    def num_left(self) -> int:
        """Tokens that it may still get."""
        return self.prompt.row.max_new_tokens - len(self.tokens)


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


@dataclass(frozen=True, eq=False)
class Flight:
    """The tokens of a step that nobody has read."""

    rows: Sequence[tuple[Ticket, Lane]]
    """By place in the step."""
    tokens: Arrival

    @property
    def is_awaited(self) -> bool:
        """True unless all its tokens are nobody's."""
        return not all(lane.over for _, lane in self.rows)
