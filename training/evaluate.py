"""Scores a base and its adapter on held-out problems, with the grader that training uses.

    python -m training evaluate --rows 480

Each condition is one way to ask; all answer the same rows, so that their differences are paired.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from inference.engine import Engine
from inference.errors import UserError
from inference.format import DIRECT_PROMPT, THINK_PROMPT, is_well_formed
from inference.rows import Completion, Row
from inference.settings import STARTER
from training.grading import gold_answer, grade, grade_answer, grade_lenient
from training.problems import MULTIPLE_CHOICE_SHARE, SPLITS, load_problems, sample_values
from training.report import Outcome, Report
from training.statistics import Estimate, share
from training.templates import TEMPLATES

ADAPTER_NAME = "evaluated"


@dataclass(frozen=True)
class Condition:
    """One way to ask the held-out questions."""

    name: str
    tuned: bool = False
    """With the adapter."""
    system_prompt: str = THINK_PROMPT
    prefix: str = ""
    """The first text of the completion, forced."""
    temperature: float = 0.0
    blank: bool = False
    """The picture is replaced by white paper of its size: what can be had without looking."""


CONDITIONS = (
    Condition("base-direct", system_prompt=DIRECT_PROMPT),
    Condition("base-thinking"),
    Condition("base-sampled", temperature=1.0),
    Condition("base-forced", prefix="<think>"),
    Condition("base-blank", prefix="<think>", blank=True),
    Condition("adapter-thinking", tuned=True),
    Condition("adapter-sampled", tuned=True, temperature=1.0),
)
"""`sampled`: at temperature 1. `forced`: `<think>` is the first token. `blank`: forced, and without the picture."""

Progress = Callable[[int, int, float], None]
"""Told (completions done, completions in all, seconds since the start)."""


def evaluate(
    engine: Engine,
    rows: Any,
    conditions: Sequence[Condition] = CONDITIONS,
    *,
    adapter: str | None = None,
    max_new_tokens: int = 256,
    seed: int = 0,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Report:
    """Complete and grade every row under every condition.

    `rows` is a `datasets.Dataset` with `image`, `problem`, `solution` and, for the tables by kind, `kind`. `adapter` is
    the name under which the engine holds it; without one, the conditions that need it are left out.
    """
    conditions = [c for c in conditions if adapter or not c.tuned]
    if not conditions or len(rows) == 0:
        raise UserError(f"{len(rows)} rows, {len(conditions)} conditions: an evaluation needs one of each at least")
    kinds = rows["kind"] if "kind" in rows.column_names else ["all"] * len(rows)
    outcomes: dict[str, list[Outcome]] = {c.name: [] for c in conditions}
    started, done = time.perf_counter(), 0
    for first in range(0, len(rows), batch_size):
        batch = rows[first : first + batch_size]
        for condition in conditions:  # inside, while the engine still holds this batch's encoded pictures
            asked = [
                _row(condition, image, problem, adapter, max_new_tokens, seed * 1_000_003 + first + i)
                for i, (image, problem) in enumerate(zip(batch["image"], batch["problem"]))
            ]
            completions = engine.generate(asked)
            outcomes[condition.name] += [_outcome(s, c) for s, c in zip(batch["solution"], completions, strict=True)]
            done += len(asked)
            if progress:
                progress(done, len(rows) * len(conditions), time.perf_counter() - started)
    about = {"num_rows": len(rows), "seed": seed, "max_new_tokens": max_new_tokens}
    return Report(list(kinds), outcomes, about | {"seconds": round(time.perf_counter() - started, 1)})


def majority_baselines(rows: Any, num_samples: int = 400) -> dict[str, Estimate]:
    """Accuracy on starter rows of always giving the most frequent train answer: of each template, and of each
    template with multiple choice apart (there every letter is as frequent)."""
    frequent = {}
    rng = random.Random("majority")
    for template in TEMPLATES:
        answers = Counter(template.ask(sample_values(template, "train", rng), rng).answer for _ in range(num_samples))
        answer, count = answers.most_common(1)[0]
        is_open = (1 - MULTIPLE_CHOICE_SHARE) * count / num_samples > MULTIPLE_CHOICE_SHARE / 4
        frequent[template.name] = (answer if is_open else "A", answer)
    asked = list(zip(rows["template"], rows["problem"], rows["solution"]))
    whole = [frequent[template][0] for template, _, _ in asked]
    apart = ["A" if "\nChoices:\n" in problem else frequent[template][1] for template, problem, _ in asked]
    golds = [gold_answer(solution) for _, _, solution in asked]
    by_template, by_form = ([grade_answer(g, a).correct for g, a in zip(golds, given)] for given in (whole, apart))
    return {"majority by template": share(by_template), "majority by template, choices apart": share(by_form)}


def _row(condition: Condition, image: Image.Image, problem: str, adapter: str | None, length: int, seed: int) -> Row:
    return Row(
        image=Image.new("RGB", image.size, "white") if condition.blank else image.convert("RGB"),
        question=problem,
        system_prompt=condition.system_prompt,
        adapter=adapter if condition.tuned else None,
        max_new_tokens=length,
        temperature=condition.temperature,
        seed=seed,
        prefix=condition.prefix,
    )


def _outcome(solution: str, completion: Completion) -> Outcome:
    text = completion.text
    strict, lenient = grade(solution, text).correct, grade_lenient(solution, text).correct
    return Outcome(is_well_formed(text), strict, lenient, completion.num_tokens, completion.truncated, text)


def print_progress(done: int, total: int, seconds: float) -> None:
    """One line that renews itself on a terminal, else a line for each tenth."""
    text = f"{done}/{total} completions, {seconds:.0f} s, about {seconds / done * (total - done):.0f} s left"
    if sys.stderr.isatty():
        print(f"\r{text}   ", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif done == total or done * 10 // total != (done - 1) * 10 // total:
        print(text, file=sys.stderr, flush=True)


def report(
    base: str | Path = "starter",
    adapter: str | Path | None = None,
    num_rows: int = 480,
    *,
    split: str = "test",
    seed: int = 0,
    max_new_tokens: int = 256,
    batch_size: int = 64,
    conditions: Sequence[Condition] = CONDITIONS,
    target: Path | None = None,
    completions: bool = False,
) -> Report:
    """Evaluate on starter problems with progress, print the tables, and write them to `target` as JSON.

    `base` is a local path, a Hub id or `starter`; `adapter` a path. `completions` keeps every completion in the JSON.
    """
    engine = Engine.load(STARTER if base == "starter" else base)
    if adapter:
        engine.add_adapter(ADAPTER_NAME, adapter)
    rows = load_problems(split, num_rows, seed)
    found = evaluate(
        engine,
        rows,
        conditions,
        adapter=ADAPTER_NAME if adapter else None,
        max_new_tokens=max_new_tokens,
        seed=seed,
        batch_size=batch_size,
        progress=print_progress,
    )
    found.baselines.update(majority_baselines(rows))
    found.about.update(base=_shown_name(base), adapter=_shown_name(adapter) if adapter else None, split=split)
    print(found.markdown())
    if target:
        text = json.dumps(found.to_json(completions), indent=1, ensure_ascii=False)
        target.write_text(text + "\n", encoding="utf-8")
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m training evaluate`."""
    parser.add_argument("--base", default="starter", help="local path or Hub id of the base (starter)")
    parser.add_argument("--adapter", help="path of the adapter (the starter's own, for the starter); `none` for none")
    parser.add_argument("--rows", type=int, default=480, help="how many problems (480)")
    parser.add_argument("--split", choices=SPLITS, default="test", help="which side of the starter problems (test)")
    parser.add_argument("--seed", type=int, default=0, help="of the problems and of sampling (0)")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="limit of a completion (256)")
    parser.add_argument("--batch-size", type=int, default=64, help="rows in one decode (64)")
    names = [c.name for c in CONDITIONS]
    some = f"some of: {', '.join(names)} (all)"
    parser.add_argument("--conditions", nargs="+", choices=names, default=names, metavar="NAME", help=some)
    parser.add_argument("--output", type=Path, help="write the report here as JSON")
    parser.add_argument("--completions", action="store_true", help="keep every completion in the JSON")


def main(args: argparse.Namespace) -> int:
    """Evaluate as the options say."""
    for name in ("rows", "max_new_tokens", "batch_size"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(args, name)}; give at least 1")
    if args.output and not args.output.absolute().parent.is_dir():
        raise UserError(f"--output is {args.output}, but there is no folder {args.output.parent}; make it first")
    if args.adapter is None:
        own = (STARTER if args.base == "starter" else Path(args.base)) / "adapter"
        args.adapter = own if own.is_dir() else None
    report(
        args.base,
        None if args.adapter == "none" else args.adapter,
        args.rows,
        split=args.split,
        seed=args.seed,
        max_new_tokens=args.max_new_tokens,
        batch_size=args.batch_size,
        conditions=[c for c in CONDITIONS if c.name in args.conditions],
        target=args.output,
        completions=args.completions,
    )
    return 0


def _shown_name(source: str | Path) -> str:
    """A Hub id as it is; of a local path the last part, for a path means nothing elsewhere."""
    return Path(source).resolve().name if Path(source).exists() else str(source)
