"""One evaluation from its configuration to its files; after a kill it goes on from the finished batches.

    evaluation.json                 the report, for the page and for publishing
    evaluation.md                   all its tables
    evaluation-accuracy.png         accuracy by condition
    evaluation-differences.png      the changes by training, by kind
    evaluation.1.json               an earlier report of another evaluation with this name

The same code evaluates a run's adapter after training and for `evaluate --run`:

    make_report(run_evaluation(config, folder.adapter), run_outputs(folder))
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inference.adapters.record import adapter_digest
from inference.common.errors import UserError
from inference.common.files import Json, write_whole
from inference.common.settings import STARTER, base_source
from inference.engine.engine import Engine
from inference.prompt.format import THINK_PROMPT
from training.config.data_config import DataConfig
from training.config.run_config import RunConfig
from training.data.dataset import Splits
from training.evaluation.conditions import (
    CAREFUL,
    CONDITIONS,
    STARTER_CAREFUL,
    Condition,
    choose_conditions,
    with_careful_beginning,
)
from training.evaluation.held_out import HeldOut, load_benchmark_rows, load_held_out, rows_digest
from training.evaluation.measures.outside import NUM_ROWS, ask_outside
from training.evaluation.plots import draw_plots
from training.evaluation.report import Report
from training.evaluation.resume import Parts, others_beside
from training.evaluation.scoring import evaluate
from training.runs.folder import RunFolder
from training.runs.provenance import model_digest

ADAPTER_NAME = "evaluated"
DEFAULT_SAMPLES = 8
MIN_TOKENS = 256
"""The least limit of a completion, so that a base, which was not trained to be short, is not cut off."""
_COUNTS = {
    "num_rows": "--rows",
    "max_new_tokens": "--max-new-tokens",
    "batch_size": "--batch-size",
    "num_samples": "--samples",
}


@dataclass(frozen=True)
class EvaluationConfig:
    """The settings of an evaluation, checked when they are made."""

    base: str = "starter"
    """A local path, a Hub id or `starter`."""
    revision: str | None = None
    """Branch, tag or commit of a base on the Hub."""
    adapter: str | Path | None = None
    """A folder; `None` for the base alone."""
    data: DataConfig | None = None
    """`None` for the starter problems, drawn with `seed`."""
    benchmark: Json | None = None
    """`name` of a public benchmark, asked instead of `data`, and settings of its data."""
    role: str = "test"
    num_rows: int | None = None
    """The number of rows at most; `None` for all (of the starter problems 480)."""
    seed: int = 0
    """The seed of the choice of rows, of sampling and of swapped pictures."""
    max_new_tokens: int = MIN_TOKENS
    batch_size: int = 64
    conditions: Sequence[Condition] = CONDITIONS
    careful: str | None = None
    """The beginning of base-careful's completions; `None` for the starter's own, or one for any base."""
    num_samples: int | None = None
    """Completions of a row under a condition with a temperature; `None` for `DEFAULT_SAMPLES`."""

    @property
    def samples(self) -> int:
        """Completions of a row in a sampled condition; 1 if there is none."""
        if not any(condition.temperature for condition in self.conditions):
            return 1
        return DEFAULT_SAMPLES if self.num_samples is None else self.num_samples

    def __post_init__(self) -> None:
        for name, option in _COUNTS.items():
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{option} is {value}; give at least 1")
        if not 0 <= self.seed < 2**31:
            raise UserError(f"--seed is {self.seed}; give a whole number from 0 to 2^31 - 1")
        if self.careful is not None and not self.careful.startswith("<think>"):
            raise UserError(f"--careful is {self.careful[:80]!r}; it has to begin with <think>, as a thought does")
        if (self.num_samples or 1) > 1 and not any(c.temperature for c in self.conditions):
            raise UserError(f"--samples is {self.num_samples}, but no condition is sampled; add the group `sampled`")


@dataclass(frozen=True)
class Outputs:
    """The files of a report."""

    target: Path | None = None
    """The JSON; finished batches of an evaluation under way are beside it."""
    plots: Path | None = None
    """A folder for the plots."""
    completions: bool = False
    """True to include every completion in the JSON."""

    @property
    def tables(self) -> Path | None:
        """The file of the tables as Markdown; `None` without another file, where they are printed."""
        folder = self.plots or (self.target and self.target.parent)
        return folder / f"{self.target.stem if self.target else 'evaluation'}.md" if folder else None

    def __post_init__(self) -> None:
        for option, folder in (("--output", self.target and self.target.absolute().parent), ("--plots", self.plots)):
            if folder and not folder.is_dir():
                shown = self.target if option == "--output" else folder
                raise UserError(f"{option} is {shown}, but there is no folder {folder}; make it first")
        if self.target and self.target.is_dir():
            raise UserError(f"--output is {self.target}, which is a folder; name a file in it")


def completion_limit(config: RunConfig) -> int:
    """The limit of a completion in a run's evaluation, in tokens."""
    return max(MIN_TOKENS, config.max_completion_length)


