"""`python -m tests.support.record_example`: asks the shipped starter, and writes the example that Compare shows.

The problem is the first of the test split, drawn with seeds from 0 on, where only one of the two completions keeps the
format. All else is as it comes: both are asked in one batch, greedily, as Compare asks.
"""

from __future__ import annotations

import base64
import io
import json
import random
import time
from collections.abc import Iterator

from inference.common.settings import STARTER, load_settings
from inference.engine.engine import Engine, Request
from inference.server.queue import RequestQueue
from inference.ui.answering import watch
from inference.ui.recorded import FILE
from inference.ui.view import View
from training.starter.problems import Problem, make_problem
from training.ui.training_app import grade_expected

COMMAND = "python -m tests.support.record_example"
ADAPTER = "starter"
MAX_NEW_TOKENS = 256


def ask(queue: RequestQueue, problem: Problem) -> tuple[View, View]:
    """The two completions of a problem when they have ended."""
    rows = [
        Request(problem.image.convert("RGB"), problem.problem, adapter=adapter, max_new_tokens=MAX_NEW_TOKENS)
        for adapter in (None, ADAPTER)
    ]
    views = watch(queue.submit(rows), problem.answer, lambda gold, text: grade_expected(gold, text, problem.problem))
    *_, (base, tuned) = views
    return base, tuned


def held_out_problems() -> Iterator[Problem]:
    """Held-out problems, the same ones every time."""
    for seed in range(1_000):
        yield make_problem(random.Random(seed), "test")


def side(view: View) -> dict[str, object]:
    """A completion as it is kept."""
    assert view.verdict is not None
    verdict = {name: getattr(view.verdict, name) for name in ("correct", "gold", "answer", "rule")}
    figures = {"num_tokens": view.num_tokens, "seconds": round(view.seconds, 4)}
    thought = {"thought_tokens": view.thought_tokens, "thought_seconds": round(view.thought_seconds, 4)}
    return {"text": view.text, **figures, **thought, "verdict": verdict}


def main() -> None:
    engine = Engine.load(STARTER)
    engine.add_adapter(ADAPTER, STARTER / "adapter")
    queue = RequestQueue(lambda: engine, load_settings(env={"LOOKTHINK_BASE": "starter"}).limits)
    queue.wait_loaded()
    for problem in held_out_problems():
        base, tuned = ask(queue, problem)
        if base.well_formed != tuned.well_formed:
            break
    picture = io.BytesIO()
    problem.image.convert("RGB").save(picture, "PNG", optimize=True)
    content = {
        "made_by": COMMAND,
        "on": time.strftime("%Y-%m-%d"),
        "model": f"LookThink's starter, {engine.num_parameters / 1e6:.1f} M parameters, on a CPU",
        "picture": "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode("ascii"),
        "question": problem.problem,
        "expected": problem.answer,
        "base": side(base),
        "tuned": side(tuned),
    }
    FILE.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{FILE} written")


if __name__ == "__main__":
    main()
