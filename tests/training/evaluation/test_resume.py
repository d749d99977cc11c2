"""Parts of an evaluation on disk: what was finished is there again, whatever cut the last line short."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.common.errors import UserError
from training.evaluation.conditions import ADAPTER_THINKING, BASE_THINKING
from training.evaluation.resume import KeptCompletion, Parts, others_beside

FINGERPRINT = {"base": "b", "adapter": "a", "rows": "r", "settings": {"seed": 0}}
TEXTS = [
    KeptCompletion("<think>3 + 4 = 7.</think>\n<answer>7</answer>", 12, False),
    KeptCompletion("½ \ud800 \u2028 |", 3, True),
]


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    target = tmp_path / "evaluation.json"
    parts = Parts.beside(target, FINGERPRINT)
    parts.add(BASE_THINKING, 0, 0, TEXTS)
    parts.add(BASE_THINKING, 1, 64, TEXTS[:1])
    parts.close()
    again = Parts.beside(target, FINGERPRINT)
    assert again.path == parts.path and again.path.name.endswith(".parts.jsonl")
    assert again.num_completions == 3
    assert again.get(BASE_THINKING, 0, 0) == TEXTS
    assert again.get(BASE_THINKING, 1, 64) == TEXTS[:1]
    assert again.get(BASE_THINKING, 0, 64) is None and again.get(ADAPTER_THINKING, 0, 0) is None
    again.delete()
    assert list(tmp_path.iterdir()) == []


@given(cut=st.integers(0, 2_000))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_cut_anywhere_goes_on(tmp_path: Path, cut: int) -> None:
    """A kill leaves some beginning of the file: its whole lines count, and what is added then is whole too."""
    target = tmp_path / f"{cut}.json"
    parts = Parts.beside(target, FINGERPRINT)
    for first in range(4):
        parts.add(BASE_THINKING, 0, first, TEXTS)
    parts.close()
    content = parts.path.read_bytes()
    parts.path.write_bytes(content[:cut])
    again = Parts.beside(target, FINGERPRINT)
    whole = content[:cut].count(b"\n")
    assert again.num_completions == 2 * max(0, whole - 1)
    again.add(ADAPTER_THINKING, 0, 0, TEXTS)
    again.close()
    third = Parts.beside(target, FINGERPRINT)
    assert third.num_completions == again.num_completions and third.get(ADAPTER_THINKING, 0, 0) == TEXTS
    third.delete()


def test_another_evaluation_has_another_file(tmp_path: Path) -> None:
    target = tmp_path / "evaluation [1].json"
    one = Parts.beside(target, FINGERPRINT)
    one.add(BASE_THINKING, 0, 0, TEXTS)
    other = Parts.beside(target, FINGERPRINT | {"adapter": "another", "settings": {"seed": 1}})
    assert other.path != one.path and other.num_completions == 0
    assert others_beside(target, other.path) == [f"{one.path.name} (another adapter, another settings)"]
    one.close()
    other.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first = Parts.beside(tmp_path / "evaluation.json", FINGERPRINT)
    with pytest.raises(UserError, match="another process makes this evaluation"):
        Parts.beside(tmp_path / "evaluation.json", FINGERPRINT)
    first.close()
    Parts.beside(tmp_path / "evaluation.json", FINGERPRINT).close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        Parts.beside(tmp_path / "none" / "evaluation.json", FINGERPRINT)
