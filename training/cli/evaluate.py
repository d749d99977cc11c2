"""Scores a base and its adapter on held-out problems, with the grader that training uses.

    python -m training evaluate --rows 480
    python -m training evaluate --run runs/first --role validation

Three columns on the same rows: the base asked to answer directly, the base with the thinking prompt, the adapter. More
conditions (`training.evaluation.conditions`) tell whether they look, and what sampling adds.
"""

from __future__ import annotations

import argparse

from training.cli.evaluation_options import add_options, read_options
from training.evaluation.evaluate import make_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m training evaluate`."""
    add_options(parser)


def main(args: argparse.Namespace) -> int:
    """Evaluates as the options say."""
    make_report(*read_options(args))
    return 0
