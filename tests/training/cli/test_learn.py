"""`python -m training learn`: the record of a run as its options say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from inference.adapters.versions import store_version
from inference.common.settings import STARTER
from inference.engine.engine import Engine
from inference.model.lora_file import CONFIG_FILE, WEIGHTS_FILE
from training.__main__ import main
from training.config.run_config import load_config
from training.learn.record import Replay, Strengths, read_record
from training.learn.strength import STRENGTHS_FILE
from training.runs.folder import RunFolder


def test_a_starter_run_and_its_promoted_adapter_get_more_rows(
    engine: Engine, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The strengths are asked on as many rows as are asked for, not on as many as the run's evaluation had."""
    folder = RunFolder.create(tmp_path / "run", load_config("starter", {"eval_rows": 2}))
    folder.adapter.mkdir(parents=True)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(STARTER / "adapter" / name, folder.adapter / name)
    (folder.adapter / "evaluation.json").write_text('{"about": {"num_rows": 2}}')
    promoted = store_version(home, folder.adapter, str(STARTER), "alice").folder
    monkeypatch.setattr(Engine, "load", lambda *args, **options: engine)
    assert main(["learn", str(folder.path), "--rows", "2", "--strengths", "5"]) == 0
    for adapter in (folder.adapter, promoted):
        found = read_record(adapter, STRENGTHS_FILE, Strengths)
        assert found is not None and found.num_rows == 5
        replay = read_record(adapter, "replay.json", Replay)
        assert replay is not None and len(replay.rows) == 2


@pytest.mark.parametrize(("options", "words"), [(["--rows", "0"], "--rows is 0"), (["none-such"], "none-such")])
def test_what_cannot_be_is_refused(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn", *options]) != 0
    assert words in capsys.readouterr().err
