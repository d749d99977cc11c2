"""Scores a base and its adapter on held-out problems, with the grader that training uses.

    python -m training evaluate --rows 480
    python -m training evaluate --run runs/first --role validation

Three columns on the same rows: the base asked to answer directly, the base with the thinking prompt, the adapter. More
conditions (`training.evaluation.conditions`) tell whether they look, and what sampling adds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from training.cli.evaluation_options import add_options, read_options
from training.evaluation.evaluate import Outputs, Plan, make_report
from training.evaluation.report import Report
from training.evaluation.scoring import Comparison, compare_adapters, evaluate

__all__ = ["Comparison", "Outputs", "Plan", "compare_adapters", "evaluate", "make_report", "report"]


def report(
    base: str | Path = "starter",
    adapter: str | Path | None = None,
    num_rows: int | None = None,
    *,
    target: Path | None = None,
    plots: Path | None = None,
    completions: bool = False,
    **settings: Any,
) -> Report:
    """Evaluate with progress, print the tables, and write them to `target` as JSON and to the folder `plots`.

    `base` is a local path, a Hub id or `starter`; `adapter` a path; `settings` are the other fields of `Plan`.
    """
    plan = Plan(str(base), adapter=adapter, num_rows=num_rows, **settings)
    return make_report(plan, Outputs(target, plots, completions))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m training evaluate`."""
    add_options(parser)


def main(args: argparse.Namespace) -> int:
    """Evaluate as the options say."""
    make_report(*read_options(args))
    return 0
