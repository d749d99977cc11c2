"""A question as typed becomes one that can be asked, or a clear error. The page and the endpoints share it."""

from __future__ import annotations

import unicodedata

from inference.common.errors import UserError
from inference.common.settings import DEFAULT_LIMITS, Limits


def clean_question(question: str | None, limits: Limits = DEFAULT_LIMITS) -> str:
    """The question without what cannot be seen or said (control characters, halves of surrogate pairs), stripped.

    Raises `UserError` if there is none or it is too long. Chat markers stay: to the engine they are text.

    >>> clean_question(" How many\\x00? ")
    'How many?'
    """
    if question is not None and not isinstance(question, str):
        raise UserError(f"The question is of type {type(question).__name__}; send text.")
    question = question or ""
    if len(question) > limits.max_question_chars:
        raise UserError(
            f"The question has {len(question):,} characters; at most {limits.max_question_chars:,} are read. "
            "Shorten it."
        )
    kept = "".join(c for c in question if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs")).strip()
    if not any(unicodedata.category(c)[0] in "LMNPS" for c in kept):  # nothing that can be seen
        raise UserError("There is no question. Type one about the picture.")
    return kept
