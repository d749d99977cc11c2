"""A home folder made by an earlier version opens as before: its runs, its adapters, what it serves.

`tests/support/old_home.tar.gz` holds a starter run that was finished and promoted, one that was stopped at step 3 of 6,
`served.json`, `adapters/` and `runs.sqlite3`, all made before the code had rooms.
"""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from inference.adapters.live import LiveAdapters
from inference.adapters.record import adapter_digest
from inference.common.settings import STARTER, load_settings
from inference.engine.engine import Engine
from inference.model.request import Request
from tests import ROOT
from training.__main__ import main
from training.runs.folder import RunFolder
from training.runs.snapshot import RunWatch
from training.runs.store import RunStore
from training.starter.problems import load_problems

DONE, STOPPED = "20261129-031719", "20261129-031916"
SERVED = f"{DONE}-7429aa5a"


@pytest.fixture
def old_home(home: Path) -> Path:
    """Unpacked, as the home of this test."""
    with tarfile.open(ROOT / "tests" / "support" / "old_home.tar.gz") as archive:
        archive.extractall(home, filter="data")
    return home


@pytest.fixture(params=["with its database", "without"])
def store(old_home: Path, request: pytest.FixtureRequest) -> RunStore:
    if request.param == "without":
        (old_home / "runs.sqlite3").unlink()
    return RunStore(old_home)


def test_its_runs_are_listed(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    stopped, done = store.list()
    assert (done.id, done.status, done.step, done.asked_by) == (DONE, "succeeded", 2, "the command line")
    assert (stopped.id, stopped.status, stopped.step) == (STOPPED, "interrupted", 3)
    assert "stopped while training, at step 3" in stopped.reason and stopped.run_config.max_steps == 6
    assert main(["runs"]) == 0
    text = capsys.readouterr().out
    assert DONE in text and STOPPED in text and "interrupted" in text
    snapshot = RunWatch(done.folder).look(done)
    assert [step for step, _ in snapshot.curves["reward"]] == [1, 2] and len(snapshot.groups) == 4
    assert store.requeue(STOPPED).status == "queued" and store.queue()[0].id == STOPPED


def test_its_adapters_and_their_evaluation_are_read(old_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads((old_home / "adapters" / SERVED / "evaluation.json").read_text())
    assert report["by_answer_kind"] and report["differences_by_answer_kind"]  # no longer written, still read
    record = LiveAdapters(load_settings()).offer.records[SERVED]
    overall = (report["conditions"][name]["overall"] for name in ("base-thinking", "adapter-thinking"))
    assert [record.base_accuracy, record.test_accuracy] == [each["lenient"]["value"] for each in overall]
    assert main(["adapters"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"served: {SERVED} since 2026-11-29T03:18:28Z, by me, on the command line" in text
    comparison = json.loads((old_home / "adapters" / SERVED / "comparison.json").read_text())
    assert " ".join(comparison["reason"].split()) in text


def test_what_it_serves_completes_as_the_starter_with_that_folder(old_home: Path, engine: Engine) -> None:
    """With an adapter of today's starter in the place of the old one, and its digest in `served.json`."""
    old_digest = adapter_digest(old_home / "adapters" / SERVED)
    for folder in (old_home / "runs" / DONE / "adapter", old_home / "adapters" / SERVED):
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(STARTER / "adapter" / name, folder / name)
    served_json = (old_home / "served.json").read_text()
    assert old_digest in served_json
    (old_home / "served.json").write_text(served_json.replace(old_digest, adapter_digest(folder)))
    adapters = LiveAdapters(load_settings())
    assert adapters.offer.served == SERVED
    problems = load_problems("test", 12, 3)
    pairs = list(zip(problems["image"], problems["problem"]))
    engine.add_adapter("old", old_home / "runs" / DONE / "adapter")
    adapters.start(engine)
    try:
        get_adapter = adapters.hold(SERVED)
        rows = [(p, q, {"max_new_tokens": 60, "temperature": 1.0, "seed": i}) for i, (p, q) in enumerate(pairs)]
        served = [Request(p, q, adapter=SERVED, get_adapter=get_adapter, **options) for p, q, options in rows]
        by_folder = [Request(p, q, adapter="old", **options) for p, q, options in rows]
        plain = [Request(p, q, **options) for p, q, options in rows]
        texts = [[completion.text for completion in engine.generate(each)] for each in (served, by_folder, plain)]
    finally:
        adapters.stop()
        engine.remove_adapter("old")
    assert texts[0] == texts[1] != texts[2]


def test_an_adapter_of_an_earlier_starter_is_named_and_what_the_settings_name_answers(
    old_home: Path, engine: Engine
) -> None:
    """The starter has been trained anew since, with one more layer: the old adapter would make it worse."""
    adapters = LiveAdapters(load_settings())
    adapters.start(engine)
    try:
        offer = adapters.offer
        assert offer.served != SERVED and offer.serving.notice is not None
        assert "changes 4 layers, and this base has 5" in offer.serving.notice
        assert "on an earlier version of this one" in offer.serving.notice
    finally:
        adapters.stop()


@pytest.mark.long
def test_its_interrupted_run_is_not_continued_on_another_starter(
    store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(store.folder / STOPPED)
    before = folder.history(), folder.status()
    assert main(["train", "--resume", str(folder.path)]) == 2
    assert "a run does not go on with other inputs" in capsys.readouterr().err
    assert (folder.history(), folder.status()) == before
