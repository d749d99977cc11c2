"""Comparison of a finished run's adapter with the served one on the validation rows, and its promotion.

    compare_with_served(Path("runs/20261122-143000-a1b2"), load_settings())     # writes adapter/comparison.json
    conclude(Path("runs/20261122-143000-a1b2"))     # compares, and promotes if requested and it is better

Both adapters answer the same rows greedily with the thinking prompt; where no adapter is served, the run's is compared
with the base alone. A comparison that was killed goes on where it was; one of the same two adapters on the same rows is
not made again.

The rule of promotion looks at the 95 % intervals of strict and of lenient accuracy, new less served. The new adapter is
better where neither interval reaches below zero and at least one lies wholly above zero. Bonett and Price's interval
(`training.evaluation.statistics`) has a width even where no row changed, and then reaches below zero for want of
knowledge, not of rows that were lost. So where no row was gained and none lost, the interval counts as [0, 0]: such a
measure is no reason for the adapter, and none against it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from inference.adapters.record import COMPARISON_FILE, adapter_digest, comparison_text, read_beside, same_base
from inference.adapters.served import ServedMeanwhile, Serving, serving
from inference.adapters.served import promote as promote_version
from inference.adapters.versions import now
from inference.common.errors import UserError
from inference.common.files import Json, write_json
from inference.common.settings import Settings, base_source, load_settings
from inference.engine.engine import Engine
from inference.model.lora_file import WEIGHTS_FILE
from training.config.run_config import RunConfig
from training.data.dataset import Splits, load_rows
from training.evaluation.conditions import ADAPTER_THINKING, BASE_THINKING
from training.evaluation.evaluate import completion_limit
from training.evaluation.held_out import STARTER_ROWS, VALIDATION_SEED, clusters_of, draw_rows, rows_digest
from training.evaluation.measures.outside import NUM_ROWS, Outside, ask_outside
from training.evaluation.outcomes import MEASURES, GradedCompletion, graded_difference, graded_share
from training.evaluation.resume import Parts
from training.evaluation.scoring import evaluate
from training.evaluation.statistics import Clusters, PairedDifference
from training.runs.folder import RunFolder
from training.runs.provenance import model_digest
from training.starter.problems import load_problems

if TYPE_CHECKING:
    from datasets import Dataset

Comparison = Json
"""The content of `comparison.json`."""
NO_ROWS = (
    "{} has no validation rows as it is split, and test rows are not for choosing. Train with, say, "
    "--validation-rows 200, or promote it by hand."
)
log = logging.getLogger(__name__)
_ATTEMPTS = 3
"""Comparisons at most, where another adapter is promoted meanwhile each time."""


def compare_with_served(
    run_folder: Path, settings: Settings, *, engine: Engine | None = None, splits: Splits | None = None
) -> Comparison:
    """Compares, and returns the content of `adapter/comparison.json`.

    `is_better` is the rule's verdict, `None` where nothing could be compared; `reason` has the figures in words.
    `engine` has the run's base and `splits` its rows; without them they are loaded. Raises `UserError` for a
    folder without a finished run.
    """
    folder, config = RunFolder.open(run_folder)
    if not (folder.adapter / WEIGHTS_FILE).is_file():
        raise UserError(f"the run in {run_folder} has no adapter yet; finish it with train --resume {run_folder}")
    served, earlier = serving(settings), _earlier(folder)
    about = _about(folder, served)
    if about["adapter"] == served.digest:  # the comparison was made before the promotion
        return earlier or _write(folder, about, None, "Its weights are those that were served when its run ended.")
    if not same_base(config.base, settings.base):
        base = Path(settings.base).name
        return _write(folder, about, None, f"It is an adapter of {config.base}, and {base} is served here.")
    rows = validation_rows(config, splits)
    if rows is None:
        return _write(folder, about, None, NO_ROWS.format(config.data.dataset))
    conditions = _conditions(config, rows)
    about |= {"dataset": Path(config.data.dataset).name, "num_rows": len(rows), "conditions": conditions}
    if earlier and _key(earlier) == _key(about):
        return earlier
    engine = engine or Engine.load(base_source(config.base), revision=config.base_revision)
    adapters = {"new": (folder.adapter, about["adapter"]), "served": (served.path, served.digest)}
    target = folder.adapter / COMPARISON_FILE
    outcomes, outside = _evaluate_both(engine, rows, adapters, conditions, target, config.data.tolerance)
    both, clusters = (outcomes["new"], outcomes["served"]), clusters_of(rows)
    strict, lenient = (graded_difference(*both, measure, clusters) for measure in ("strict", "lenient"))
    why = reason(strict, lenient, about["served"]["name"])
    if engine.repetition_penalty != 1:
        why += f" Both were asked with the base's repetition penalty, {engine.repetition_penalty:g}."
    if config.choose_checkpoint:
        why += " Its checkpoint was chosen on the same rows, which flatters it a little."
    if outside.has_changed:
        why += f" {outside.sentence}"
    figures = _figures(*both, clusters) | {"outside": outside.to_json()}
    return _write(folder, about | figures, is_better(strict, lenient), why)


def conclude(
    run_folder: Path, *, settings: Settings | None = None, engine: Engine | None = None, splits: Splits | None = None
) -> Comparison:
    """Compares, then promotes if requested and the rule allows it; returns the comparison.

    The last stage of a run, after its evaluation, which the promoted version contains. Its `decision` is `promoted` or
    `waits`. The request is in `request.json` of the run folder. After an obstacle (a full disk, `LOOKTHINK_ADAPTER`, an
    adapter promoted a moment ago) the adapter waits, and `outcome` names the obstacle. Raises `UserError` where nothing
    can be compared.
    """
    settings = settings or load_settings()
    request = read_request(run_folder)
    for _ in range(_ATTEMPTS):
        comparison = compare_with_served(run_folder, settings, engine=engine, splits=splits)
        if comparison["decision"] == "promoted" or comparison["adapter"] == serving(settings).digest:
            return _decide(run_folder, comparison, "promoted", "It is the served one.")
        if request.get("promote") is not True:
            return _decide(run_folder, comparison, "waits", "It waits: automatic promotion was not requested.")
        if not comparison["is_better"]:
            return _decide(run_folder, comparison, "waits", "It waits: it was to be promoted only if it is better.")
        try:
            name = _promote(run_folder, comparison, settings, request.get("asked_by"))
            return _decide(run_folder, comparison, "promoted", f"It was promoted, as requested: {name}.")
        except ServedMeanwhile:
            continue  # with a comparison with that one
        except UserError as error:
            return _decide(run_folder, comparison, "waits", f"It waits, since it could not be promoted: {error}")
    return _decide(run_folder, comparison, "waits", "It waits: each time, another adapter was promoted meanwhile.")


def conclude_run(run_folder: Path, splits: Splits | None = None) -> bool:
    """Runs `conclude` and prints the result; an obstacle to the comparison is logged and does not fail the run.

    Returns true if the adapter is the served one now.
    """
    try:
        comparison = conclude(run_folder, splits=splits)
        print(comparison_text(comparison), flush=True)
    except UserError as error:
        log.error("not compared with the served adapter: %s", error)
        return False
    return comparison["decision"] == "promoted"


def rule_interval(difference: PairedDifference) -> tuple[float, float]:
    """The interval that the rule uses, low and high: [0, 0] where no row changed.

    >>> from training.evaluation.statistics import paired_difference
    >>> rule_interval(paired_difference([True, False], [True, False]))
    (0.0, 0.0)
    """
    return (difference.low, difference.high) if difference.gained or difference.lost else (0.0, 0.0)


def is_better(strict: PairedDifference, lenient: PairedDifference) -> bool:
    """True if the rule lets the new adapter be promoted. Never true for both directions of one comparison."""
    lows = [rule_interval(difference)[0] for difference in (strict, lenient)]
    return min(lows) >= 0 and max(lows) > 0


def reason(strict: PairedDifference, lenient: PairedDifference, against: str) -> str:
    """The figures and the rule's conclusion, in a few sentences."""
    measures = {"strict": strict, "lenient": lenient}
    figures = ", ".join(f"{name} accuracy {difference}" for name, difference in measures.items())
    start = f"On {strict.num_rows:,} validation rows, in points against {against}: {figures}."
    if is_better(strict, lenient):
        return f"{start} Neither interval reaches below zero and one lies above it: it is better."
    below = [name for name, difference in measures.items() if rule_interval(difference)[0] < 0]
    if not below:
        return f"{start} No row came out otherwise: neither is better."
    worse = [name for name, difference in measures.items() if difference.high < 0]
    if worse:
        return f"{start} It is worse in {' and '.join(worse)} accuracy."
    reaches = "intervals reach" if len(below) > 1 else "interval reaches"
    return f"{start} In {' and '.join(below)} accuracy the {reaches} below zero: it is not clearly better."


