"""Scores a base and its adapter on held-out problems, with the grader that training uses.

    python -m training evaluate --rows 480
    python -m training evaluate --run runs/first --role validation
    python -m training evaluate --run runs/first --checkpoints
    python -m training evaluate --base Qwen/Qwen2.5-VL-3B-Instruct --benchmark mathvista --rows 200

On the same rows: the base asked to answer directly, the base with the thinking prompt, the base made to think, and to
think with care, the adapter. More conditions (`training.evaluation.conditions`) tell whether they look, and what
sampling adds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from inference.adapters.record import LEARN_FOLDER
from inference.adapters.versions import update_records
from inference.common.errors import UserError
from inference.common.settings import STARTER, load_settings
from inference.prompt.format import THINK_PROMPT
from training.config.data_config import read_data_config
from training.config.options import add_data_options, data_values, option
from training.config.run_config import RunConfig
from training.data.benchmarks import BENCHMARKS, benchmark_configs
from training.evaluation.checkpoints import CONDITIONS as SAMPLED
from training.evaluation.checkpoints import evaluate_checkpoints, kept_checkpoints
from training.evaluation.conditions import CONDITIONS, GROUPS, choose_conditions
from training.evaluation.evaluate import (
    DEFAULT_SAMPLES,
    MIN_TOKENS,
    EvaluationConfig,
    Outputs,
    make_report,
    run_evaluation,
    run_outputs,
)
from training.evaluation.held_out import ROLES
from training.evaluation.outcomes import COMPARED
from training.runs.folder import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options; those of the data are the fields of `DataConfig`, as for `train`."""
    run = "take base, adapter and data from this run's folder, and put the report there"
    parser.add_argument("--run", type=Path, metavar="FOLDER", help=run)
    parser.add_argument("--base", help="local path or Hub id of the base (starter)")
    parser.add_argument("--base-revision", metavar="NAME", help="branch, tag or commit of a base on the Hub")
    parser.add_argument("--adapter", help="path of the adapter (the starter's own, for the starter); `none` for none")
    role = f"which rows: {' or '.join(ROLES)}; choices are made on validation (test)"
    parser.add_argument("--role", default="test", help=role)
    parser.add_argument(
        "--rows", type=int, help="limit of rows (the run's eval_rows; else all, or 480 of the starter problems)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of rows and of sampling (0)")
    tokens = f"limit of a completion (the run's own, {MIN_TOKENS} at least)"
    parser.add_argument("--max-new-tokens", type=int, help=tokens)
    parser.add_argument("--batch-size", type=int, default=64, help="rows in one decode (64)")
    names = f"some of: {', '.join(c.name for c in CONDITIONS)}; or of the groups {', '.join(GROUPS)} (all)"
    parser.add_argument("--conditions", nargs="+", default=["all"], metavar="NAME", help=names)
    samples = f"completions of each row where it is sampled, for pass@k and the majority ({DEFAULT_SAMPLES})"
    parser.add_argument("--samples", type=int, help=samples)
    careful = "how base-careful's completions begin: <think> and the base's most careful first words"
    parser.add_argument("--careful", metavar="TEXT", help=careful)
    parser.add_argument("--temperature", type=float, default=1.0, help="of the sampled conditions (1.0)")
    parser.add_argument("--output", type=Path, help="write the report here as JSON; a killed evaluation goes on there")
    plots = "folder for the pictures (that of --output; the run's folder); `none` for none"
    parser.add_argument("--plots", metavar="FOLDER", help=plots)
    parser.add_argument("--completions", action="store_true", help="keep every completion in the JSON")
    checkpoints = (
        "pass@1, majority and pass@8 of the base and of each kept checkpoint: of --run, or those in this folder"
    )
    names = f"a public benchmark instead of data: {', '.join(BENCHMARKS)} (--subset for one subject of mmmu)"
    parser.add_argument("--benchmark", metavar="NAME", help=names)
    parser.add_argument("--checkpoints", nargs="?", const="", metavar="FOLDER", help=checkpoints)
    add_data_options(parser, "data (the starter problems unless one of these is given)")


def main(args: argparse.Namespace) -> int:
    """Evaluates as the options say."""
    if args.checkpoints is not None:
        _evaluate_checkpoints(args)
    else:
        make_report(*read_options(args))
    if args.run:
        update_records(load_settings().home, RunFolder.open(args.run)[0].adapter)
    return 0


