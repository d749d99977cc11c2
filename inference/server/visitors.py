"""Visitors by the address that a request comes from, as far as it can be trusted.

Off a Space that is the connection's peer. On a Space every connection comes from the Space's proxy, which adds the
client's address to `X-Forwarded-For`; elsewhere anybody can set that header, so it is not read. Standard library only.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

UNKNOWN = "unknown"
"""The id of a visitor without an address; all of them share one allowance."""
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
