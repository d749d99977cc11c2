"""The test of whether training taught or sharpened: pass@1, majority and pass@k of the base and of each checkpoint.

    checkpoints.json        the figures by step, for the page: a run's in adapter/learn/
    checkpoints.png         the same as a plot

A checkpoint that is right more often but has no right answer among eight samples where the base has none either was
sharpened: what it answers the base could answer too (Yue et al. 2025, arXiv 2504.13837). pass@k is the unbiased
estimate of Chen et al. 2021. A killed evaluation goes on from its finished batches.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from inference.adapters.record import adapter_digest
from inference.common.errors import UserError
from inference.common.files import Json, write_whole
from inference.model.lora_file import CONFIG_FILE
from inference.prompt.format import THINK_PROMPT
from training.evaluation.checkpoint_choice import candidates, take_adapter
from training.evaluation.evaluate import ADAPTER_NAME, EvaluationConfig, Outputs, fingerprint_of, open_evaluation
from training.evaluation.held_out import clusters_of
from training.evaluation.plots import draw_checkpoints
from training.evaluation.resume import Parts
from training.evaluation.scoring import count_votes, evaluate, progress_bar
from training.evaluation.statistics import Clusters, PairedDifference, mean_share, paired_difference, pass_at_k, share
from training.runs.folder import RunFolder, step_of
from training.runs.provenance import model_digest

if TYPE_CHECKING:
    from training.evaluation.conditions import Condition
    from training.evaluation.outcomes import Outcomes

CONDITIONS = ("base-sampled", "base-forced-sampled", "adapter-sampled")
FORCED = "base-forced-sampled"
"""The base that is made to think: what it solves so, training did not have to teach."""
MAX_K = 8
"""The k of pass@k and of the majority; fewer where fewer samples were taken."""


@dataclass(frozen=True)
class Scores:
    """One model's rates on each row, as fractions of 1: the same rows for every model."""

    k: int
    once: tuple[float, ...]
    """pass@1"""
    passed: tuple[float, ...]
    """pass@k"""
    majority: tuple[bool, ...]
    """Whether the majority of the first k samples is right."""

    @classmethod
    def of(cls, outcomes: Outcomes, condition: str) -> Self:
        rows = outcomes.samples.get(condition) or [[each] for each in outcomes.outcomes[condition]]
        num, rights = len(rows[0]), [sum(each.lenient for each in row) for row in rows]
        k = min(MAX_K, num)
        once, passed = (tuple(pass_at_k(right, num, each) for right in rights) for each in (1, k))
        return cls(k, once, passed, tuple(vote.is_right for vote in count_votes([row[:k] for row in rows])))

    def to_json(self, num_samples: int, clusters: Clusters) -> dict[str, list[float]]:
        """Each rate with the ends of its interval."""
        found = {
            "pass@1": mean_share(self.once, num_samples, clusters),
            f"majority@{self.k}": share(self.majority, clusters),
            f"pass@{self.k}": mean_share(self.passed, max(1, num_samples // self.k), clusters),
        }
        return {name: [round(each, 4) for each in (e.value, e.low, e.high)] for name, e in found.items()}


def kept_checkpoints(place: RunFolder | Path) -> list[Path]:
    """The adapters of a run's checkpoints, or those in a folder (`step-005`, `checkpoint-5`), by step.

    Raises `UserError` if there is none.
    """
    if isinstance(place, RunFolder):
        found = {step_of(path): path for path in [*place.complete_checkpoints(), *candidates(place)]}
        where = f"the run in {place.path} keeps no checkpoint; train with --keep-checkpoints none"
    else:
        found = {step_of(path): path for path in place.glob("*-*") if (path / CONFIG_FILE).is_file()}
        where = f"{place} has no folder such as step-005 or checkpoint-5 with an {CONFIG_FILE}; name another one"
    if not (steps := sorted(step for step in found if step >= 0)):
        raise UserError(where)
    return [found[step] for step in steps]


def evaluate_checkpoints(
    config: EvaluationConfig, checkpoints: Sequence[Path], outputs: Outputs, system_prompt: str = THINK_PROMPT
) -> Json:
    """Samples the base and each checkpoint on the same rows; returns and writes the figures, and prints the sentence.

    `system_prompt` is the text that the checkpoints were trained with, where they do not say it themselves.
    """
    engine, held_out = open_evaluation(config)
    rows, num = held_out.rows, config.samples
    of_base = [condition for condition in config.conditions if not condition.tuned]
    of_adapter = [condition for condition in config.conditions if condition.tuned]
    bar = progress_bar(len(rows) * num * (len(of_base) + len(checkpoints)), shown=True)
    kept: list[Parts] = []
    with ExitStack() as stack:
        stack.enter_context(bar)

        def ask(conditions: list[Condition], adapter: Path | None) -> Outcomes:
            if adapter:
                engine.add_adapter(ADAPTER_NAME, adapter)
            if outputs.target:
                digest = {"adapter": model_digest(adapter) if adapter else None}
                kept.append(Parts.beside(outputs.target, fingerprint_of(config, held_out, engine) | digest))
                stack.callback(kept[-1].close)
            return evaluate(
                engine,
                rows,
                conditions,
                adapter=ADAPTER_NAME if adapter else None,
                max_new_tokens=config.max_new_tokens,
                seed=config.seed,
                batch_size=config.batch_size,
                num_samples=num,
                progress=bar,
                parts=kept[-1] if outputs.target else None,
                tolerance=config.data.tolerance if config.data else 0.0,
            )

        base = ask(of_base, None)
        scores = {0: Scores.of(base, of_base[0].name)}
        forced = Scores.of(base, FORCED)
        for checkpoint in checkpoints:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            take_adapter(checkpoint, folder, config.base, system_prompt)
            scores[step_of(checkpoint)] = Scores.of(ask(of_adapter, folder), of_adapter[0].name)
        clusters = clusters_of(rows)
        found = _figures(scores, forced, num, clusters) | {
            "about": held_out.about
            | {"temperature": of_base[0].temperature, "seed": config.seed, "max_new_tokens": config.max_new_tokens}
            | {"adapters": {step_of(path): adapter_digest(path)[:16] for path in checkpoints}}
        }
        if outputs.target:
            write_whole(outputs.target, json.dumps(found, indent=1) + "\n")
        for parts in kept:
            parts.delete()
    print(f"\n{found['sentence']}")
    if outputs.plots:
        path = outputs.plots / f"{outputs.target.stem if outputs.target else 'checkpoints'}.png"
        draw_checkpoints(found, path)
        print(f"plot: {path}")
    return found


def _figures(scores: dict[int, Scores], forced: Scores, num_samples: int, clusters: Clusters) -> Json:
    """The rates by step, those of the base that is made to think, and what they say; step 0 is the base."""
    by_step = [each.to_json(num_samples, clusters) for each in scores.values()]
    return {
        "steps": list(scores),
        **{name: [each[name] for each in by_step] for name in by_step[0]},
        "forced": forced.to_json(num_samples, clusters),
        "num_rows": len(forced.once),
        "num_samples": num_samples,
        "sentence": sentence(scores[0], forced, scores[max(scores)], clusters),
    }


def sentence(base: Scores, forced: Scores, last: Scores, clusters: Clusters) -> str:
    """The verdict on whether the last checkpoint was taught or sharpened, by paired differences with 95 % intervals.

    A difference counts where its interval and the sign test over the rows agree.
    """
    once, passed = (paired_difference(a, b, clusters) for a, b in ((last.once, base.once), (last.passed, base.passed)))
    over_forced = paired_difference(last.passed, forced.passed, clusters)
    name, n = f"pass@{last.k}", f"{len(base.once):,} rows"
    made = "the base that is made to think"
    if passed.is_up and over_forced.is_up:
        return (
            f"Training taught: on {n} {name} rose by {_points(passed)}, and by {_points(over_forced)} over {made}: it "
            f"solves problems that the base does not solve in {last.k} tries."
        )
    if once.is_up:
        rest = f"{name} is not shown to have risen, {_points(passed, '+')}"
        if passed.is_up:
            rest = f"{name}, up by {_points(passed)}, is not above that of {made} ({_points(over_forced, '+')})"
        lost = f"; {name} fell, so it lost answers that the base had" if passed.is_down else ""
        return (
            f"Training sharpened: on {n} pass@1 rose by {_points(once)}, but {rest}: nothing shows that it "
            f"solves what the base does not solve in {last.k} tries{lost}."
        )
    if once.is_down:
        return f"It got worse: on {n} pass@1 changed by {_points(once, '+')}."
    return f"{n} cannot tell: pass@1 changed by {_points(once, '+')}, {name} by {_points(passed, '+')}."


def _points(difference: PairedDifference, sign: str = "") -> str:
    value, low, high = (100 * number for number in (difference.value, difference.low, difference.high))
    return f"{value:{sign}.1f} points ({low:{sign}.1f} to {high:{sign}.1f})"
