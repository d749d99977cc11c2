"""The Start section: what to train, how long it would take and cost, and the button."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from inference.adapters.record import available_adapters
from inference.common.errors import UserError
from inference.common.html import escape
from inference.common.settings import Settings, base_source, report_folders
from inference.ui.components import LiveDropdown
from training.admin.access import Caller
from training.config.data_config import STARTER
from training.config.run_config import RunConfig, deployment_profile
from training.doctor.report import Report
from training.hub.publish.licence import licence_words
from training.hub.publish.offer import PublishOffer
from training.hub.space.prices import dollars
from training.launch.jobs.placement import known_sizes, machine_of, placement_words, price_per_hour
from training.runs.estimate.run_estimate import RunEstimate, estimate_run
from training.runs.record import RunRecord, check_budget
from training.ui.base.context import Context, Section
from training.ui.base.guard import HIDDEN, SILENT
from training.ui.base.html import capitalised, duration
from training.ui.sections.data import set_choices
from training.ui.sections.form_fields import Fields, all_names, number_field, read_number
from training.ui.sections.start_settings import command_html, read_settings, rows_html

FRESH = "a fresh LoRA"
CHECK, CHECKING = "Check this machine", "Checking this machine: at most three minutes"
DOCTOR_WORDS = {"fail": "Wrong", "warn": "Look at", "pass": "Right", "skip": "Not looked at"}
"""For each status of a line its word on the page, what matters most first."""
PROFILE_WORDS = {
    "starter": "starter: the shipped model",
    "a100": "a100: for one 80 GB card",
    "40gb": "40gb: for one card of 40 or 48 GB",
    "24gb": "24gb: for one card of 24 GB",
    "recipe": "recipe: the cookbook's run, for comparison",
}
MAIN = {
    "data.dataset": ("Dataset", "`starter`, one of your sets, a Hub id such as owner/name, or a path on the machine."),
    "data.split": ("Split", "A whole split, train, or a slice of it, train[:5%]."),
    "max_steps": ("Steps", "0 goes once over the training problems."),
    "prompts_per_step": ("Problems per step", "Each step learns from this many different problems."),
    "num_generations": ("Answers per problem (group size)", "Advantages compare the answers of a group."),
    "max_completion_length": ("Length limit (tokens)", "Of an answer, in training."),
    "learning_rate": ("Learning rate", "At its peak, after the warm-up."),
    "eval_rows": ("Test problems", "Scored at the end; 0 skips the evaluation."),
}
_DATA = tuple(name for name in all_names() if name.startswith("data.") and name not in MAIN)
_LORA = tuple(name for name in all_names() if name.startswith("lora_"))
_GROUPS = {
    "Model": ("base", "base_revision"),
    "Data": _DATA,
    "LoRA": _LORA,
    "Rewards and rollouts": ("system_prompt", "rewards", "temperature", "top_p", "resample_rounds", "curriculum"),
    "Optimiser": (
        "num_epochs",
        "micro_batch_size",
        "lr_schedule",
        "warmup_steps",
        "max_grad_norm",
        "beta",
        "loss_type",
        "skip_zero_signal",
        "share_prompts",
    ),
    "Machine": ("precision", "gradient_checkpointing", "num_processes", "num_nodes", "shard_weights"),
    "Publishing": ("publish_to", "publish_every_minutes", "publish_public"),
}
_NAMED = {name for group in (MAIN, *_GROUPS.values()) for name in group}
_ROWS = ("data.train_rows", "data.test_share", "data.test_rows", "data.validation_rows", "eval_rows")
"""Settings that depend on the number of rows."""
ADVANCED = _GROUPS | {"Checkpoints and records": tuple(name for name in all_names() if name not in _NAMED)}
"""Every setting is in the form: the last group has those that no other group names."""


class StartForm:
    """The form and its handlers."""

    def __init__(self, context: Context) -> None:
        self._context, self._fields = context, Fields(context.settings)
        with gr.Row(elem_classes="lt-columns"):
            with gr.Column(scale=7, min_width=300, elem_classes=["lt-left", "lt-form"]):
                self._build_form()
            with gr.Column(scale=5, min_width=300, elem_classes="lt-right"):
                with gr.Column(elem_classes=["lt-card", "lt-left", "lt-before"]):
                    self._build_before()
        dataset = self._fields.components["data.dataset"]
        assert isinstance(dataset, LiveDropdown)
        self.dataset: LiveDropdown = dataset
        self._form: list[Component] = [
            self.profile,
            self.origin,
            self.publish,
            self.price,
            self.hours,
            self.dollars,
        ]
        self._all = [*self._form, *self._fields.components.values()]
        self._wire()

    def _build_form(self) -> None:
        self.profile = gr.Dropdown(
            [(words, name) for name, words in PROFILE_WORDS.items()],
            value=deployment_profile(self._context.settings),
            label="Profile",
            info="The form begins with its values.",
            filterable=False,
            elem_id="train-profile",
        )
        self.origin = gr.Dropdown(
            [FRESH],
            value=FRESH,
            label="Starting point",
            info="Begin with a fresh LoRA, or go on from an adapter.",
            filterable=False,
            elem_id="train-origin",
        )
        with gr.Row(elem_classes="lt-actions"):
            self.again = gr.Button("Take the last run's settings", size="sm", elem_id="train-again")
            self.load = gr.UploadButton(
                "Load settings", file_types=[".yaml", ".yml"], type="filepath", size="sm", elem_id="train-load"
            )
            self.see = gr.Button("Show three rows", size="sm", elem_id="train-see")
        names = list(MAIN)
        for pair in zip(names[::2], names[1::2]):
            with gr.Row(elem_classes="lt-two"):
                for name in pair:
                    self._fields.add(name, *MAIN[name])
        self.rows = gr.HTML(js_on_load=None, elem_id="train-rows")
        with gr.Accordion("Advanced", open=False, elem_id="train-advanced", elem_classes="lt-more"):
            for title, group in ADVANCED.items():
                gr.HTML(f'<h2 class="lt-group-title">{title}</h2>', js_on_load=None)
                for i in range(0, len(group), 2):
                    with gr.Row(elem_classes="lt-two"):
                        for name in group[i : i + 2]:
                            self._fields.add(name)

    def _build_before(self) -> None:
        self.estimate = gr.HTML(js_on_load=None, elem_id="train-estimate")
        self.check = gr.Button(CHECK, size="sm", elem_id="train-doctor", elem_classes="lt-small")
        self.lines = gr.HTML(js_on_load=None, elem_id="train-doctor-lines")
        with gr.Row(elem_classes="lt-two"):
            self.price = number_field("Dollars per hour", "The price of this machine.", "price")
            self.hours = number_field("Stop after (hours)", "It stops at a checkpoint before.", "max-hours")
            self.dollars = number_field("Stop after (dollars)", "The same, by the price.", "max-dollars")
        self.publish = gr.Checkbox(
            False,
            label="Publish its adapter on the Hub",
            info="To a private repository of this Space's owner, which is named above. The choice is kept for the next "
            "runs.",
            visible=False,
            elem_id="train-publish",
        )
        self.promote = gr.Checkbox(
            False,
            label="Put it into service automatically if it is better",
            info="Better than the served adapter on the validation problems: in strict or lenient accuracy with 95 % "
            "confidence, and worse in neither. Otherwise it is listed under Adapters, with its figures.",
            elem_id="train-promote",
        )
        self.name = gr.Textbox(
            label="Name",
            info="Of the run and of its adapter, such as charts-2. Without one it is made of date and time.",
            max_length=40,
            elem_id="train-name",
        )
        self.button = gr.Button("Start training", variant="primary", elem_id="train-start")

    def _wire(self) -> None:
        guard = self._context.guard
        self.profile.input(
            guard(self._profile_chosen), self._form, [*self._fields.components.values(), self.estimate], **HIDDEN
        )
        others = [component for component in self._all[1:] if component is not self.dataset]
        inputs = [component.input for component in others]  # type: ignore[attr-defined]
        blurs = [c.blur for c in others if isinstance(c, gr.Textbox)]  # Gradio sends no input event for a paste
        self.again.click(guard(self._last_taken), self._form, self.taken_outputs, **HIDDEN)
        self.load.upload(guard(self._loaded), [self.load, *self._form], self.taken_outputs, **HIDDEN)
        self.see.click(guard(self._seen), self._all, self.rows, **HIDDEN)
        rows = [self._fields.components[name] for name in _ROWS]
        self.dataset.input(guard(self._dataset_chosen), self._all, [*rows, self.estimate], **HIDDEN)
        self.publish.input(guard(self._publish_chosen), self.publish, None, **HIDDEN)
        gr.on([*inputs, *blurs], guard(self._estimated), self._all, self.estimate, trigger_mode="always_last", **SILENT)

    def _profile_chosen(self, caller: Caller, profile: str, *form: Any) -> list[object]:
        values = self._fields.shown(self._fields.config(profile))
        return [*values, self._before_html(profile, *form, *values)]

    def _dataset_chosen(self, caller: Caller, *sent: Any) -> list[object]:
        """The numbers of rows that fit one of the reader's own sets; the profile's again for another dataset."""
        values = dict(zip(self._fields.components, sent[len(self._form) :], strict=True))
        own = {path: name for name, path in set_choices(self._context.sets)}
        config = self._fields.config(sent[0])
        fitting = dict(zip(_ROWS, self._fields.shown(config, list(_ROWS))))
        if (name := own.get(values["data.dataset"])) is not None:
            fitting = rows_for(config, self._context.sets.num_rows(name))
        values |= fitting
        return [*fitting.values(), self._before_html(*sent[: len(self._form)], *values.values())]

    def _last_taken(self, caller: Caller, *form: Any) -> list[object]:
        """The form with the settings of the newest run."""
        newest = next(iter(self._context.store.list()), None)
        if newest is None:
            raise UserError("There is no run yet. Start one first.")
        try:
            config = newest.run_config
        except ValueError:
            raise UserError(f"The settings of {newest.id} are of another version. Choose a profile.") from None
        return self.taken(config, *form)

    def _loaded(self, caller: Caller, path: object, *form: Any) -> list[object]:
        """The form with the settings of a YAML file."""
        values = read_settings(path)
        return self.taken(self._fields.config(None, values), *form)

    def taken(self, config: RunConfig, *form: Any) -> list[object]:
        """Values of `taken_outputs` for a configuration; `form` are those of `taken_inputs`."""
        values = self._fields.shown(config)
        return [config.profile, *values, self._before_html(config.profile, *form[1:], *values)]

    @property
    def taken_inputs(self) -> list[Component]:
        """The components that a configuration leaves as they are, but which the estimate needs."""
        return self._form

    @property
    def taken_outputs(self) -> list[Component]:
        """Profile, fields and estimate."""
        return [self.profile, *self._fields.components.values(), self.estimate]

    def _seen(self, caller: Caller, profile: str, origin: str, publish: object, *values: Any) -> str:
        """The first rows of the dataset that the form names."""
        return rows_html(self._config(profile, origin, publish, *values[3:]))

    def _publish_chosen(self, caller: Caller, is_ticked: object) -> None:
        self._context.offer.choose(is_ticked is True)

    def _estimated(self, caller: Caller, *values: Any) -> str:
        return self._before_html(*values)

    def _before_html(
        self, profile: str, origin: str, publish: object, price: Any, hours: object, dollars: object, *values: object
    ) -> str:
        """The estimate for the form's values, or the reason why such a run cannot start."""
        settings = self._context.settings
        try:
            config = self._config(profile, origin, publish, *values)
            per_hour, _, _ = self._budget(config, price, hours, dollars)
            self._context.launcher.check(config)
            place = [*served_words(config, settings), *placement_words(config, settings)]
            place += published_words(config, self._context.offer)
            records = self._context.store.list()
            found = estimate_run(
                config,
                records,
                machine_of(settings, records),
                doctor_folders=report_folders(settings),
                sizes=known_sizes(config),
                dollars_per_hour=per_hour,
                is_job=settings.training.trainer == "job",
            )
            more = {"max_hours": read_number("max_hours", hours), "max_dollars": read_number("max_dollars", dollars)}
            changes = self._fields.values(profile, *values)
            if config.start_adapter:
                changes["start_adapter"] = config.start_adapter
            more |= {"dollars_per_hour": read_number("dollars_per_hour", price)}
            return estimate_html(found, place) + command_html(profile, changes, more)
        except UserError as error:
            words = capitalised(self._fields.in_words(str(error)))
            return (
                '<h2 class="lt-panel-title">Before it starts</h2>'
                f'<p class="lt-note lt-bad" role="status">This cannot start. {escape(words)}</p>'
            )

    def _config(self, profile: str, origin: str | None, publish: object, *values: object) -> RunConfig:
        changes = self._fields.values(profile, *values)
        if origin and origin != FRESH:
            records = available_adapters(self._context.settings)
            if origin not in records:
                raise UserError(f"there is no adapter {origin[:80]!r} any more; choose another one, or {FRESH}")
            changes["start_adapter"] = str(records[origin].path)
        return self._context.offer.applied(self._fields.config(profile, changes), publish is True)

    def _budget(
        self, config: RunConfig, price: object, hours: object, dollars: object
    ) -> tuple[float | None, float | None, float | None]:
        """Price per hour (typed, or else the Hub's) and limits; raises what the store would refuse later."""
        listed = price_per_hour(self._context.settings, config.num_nodes)
        per_hour = read_number("dollars_per_hour", price) or listed
        limits = read_number("max_hours", hours), read_number("max_dollars", dollars)
        check_budget(RunRecord("", Path(), "", dollars_per_hour=per_hour, max_hours=limits[0], max_dollars=limits[1]))
        return per_hour, *limits

    def start(self, caller: Caller, promote: bool, name: str | None, *values: Any) -> str:
        """Queue the run, start it if none is active, and return its id. Raises `UserError`."""
        profile, origin, publish, *budget = values[:6]
        try:
            config = self._config(profile, origin, publish, *values[6:])
            price, hours, dollars = self._budget(config, *budget)
            self._context.launcher.check(config)
        except UserError as error:
            raise UserError(capitalised(self._fields.in_words(str(error)))) from error
        record = self._context.store.submit(
            config,
            caller.name,
            name=name or "",
            promote=bool(promote),
            max_hours=hours,
            max_dollars=dollars,
            dollars_per_hour=price,
        )
        self._context.launcher.start_next()
        return record.id

    def look(self, caller: Caller, *values: Any) -> list[object]:
        """Start the doctor for the form's run; its lines come with the next refreshes."""
        profile, origin, publish, *rest = values
        self._context.examination.start(self._config(profile, origin, publish, *rest[3:]))
        return self.refresh(caller, *values)

    @property
    def inputs(self) -> list[Component]:
        """The components whose values `start` takes after the caller."""
        return [self.promote, self.name, *self._all]

    def refresh(self, caller: Caller, *values: Any) -> list[object]:
        """The adapters that a run can begin with, the choice to publish, the estimate for the form's values, and the
        datasets to choose from."""
        names, offer = [FRESH, *available_adapters(self._context.settings)], self._context.offer
        origin = values[1] if values[1] in names else FRESH
        is_ticked = offer.is_made and offer.is_chosen
        return [
            gr.update(choices=names, value=origin),
            gr.update(value=is_ticked, visible=offer.is_made),
            self._before_html(values[0], origin, is_ticked, *values[3:]),
            *self._doctor(values[0], origin, is_ticked, *values[6:]),
            gr.update(choices=self._datasets(values[0])),
        ]

    def _datasets(self, profile: str) -> list[tuple[str, str]]:
        """The starter, the profile's own dataset, and the sets that were made here, by name."""
        names = dict.fromkeys([STARTER, self._fields.config(profile).data.dataset])
        return [*((name, name) for name in names), *set_choices(self._context.sets)]

    def _doctor(self, profile: str, origin: str, publish: object, *values: object) -> list[object]:
        """The button of the doctor, and its newest lines for the form's base."""
        examination = self._context.examination
        is_running = examination.is_running
        button = gr.update(interactive=not is_running, value=CHECKING if is_running else CHECK)
        if is_running:
            return [button, doctor_html(None, examination.output)]
        try:
            report = examination.report(self._config(profile, origin, publish, *values))
        except UserError:  # such a run cannot start, as the estimate says
            return [button, ""]
        is_job = self._context.settings.training.trainer == "job"
        return [button, doctor_html(report, [] if report else examination.output, is_job)]


