"""The model card of a published adapter: metadata for the Hub, training, evaluation, limits and licences.

    make_card(facts, "me/adapter", "20261122-143000-a1b2", licence_of_base, licence_of_data)

Every figure comes from the run's files, which somebody may have edited: values that are not numbers are left out, and
names and texts are made plain before they enter Markdown.
"""

from __future__ import annotations

import json
import math
import re
import string
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inference.prompt.system_prompt import prompt_name
from training.config.data_config import STARTER
from training.hub.publish.package import RECORD_FOLDER, Facts
from training.hub.publish.queue import CURVE, plain_name

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

TEMPLATE = Path(__file__).with_name("model_card.md")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")
_LINK = re.compile(r"(https://)?[\w.-]+(/[\w./%#?=&~-]*)?", re.ASCII)
"""An address, or a file of the repository."""
_NAMED = ("license_name", "license_link")
TASK = "image-text-to-text"
STARTER_FOLDER = "inference/starter"
"""The folder of the shipped base in a checkout of this project; it has no repository of its own."""
MEASURES = {"format": "in the format", "strict": "strict accuracy", "lenient": "lenient accuracy"}
CONDITIONS = {
    "base-direct": "base, asked for the answer alone",
    "base-thinking": "base, asked to think first",
    "adapter-thinking": "**this adapter**, asked to think first",
}
_MAX_CHARS = 200


@dataclass(frozen=True)
class Licence:
    """The licence of a base or a dataset, as its card names it."""

    id: str
    name: str | None = None
    link: str | None = None

    @classmethod
    def of(cls, card: Mapping[str, object]) -> Licence | None:
        """Reads the metadata of a card, which may hold anything; `None` if it names no licence."""
        licence = card.get("license")
        if not isinstance(licence, str) or not _LICENCE.fullmatch(licence):
            return None
        name, link = (plain(card[key]) if isinstance(card.get(key), str) else "" for key in _NAMED)
        return cls(licence, name or None, link if _LINK.fullmatch(link) else None)

    def __str__(self) -> str:
        return f"{self.name or self.id} ({self.link})" if self.link else self.name or self.id


def make_card(facts: Facts, repo: str, revision: str, base: Licence | None, data: Licence | None) -> str:
    """The text of README.md with its metadata. `revision` is the tag or branch that readers name."""
    from huggingface_hub import ModelCard

    text = string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=plain(repo),
        summary=_summary(facts),
        state=_state(facts),
        evaluation=evaluation_tables(facts.evaluation) or _NOT_EVALUATED,
        table_of_training=training_rows(facts),
        curve=f"\n![Rewards by step]({RECORD_FOLDER}/{CURVE})" if facts.has_curve else "",
        sources=_sources(facts),
        code=_code(facts, repo, revision),
        address=f"{repo}@{revision}",
        limits=_limits(facts),
        licences=_licences(facts, base, data),
        evaluation_file=f", and `{RECORD_FOLDER}/evaluation.json` the evaluation whole" if facts.evaluation else "",
    )
    card = f"---\n{metadata(facts, repo, base).to_yaml()}\n---\n{text}"
    return str(ModelCard(card))  # reads it as the Hub does


def metadata(facts: Facts, repo: str, base: Licence | None) -> ModelCardData:
    """The block on top of the card, as a `huggingface_hub.ModelCardData`."""
    from huggingface_hub import ModelCardData

    licence = Licence("apache-2.0") if facts.config.base == STARTER else base
    results = _results(facts)
    return ModelCardData(
        base_model=facts.base_on_hub,
        base_model_relation="adapter" if facts.base_on_hub else None,
        datasets=[facts.dataset_on_hub] if facts.dataset_on_hub else None,
        library_name="peft",
        pipeline_tag=TASK,
        license=licence.id if licence else None,
        license_name=licence.name if licence else None,
        license_link=licence.link if licence else None,
        tags=["lora", "grpo", "trl", "lookthink", "visual-question-answering"],
        model_name=repo.split("/")[1] if results else None,
        eval_results=results or None,
    )


