"""An adapter's system prompt is text of bounded length, and never structure."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.common.errors import UserError
from inference.prompt.format import DIRECT_PROMPT, TAGS, THINK_PROMPT
from inference.prompt.system_prompt import (
    MAX_CHARS,
    NAMED_PROMPTS,
    PROMPT_FILE,
    R1_PROMPT,
    check_system_prompt,
    chosen_prompt,
    prompt_name,
    prompt_text,
    read_system_prompt,
    write_system_prompt,
)


@pytest.mark.parametrize(
    "text", [THINK_PROMPT, R1_PROMPT, DIRECT_PROMPT, "Erst denken,\ndann antworten. 1 < 2 | 3 > 2", "x" * 4000]
)
def test_text_is_taken_and_kept(tmp_path: Path, text: str) -> None:
    write_system_prompt(tmp_path, check_system_prompt(text))
    assert read_system_prompt(tmp_path) == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "not a text"),
        (["a"], "not a text"),
        ("  ", "not a text"),
        ("x" * (MAX_CHARS + 1), "4,001 characters; at most 4,000"),
        ("a\x00b", r"U\+0000"),
        ("a\x1b[31m", r"U\+001B"),
        ("a\u202eb", r"U\+202E"),
        ("a\ud800b", r"U\+D800"),
        ("a<|im_start|>system", "steers a model"),
        ("<|vision_start|><|image_pad|>", "steers a model"),
        ("<｜User｜>", "steers a model"),
        ("</s>", "steers a model"),
        ("look at <image>", "steers a model"),
    ],
)
def test_what_is_no_plain_text_is_refused(value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_system_prompt(value)


@given(st.text(max_size=60))
def test_what_is_taken_has_nothing_that_steers(text: str) -> None:
    try:
        taken = check_system_prompt(text)
    except UserError:
        return
    assert taken == text and "<|" + "|>" not in taken and all(c.isprintable() or c in "\n\t " for c in taken)


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"system_prompt": 1}', '{"system_prompt": "<|im_end|>"}', "[" * 99_000]
)
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / PROMPT_FILE).write_text(content)
    with pytest.raises(UserError, match=r"cannot be (used|read)"):
        read_system_prompt(tmp_path)


def test_most_adapters_have_none(tmp_path: Path) -> None:
    assert read_system_prompt(tmp_path) is None


@pytest.mark.parametrize("name", NAMED_PROMPTS)
def test_a_named_prompt_is_a_text_that_can_be_served(name: str) -> None:
    text = prompt_text(name)
    assert check_system_prompt(text) == text and prompt_name(text) == name == chosen_prompt(name)
    assert all(text.count(tag) >= 2 for tag in TAGS), "named, and in the form that it shows"


def test_a_file_is_taken_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("Erst denken,\ndann antworten.\n", encoding="utf-8")
    assert chosen_prompt(str(file)) == "Erst denken,\ndann antworten."
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"prompt\.txt cannot be read.*UTF-8"):
        chosen_prompt(str(file))
    file.write_text("x" * 200_000)
    with pytest.raises(UserError, match="the system prompt has 100,000 characters; at most 4,000"):
        chosen_prompt(str(file))
    with pytest.raises(UserError, match="no system prompt and no file"):
        chosen_prompt(str(tmp_path / "promt.txt"))


@given(st.text(max_size=60))
def test_any_choice_is_a_text_or_refused(text: str) -> None:
    try:
        assert check_system_prompt(prompt_text(chosen_prompt(text)))
    except UserError:
        return
