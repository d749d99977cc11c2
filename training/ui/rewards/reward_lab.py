"""The Rewards section: a run's rollouts as other weights, limits and reward functions would have scored them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from inference.common.errors import UserError
from inference.common.html import escape
from inference.ui.components import LiveDropdown, LiveSlider
from training.admin.access import Caller
from training.config.data_config import STARTER, check_there
from training.config.run_config import RunConfig
from training.grading.reward_loading import check_name
from training.grading.rewards import REWARDS
from training.launch.sampling import check_room
from training.learn.fresh_sample import MAX_PROBLEMS, check_size, new_sample, sample_config, samples
from training.learn.grades import GradeStore
from training.learn.regrading import lab_config, needed, num_to_grade
from training.learn.reward_lab import Recorded, compare, read_rollouts, scored
from training.runs.record import RunRecord
from training.ui.base.context import Context, Part, Section
from training.ui.base.html import capitalised
from training.ui.base.plots import PLOTS_JS
from training.ui.rewards.reward_cards import changed_groups_html, curves_html, figures_html
from training.ui.rewards.reward_words import about_html, config_of, cost_words, label, note_html, read_words
from training.ui.sections.data import set_choices
from training.ui.sections.form_fields import number_field, read_number

DEFAULT_PROBLEMS = 16
"""Problems of a sample where the field is empty."""
MAX_REWARDS = 8
"""Reward functions that have a slider."""
MAX_WEIGHT = 1_000_000.0
MAX_LENGTH = 32_768
"""Tokens that a run's `max_completion_length` can be."""
_MAX_KEPT = 4
"""Runs whose rewards stay in memory."""
_STEP = 0.001
NO_RUN = "There are no rollouts yet. They come with the first step of a run, or with a fresh sample of a dataset."


def build_rewards(context: Context, note: gr.Textbox) -> tuple[Section, RewardLab]:
    """The section, inside its sub-tab, and its parts, for the tab to wire Start; nothing of a run is in it yet."""
    with gr.Column(elem_id="lt-rewards"):
        lab = RewardLab(context, note)
    return lab.section, lab


