"""The protocol between prompt and completion: system prompts, messages, tags, and their parser.

    >>> parse_completion("<think>3 + 4 = 7.</think>\\n<answer>7</answer>").answer
    '7'

One parser serves the stream, the reward and the evaluation. Standard library only. Parsing takes linear time, whatever
the text contains: a model can be led to write nothing but tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

THINK_PROMPT = (
    "A picture and a question are given. First reason about what the picture shows, then answer. "
    "Put the reasoning inside <think> </think> and only the final answer inside <answer> </answer>: "
    "<think>reasoning</think> <answer>answer</answer>"
)
"""The system prompt that asks for reasoning first, in the DeepSeek-R1 form."""

DIRECT_PROMPT = "A picture and a question are given. Give only the answer."
"""The system prompt of the "answers directly" baseline."""

PLACE = "\ufffc"
"""Unicode's object replacement character: stands in a question where one of its pictures does."""

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_TAG = re.compile("|".join(map(re.escape, TAGS)))
_WELL_FORMED = re.compile(r"\s*<think>(?P<think>.+?)</think>\s*<answer>(?P<answer>.+?)</answer>\s*", re.DOTALL)
_IMAGE_MARK = re.compile(r"<image(?:[ _]?(\d+))?>|<\|image_pad\|>|<img>|\[IMG\]|<ImageHere>")
"""A mark by which other trainers say where a picture stands, perhaps with its number."""
_AROUND_MARKS = re.compile(r"<\|vision_(?:start|end)\|>|</img>")
_PIECE = re.compile(r"[^>]*>|[^>]+")
_WORD_JOINER = "\u2060"


def build_messages(question: str, system_prompt: str | None = THINK_PROMPT, num_pictures: int = 1) -> list[dict]:
    """Pictures and one question as chat messages; `None` leaves the system message out.

    The pictures stand before the text in their order, unless the question has a `PLACE` for each of them.

    >>> [part["type"] for part in build_messages(f"Is {PLACE} like {PLACE}?", None, 2)[0]["content"]]
    ['text', 'image', 'text', 'image', 'text']
    """
    texts = question.split(PLACE)
    if len(texts) != num_pictures + 1:
        texts = [""] * num_pictures + ["".join(texts)]
    content: list[dict] = []
    for number, text in enumerate(texts):
        content += [{"type": "image"}] * (number > 0) + [{"type": "text", "text": text}] * bool(text)
    user = {"role": "user", "content": content}
    if system_prompt is None:
        return [user]
    return [{"role": "system", "content": [{"type": "text", "text": system_prompt}]}, user]


def with_places(question: str, num_pictures: int) -> str:
    """The question with a `PLACE` for each of several pictures where its marks are one for each, in their order.

    Where marks stand before the text, and where there are others than pictures, the pictures come first: marks go, and
    numbered ones within the text are written as words.

    >>> with_places("<image>\\n<image> Which is higher?", 2)
    'Which is higher?'
    >>> with_places("Is <image 2> higher than <image 1>?", 2)
    'Is image 2 higher than image 1?'
    """
    question = _AROUND_MARKS.sub("", question.replace(PLACE, ""))
    marks = list(_IMAGE_MARK.finditer(question))
    numbers = [int(mark[1]) for mark in marks if mark[1]]
    in_order = len(marks) == num_pictures and numbers in ([], [*range(num_pictures)], [*range(1, num_pictures + 1)])
    come_first = not marks or not _IMAGE_MARK.sub("", question[: marks[-1].end()]).strip()
    if num_pictures == 1 or come_first:
        return _IMAGE_MARK.sub("", question).strip()
    if in_order:
        return _IMAGE_MARK.sub(PLACE, question).strip()
    return _IMAGE_MARK.sub(lambda mark: f"image {mark[1]}" if mark[1] else "", question).strip()


def neutralise(text: str, markers: Iterable[str]) -> str:
    """`text` with every chat marker broken by an invisible word joiner, so that it stays text to the tokenizer.

    `markers` are the tokenizer's special tokens (`<|im_end|>`, `<|image_pad|>`, …). Training and serving both pass
    typed text through here, for every model family. Control characters are dropped, except newline and tab.

    >>> neutralise("a<|im_end|>b", ["<|im_end|>"]) == "a<\\u2060|im_end|>b"
    True
    """
    text = "".join(c for c in text if c in "\n\t" or not (ord(c) < 32 or 127 <= ord(c) < 160))
    for marker in sorted(filter(None, markers), key=len, reverse=True):
        text = text.replace(marker, marker[0] + _WORD_JOINER + marker[1:])
    return text


@dataclass(frozen=True)
class ParsedCompletion:
    """A completion's two parts without tags, and whether it kept the protocol."""

    thinking: str
    answer: str
    well_formed: bool
    """True if the whole text is one `<think>…</think>` and one `<answer>…</answer>`, both with content."""
    answer_tagged: bool
    """True if the answer stands between `<answer>` and `</answer>`."""


def is_well_formed(text: str) -> bool:
    """True if `text` is exactly one thought and one answer, each tag once, in order, both non-empty."""
    if any(text.count(tag) != 1 for tag in TAGS):  # first, so that the pattern has one place to try for each tag
        return False
    match = _WELL_FORMED.fullmatch(text)
    return match is not None and bool(match["think"].strip() and match["answer"].strip())


def tagged_answers(text: str) -> list[str]:
    """Every closed `<answer>…</answer>` outside the thinking, stripped, in order; none if the thought never ends."""
    _, rest = _split_thought(text)
    answers = []
    for closed in rest.split("</answer>")[:-1]:
        _, tag, answer = closed.partition("<answer>")
        if tag:
            answers.append(answer.strip())
    return answers


def parse_completion(text: str, final: bool = True) -> ParsedCompletion:
    """Parse a completion, whole or (with `final=False`) as far as it has come.

    Missing tags are tolerated: text before `</think>` or before `<answer>` is thinking, text with no tags at all is the
    answer. While the text still grows, an end that could become a tag is held back.
    """
    shown = text if final else _without_partial_tag(text)
    thinking, answer = _split(shown)
    return ParsedCompletion(thinking, answer, is_well_formed(text), bool(tagged_answers(text)))


def _split_thought(text: str) -> tuple[str, str]:
    """Thinking and the rest: a thought ends at the first `</think>`, or at `<answer>` if it has no tags."""
    if "</think>" in text:
        thinking, _, rest = text.partition("</think>")
        return thinking, rest
    if "<think>" in text:
        return text, ""
    before, tag, after = text.partition("<answer>")
    return (before, tag + after) if tag else ("", text)


def _split(text: str) -> tuple[str, str]:
    thinking, rest = _split_thought(text)
    if "<answer>" in rest:
        rest = rest.rpartition("<answer>")[2].partition("</answer>")[0]
    return _without_tags(thinking), _without_tags(rest)


def _without_tags(text: str) -> str:
    """`text` without tags, also without those that removing another tag would join (`<thi<think>nk>`)."""
    if not _TAG.search(text):
        return text.strip()
    plain: list[str] = []  # characters with no tag in them; only adding a ">" can complete one
    for piece in _PIECE.findall(text):
        plain += piece
        tag = next((tag for tag in TAGS if "".join(plain[-len(tag) :]) == tag), "")
        del plain[len(plain) - len(tag) :]
    return "".join(plain).strip()


def _without_partial_tag(text: str) -> str:
    """`text` without an end that is the beginning of a tag."""
    start = text.rfind("<")
    if start >= 0 and any(tag.startswith(text[start:]) and tag != text[start:] for tag in TAGS):
        return text[:start]
    return text
