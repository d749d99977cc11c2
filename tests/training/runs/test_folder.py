"""The run folder: created, locked, rewound after a kill, its checkpoints signed last."""

import json
import multiprocessing
import time

import pytest

from inference.common.errors import UserError
from inference.common.files import append_line, read_lines, write_whole
from training.config.run_config import RunConfig, load_config
from training.runs.folder import MARKER, RunFolder, is_complete, step_of


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", RunConfig())


def checkpoint(folder: RunFolder, step: int, keep: int = 9, signed: bool = True):
    path = folder.checkpoints / f"checkpoint-{step}"
    path.mkdir()
    (path / "optimizer.pt").write_bytes(b"x" * 100)
    if signed:
        folder.mark_complete(path, keep)
    return path


def test_a_new_folder_keeps_its_configuration(folder) -> None:
    assert RunFolder.open(folder.path)[1] == RunConfig()


def test_a_folder_that_holds_something_is_left_alone(folder, tmp_path) -> None:
    with pytest.raises(UserError, match="resume it with --resume"):
        RunFolder.create(folder.path, RunConfig())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="name another one"):
        RunFolder.create(tmp_path / "other", RunConfig())
    with pytest.raises(UserError, match="is a file"):
        RunFolder.create(tmp_path / "other" / "mine.txt", RunConfig())
    assert (tmp_path / "other" / "mine.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_said(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made .Not a directory.; name another one"):
        RunFolder.create(tmp_path / "file" / "run", RunConfig())


def test_another_configuration_is_refused_with_what_differs(folder) -> None:
    with pytest.raises(UserError) as caught:
        RunFolder.open(folder.path, load_config(None, {"learning_rate": 1e-4, "data": {"seed": 3}}))
    assert "learning_rate: 0.001, not 0.0001" in str(caught.value)
    assert "data.seed: 42, not 3" in str(caught.value)


@pytest.mark.parametrize(("name", "text"), [("none", None), ("config.json", "{"), ("config.json", '{"profile": 1}')])
def test_what_is_not_a_run_is_said(name: str, text: str | None, tmp_path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match="config.json"):
        RunFolder.open(tmp_path)


def test_only_complete_checkpoints_count(folder) -> None:
    assert folder.newest_checkpoint() is None
    first = checkpoint(folder, 5)
    checkpoint(folder, 10, signed=False)
    assert folder.newest_checkpoint() == first
    shorter = checkpoint(folder, 15)
    (shorter / "optimizer.pt").write_bytes(b"x" * 50)  # cut short on the disk after it was signed
    assert not is_complete(shorter)
    assert folder.newest_checkpoint() == first
    assert folder.newest_checkpoint() is not None and step_of(first) == 5


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 3}', '{"files": {"absent": 1}}'])
def test_a_broken_signature_counts_for_nothing(text: str, folder) -> None:
    path = checkpoint(folder, 5)
    (path / MARKER).write_text(text)
    assert not is_complete(path)


def test_old_checkpoints_go_when_a_new_one_is_signed(folder) -> None:
    for step in (5, 10, 15, 20):
        checkpoint(folder, step, keep=2)
    assert sorted(map(step_of, folder.checkpoints.iterdir())) == [15, 20]


def test_rewinding_drops_what_came_after_the_checkpoint(folder) -> None:
    for step in range(1, 9):
        append_line(folder.metrics, {"step": step})
        append_line(folder.rollouts, {"step": step, "prompt": "é", "completions": []})
    with folder.metrics.open("a") as file:
        file.write('{"step": 9, "rew')  # the kill came here
    checkpoint(folder, 8, signed=False)
    folder.rewind(5)
    assert [row["step"] for row in folder.history()] == [1, 2, 3, 4, 5]
    assert [row["step"] for row in read_lines(folder.rollouts)] == [1, 2, 3, 4, 5]
    assert not list(folder.checkpoints.iterdir())
    append_line(folder.metrics, {"step": 6})
    assert len(folder.history()) == 6


def test_a_half_written_line_is_not_read(folder) -> None:
    append_line(folder.metrics, {"step": 1})
    with folder.metrics.open("a") as file:
        file.write('{"step": 2}')  # whole, but its end of line is missing
    assert [row["step"] for row in folder.history()] == [1]


def test_status_and_versions_are_kept(folder) -> None:
    folder.set_status("failed", "the disk is full", 7)
    assert (folder.status()["status"], folder.status()["step"]) == ("failed", 7)
    folder.add_versions({"gpu": None})
    folder.add_versions({"gpu": "one"})
    starts = json.loads((folder.path / "versions.json").read_text())
    assert len(starts) == 2 and starts[1]["gpu"] == "one" and starts[0]["trl"]


def _hold(folder: RunFolder, ready) -> None:
    with folder.locked():
        ready.set()
        time.sleep(600)


def test_a_second_trainer_is_refused_until_the_first_is_dead(folder) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=_hold, args=(folder, ready))
    other.start()
    assert ready.wait(120)
    with pytest.raises(UserError, match="another process is training"), folder.locked():
        pass
    other.kill()
    other.join()
    with folder.locked():
        pass


def test_a_file_is_written_whole_or_not_at_all(tmp_path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")
    assert path.read_text() == "old"
