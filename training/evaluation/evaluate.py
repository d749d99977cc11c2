"""An evaluation from its plan to its files: rows and models loaded, resumed where it was killed, written when done.

evaluation.json                 the report, for the page and for publishing
evaluation-accuracy.png         accuracy by condition
evaluation-differences.png      what training changed, by kind
evaluation.1.json               an earlier report of something else that stood under the name
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from inference.adapters.record import adapter_digest
from inference.common.errors import UserError
from inference.common.settings import base_source
from inference.engine.engine import Engine
from training.config.data_config import DataConfig
from training.evaluation.conditions import CONDITIONS, Condition
from training.evaluation.evaluation_fingerprint import model_digest, rows_digest
from training.evaluation.held_out import HeldOut, load_held_out
from training.evaluation.plots import draw_plots
from training.evaluation.report import Report
from training.evaluation.resume import Parts, others_beside
from training.evaluation.scoring import evaluate
from training.runs.folder import write_whole

ADAPTER_NAME = "evaluated"


@dataclass(frozen=True)
class Plan:
    """What is evaluated, on what, and how; checked when made."""

    base: str = "starter"
    """A local path, a Hub id or `starter`."""
    revision: str | None = None
    """Branch, tag or commit of a base on the Hub."""
    adapter: str | Path | None = None
    """A folder; `None` for the base alone."""
    data: DataConfig | None = None
    """`None` for the starter problems, drawn with `seed`."""
    role: str = "test"
    num_rows: int | None = None
    """So many rows at most; `None` for all (of the starter problems 480)."""
    seed: int = 0
    """Of which rows are taken, of sampling and of swapped pictures."""
    max_new_tokens: int = 256
    batch_size: int = 64
    conditions: Sequence[Condition] = CONDITIONS
    num_samples: int = 1
    """Completions of a row under a condition with a temperature."""

    def __post_init__(self) -> None:
        for name, option in _COUNTS.items():
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{option} is {value}; give at least 1")
        if not 0 <= self.seed < 2**31:
            raise UserError(f"--seed is {self.seed}; give a whole number from 0 to 2^31 - 1")
        if self.num_samples > 1 and not any(c.temperature for c in self.conditions):
            raise UserError(f"--samples is {self.num_samples}, but no condition is sampled; add the group `sampled`")


_COUNTS = {
    "num_rows": "--rows",
    "max_new_tokens": "--max-new-tokens",
    "batch_size": "--batch-size",
    "num_samples": "--samples",
}


@dataclass(frozen=True)
class Outputs:
    """Where a report goes besides the terminal."""

    target: Path | None = None
    """JSON; parts of an evaluation under way lie beside it."""
    plots: Path | None = None
    """A folder for the pictures."""
    completions: bool = False
    """Every completion in the JSON."""

    def __post_init__(self) -> None:
        for option, folder in (("--output", self.target and self.target.absolute().parent), ("--plots", self.plots)):
            if folder and not folder.is_dir():
                shown = self.target if option == "--output" else folder
                raise UserError(f"{option} is {shown}, but there is no folder {folder}; make it first")
        if self.target and self.target.is_dir():
            raise UserError(f"--output is {self.target}, which is a folder; name a file in it")


def make_report(plan: Plan, outputs: Outputs) -> Report:
    """Evaluate with progress, print the tables, and write what `outputs` asks for.

    What can be wrong with the data is found before the model loads. Raises `UserError`.
    """
    held_out = load_held_out(plan.data, plan.role, plan.num_rows, plan.seed)
    engine = Engine.load(base_source(plan.base), revision=plan.revision)
    if plan.adapter:
        engine.add_adapter(ADAPTER_NAME, plan.adapter)
    if plan.data and plan.data.max_prompt_tokens is not None:
        held_out = load_held_out(plan.data, plan.role, plan.num_rows, plan.seed, engine.tokenizer.processor)
    fingerprint = _fingerprint(plan, held_out, engine) if outputs.target else {}
    parts = _open_parts(outputs.target, fingerprint)
    try:
        found = _evaluate(plan, held_out, engine, parts)
        found.baselines.update(held_out.baselines)
        found.about.update(_about(plan, held_out), fingerprint=fingerprint)
        print(f"\n{found.markdown()}")
        if outputs.target:
            _write(found, outputs)
        if parts:
            parts.delete()
    finally:
        if parts:
            parts.close()
    if outputs.plots:
        stem = outputs.target.stem if outputs.target else "evaluation"
        print("\n".join(f"plot: {path}" for path in draw_plots(found, outputs.plots, stem)))
    return found


def _evaluate(plan: Plan, held_out: HeldOut, engine: Engine, parts: Parts | None) -> Report:
    with _Bar() as bar:
        return evaluate(
            engine,
            held_out.rows,
            plan.conditions,
            adapter=ADAPTER_NAME if plan.adapter else None,
            max_new_tokens=plan.max_new_tokens,
            seed=plan.seed,
            batch_size=plan.batch_size,
            num_samples=plan.num_samples,
            progress=bar,
            parts=parts,
        )


def _fingerprint(plan: Plan, held_out: HeldOut, engine: Engine) -> dict[str, Any]:
    """What decides a completion, apart from its condition and sample."""
    import torch

    return {
        "base": model_digest(base_source(plan.base), plan.revision),
        "adapter": model_digest(plan.adapter) if plan.adapter else None,
        "rows": rows_digest(held_out.rows),
        "settings": {name: getattr(plan, name) for name in ("seed", "max_new_tokens", "batch_size")},
        "machine": f"{engine.device.type}, torch {torch.__version__}",
    }


def _open_parts(target: Path | None, fingerprint: dict[str, Any]) -> Parts | None:
    """The parts of this evaluation, with a word on where it starts."""
    if target is None:
        return None
    parts = Parts.beside(target, fingerprint)
    others = others_beside(target, parts.path)
    if parts.num_completions:
        print(f"going on from {parts.path.name}: {parts.num_completions:,} completions are done", file=sys.stderr)
    elif others:
        print(f"starting anew: what is unfinished here is of another evaluation: {'; '.join(others)}", file=sys.stderr)
    return parts


def _about(plan: Plan, held_out: HeldOut) -> dict[str, Any]:
    shown = {"base": _shown_name(plan.base), "base_revision": plan.revision}
    shown["adapter"] = _shown_name(plan.adapter) if plan.adapter else None
    if plan.adapter and Path(plan.adapter).is_dir():
        shown["adapter_digest"] = adapter_digest(Path(plan.adapter))
    temperatures = {c.temperature for c in plan.conditions if c.temperature}
    about = shown | held_out.about | {"batch_size": plan.batch_size, "num_samples": plan.num_samples}
    return about | ({"temperature": min(temperatures)} if temperatures else {})


def _write(found: Report, outputs: Outputs) -> None:
    """The JSON, whole or not at all; an earlier one of something else stays beside it."""
    assert outputs.target is not None
    text = json.dumps(found.to_json(outputs.completions), indent=1, ensure_ascii=True)
    if (kept := _keep_earlier(outputs.target, found, outputs.completions)) is not None:
        print(f"an earlier report is kept as {kept.name}", file=sys.stderr)
    write_whole(outputs.target, text + "\n")


def _keep_earlier(target: Path, found: Report, completions: bool) -> Path | None:
    """Copy what stands under the name, unless this report repeats it and has all that it has."""
    if not target.exists():
        return None
    try:
        earlier = json.loads(target.read_text(encoding="utf-8"))
        same = earlier["about"]["fingerprint"] == found.about["fingerprint"]
        fewer = set(earlier["conditions"]) <= set(found.outcomes) and (completions or "completions" not in earlier)
        samples = earlier["about"]["num_samples"] <= found.about["num_samples"]
        if same and fewer and samples:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        pass  # whatever it is, it is kept
    number = 1
    while (kept := target.with_name(f"{target.stem}.{number}{target.suffix}")).exists():
        number += 1
    shutil.copy2(target, kept)  # not moved: a kill now must not leave the page without scores
    return kept


class _Bar:
    """A progress bar with the remaining time; where there is no terminal, a line now and then."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __enter__(self) -> _Bar:
        return self

    def __call__(self, done: int, total: int, seconds: float) -> None:
        if self._bar is None:
            kept = done if seconds == 0.0 else 0
            every = 0.1 if sys.stderr.isatty() else 10.0
            self._bar = tqdm(total=total, initial=kept, desc="completing", unit="completion", mininterval=every)
        self._bar.update(done - self._bar.n)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _shown_name(source: str | Path) -> str:
    """A Hub id as it is; of a local path the last part, for a path means nothing elsewhere."""
    return Path(source).resolve().name if Path(source).exists() else str(source)
