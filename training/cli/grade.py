"""Grades pairs of gold and answer: `python -m training grade FILE`, a JSONL or CSV file with `gold` and `answer`.

Prints for each pair whether it is right, what was read of both, and the rule that decided. A column `problem` gives the
options of a choice; a column `expected` (1 or 0) is compared with the verdicts.

And `python -m training rewards RUN`, a run's id or its folder, scores recorded rollouts by other settings:

    python -m training rewards 20261122-143000-a1b2 --rewards "{accuracy_reward: 1, my_rewards:brevity_reward: 0.2}"
    python -m training rewards runs/first --tolerance 0.05 --max-completion-length 64
    python -m training rewards fresh --sample 16 --dataset owner/name       # a new folder, and no run

Prints what would have changed: rewards, advantages, groups with nothing to learn, completions that swap places. Grades
that must be made for it are kept, so that the Train tab (Rewards) and a second look have them at once.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

from tqdm import tqdm

from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.settings import Settings, load_settings
from training.config.data_config import STARTER
from training.config.options import add_config_options, config_values
from training.config.run_config import RunConfig, read_config_file
from training.grading.grader import Grade, grade_many
from training.launch.sampling import room
from training.learn.fresh_sample import check_size, forget_old, make_sample, sample_config
from training.learn.grades import GradeStore
from training.learn.regrading import Needs, grade_missing, lab_config, needed
from training.learn.reward_lab import Recorded, compare, figures, read_rollouts, scored
from training.runs.folder import RunFolder

_CHANGED = ("rewards", "max_completion_length")
MAX_FILE_BYTES = 100_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command that the parser is for, by the last word of its name."""
    if parser.prog.endswith(" rewards"):
        _add_rewards_arguments(parser)
        return
    parser.add_argument("file", type=Path, metavar="FILE", help="JSONL or CSV with gold and answer, perhaps problem")
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative error a number may have (0: exact)")
    parser.add_argument("--wrong", action="store_true", help="print the wrong ones only, or where expected differs")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def main(args: argparse.Namespace) -> int:
    """Runs the command. Of `grade` returns 1 if the file says what was expected and a verdict differs."""
    if args.command == "rewards":
        return _rewards(args)
    if not 0 <= args.tolerance < 1:
        raise UserError(f"The tolerance is {args.tolerance:g}; give a share from 0 to below 1, such as 0.05.")
    rows = read_pairs(args.file)
    pairs = [(row.get("solution", row.get("gold")), _completion(row["answer"])) for row in rows]
    grades = grade_many(pairs, "strict", [str(row.get("problem") or "") for row in rows], args.tolerance)
    num_unexpected = 0
    for row, grade in zip(rows, grades):
        expected = row.get("expected")
        is_unexpected = expected not in (None, "") and (str(expected) in ("1", "1.0", "true", "True")) != grade.correct
        num_unexpected += is_unexpected
        if not args.wrong or is_unexpected or (expected in (None, "") and not grade.correct):
            print(_line(row, grade, args.json) + ("  (expected otherwise)" if is_unexpected and not args.json else ""))
    num_right, num_failed = sum(g.correct for g in grades), sum(not g.is_graded for g in grades)
    if not args.json:
        print(
            f"{num_right} of {len(grades)} right, {len(grades) - num_right - num_failed} wrong, {num_failed} not graded"
        )
        if num_unexpected:
            print(f"{num_unexpected} not as expected")
    return 1 if num_unexpected else 0


