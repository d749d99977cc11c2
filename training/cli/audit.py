"""Audits a dataset before money is spent on it: `python -m training audit --dataset owner/name`.

Reads and cleans every row as training would, grades each gold against itself, measures pictures and prompts, and looks
for repeated rows and leaks. With `--with-model` a sample of the base's completions says how hard the problems are, and
with the folder of a run measured on this hardware, what a run would take.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from inference.common.errors import UserError, first_line
from inference.common.settings import base_source
from training.audit.page import render_page
from training.audit.sample import PlannedRun, project, sample_rollouts
from training.audit.scan import audit
from training.config.data_config import read_data_config
from training.config.options import add_data_options, data_values
from training.data.dataset import load_rows
from training.runs.estimate.measured import read_measured_run

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
    checkpointing = "whether the planned run has it (false)"
    model.add_argument("--gradient-checkpointing", choices=("true", "false"), default="false", help=checkpointing)
    model.add_argument("--measured-run", type=Path, help="folder of a run whose steps were timed on this hardware")
    model.add_argument("--dollars-per-hour", type=float, help="price of this hardware")


def main(args: argparse.Namespace) -> int:
    """Audits as the options say."""
    config = read_data_config(**data_values(args))
    base = args.base or ("starter" if config.is_starter else None)
    _check(args, base)
    measured = read_measured_run(args.measured_run) if args.measured_run else None
    engine, processor = _load(base, args.base_revision, args.with_model)
    report = audit(config, processor, num_examples=args.examples, progress=True)
    if base:
        report.about["base"] = Path(base).name if Path(base).exists() else base
    if engine is not None and base is not None:
        rows = load_rows(config, processor).train
        plan = _plan(args, base, config.max_pixels, len(rows))
        rows = rows.select(range(min(args.samples, len(rows))))
        with tqdm(total=len(rows) * args.num_generations, desc="completing", unit="completion") as bar:
            rollouts = sample_rollouts(
                engine, rows, plan, seed=config.seed, tolerance=config.tolerance, progress=bar.update
            )
        report = replace(report, rollouts=rollouts, projection=project(rollouts, plan, measured))
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
    if not args.with_model and (args.measured_run or price is not None):
        option = "--measured-run" if args.measured_run else "--dollars-per-hour"
        raise UserError(f"{option} is for the projection, which needs --with-model; add it, or leave {option} out.")


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


def _plan(args: argparse.Namespace, base: str, max_pixels: int | None, num_rows: int) -> PlannedRun:
    import torch

    return PlannedRun(
        num_generations=args.num_generations,
        prompts_per_step=args.prompts_per_step,
        num_steps=args.max_steps or math.ceil(num_rows / args.prompts_per_step),
        max_completion_length=args.max_completion_length,
        base=base,
        max_pixels=max_pixels,
        gradient_checkpointing=args.gradient_checkpointing == "true",
        num_gpus=torch.cuda.device_count() if torch.cuda.is_available() else 0,
        dollars_per_hour=args.dollars_per_hour,
    )
