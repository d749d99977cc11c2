"""Sentences of the Rewards section: about a run or a sample, the compared answers, and grades that lack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from inference.adapters.record import adapter_name
from inference.common.html import escape
from training.config.run_config import RunConfig
from training.learn.fresh_sample import num_planned
from training.learn.regrading import MAX_NAMED, Needs
from training.learn.reward_lab import Recorded
from training.runs.record import RunRecord
from training.ui.base.html import duration
from training.ui.sections.watch_cards import choice_label

_ABOUT_RUN = (
    "These are the answers that the run gave, scored otherwise. A run with such settings would learn other things, so "
    "that its answers would differ from the second step on."
)


def note_html(words: str, kind: str = "quiet") -> str:
    """A sentence; `kind` is `quiet`, `warn` or `bad`."""
    return f'<p class="lt-note lt-{kind}" role="{"alert" if kind == "bad" else "status"}">{escape(words)}</p>'


def config_of(record: RunRecord) -> RunConfig | None:
    """A run's configuration; `None` for one of another version."""
    try:
        return record.run_config
    except ValueError:
        return None


def label(record: RunRecord) -> str:
    """The label of a run or a sample in the dropdown; not escaped."""
    config = config_of(record)
    if record.launcher or config is None:
        return choice_label(record)
    return f"{record.id} · {Path(config.data.dataset).name}"


def about_html(record: RunRecord, config: RunConfig, recorded: Recorded) -> str:
    """Says whose answers they are: those of a run, or of the model that gave those of a sample, and if it is whole."""
    if record.launcher:
        return note_html(_ABOUT_RUN)
    name = f"the adapter {adapter_name(Path(config.start_adapter))}" if config.start_adapter else "the base alone"
    words = note_html(f"These are answers of {name} to problems of {Path(config.data.dataset).name}, sampled once.")
    num, planned = len(recorded.steps), num_planned(record.folder)
    if num < planned and recorded.every == 1 and recorded.is_whole:
        end = "it was stopped, or is still being made in a terminal"
        words += note_html(f"The sample has {num:,} of its {planned:,} problems: {end}.", "warn")
    return words


def cost_words(lacking: Mapping[str, int], needs: Needs, busy_with: Path | None) -> str:
    """The grades that must be made first, or can be, and what they take; `busy_with` is what keeps them waiting."""
    shown = [f"{num:,} of {name}" for name, num in list(lacking.items())[:MAX_NAMED]]
    shown += [f"{len(lacking) - MAX_NAMED:,} more functions"] if len(lacking) > MAX_NAMED else []
    num, took = sum(lacking.values()), ""
    if needs.seconds is not None and needs.num_missing == num:
        took = f" About {duration(max(1.0, needs.seconds))}, by the last ones."
    start = (
        f"{_count(num, 'grade')} can be made"
        if needs.is_enough
        else f"To see this, {_count(num, 'grade')} must be made first"
    )
    wait = f" They can be made when those of {busy_with.name} are." if busy_with else ""
    return f"{start}: {', '.join(shown)}.{took}{wait}"


def read_words(
    recorded: Recorded, config: RunConfig, other: RunConfig, needs: Needs, with_slider: Sequence[str]
) -> str:
    """The compared answers, and what of them is not known."""
    answers, problems = _count(recorded.num_completions, "answer"), _count(len(recorded.steps), "problem")
    words = f"{answers} to {problems} are compared."
    if other == config:
        words += " Move a weight, or change the limit or the tolerance, to see what would have been."
    if recorded.every > 1:
        words += f" That is one step in {recorded.every}: the whole record is too long."
    if not recorded.is_whole:
        words += " The record has more behind them, which is left out: it is too long."
    if kept := [f"{name} ({weight:g})" for name, weight in config.rewards.items() if name not in with_slider]:
        more = f" and {len(kept) - MAX_NAMED:,} more" if len(kept) > MAX_NAMED else ""
        words += f" Without a slider, and with the weight that the run gave: {', '.join(kept[:MAX_NAMED])}{more}."
    if num := int(needs.cut.sum()):
        words += f" {num:,} had more tokens than the limit, and what comes after it was cut off."
    if other.max_completion_length > config.max_completion_length and (num := int(recorded.truncated.sum())):
        words += (
            f" {num:,} ended at the run's limit of {config.max_completion_length} tokens; what they would have said "
            "is unknown."
        )
    if config.trl.get("scale_rewards") == "batch" and config.resample_rounds:
        words += " Groups that were sampled anew are taken into their step's deviation, which the run did in rounds."
    return words


def _count(num: int, noun: str) -> str:
    return f"{num:,} {noun}{'' if num == 1 else 's'}"
