"""Which checkpoint of a run becomes its adapter, where it is chosen: the best on validation rows, not on test rows."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from inference.engine import Engine
from inference.settings import base_source
from training.conditions import ADAPTER_THINKING
from training.config import RunConfig
from training.run_evaluation import completion_limit
from training.run_folder import RunFolder, is_whole, step_of, write_whole
from training.scoring import evaluate

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
log = logging.getLogger(__name__)


def choose_checkpoint(config: RunConfig, folder: RunFolder, rows: Any) -> int:
    """Make the kept checkpoint with the highest lenient accuracy on `rows` the run's adapter; returns its step.

    Among equals the later one is taken. Every score is kept in `validation.json`.
    """
    engine = Engine.load(base_source(config.base), revision=config.base_revision)
    scores: dict[int, float] = {}
    limit = completion_limit(config)
    for checkpoint in sorted(filter(is_whole, folder.checkpoints.glob("checkpoint-*")), key=step_of):
        engine.add_adapter("candidate", checkpoint)
        found = evaluate(engine, rows, [ADAPTER_THINKING], adapter="candidate", max_new_tokens=limit, seed=config.seed)
        scores[step_of(checkpoint)] = found.estimate(ADAPTER_THINKING.name, "lenient").value
        log.info(
            "checkpoint %d: %.1f %% on %d validation rows",
            step_of(checkpoint),
            100 * scores[step_of(checkpoint)],
            len(rows),
        )
    best = max(scores, key=lambda step: (scores[step], step))
    record = {"measure": "lenient", "num_rows": len(rows), "scores": scores, "chosen": best}
    write_whole(folder.path / "validation.json", json.dumps(record, indent=1))
    take_adapter(folder.checkpoints / f"checkpoint-{best}", folder.adapter, config.base)
    return best


def take_adapter(checkpoint: Path, target: Path, base_name: str) -> None:
    """Copy a checkpoint's adapter, naming its base by id, or of a folder by its name: no path of this machine."""
    target.mkdir(parents=True, exist_ok=True)
    base_name = Path(base_name).name if Path(base_name).is_absolute() else base_name
    settings = json.loads((checkpoint / ADAPTER_FILES[0]).read_text(encoding="utf-8"))
    shutil.copyfile(checkpoint / ADAPTER_FILES[1], target / ADAPTER_FILES[1])
    write_whole(target / ADAPTER_FILES[0], json.dumps(settings | {"base_model_name_or_path": base_name}, indent=2))