def read_request(run_folder: Path) -> Json:
    """The run's request, with `promote` and `asked_by`; empty where there is none or it is broken."""
    return read_beside(run_folder, "request.json")


def validation_rows(config: RunConfig, splits: Splits | None, num_rows: int | None = None) -> Dataset | None:
    """The run's validation rows, at most `num_rows`; `None` if there are none.

    The starter's problems are generated from a random stream of their own: `num_rows`, or as its evaluation has.
    """
    if config.data.is_starter and not config.data.validation_rows:
        return load_problems("test", num_rows or config.eval_rows or STARTER_ROWS, config.data.seed + VALIDATION_SEED)
    if splits is None:
        processor = None
        if config.data.max_prompt_tokens is not None:
            from transformers import AutoProcessor

            processor = AutoProcessor.from_pretrained(base_source(config.base), revision=config.base_revision)
        splits = load_rows(config.data, processor, system_prompt=config.system_prompt_text)
    return draw_rows(splits.validation, num_rows) if len(splits.validation) else None


def _conditions(config: RunConfig, rows: Dataset) -> Json:
    """The conditions of the completions, apart from the adapters, as plain data."""
    return {
        "base": model_digest(base_source(config.base), config.base_revision),
        "rows": rows_digest(rows),
        "seed": config.seed,
        "max_new_tokens": completion_limit(config),
        "machine": f"{'cuda' if torch.cuda.is_available() else 'cpu'}, torch {torch.__version__}",
    }


