"""Any step of a run's rollouts: found in a file that grows, is written anew by a resume, or was edited by hand."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.runs.rollout_file import MAX_GROUPS, RolloutFile


def line(step: object, prompt: str = "How many?", **values: object) -> str:
    return json.dumps({"step": step, "prompt": prompt, "completions": [{"text": "4"}]} | values) + "\n"


def test_each_step_is_found_while_the_file_grows_and_after_a_resume(tmp_path: Path) -> None:
    path, rollouts = tmp_path / "rollouts.jsonl", RolloutFile(tmp_path)
    assert rollouts.steps() == [] and rollouts.groups(1) == []
    path.write_text(line(1, "a") + line(1, "b") + line(2, "c"))
    assert rollouts.steps() == [1, 2]
    with path.open("a") as file:
        file.write(line(3, "d")[:-5])
    assert rollouts.steps() == [1, 2], "a line that is not whole yet"
    path.write_text(line(1, "a") + line(1, "b") + line(2, "c") + line(3, "d"))
    assert rollouts.steps() == [1, 2, 3]
    assert [group["prompt"] for group in rollouts.groups(1)] == ["a", "b"] and len(rollouts.groups(3)) == 1
    path.write_text(line(1, "again"))
    assert rollouts.steps() == [1] and rollouts.groups(1)[0]["prompt"] == "again" and rollouts.groups(2) == []


@pytest.mark.parametrize("broken", ["{", "[]", '{"step": "1"}', '{"step": 1}', "\x00", '{"step": -1, "prompt": 3}'])
def test_what_is_no_group_is_left_out(tmp_path: Path, broken: str) -> None:
    (tmp_path / "rollouts.jsonl").write_text(line(1, "a") + broken + "\n" + line(1, "b") + line(2, "c"))
    rollouts = RolloutFile(tmp_path)
    assert {1, 2} <= set(rollouts.steps()) and "a" in [group["prompt"] for group in rollouts.groups(1)]
    assert [group["prompt"] for group in rollouts.groups(2)] == ["c"]


def test_no_file_outside_the_runs_pictures_is_read_and_the_groups_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "ab.jpg").write_bytes(b"jpeg")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "images" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    names = ["ab.jpg", "../secret.jpg", "link.jpg", "gone.jpg", 3]
    text = line(1, image=names[0], more_images=names[1:]) + line(2) * (MAX_GROUPS + 5)
    (tmp_path / "rollouts.jsonl").write_text(text)
    rollouts = RolloutFile(tmp_path)
    assert rollouts.groups(1)[0]["images"] == [tmp_path / "images" / "ab.jpg", None, None, None, None]
    assert len(rollouts.groups(2)) == MAX_GROUPS


@given(st.lists(st.integers(0, 9), max_size=30), st.lists(st.integers(1, 60), max_size=5))
def test_reading_in_pieces_finds_what_reading_at_once_finds(tmp_path_factory, steps, cuts) -> None:
    folder = tmp_path_factory.mktemp("rollouts")
    whole, path = "".join(line(step) for step in sorted(steps)), folder / "rollouts.jsonl"
    in_pieces = RolloutFile(folder)
    for cut in sorted(cuts):
        path.write_text(whole[: cut * 40])
        in_pieces.steps()
    path.write_text(whole)
    assert in_pieces.steps() == RolloutFile(folder).steps() == sorted(set(steps))
    assert all(len(in_pieces.groups(step)) == steps.count(step) for step in set(steps))
