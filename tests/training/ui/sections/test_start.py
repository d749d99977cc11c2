"""The form of Start: every setting is in it, and what is typed reaches `load_config` as the command line's does."""

from __future__ import annotations

import argparse
import base64
import html as html_lib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import gradio as gr
import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given

from inference.common.errors import UserError
from inference.common.settings import load_settings
from training.admin.access import Access, Caller
from training.cli.runs import add_arguments
from training.config.data_config import DataConfig
from training.config.options import config_values
from training.config.run_config import PROFILES, RunConfig, load_config
from training.doctor.report import Line, new_report
from training.hub.publish.offer import PublishOffer
from training.ui.sections.form_fields import BUDGETS, NOT_IN_FORM, Fields, all_names, read_number, shown
from training.ui.sections.runs_table import table_html
from training.ui.sections.start import ADVANCED, MAIN, build_start, doctor_html, published_words, served_words
from training.ui.sections.start_settings import command_html, command_line, read_settings, rows_html

SETTINGS = load_settings(env={"LOOKTHINK_BASE": "starter"}, has_gpu=False)


@pytest.fixture(scope="module")
def form() -> Fields:
    fields = Fields(SETTINGS)
    with gr.Blocks(analytics_enabled=False):
        for name in all_names():
            fields.add(name)
    return fields


def test_every_setting_is_in_the_form_once() -> None:
    placed = [*MAIN, *(name for group in ADVANCED.values() for name in group)]
    own = {name for name in RunConfig.model_fields if name not in (*NOT_IN_FORM, *BUDGETS)}
    assert sorted(placed) == sorted(own | {f"data.{name}" for name in DataConfig.model_fields})


def test_an_untouched_form_trains_what_is_served() -> None:
    """As `python -m training start` without an option does."""
    settings = load_settings(env={"LOOKTHINK_BASE": "me/base"}, has_gpu=True)
    with gr.Blocks(analytics_enabled=False):
        fields = Fields(settings)
        for name in all_names():
            fields.add(name)
    begun = [component.value for component in fields.components.values()]
    config = fields.config(None, fields.values("a100", *begun))
    assert config == load_config(deployment=settings) and (config.profile, config.base) == ("a100", "me/base")
    assert served_words(config, settings) == []


def test_an_adapter_that_could_not_answer_here_is_named_before_the_start() -> None:
    [words] = served_words(load_config("a100"), SETTINGS)
    assert words.startswith("Its adapter cannot answer here: the starter answers, and the run trains Qwen/")


def test_the_form_says_where_it_publishes_and_the_licence_of_the_base() -> None:
    settings = load_settings(env={"LOOKTHINK_BASE": "Qwen/Qwen2.5-VL-3B-Instruct"}, has_gpu=True)
    offer, config = PublishOffer(settings, lambda: "me"), load_config(deployment=settings)
    [words] = published_words(config, offer)
    name = "me/Qwen2.5-VL-3B-Instruct-multimodal-open-r1-8k-verified-lookthink"
    assert words == f"It is not published. Tick below, and it goes to {name}, private."
    [where, licence] = published_words(offer.applied(config, True), offer)
    assert f"published to {name}, private" in where and "a tag for this run" in where
    assert "qwen-research, for research, not for commercial use" in licence
    assert published_words(config, PublishOffer(settings, str)) == []


def test_the_doctors_lines_on_the_page() -> None:
    """What is wrong comes first and is open; texts from a machine are escaped."""
    good = Line(name="base", title="Base", status="pass", evidence="it <loads>")
    bad = Line(name="disk", title="Disk", status="fail", evidence="0.1 GB free", remedy="make room")
    report = new_report("starter", "short", [good, bad], time=1.0, seconds=40.0)
    html = doctor_html(report, [])
    assert html.index("Wrong: Disk") < html.index("Right: Base") and "<em>Make room.</em>" in html
    assert "It &lt;loads&gt;" in html and "<details class=" in html and " open>" in html
    assert " open>" not in doctor_html(new_report("starter", "short", [good], time=1.0, seconds=40.0), [])
    assert doctor_html(None, []) == "" and "pass  Disk: &lt;" in doctor_html(None, ["pass  Disk: <"])