def _results(facts: Facts) -> list[EvalResult]:
    """The adapter's own figures for the model index, greedy, with the thinking prompt."""
    from huggingface_hub import EvalResult

    results, shares = [], overall(facts.evaluation, "adapter-thinking")
    for measure, name in (("strict", "strict accuracy"), ("lenient", "lenient accuracy"), ("format", "in the format")):
        value, low, high = (number(shares.get(measure), key) for key in ("value", "low", "high"))
        if value is not None:
            results.append(
                EvalResult(
                    task_type=TASK,
                    dataset_type=facts.dataset_on_hub
                    or ("lookthink-starter" if facts.config.data.is_starter else "local"),
                    dataset_name=plain(facts.dataset),
                    dataset_split=plain(facts.config.data.test_split or "held out"),
                    dataset_revision=facts.config.data.revision,
                    metric_type="accuracy" if measure != "format" else "format",
                    metric_name=name,
                    metric_value=value,
                    metric_args={"low_95": low, "high_95": high, "num_rows": number(shares[measure], "num_rows")},
                )
            )
    return results


def _summary(facts: Facts) -> str:
    base = f"[{facts.base}](https://huggingface.co/{facts.base})" if facts.base_on_hub else code(facts.base)
    if facts.config.base == STARTER:
        base = "the starter of LookThink, a vision-language model of 4 million parameters that is part of that project"
    return (
        f"A LoRA adapter for {base}. It was trained with GRPO to look at a picture, reason inside `<think>` tags, and "
        "answer inside `<answer>` tags."
    )


def _state(facts: Facts) -> str:
    if facts.is_result:
        return f"It is the result of the run {code(facts.run)}, at step {facts.step:,}."
    return (
        f"**This is a checkpoint of the run {code(facts.run)} at step {facts.step:,}, kept here in case the machine "
        "is lost.** It was not evaluated. The run's result takes its place when the run is done."
    )


_NOT_EVALUATED = "It was not evaluated: nothing is known of how often it is right."


def _sources(facts: Facts) -> str:
    data = facts.config.data
    dataset = f"[{facts.dataset}](https://huggingface.co/datasets/{facts.dataset})"
    if data.is_starter:
        dataset = (
            "the starter problems of LookThink (digits, bar charts, labelled figures, coloured shapes), drawn anew"
        )
    elif not data.is_hub:
        dataset = f"{code(facts.dataset)}, which is on the machine of whoever trained this"
    details = [f"split {code(data.split)}"] if not data.is_starter else []
    details += [f"revision {code(data.revision)}"] if data.revision else []
    base = code(facts.base) + (f" at revision {code(facts.config.base_revision)}" if facts.config.base_revision else "")
    return f"- Base: {base}\n- Data: {', '.join([dataset, *details])}"


def _code(facts: Facts, repo: str, revision: str) -> str:
    source = STARTER_FOLDER if facts.config.base == STARTER else plain(facts.base)  # no sign that could end a text
    at = f', revision="{plain(facts.config.base_revision)}"' if facts.base_on_hub and facts.config.base_revision else ""
    base = f'"{source}"' + at
    own = f'"{repo}", revision="{revision}"'
    text = facts.config.system_prompt_text
    lines = textwrap.wrap(text, 90, drop_whitespace=False, replace_whitespace=False, expand_tabs=False)
    prompt = "\n".join(f"    {json.dumps(line, ensure_ascii=False)}" for line in lines)
    return "\n".join(
        [
            "from peft import PeftModel",
            "from transformers import AutoModelForImageTextToText, AutoProcessor",
            "",
            f'model = AutoModelForImageTextToText.from_pretrained({base}, dtype="auto")',
            f"model = PeftModel.from_pretrained(model, {own})",
            f"processor = AutoProcessor.from_pretrained({own if facts.has_processor else base})",
            "system_prompt = (",
            prompt,
            ")",
        ]
    )


