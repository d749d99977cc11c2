"""What Watch says of a run, and what the cards say of an adapter: all in words, all foreign text escaped."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from inference.adapters.catalog import Version
from inference.adapters.served import Entry, Serving
from training.runs.diagnosis import Finding
from training.runs.metrics import CURVES, METRICS
from training.runs.record import STATUSES, RunRecord
from training.runs.snapshot import Snapshot
from training.ui.sections.adapter_cards import CardFacts, serving_html, versions_html
from training.ui.sections.watch_cards import STATES, findings_html, log_html, plots_html, status_html

EVIL = "<script>alert(1)</script>"
RECORD = RunRecord("20261122-143000-a1b2", Path("run"), "{}", asked_by=EVIL, asked_at=1e9, max_hours=2.0)


def snapshot(**values):
    known = {"status": "running", "reason": "", "stage": "", "step": 3, "max_steps": 20}
    return Snapshot(**known | {"seconds_left": 95.0, "hours": 0.1, "cost_dollars": None} | values)


def test_there_are_words_for_every_status_and_a_label_for_every_curve():
    assert set(STATES) == set(STATUSES) and all(METRICS[name].label for name in CURVES)


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_says_what_it_means_or_what_to_do(status):
    html = status_html(RECORD, snapshot(status=status))
    assert STATES[status][0] in html and "<script" not in html
    assert "lt-run-reason" in html
    assert ("Time left" in html) == (status in ("starting", "running", "stopping"))


def test_figures_of_a_run_carry_units_and_budgets():
    html = status_html(RECORD, snapshot())
    assert "3 of 20" in html and "about 2 min" in html and "6 min of 2 h 00 min" in html
    assert 'aria-valuenow="3"' in html and "unknown: no price per hour was given" in html
    priced = RunRecord("a", Path("run"), "{}", dollars_per_hour=2.5, max_dollars=4.0)
    assert "$0.25 of $4.00" in status_html(priced, snapshot(cost_dollars=0.25))
    young = status_html(RECORD, snapshot(step=0, max_steps=None, seconds_left=None, hours=None))
    assert "not known before the data is read" in young and "progressbar" not in young
    assert "Now: evaluating the adapter." in status_html(RECORD, snapshot(stage="evaluating the adapter"))


def test_the_figures_of_a_job_tell_their_age():
    job = replace(RECORD, launcher="job", job={"copied_at": time.time() - 40})
    assert "Figures from</dt><dd>40 s ago" in status_html(job, snapshot())
    assert "Figures from" not in status_html(RECORD, snapshot())


def test_rows_that_were_left_out_are_shown() -> None:
    assert "<dt>Rows left out</dt><dd>3 no gold</dd>" in status_html(RECORD, snapshot(dropped="3 no gold"))
    assert "left out" not in status_html(RECORD, snapshot())


def test_the_diagnosis_is_told_with_its_remedy():
    html = findings_html([Finding("no signal", f"{EVIL} everywhere", "Raise it.")], 20)
    assert "No signal" in html and "Raise it." in html and "<script" not in html
    assert "No problems found.<" in findings_html([], 20) and "first step" in findings_html([], 0)
    assert "show only after 20 steps" in findings_html([], 19)
    assert plots_html(snapshot(curves={"reward": [(1.0, 0.5)]})).count("No data yet") == 5


def test_the_log_is_text_and_a_bar_stands_there_once():
    html = log_html(f"start\n10%\r20%\r30%\n{EVIL}\x1b[31m\r\n")
    assert "30%" in html and "10%" not in html and "&lt;script&gt;" in html and "\x1b" not in html
    assert "empty so far" in log_html("\n")


def test_a_version_shows_its_evaluation_and_its_comparison(tmp_path):
    share = {"value": 0.94, "low": 0.9, "high": 0.97}
    overall = {"overall": {"strict": share, "lenient": {"value": EVIL}}}
    (tmp_path / "evaluation.json").write_text(json.dumps({"conditions": {"adapter-thinking": overall}}))
    scores = {"strict": share}
    difference = {"strict": {"value": 0.05, "low": -0.01, "high": 0.11}}
    comparison = {"new_scores": scores, "served_scores": scores, "differences": difference, "num_rows": 200}
    comparison |= {"served": {"name": EVIL}, "reason": EVIL, "decision": "waits", "outcome": "It waits."}
    version = Version(EVIL, tmp_path, "run", None, run="r1", comparison=comparison)
    html = versions_html([version], CardFacts())
    assert "94.0 % <small>90.0 to 97.0</small>" in html and "+5.0 <small>−1.0 to +11.0</small>" in html
    assert "200 validation problems" in html and "It waits." in html and "<script" not in html
    unable = versions_html([version], CardFacts(can_promote=False))
    assert html.count('data-act="promote"') == 1 and 'data-act="promote"' not in unable
    assert "It waits." not in versions_html([replace(version, origin="promoted")], CardFacts())


def test_only_what_can_be_served_has_a_button(tmp_path):
    served = Version("one", tmp_path, "promoted", None, is_served=True)
    broken = Version("two", tmp_path, "folder", None, problem="Its weights are missing.")
    html = versions_html([served, broken], CardFacts())
    assert (
        not re.search('data-act="(promote|show|hide|delete|merge)"', html)
        and "Its weights are missing." in html
        and "Served now" in html
    )
    assert "Start" in versions_html([], CardFacts())


def test_a_roll_back_says_what_it_returns_to(tmp_path):
    now = Serving(tmp_path, "new", "served.json", "2026-11-22T14:30:00Z", EVIL, Entry(adapter="old"))
    html = serving_html(now, "old")
    assert (
        "Roll back to old" in html and 'since <time datetime="2026-11-22T14:30:00Z">' in html and "<script" not in html
    )
    assert "<button" not in serving_html(now, None)
    pinned = serving_html(Serving(tmp_path, "new", "LOOKTHINK_ADAPTER"), "old")
    assert "<button" not in pinned and "Start the app without it" in pinned
