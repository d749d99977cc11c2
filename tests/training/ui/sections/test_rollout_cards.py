"""Rollouts as HTML: what a file holds is taken by its type, escaped and cut; pictures are small JPEGs or left out."""

import base64
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.ui.base.html import picture_uri
from training.ui.sections.rollout_cards import (
    FILTERS,
    MAX_COMPLETIONS,
    MAX_GROUPS,
    NO_ROLLOUTS,
    NONE_PASSES,
    rollouts_html,
)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("<script>"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
COMPLETION = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("text", "rewards", "reasons", "advantage", "num_tokens", "truncated"), ANYTHING)
)
GROUP = st.fixed_dictionaries(
    {"completions": st.lists(COMPLETION | ANYTHING, max_size=3)},
    optional=dict.fromkeys(("step", "prompt", "image"), ANYTHING),
)


def completion(advantage=1.0, **values):
    rewards = {"format_reward": 1.0, "accuracy_reward": 0.0}
    reasons = {"format": "well formed", "accuracy": "no answer in tags"}
    return {"text": "4", "rewards": rewards, "reasons": reasons, "advantage": advantage, "num_tokens": 3} | values


@given(st.lists(GROUP | ANYTHING, max_size=4))
def test_whatever_a_file_holds_is_shown_or_left_out(groups):
    assert "<script>" not in rollouts_html(groups)


def test_a_completion_shows_its_rewards_reasons_and_advantage():
    cut = completion(-0.5, truncated=True, rewards={"accuracy_reward": None}, reasons={})
    html = rollouts_html([{"step": 3, "prompt": "How many?", "image": None, "completions": [cut, completion(1.25)]}])
    assert "+1.25" in html and "−0.50" in html and html.index("+1.25") < html.index("−0.50")
    assert "format <b>1</b> <span>well formed</span>" in html and "accuracy <b>none</b>" in html
    assert "3 tokens · cut off" in html and "0 of 1 correct, 1 of 1 in the format" in html


def test_what_is_learnt_from_comes_first_and_every_problem_and_answer_has_an_address():
    flat = {"step": 2, "prompt": "flat", "completions": [completion(0.0), completion(0.0)]}
    groups = [flat]
    groups += [
        {
            "step": 2,
            "prompt": "mixed",
            "completions": [completion(0.7, text=f"<answer>{i}</answer>") for i in range(MAX_COMPLETIONS + 2)],
        }
    ]
    html = rollouts_html(groups, address="#/run/2")
    prompts = re.findall(r'lt-group-prompt">(\w+)<', html)
    assert prompts == ["mixed", "flat"]
    assert html.count(" open>") == 1 and "and 2 more" in html and "there is nothing to learn" in html
    many = rollouts_html(groups * 6, address="#/run/2")
    assert many.count("<details") == MAX_GROUPS and "4 more:" in many
    assert {f'href="#/run/2/{n}"' for n in range(1, 13)} <= set(re.findall(r'href="[^"]*"', many))
    named = rollouts_html(groups, "Cut off", "#/run/2", first=1)
    assert re.findall(r'lt-group-prompt">(\w+)<', named) == ["flat"] and 'href="#/run/2/1/1"' in named
    assert rollouts_html([]) == NO_ROLLOUTS


def test_equal_completions_are_one_with_their_number_and_the_expected_answer_stands_beside_what_was_read():
    same, other = completion(0.5, answer="4"), completion(-0.5, text="5", answer="5")
    group = {"step": 1, "prompt": "How many?", "completions": [same, other, same, same]}
    html = rollouts_html([group | {"solution": "<b>$4$</b>", "gold": "4", "row": "train-3"}])
    assert html.count('class="lt-rollout"') == 2 and "3 times · 3 tokens" in html
    assert "read as <b>4</b>" in html and "read as <b>5</b>" in html and "<b>$4$" not in html
    assert "Expected answer</dt><dd>&lt;b&gt;$4$" in html and "The grader reads it as</dt><dd>4<" in html
    assert "Row</dt><dd>train-3" in html
    assert "Expected answer</dt><dd>4<" in rollouts_html([group | {"gold": "4"}]), "a file of an earlier version"
    assert "lt-expected" not in rollouts_html([group])


def test_problems_are_filtered():
    right, wrong = {"accuracy_reward": 1.0}, {"accuracy_reward": 0.0, "format_reward": 1.0}
    groups = {
        "learnt": [completion(0.7, rewards=right), completion(-0.7, rewards=wrong)],
        "hopeless": [completion(0.0, rewards=wrong), completion(0.0, rewards=wrong, truncated=True)],
        "easy": [completion(0.0, rewards=right)],
    }
    lines = [{"step": 1, "prompt": name, "completions": found} for name, found in groups.items()]
    shown = {only: set(re.findall(r'lt-group-prompt">(\w+)<', rollouts_html(lines, only))) for only in FILTERS}
    assert shown == {
        "All": set(groups),
        "With a signal": {"learnt"},
        "All wrong": {"hopeless"},
        "Cut off": {"hopeless"},
    }
    assert (
        rollouts_html(lines[2:], "Cut off") == NONE_PASSES and rollouts_html(lines, "<script>").count("<details") == 3
    )


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 cut", b"GIF89a", b"<svg onload='x()'/>"])
def test_what_is_no_picture_is_not_shown(tmp_path, content):
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    assert picture_uri(path) is None and picture_uri(tmp_path / "none.jpg") is None


def test_a_picture_is_made_small(tmp_path):
    path = tmp_path / "picture.jpg"
    Image.new("RGB", (1600, 800), "white").save(path)
    uri = picture_uri(path)
    assert uri is not None and uri.startswith("data:image/jpeg;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size == (320, 160)
