"""Damage to a run's files costs what was damaged, and the run goes on from the rest."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from inference.common.files import append_line, read_lines
from tests.support.run_folders import add_checkpoint, begun_run
from training.cli.runs import line
from training.evaluation.plots import draw_rewards
from training.hub.publish.queue import publish_words, result_step
from training.pipeline.pinned_inputs import check_sources
from training.pipeline.terminal import chart
from training.runs.diagnosis import diagnose
from training.runs.folder import MARKER, RunFolder, is_complete
from training.runs.outcome import grace_seconds, judge, progress, seconds_after
from training.runs.recovery import record_of
from training.runs.snapshot import RunWatch
from training.runs.store import RunStore

DEEP = b"[" * 100_000
ODD_ROWS = [
    DEEP + b"\n",
    b'{"step": ' + DEEP + b"\n",
    b"\xff\xfe\x00\n",
    b"{\n",
    b"[1]\n",
    b"null\n",
    b'{"reward": 1}\n',
    *(b'{"step": %s, "reward": 0.5}\n' % text for text in (b'"3"', b"null", b"[]", b"true", b"-1", b"2.5", b"NaN")),
    *(b'{"step": %s}\n' % text for text in (b"1e999", b"1" + b"0" * 400, b'"\\ud800"')),
    b'{"step": 2, "reward": "x", "step_time": "x", "epoch": [], "rewards/format_reward/mean": "y"}\n',
    b'{"step": 2, "reward": 1' + b"0" * 400 + b', "rewards/format_reward/mean": NaN, "grad_norm": Infinity}\n',
]


@pytest.fixture
def folder(home: Path) -> RunFolder:
    """A run with checkpoints at steps 2 and 4, among the runs of a home."""
    begun = begun_run(home / "runs" / "mine")
    for step in (2, 4):
        add_checkpoint(begun, step, rewards=True)
    for step in range(1, 5):
        append_line(begun.rollouts, {"step": step, "prompt": "é", "completions": [{"text": "a"}]})
    return begun


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "optimizer.pt"])
@pytest.mark.parametrize("kind", ["zeroed", "one bit"])
def test_a_checkpoint_of_other_bytes_falls_back_to_the_one_before(name: str, kind: str, folder: RunFolder) -> None:
    newest = folder.newest_checkpoint()
    assert newest is not None and newest.name == "checkpoint-4" and folder.leave_out_damaged() == ""
    content = bytearray((newest / name).read_bytes())
    content[-1] ^= 1
    (newest / name).write_bytes(content if kind == "one bit" else bytes(len(content)))
    assert is_complete(newest), "its sizes are right"
    said = folder.leave_out_damaged()
    assert said.startswith(f"checkpoint-4 is damaged ({name}); the run goes on from checkpoint-2; check the disk")
    before = folder.newest_checkpoint()
    assert before is not None and before.name == "checkpoint-2"
    folder.rewind(2)
    assert not newest.exists() and [row["step"] for row in folder.history()] == [1, 2]


def test_where_every_checkpoint_is_damaged_the_run_begins_anew(folder: RunFolder) -> None:
    for checkpoint in folder.checkpoints.iterdir():
        (checkpoint / "optimizer.pt").write_bytes(b"only herE")
    assert "the run goes on from its beginning" in folder.leave_out_damaged()
    assert folder.newest_checkpoint() is None


def test_a_checkpoint_of_an_earlier_version_counts_by_its_sizes(folder: RunFolder) -> None:
    newest = folder.newest_checkpoint()
    assert newest is not None
    mark = json.loads((newest / MARKER).read_text())
    del mark["sha256"]
    (newest / MARKER).write_text(json.dumps(mark))
    assert folder.leave_out_damaged() == "" and folder.newest_checkpoint() == newest


@pytest.mark.parametrize("digests", [b"3", b'{"absent": "x"}', b'{"a\\u0000b": "x"}', b'{"optimizer.pt": 3}', b"[]"])
def test_a_mark_with_other_digests_is_damage(digests: bytes, folder: RunFolder) -> None:
    newest = folder.newest_checkpoint()
    assert newest is not None
    mark = json.loads((newest / MARKER).read_text()) | {"sha256": json.loads(digests)}
    (newest / MARKER).write_text(json.dumps(mark))
    assert "checkpoint-4 is damaged" in folder.leave_out_damaged()


@pytest.mark.parametrize("odd", ODD_ROWS, ids=range(len(ODD_ROWS)))
def test_an_odd_row_costs_itself(odd: bytes, folder: RunFolder, tmp_path: Path) -> None:
    for path in (folder.metrics, folder.rollouts):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([lines[0], odd, *lines[1:]]))
    read_everything(folder)
    chart(folder.history(), 4)
    draw_rewards(folder.history(), tmp_path / "rewards.png")
    assert {row["step"] for row in folder.history()} >= {1, 2, 3, 4}
    folder.rewind(3)
    assert (
        {1, 2, 3} == {row["step"] for row in folder.history()} == {row["step"] for row in read_lines(folder.rollouts)}
    )


def read_everything(folder: RunFolder) -> None:
    """What the page, the command line and the launcher read of a run."""
    record = record_of(folder.path)
    assert record is not None
    watch = RunWatch(folder.path)
    for seen in (record, None):
        watch.look(seen)
    diagnose(folder.history(), list(read_lines(folder.rollouts)))
    progress(record), judge(record), grace_seconds(folder.path), seconds_after(folder.path, 1.0), line(record)
    publish_words(folder.path), result_step(folder)


BROKEN = (b"", b"{", DEEP, b"\xff\xfe", b"[]", b"3", b'"x"', b"null", b'{"status": [], "step": "x", "pid": {}}')
RECORDS = (
    "status.json",
    "versions.json",
    "hours.json",
    "estimate.json",
    "dropped.json",
    "process.json",
    "exit.json",
    "validation.json",
)


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
@pytest.mark.parametrize("name", [*RECORDS, "publish/record.json", "config.json", "request.json"])
def test_a_broken_file_costs_itself(name: str, content: bytes, home: Path) -> None:
    """Also the configuration: the request of a run in the background has a copy of it."""
    store = RunStore(home)
    config = begun_run(home / "other").open(home / "other")[1]
    record = store.submit(config, "me")
    folder = RunFolder(record.folder)
    add_checkpoint(folder, 2)
    (folder.path / "publish").mkdir()
    (folder.path / name).write_bytes(content)
    read_everything(folder)
    assert RunFolder.open(folder.path)[1] == config
    folder.change(config)
    folder.add_versions({"num_gpus": 0})
    assert folder.starts()[-1]["num_gpus"] == 0
    folder.set_status("running", "training", 2)
    assert folder.status()["reason"] == "training"
    if name == "config.json":
        assert json.loads((folder.path / name).read_bytes())["max_steps"] == 4, "it is whole again"
    for each in home.glob("runs.sqlite3*"):
        each.unlink()
    assert [found.id for found in RunStore(home).list()] == [record.id]


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_digests_of_inputs_that_cannot_be_read_are_made_anew(content: bytes, folder: RunFolder, caplog) -> None:
    from training.data.dataset import load_rows

    config = RunFolder.open(folder.path)[1]
    data = config.data.model_copy(update={"train_rows": 8, "test_rows": 4})
    config = config.model_copy(update={"data": data, "eval_rows": 0})
    splits = load_rows(data)
    check_sources(config, folder, splits)
    kept = json.loads((folder.path / "sources.json").read_text())
    (folder.path / "sources.json").write_bytes(content)
    check_sources(config, folder, splits)
    if content[:1] != b"{" or content == b"{":
        assert json.loads((folder.path / "sources.json").read_text()) == kept and "is damaged" in caplog.text


@pytest.mark.parametrize("cell", ["metrics", "starter", "job"])
@pytest.mark.parametrize("content", ["{", "[" * 50_000, "[]", ""])
def test_a_cell_of_the_database_costs_itself(cell: str, content: str, folder: RunFolder, home: Path) -> None:
    store = RunStore(home)
    assert [record.id for record in store.list()] == ["mine"]
    with store._database.transaction() as connection:
        connection.execute(f"UPDATE runs SET {cell} = ?", (content,))
    assert [record.id for record in store.list()] == ["mine"] and getattr(store.get("mine"), cell) == {}


def test_the_name_of_a_file_that_is_no_text_costs_nothing(folder: RunFolder) -> None:
    for place in (folder.path, folder.checkpoints, folder.path / "checkpoints" / "checkpoint-4"):
        Path(os.fsdecode(os.fsencode(place) + b"/n\xff")).write_bytes(b"x")
    read_everything(folder)
    assert folder.leave_out_damaged() == ""
    folder.rewind(4)
    assert SimpleNamespace(**folder.status()).status == "running"


def test_what_is_no_checkpoint_among_them_ends_no_run(folder: RunFolder, tmp_path: Path) -> None:
    """A file, links, a number that is none, and a complete checkpoint on another disk, which stays."""
    elsewhere = tmp_path / "elsewhere"
    (folder.checkpoints / "checkpoint-4").rename(elsewhere)
    (folder.checkpoints / "checkpoint-4").symlink_to(elsewhere)
    (folder.checkpoints / "checkpoint-5").write_text("x")
    (folder.checkpoints / "checkpoint-6").symlink_to(tmp_path)
    (folder.checkpoints / "checkpoint-7").symlink_to("nowhere")
    odd = folder.checkpoints / "checkpoint-\u00b2"
    odd.mkdir()
    (odd / "complete.json").write_text('{"files": {}}')
    newest = folder.newest_checkpoint()
    assert newest is not None and newest.name == "checkpoint-4" and folder.leave_out_damaged() == ""
    folder.rewind(4)
    left = {path.name for path in folder.checkpoints.iterdir()}
    assert left == {"checkpoint-2", "checkpoint-4", odd.name} and tmp_path.is_dir() and elsewhere.is_dir()


def test_a_folder_in_the_place_of_a_file_of_lines_is_none(folder: RunFolder) -> None:
    folder.metrics.unlink(missing_ok=True)
    folder.metrics.mkdir()
    assert folder.history() == []