class RewardLab:
    """The settings, and what they change."""

    def __init__(self, context: Context, note: gr.Textbox) -> None:
        self._context, self._store = context, GradeStore(context.settings.home)
        self._recorded: dict[tuple[Path, int, int], Recorded] = {}
        self.chosen = LiveDropdown([], label="Run", filterable=False, elem_id="rewards-run")
        self.filled, self.names = gr.State(""), gr.State([])
        """The run that the fields are filled for, with the number of the filling; the reward functions in them."""
        with gr.Row(elem_classes="lt-columns"):
            with gr.Column(scale=5, min_width=300, elem_classes=["lt-left", "lt-form"]):
                self._build_settings()
            with gr.Column(scale=7, min_width=300, elem_classes="lt-right"):
                status = gr.HTML(js_on_load=None, elem_id="rewards-status")
                with gr.Row(elem_classes="lt-actions"):
                    self.grade = gr.Button(
                        "Grade them", variant="primary", size="sm", visible=False, elem_id="rewards-grade"
                    )
                    self.stop = gr.Button("Stop", size="sm", visible=False, elem_id="rewards-stop")
                figures = gr.HTML(js_on_load=None, elem_id="rewards-figures")
                plots = gr.HTML(js_on_load=PLOTS_JS, elem_id="rewards-plots")
        groups = gr.HTML(js_on_load=None, elem_id="rewards-groups")
        fields = [*self.weights, self.tolerance, self.length]
        outputs: list[Component] = [self.chosen, self.filled, self.names, *fields, status, self.grade, self.stop]
        inputs = [self.chosen, self.filled, self.names, *fields]
        self.section = Section("rewards", context, note, inputs, [*outputs, figures, plots, groups], self.refresh)
        self._wire()

    def _build_settings(self) -> None:
        self.weights = [
            LiveSlider(
                0, 2, value=0, step=_STEP, label="Weight", visible=False, buttons=[], elem_id=f"rewards-weight-{i}"
            )
            for i in range(MAX_REWARDS)
        ]
        with gr.Row(elem_classes="lt-two"):
            self.length = number_field("Length limit (tokens)", "Longer answers are cut there.", "lab-length")
            self.tolerance = number_field("Tolerance", "Relative error allowed.", "lab-tolerance")
        with gr.Row(elem_classes="lt-two"):
            self.more = LiveDropdown(
                [*REWARDS],
                value=None,
                label="Another reward",
                info="One of ours, or module:function of a file on this machine, which is run.",
                allow_custom_value=True,
                elem_id="rewards-more",
            )
            self.add = gr.Button("Add it", size="sm", elem_id="rewards-add")
        with gr.Row(elem_classes="lt-actions"):
            self.take = gr.Button("Take into Start", size="sm", elem_id="rewards-take")
            self.reset = gr.Button("As the run had it", size="sm", elem_id="rewards-reset")
        with gr.Accordion("A fresh sample of a dataset", open=False, elem_classes="lt-more", elem_id="rewards-fresh"):
            with gr.Row(elem_classes="lt-two"):
                self.dataset = LiveDropdown(
                    [STARTER],
                    value=STARTER,
                    label="Dataset",
                    info="As in Start, or the name of one of your sets. The served model answers some of its problems.",
                    allow_custom_value=True,
                    elem_id="rewards-dataset",
                )
                self.problems = number_field(
                    "Problems", f"{DEFAULT_PROBLEMS} if empty, at most {MAX_PROBLEMS}.", "lab-problems"
                )
            self.sample = gr.Button("Sample", size="sm", elem_id="rewards-sample")

    def _wire(self) -> None:
        on = self.section.on
        on(self.chosen.input, self.refresh)
        moved = [event for slider in self.weights for event in (slider.input, slider.release)]  # keys give no release
        on(partial(gr.on, moved), self.refresh, trigger_mode="always_last")
        for field in (self.tolerance, self.length):
            on(field.submit, self.refresh)
            on(field.blur, self.refresh)
        on(self.add.click, self._add, [self.more])
        on(self.reset.click, self._reset)
        on(self.grade.click, self._grade)
        on(self.stop.click, self._stop)
        on(self.sample.click, self._sample, [self.dataset, self.problems])

    def refresh(self, caller: Caller, run_id: object, filled: object, names: object, *fields: Any) -> list[object]:
        """The settings of the chosen run, or of the newest with rollouts, and what the fields change."""
        records, regrading = self.records(), self._context.regrading
        record = next((one for one in records if one.id == run_id), None)
        labels, hidden = [(label(one), one.id) for one in records], gr.update(visible=False)
        is_begun = record is None and regrading.folder is not None and regrading.folder.name == run_id
        if is_begun and regrading.is_running:
            choices = gr.update(choices=[(f"{run_id} · being made", run_id), *labels], value=run_id)
            words = note_html(f"{capitalised(regrading.progress)}.")
            return [choices, "", [], *[gr.skip()] * len(fields), words, hidden, gr.update(visible=True), "", "", ""]
        trouble = note_html(capitalised(regrading.error), "bad") if is_begun and regrading.error else ""
        record = record or next(iter(records), None)
        choices = gr.update(choices=labels, value=record.id if record else None)
        config = None if record is None else config_of(record)
        if record is None or config is None or trouble:
            words = f"This version cannot read the settings of {record.id}. Choose another run." if record else ""
            words = trouble or (note_html(words, "bad") if words else note_html(NO_RUN))
            return [choices, "", [], *[gr.skip()] * len(fields), words, hidden, hidden, "", "", ""]
        known = [str(name) for name in names] if isinstance(names, list) else []
        if str(filled).partition("#")[0] != record.id:
            filled, known, fields = f"{record.id}#0", *_filled(config)
        shown = [*self._sliders(str(filled), known, fields, config), *self._numbers(str(filled), fields)]
        status, *rest = self._outcome(record, config, known, fields)
        named = f'<div data-run="{escape(record.id)}">{status}</div>'  # for the address
        return [choices, filled, known, *shown, named, *rest]

    def _sliders(self, filled: str, names: Sequence[str], fields: Sequence[Any], config: RunConfig) -> list[Part]:
        parts = []
        for i in range(MAX_REWARDS):
            name = names[i] if i < len(names) else ""
            top = max(2.0, 2 * config.rewards.get(name, 0.0))
            value = gr.update(label=f"Weight of {name}", maximum=top, value=fields[i] or 0.0, visible=True)
            parts.append(Part(value if name else gr.update(visible=False), about=f"{filled}#{name}", is_held=True))
        return parts

    def _numbers(self, filled: str, fields: Sequence[Any]) -> list[Part]:
        return [Part(str(value or ""), about=filled, is_held=True) for value in fields[MAX_REWARDS:]]

    def _outcome(
        self, record: RunRecord, config: RunConfig, names: Sequence[str], fields: Sequence[Any]
    ) -> list[object]:
        """Status, the two buttons, figures, curves and groups."""
        regrading = self._context.regrading
        hidden, nothing = gr.update(visible=False), ["", "", ""]
        is_here = regrading.folder == record.folder
        if regrading.is_running and is_here:
            words = f"{capitalised(regrading.progress)}. What is done is kept, also if you stop."
            return [note_html(words), hidden, gr.update(visible=True), *nothing]
        try:
            recorded = self._rollouts(record, config)
            other = self._config(config, names, fields)
            after = needed(recorded, config, other, self._store)
            before = needed(recorded, config, config, self._store)
        except UserError as error:
            return [note_html(capitalised(str(error)), "bad"), hidden, hidden, *nothing]
        lacking = num_to_grade(config, other, before, after)
        is_asked = is_here and regrading.asked == other
        notes = regrading.notes if is_asked else []
        reason = self._reason(notes) if lacking and is_asked else ""
        cost = note_html(cost_words(lacking, after, regrading.folder if regrading.is_running else None))
        button = gr.update(visible=bool(lacking) and not regrading.is_running)
        if not after.is_enough:
            return [reason + cost, button, hidden, *nothing]
        change = compare(recorded, scored(recorded, config, before.rewards), scored(recorded, other, after.rewards))
        words = note_html(read_words(recorded, config, other, after, names))
        for each in dict.fromkeys([*before.left_out_words, *after.left_out_words, *notes]):
            words += note_html(each, "warn")
        words += (reason + cost if lacking else "") + about_html(record, config, recorded)
        groups = changed_groups_html(change, recorded, after, other.max_completion_length, self._context, record)
        return [words, button, hidden, figures_html(change, recorded), curves_html(change), groups]

    def _reason(self, notes: Sequence[str]) -> str:
        """The reason why the grades that were asked for lack all the same; "" if they were stopped or notes say it."""
        words = self._context.regrading.error
        if not words and not notes and self._context.regrading.has_ended:
            words = (
                "the process ended before the grades were made, as if a reward function had ended it; look into that"
            )
        return note_html(f"{capitalised(words.rstrip('.'))}.", "bad") if words else ""

    def records(self) -> list[RunRecord]:
        """The runs with rollouts, the newest first, and then the samples, which no launcher has made."""
        runs = [one for one in self._context.store.list() if (one.folder / "rollouts.jsonl").is_file()]
        found = sorted(samples(self._context.settings.home).glob("sample-*/rollouts.jsonl"), reverse=True)
        texts = [(path.parent, _text(path.with_name("config.json"))) for path in found]
        return runs + [RunRecord(path.name, path, text, launcher="") for path, text in texts if text]

    def _record(self, run_id: object) -> RunRecord:
        """Raises `UserError` for one that is no longer there."""
        record = next((one for one in self.records() if one.id == run_id), None)
        if record is None:
            raise UserError(f"{str(run_id)[:80]} has no rollouts here. Choose a run first.")
        return record

    def _rollouts(self, record: RunRecord, config: RunConfig) -> Recorded:
        """The rollouts of a run, read again where the file has changed."""
        try:
            state = (record.folder / "rollouts.jsonl").stat()
        except OSError as error:
            raise UserError(f"the rollouts of {record.id} cannot be read ({error.strerror})") from error
        key = (record.folder, state.st_mtime_ns, state.st_size)
        if key not in self._recorded:
            recorded = read_rollouts(record.folder, config)
            kept = [(k, v) for k, v in self._recorded.items() if k[0] != record.folder]
            self._recorded = dict([*kept[1 - _MAX_KEPT :], (key, recorded)])
        recorded = self._recorded[key]
        if not recorded.num_completions:
            raise UserError("this run has no rollouts that can be read yet")
        return recorded

    def _config(self, config: RunConfig, names: Sequence[str], fields: Sequence[Any]) -> RunConfig:
        """The run's configuration with the fields' values; what has no slider keeps its weight. Raises `UserError`."""
        rewards = dict(config.rewards)
        for name, value in zip(names, fields):
            weight, own = read_number(f"the weight of {name}", value) or 0.0, config.rewards.get(name)
            most = max(MAX_WEIGHT, own or 0.0)
            if not 0 <= weight <= most:
                raise UserError(f"the weight of {name} is {weight:g}; give 0 to {most:,.0f}")
            rewards[name] = own if own is not None and abs(own - weight) < _STEP else weight
        rewards = {name: weight for name, weight in rewards.items() if weight or name in config.rewards}
        if not any(rewards.values()):
            raise UserError("all weights are 0, so that nothing is rewarded; raise at least one")
        tolerance = read_number("the tolerance", fields[MAX_REWARDS], "0.05") or 0.0
        if not 0 <= tolerance < 1:
            raise UserError(f"the tolerance is {tolerance:g}; give a share from 0 to below 1, such as 0.05")
        typed = read_number("the length limit", fields[MAX_REWARDS + 1], "64")
        length = float(config.max_completion_length) if typed is None else typed
        if not (1 <= length <= MAX_LENGTH and length.is_integer()):
            raise UserError(f"the length limit is {length:,g}; give whole tokens from 1 to {MAX_LENGTH:,}")
        return lab_config(config, rewards, tolerance, int(length))

    def config(self, run_id: object, filled: object, names: object, *fields: Any) -> RunConfig:
        """The settings of the next run: the run's, changed by the fields. Raises `UserError`."""
        config = config_of(self._record(run_id))
        if config is None or not isinstance(names, list):
            raise UserError("Choose a run first.")
        other = self._config(config, [str(name) for name in names], fields)
        return other.model_copy(update={"rewards": {name: weight for name, weight in other.rewards.items() if weight}})

    def _add(self, caller: Caller, run_id: object, filled: object, names: object, *values: Any) -> list[object]:
        """One more reward function, with weight 1."""
        *fields, added = values
        known, name = [str(one) for one in names] if isinstance(names, list) else [], str(added or "").strip()
        check_name(name)
        if name in known:
            raise UserError(f"{name} is there already; change its weight.")
        if len(known) >= MAX_REWARDS:
            raise UserError(
                f"{MAX_REWARDS} rewards have a slider here, which is the limit. Score a run with more of them in a "
                "terminal: python -m training rewards RUN --rewards NAMES_AND_WEIGHTS"
            )
        fields[len(known)] = 1.0
        return self.refresh(caller, run_id, filled, [*known, name], *fields)

    def _reset(self, caller: Caller, run_id: object, filled: object, names: object, *fields: Any) -> list[object]:
        """The fields as the run had them."""
        run, _, number = str(filled).partition("#")
        config = config_of(self._record(run))
        if config is None:
            return self.refresh(caller, run_id, "", names, *fields)
        known, own = _filled(config)
        return self.refresh(caller, run_id, f"{run}#{int(number or 0) + 1}", known, *own)

    def _grade(self, caller: Caller, run_id: object, filled: object, names: object, *fields: Any) -> list[object]:
        """Start the process that makes the missing grades."""
        record = self._record(run_id)
        config = config_of(record)
        if config is not None and isinstance(names, list):
            self._context.regrading.start(record.folder, self._config(config, [str(name) for name in names], fields))
        return self.refresh(caller, run_id, filled, names, *fields)

    def _sample(self, caller: Caller, run_id: object, filled: object, names: object, *values: Any) -> list[object]:
        """Start the process that samples a dataset; the sample is chosen at once."""
        *fields, dataset, asked = values
        typed, settings = read_number("the number of problems", asked, "16"), self._context.settings
        num = DEFAULT_PROBLEMS if typed is None else typed
        wanted = str(dataset or "").strip()
        name = dict(set_choices(self._context.sets)).get(wanted, wanted)
        check_there(name)
        check_size(num)
        check_room(settings.home, sample_config(name, settings))
        path = new_sample(settings.home)
        self._context.regrading.start_sample(path, name, int(num))
        return self.refresh(caller, path.name, "", names, *fields)

    def _stop(self, caller: Caller, *values: Any) -> list[object]:
        self._context.regrading.stop()
        return self.refresh(caller, *values)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _filled(config: RunConfig) -> tuple[list[str], tuple[Any, ...]]:
    """The reward functions of a run, and the values of the fields for it."""
    names = list(config.rewards)[:MAX_REWARDS]
    weights = [config.rewards[name] for name in names] + [0.0] * (MAX_REWARDS - len(names))
    return names, (*weights, f"{config.data.tolerance:g}", str(config.max_completion_length))
