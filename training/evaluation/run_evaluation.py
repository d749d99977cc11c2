"""How a run is evaluated: the same after training, by `evaluate --run`, and where its checkpoint is chosen.

plan_of_run(config, folder.adapter)  # on the run's own test rows, with its base at its commit
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.config.run_config import RunConfig
from training.evaluation.evaluate import Outputs, Plan, make_report
from training.evaluation.report import Report
from training.runs.folder import RunFolder

MIN_TOKENS = 256
"""A completion may have so many tokens at least: the base, which was not trained to be short, is not cut off."""


def completion_limit(config: RunConfig) -> int:
    """Tokens that a completion of a run's evaluation may have."""
    return max(MIN_TOKENS, config.max_completion_length)


def plan_of_run(config: RunConfig, adapter: str | Path | None, **changes: Any) -> Plan:
    """The evaluation of a run's adapter, of another one or (`None`) of its base alone; `changes` are fields of `Plan`.

    At most `eval_rows` of the test rows that the run's data leave (all of them where that is 0).
    """
    decided: dict[str, Any] = {
        "base": config.base,
        "revision": config.base_revision,
        "data": config.data,
        "num_rows": config.eval_rows or None,
        "max_new_tokens": completion_limit(config),
    }
    return Plan(adapter=adapter, **(decided | changes))


def outputs_of_run(folder: RunFolder, role: str = "test", completions: bool = False) -> Outputs:
    """The report beside the adapter, where the page reads it, or of validation rows in the run's folder; plots there.

    For the run's own adapter, asked everything that a report needs.
    """
    validation = folder.path / f"evaluation-{role}.json"
    target = folder.adapter / "evaluation.json" if role == "test" else validation
    return Outputs(target, folder.path, completions)


def evaluate_run(path: Path) -> Report:
    """Evaluate the adapter of the run in the folder `path`, print the tables, and keep the report there."""
    folder, config = RunFolder.open(path)
    return make_report(plan_of_run(config, folder.adapter), outputs_of_run(folder))