def _evaluate_checkpoints(args: argparse.Namespace) -> None:
    if args.adapter is not None or args.conditions != ["all"]:
        raise UserError("--checkpoints has its own adapters and conditions; leave --adapter and --conditions out")
    if not args.checkpoints and not args.run:
        raise UserError("--checkpoints needs a folder with checkpoints, or --run")
    run = RunFolder.open(args.run) if args.run else None
    paths = kept_checkpoints(Path(args.checkpoints) if args.checkpoints or run is None else run[0])
    if run and args.output is None:
        own = run[0].adapter / LEARN_FOLDER / "checkpoints.json"  # where the page reads it
        args.output = run[0].path / f"checkpoints-{args.benchmark}.json" if args.benchmark else own
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.plots = args.plots or str(run[0].path)
    args.adapter, args.conditions = str(paths[-1]), list(SAMPLED)
    config, outputs = read_options(args)
    evaluate_checkpoints(config, paths, outputs, run[1].system_prompt_text if run else THINK_PROMPT)


def read_options(args: argparse.Namespace) -> tuple[EvaluationConfig, Outputs]:
    """The evaluation that the options ask for, and its outputs. Raises `UserError`."""
    data = data_values(args)
    if args.benchmark and args.role != "test":
        raise UserError(f"--role is {args.role}, and of a benchmark all rows are test rows; leave --role out")
    common = {
        "role": args.role,
        "seed": args.seed,
        "batch_size": args.batch_size,
        "conditions": tuple(choose_conditions(args.conditions, args.temperature)),
        "num_samples": args.samples,
    }
    optional = {"careful": args.careful} | {
        "careful": args.careful,
        "num_rows": args.rows,
        "max_new_tokens": args.max_new_tokens,
        "revision": args.base_revision,
    }
    common |= {name: value for name, value in optional.items() if value is not None}
    if args.benchmark:
        common |= {"benchmark": {"name": args.benchmark} | data, "role": "test"}
        common["data"] = benchmark_configs(args.benchmark, **data)[0]
        data = {}
    folder, config = RunFolder.open(args.run) if args.run else (None, None)
    if folder and config:
        if data:
            raise UserError(f"--run takes the data from the run; leave {option(f'data.{next(iter(data))}')} out")
        evaluation = _run_evaluation(args, folder, config, common)
    else:
        evaluation = EvaluationConfig(
            base=args.base or "starter",
            adapter=_adapter(args.adapter, args.base or "starter"),
            **({"max_new_tokens": MIN_TOKENS, "data": read_data_config(**data) if data else None} | common),
        )
    _check_conditions(args, evaluation)
    return evaluation, _outputs(args, evaluation, folder)


def _run_evaluation(
    args: argparse.Namespace, folder: RunFolder, config: RunConfig, common: dict[str, Any]
) -> EvaluationConfig:
    adapter: str | Path | None = folder.adapter if args.adapter is None else _adapter(args.adapter, config.base)
    if adapter == folder.adapter and not (folder.adapter / "adapter_config.json").is_file():
        checkpoint = folder.newest_checkpoint()
        other = f", or take its newest checkpoint: --adapter {checkpoint}" if checkpoint else ""
        status = folder.status().get("status", "not started")
        raise UserError(
            f"the run in {folder.path} has no adapter yet (it is {status}); finish it with train --resume{other}"
        )
    if args.base:  # the run's revision is of the run's base
        common |= {"base": args.base, "revision": args.base_revision}
    return run_evaluation(config, adapter, **common)


def _adapter(name: str | None, base: str) -> str | Path | None:
    """The adapter that `--adapter` names; without it the one in the base's folder, if there is one."""
    if name is not None:
        return None if name == "none" else name
    own = (STARTER if base == "starter" else Path(base)) / "adapter"
    return own if own.is_dir() else None


def _check_conditions(args: argparse.Namespace, evaluation: EvaluationConfig) -> None:
    """Raises `UserError` for a condition that is named and needs an adapter, if there is none."""
    names = [c.name for c in evaluation.conditions if c.tuned and c.name in args.conditions]
    if names and not evaluation.adapter:
        raise UserError(f"the condition {names[0]} needs an adapter; give --adapter, or leave it out")


def _outputs(args: argparse.Namespace, evaluation: EvaluationConfig, folder: RunFolder | None) -> Outputs:
    """The outputs; a run's report goes beside its adapter, one on validation rows into its folder."""
    target, plots = args.output, None if args.plots in (None, "none") else Path(args.plots)
    whole = set(COMPARED) <= {c.name for c in evaluation.conditions}
    if folder and target is None and whole and evaluation.adapter == folder.adapter:
        own = run_outputs(folder, args.benchmark or evaluation.role)
        target, default_plots = own.target, own.plots
    else:
        default_plots = target.absolute().parent if target else None
    if args.plots is None:
        plots = default_plots
    return Outputs(target, plots, args.completions)
