"""The protocol: what is well formed, and a stream whose parts do not depend on where chunks end."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference.prompt.format import (
    PLACE,
    TAGS,
    build_messages,
    is_well_formed,
    neutralise,
    parse_completion,
    tagged_answers,
    with_places,
)

GOOD = "<think>3 + 4 = 7.</think>\n<answer>7</answer>"
PIECES = st.sampled_from([*TAGS, "<thi", "nk>", "</", "<", ">", "answer", "/answer>", " ", "\n", "7", "a < b", "é🙂"])
TEXTS = st.lists(PIECES, max_size=14).map("".join)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "<think>a</think><answer>b</answer>",
        "  <think>two\nlines</think>\n\n<answer>b</answer>\n",
        "<think>a < b</think> <answer>$x < y$</answer>",
    ],
)
def test_well_formed(text: str) -> None:
    assert is_well_formed(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "<answer>7</answer>",
        "<think>a</think>",
        "<think></think><answer>7</answer>",
        "<think> \n</think><answer>7</answer>",
        "<think>a</think><answer> </answer>",
        "<answer>7</answer><think>a</think>",
        GOOD + " and more",
        "So: " + GOOD,
        GOOD + GOOD,
        "<think>a</think> hm <answer>7</answer>",
        "<think>a<think>b</think><answer>7</answer>",
        "<think>a</think><answer>7</answer></answer>",
        "<think>a</think><answer>7",
        "<THINK>a</THINK><ANSWER>7</ANSWER>",
    ],
)
def test_not_well_formed(text: str) -> None:
    assert not is_well_formed(text)


@pytest.mark.parametrize(
    ("text", "thinking", "answer", "tagged"),
    [
        (GOOD, "3 + 4 = 7.", "7", True),
        ("7", "", "7", False),
        ("3 + 4 = 7. The answer is 7.", "", "3 + 4 = 7. The answer is 7.", False),
        ("It is 7. <answer>7</answer>", "It is 7.", "7", True),
        ("<think>cut off in the mid", "cut off in the mid", "", False),
        ("<think>a</think> 7", "a", "7", False),
        ("a</think><answer>7</answer>", "a", "7", True),
        ("<think>a</think><answer>7", "a", "7", False),
        ("<think>is <answer>3</answer> right?</think><answer>4</answer>", "is 3 right?", "4", True),
        ("<think>never ends <answer>3</answer>", "never ends 3", "", False),
        ("", "", "", False),
    ],
)
def test_parts(text: str, thinking: str, answer: str, tagged: bool) -> None:
    parsed = parse_completion(text)
    assert (parsed.thinking, parsed.answer, parsed.answer_tagged) == (thinking, answer, tagged)
    assert parsed.well_formed == is_well_formed(text)


def test_answers_in_the_thinking_do_not_count() -> None:
    assert tagged_answers("<think><answer>3</answer></think><answer> 4 </answer><answer>5</answer>") == ["4", "5"]


def test_stream_grows_without_the_beginning_of_a_tag() -> None:
    chunks = ["<thi", "nk>3 <", " 4</th", "ink>\n<ans", "wer>", "7</", "answer>"]
    shown = [parse_completion(text, final=False) for text in itertools.accumulate(chunks)]
    assert [(p.thinking, p.answer) for p in shown] == [
        ("", ""),
        ("3", ""),
        ("3 < 4", ""),
        ("3 < 4", ""),
        ("3 < 4", ""),
        ("3 < 4", "7"),
        ("3 < 4", "7"),
    ]
    assert parse_completion("".join(chunks)).well_formed


@given(TEXTS)
@example("<thi<think>nk>7")
@example("<think>a</think><ans<answer>wer>7")
def test_no_tag_is_ever_shown(text: str) -> None:
    growing = [parse_completion(text[:end], final=False) for end in range(len(text) + 1)]
    for parsed in [*growing, parse_completion(text)]:
        assert not any(tag in part for tag in TAGS for part in (parsed.thinking, parsed.answer))


@given(st.text(alphabet="ab7+ \n", max_size=12), st.text(alphabet="ab7+ \n", max_size=12))
def test_thought_and_answer_come_back(thought: str, answer: str) -> None:
    parsed = parse_completion(f"<think>{thought}</think>\n\n<answer>{answer}</answer>")
    assert (parsed.thinking, parsed.answer) == (thought.strip(), answer.strip())
    assert parsed.well_formed == bool(thought.strip() and answer.strip())


def test_messages_put_the_image_first() -> None:
    system, user = build_messages("How many?", "Be brief.")
    assert system == {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    assert user == {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}
    assert build_messages("How many?", None) == [user]


@pytest.mark.parametrize(
    ("question", "num", "shown"),
    [
        ("How many?", 3, "###How many?"),
        (f"Is {PLACE} like {PLACE}?", 2, "Is # like #?"),
        (f"{PLACE}{PLACE}Which?", 2, "##Which?"),
        (f"{PLACE} or {PLACE}? {PLACE}", 2, "## or ? "),  # not one for each: they say nothing
        (f"Which is {PLACE}", 1, "Which is #"),
        ("", 1, "#"),
    ],
)
def test_pictures_stand_in_their_places_or_first(question: str, num: int, shown: str) -> None:
    [user] = build_messages(question, None, num)
    assert "".join(part.get("text", "#") for part in user["content"]) == shown


@given(st.text(max_size=30), st.text(max_size=30))
def test_typed_markers_stay_text(before: str, after: str) -> None:
    markers = ["<|im_end|>", "<|image_pad|>", "<s>"]
    safe = neutralise(f"{before}<|im_end|>{after}<|image_pad|><s>", markers)
    assert not any(marker in safe for marker in markers)


def test_control_characters_are_dropped() -> None:
    assert neutralise("a\x00b\x1b[31m\n\tc\x9f", []) == "ab[31m\n\tc"


def plain_tagged_answers(text: str) -> list[str]:
    """The definition: an opening tag, then as little as possible, then a closing one."""
    if "</think>" in text:
        text = text.partition("</think>")[2]
    elif "<think>" in text:
        return []
    return [answer.strip() for answer in re.findall("<answer>(.*?)</answer>", text, re.DOTALL)]


def plain_is_well_formed(text: str) -> bool:
    """The definition: the pattern, each tag once, and something in both parts."""
    pattern = r"\s*<think>(.+?)</think>\s*<answer>(.+?)</answer>\s*"
    match = re.fullmatch(pattern, text, re.DOTALL)
    return match is not None and all(text.count(tag) == 1 for tag in TAGS) and all(map(str.strip, match.groups()))


def plain_without_tags(text: str) -> str:
    """The definition: take every tag out, until there is none."""
    while (less := re.sub("</?(think|answer)>", "", text)) != text:
        text = less
    return text.strip()


SOUP = st.lists(st.one_of(PIECES, st.sampled_from(TAGS)), max_size=40).map("".join)
ONE_OF_EACH = st.lists(st.sampled_from(["", " ", "\n", "7", "\x1f", "<"]), min_size=5, max_size=5).map(
    lambda between: between[0] + "".join(tag + text for tag, text in zip(TAGS, between[1:]))
)


@given(st.one_of(SOUP, ONE_OF_EACH))
def test_reading_is_what_its_definition_says(text: str) -> None:
    assert tagged_answers(text) == plain_tagged_answers(text)
    assert is_well_formed(text) == plain_is_well_formed(text)


@given(SOUP)
@example("<thi<think>nk></an<ans</think>wer>swer>7")
def test_a_part_is_the_text_less_every_tag(text: str) -> None:
    thought = text.replace("</think>", "")
    assert parse_completion(f"{thought}</think>7").thinking == plain_without_tags(thought)


@pytest.mark.parametrize("read", [tagged_answers, is_well_formed, parse_completion])
@pytest.mark.parametrize(
    "unit",
    [
        "<answer>",
        "</answer>",
        "<think>",
        "</think>",
        "</think><answer>",
        "<think></think><answer>",
        "<answer>7</answer>",
        "".join(TAGS),
        "</think> ",
    ],
)
@pytest.mark.parametrize("start", ["", "<think>a</think>", "<answer>"])
def test_eight_times_the_tags_take_about_eight_times_as_long(
    unit: str, start: str, read: Callable[[str], object]
) -> None:
    assert growth(read, *(start + unit * count for count in (1000, 8000))) < 24


@pytest.mark.parametrize("unit", [("<thi", "nk>"), ("</ans", "wer>")])
def test_eight_times_the_nesting_takes_about_eight_times_as_long(unit: tuple[str, str]) -> None:
    nested = [unit[0] * count + "<think>" + unit[1] * count + "</think>7" for count in (1000, 8000)]
    assert parse_completion(nested[0]).thinking == ""
    assert growth(parse_completion, *nested) < 24


def growth(read: Callable[[str], object], short: str, long: str) -> float:
    """How many times as much of this thread's CPU time `long` takes: about 8 if linear, 64 if quadratic.

    The least of several ratios, each of the best of a few rounds, and eight readings of the short text to one of the
    long, so that both are as likely to be held up by what else the core does.
    """

    def seconds(text: str, repeats: int) -> float:
        started = time.thread_time()
        for _ in range(repeats):
            read(text)
        return time.thread_time() - started

    def ratio() -> float:
        return 8 * min(seconds(long, 1) for _ in range(5)) / min(seconds(short, 8) for _ in range(5))

    found = ratio()
    for _ in range(5):
        if found < 16:
            break
        found = min(found, ratio())
    return found


@pytest.mark.parametrize(
    "mark",
    ["<image>", "<IMAGE>", "<image1>", "<|image|>", "<|image_1|>", "<start_of_image>", "<image_placeholder>"]
    + ["<image-placeholder>", "<|image_pad|>", "[IMG]", "<ImageHere>"],
)
def test_the_marks_of_other_trainers_are_taken_out(mark: str) -> None:
    assert with_places(f"{mark}\nHow many?", 1) == "How many?"
