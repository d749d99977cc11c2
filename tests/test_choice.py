"""The checkpoint that does best on the validation rows becomes the run's adapter."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.settings import STARTER
from training.choice import choose_checkpoint, take_adapter
from training.config import load_config
from training.problems import load_problems
from training.run_folder import RunFolder

CONFIG = load_config("starter", {"choose_checkpoint": True, "data": {"validation_rows": 12}})


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    """Three checkpoints: the shipped adapter at step 20, and broken ones before and after it."""
    folder = RunFolder.create(tmp_path / "run", CONFIG)
    for step in (10, 20, 30):
        path = folder.checkpoints / f"checkpoint-{step}"
        shutil.copytree(STARTER / "adapter", path)
        if step != 20:
            weights = load_file(path / "adapter_model.safetensors")
            noisy = {
                n: w + 0.5 * torch.randn(w.shape, generator=torch.Generator().manual_seed(step))
                for n, w in weights.items()
            }
            save_file(noisy, path / "adapter_model.safetensors")
        folder.mark_whole(path, keep=9)
    (folder.checkpoints / "checkpoint-40").mkdir()  # never finished
    return folder


@pytest.mark.slow
def test_the_best_is_taken_and_all_scores_are_kept(folder) -> None:
    assert choose_checkpoint(CONFIG, folder, load_problems("test", 12, seed=5)) == 20
    kept = json.loads((folder.path / "validation.json").read_text())
    assert kept["chosen"] == 20 and kept["num_rows"] == 12 and set(kept["scores"]) == {"10", "20", "30"}
    assert kept["scores"]["20"] > max(kept["scores"]["10"], kept["scores"]["30"])
    ours, shipped = (p / "adapter_model.safetensors" for p in (folder.adapter, STARTER / "adapter"))
    assert ours.read_bytes() == shipped.read_bytes()


def test_a_taken_adapter_names_its_base_and_no_path(folder) -> None:
    take_adapter(folder.checkpoints / "checkpoint-10", folder.adapter, "owner/base")
    assert json.loads((folder.adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "owner/base"
    assert sorted(p.name for p in folder.adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
