r"""Finds a thought that ends at another answer than the one given.

    >>> contradiction("3 + 5 = 8. 8 + 5 = 13. Check: 13 - 5 = 8.", "14")
    'The thought ends at 13, the answer is 14.'
    >>> contradiction("The answer is 0.5.", "1/2"), contradiction("I see 14 bars. 6 + 7 = 13.", "14")
    ('', '')

Few are found rather than one too many: the thought has to end in a plain conclusion ("the answer is X", "That is choice
B", `\boxed{X}`, the result of a calculation, after which at most a check comes), the grader has to find it unequal to
the answer, and the answer may stand nowhere else in the thought. Numbers, choices, yes and no, and words that the
problem offers are compared; anything else is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from inference.prompt.format import sentences
from training.grading.cleaning import MAX_ANSWER_CHARS, boxed, clean
from training.grading.comparison import TRUTHS
from training.grading.grader import grade_answer, options_of
from training.grading.parsing import bare, choice_letter, parse
from training.grading.quantities import NO_UNIT, Quantity, is_number_word, read_number

_MAX_CHARS = 20_000
"""A longer thought is not read."""
_MAX_SHOWN_CHARS = 60
_CHECK = re.compile(
    r"\W*(?:(?:to|let(?:'s| us| me)|we|now|quick)\s+)?(?:double[- ]?)?(?:check|verif|proof|confirm)", re.I
)
_DOUBT = re.compile(
    r"\b(?:if|wait|but|actually|hmm|however|instead|not|wrong|incorrect|would|could|might|may|maybe|perhaps|suppose|"
    r"assum\w+|guess\w*|says?|said|claims?|thinks?|either|or|unless|whether|about|approximately|approx|roughly|around|"
    r"nearly|almost|between|least|most|than|likely|probably|let)\b|n't\b|[?≈~]|\\approx|\\sim",
    re.IGNORECASE,
)
"""What keeps a sentence from being a plain conclusion, or takes back the one before."""
_SAYS = re.compile(
    r"\banswer\**(?:\s+(?:is|must be|should be)\b|\s*[:：])\**\s*[:：]?\s*(?P<text>.+)", re.I | re.DOTALL
)
_CHOOSES = re.compile(
    r"(?:\b(?:[Tt]hat|[Tt]his|[Ii]t)\s+(?:is|matches)\s+|\b(?:choose|pick|select)\s+)(?:the\s+)?"
    r"(?:(?:choice|option|answer)\s+)?\(?(?P<text>[A-H])\)?\W*$|\b(?:choice|option)\s+\(?(?P<named>[A-H])\)?\W*$"
)
_LEADS = re.compile(
    r"\W*(?:so|thus|hence|therefore|in short|at a glance|in total|altogether)\b\s*[:,]?\s*(?:.*\b(?:is|are|equals)\b)?"
    r"\s*(?P<text>[^\s:].*)",
    re.IGNORECASE | re.DOTALL,
)
_OPERATION = re.compile(r"[\w)}]\s{0,4}[-+*/×÷·−]\s{0,4}[\w({\\]|\\(?:times|div|cdot|d?frac|sqrt)")
_DIGITS = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?|\.\d+")
_FRACTION = re.compile(r"(\d{1,9})\s*(?:/|of)\s*(\d{1,9})|frac\s*\{(\d{1,9})\}\s*\{(\d{1,9})\}")
_FACTORS = {Fraction(n) for n in (7, 10, 12, 24, 60, 100, 1000, 3600)}
"""Between units that people change to without a word."""


@dataclass(frozen=True)
class _Number:
    """A number as it is written: its size, and half of its last place."""

    value: Fraction
    rounding: Fraction

    def may_be(self, other: _Number) -> bool:
        """True if the two are the same, if this is a rounding of the other, or one the other in percent."""
        near = self.rounding if self.rounding > other.rounding else 0
        is_percent = other.value in (100 * self.value, self.value / 100)
        return is_percent or abs(self.value - other.value) <= near


def contradiction(thought: str, answer: str, problem: str = "") -> str:
    """A sentence that names the thought's conclusion and the answer, where they contradict each other; else "".

    `thought` and `answer` are without tags; `problem` has the options of a choice.
    """
    answer = answer.strip()
    if len(thought) > _MAX_CHARS or not 0 < len(answer) <= MAX_ANSWER_CHARS or _ends_with(thought, answer):
        return ""
    conclusion, is_explicit = _conclusion(thought)
    if not 0 < len(conclusion) <= MAX_ANSWER_CHARS:
        return ""
    if not _are_different(conclusion, answer, thought, problem, is_explicit):
        return ""
    return f"The thought ends at {_shown(conclusion)}, the answer is {_shown(answer)}."


def _conclusion(thought: str) -> tuple[str, bool]:
    """The plain conclusion that the thought ends at, or "", and whether words or a box say that it is one."""
    for sentence in reversed(sentences(thought.strip())):
        if not sentence.strip() or _CHECK.match(sentence):
            continue
        if _DOUBT.search(sentence):
            break
        if (box := boxed(sentence)) is not None:
            return (_plain(box), True) if thought.count("\\boxed{") == 1 else ("", True)
        if said := _SAYS.search(sentence):
            return _plain(said["text"].rpartition("=")[2]), True
        if chosen := _CHOOSES.search(sentence):
            return chosen["text"] or chosen["named"], True
        before, sign, result = sentence.rpartition("=")
        if sign:
            return (_plain(result), False) if _OPERATION.search(before) else ("", False)
        if led := _LEADS.match(sentence):
            return _plain(led["text"]), False
        if _DIGITS.search(sentence) or len(sentence.split()) > 12:
            break
    return "", False


def _are_different(conclusion: str, answer: str, thought: str, problem: str, is_explicit: bool) -> bool:
    options = options_of(problem)
    chosen, given = _letter(conclusion), _letter(answer)
    if chosen and given:
        if chosen == given or not is_explicit:
            return False
        texts = options.get(chosen), options.get(given)
        if None in texts:
            return not re.search(rf"\b{given}\b", thought)
        return not grade_answer(str(texts[0]), str(texts[1])).correct
    if given and re.search(rf"(?:choice|option|answer(?: is|:)?)\s*\(?{given}\b|\({given}\)", thought):
        return False
    one = options.get(chosen, "") if chosen else conclusion
    other = options.get(given, "") if given else answer
    if not one or not other or _equal(conclusion, answer, problem) or _equal(one, other, ""):
        return False
    numbers = _quantity(one), _quantity(other)
    if numbers[0] and numbers[1]:
        return not _may_stand(numbers[0], numbers[1], one, other, thought)
    truths = TRUTHS.get(clean(one).lower()), TRUTHS.get(clean(other).lower())
    if None not in truths:
        return truths[0] != truths[1] and not _says(thought, clean(other))
    return is_explicit and _is_offered(one, problem) and _is_offered(other, problem) and not _says(thought, other)


def _may_stand(stated: Quantity, given: Quantity, one: str, other: str, thought: str) -> bool:
    """True if the number that is given stands in the thought, or is the stated one in another unit."""
    ratio = abs(given.value / stated.value) if stated.value and given.value else Fraction(1)
    if NO_UNIT in (stated.unit, given.unit) and stated.unit != given.unit and {ratio, 1 / ratio} & _FACTORS:
        return True
    end, target = _Number(abs(stated.value), _rounding(one)), _Number(abs(given.value), _rounding(other))
    return end.may_be(target) or any(target.may_be(value) for value in (end, *_numbers(thought)))


def _numbers(text: str) -> Iterator[_Number]:
    """The numbers in a text: in digits, as fractions and in words."""
    for match in _DIGITS.finditer(text):
        for digits in {match[0].replace(",", ""), *match[0].split(",")}:
            yield _Number(Fraction(digits[:40]), _rounding(digits))
    for match in _FRACTION.finditer(text):
        top, bottom = (int(number) for number in match.groups() if number)
        if bottom:
            yield _Number(Fraction(top, bottom), Fraction(0))
    for word in set(re.findall(r"[a-z]+(?:-[a-z]+)?", text.lower())):
        if is_number_word(word.partition("-")[0]) and (number := read_number(word)):
            yield _Number(number.value, Fraction(0))


def _rounding(written: str) -> Fraction:
    """Half of the last place that a number is written with; hundreds and more of a large round one."""
    match = _DIGITS.search(written)
    if match is None or "/" in written or "frac" in written:
        return Fraction(0)
    whole, point, decimals = match[0].replace(",", "").partition(".")
    zeros = len(whole) - len(whole.rstrip("0")) if not point and len(whole) > 3 else 0
    return Fraction(10) ** (zeros - min(len(decimals), 40)) / 2


def _quantity(text: str) -> Quantity | None:
    found = parse(bare(clean(text.rpartition("=")[2] or text)))
    return found if isinstance(found, Quantity) else None


def _letter(text: str) -> str:
    """The capital letter of a choice that a text is; "" if it is none."""
    letter = choice_letter(clean(text))
    return letter if letter and letter <= "J" and re.match(rf"\W*(?:\w{{2,}}\W+)*{letter}\b", clean(text)) else ""


def _equal(one: str, other: str, problem: str) -> bool:
    return grade_answer(one, other, problem).correct or grade_answer(other, one, problem).correct


def _is_offered(text: str, problem: str) -> bool:
    """True for one word that the problem has too."""
    word = re.sub(r"^(?:the|an?)\s+", "", clean(text).lower())
    return bool(re.fullmatch(r"[a-z]{2,20}", word)) and _says(problem, word)


def _says(text: str, words: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(words.strip())}(?!\w)", text, re.IGNORECASE))


def _ends_with(thought: str, answer: str) -> bool:
    thought, answer = thought.strip(" \n\t.*"), answer.strip(" \n\t.*")
    start = thought[: len(thought) - len(answer)]
    return (
        thought.endswith(answer)
        and not (start[-1:].isalnum() and answer[:1].isalnum())
        and start[-1:] not in ("-", ".")
    )


def _plain(text: str) -> str:
    return text.strip(" \n\t*_$").removesuffix(".").strip(" *_$")


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[: _MAX_SHOWN_CHARS - 1]}…"