def _limits(facts: Facts) -> str:
    limits = [
        "It was trained with the system prompt above; with another one it may do worse.",
        "What it writes inside `<think>` is what the reward paid for. It need not be how the answer came about.",
        "What its base cannot see, it cannot see either: LoRA is on the language model alone.",
    ]
    if facts.evaluation:
        limits.append("The figures are for held-out rows of the data above, and say nothing of other pictures.")
    if facts.config.base == STARTER:
        limits.append("The starter knows four kinds of drawn picture and nothing else.")
    return "\n".join(f"- {line}" for line in limits)


def _licences(facts: Facts, base: Licence | None, data: Licence | None) -> str:
    unknown = "not known here; see its page"
    of_base = str(base or unknown) if facts.base_on_hub else "that of whoever made it"
    of_data = str(data or unknown) if facts.dataset_on_hub else "that of whoever made them"
    of_base = "Apache-2.0, as LookThink" if facts.config.base == STARTER else of_base
    of_data = "Apache-2.0, as LookThink" if facts.config.data.is_starter else of_data
    return f"- Base: {of_base}\n- Data: {of_data}\n\nWhoever uses the adapter is bound by both."


def evaluation_tables(evaluation: Mapping[str, object]) -> str:
    """The verdict, the shares with their intervals, and the paired differences; empty without an evaluation."""
    shares = [[title, *_shares(evaluation, name)] for name, title in CONDITIONS.items() if overall(evaluation, name)]
    if not shares:
        return ""
    about = _mapping(evaluation.get("about"))
    rows, limit, penalty = (number(about, name) for name in ("num_rows", "max_new_tokens", "repetition_penalty"))
    on = f"On {rows:,.0f} held-out rows, greedy" if rows else "On held-out rows, greedy"
    parts = [f"**{plain(evaluation['verdict'])}**"] if isinstance(evaluation.get("verdict"), str) else []
    on += f", at most {limit:,.0f} tokens" if limit else ""
    on += f", with the base's repetition penalty, {penalty:g}" if penalty not in (None, 1) else ""
    parts.append(f"{on}; with 95 % intervals:")
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
    """The settings of the training, as a table of two columns."""
    config, versions = facts.config, facts.versions
    steps = f"{facts.step:,}" + (f" of {config.max_steps:,}" if config.max_steps else "")
    rows = [
        ["method", f"GRPO (loss `{config.loss_type}`, KL weight {config.beta:g}), in TRL"],
        ["steps", f"{steps}, {config.prompts_per_step} prompts × {config.num_generations} completions each"],
        ["rewards", ", ".join(f"{code(name)} × {weight:g}" for name, weight in config.rewards.items())],
        ["learning rate", f"{config.learning_rate:g}, {config.lr_schedule}, {config.warmup_steps} warm-up steps"],
        ["completions", f"at most {config.max_completion_length} tokens, temperature {config.temperature:g}"],
        ["LoRA", lora_words(facts.lora)],
        ["began from", code(plain_name(config.start_adapter)) if config.start_adapter else "a new LoRA"],
        ["system prompt", prompt_name(config.system_prompt_text)],
        ["seed", str(config.seed)],
    ]
    last = facts.history[-1] if facts.history else {}
    if (reward := number(last, "reward")) is not None:
        rows.append(["mean reward at the last step", f"{reward:.3f}"])
    if seconds := _seconds(facts.history):
        rows.append(["time of all steps", f"{seconds / 60:,.1f} minutes"])
    for name, title in (("hardware", "hardware"), ("code_commit", "code")):
        if isinstance(versions.get(name), str):
            rows.append([title, code(versions[name])])
    libraries = [f"{n} {plain(versions[n])}" for n in ("torch", "transformers", "trl", "peft") if versions.get(n)]
    return table(["", ""], [*rows, *([["libraries", ", ".join(libraries)]] if libraries else [])])