def test_the_button_starts_the_doctor_for_the_forms_run(home, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and its lines come with the next refreshes; the button rests meanwhile."""
    from training.ui.training_app import TrainingApp

    monkeypatch.setenv("LOOKTHINK_BASE", "starter")
    app = TrainingApp(load_settings(), Access(home))
    with gr.Blocks(analytics_enabled=False):
        section, form = build_start(app.context(lambda: None), gr.Textbox())
    caller, values = Caller("me"), [component.value for component in section.inputs]
    before = dict(zip(section.outputs, section.refresh(caller, *values)))
    assert before[form.lines] == "" and before[form.check]["interactive"]
    after = dict(zip(section.outputs, form.look(caller, *values)))
    try:
        assert app.examination.is_running and app.context(lambda: None).is_busy()
        assert not after[form.check]["interactive"] and "at most three minutes" in after[form.check]["value"]
        assert json.loads((home / "doctor" / "asked.json").read_text())["profile"] == "starter"
    finally:
        app.examination.stop()
    assert not app.examination.is_running


@pytest.mark.parametrize("profile", PROFILES)
def test_an_untouched_form_is_the_profile(form: Fields, profile: str) -> None:
    config = load_config(profile)
    values = form.values(profile, *form.shown(config))
    assert values == {}
    assert load_config(profile, values) == config


def test_a_profile_shown_in_another_one_arrives_whole(form: Fields) -> None:
    """Every kind of value goes through text and back."""
    a100 = load_config("a100")
    made = load_config("starter", form.values("starter", *form.shown(a100)))
    assert made.model_copy(update={"profile": "a100"}).model_dump() == a100.model_dump()


@pytest.mark.parametrize(
    ("name", "typed", "words"),
    [
        ("max_steps", "many", "max_steps is 'many'"),
        ("max_steps", "-3", "max_steps"),
        ("num_generations", "1", "num_generations"),
        ("rewards", "{accuracy_reward: 0}", "no reward has a weight"),
        ("rewards", "{[", "rewards is"),
        ("data.dataset", "https://example.org/x", "addresses are not fetched"),
        ("data.split", "train[5:", "is not a split"),
        ("base", "x" * 5000, "at most 4,000"),
    ],
)
def test_what_is_wrong_is_named(form: Fields, name: str, typed: str, words: str) -> None:
    sent = dict(zip(form.components, form.shown(load_config("starter"))))
    with pytest.raises(UserError) as refusal:
        load_config("starter", form.values("starter", *(sent | {name: typed}).values()))
    assert words in str(refusal.value)


@given(st.sampled_from(all_names()), st.one_of(st.text(max_size=40), st.booleans(), st.none(), st.floats()))
def test_whatever_is_sent_is_a_configuration_or_a_refusal(name: str, value: Any) -> None:
    fields = Fields(SETTINGS)
    fields.components = dict.fromkeys(all_names())
    sent = {each: shown(each, load_config("starter")) for each in all_names()} | {name: value}
    try:
        assert isinstance(load_config("starter", fields.values("starter", *sent.values())), RunConfig)
    except UserError as refusal:
        assert str(refusal)


@pytest.mark.parametrize(("typed", "number"), [("", None), (None, None), (" 2.5 ", 2.5), ("$1,200", 1200.0)])
def test_numbers_that_may_be_left_out(typed: Any, number: float | None) -> None:
    assert read_number("max_hours", typed) == number


@pytest.mark.parametrize("typed", ["two", "nan", "inf", "1e999", [1]])
def test_what_is_no_number_is_refused(typed: Any) -> None:
    with pytest.raises(UserError, match="max_hours"):
        read_number("max_hours", typed)


def test_the_table_of_no_runs_says_what_to_do() -> None:
    assert "Start" in table_html([], [])


PARSER = argparse.ArgumentParser(prog="python -m training start")
add_arguments(PARSER)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "max_steps": st.integers(50, 500).map(str),
        "learning_rate": st.sampled_from(["1e-05", "0.0002"]),
        "system_prompt": st.sampled_from(["Look, then answer.", '-- it\'s "quoted" $HOME `x`', "none of it"]),
        "lora_modules": st.lists(st.sampled_from(["q_proj", "v_proj", "o_proj"]), min_size=1, unique=True),
        "rewards": st.fixed_dictionaries({"accuracy_reward": st.sampled_from([0.5, 1, 2])}),
        "skip_zero_signal": st.booleans(),
        "curriculum": st.none(),
        "data": st.fixed_dictionaries({}, optional={"seed": st.integers(0, 9).map(str), "tolerance": st.just("0.01")}),
    },
)


@given(st.sampled_from(["starter", "a100", "24gb"]), CHANGES)
def test_the_command_and_the_file_start_the_same_run(profile: str, changes: dict[str, Any]) -> None:
    changes = {name: value for name, value in changes.items() if value != {}}
    line = command_line(profile, changes, {"max_hours": 2.5, "promote": True, "name": ""})
    args = PARSER.parse_args(shlex.split(line)[4:])
    asked = load_config(profile, changes)
    assert load_config(args.profile, config_values(args)) == asked.model_copy(update={"max_hours": 2.5})
    assert args.promote is True and args.name == ""
    html = command_html(profile, changes, {})
    saved = yaml.safe_load(base64.b64decode(re.search(r'base64,([^"]+)"', html)[1]))
    assert load_config(None, saved) == asked and html_lib.escape(command_line(profile, changes, {}), quote=True) in html


def test_a_file_of_settings_is_read_and_a_wrong_one_is_refused_in_words(tmp_path: Path) -> None:
    good = tmp_path / "settings.yaml"
    good.write_text("profile: starter\nmax_steps: 7\n")
    assert read_settings(str(good)) == {"profile": "starter", "max_steps": 7}
    for content, words in {"- a": "not a list", "a: [": "not YAML", "x: " + "y" * 300_000: "at most 200,000"}.items():
        good.write_text(content)
        with pytest.raises(UserError, match=words):
            read_settings(str(good))
    with pytest.raises(UserError, match="no file"):
        read_settings(None)


def test_refusals_speak_of_the_forms_labels(form: Fields) -> None:
    with pytest.raises(UserError) as refused:
        form.config("starter", {"max_completion_length": 0})
    words = form.in_words(str(refused.value))
    assert "max_completion_length" not in words and "“Max completion length”" in words
    assert form.in_words("max_dollars needs dollars_per_hour") == "“Stop after (dollars)” needs “Dollars per hour”"


def test_the_first_rows_of_a_dataset_are_shown_as_the_model_gets_them() -> None:
    html = rows_html(load_config("starter"))
    assert html.count("<article") == 3 or html.count('class="lt-own"') == 3
    assert "of 1,000 rows" in html or "rows" in html
    with pytest.raises(UserError, match="no split"):
        rows_html(load_config("starter", {"data": {"split": "nothing"}}))
