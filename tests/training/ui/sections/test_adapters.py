"""Publishing from the page: the form begins with what space.yaml says, and a card's button queues its run."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import pytest

from inference.adapters.catalog import adapter_versions
from inference.adapters.served import promote
from inference.adapters.shown import change_shown, read_shown
from inference.common.errors import UserError
from inference.common.settings import Settings, load_settings
from inference.common.space_file import SharingSection
from inference.server.shares import Shares
from tests.support.run_folders import finished_run
from tests.support.samples import perturbed_adapter
from tests.support.shared_answers import answer_about, noise, shared
from training.admin.access import Access, Caller
from training.hub.publish.queue import PublishQueue
from training.learn.pinned import PinnedRow, Said
from training.learn.promoted import Answers
from training.ui.answers.pinned import PinnedPanel, asked_pair, report_html
from training.ui.base.download import Downloads
from training.ui.sections.adapter_cards import CardFacts, shared_html, versions_html
from training.ui.sections.adapters import AdapterActions, PublishPanel
from training.ui.sections.form_fields import Fields
from training.ui.training_app import TrainingApp


@pytest.fixture
def settings() -> Settings:
    found = load_settings(env={"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(Path.cwd())}, has_gpu=False)
    changes = {"publish_to": "me/from-the-file", "publish_every_minutes": 5.0, "publish_public": True}
    return found.model_copy(update={"training": found.training.model_copy(update=changes)})


def test_the_form_begins_with_what_space_yaml_says(settings: Settings) -> None:
    with gr.Blocks():
        form = Fields(settings)
        for name in ("publish_to", "publish_every_minutes", "publish_public", "max_steps"):
            form.add(name)
    begun = [component.value for component in form.components.values()]
    assert begun[:3] == ["me/from-the-file", "5", True]
    config = form.config("starter", form.values("starter", *begun))
    assert (config.publish_to, config.publish_every_minutes, config.publish_public) == ("me/from-the-file", 5, True)
    emptied = form.config("starter", form.values("starter", "", *begun[1:]))
    assert emptied.publish_to is None


def test_a_card_publishes_its_run(settings: Settings, home: Path) -> None:
    settings = settings.model_copy(update={"home": home})
    run = finished_run(home / "runs" / "night")
    context = TrainingApp(settings, Access(home)).context(lambda: None)
    with gr.Blocks():
        panel = PublishPanel(context)
    versions = adapter_versions(settings)
    assert panel.states(versions) == {"night-adapter": ""}, "the shipped adapter has no run to publish"
    assert versions_html(versions, CardFacts(False, panel.states(versions))).count('data-act="publish"') == 1
    assert panel.publish(versions, "night-adapter", " me/typed ", False, True) == "night is on its way to me/typed."
    assert panel.publish(versions, "night-adapter", "", True, False) == "night is on its way to me/from-the-file."
    waiting = PublishQueue(run.path).waiting()
    assert [(item.repo, item.public) for item in waiting] == [("me/typed", False), ("me/from-the-file", True)]
    assert context.is_busy(), "the page looks again until it is there"
    assert "on its way to me/from-the-file" in panel.states(versions)["night-adapter"]
    for adapter, repo in (("../night", "me/a"), ("gone", "me/a"), ("night-adapter", "no repository")):
        with pytest.raises(UserError):
            panel.publish(versions, adapter, repo, False, False)


def test_what_the_hub_says_is_escaped(settings: Settings, home: Path) -> None:
    versions = adapter_versions(settings.model_copy(update={"home": home}))
    words = {versions[0].name: "<b onclick=x>it</b>"}
    assert "<b onclick" not in versions_html(versions, CardFacts(publishing=words))


@pytest.fixture
def actions(settings: Settings, home: Path) -> AdapterActions:
    settings = settings.model_copy(update={"home": home})
    perturbed_adapter(home / "adapters" / "mine")
    context = TrainingApp(settings, Access(home)).context(lambda: None)
    with gr.Blocks():
        panels = PublishPanel(context), None, Downloads(), PinnedPanel(context, "")
        return AdapterActions(context, *panels)  # type: ignore[arg-type]


def pressed(actions: AdapterActions, act: str, adapter: str, title: str = "") -> tuple[str, str]:
    """What the section says, and its cards, after a button was pressed."""
    done, _, _, cards, *_ = pressed_values(actions, act, adapter, title)
    return str(done), str(cards)


def pressed_values(actions: AdapterActions, act: str, adapter: str, title: str = "") -> list[object]:
    event = gr.EventData(None, {"act": act, "adapter": adapter, "title": title})
    return actions.act(Caller("admin"), event, "", "", False, False)


def test_an_adapter_is_named_shown_and_deleted(actions: AdapterActions, home: Path) -> None:
    said, cards = pressed(actions, "rename", "mine", " Charts <b>best</b> ")
    assert ">Charts &lt;b&gt;best&lt;/b&gt;</a></h2>" in cards and "<b>best" not in said + cards
    said, cards = pressed(actions, "show", "mine")
    assert "Visitors see mine" in said and "Visitors see it" in cards and read_shown(home).names == {"mine"}
    assert "Show to visitors" in pressed(actions, "hide", "mine")[1] and not read_shown(home).names
    said, cards = pressed(actions, "download", "mine")
    assert 'href="admin/archive/' in said and "vllm serve" in cards and "--max-lora-rank 16" in cards
    promote(home, home / "adapters" / "mine", "me")
    with pytest.raises(UserError, match="stays"):
        pressed(actions, "delete", "starter-adapter")
    promote(home, actions._context.store.home / "adapters" / "mine", "me")
    said, cards = pressed(actions, "delete", "mine")
    assert "mine is deleted" in said and not (home / "adapters" / "mine").exists() and "is gone" not in cards
    for act in ("rename", "delete", "nonsense"):
        with pytest.raises(UserError):
            pressed(actions, act, "gone")


def test_the_owner_sees_shared_answers_and_deletes_one(actions: AdapterActions, home: Path) -> None:
    shares = Shares(home, SharingSection(allowed=True))
    kept, gone = shared(shares)[0], shared(shares, days_ago=3)[0]
    listed = str(actions.refresh(Caller("admin"))[4])
    assert "Shared answers (2)" in listed and "Sharing is off" in listed and listed.index(kept) < listed.index(gone)
    assert "Sharing is off" not in shared_html(shares) and f'href="?share={kept}"' in shared_html(shares)
    assert "is deleted" in pressed(actions, "delete shared", gone)[0]
    assert [name for name, _ in shares.newest()] == [kept]
    for share_id in (gone, "../adapters", ""):
        with pytest.raises(UserError, match="no shared answer"):
            pressed(actions, "delete shared", share_id)
    shares.delete_as_owner(kept)
    assert actions.refresh(Caller("admin"))[4] == "", "off and empty: no fold"


def test_what_visitors_wrote_is_escaped(home: Path) -> None:
    shares, image = Shares(home, SharingSection(allowed=True)), noise()
    shares.save(shares.sign(answer_about([image], "<img src=x onerror=hurt>?")), [image])
    assert "<img" not in shared_html(shares) and "&lt;img src=x" in shared_html(shares)


def test_a_file_of_shown_adapters_that_was_edited_is_read_as_far_as_it_makes_sense(home: Path) -> None:
    home.mkdir(exist_ok=True)
    for text in ("[]", "{", '{"names": "x", "titles": [1], "deleted": {}}', '{"names": [1, null], "titles": {"a": 3}}'):
        (home / "shown.json").write_text(text)
        shown = read_shown(home)
        assert (shown.names, shown.titles, shown.deleted) == (frozenset(), {}, frozenset())
    with pytest.raises(UserError, match="61 characters; at most 60"):
        change_shown(home, "a", title="x" * 61)


def test_questions_are_pinned_and_put_to_what_was_promoted(actions: AdapterActions, home: Path) -> None:
    """Without an engine: the promotion stands, and the questions wait."""
    assert "None yet" in str(actions.refresh(Caller("admin"))[5])
    picture = home / "p.png"
    noise().save(picture)
    values = actions.pin(Caller("admin"), str(picture), "<img src=x onerror=hurt>?", "<b>4</b>")
    assert "&lt;img src=x" in str(values[5]) and "<img src=x" not in str(values[5]) and "<b>4</b>" not in str(values[5])
    assert str(values[3]).count('data-act="ask pinned"') == 2
    promote(home, home / "adapters" / "mine", "me", settings=actions._context.settings)
    asker = actions._context.asker
    assert [one.new.name[:5] for one in asker.promoted.pending()] == ["mine-"] and not asker.is_running
    with pytest.raises(UserError, match="no longer here"):
        pressed_values(actions, "ask pinned", "../served.json")
    key = actions._pinned.questions.all()[0].key
    assert "no longer pinned" in str(pressed_values(actions, "unpin", key)[0])
    assert not actions._pinned.questions.all()
    (home / "pinned" / "questions.json").write_text("<script>")
    listed = str(actions.refresh(Caller("admin"))[5])
    assert "cannot be read as a list" in listed and "None yet" not in listed


def test_the_page_tells_what_was_asked_last_and_cards_tell_of_each(actions: AdapterActions, home: Path) -> None:
    promote(home, home / "adapters" / "mine", "me", settings=actions._context.settings)
    asker = actions._context.asker
    promotion = asker.promoted.pending()[0]
    asker.promoted._keep(promotion.new.name, result())
    asker.last = promotion.new.name
    values = actions.refresh(Caller("admin"))
    assert "<b>2 of 4 broke</b>" in str(values[6]) and "Pinned questions: 2 of 4 broke</summary>" in str(values[3])
    back = pressed_values(actions, "roll back", "starter-adapter")
    assert back[6] == "" and "Pinned questions: 2 of 4 broke</summary>" in str(back[3])


EVIL = "<script>x</script>"


def result(**values: object) -> Answers:
    sides = {True: Said(answer=EVIL, right=True), False: Said(answer="", right=False)}
    rows = [
        PinnedRow(question=EVIL, gold=EVIL, before=sides[before], new=sides[new])
        for before, new in ((True, False), (True, True), (False, True), (True, False))
    ]
    return Answers.model_validate({"before": EVIL, "at": "2026-11-22T14:30:00Z", "rows": rows, **values})


def test_answers_to_pinned_questions_are_counted_first_and_escaped() -> None:
    html = report_html(EVIL, result(), None)
    assert "<b>2 of 4 broke</b>, 1 mended" in html and "has 2 of 4 right" in html
    assert "no answer" in html and "<script" not in html and "Answer of &lt;script" in html
    assert [html.count(f">{change}</td>") for change in ("broke", "mended", "same")] == [2, 1, 1]
    assert html.index(">broke</td>") < html.index(">mended</td>") < html.index(">same</td>")
    unasked = [PinnedRow(question=EVIL, gold=EVIL, trouble=f"No picture {EVIL}")]
    html = report_html(EVIL, result(rows=unasked), None)
    assert "1 not asked" in html and "No picture &lt;script" in html and "<script" not in html


def test_what_changed_outside_the_reward_is_told_with_rows_and_intervals() -> None:
    """Of a file that somebody edited, what is no figure is left out."""
    share = {"value": 0.5, "low": 0.3, "high": 0.7, "num_rows": 24}
    good = {"name": "calculates", "before": share, "after": share, "difference": share}
    bad = [good | {"after": change} for change in (3, {}, share | {"low": "<b>"}, share | {"value": float("nan")})]
    html = report_html("mine", result(rows=[]), {"sentence": EVIL, "abilities": [good, *bad, None, 7]})
    assert html.count("It calculates") == 1 and "50.0 % (30.0 to 70.0)" in html and ">24</td>" in html
    assert "+50.0 (+30.0 to +70.0)" in html and "<script" not in html
    for outside in ({}, {"abilities": 3}, {"abilities": [[]]}):
        assert "<table" not in report_html("mine", result(rows=[]), outside)
    told = report_html("mine", result(rows=[], trouble=EVIL, outside_trouble=EVIL), None)
    assert "were not answered" in told and "it was not asked" in told and "<script" not in told


def test_what_is_asked_beside_an_adapter_is_the_served_one_or_the_one_before(settings: Settings, home: Path) -> None:
    settings = settings.model_copy(update={"home": home})
    perturbed_adapter(home / "adapters" / "mine")
    versions = adapter_versions(settings)
    mine = next(one for one in versions if one.name == "mine")
    assert [one.name for one in asked_pair(mine, versions, None)] == ["starter-adapter", "mine"]
    before, new = asked_pair(versions[0], versions, None)
    assert (before.path, new.name) == (None, "starter-adapter")
    assert asked_pair(versions[0], versions, "mine")[0].path == home / "adapters" / "mine"
