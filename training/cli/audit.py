"""Audits a dataset before money is spent on it: `python -m training audit --dataset owner/name`.

Reads and cleans every row as training would, grades each gold against itself, measures pictures and prompts, and looks
for repeated rows and leaks. With `--with-model` a sample of the base's completions says how hard the problems are, and
the estimate of the planned run says its hours and its price. Without a base nothing loads torch.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from inference.common.errors import UserError, first_line
from inference.common.settings import base_source, load_settings, report_folders
from training.audit.page import render_page
from training.audit.report import AuditReport
from training.audit.scan import audit
from training.config.data_config import DataConfig, read_data_config
from training.config.options import add_data_options, data_values
from training.config.run_config import RunConfig, check_config
from training.data.dataset import load_rows
from training.hub.space.prices import Prices, machine_named
from training.runs.estimate.hardware import Machine, machine_here
from training.runs.estimate.run_estimate import estimate_run
from training.runs.store import RunStore

if TYPE_CHECKING:
    from inference.engine.engine import Engine

MAX_EXAMPLES = 500
"""A page with more rows is too large for a phone."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the data, as for every command, and the audit's own."""
    add_data_options(parser, "data (the starter problems unless one of these is given)")
    parser.add_argument("--base", help="local path or Hub id of the base whose tokens are counted (starter: its own)")
    parser.add_argument("--base-revision", metavar="NAME", help="branch, tag or commit of a base on the Hub")
    parser.add_argument("--output", type=Path, help="write the report here as JSON")
    parser.add_argument("--html", type=Path, help="write one self-contained page here, with examples")
    parser.add_argument("--examples", type=int, default=24, help="rows shown on the page (24)")
    model = parser.add_argument_group("with the base")
    model.add_argument("--with-model", action="store_true", help="sample completions of the base")
    model.add_argument("--samples", type=int, default=32, help="train problems to sample (32)")
    model.add_argument("--num-generations", type=int, default=8, help="completions of each, a group (8)")
    model.add_argument("--prompts-per-step", type=int, default=8, help="groups in a step of the planned run (8)")
    model.add_argument("--max-steps", type=int, help="steps of the planned run (once over the train rows)")
    model.add_argument("--max-completion-length", type=int, default=512, help="tokens a completion may have (512)")
    hardware = "of the planned run: a100-large, 'A100 40 GB', 2xH100, '8 cores' (this machine)"
    model.add_argument("--hardware", metavar="NAME", help=hardware)
    model.add_argument("--dollars-per-hour", type=float, help="the price of the hardware (the Hub's)")


def main(args: argparse.Namespace) -> int:
    """Audits as the options say."""
    config = read_data_config(**data_values(args))
    base = args.base or ("starter" if config.is_starter else None)
    _check(args, base)
    machine = machine_named(args.hardware, Prices().of_jobs()) if args.hardware else None
    engine, processor = _load(base, args.base_revision, args.with_model)
    report = audit(config, processor, num_examples=args.examples, progress=True)
    if base:
        report.about["base"] = Path(base).name if Path(base).exists() else base
    if engine is not None and base is not None:
        report = _with_rollouts(report, engine, processor, _plan(args, base, config, report), args, machine)
    print(report.text())
    if args.output:
        text = json.dumps(report.to_json(), indent=1, ensure_ascii=False)
        args.output.write_text(text + "\n", encoding="utf-8")
    if args.html:
        args.html.write_text(render_page(report), encoding="utf-8")
    return 0


def _check(args: argparse.Namespace, base: str | None) -> None:
    """Checks the audit's own options, before anything loads. Raises `UserError`."""
    least = {"samples": 1, "num_generations": 2, "prompts_per_step": 1, "max_steps": 1, "max_completion_length": 1}
    least |= {"examples": 0}
    for name, low in least.items():
        value = getattr(args, name)
        if value is not None and value < low:
            raise UserError(f"--{name.replace('_', '-')} is {value}; give at least {low}.")
    if args.examples > MAX_EXAMPLES:
        raise UserError(f"--examples is {args.examples}; a page shows at most {MAX_EXAMPLES}.")
    price = args.dollars_per_hour
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise UserError(f"--dollars-per-hour is {price}; give a price such as 2.50.")
    for name in ("output", "html"):
        target = getattr(args, name)
        if target and not target.absolute().parent.is_dir():
            raise UserError(f"--{name} is {target}, but there is no folder {target.parent}; make it first.")
    if args.with_model and base is None:
        raise UserError("--with-model samples the base: name it with --base, a folder or a Hub id.")
    if not args.with_model and (args.hardware or price is not None):
        option = "--hardware" if args.hardware else "--dollars-per-hour"
        raise UserError(f"{option} is for the planned run, which needs --with-model; add it, or leave {option} out.")


def _load(base: str | None, revision: str | None, with_model: bool) -> tuple[Any, Any]:
    """The engine, if the base is sampled, and the processor that counts tokens, if a base is named."""
    if base is None:
        return None, None
    path = base_source(base)
    if with_model:
        from inference.engine.engine import Engine

        engine = Engine.load(path, revision=revision)
        return engine, engine.tokenizer.processor
    from transformers import AutoProcessor

    try:
        return None, AutoProcessor.from_pretrained(path, revision=revision)
    except (OSError, ValueError) as error:
        at = f" at revision {revision}" if revision else ""
        raise UserError(
            f"--base is {base}{at}, whose processor cannot be loaded: {first_line(error)} Name a folder that has one, "
            "or a Hub id that this machine can reach."
        ) from error


def _plan(args: argparse.Namespace, base: str, config: DataConfig, report: AuditReport) -> RunConfig:
    """The planned run: the audit's options, else the defaults. Raises `UserError`."""
    values = {
        "base": base,
        "base_revision": args.base_revision,
        "data": config.model_dump(exclude_unset=True),
        "num_generations": args.num_generations,
        "prompts_per_step": args.prompts_per_step,
        "max_steps": args.max_steps or 0,
        "max_completion_length": args.max_completion_length,
        "warmup_steps": 0,
        "eval_rows": min(report.kept_rows["test"], RunConfig.model_fields["eval_rows"].default),
        "eval_conditions": "main",
    }
    return check_config(values)


def _with_rollouts(
    report: AuditReport, engine: Engine, processor: Any, plan: RunConfig, args: argparse.Namespace, on: Machine | None
) -> AuditReport:
    """The report with completions of the base and the estimate of the planned run."""
    from training.audit.sample import sample_rollouts

    train = load_rows(plan.data, processor).train
    rows = train.select(range(min(args.samples, len(train))))
    with tqdm(total=len(rows) * plan.num_generations, desc="completing", unit="completion") as bar:
        data = plan.data
        rollouts = sample_rollouts(engine, rows, plan, seed=data.seed, tolerance=data.tolerance, progress=bar.update)
    settings = load_settings()
    store = RunStore(settings.home)
    estimate = estimate_run(
        plan,
        store.list() if store.exists() else (),
        on or machine_here(),
        doctor_folders=report_folders(settings),
        train_rows=len(train),
        dollars_per_hour=args.dollars_per_hour,
    )
    return replace(report, rollouts=rollouts, estimate=estimate)