def run_evaluation(config: RunConfig, adapter: str | Path | None, **changes: Any) -> EvaluationConfig:
    """The evaluation of a run's adapter, of another one or (`None`) of its base alone, with its base at its commit.

    At most `eval_rows` of the test rows that the run's data leave (all of them where that is 0). `changes` are fields
    of `EvaluationConfig`.
    """
    values: Json = {
        "base": config.base,
        "revision": config.base_revision,
        "data": config.data,
        "num_rows": config.eval_rows or None,
        "max_new_tokens": completion_limit(config),
        "conditions": tuple(choose_conditions([config.eval_conditions])),
    }
    return EvaluationConfig(adapter=adapter, **(values | changes))


def run_outputs(folder: RunFolder, role: str = "test") -> Outputs:
    """The files of a run's report: beside its adapter, where the page reads it, or in its folder.

    In its folder are those for other roles, and those of benchmarks by their names.
    """
    target = folder.adapter / "evaluation.json" if role == "test" else folder.path / f"evaluation-{role}.json"
    return Outputs(target, folder.path)


def make_report(config: EvaluationConfig, outputs: Outputs, splits: Splits | None = None) -> Report:
    """Evaluates with a progress bar, prints the tables, and writes the files of `outputs`.

    The data are read first, so that errors in them show before the model loads. `splits` are the rows of `config.data`
    if they are loaded already, without prompts that are too long. Raises `UserError`.
    """
    careful = config.careful or (STARTER_CAREFUL if Path(base_source(config.base)) == STARTER else CAREFUL)
    conditions = with_careful_beginning(config.conditions, careful)
    engine, held_out = open_evaluation(config, splits)
    fingerprint = fingerprint_of(config, held_out, engine) if outputs.target else {}
    parts = _open_parts(outputs.target, fingerprint) if outputs.target else None
    tolerance = config.data.tolerance if config.data else 0.0
    try:
        report = evaluate(
            engine,
            held_out.rows,
            conditions,
            adapter=ADAPTER_NAME if config.adapter else None,
            max_new_tokens=config.max_new_tokens,
            seed=config.seed,
            batch_size=config.batch_size,
            num_samples=config.samples,
            progress=True,
            parts=parts,
            tolerance=tolerance,
        )
        if report.has_difference:
            rows = held_out.rows[:NUM_ROWS]
            outside = ask_outside(engine.generate, rows, after=ADAPTER_NAME, parts=parts, tolerance=tolerance)
            report = replace(report, outside=outside)
        report.baselines.update(held_out.baselines)
        report.about.update(_about(config, held_out), fingerprint=fingerprint)
        tables = outputs.tables
        print(f"\n{report.summary() if tables else report.markdown()}")
        if tables:
            write_whole(tables, report.markdown())
            print(f"all tables: {tables}")
        if outputs.target:
            _write(report, outputs.target, outputs.completions)
        if parts:
            parts.delete()
    finally:
        if parts:
            parts.close()
    if outputs.plots:
        stem = outputs.target.stem if outputs.target else "evaluation"
        print("\n".join(f"plot: {path}" for path in draw_plots(report, outputs.plots, stem)))
    return report


