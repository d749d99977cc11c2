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
_IMAGE_MARK = re.compile(
    r"<(?:image|IMAGE|Image|img)(?:[ _:-]?(\d+))?>|<\|image_pad\|>|<\|image(?:_(\d+))?\|>|<start_of_image>"
    r"|<image[_-]placeholder>|<img\s[^<>]*>|<ImageHere>|\[(?:IMG|IMAGE|image|Image)(?:[ _]?(\d+))?\]"
    r"|(?<![\w}])\{\{?image(?:[ _]?(\d+))?\}?\}|!\[[^\]\n]{0,200}\]\([^()\n]+\)"
)
"""A mark by which other trainers say where a picture stands, perhaps with its number."""
_LONG_MARK = re.compile(
    r"<\|vision_start\|>(?:<\|image_pad\|>)*<\|vision_end\|>|<img>(?:(?:<IMG_CONTEXT>)*|\s*[^<>\s]{1,1000}\s*)</img>"
    r"|<image>(?:\./)?</image>"
)
"""A mark with the picture's tokens or its path in it."""
_AROUND_MARKS = re.compile(
    r"<\|vision_(?:start|end)\|>|<\|(?:begin|end)_of_image\|>|<end_of_image>|\[IMG_(?:BREAK|END)\]|</im(?:g|age)>"
)
_PIECE = re.compile(r"[^>]*>|[^>]+")
_STATEMENT = re.compile(
    r"(?:\b(?:so|thus|hence|therefore),?\s{1,4})?(?:\bthe\s{1,4})?(?:\b(?:final|correct)\s{1,4})?"
    r"\banswer\**(?:\s{1,4}is\b|\s{0,4}[:：])\**\s{0,4}[:：]?\s{0,4}\**(?=[^\w\n]{0,8}\w)",
    re.IGNORECASE,
)
_BOX = "\\boxed{"
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])(?![。！？」』”）])\s*(?=\S)|\n\s*")
_LABEL = re.compile(r"\W{0,4}\w{1,2}[.)]\W{0,4}")
"""The letter of an option or the number of an item, which is no sentence."""
_OPERATION = re.compile(r"[\w)}]\s{0,4}[-+*/×÷·−]\s{0,4}[\w({\\]|\\(?:times|div|cdot|d?frac|sqrt)")
_SO = re.compile(r",\s{1,4}(?:so|thus|hence|therefore)\b")
_BEFORE_END = re.compile(rf"\b(?:is|are|was|were)\b|:|{_SO.pattern}")
FEW_WORDS = 3
"""A text of so few words is an answer, with nothing before it."""
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
    question = _short_marks(question.replace(PLACE, ""))
    marks = list(_IMAGE_MARK.finditer(question))
    numbers = [int(number) for mark in marks if (number := _number(mark))]
    in_order = len(marks) == num_pictures and numbers in ([], [*range(num_pictures)], [*range(1, num_pictures + 1)])
    come_first = not marks or not _IMAGE_MARK.sub("", question[: marks[-1].end()]).strip()
    if num_pictures == 1 or come_first:
        return _IMAGE_MARK.sub("", question).strip()
    if in_order:
        return _IMAGE_MARK.sub(PLACE, question).strip()
    return _IMAGE_MARK.sub(lambda mark: f"image {number}" if (number := _number(mark)) else "", question).strip()


def num_marked(question: str) -> int:
    """The number of pictures that a question has marks for; one that is named again counts once.

    >>> num_marked("Is <image 1> like <image 2>, and <image 1> red?"), num_marked("<image><image> Which?")
    (2, 2)
    """
    marks = list(_IMAGE_MARK.finditer(_short_marks(question)))
    return len({_number(mark) or at for at, mark in enumerate(marks)})


def _short_marks(question: str) -> str:
    return _AROUND_MARKS.sub("", _LONG_MARK.sub("<image>", question))


def _number(mark: re.Match[str]) -> str | None:
    return mark[mark.lastindex] if mark.lastindex else None


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


def stated_answer(text: str, has_ended: bool = True) -> tuple[str, str]:
    """Reasoning and answer of a completion without tags: what it states last is the answer, all before it reasoning.

    That is what follows the last "the answer is" or "Answer:", else the last box, else the end of the last sentence,
    for which the text must have ended. Where words around the answer would be lost, the reasoning is the whole text. A
    few words, and one sentence without a calculation or a ", so", are an answer alone.

    >>> stated_answer("Bar A is 3 and bar B is 4. 3 + 4 = 7. The answer is 7.")
    ('Bar A is 3 and bar B is 4. 3 + 4 = 7.', '7')
    >>> stated_answer("3 + 4 = 7."), stated_answer("There are 7 bars.")
    (('3 + 4 = 7.', '7'), ('', 'There are 7 bars.'))
    """
    text = text.strip()
    statements = list(_STATEMENT.finditer(text))
    if statements:
        end = _plain(text[statements[-1].end() :])
        if _calculates(end):
            return text, _plain(end.rpartition("=")[2])
        return text[: statements[-1].start()].rstrip(" \n*_#"), end
    start, box = _last_box(text)
    if box and _reasons(text[:start]):
        return text, box
    if not has_ended:
        return text, ""
    if len(text.split()) <= FEW_WORDS or not _reasons(text):
        return "", _plain(text) if box else text
    *_, last = sentences(text)
    end = _plain(last.rpartition("=")[2] if "=" in last else _BEFORE_END.split(last)[-1])
    if end and ("=" in last or len(end.split()) <= FEW_WORDS):
        return text, end
    return text[: len(text) - len(last)].rstrip(), last.strip()


def _last_box(text: str) -> tuple[int, str]:
    """Place and content of the last `\\boxed{…}`; the content is "" if it is not closed, or if there is none."""
    start = text.rfind(_BOX)
    depth = 0
    for i in range(start + len(_BOX) - 1, len(text) if start >= 0 else 0):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return start, text[start + len(_BOX) : i].strip()
    return start, ""


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text; the label of an item belongs to what follows it."""
    starts = [0, *(match.end() for match in _SENTENCE_END.finditer(text))]
    sentences = [""]
    for start, end in zip(starts, [*starts[1:], len(text)]):
        if _LABEL.fullmatch(sentences[-1].strip()) or not sentences[-1].strip():
            sentences[-1] += text[start:end]
        else:
            sentences.append(text[start:end])
    return sentences


def _reasons(text: str) -> bool:
    """True for more than one sentence, a calculation, and what begins with ", so"."""
    return len(sentences(text)) > 1 or _calculates(text) or bool(_SO.search(text))


def _calculates(text: str) -> bool:
    before, sign, _ = text.rpartition("=")
    return bool(sign and _OPERATION.search(before))


def _plain(text: str) -> str:
    """An answer without emphasis, a final full stop and the box that is all of it."""
    text = text.strip(" \n*_#").removesuffix(".").rstrip(" *_")
    for opening, closing in (("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if text.endswith(closing) and opening not in text.removesuffix(closing):
            text = text.removesuffix(closing).rstrip()
    bare = text.strip("$ ")
    _, box = _last_box(bare)
    return box if box and bare == f"{_BOX}{box}}}" else text


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
