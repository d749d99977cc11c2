"""The section Start: what to train, what it would take and cost, and the button."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from inference.adapters.record import available_adapters
from inference.common.errors import UserError
from inference.common.settings import Settings
from training.admin.access import Caller
from training.config.run_config import PROFILES, RunConfig, load_config
from training.launch.jobs.placement import hardware_of, place_words, price_per_hour
from training.runs.estimate import Estimate, estimate_run
from training.runs.record import RunRecord, check_budget
from training.ui.base.context import Desk, Section
from training.ui.base.guard import HIDDEN
from training.ui.sections.form_fields import Fields, all_names, number_field, read_number

FRESH = "a fresh LoRA"
PROFILE_WORDS = {
    "starter": "starter: the shipped model",
    "a100": "a100: for one 80 GB card",
    "recipe": "recipe: the cookbook's values",
}
MAIN = {
    "data.dataset": ("Dataset", "`starter`, a Hub id such as owner/name, or a path on the machine."),
    "data.split": ("Split", "All of it, train, or a slice, train[:5%]."),
    "max_steps": ("Steps", "0 goes once over the train rows."),
    "prompts_per_step": ("Problems in a step", "Different prompts that each step learns from."),
    "num_generations": ("Completions of each", "The size of a group, which its advantages compare."),
    "max_completion_length": ("Length limit in tokens", "Of a completion, in training."),
    "learning_rate": ("Learning rate", "At its peak, after the warm-up."),
    "eval_rows": ("Rows of the evaluation", "Test rows scored at the end; 0 skips it."),
}
_DATA = tuple(name for name in all_names() if name.startswith("data.") and name not in MAIN)
_LORA = tuple(name for name in all_names() if name.startswith("lora_"))
_GROUPS = {
    "Model": ("base", "base_revision"),
    "Data": _DATA,
    "LoRA": _LORA,
    "Rewards and rollouts": ("rewards", "temperature", "top_p", "skip_zero_signal", "resample_rounds", "curriculum"),
    "Optimiser": (
        "num_epochs",
        "micro_batch_size",
        "lr_schedule",
        "warmup_steps",
        "max_grad_norm",
        "beta",
        "loss_type",
    ),
    "Machine": ("precision", "gradient_checkpointing", "vllm", "vllm_url"),
    "Publishing": ("publish_to", "publish_every_minutes", "publish_public"),
}
_NAMED = {name for group in (MAIN, *_GROUPS.values()) for name in group}
ADVANCED = _GROUPS | {"Checkpoints and records": tuple(name for name in all_names() if name not in _NAMED)}
"""Every setting is in the form: what is named nowhere else is in the last group."""


class StartForm:
    """The form and what it does."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._fields = desk, Fields(publishing_defaults(desk.settings))
        with gr.Row(elem_classes="lt-columns"):
            with gr.Column(scale=7, min_width=300, elem_classes=["lt-left", "lt-form"]):
                self._build_form()
            with gr.Column(scale=5, min_width=300, elem_classes="lt-right"):
                with gr.Column(elem_classes=["lt-card", "lt-left", "lt-before"]):
                    self._build_before()
        self._form = [self.profile, self.origin, self.price, self.hours, self.dollars]
        self._all = [*self._form, *self._fields.components.values()]
        self._wire()

    def _build_form(self) -> None:
        self.profile = gr.Dropdown(
            [(words, name) for name, words in PROFILE_WORDS.items()],
            value="starter",
            label="Profile",
            info="The values that the form begins with.",
            filterable=False,
            elem_id="train-profile",
        )
        self.origin = gr.Dropdown(
            [FRESH],
            value=FRESH,
            label="Begin with",
            info="A fresh LoRA, or on from an adapter.",
            filterable=False,
            elem_id="train-origin",
        )
        names = list(MAIN)
        for pair in zip(names[::2], names[1::2]):
            with gr.Row(elem_classes="lt-two"):
                for name in pair:
                    self._fields.add(name, *MAIN[name])
        with gr.Accordion("Advanced", open=False, elem_id="train-advanced", elem_classes="lt-more"):
            for title, group in ADVANCED.items():
                gr.HTML(f'<h2 class="lt-group-title">{title}</h2>', js_on_load=None)
                for i in range(0, len(group), 2):
                    with gr.Row(elem_classes="lt-two"):
                        for name in group[i : i + 2]:
                            self._fields.add(name)

    def _build_before(self) -> None:
        self.estimate = gr.HTML(js_on_load=None, elem_id="train-estimate")
        with gr.Row(elem_classes="lt-two"):
            self.price = number_field("Dollars per hour", "What this machine costs.", "price")
            self.hours = number_field("Most hours", "It stops at a checkpoint before.", "max-hours")
            self.dollars = number_field("Most dollars", "The same, by the price.", "max-dollars")
        self.promote = gr.Checkbox(
            False,
            label="Serve it by itself if it is better",
            info="Better than the served adapter on the validation rows: by strict or lenient accuracy with 95 % "
            "confidence, and worse by neither. Otherwise it waits under Adapters, with its numbers.",
            elem_id="train-promote",
        )
        self.button = gr.Button("Start training", variant="primary", elem_id="train-start")

    def _wire(self) -> None:
        guard = self._desk.guard
        self.profile.input(
            guard(self._profile_chosen), self._form, [*self._fields.components.values(), self.estimate], **HIDDEN
        )
        typed = [component.input for component in self._all[1:]]
        left = [c.blur for c in self._all[1:] if isinstance(c, gr.Textbox)]  # what is pasted is no input to Gradio
        gr.on([*typed, *left], guard(self._estimated), self._all, self.estimate, trigger_mode="always_last", **HIDDEN)

    def _profile_chosen(self, caller: Caller, profile: str, *form: Any) -> list[Any]:
        config = load_config(profile if profile in PROFILES else None, {"profile": profile})
        values = self._fields.shown(config)
        return [*values, self._before_html(profile, *form, *values)]

    def _estimated(self, caller: Caller, *sent: Any) -> str:
        return self._before_html(*sent)

    def _before_html(self, profile: str, origin: str, price: Any, hours: Any, dollars: Any, *values: Any) -> str:
        try:
            config = self._config(profile, origin, *values)
            per_hour, _, _ = self._budget(price, hours, dollars)
            self._desk.launcher.check(config)
            place = place_words(config, self._desk.settings)
            records = self._desk.store.list()
            hardware = hardware_of(self._desk.settings, records)
            return _estimate_html(estimate_run(config, records, per_hour, hardware), place)
        except UserError as error:
            return (
                '<h2 class="lt-panel-title">Before it starts</h2>'
                f'<p class="lt-note lt-bad" role="status">This cannot start: {html.escape(str(error))}</p>'
            )

    def _config(self, profile: str, origin: str | None, *values: Any) -> RunConfig:
        found = self._fields.values(profile, *values)
        if origin and origin != FRESH:
            records = available_adapters(self._desk.settings)
            if origin not in records:
                raise UserError(f"there is no adapter {origin[:80]!r} any more; choose another one, or {FRESH}")
            found["start_adapter"] = str(records[origin].path)
        return load_config(profile, found)

    def _budget(self, price: Any, hours: Any, dollars: Any) -> tuple[float | None, float | None, float | None]:
        """What was typed, else the Hub's price; what the store would refuse is said before the button is pressed."""
        per_hour = read_number("dollars_per_hour", price) or price_per_hour(self._desk.settings)
        most = read_number("max_hours", hours), read_number("max_dollars", dollars)
        check_budget(RunRecord("", Path(), "", dollars_per_hour=per_hour, max_hours=most[0], max_dollars=most[1]))
        return per_hour, *most

    def start(self, caller: Caller, promote: bool, *sent: Any) -> str:
        """Queue the run, start it if none is active, and return its id. Raises `UserError`."""
        profile, origin, *budget = sent[:5]
        config = self._config(profile, origin, *sent[5:])
        price, hours, dollars = self._budget(*budget)
        self._desk.launcher.check(config)
        record = self._desk.store.submit(
            config,
            caller.name,
            promote=bool(promote),
            max_hours=hours,
            max_dollars=dollars,
            dollars_per_hour=price,
        )
        self._desk.launcher.start_next()
        return record.id

    @property
    def form(self) -> list[Any]:
        """What `start` takes after the caller."""
        return [self.promote, *self._all]

    def refresh(self, caller: Caller, *sent: Any) -> list[Any]:
        """The adapters to begin with, and the estimate of what the form says."""
        origin = sent[1]
        names = [FRESH, *available_adapters(self._desk.settings)]
        chosen = origin if origin in names else FRESH
        return [gr.update(choices=names, value=chosen), self._before_html(sent[0], chosen, *sent[2:])]


