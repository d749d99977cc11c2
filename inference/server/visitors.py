"""Visitors by the address that a request comes from, as far as it can be trusted, and what each may take.

Off a Space that is the connection's peer. On a Space every connection comes from the Space's proxy, which adds the
client's address to `X-Forwarded-For`; elsewhere anybody can set that header, so it is not read.

`RateLimit` is an allowance per key that refills with time. Its memory is bounded, however many keys come:

    questions = RateLimit(60, seconds=60)
    wait = questions.take("203.0.113.7")
    if wait:
        raise Busy(f"Ask again in {whole_seconds(wait)}.")

Standard library only; thread-safe.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

MAX_KEYS = 4_096
"""Keys remembered at once; the one unused for longest is forgotten first."""
UNKNOWN = "unknown"
"""The id of a visitor without an address; all of them share one allowance."""
OWNER = "owner"
"""The id of whoever may train here, whatever the address."""
current_visitor: ContextVar[str] = ContextVar("current_visitor", default=UNKNOWN)
"""The id of the visitor whose request is being answered."""
_SALT = secrets.token_bytes(16)


@dataclass(frozen=True)
class Visitor:
    """The sender of a question."""

    id: str = ""
    """From `visitor_id_of`; empty for the app itself, which no limit holds."""
    session: str = ""
    """The open page, or the one call, that waits for the answer."""
    asked_at: float = field(default_factory=time.monotonic)
    """The time of the question, by the monotonic clock."""


def is_on_space(env: Mapping[str, str] | None = None) -> bool:
    """True on a Hugging Face Space; `env` is the process's environment unless given."""
    return bool((os.environ if env is None else env).get("SPACE_ID", "").strip())


def is_on_zero_gpu(env: Mapping[str, str] | None = None) -> bool:
    """True in a Space on ZeroGPU, where the package `spaces` must be imported before torch is used."""
    return (os.environ if env is None else env).get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def visitor_id_of(peer: str | None, forwarded_for: str | None, on_space: bool) -> str:
    """The id of the visitor behind a connection from `peer`, given its `X-Forwarded-For` header.

    Each proxy appends the address it was called from, so callers cannot forge the last public address. An IPv6 caller
    owns a /64, so that is the visitor.

    >>> visitor_id_of("10.0.0.7", "198.51.100.1, 8.8.8.8, 10.0.0.3", on_space=True)
    '8.8.8.8'
    >>> visitor_id_of("192.0.2.9", "1.2.3.4", on_space=False)
    '192.0.2.9'
    """
    if not on_space or not forwarded_for:
        return _network(peer) or UNKNOWN
    entries = [entry.strip() for entry in forwarded_for.split(",")][-16:]
    addresses = [address for entry in reversed(entries) if (address := _address(entry))]
    public = next((address for address in addresses if address.is_global), None)
    trusted = public or next(iter(addresses), None)
    return _network(str(trusted)) if trusted else _network(peer) or UNKNOWN


def pseudonym(visitor: str) -> str:
    """A visitor's name in the log: the same for as long as the process runs, and not the address.

    >>> len(pseudonym("192.0.2.9"))
    8
    """
    return hashlib.blake2s(visitor.encode(), key=_SALT, digest_size=4).hexdigest()


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


def _address(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address((text or "").strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(text: str | None) -> str:
    """The address, or the /64 of an IPv6 one; empty if `text` is not an address."""
    address = _address(text)
    if address is None:
        return ""
    return str(address) if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))
