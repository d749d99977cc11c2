"""`python -m training runs | start | watch | cancel | resume | withdraw`, on what the page would see too."""

import json

import pytest

from training.__main__ import main
from training.launch import spawn as spawning
from training.runs.processes import kill_marked
from training.runs.store import RunStore


@pytest.fixture
def store(home, monkeypatch):
    monkeypatch.setattr(spawning.sys, "executable", "/bin/false")  # trainers that end at once
    store = RunStore(home)
    yield store
    for record in store.list():
        assert kill_marked(record.launch)


def test_the_list_of_a_fresh_home(store, capsys) -> None:
    assert main(["runs"]) == 0
    assert "no runs in" in capsys.readouterr().out and not store.home.exists()


def test_a_run_is_started_watched_to_its_end_and_resumed(store, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rates.json").write_text("{}")
    words = ["start", "--max-steps", "20", "--max-hours", "2", "--promote", "--curriculum", "rates.json"]
    assert main(words) == 0
    (record,) = store.list()
    assert record.status == "starting" and record.promote and record.max_hours == 2
    assert json.loads(record.config)["curriculum"] == str(tmp_path / "rates.json")
    assert f"watch {record.id}" in capsys.readouterr().out
    monkeypatch.setattr("training.cli.runs._LOOK_SECONDS", 0.05)
    assert main(["watch", record.id]) == 1
    said = capsys.readouterr().out
    assert "starting" in said and "died 3 times in a row" in said
    assert main(["resume", record.id, "--max-hours", "3"]) == 0
    assert store.get(record.id).run_config.max_hours == 3
    assert main(["cancel", record.id]) == 0
    assert "cancelled" in capsys.readouterr().out and store.get(record.id).status == "cancelled"


def test_a_second_run_waits_and_is_withdrawn(store, capsys) -> None:
    main(["start"])
    main(["start", "--max-dollars", "3", "--dollars-per-hour", "2"])
    second = store.list()[0]
    assert second.status == "queued" and second.budget_hours == 1.5
    assert main(["withdraw", second.id]) == 0
    capsys.readouterr()
    main(["runs"])
    listed = capsys.readouterr().out
    steps = second.run_config.max_steps
    assert "withdrawn from the queue" in listed and f"cancelled    step 0 of {steps} " in listed and "$0.00" in listed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["watch", "none"], "there is no run 'none'"),
        (["cancel", "none"], "there is no run 'none'"),
        (["resume", "none"], "there is no run 'none'"),
        (["withdraw", "none"], "there is no run 'none'"),
        (["start", "--max-dollars", "3"], "max_dollars needs dollars_per_hour"),
        (["start", "--num-generations", "1"], "num_generations is '1'"),
    ],
)
def test_what_cannot_be_is_said(words: list[str], said: str, store, capsys) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err and store.list() == []
