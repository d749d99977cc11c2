"""The checkpoint that does best on the validation rows becomes the run's adapter."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.common.errors import UserError
from inference.common.settings import STARTER
from inference.model.lora_file import WEIGHTS_FILE
from training.config.run_config import load_config
from training.evaluation.checkpoint_choice import (
    candidates,
    choose_checkpoint,
    drop_candidates,
    keep_candidate,
    take_adapter,
)
from training.runs.folder import RunFolder, step_of
from training.starter.problems import load_problems

CONFIG = load_config("starter", {"choose_checkpoint": True, "data": {"validation_rows": 12}})


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    """Three candidates, of which one checkpoint is left: the shipped adapter at step 20, broken ones around it."""
    folder = RunFolder.create(tmp_path / "run", CONFIG)
    for step in (10, 20, 30):
        path = folder.checkpoints / f"checkpoint-{step}"
        shutil.copytree(STARTER / "adapter", path)
        if step != 20:
            weights = load_file(path / WEIGHTS_FILE)
            noisy = {
                n: w + 0.5 * torch.randn(w.shape, generator=torch.Generator().manual_seed(step))
                for n, w in weights.items()
            }
            save_file(noisy, path / WEIGHTS_FILE)
        keep_candidate(path, folder)
        folder.mark_complete(path, keep=1)
    (folder.path / "candidates" / "checkpoint-40.part").mkdir()  # never finished
    return folder


@pytest.mark.long
@pytest.mark.slow
def test_the_best_of_all_is_taken_and_all_scores_are_kept(folder) -> None:
    assert [step_of(path) for path in folder.checkpoints.iterdir()] == [30]
    rows = load_problems("test", 6, seed=5)
    assert choose_checkpoint(CONFIG, folder, rows) == 20
    record = folder.path / "validation.json"
    kept = json.loads(record.read_text())
    assert kept["chosen"] == 20 and kept["num_rows"] == 6 and set(kept["scores"]) == {"10", "20", "30"}
    lenient = {step: dict(score["lenient"]) for step, score in kept["scores"].items()}
    assert lenient["20"]["value"] > max(lenient["10"]["value"], lenient["30"]["value"])
    assert lenient["20"]["low"] < lenient["20"]["value"] <= lenient["20"]["high"]
    ours, shipped = (p / WEIGHTS_FILE for p in (folder.adapter, STARTER / "adapter"))
    assert ours.read_bytes() == shipped.read_bytes()

    # a choice that was cut off asks only those without a score, and those whose weights are other ones
    kept["scores"]["10"]["lenient"]["value"] = 0.123
    kept["scores"]["30"]["weights"] = "others"
    kept["scores"]["30"]["lenient"]["value"] = 0.999
    del kept["scores"]["20"]
    record.write_text(json.dumps(kept | {"chosen": None}))
    assert choose_checkpoint(CONFIG, folder, rows) == 20
    again = json.loads(record.read_text())
    assert again["scores"]["10"]["lenient"]["value"] == 0.123 and again["scores"]["20"]["lenient"] == lenient["20"]
    assert again["scores"]["30"]["lenient"] == lenient["30"] and again["chosen"] == 20


def test_candidates_of_steps_that_are_trained_anew_go(folder) -> None:
    assert [step_of(path) for path in candidates(folder)] == [10, 20, 30]
    assert {path.name for path in candidates(folder)[0].iterdir()} == {"adapter_config.json", WEIGHTS_FILE}
    drop_candidates(folder, after=20)
    assert [step_of(path) for path in candidates(folder)] == [10, 20]


def test_without_any_candidate_it_says_what_to_do(folder) -> None:
    shutil.rmtree(folder.path / "candidates")
    with pytest.raises(UserError, match="holds no adapter to choose from; .*--start-adapter"):
        choose_checkpoint(CONFIG, folder, load_problems("test", 1, seed=5))


def test_a_taken_adapter_names_its_base_and_no_path(folder) -> None:
    take_adapter(folder.checkpoints / "checkpoint-30", folder.adapter, "owner/base")
    assert json.loads((folder.adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "owner/base"
    assert sorted(p.name for p in folder.adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
