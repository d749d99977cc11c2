"""The model card of a published adapter: metadata for the Hub, and what a reader wants to know before trusting it.

    make_card(facts, "me/adapter", "20261122-143000-a1b2", licence_of_base, licence_of_data)

Every figure is from the run's own files; what they do not say the card does not say either. Names and texts from
files and from data sets may hold anything: they are made plain before they come into Markdown.
"""

from __future__ import annotations

import re
import string
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.prompt.format import THINK_PROMPT
from training.config.data_config import STARTER
from training.hub.publish.card_tables import code, evaluation_tables, number, overall, plain, training_rows
from training.hub.publish.package import RECORD_FOLDER, Facts
from training.hub.publish.queue import CURVE

TEMPLATE = Path(__file__).with_name("model_card.md")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")
_LINK = re.compile(r"(https://)?[\w.-]+(/[\w./%#?=&~-]*)?", re.ASCII)
"""An address, or a file of the repository."""
_NAMED = ("license_name", "license_link")
TASK = "image-text-to-text"
STARTER_FOLDER = "inference/starter"
"""Where the shipped base is in a checkout of this project; it is in no repository of its own."""


@dataclass(frozen=True)
class Licence:
    """What a card says of the licence of a base or a dataset."""

    id: str
    name: str | None = None
    link: str | None = None

    @classmethod
    def of(cls, card: Mapping[str, Any]) -> Licence | None:
        """From the block on top of somebody's card, which may hold anything; `None` where it names none."""
        named = card.get("license")
        if not isinstance(named, str) or not _LICENCE.fullmatch(named):
            return None
        name, link = (plain(card[key]) if isinstance(card.get(key), str) else "" for key in _NAMED)
        return cls(named, name or None, link if _LINK.fullmatch(link) else None)

    def __str__(self) -> str:
        return f"{self.name or self.id} ({self.link})" if self.link else self.name or self.id


def make_card(facts: Facts, repo: str, revision: str, base: Licence | None, data: Licence | None) -> str:
    """README.md: the block on top and the text. `revision` is the tag or branch that the reader is to name."""
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


def metadata(facts: Facts, repo: str, base: Licence | None) -> Any:
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


def _results(facts: Facts) -> list[Any]:
    """The adapter's own figures for the model index, greedy, with the thinking prompt."""
    from huggingface_hub import EvalResult

    found, shares = [], overall(facts.evaluation, "adapter-thinking")
    for measure, name in (("strict", "strict accuracy"), ("lenient", "lenient accuracy"), ("format", "in the format")):
        value, low, high = (number(shares.get(measure), key) for key in ("value", "low", "high"))
        if value is not None:
            found.append(
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
    return found


def _summary(facts: Facts) -> str:
    base = f"[{facts.base}](https://huggingface.co/{facts.base})" if facts.base_on_hub else code(facts.base)
    if facts.config.base == STARTER:
        base = "the starter of LookThink, a vision-language model of 3 million parameters that is part of that project"
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
    kept = [f"split {code(data.split)}"] if not data.is_starter else []
    kept += [f"revision {code(data.revision)}"] if data.revision else []
    base = code(facts.base) + (f" at revision {code(facts.config.base_revision)}" if facts.config.base_revision else "")
    return f"- Base: {base}\n- Data: {', '.join([dataset, *kept])}"


def _code(facts: Facts, repo: str, revision: str) -> str:
    source = STARTER_FOLDER if facts.config.base == STARTER else plain(facts.base)  # no sign that could end a text
    at = f', revision="{plain(facts.config.base_revision)}"' if facts.base_on_hub and facts.config.base_revision else ""
    named = f'"{source}"' + at
    own = f'"{repo}", revision="{revision}"'
    prompt = "\n".join(f'    "{line}"' for line in textwrap.wrap(THINK_PROMPT, 90, drop_whitespace=False))
    return "\n".join(
        [
            "from peft import PeftModel",
            "from transformers import AutoModelForImageTextToText, AutoProcessor",
            "",
            f'model = AutoModelForImageTextToText.from_pretrained({named}, dtype="auto")',
            f"model = PeftModel.from_pretrained(model, {own})",
            f"processor = AutoProcessor.from_pretrained({own if facts.has_processor else named})",
            "system_prompt = (",
            prompt,
            ")",
        ]
    )


def _limits(facts: Facts) -> str:
    found = [
        "It was trained with the system prompt above; with another one it may do worse.",
        "What it writes inside `<think>` is what the reward paid for. It need not be how the answer came about.",
        "What its base cannot see, it cannot see either: LoRA is on the language model alone.",
    ]
    if facts.evaluation:
        found.append("The figures are for held-out rows of the data above, and say nothing of other pictures.")
    if facts.config.base == STARTER:
        found.append("The starter knows four kinds of drawn picture and nothing else.")
    return "\n".join(f"- {line}" for line in found)


def _licences(facts: Facts, base: Licence | None, data: Licence | None) -> str:
    unknown = "not known here; see its page"
    of_base = str(base or unknown) if facts.base_on_hub else "that of whoever made it"
    of_data = str(data or unknown) if facts.dataset_on_hub else "that of whoever made them"
    of_base = "Apache-2.0, as LookThink" if facts.config.base == STARTER else of_base
    of_data = "Apache-2.0, as LookThink" if facts.config.data.is_starter else of_data
    return f"- Base: {of_base}\n- Data: {of_data}\n\nWhoever uses the adapter is bound by both."
