"""Who a visitor is, whatever they say they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.server.visitors import UNKNOWN, is_on_space, pseudonym, visitor_id_of

CASES = [
    # peer, X-Forwarded-For, on a Space, visitor
    ("192.0.2.9", None, False, "192.0.2.9"),
    ("192.0.2.9", "8.8.8.8", False, "192.0.2.9"),
    ("127.0.0.1", "8.8.8.8", False, "127.0.0.1"),
    ("10.1.2.3", None, True, "10.1.2.3"),
    ("10.1.2.3", "8.8.8.8", True, "8.8.8.8"),
    ("10.1.2.3", "1.1.1.1, 8.8.8.8, 10.0.0.1", True, "8.8.8.8"),
    ("10.1.2.3", "1.1.1.1,10.0.0.1,8.8.8.8", True, "8.8.8.8"),
    ("10.1.2.3", "10.9.9.9", True, "10.9.9.9"),
    ("10.1.2.3", "unknown, ,[", True, "10.1.2.3"),
    ("10.1.2.3", "2001:4860:4860:1:2:3:4:5", True, "2001:4860:4860:1::/64"),
    ("2001:4860:4860:1::9", None, False, "2001:4860:4860:1::/64"),
    ("::ffff:192.0.2.9", None, False, "192.0.2.9"),
    ("fe80::1%eth0", None, False, "fe80::/64"),
    (None, None, False, UNKNOWN),
    ("testclient", None, False, UNKNOWN),
]


@pytest.mark.parametrize(("peer", "forwarded", "on_space", "visitor"), CASES)
def test_the_visitor_behind_a_connection(peer: str | None, forwarded: str | None, on_space: bool, visitor: str) -> None:
    assert visitor_id_of(peer, forwarded, on_space) == visitor


@given(st.text(alphabet="0123456789abcdef.:,[]% x", max_size=100))
def test_what_a_caller_puts_in_front_changes_nothing(made_up: str) -> None:
    """The proxy adds to the right of it."""
    assert visitor_id_of("10.0.0.1", f"{made_up},8.8.8.8", on_space=True) == "8.8.8.8"


@given(st.text(max_size=40), st.text(alphabet="0123456789abcdef.:,[]% x", max_size=100))
def test_nothing_breaks_it(peer: str, forwarded: str) -> None:
    assert visitor_id_of(peer, forwarded, on_space=True)


def test_the_log_knows_visitors_apart_and_not_by_address() -> None:
    first, other = pseudonym("8.8.8.8"), pseudonym("8.8.4.4")
    assert first == pseudonym("8.8.8.8") != other and "8.8" not in first


def test_a_space_is_known_by_its_id() -> None:
    assert is_on_space({"SPACE_ID": "a/b"}) and not is_on_space({"SPACE_ID": " "}) and not is_on_space({})
