"""The choice of the checkpoint that becomes a run's adapter: the best on validation rows, not on test rows.

Old checkpoints are deleted during the run; their adapters stay in `candidates/`, so that all can be chosen.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from inference.common.errors import UserError
from inference.common.files import Json, read_json, write_json
from inference.common.settings import base_source
from inference.engine.engine import Engine
from inference.model.lora_file import CONFIG_FILE, WEIGHTS_FILE
from inference.prompt.format import THINK_PROMPT
from inference.prompt.system_prompt import write_system_prompt
from training.config.run_config import RunConfig
from training.evaluation.conditions import ADAPTER_THINKING
from training.evaluation.evaluate import completion_limit
from training.evaluation.scoring import evaluate
from training.runs.folder import RunFolder, step_of
from training.runs.metrics import is_number

if TYPE_CHECKING:
    from datasets import Dataset

MEASURES = ("lenient", "strict", "format")
"""The first decides; the others are recorded."""
log = logging.getLogger(__name__)


def candidates(folder: RunFolder) -> list[Path]:
    """The adapters in `candidates/` by step, without incomplete ones."""
    return sorted((p for p in (folder.path / "candidates").glob("checkpoint-*") if step_of(p) >= 0), key=step_of)


def keep_candidate(checkpoint: Path, folder: RunFolder, system_prompt: str = THINK_PROMPT) -> None:
    """Copies a checkpoint's adapter to `candidates/`, under another name until it is complete."""
    target = folder.path / "candidates" / checkpoint.name
    part = target.with_name(f"{target.name}.part")
    for folder_before in (part, target):
        shutil.rmtree(folder_before, ignore_errors=True)
    part.mkdir(parents=True)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(checkpoint / name, part / name)
    _say_prompt(part, system_prompt)
    part.rename(target)


def drop_candidates(folder: RunFolder, after: int) -> None:
    """Deletes the candidates of steps after `after`, which will be trained anew."""
    for path in candidates(folder):
        if step_of(path) > after:
            shutil.rmtree(path)


def choose_checkpoint(config: RunConfig, folder: RunFolder, rows: Dataset) -> int:
    """Makes the candidate with the highest lenient accuracy on `rows` the run's adapter; returns its step.

    Among equals it is the latest. `validation.json` has every score and the choice; a candidate with a score there is
    not evaluated again.
    """
    record = folder.path / "validation.json"
    before = (read_json(record) or {}).get("scores")
    scores: dict[int, Json] = {}
    engine: Engine | None = None
    for path in candidates(folder):
        digest = hashlib.blake2b((path / WEIGHTS_FILE).read_bytes(), digest_size=16).hexdigest()
        score = _kept_score(before, step_of(path), digest)
        if score is None:
            engine = engine or Engine.load(base_source(config.base), revision=config.base_revision)
            score = _score(engine, config, path, rows) | {"weights": digest}
        scores[step_of(path)] = score
        write_json(record, _record(rows, scores, None))
    if not scores:
        raise UserError(
            f"{folder.path / 'candidates'} holds no adapter to choose from; put it back, or {folder.way_out()}"
        )
    best = max(scores, key=lambda step: (scores[step]["lenient"]["value"], step))
    write_json(record, _record(rows, scores, best))
    source = folder.path / "candidates" / f"checkpoint-{best}"
    take_adapter(source, folder.adapter, config.base, config.system_prompt_text)
    return best


def _kept_score(scores: object, step: int, digest: str) -> Json | None:
    """The score of these weights by an earlier start; `None` if there is none or it is damaged."""
    score: Json | None = scores.get(str(step)) if isinstance(scores, dict) else None
    lenient = score.get("lenient") if isinstance(score, dict) and score.get("weights") == digest else None
    return score if isinstance(lenient, dict) and is_number(lenient.get("value")) else None


def _score(engine: Engine, config: RunConfig, path: Path, rows: Dataset) -> Json:
    limit = completion_limit(config)
    engine.add_adapter("candidate", path)
    report = evaluate(
        engine,
        rows,
        [ADAPTER_THINKING],
        adapter="candidate",
        max_new_tokens=limit,
        seed=config.seed,
        tolerance=config.data.tolerance,
    )
    shares = {measure: report.estimate(ADAPTER_THINKING.name, measure) for measure in MEASURES}
    log.info("%s: %s right on %d validation rows", path.name, shares["lenient"], len(rows))
    return {measure: estimate.to_json() for measure, estimate in shares.items()}


def _record(rows: Dataset, scores: dict[int, Json], chosen: int | None) -> Json:
    return {"measure": MEASURES[0], "num_rows": len(rows), "chosen": chosen, "scores": scores}


def take_adapter(source: Path, target: Path, base_name: str, system_prompt: str = THINK_PROMPT) -> None:
    """Copies an adapter, its settings last; they name the base by id or by its folder's name, not by a path.

    `system_prompt` is the text that it was trained with; it is kept beside the adapter where it is not the project's.
    """
    target.mkdir(parents=True, exist_ok=True)
    base_name = Path(base_name).name if Path(base_name).is_absolute() else base_name
    settings = json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))
    part = target / f"{WEIGHTS_FILE}.part"
    shutil.copyfile(source / WEIGHTS_FILE, part)
    part.replace(target / WEIGHTS_FILE)
    _say_prompt(target, system_prompt)
    write_json(target / CONFIG_FILE, settings | {"base_model_name_or_path": base_name}, indent=2)


def _say_prompt(adapter: Path, text: str) -> None:
    if text != THINK_PROMPT:
        write_system_prompt(adapter, text)
