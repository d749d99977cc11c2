"""The record of what training changed, made with the starter and its shipped checkpoints, and read back."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.adapters.record import LEARN_FOLDER
from inference.common.settings import STARTER
from inference.engine.engine import Engine
from inference.model.lora_file import CONFIG_FILE, WEIGHTS_FILE
from training.config.run_config import load_config
from training.data.dataset import load_rows
from training.evaluation.conditions import ADAPTER_THINKING, BASE_THINKING
from training.evaluation.held_out import load_held_out
from training.evaluation.scoring import evaluate
from training.learn.record import (
    CHANGES,
    MAX_CHECKPOINTS,
    MAX_FILE_BYTES,
    REPLAY,
    ChangedRow,
    Changes,
    Recorder,
    Replay,
    Side,
    Strengths,
    _varied,
    is_recorded,
    kept_checkpoints,
    read_record,
    record_run,
    shipped_checkpoints,
    spread,
)
from training.learn.strength import STRENGTHS_FILE
from training.runs.folder import RunFolder

ROWS = 8


@pytest.fixture(scope="module")
def recorded(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped adapter with its record."""
    adapter = tmp_path_factory.mktemp("recorded") / "adapter"
    adapter.mkdir()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(STARTER / "adapter" / name, adapter / name)
    recorder = Recorder(engine, adapter, load_held_out(None, "test", ROWS).rows, max_new_tokens=120)
    checkpoints = shipped_checkpoints()
    recorder.write_replay(recorder.write_changes(), {step: checkpoints[step] for step in (5, 200)})
    recorder.write_strengths(load_held_out(None, "validation", 4).rows)
    return adapter


def test_the_record_is_that_of_an_evaluation(engine: Engine, recorded: Path) -> None:
    """Greedy, with base and adapter; pictures, golds and grades included."""
    changes = read_record(recorded, CHANGES, Changes)
    assert changes and len(changes.rows) == ROWS
    rows = load_held_out(None, "test", ROWS).rows
    engine.add_adapter("own", STARTER / "adapter")
    outcomes = evaluate(engine, rows, [BASE_THINKING, ADAPTER_THINKING], adapter="own", max_new_tokens=120).outcomes
    for name, sides in (
        (BASE_THINKING.name, [row.base for row in changes.rows]),
        (ADAPTER_THINKING.name, [row.adapter for row in changes.rows]),
    ):
        assert [(s.text, s.right, s.in_format) for s in sides] == [
            (o.text, o.lenient, o.well_formed) for o in outcomes[name]
        ]
    assert [row.problem for row in changes.rows] == rows["problem"] and {row.kind for row in changes.rows} <= set(
        rows["kind"]
    )
    assert all((recorded / LEARN_FOLDER / name).is_file() for row in changes.rows for name in row.pictures)
    assert all(row.gold in solution for row, solution in zip(changes.rows, rows["solution"]))


def test_the_replay_goes_from_the_base_to_the_adapter(recorded: Path) -> None:
    replay, changes = read_record(recorded, REPLAY, Replay), read_record(recorded, CHANGES, Changes)
    assert replay and changes and replay.steps == [0, 5, 200]
    by_problem = {row.pictures[0]: row for row in changes.rows}
    for row in replay.rows:
        assert row.sides[0] == by_problem[row.pictures[0]].base
    ends = [row.sides[-1].text == by_problem[row.pictures[0]].adapter.text for row in replay.rows]
    assert sum(ends) >= len(ends) - 1, "step 200 is the adapter, stored in bf16"


def test_no_strength_is_the_base_and_the_whole_is_the_adapter(engine: Engine, recorded: Path) -> None:
    found = read_record(recorded, STRENGTHS_FILE, Strengths)
    assert found and found.num_rows == 4 and found.strengths[0] == 0 and found.strengths[4] == 1
    rows = load_held_out(None, "validation", 4).rows
    engine.add_adapter("own", STARTER / "adapter")
    report = evaluate(engine, rows, [BASE_THINKING, ADAPTER_THINKING], adapter="own", max_new_tokens=120)
    for at, condition in ((0, BASE_THINKING), (4, ADAPTER_THINKING)):
        assert found.accuracy[at][0] == pytest.approx(report.estimate(condition.name, "lenient").value, abs=1e-3)
    assert found.best in found.strengths[1:]