def open_evaluation(config: EvaluationConfig, splits: Splits | None = None) -> tuple[Engine, HeldOut]:
    """The engine, with the adapter as `ADAPTER_NAME`, and the rows, which are read first. Raises `UserError`."""
    if config.benchmark:
        held_out = load_benchmark_rows(num_rows=config.num_rows, seed=config.seed, **config.benchmark)
    else:
        held_out = load_held_out(config.data, config.role, config.num_rows, config.seed, splits=splits)
    engine = Engine.load(base_source(config.base), revision=config.revision)
    if config.adapter:
        engine.add_adapter(ADAPTER_NAME, config.adapter)
    if splits is None and config.data and config.data.max_prompt_tokens is not None:
        prompt = engine.system_prompt(ADAPTER_NAME) if config.adapter else None
        held_out = load_held_out(
            config.data,
            config.role,
            config.num_rows,
            config.seed,
            engine.tokenizer.processor,
            system_prompt=prompt or THINK_PROMPT,
        )
    return engine, held_out


def fingerprint_of(config: EvaluationConfig, held_out: HeldOut, engine: Engine) -> Json:
    """The identity of base, adapter, rows and settings, which a completion depends on besides condition and sample."""
    import torch

    return {
        "base": model_digest(base_source(config.base), config.revision),
        "adapter": model_digest(config.adapter) if config.adapter else None,
        "rows": rows_digest(held_out.rows),
        "settings": {name: getattr(config, name) for name in ("seed", "max_new_tokens", "batch_size")},
        "repetition_penalty": engine.repetition_penalty,
        "machine": f"{engine.device.type}, torch {torch.__version__}",
    }


def _open_parts(target: Path, fingerprint: Json) -> Parts:
    """The finished batches of this evaluation; prints where it starts."""
    parts = Parts.beside(target, fingerprint)
    others = others_beside(target, parts.path)
    if parts.num_completions:
        print(f"going on from {parts.path.name}: {parts.num_completions:,} completions are done", file=sys.stderr)
    elif others:
        print(f"starting anew: the unfinished evaluation here is another one: {'; '.join(others)}", file=sys.stderr)
    return parts


def _about(config: EvaluationConfig, held_out: HeldOut) -> Json:
    shown = {"base": _shown_name(config.base), "base_revision": config.revision}
    shown["adapter"] = _shown_name(config.adapter) if config.adapter else None
    if config.adapter and Path(config.adapter).is_dir():
        shown["adapter_digest"] = adapter_digest(Path(config.adapter))
    temperatures = {c.temperature for c in config.conditions if c.temperature}
    about = shown | held_out.about | {"batch_size": config.batch_size, "num_samples": config.samples}
    return about | ({"temperature": min(temperatures)} if temperatures else {})


def _write(report: Report, target: Path, completions: bool) -> None:
    """Writes the JSON; an earlier report of another evaluation is kept beside it."""
    if (copy := _keep_earlier(target, report, completions)) is not None:
        print(f"an earlier report is kept as {copy.name}", file=sys.stderr)
    # ASCII: a completion may hold half a character, which UTF-8 cannot
    write_whole(target, json.dumps(report.to_json(completions), indent=1, ensure_ascii=True) + "\n")


def _keep_earlier(target: Path, report: Report, completions: bool) -> Path | None:
    """Copies the earlier report, unless this one is of the same evaluation and contains all of it."""
    if not target.exists():
        return None
    try:
        earlier = json.loads(target.read_text(encoding="utf-8"))
        same = earlier["about"]["fingerprint"] == report.about["fingerprint"]
        fewer = set(earlier["conditions"]) <= set(report.outcomes) and (completions or "completions" not in earlier)
        samples = earlier["about"]["num_samples"] <= report.about["num_samples"]
        if same and fewer and samples:
            return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # an unreadable file is kept
    number = 1
    while (copy := target.with_name(f"{target.stem}.{number}{target.suffix}")).exists():
        number += 1
    shutil.copy2(target, copy)  # not moved: a kill now must not leave the page without scores
    return copy


def _shown_name(source: str | Path) -> str:
    """A Hub id, or the last part of a local path."""
    return Path(source).resolve().name if Path(source).exists() else str(source)