def lora_words(settings: Mapping[str, object]) -> str:
    """The LoRA of an adapter by its own settings: rank, alpha, scale and the names of its layers.

    >>> lora_words({"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]})
    'rank 8, alpha 16, on q_proj, v_proj'
    """
    pattern = _mapping(settings.get("rank_pattern"))
    found = (number(settings, "r"), *(number(pattern, name) for name in pattern))
    ranks = sorted(rank for rank in found if rank is not None)
    rank = " to ".join(f"{each:g}" for each in sorted({ranks[0], ranks[-1]})) if ranks else "unknown"
    over = " over the root of the rank" if settings.get("use_rslora") else ""
    targets = settings.get("target_modules")
    if isinstance(targets, str):
        names = re.findall(r"\w+", targets.rpartition("(")[2] if "(" in targets else targets.rpartition(".")[2])
    else:
        names = [str(each).rpartition(".")[2] for each in targets] if isinstance(targets, list) else []
    layers = ", ".join(sorted({plain(name) for name in names})) or "layers that its settings do not name"
    return f"rank {rank}, alpha {number(settings, 'lora_alpha') or 0:g}{over}, on {layers}"


def _seconds(history: Sequence[Mapping[str, object]]) -> float:
    """The time of all steps: each row has the mean of the steps since the one before."""
    total = before = 0.0
    for row in history:
        step, seconds = number(row, "step"), number(row, "step_time")
        if step is not None and seconds is not None:
            total, before = total + seconds * max(0.0, step - before), step
    return total


def overall(evaluation: Mapping[str, object], condition: str) -> Mapping[str, object]:
    """The shares of a condition over all rows; empty if it was not evaluated."""
    return _mapping(_mapping(_mapping(evaluation.get("conditions")).get(condition)).get("overall"))


def number(mapping: object, key: str, most: float | None = None) -> float | None:
    """A finite figure of a mapping, at most `most` in size; `None` for anything else."""
    value = mapping.get(key) if isinstance(mapping, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value if most is None or abs(value) <= most else None


def plain(text: object) -> str:
    """A text without the characters of Markdown, HTML and YAML, on one short line.

    >>> plain("a|b <script>`x`")
    'a b script x'
    """
    safe = "".join(c if c.isprintable() and c not in '|<>`[]*\\"' else " " for c in str(text))
    return " ".join(safe.split())[:_MAX_CHARS]


def code(text: object) -> str:
    """A text as code, in which brackets mean nothing.

    >>> print(code("train[:5%]"))
    `train[:5%]`
    """
    safe = "".join(c if c.isprintable() and c not in "|`<>" else " " for c in str(text))
    return f"`{' '.join(safe.split())[:_MAX_CHARS] or 'no name'}`"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the cells are plain already."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shares(evaluation: Mapping[str, object], condition: str) -> list[str]:
    shares = overall(evaluation, condition)
    cells = [_share(shares.get(measure)) for measure in MEASURES]
    if condition == "base-direct":
        cells[0] = "not asked for"
    tokens = number(shares, "mean_tokens")
    return [*cells, "" if tokens is None else f"{tokens:.0f}"]


def _share(share: object) -> str:
    value, low, high = (number(share, key, 1.0) for key in ("value", "low", "high"))
    if value is None:
        return "not measured"
    return f"{100 * value:.1f} %" + ("" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})")


def _difference(of_measure: Mapping[str, object]) -> list[str]:
    difference = _mapping(of_measure.get("overall"))
    value, low, high = (number(difference, key, 1.0) for key in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return ["", "", "", ""]
    counts = [number(difference, key) for key in ("gained", "lost")]
    p = number(difference, "p_value", 1.0)
    shown = "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
    interval = f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
    return [interval, *("" if count is None else f"{count:.0f}" for count in counts), shown]


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