def test_the_best_strength_is_the_nearest_to_the_whole_among_equals() -> None:
    half, whole = (0.5, 0.4, 0.6), (0.9, 0.8, 1.0)
    found = Strengths(
        strengths=[0.0, 0.5, 0.75, 1.5], accuracy=[whole, half, whole, whole], in_format=[half] * 4, num_rows=9
    )
    assert found.best == 0.75, "the base is no adapter"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"rows": 3}',
        '{"rows": [{"problem": "?"}]}',
        json.dumps({"rows": [], "more": 1}),
        json.dumps({"rows": [], "pad": "x" * MAX_FILE_BYTES}),
        json.dumps({"rows": [{"pictures": [], "problem": 1, "gold": "", "kind": ""}]}),
    ],
)
def test_a_damaged_record_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / LEARN_FOLDER).mkdir()
    (tmp_path / LEARN_FOLDER / CHANGES).write_text(content)
    assert read_record(tmp_path, CHANGES, Changes) is None
    assert read_record(tmp_path, REPLAY, Replay) is None, "there is none"


@given(st.lists(st.integers(1, 10**6), unique=True, max_size=200).map(sorted))
def test_checkpoints_are_spread(steps: list[int]) -> None:
    found = spread(steps)
    assert len(found) == min(len(steps), len(found)) <= MAX_CHECKPOINTS and found == sorted(set(found) & set(steps))
    assert not steps or found[-1] == steps[-1] and found[0] == steps[0]


def test_checkpoints_of_a_run_are_found_in_both_folders(tmp_path: Path) -> None:
    for folder, steps in (("checkpoints", (40, 50)), ("candidates", (10, 40)), ("checkpoints", (60,))):
        for step in steps:
            path = tmp_path / folder / f"checkpoint-{step}"
            path.mkdir(parents=True, exist_ok=True)
            if step != 60:  # of which the weights are gone
                (path / WEIGHTS_FILE).touch()
    assert list(kept_checkpoints(RunFolder(tmp_path))) == [10, 40, 50]


SHARES = [[0.5, 0.4, 0.6], [0.5, 0.4, 0.6]]
ROW = {"pictures": [], "problem": "?", "gold": "1", "kind": "", "sides": []}


@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        (REPLAY, Replay, {"steps": [], "rows": []}),
        (REPLAY, Replay, {"steps": [0, 5], "rows": [ROW]}),
        (REPLAY, Replay, {"steps": [5, 0], "rows": []}),
        (REPLAY, Replay, {"steps": [-5], "rows": []}),
        (STRENGTHS_FILE, Strengths, {"strengths": [], "accuracy": [], "in_format": [], "num_rows": 3}),
        (STRENGTHS_FILE, Strengths, {"strengths": [0], "accuracy": SHARES[:1], "in_format": SHARES[:1], "num_rows": 3}),
        (STRENGTHS_FILE, Strengths, {"strengths": [0, 1], "accuracy": SHARES, "in_format": SHARES, "num_rows": 0}),
        (STRENGTHS_FILE, Strengths, {"strengths": [0, 1], "accuracy": SHARES[:1], "in_format": SHARES, "num_rows": 3}),
        (STRENGTHS_FILE, Strengths, {"strengths": [0, 99], "accuracy": SHARES, "in_format": SHARES, "num_rows": 3}),
        (STRENGTHS_FILE, Strengths, {"strengths": [0, 1], "accuracy": SHARES, "in_format": SHARES, "num_rows": -5}),
        (STRENGTHS_FILE, Strengths, {"strengths": [0, float("nan")], "accuracy": SHARES, "in_format": SHARES}),
        (CHANGES, Changes, {"rows": [ROW | {"problem": "\ud800"}]}),
    ],
)
def test_a_record_that_contradicts_itself_is_none(tmp_path: Path, name: str, kind: type, content: object) -> None:
    (tmp_path / LEARN_FOLDER).mkdir()
    (tmp_path / LEARN_FOLDER / name).write_text(json.dumps(content))
    assert read_record(tmp_path, name, kind) is None


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / LEARN_FOLDER).mkdir()
    os.mkfifo(tmp_path / LEARN_FOLDER / REPLAY)
    assert read_record(tmp_path, REPLAY, Replay) is None


