"""Draws `docs/ways.png`: a held-out problem of each kind, and what base and adapter make of it.

python -m tests.support.ways
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from matplotlib.figure import Figure

from inference.common.settings import STARTER
from inference.engine.engine import Engine
from inference.model.request import Request
from training.evaluation.conditions import CONDITIONS, STARTER_CAREFUL, with_careful_beginning
from training.grading.grader import grade_many
from training.starter.problems import Problem, iterate_problems
from training.starter.templates import KINDS

SHOWN = ("base-direct", "base-forced", "base-careful", "adapter-thinking")
TARGET = Path("docs/ways.png")


def draw(seed: int = 5) -> Figure:
    """One row for each kind: the picture, and the completion under each condition, green if it is right."""
    engine = Engine.load(STARTER)
    engine.add_adapter("adapter", STARTER / "adapter")
    stream, problems = iterate_problems("test", seed), dict[str, Problem]()
    while len(problems) < len(KINDS):
        problem = next(stream)
        problems.setdefault(problem.kind, problem)
    figure = Figure(figsize=(15, 13), layout="constrained")
    axes = figure.subplots(len(KINDS), 1 + len(SHOWN), width_ratios=(1, 0.9, 1.3, 1.6, 1.6))
    conditions = {c.name: c for c in with_careful_beginning(CONDITIONS, STARTER_CAREFUL)}
    for row, kind in zip(axes, KINDS):
        problem = problems[kind]
        row[0].imshow(problem.image)
        row[0].set_title("\n".join(textwrap.wrap(problem.problem.replace("\n", " "), 34)), fontsize=9)
        for cell, name in zip(row[1:], SHOWN):
            condition = conditions[name]
            request = Request(
                image=problem.image,
                question=problem.problem,
                system_prompt=condition.system_prompt,
                adapter="adapter" if condition.tuned else None,
                prefix=condition.prefix,
                max_new_tokens=256,
                temperature=0.0,
            )
            text = engine.generate([request])[0].text
            mode = "direct" if condition.is_direct else "lenient"
            is_right = grade_many([(problem.solution, text)], mode, [problem.problem])[0].correct
            cell.text(0, 1, "\n".join(textwrap.wrap(text, 42)), va="top", fontsize=9, parse_math=False)
            cell.set_title(name, fontsize=10, loc="left", color="#12772f" if is_right else "#b3261e")
        for cell in row:
            cell.axis("off")
    return figure


if __name__ == "__main__":
    draw().savefig(TARGET, dpi=80)
    print(TARGET)
