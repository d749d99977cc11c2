"""Diagnosis of a run from its metrics: each problem with its figures and a remedy.

    >>> stuck = [{"step": s, "rewards/format_reward/mean": 0.0} for s in range(1, 41)]
    >>> [finding.name for finding in diagnose(stuck)]
    ['format stuck']

The history is `metrics.jsonl`: one dictionary a step, with TRL's names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inference.common.files import Json
from training.runs.metrics import METRICS, number

WINDOW = 20
"""Steps that are judged together: the last ones against the first or the best ones."""
UNSCORED_STEPS = 3
"""Logged steps without any reward after which a run is said to have none."""
FORMAT, ACCURACY, NO_SIGNAL, LENGTH = (
    METRICS[name].column for name in ("format", "accuracy", "zero_std_share", "completion_tokens")
)

SAME_TEXT, GOLDS_PER_ANSWER = "accuracy/same_text", "accuracy/golds_per_answer"
"""Logged by `accuracy_reward`: the share of answers that are the gold's text, and golds under one rewarded answer."""
History = Sequence[Json]


@dataclass(frozen=True)
class Finding:
    """A problem of a run: its short name, the figures that show it, and the remedy."""

    name: str
    seen: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.seen} {self.remedy}"


def diagnose(history: History, groups: Sequence[Json] = ()) -> list[Finding]:
    """All problems of a run so far; empty while it goes well or is too young to tell.

    `groups` are lines of `rollouts.jsonl`, from which examples are taken.
    """
    findings = [finding for check in CHECKS if (finding := check(history)) is not None]
    hack = _one_answer_for_many_golds(history, groups)
    return [*findings, hack] if hack else findings