def test_nothing_is_read_through_a_link(tmp_path: Path) -> None:
    """A link could lead to any file of the machine."""
    elsewhere, linked_folder, linked_file = tmp_path / "elsewhere", tmp_path / "one", tmp_path / "other"
    write_json_at(elsewhere / CHANGES)
    linked_folder.mkdir()
    (linked_folder / LEARN_FOLDER).symlink_to(elsewhere)
    (linked_file / LEARN_FOLDER).mkdir(parents=True)
    (linked_file / LEARN_FOLDER / CHANGES).symlink_to(elsewhere / CHANGES)
    assert read_record(linked_folder, CHANGES, Changes) is None is read_record(linked_file, CHANGES, Changes)
    write_json_at(tmp_path / "own" / LEARN_FOLDER / CHANGES)
    assert read_record(tmp_path / "own", CHANGES, Changes) == Changes(rows=[])


def write_json_at(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text('{"rows": []}')


def test_a_run_records_what_its_record_lacks(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill between two parts the first stays; without validation rows the record says that there were none."""
    config = load_config(None, {"eval_rows": 3})
    folder = RunFolder.create(tmp_path / "run", config)
    folder.adapter.mkdir(parents=True)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(STARTER / "adapter" / name, folder.adapter / name)
    monkeypatch.setattr(Engine, "load", lambda *args, **options: engine)
    splits = load_rows(config.data)
    record_run(folder, config, splits)
    assert is_recorded(folder.adapter)
    found = read_record(folder.adapter, STRENGTHS_FILE, Strengths)
    assert found and found.num_rows == 3, "as many as its evaluation has"
    before = (folder.adapter / LEARN_FOLDER / CHANGES).stat().st_mtime_ns
    (folder.adapter / LEARN_FOLDER / STRENGTHS_FILE).unlink()
    assert not is_recorded(folder.adapter)
    monkeypatch.setattr("training.learn.record.validation_rows", lambda *args: None)
    record_run(folder, config, splits)
    found = read_record(folder.adapter, STRENGTHS_FILE, Strengths)
    assert found and found.num_rows == 0 and found.best == 1 and is_recorded(folder.adapter)
    assert (folder.adapter / LEARN_FOLDER / CHANGES).stat().st_mtime_ns == before


def a_row(kind: str, base: bool, adapter: bool) -> ChangedRow:
    one, other = (Side(text="", read="", right=right, in_format=True) for right in (base, adapter))
    return ChangedRow(pictures=[], problem="", gold="", kind=kind, base=one, adapter=other)


def test_the_replayed_rows_are_of_every_kind_and_rather_gained() -> None:
    rows = [a_row("a", False, False)] * 9 + [a_row("b", True, True)] * 9 + [a_row("a", False, True)] * 2
    rows += [a_row("c", True, False)]
    chosen = [rows[i] for i in _varied(rows)]
    kinds = [row.kind for row in chosen]
    assert kinds.count("c") == 1 and {kinds.count("a"), kinds.count("b")} == {2, 3}
    assert sum(row.change == "gained" for row in chosen) == 2 and _varied(rows) == _varied(rows)
    assert _varied(rows[:2]) == [0, 1] and _varied([]) == []


def test_the_shipped_record_is_whole_and_small() -> None:
    adapter = STARTER / "adapter"
    changes, replay = read_record(adapter, CHANGES, Changes), read_record(adapter, REPLAY, Replay)
    strengths = read_record(adapter, STRENGTHS_FILE, Strengths)
    assert changes and replay and strengths and replay.steps == [0, *shipped_checkpoints()]
    assert len(shipped_checkpoints()) <= MAX_CHECKPOINTS
    files = [
        path for folder in (adapter / LEARN_FOLDER, STARTER / "history") for path in folder.rglob("*") if path.is_file()
    ]
    assert sum(path.stat().st_size for path in files) < 8e6
    named = {name for row in changes.rows for name in row.pictures}
    assert named == {path.name for path in (adapter / LEARN_FOLDER).glob("*.jpg")}
