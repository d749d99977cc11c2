"""An adapter's system prompt is text of bounded length, and never structure."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.common.errors import UserError
from inference.prompt.format import DIRECT_PROMPT, THINK_PROMPT
from inference.prompt.system_prompt import (
    MAX_CHARS,
    PROMPT_FILE,
    check_system_prompt,
    read_system_prompt,
    write_system_prompt,
)


@pytest.mark.parametrize(
    "text", [THINK_PROMPT, DIRECT_PROMPT, "Erst denken,\ndann antworten. 1 < 2 | 3 > 2", "x" * 4000]
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
