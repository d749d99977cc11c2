"""Foreign text is safe inside HTML."""

from hypothesis import given
from hypothesis import strategies as st

from inference.common.html import escape


@given(st.text(), st.integers(1, 50))
def test_foreign_text_is_escaped_and_cut(text, most):
    safe = escape(text, most)
    assert not set(safe) & set("<>\"'\x00\x1b\u202e") and len(safe) <= 6 * most + 1
