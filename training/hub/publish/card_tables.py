"""The tables of a model card: evaluation with intervals, and how the adapter was trained.

They are made from `evaluation.json`, which somebody may have edited: what is no figure is left out, and what is text is
made plain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from training.hub.publish.package import Facts

MEASURES = {"format": "in the format", "strict": "strict accuracy", "lenient": "lenient accuracy"}
CONDITIONS = {
    "base-direct": "base, asked for the answer alone",
    "base-thinking": "base, asked to think first",
    "adapter-thinking": "**this adapter**, asked to think first",
}
_MAX_CHARS = 200


def evaluation_tables(evaluation: Mapping[str, Any]) -> str:
    """The verdict, the shares with their intervals, and the paired differences; empty without an evaluation."""
    shares = [[title, *_shares(evaluation, name)] for name, title in CONDITIONS.items() if overall(evaluation, name)]
    if not shares:
        return ""
    about = _mapping(evaluation.get("about"))
    rows, limit = number(about, "num_rows"), number(about, "max_new_tokens")
    on = f"On {rows:,.0f} held-out rows, greedy" if rows else "On held-out rows, greedy"
    parts = [f"**{plain(evaluation['verdict'])}**"] if isinstance(evaluation.get("verdict"), str) else []
    parts.append(f"{on}{f', at most {limit:,.0f} tokens' if limit else ''}; with 95 % intervals:")
    parts.append(table(["asked how", *MEASURES.values(), "tokens"], shares))
    differences = _mapping(evaluation.get("differences"))
    changed = [[title, *_difference(_mapping(differences.get(name)))] for name, title in MEASURES.items()]
    changed = [row for row in changed if row[1]]
    if changed:
        parts.append("This adapter less its base, both asked to think first, on the same rows, in points of 100:")
        parts.append(table(["", "difference", "gained", "lost", "p (exact McNemar)"], changed))
    parts.append(_MEANING)
    return "\n\n".join(parts)


_MEANING = (
    "*In the format*: the whole completion is one thought and one answer in their tags. *Strict*: the answer in its "
    "tags is right. *Lenient*: the last answer stated is right, tags or not."
)


def training_rows(facts: Facts) -> str:
    """What was trained, how, with what: a table of two columns."""
    config, versions = facts.config, facts.versions
    steps = f"{facts.step:,}" + (f" of {config.max_steps:,}" if config.max_steps else "")
    rows = [
        ["method", f"GRPO (loss `{config.loss_type}`, KL weight {config.beta:g}), in TRL"],
        ["steps", f"{steps}, {config.prompts_per_step} prompts × {config.num_generations} completions each"],
        ["rewards", ", ".join(f"{code(name)} × {weight:g}" for name, weight in config.rewards.items())],
        ["learning rate", f"{config.learning_rate:g}, {config.lr_schedule}, {config.warmup_steps} warm-up steps"],
        ["completions", f"at most {config.max_completion_length} tokens, temperature {config.temperature:g}"],
        ["LoRA", f"rank {config.lora_rank}, alpha {config.lora_alpha}, on {', '.join(config.lora_modules)}"],
        ["seed", str(config.seed)],
    ]
    last = facts.history[-1] if facts.history else {}
    if (reward := number(last, "reward")) is not None:
        rows.append(["mean reward at the last step", f"{reward:.3f}"])
    if seconds := [found for row in facts.history if (found := number(row, "step_time")) is not None]:
        rows.append(["time of all steps", f"{sum(seconds) / 60:,.1f} minutes"])
    for name, title in (("hardware", "hardware"), ("code_commit", "code")):
        if isinstance(versions.get(name), str):
            rows.append([title, code(versions[name])])
    libraries = [f"{n} {plain(versions[n])}" for n in ("torch", "transformers", "trl", "peft") if versions.get(n)]
    return table(["", ""], [*rows, *([["libraries", ", ".join(libraries)]] if libraries else [])])


def overall(evaluation: Mapping[str, Any], condition: str) -> Mapping[str, Any]:
    """The shares of a condition over all rows; empty where it was not asked."""
    return _mapping(_mapping(_mapping(evaluation.get("conditions")).get(condition)).get("overall"))


def number(found: Any, key: str, most: float | None = None) -> float | None:
    """A finite figure of a mapping, at most `most` in size; `None` for anything else."""
    value = found.get(key) if isinstance(found, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value if most is None or abs(value) <= most else None


def plain(text: Any) -> str:
    """A text that means nothing to Markdown, HTML or YAML, on one line and short.

    >>> plain("a|b <script>`x`")
    'a b script x'
    """
    kept = "".join(c if c.isprintable() and c not in '|<>`[]*\\"' else " " for c in str(text))
    return " ".join(kept.split())[:_MAX_CHARS]


def code(text: Any) -> str:
    """A text as code, in which brackets mean nothing.

    >>> print(code("train[:5%]"))
    `train[:5%]`
    """
    kept = "".join(c if c.isprintable() and c not in "|`<>" else " " for c in str(text))
    return f"`{' '.join(kept.split())[:_MAX_CHARS] or 'no name'}`"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the cells are plain already."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shares(evaluation: Mapping[str, Any], condition: str) -> list[str]:
    found = overall(evaluation, condition)
    cells = [_share(found.get(measure)) for measure in MEASURES]
    if condition == "base-direct":
        cells[0] = "not asked for"
    tokens = number(found, "mean_tokens")
    return [*cells, "" if tokens is None else f"{tokens:.0f}"]


def _share(found: Any) -> str:
    value, low, high = (number(found, key, 1.0) for key in ("value", "low", "high"))
    if value is None:
        return "not measured"
    return f"{100 * value:.1f} %" + ("" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})")


def _difference(of_measure: Mapping[str, Any]) -> list[str]:
    found = _mapping(of_measure.get("overall"))
    value, low, high = (number(found, key, 1.0) for key in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return ["", "", "", ""]
    counts = [number(found, key) for key in ("gained", "lost")]
    p = number(found, "p_value", 1.0)
    shown = "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
    interval = f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
    return [interval, *("" if count is None else f"{count:.0f}" for count in counts), shown]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