def read_pairs(path: Path) -> list[dict[str, object]]:
    """The rows of a JSONL or CSV file; raises `UserError` if there is no such file, or a row lacks gold or answer."""
    if not path.is_file():
        raise UserError(f"There is no file {path}. Give a JSONL or CSV file with the columns gold and answer.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise UserError(f"{path} has {path.stat().st_size / 1e6:.0f} MB; at most {MAX_FILE_BYTES / 1e6:.0f} are read.")
    rows: list[dict[str, object]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() in (".jsonl", ".json", ".ndjson"):
                rows = [json.loads(line) for line in file if line.strip()]
            else:
                rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as JSONL or CSV: {error}.") from error
    for i, row in enumerate(rows, 1):
        if (
            not isinstance(row, dict)
            or not ({"gold", "solution"} & row.keys())
            or not isinstance(row.get("answer"), str)
        ):
            raise UserError(f"Row {i} of {path} lacks a gold or an answer in text; name the columns gold and answer.")
    return rows


def _completion(answer: object) -> str:
    text = str(answer)
    return text if "<answer>" in text or "<think>" in text else f"<think>-</think><answer>{text}</answer>"


def _line(row: dict[str, object], grade: Grade, as_json: bool) -> str:
    verdict = "right" if grade.correct else "wrong" if grade.is_graded else "not graded"
    if as_json:
        fields = {"verdict": verdict, "rule": grade.rule, "gold_read": grade.gold, "answer_read": grade.answer}
        return json.dumps(row | fields, ensure_ascii=False, default=str)
    return f"{verdict:10}  gold {grade.gold!r}  answer {grade.answer!r}  {grade.rule}"


def _add_rewards_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m training rewards`."""
    parser.add_argument("run", help="its id, as `runs` shows it, or its folder; with --sample a new folder")
    sample = "complete so many problems of --dataset by the served model first, and score these"
    parser.add_argument("--sample", type=int, metavar="PROBLEMS", help=sample)
    parser.add_argument("--dataset", default=STARTER, metavar="NAME", help="for --sample: as for a run (starter)")
    settings = argparse.ArgumentParser(add_help=False)
    add_config_options(settings)
    known = {action.dest: action for action in settings._actions}
    for name in (*_CHANGED, "data_tolerance"):
        action = known[name]
        parser.add_argument(*action.option_strings, dest=name, metavar="VALUE", help=f"{action.help}; the run's own")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with any of these three")


def _rewards(args: argparse.Namespace) -> int:
    """Grades what is missing, and prints the figures before and after."""
    settings = load_settings() if args.sample is not None else load_settings(has_gpu=False)
    if args.sample is not None:
        _sample(args, settings)
    path = Path(args.run) if Path(args.run).is_dir() else settings.home / "runs" / args.run
    folder, config = RunFolder.open(path)
    other = _other(config, args)
    recorded = read_rollouts(folder.path, config)
    if not recorded.num_completions:
        raise UserError(f"{folder.path} has no rollouts that can be read; wait for the first step")
    store = GradeStore(settings.home)
    after, before = (_graded(folder.path, recorded, config, each, store) for each in (other, config))
    for words in dict.fromkeys([*before.left_out_words, *after.left_out_words]):
        _note(words)
    change = compare(recorded, scored(recorded, config, before.rewards), scored(recorded, other, after.rewards))
    print(f"{recorded.num_completions:,} completions in {len(recorded.steps):,} groups")
    for name, was, now in figures(change, recorded):
        print(f"{name:55} {was:>10} {now:>10}")
    return 0


def _sample(args: argparse.Namespace, settings: Settings) -> None:
    """Makes a sample in a new folder where there is room for a second model."""
    path, plan = Path(args.run), sample_config(args.dataset, settings)
    check_size(args.sample)
    total = args.sample * plan.num_generations
    with room(settings.home, plan), tqdm(total=total, desc="sampling", unit="completion") as bar:
        make_sample(path, plan, args.sample, settings, bar.update)
    forget_old(path, settings.home)


def _graded(folder: Path, recorded: Recorded, config: RunConfig, wanted: RunConfig, store: GradeStore) -> Needs:
    """The rewards that a configuration asks for, with what is missing graded; what fails is noted if it can be."""
    needs = needed(recorded, config, wanted, store)
    if not needs.num_missing:
        return needs
    try:
        with tqdm(total=needs.num_missing, desc="grading", unit="grade") as bar:
            grade_missing(folder, config, wanted, needs, store, bar.update, _note)
    except UserError as error:
        if not needs.is_enough:
            raise
        _note(f"Not graded: {error}.")
    return needed(recorded, config, wanted, store)


def _note(words: str) -> None:
    """On the page too, which reads these lines (`training.learn.lab_process`)."""
    tqdm.write(f"note: {words}", file=sys.stderr)


def _other(config: RunConfig, args: argparse.Namespace) -> RunConfig:
    """The run's configuration with what options and file change; raises `UserError` for another setting."""
    values: Json = read_config_file(args.config) if args.config else {}
    data = values.get("data", {}) if isinstance(values.get("data", {}), dict) else {"data": None}
    if unknown := [*(values.keys() - {*_CHANGED, "data"}), *(data.keys() - {"tolerance"})]:
        raise UserError(
            f"{args.config} has {unknown[0]}; only rewards, max_completion_length and data.tolerance change"
        )
    own = config_values(args)
    values, data = values | own, data | own.get("data", {})
    rewards = values.get("rewards", config.rewards)
    if not isinstance(rewards, dict):
        raise UserError(f"rewards is {rewards!r}; give a mapping, as in {{accuracy_reward: 1}}")
    return lab_config(
        config,
        rewards,
        data.get("tolerance", config.data.tolerance),
        values.get("max_completion_length", config.max_completion_length),
    )