def served_words(config: RunConfig, settings: Settings) -> list[str]:
    """A sentence for a run whose adapter this app could not serve."""
    if base_source(config.base) == settings.base:
        return []
    name = "the starter" if settings.is_starter else settings.base
    return [
        f"Its adapter cannot answer here: {name} answers, and the run trains {config.base}. Publish it, and serve it "
        "where that base answers."
    ]


def rows_for(config: RunConfig, num_rows: int) -> dict[str, str | bool]:
    """Values of the form by which a set of `num_rows` is cut: a fifth for test, and no more than there is."""
    test, validation = max(1, num_rows // 5), min(config.data.validation_rows, num_rows // 5)
    return dict(zip(_ROWS, ("", "0.2", str(test), str(validation), str(min(config.eval_rows, test)))))


def published_words(config: RunConfig, offer: PublishOffer) -> list[str]:
    """Sentences on where the adapter is published, or could be, and on the licence of its base."""
    if config.publish_to is not None:
        kind = "public" if config.publish_public else "private"
        words = f"Its adapter is published to {config.publish_to}, {kind} if it is new, with a tag for this run."
        return [words, licence_words(config.base)]
    if offered := offer.repository(config):
        return [f"It is not published. Tick below, and it goes to {offered}, private."]
    return [offer.problem] if offer.problem else []


def build_start(context: Context, note: gr.Textbox) -> tuple[Section, StartForm]:
    """The section, and the form, whose button the tab wires, since it opens Watch."""
    form = StartForm(context)
    outputs = [form.origin, form.publish, form.estimate, form.check, form.lines, form.dataset]
    section = Section("start", context, note, form.inputs[2:], outputs, form.refresh)
    section.on(form.check.click, form.look)
    return section, form


def doctor_html(report: Report | None, output: Sequence[str], is_job: bool = False) -> str:
    """The doctor's lines, each with its remedy, or what it has printed so far. `is_job`: runs train elsewhere."""
    if report is None:
        return f'<pre class="lt-log">{escape(chr(10).join(output))}</pre>' if output else ""
    items = "".join(
        f"<li><strong>{DOCTOR_WORDS[line.status]}: {escape(line.title)}.</strong> {escape(capitalised(line.evidence))}."
        + (f" <em>{escape(capitalised(line.remedy))}.</em>" if line.remedy else "")
        + "</li>"
        for line in sorted(report.lines, key=lambda line: list(DOCTOR_WORDS).index(line.status))
    )
    is_open = "" if report.is_good else " open"
    head = f"<strong>This machine:</strong> {escape(report.summary)}. It took {escape(report.cost)}."
    about = "The report to attach to a bug report is in the folder doctor of LOOKTHINK_HOME."
    if is_job:
        about += " Runs train in Jobs, each of which looks at its own machine first: the lines are in its log."
    return (
        f'<details class="lt-note lt-setup"{is_open}><summary>{head}</summary><ul>{items}</ul><p>{about}</p></details>'
    )


def estimate_html(estimate: RunEstimate, place: Sequence[str] = ()) -> str:
    """The estimated figures as a list, their basis, and where the run would train."""
    memory = estimate.memory
    low, high = (duration(3600 * hours) for hours in (estimate.hours_low, estimate.hours_high))
    figures = {
        "Steps": f"{estimate.num_steps:,}",
        "Answers": f"{estimate.completions:,}",
        "Time per step": f"{estimate.step_seconds:.2f} s",
        "Time in all": f"{duration(3600 * estimate.hours)} ({low} to {high})",
        "Price": dollars(estimate.dollars) or "enter dollars per hour",
        "Memory": f"{memory.need.total_gb:.1f} GB of {memory.free / 1e9:.0f} GB",
    }
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures.items())
    parts = (
        f"loading {duration(estimate.loading_seconds)}, training {duration(estimate.training_seconds)}, evaluation and "
        f"comparison {duration(estimate.after_seconds)}"
    )
    notes = [f"{capitalised(estimate.basis)}: {parts}.", f"{capitalised(memory.words)}."]
    notes += [*(f"{note}." for note in estimate.notes), *place]
    warning = ""
    if estimate.obstacle:
        warning = (
            f'<p class="lt-note lt-bad" role="status">This machine cannot run it. {escape(estimate.obstacle)}.</p>'
        )
    return (
        f'<h2 class="lt-panel-title">Before it starts</h2>{warning}<dl class="lt-figures-list">{items}</dl>'
        + "".join(f'<p class="lt-note lt-quiet">{escape(note)}</p>' for note in notes)
    )
