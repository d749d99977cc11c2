"""A run whose adapter is promoted at its end asks what broke; where an app runs, that does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from inference.adapters.record import LEARN_FOLDER
from inference.adapters.served import promote, serving
from inference.common.files import exclusive
from inference.common.settings import STARTER, load_settings
from tests.support.samples import perturbed_adapter, problems
from training.config.run_config import load_config
from training.learn.asking import LOCK
from training.learn.promoted import Promoted
from training.learn.record import REPLAY
from training.pipeline.run import run
from training.runs.folder import RunFolder


@pytest.mark.slow
@pytest.mark.parametrize("app_runs", [False, True])
def test_a_run_that_is_promoted_asks_what_broke(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], app_runs: bool
) -> None:
    monkeypatch.setenv("LOOKTHINK_BASE", "starter")
    promoted = Promoted(load_settings())
    for problem in problems(2, seed=3):
        promoted.questions.add(problem.image, problem.problem, problem.answer)
    worse = promote(home, perturbed_adapter(tmp_path / "worse", strength=0.5), "me").name
    promoted.keep_without_asking(promoted.pending()[0])
    config = load_config("starter", {"eval_rows": 16, "data": {"train_rows": 4, "test_rows": 2}})
    folder = RunFolder.create(home / "runs" / "night", config)
    shutil.copytree(STARTER / "adapter", folder.adapter, dirs_exist_ok=True)
    (folder.adapter / LEARN_FOLDER).mkdir(exist_ok=True)
    (folder.adapter / LEARN_FOLDER / REPLAY).touch()
    (folder.path / "request.json").write_text(json.dumps({"promote": True, "asked_by": "alice"}))
    folder.set_status("running", "comparing it with the served adapter", 4)
    if app_runs:
        with exclusive(home / LOCK):
            run(config, folder.path, resume=True)
    else:
        run(config, folder.path, resume=True)
    name = str(serving(load_settings()).name)
    said, results = capsys.readouterr().out, promoted.results()
    assert name.startswith("night-") and folder.status()["status"] == "succeeded"
    if app_runs:
        assert f"the card of {name} shows them" in said and promoted.pending() and name not in results
    else:
        assert f"0 of 2 broke, 1 mended, against {worse}; {name} has 1 of 2 right" in said
        assert not promoted.pending()
        assert results[name].count("mended") == 1 and "Against the base. Outside the reward" in said
