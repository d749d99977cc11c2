"""Who a visitor is: the address that a request comes from, as far as it can be believed.

Off a Space that is the peer of the connection. On a Space every connection comes from the Space's proxy, which writes
down in `X-Forwarded-For` whom it speaks for; elsewhere that header is whatever the caller likes, and is not read.
Standard library only.
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
"""The visitor of a request without an address; all of them share one allowance."""
_SALT = secrets.token_bytes(16)


@dataclass(frozen=True)
class Asker:
    """Who asked a question."""

    visitor: str = ""
    """As `visitor_of` names them; empty for the app itself, which no limit holds."""
    session: str = ""
    """The open page, or the one call, that waits for the answer."""
    since: float = field(default_factory=time.monotonic)
    """When it was asked, on the monotonic clock."""


def is_on_space(env: Mapping[str, str] | None = None) -> bool:
    """True on a Hugging Face Space; `env` is the process's environment unless given."""
    return bool((os.environ if env is None else env).get("SPACE_ID", "").strip())


def visitor_of(peer: str | None, forwarded_for: str | None, on_space: bool) -> str:
    """The visitor behind a connection from `peer`, given its `X-Forwarded-For` header.

    Each proxy adds to the right whom it heard from, so the last public address is the first that no caller can have
    made up. An IPv6 caller owns a /64, so that is the visitor.

    >>> visitor_of("10.0.0.7", "198.51.100.1, 8.8.8.8, 10.0.0.3", on_space=True)
    '8.8.8.8'
    >>> visitor_of("192.0.2.9", "1.2.3.4", on_space=False)
    '192.0.2.9'
    """
    if not on_space or not forwarded_for:
        return _network(peer) or UNKNOWN
    entries = [entry.strip() for entry in forwarded_for.split(",")][-16:]
    addresses = [address for entry in reversed(entries) if (address := _address(entry))]
    public = next((address for address in addresses if address.is_global), None)
    found = public or next(iter(addresses), None)
    return _network(str(found)) if found else _network(peer) or UNKNOWN


def pseudonym(visitor: str) -> str:
    """What the log calls a visitor: the same for as long as the process runs, and no address.

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
    """The address, or the /64 of an IPv6 one; empty if it is none."""
    address = _address(text)
    if address is None:
        return ""
    return str(address) if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))