def _evaluate_both(
    engine: Engine,
    rows: Dataset,
    adapters: Mapping[str, tuple[Path | None, str | None]],
    conditions: Json,
    target: Path,
    tolerance: float,
) -> tuple[dict[str, list[GradedCompletion]], Outside]:
    """The outcomes of each adapter by name, row by row, greedy with the thinking prompt, and those outside the reward.

    `adapters` are folder and digest, both `None` for the base alone; `conditions` are those of `_conditions`. Finished
    batches are kept beside the file `target` until both are done, and used again after a kill.
    """
    outcomes, all_parts = {}, []
    try:
        for name, (path, digest) in adapters.items():
            condition = ADAPTER_THINKING if path else BASE_THINKING
            if path:
                engine.add_adapter(name, path)
            all_parts.append(Parts.beside(target, {**conditions, "adapter": digest}))
            report = evaluate(
                engine,
                rows,
                [condition],
                adapter=name if path else None,
                max_new_tokens=conditions["max_new_tokens"],
                seed=conditions["seed"],
                parts=all_parts[-1],
                tolerance=tolerance,
            )
            outcomes[name] = report.outcomes[condition.name]
        served = "served" if adapters["served"][0] else None
        outside = ask_outside(engine.generate, rows[:NUM_ROWS], after="new", before=served, tolerance=tolerance)
        for parts in all_parts:
            parts.delete()
        for other in target.parent.glob(f"{target.stem}.*.parts.jsonl"):  # with an adapter that was served before
            other.unlink()
    finally:
        for parts in all_parts:
            parts.close()
        for name in set(adapters) & set(engine.adapters):
            engine.remove_adapter(name)
    return outcomes, outside


def _figures(new: Sequence[GradedCompletion], served: Sequence[GradedCompletion], clusters: Clusters) -> Json:
    """The shares of both, their paired differences, and the intervals that the rule uses, as plain data."""
    differences = {name: graded_difference(new, served, name, clusters) for name in MEASURES}
    intervals = {name: rule_interval(differences[name]) for name in ("strict", "lenient")}
    return {
        "new_scores": {name: graded_share(new, name, clusters).to_json() for name in MEASURES},
        "served_scores": {name: graded_share(served, name, clusters).to_json() for name in MEASURES},
        "differences": {name: difference.to_json() for name, difference in differences.items()},
        "counted": {name: [round(end, 6) for end in ends] for name, ends in intervals.items()},
    }


def _promote(run_folder: Path, comparison: Comparison, settings: Settings, requested_by: object) -> str | None:
    name = Path(run_folder).absolute().name
    by = f"{requested_by}, by the run {name}" if isinstance(requested_by, str) and requested_by else f"the run {name}"
    return promote_version(
        settings.home,
        RunFolder(run_folder).adapter,
        by[:200],
        settings=settings,
        instead_of=comparison["served"]["digest"],
        digest=comparison["adapter"],
    ).name


def _earlier(folder: RunFolder) -> Comparison | None:
    """The earlier comparison, if it is complete."""
    earlier = read_beside(folder.adapter, COMPARISON_FILE)
    return earlier if {"adapter", "served", "is_better", "decision", "reason"} <= earlier.keys() else None


def _key(comparison: Comparison) -> tuple[object, ...]:
    """The values that decide its figures; the served adapter's name is none of them."""
    served = comparison["served"]
    return comparison["adapter"], isinstance(served, dict) and served.get("digest"), comparison.get("conditions")


def _about(folder: RunFolder, served: Serving) -> Json:
    return {
        "run": folder.path.absolute().name,
        "adapter": adapter_digest(folder.adapter),
        "served": {"name": served.name or "the base alone", "digest": served.digest},
    }


def _write(folder: RunFolder, about: Json, better: bool | None, why: str) -> Comparison:
    comparison = {**about, "is_better": better, "decision": "waits", "reason": why, "at": now()}
    write_json(folder.adapter / COMPARISON_FILE, comparison)
    return comparison


def _decide(run_folder: Path, comparison: Comparison, decision: str, why: str) -> Comparison:
    """Adds the decision to the comparison and to its file."""
    if comparison["decision"] == decision == "promoted" or comparison.get("outcome") == why:
        return comparison
    decided = {**comparison, "decision": decision, "outcome": why}
    write_json(RunFolder(run_folder).adapter / COMPARISON_FILE, decided)
    return decided