def _values(history: History, key: str) -> list[float]:
    """The finite values of a metric, in order of the steps."""
    values = (row.get(key) for row in history)
    return [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _recent(history: History, key: str) -> float | None:
    """The mean over the last steps; `None` before there are enough of them."""
    values = _values(history, key)
    return _mean(values[-WINDOW:]) if len(values) >= WINDOW else None


def _not_finite(history: History) -> Finding | None:
    for row in history:
        for key in ("loss", "grad_norm"):
            value = row.get(key)
            if isinstance(value, float) and not math.isfinite(value):
                return Finding(
                    "not a number",
                    f"{key} was {value} at step {row.get('step')}.",
                    "Lower learning_rate in a new run from the last checkpoint before that step (--start-adapter).",
                )
    return None


def _unscored(history: History) -> Finding | None:
    """No completion has a reward: each reward function gave none (`None`) for each."""
    rewards = [row.get("reward") for row in history if "reward" in row][-UNSCORED_STEPS:]
    if len(rewards) < UNSCORED_STEPS or any(isinstance(r, int | float) and math.isfinite(r) for r in rewards):
        return None
    return Finding(
        "nothing is scored",
        f"no reward function gave a completion a number in the last {len(rewards)} logged steps: each returned None.",
        "Stop the run and correct the reward functions, or give rows that they can score.",
    )


def _no_signal(history: History) -> Finding | None:
    share = _recent(history, NO_SIGNAL)
    if share is None or share < 0.8:
        return None
    accuracy = _recent(history, ACCURACY)
    seen = f"every completion in {number(share, '%')} of groups got the same reward over the last {WINDOW} steps"
    if accuracy is not None and accuracy > 0.85:
        return Finding(
            "no signal",
            f"{seen}: the problems are too easy (accuracy {number(accuracy, '%')}).",
            "Stop here, or give harder problems; `audit --with-model` shows which have a pass rate between 0 and 1.",
        )
    if accuracy is not None and accuracy < 0.15:
        return Finding(
            "no signal",
            f"{seen}: the problems are too hard (accuracy {number(accuracy, '%')}).",
            "Give easier problems first (curriculum), more completions a group (num_generations), or a stronger base.",
        )
    return Finding(
        "no signal",
        f"{seen}: the problems are too easy or too hard, or the completions too alike.",
        "Raise num_generations or temperature, or leave out what the base always or never solves (curriculum).",
    )


def _cut_off(history: History) -> Finding | None:
    share = _recent(history, "completions/clipped_ratio")
    if share is None or share < 0.25:
        return None
    return Finding(
        "cut off",
        f"{number(share, '%')} of completions hit the length limit over the last {WINDOW} steps and were cut off.",
        "Raise max_completion_length, or add length_reward so that shorter ones pay.",
    )


def _format_stuck(history: History) -> Finding | None:
    form = _recent(history, FORMAT)
    if form is None or form > 0.02:
        return None
    return Finding(
        "format stuck",
        f"the format reward is {form:.3f} over the last {WINDOW} steps: the model never writes the tags, "
        "so there is nothing to reinforce.",
        "Add soft_format_reward (partial credit), raise temperature, or begin with an adapter that knows the tags.",
    )


def _accuracy_stuck(history: History) -> Finding | None:
    accuracy = _recent(history, ACCURACY)
    if accuracy is None or accuracy > 0.01:
        return None
    return Finding(
        "never right",
        f"accuracy is {accuracy:.3f} over the last {WINDOW} steps.",
        "Look at the rollouts' reasons: golds that cannot be verified (run the audit), or problems out of reach.",
    )


def _only_tags(history: History) -> Finding | None:
    form, accuracy = _values(history, FORMAT), _values(history, ACCURACY)
    if min(len(form), len(accuracy)) < 3 * WINDOW or _mean(form[-WINDOW:]) < 0.9:
        return None
    # from where the tags were learnt: before that, strict accuracy rises with them
    learnt = next(i for i in range(len(form)) if _mean(form[i : i + WINDOW]) >= 0.9)
    before, after = _mean(accuracy[learnt : learnt + WINDOW]), _mean(accuracy[-WINDOW:])
    if len(accuracy) - learnt < 2 * WINDOW or after >= before + 0.02 or after > 0.85:
        return None
    return Finding(
        "only the tags",
        f"format is {number(_mean(form[-WINDOW:]), '%')}, but since it was learnt accuracy "
        f"went from {number(before, '%')} to {number(after, '%')}.",
        "Compare lenient accuracy in the evaluation; lower format_reward's weight, or check what the base can see.",
    )


def _one_answer_for_many_golds(history: History, groups: Sequence[Json]) -> Finding | None:
    """A hack of the grader, as it looks from outside: one text that is rewarded whatever the gold is."""
    examples: dict[str, set[str]] = {}
    for group in groups:
        for completion in group.get("completions", []):
            if group.get("gold") and (completion.get("rewards") or {}).get("accuracy_reward") == 1.0:
                examples.setdefault(str(completion.get("answer")), set()).add(str(group["gold"]))
    answer = max(examples, key=lambda each: len(examples[each]), default="")
    num_golds = _recent(history, GOLDS_PER_ANSWER)
    if (num_golds is None or num_golds < 2.5) and len(examples.get(answer, ())) < 4:
        return None
    golds = ", ".join(f"“{gold}”" for gold in sorted(examples.get(answer, ()))[:3])
    example = f", such as “{answer}” under {golds}" if len(examples.get(answer, ())) > 1 else ""
    how_many = f"{num_golds:.1f}" if num_golds is not None else f"{len(examples[answer])}"
    return Finding(
        "one answer for many golds",
        f"one and the same answer was rewarded under {how_many} different golds in a step{example}.",
        "Stop the run and read the rollouts: the policy may have found a fault of the grader "
        "(`python -m training.grading.attack` looks for such answers).",
    )


def _rewards_without_substance(history: History) -> Finding | None:
    """Rewards that rise while lengths collapse, or while fewer answers equal the gold letter by letter."""
    rewards = _values(history, ACCURACY)
    if len(rewards) < 2 * WINDOW or _mean(rewards[-WINDOW:]) < _mean(rewards[:WINDOW]) + 0.1:
        return None
    rise = f"accuracy rose from {number(_mean(rewards[:WINDOW]), '%')} to {number(_mean(rewards[-WINDOW:]), '%')}"
    lengths, texts = _values(history, LENGTH), _values(history, SAME_TEXT)
    remedy = "Read the newest rollouts and their reasons before you trust the reward; the grader may be fooled."
    if len(lengths) >= 2 * WINDOW and _mean(lengths[-WINDOW:]) < 0.25 * _mean(lengths[:WINDOW]):
        fall = f"{_mean(lengths[:WINDOW]):.0f} to {_mean(lengths[-WINDOW:]):.0f} tokens"
        return Finding("rewards without substance", f"{rise} while completions shrank from {fall}.", remedy)
    if len(texts) >= 2 * WINDOW and _mean(texts[-WINDOW:]) < _mean(texts[:WINDOW]) - 0.05:
        fall = f"{number(_mean(texts[:WINDOW]), '%')} to {number(_mean(texts[-WINDOW:]), '%')}"
        seen = f"{rise} while the share of answers equal to the gold letter by letter fell from {fall}."
        return Finding("rewards without substance", seen, remedy)
    return None


def _collapse(history: History) -> Finding | None:
    rewards = _values(history, "reward")
    if len(rewards) < 2 * WINDOW:
        return None
    means = [_mean(rewards[i : i + WINDOW]) for i in range(len(rewards) - WINDOW + 1)]
    best = max(range(len(means)), key=means.__getitem__)
    spread = max(means) - min(0.0, min(means))
    if means[-1] >= means[best] - 0.3 * spread or spread <= 0:
        return None
    steps = [row.get("step", i + 1) for i, row in enumerate(history) if row.get("reward") is not None]
    return Finding(
        "reward collapse",
        f"the reward fell from {means[best]:.2f} (steps {steps[best]} to {steps[best + WINDOW - 1]}) "
        f"to {means[-1]:.2f}.",
        "Start a new run from one of their checkpoints (--start-adapter), with a lower learning_rate or beta above 0.",
    )


def _shrinking(history: History) -> Finding | None:
    lengths = _values(history, LENGTH)
    if len(lengths) < 2 * WINDOW:
        return None
    before, after = _mean(lengths[:WINDOW]), _mean(lengths[-WINDOW:])
    accuracy = _values(history, ACCURACY)
    better = len(accuracy) >= 2 * WINDOW and _mean(accuracy[-WINDOW:]) > _mean(accuracy[:WINDOW]) + 0.05
    if after > 0.5 * before or better:
        return None
    return Finding(
        "shrinking completions",
        f"the mean length fell from {before:.0f} to {after:.0f} tokens, and accuracy did not gain by it.",
        "The model is dropping its reasoning: check for a length penalty, and read the rollouts.",
    )


def _entropy(history: History) -> Finding | None:
    entropy = _values(history, "entropy")
    if len(entropy) < 2 * WINDOW:
        return None
    before, after = _mean(entropy[:WINDOW]), _mean(entropy[-WINDOW:])
    if after > 0.2 * before or after > 0.1:
        return None
    if (accuracy := _recent(history, ACCURACY)) is not None and accuracy > 0.85:
        return None
    return Finding(
        "entropy collapse",
        f"the entropy of the completions trained on fell from {before:.3f} to {after:.3f} nats a token: "
        "they have become all alike.",
        "Raise temperature or beta, or lower learning_rate, in a new run from an earlier checkpoint (--start-adapter).",
    )


def _frozen(history: History) -> Finding | None:
    norms, share = _values(history, "grad_norm"), _recent(history, NO_SIGNAL)
    if len(norms) < WINDOW or max(norms[-WINDOW:]) > 0 or (share is not None and share > 0.99):
        return None
    return Finding(
        "nothing is trained",
        f"the gradient was 0 in the last {WINDOW} steps although groups differ in reward.",
        "No trainable weight is reached: check lora_modules against the model's layer names.",
    )


CHECKS: tuple[Callable[[History], Finding | None], ...] = (
    _not_finite,
    _unscored,
    _frozen,
    _format_stuck,
    _accuracy_stuck,
    _no_signal,
    _cut_off,
    _collapse,
    _only_tags,
    _shrinking,
    _entropy,
    _rewards_without_substance,
)
