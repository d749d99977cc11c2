"""Checks and cleans a typed question, for the page and the endpoints."""

from __future__ import annotations

import unicodedata

from inference.common.errors import UserError
from inference.common.settings import DEFAULT_LIMITS, Limits


def clean_question(question: str | None, limits: Limits = DEFAULT_LIMITS) -> str:
    """The question without control characters and lone surrogates, stripped.

    Raises `UserError` if it is empty or too long. Chat markers stay; the engine breaks them.

    >>> clean_question(" How many\\x00? ")
    'How many?'
    """
    if question is not None and not isinstance(question, str):
        raise UserError(f"The question is of type {type(question).__name__}; send text.")
    question = question or ""
    if len(question) > limits.max_question_chars:
        most = limits.max_question_chars
        raise UserError(f"The question has {len(question):,} characters; at most {most:,} are read. Shorten it.")
    cleaned = "".join(c for c in question if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs")).strip()
    if not any(unicodedata.category(c)[0] in "LMNPS" for c in cleaned):  # nothing visible
        raise UserError("There is no question. Type one about the picture.")
    return cleaned
