"""New and served adapter on the run's validation rows: which rows, what both say, and the figures of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from inference.common.settings import base_source
from inference.engine.engine import Engine
from training.config.run_config import RunConfig
from training.data.dataset import load_rows
from training.evaluation.conditions import ADAPTER_THINKING, BASE_THINKING
from training.evaluation.evaluation_fingerprint import model_digest, rows_digest
from training.evaluation.held_out import STARTER_ROWS, VALIDATION_SEED
from training.evaluation.promotion_rule import counted
from training.evaluation.report import MEASURES, Outcome
from training.evaluation.resume import Parts
from training.evaluation.scoring import Progress, evaluate
from training.evaluation.statistics import PairedDifference, paired_difference, share
from training.starter.problems import load_problems


def validation_rows(config: RunConfig) -> Any:
    """The rows for choosing that the run's data set apart, as a `datasets.Dataset`; `None` if they set none apart.

    The starter's problems are made as they are needed: as many as its evaluation has, from a stream of their own.
    """
    if config.data.is_starter and not config.data.validation_rows:
        return load_problems("test", config.eval_rows or STARTER_ROWS, config.data.seed + VALIDATION_SEED)
    processor = None
    if config.data.max_prompt_tokens is not None:
        from transformers import AutoProcessor

        processor = AutoProcessor.from_pretrained(base_source(config.base), revision=config.base_revision)
    rows = load_rows(config.data, processor).validation
    return rows if len(rows) else None


def conditions(config: RunConfig, rows: Any) -> dict[str, Any]:
    """All that decides what the two say, apart from themselves; plain data that can be compared."""
    return {
        "base": model_digest(base_source(config.base)),
        "rows": rows_digest(rows),
        "seed": config.seed,
        "max_new_tokens": max(256, config.max_completion_length),
        "machine": f"{'cuda' if torch.cuda.is_available() else 'cpu'}, torch {torch.__version__}",
    }


def ask_both(
    engine: Engine,
    rows: Any,
    sides: Mapping[str, Path | None],
    digests: Mapping[str, str | None],
    under: Mapping[str, Any],
    target: Path,
    progress: Progress | None = None,
) -> list[list[Outcome]]:
    """The outcomes of each side, row by row, greedy with the thinking prompt.

    `sides` are adapters' folders by a name, `None` for the base alone; `under` is what `conditions` gave. Finished
    batches are kept beside the file `target` until both sides are done, and taken up again after a kill.
    """
    found, kept = [], []
    try:
        for name, path in sides.items():
            condition = ADAPTER_THINKING if path else BASE_THINKING
            if path:
                engine.add_adapter(name, path)
            kept.append(Parts.beside(target, {**under, "adapter": digests[name]}))
            report = evaluate(
                engine,
                rows,
                [condition],
                adapter=name if path else None,
                max_new_tokens=under["max_new_tokens"],
                seed=under["seed"],
                progress=progress,
                parts=kept[-1],
            )
            found.append(report.outcomes[condition.name])
        for parts in kept:
            parts.delete()
        for left in target.parent.glob(f"{target.stem}.*.parts.jsonl"):  # with one that is served no longer
            left.unlink()
    finally:
        for parts in kept:
            parts.close()
        for name in set(sides) & set(engine.adapters):
            engine.remove_adapter(name)
    return found


def difference(new: Sequence[Outcome], served: Sequence[Outcome], measure: str) -> PairedDifference:
    """How much larger a share is with the new adapter; `measure` is one of `training.evaluation.report.MEASURES`."""
    passes = MEASURES[measure]
    return paired_difference([passes(outcome) for outcome in new], [passes(outcome) for outcome in served])


def figures(new: Sequence[Outcome], served: Sequence[Outcome]) -> dict[str, Any]:
    """As plain data: the shares of both, their paired differences, and the intervals as the rule counts them."""
    differences = {name: difference(new, served, name) for name in MEASURES}
    return {
        "new_scores": {name: share([passes(o) for o in new]).to_json() for name, passes in MEASURES.items()},
        "served_scores": {name: share([passes(o) for o in served]).to_json() for name, passes in MEASURES.items()},
        "differences": {name: found.to_json() for name, found in differences.items()},
        "counted": {name: [round(end, 6) for end in counted(differences[name])] for name in ("strict", "lenient")},
    }
