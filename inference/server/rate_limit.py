"""Rate limits: an allowance per key that refills with time. Memory is bounded, however many keys come.

    questions = RateLimit(60, seconds=60)
    wait = questions.take("203.0.113.7")
    if wait:
        raise Busy(f"Ask again in {whole_seconds(wait)}.")

Standard library only; thread-safe.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

MAX_KEYS = 4_096
"""Keys remembered at once; the one unused for longest is forgotten first."""


class RateLimit:
    """A token bucket per key: `amount` at once, and `amount` more in each `seconds`."""

    def __init__(
        self, amount: float, seconds: float, max_keys: int = MAX_KEYS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` gives seconds; it must not go back."""
        self.amount, self.seconds = float(amount), float(seconds)
        self._max_keys, self._clock = max_keys, clock
        self._allowances: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By key the allowance left, and when that was."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._allowances)

    def take(self, key: str, cost: float = 1.0) -> float:
        """Spend `cost` and return 0, or spend nothing and return the seconds until there is enough.

        A cost above the whole allowance is taken once the allowance is full, and is paid off later.
        """
        with self._lock:
            allowance, now = self._allowance(key)
            missing = min(cost, self.amount) - allowance
            if missing > 1e-9:
                self._store(key, allowance, now)
                return missing * self.seconds / self.amount
            self._store(key, allowance - cost, now)
            return 0.0

    def owe(self, key: str, cost: float) -> None:
        """Spend `cost` in any case; a debt is paid off before the next `take`."""
        with self._lock:
            allowance, now = self._allowance(key)
            self._store(key, allowance - cost, now)

    def give_back(self, key: str, cost: float = 1.0) -> None:
        """Undo a `take` of that cost."""
        with self._lock:
            allowance, now = self._allowance(key)
            self._store(key, min(self.amount, allowance + cost), now)

    def _allowance(self, key: str) -> tuple[float, float]:
        now = self._clock()
        allowance, then = self._allowances.get(key, (self.amount, now))
        return min(self.amount, allowance + max(0.0, now - then) * self.amount / self.seconds), now

    def _store(self, key: str, allowance: float, now: float) -> None:
        self._allowances[key] = (allowance, now)
        self._allowances.move_to_end(key)
        while len(self._allowances) > self._max_keys:
            self._allowances.popitem(last=False)


def whole_seconds(seconds: float) -> str:
    """A time to wait, in words.

    >>> whole_seconds(0.2), whole_seconds(61)
    ('1 second', '2 minutes')
    """
    count, unit = math.ceil(seconds), "second"
    if count > 60:
        count, unit = math.ceil(seconds / 60), "minute"
    return f"{max(1, count)} {unit}{'s' if count > 1 else ''}"
