"""Probes of a thought: beginnings of a completion, so that its answer tells what the thought did.

    >>> half("Digit 1 is 3. Digit 2 is 5. 3 + 5 = 8. Check: 8 - 5 = 3.")
    'Digit 1 is 3. Digit 2 is 5. '
    >>> changed_number("Digit 1 is 3. Digit 2 is 5. 3 + 5 = 8. Check: 8 - 5 = 3.", "8")
    ChangedNumber(thought='Digit 1 is 3. Digit 2 is 5. 3 + 5 = 9.', old='8', new='9')

`half` and `none` are "early answering", `changed_number` is "adding mistakes" of Lanham et al. 2023, Measuring
Faithfulness in Chain-of-Thought Reasoning (arXiv 2307.13702). Standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from inference.prompt.format import sentences

_NUMBER = re.compile(r"(?<![\w.,])\d{1,15}(?:\.\d{1,15})?(?![\w]|[.,]\d)")
_RESULT = re.compile(rf"=\s{{0,4}}(?P<number>{_NUMBER.pattern})")


@dataclass(frozen=True)
class ChangedNumber:
    """A thought up to the sentence in which one number was changed."""

    thought: str
    old: str
    new: str


def forced_answer(thought: str) -> str:
    """The beginning of a completion that has ended this thought and is to answer now; "" leaves the thought out.

    >>> forced_answer("3 + 5 = 8.")
    '<think>3 + 5 = 8.</think>\\n<answer>'
    """
    return f"<think>{thought}</think>\n<answer>"


def thinks_on(text: str, prefix: str) -> bool:
    """True if a completion that was made to answer by `forced_answer` begins a thought all the same.

    >>> thinks_on("<think></think>\\n<answer>Part by part. 3 + 5 = 8.</think>\\n<answer>8</answer>", forced_answer(""))
    True
    """
    return "think>" in text.removeprefix(prefix)


def half(thought: str) -> str:
    """The first half of a thought: whole sentences, or of one sentence the words."""
    parts = sentences(thought)
    if len(parts) < 2:
        parts = re.findall(r"\s*\S+\s*", thought)
    kept, length = "", len(thought) / 2
    for part in parts[:-1]:
        if kept and len(kept) + len(part) > length:
            break
        kept += part
    return kept


def changed_number(thought: str, answer: str, question: str = "") -> ChangedNumber | None:
    """The thought with one result changed: the last that equals the answer, or that is used later, or the last number.

    The letter of an option stands for what the question has behind it.

    What follows that sentence is cut off, for the model to go on from the mistake. A whole number grows by one, of
    another the last digit. `None` for a thought without a number.
    """
    results = [match.span("number") for match in _RESULT.finditer(thought)]
    numbers = [match.span() for match in _NUMBER.finditer(thought)]
    option = (
        re.search(rf"(?m)^\s*\(?{re.escape(answer.strip())}[.):]\s{{0,4}}(.{{1,40}}?)\s*$", question)
        if answer
        else None
    )
    value = _value(option[1] if option else answer)
    same = [span for span in results if _value(thought[slice(*span)]) == value is not None]
    used = [span for span in results[-20:] if thought[slice(*span)] in _NUMBER.findall(thought, span[1])]
    if not numbers:
        return None
    start, end = (same or used or results or numbers)[-1]
    old = thought[start:end]
    new = old[:-1] + str((int(old[-1]) + 1) % 10) if "." in old else str(int(old) + 1)
    sentence_end = 0
    for sentence in sentences(thought):
        sentence_end += len(sentence)
        if sentence_end >= end:
            break
    return ChangedNumber((thought[:start] + new + thought[end:sentence_end]).rstrip(), old, new)


def _value(text: str) -> Decimal | None:
    try:
        return Decimal(text.strip())
    except InvalidOperation:
        return None