def publishing_defaults(settings: Settings) -> dict[str, Any]:
    """Where adapters of this deployment go unless the form says otherwise: `training` in `space.yaml`."""
    names = ("publish_to", "publish_every_minutes", "publish_public")
    return {name: getattr(settings.training, name) for name in names}


def build_start(desk: Desk) -> tuple[Section, StartForm]:
    """The section, and the form, whose button the tab wires, since it opens Watch."""
    form = StartForm(desk)
    return Section(form.form[1:], [form.origin, form.estimate], form.refresh), form


def _estimate_html(found: Estimate, place: Sequence[str] = ()) -> str:
    """What it would take, as a list of figures, where they are from, and where it would run."""
    hours = "unknown" if found.hours is None else duration(found.hours)
    if found.dollars is not None:
        price = f"${found.dollars:,.2f}"
    else:
        price = "unknown" if found.hours is None else "unknown: say what an hour costs"
    figures = {
        "Steps": "unknown" if found.num_steps is None else f"{found.num_steps:,}",
        "Completions": "unknown" if found.completions is None else f"{found.completions:,}",
        "A step": "unknown" if found.step_seconds is None else f"{found.step_seconds:.2f} s",
        "Training": hours,
        "Price": price,
    }
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures.items())
    return (
        f'<h2 class="lt-panel-title">Before it starts</h2><dl class="lt-figures-list">{items}</dl>'
        f'<p class="lt-note lt-quiet">{html.escape(_sentence(found.reason))} Loading, and the evaluation at the end, '
        "come on top.</p>" + "".join(f'<p class="lt-note lt-quiet">{html.escape(sentence)}</p>' for sentence in place)
    )


def duration(hours: float) -> str:
    """Hours as people say them.

    >>> duration(0.004), duration(0.5), duration(30.25)
    ('14 s', '30 min', '30 h 15 min')
    """
    seconds = round(hours * 3600)
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
