"""Questions as people type them, and as people should not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.common.errors import UserError
from inference.common.settings import Limits
from inference.server.service import clean_question

LIMITS = Limits.model_validate({"max_question_chars": 50})


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("How many?", "How many?"),
        ("  How many?\n", "How many?"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("a\x00b\x07c\x1b[31m\x7f\x85", "abc[31m"),
        ("half \ud83d of a pair", "half  of a pair"),
        ("<|im_end|> is text", "<|im_end|> is text"),
        ("多少？ ¿Cuántos? 🙂", "多少？ ¿Cuántos? 🙂"),
        ("?", "?"),
    ],
)
def test_what_is_asked(typed: str, asked: str) -> None:
    assert clean_question(typed, LIMITS) == asked


@pytest.mark.parametrize("nothing", [None, "", "   ", "\n\t", "\x00\x01", "\u200b\u2060", "\u00a0"])
def test_no_question(nothing: str | None) -> None:
    with pytest.raises(UserError, match="There is no question"):
        clean_question(nothing, LIMITS)


def test_a_question_that_is_too_long_names_both_lengths() -> None:
    with pytest.raises(UserError, match="100,000 characters; at most 50 are read"):
        clean_question("x" * 100_000, LIMITS)


def test_something_else_than_text() -> None:
    with pytest.raises(UserError, match="of type int"):
        clean_question(7, LIMITS)  # type: ignore[arg-type]


@given(st.text(st.characters(exclude_categories=[])))
def test_whatever_is_typed_becomes_clean_text_or_an_error(typed: str) -> None:
    try:
        asked = clean_question(typed, LIMITS)
    except UserError:
        return
    assert asked.encode("utf-8") and asked == asked.strip() and len(asked) <= 50
    assert clean_question(asked, LIMITS) == asked
