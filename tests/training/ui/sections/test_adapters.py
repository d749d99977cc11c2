"""Publishing from the page: the form begins with what space.yaml says, and a card's button queues its run."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import pytest

from inference.adapters.catalog import adapter_versions
from inference.common.errors import UserError
from inference.common.settings import Settings, load_settings
from tests.support.run_folders import finished_run
from training.admin.access import Access
from training.hub.publish.queue import PublishQueue
from training.ui.sections.adapter_cards import versions_html
from training.ui.sections.adapters import PublishPanel
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
    assert versions_html(versions, False, panel.states(versions)).count('data-act="publish"') == 1
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
    assert "<b onclick" not in versions_html(versions, True, words)
