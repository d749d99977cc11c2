"""A Space in miniature, in a browser: deployed, signed in to, trained in, published, promoted, back after a restart.

Its base is no starter but a tiny Qwen3-VL on the test Hub, random but for a few tokens that follow each other: it keeps
the format and guesses a digit, so that rewards differ. Nothing else stands in for anything: the files are those that
`deploy` sends, the login goes through the Hub's pages, and app, trainer and publisher are the processes of a Space.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration

from inference.common.space_file import SPACE_YAML
from inference.model.lora_file import WEIGHTS_FILE
from tests import ROOT
from tests.support.browser import ENDED, LAPTOP, MARKS, PHONE, Visit, browser
from tests.support.checkouts import commit, git_checkout
from tests.support.datasets_on_disk import rows, shards
from tests.support.deploying import documented
from tests.support.hub.client import Client
from tests.support.hub.machines import Jobs
from tests.support.hub.repos import Hub
from tests.support.space import RunningSpace
from tests.support.tiny_models import build_tiny
from training.__main__ import main
from training.cli import deploy
from training.hub.publish.offer import FILE
from training.hub.space import readme_block
from training.runs.store import RunStore

__all__ = ["browser"]
pytestmark = [*MARKS, pytest.mark.long]

SHOTS = os.environ.get("LOOKTHINK_SHOTS")
SPACE, BASE, DATASET, TOKEN = "me/look", "me/tiny-vl", "me/pictures", "hf_of_the_space_of_me"
REPO = "me/tiny-vl-pictures-lookthink"
PLAIN, OWN_PROMPT = "somebody/plain", "Think about the picture in tags, then answer in tags."
COMMANDS, _ = documented("An A100 Space that trains in itself, in ten lines")
"""They are followed here as they stand in docs/deploying.md."""
NUM_ROWS = 228
"""16 of them train: the profile for a real base keeps 5 % for tests and 200 for validation."""
WAIT_SECONDS = 480
FORMAT = [["Ċ"], ["<think>"], ["Ġis"], ["</think>"], ["<answer>"], ["1", "2", "3"], ["</answer>"], ["<|im_end|>"]]
"""The base's tokens in turn, from the line break at the end of a prompt on."""


def tiny_base(folder: Path) -> dict[str, bytes]:
    """The files of a base that writes `<think> is</think><answer>1</answer>`, or 2 or 3, and seldom something else.

    A token of `FORMAT` has a large embedding, which outweighs what the layers add, and is the likely one after those
    before it. After anything else a sixth of all tokens are stop tokens.
    """
    build_tiny("qwen3_vl", folder)
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder).get_vocab()
    turns = [[ids[token] for token in turn] for turn in FORMAT]
    embeddings, head = model.get_input_embeddings().weight.data, model.lm_head.weight.data
    for before, after in itertools.pairwise(turns):
        directions = embeddings[before] / embeddings[before].norm(dim=1, keepdim=True)
        embeddings[before] *= 100
        head[after] = 3.5 * directions.sum(0)
    model.generation_config.eos_token_id = [ids[FORMAT[-1][0]], *(set(range(40, 400, 6)) - set(sum(turns, [])))]
    model.save_pretrained(folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def digit_problems() -> list[dict[str, object]]:
    """Rows whose answers are 1, 2 or 3."""
    answers = [str(number % 3 + 1) for number in range(NUM_ROWS)]
    return [
        row
        | {"problem": f"What is {i} % 3 + 1?", "original_question": f"What is {i} % 3 + 1?"}
        | {"solution": f"<answer>{answer}</answer>", "original_answer": answer}
        for i, (row, answer) in enumerate(zip(rows(NUM_ROWS), answers))
    ]


def checkout(folder: Path) -> Path:
    """This code in git, with a space.yaml for the tiny base."""
    asked = ["git", "ls-files", "-co", "--exclude-standard", "app.py", "inference", "training", "README.md"]
    named = subprocess.run([*asked, "requirements.txt"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = {name: (ROOT / name).read_bytes() for name in named.split("\n") if name and (ROOT / name).is_file()}
    own = yaml.safe_load(SPACE_YAML.read_text(encoding="utf-8"))
    own["model"]["base"], own["training"]["dataset"] = BASE, DATASET
    made = git_checkout(folder, files | {"space.yaml": yaml.safe_dump(own, allow_unicode=True).encode()})
    assert readme_block.main(made) == 0
    commit(made)
    return made


@pytest.fixture
def space(hub: Hub, hub_client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningSpace]:
    """Deployed as its owner does it, and running."""
    hub.tokens[TOKEN] = hub.more["signed_in"] = "me"
    hub.repo("model", BASE, about={"cardData": {"license": "other", "license_name": "qwen-research"}}).commit(
        tiny_base(tmp_path / "base")
    )
    hub.repo("dataset", DATASET).commit(shards(digit_problems()))
    Jobs.of(hub, tmp_path / "buckets", {})
    hub_client.log_in(TOKEN)
    monkeypatch.setattr(deploy, "ROOT", checkout(tmp_path / "clone"))
    for words in COMMANDS[:2]:
        assert main([SPACE if word == "OWNER/NAME" else word for word in words] + ["--yes"]) == 0
    running = RunningSpace(hub, hub_client.url, SPACE, tmp_path, LOOKTHINK_BASE=BASE)
    running.start()
    yield running
    running.stop()
    running.https.close()


class Owner(Visit):
    """The owner's browser."""

    def wait_for(self, holds: Callable[[], object], words: str) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while not holds():
            assert time.monotonic() < until, f"never {words}; the page says {self.text('body')[:1500]}"
            self.page.wait_for_timeout(100)

    def open(self, tab: str, section: str = "") -> None:
        self.page.locator("#lt-tabs").get_by_role("tab", name=tab, exact=True).first.click()
        if section:
            self.page.locator("#train-tabs").get_by_role("tab", name=section, exact=True).click()

    def sign_in(self) -> None:
        self.open("Train")
        self.page.click("#train-sign-in")
        self.page.get_by_role("link", name="Authorize me").click()
        self.page.wait_for_selector("#ask-panel .lt-hint")
        self.open("Train")
        self.page.wait_for_selector("#train-start")

    def shoot(self, name: str) -> None:
        """Screenshots of laptop and phone, light and dark, where LOOKTHINK_SHOTS names a folder."""
        for kind, size in (("laptop", LAPTOP), ("phone", PHONE)) if SHOTS else ():
            self.page.set_viewport_size(size)
            for scheme in ("dark", "light"):
                self.page.evaluate(f"document.body.classList.toggle('dark', {str(scheme == 'dark').lower()})")
                self.page.wait_for_timeout(300)
                self.page.screenshot(path=Path(SHOTS or "") / f"space-{name}-{kind}-{scheme}.png", full_page=True)
        self.page.set_viewport_size(LAPTOP)


def test_the_first_click_trains_publishes_and_serves(browser: Any, hub: Hub, hub_url: str, space: RunningSpace) -> None:
    owner = Owner(browser, space.url, LAPTOP, ignore_https_errors=True)
    what_visitors_see_first(owner)
    owner.sign_in()
    run_id = started(owner, space)
    watched_and_served(owner, hub, space, run_id)
    compared(owner, run_id, "compare")
    by_command = by_command_line(hub, space, run_id)
    owner.page.goto("about:blank")
    space.restart()
    everything_is_back(owner, space, [run_id, by_command])
    prompt_chosen(owner, hub, run_id)
    compared(owner, PLAIN.split("/")[1], "compare-after")
    assert [url for url in owner.outside if not url.startswith(hub_url)] == []
    assert owner.errors == []
    assert not any(TOKEN in line for line in space.process.lines)  # type: ignore[union-attr]


def what_visitors_see_first(owner: Owner) -> None:
    """No adapter yet: Compare says so and shows a recorded example; About says what is kept."""
    owner.open("Compare")
    owner.page.wait_for_selector("#compare-missing .lt-recorded")
    assert f"Here {BASE} answers without an adapter" in owner.text("#compare-missing")
    assert "make train" not in owner.text("body") and not owner.page.locator("#compare-run").is_visible()
    owner.shoot("compare-before")
    owner.open("About")
    assert "60 minutes after it came" in owner.text("body")
    owner.shoot("about")


def started(owner: Owner, space: RunningSpace) -> str:
    """The form begins with what is served; one tick to publish, kept; no other field is changed."""
    page, said = owner.page, lambda: owner.text("#train-estimate")
    owner.wait_for(lambda: REPO in said(), "an offer")
    assert page.locator("#train-data-dataset :is(input, textarea)").first.input_value() == DATASET
    assert "It is not published" in said() and "cannot answer here" not in said()
    page.check("#train-publish input")
    owner.wait_for(lambda: f"published to {REPO}, private" in said(), "the choice in words")
    assert "qwen-research, for research, not for commercial use (by its card on the Hub)" in said()
    owner.wait_for((space.home / FILE).is_file, "the choice on the disk")
    owner.shoot("start")
    page.click("#train-start")
    page.wait_for_selector("#watch-status", state="visible")
    [record] = RunStore(space.home).list()
    config = record.run_config
    assert (config.profile, config.base, config.data.dataset, config.publish_to) == ("a100", BASE, DATASET, REPO)
    assert record.asked_by == "me" and not config.publish_public
    return record.id


def watched_and_served(owner: Owner, hub: Hub, space: RunningSpace, run_id: str) -> None:
    """It is done, published under its tag, and one click lets it answer."""
    owner.page.wait_for_selector("#watch-status [data-status=succeeded]", timeout=WAIT_SECONDS * 1000)
    owner.wait_for(lambda: f"published as {REPO}@{run_id}" in owner.text("#watch-status"), "the publication")
    repo = hub.repos["model", REPO]
    assert repo.private and set(repo.tags) == {run_id}
    assert (
        repo.commits[repo.tags[run_id]][WEIGHTS_FILE]
        == (space.home / "runs" / run_id / "adapter" / WEIGHTS_FILE).read_bytes()
    )
    owner.shoot("watch")
    owner.page.get_by_role("button", name="Put it into service").click()
    owner.page.get_by_text("Its adapter answers visitors now.").wait_for()


def compared(owner: Owner, adapter: str, shot: str) -> None:
    """Base and adapter side by side, without a restart."""
    owner.wait_for(lambda: adapter in owner.text("#lt-top"), "the adapter in the header")
    owner.open("Compare")
    owner.page.wait_for_selector("#compare-run", state="visible")
    owner.take_example(0, tab="compare")
    owner.press_run("compare")
    for side in ("base", "tuned"):
        owner.wait_state(*ENDED, panel=f"compare-{side}")
    assert "Both" in owner.text("#compare-words")
    owner.shoot(shot)


def by_command_line(hub: Hub, space: RunningSpace, run_id: str) -> str:
    """The same from the command line; it publishes only because it is told to."""
    by_page = RunStore(space.home).get(run_id)
    start, watch, promote = COMMANDS[2:]
    said = space.command(*[REPO if word == "OWNER/ADAPTER" else word for word in start])
    assert "qwen-research, for research" in said
    [record] = [one for one in RunStore(space.home).list() if one.id != run_id]
    space.command(*[record.id if word == "RUN" else word for word in watch])
    assert record.run_config == by_page.run_config
    ours, theirs = ((one.folder / "adapter" / WEIGHTS_FILE).read_bytes() for one in (record, by_page))
    assert ours == theirs
    until = time.monotonic() + WAIT_SECONDS
    while record.id not in hub.repos["model", REPO].tags:
        assert time.monotonic() < until, "it was never published"
        time.sleep(0.1)
    space.command(*[record.id if word == "RUN" else word for word in promote])
    return record.id


def everything_is_back(owner: Owner, space: RunningSpace, run_ids: list[str]) -> None:
    """After a restart on an empty disk: the runs, the served adapter, the choice to publish, the login."""
    owner.page.goto(space.url)
    owner.page.wait_for_selector(".lt-ready[data-ready=true]")
    owner.wait_for(lambda: run_ids[1] in owner.text("#lt-top"), "the promoted adapter in the header")
    owner.open("Train", "Start")
    owner.wait_for(owner.page.locator("#train-publish input").is_checked, "the choice to publish")
    owner.open("Train", "Runs")
    owner.wait_for(lambda: all(run_id in owner.text("#train-runs") for run_id in run_ids), "the runs in the table")
    owner.shoot("runs")
    owner.open("Train", "Adapters")
    owner.wait_for(lambda: run_ids[1] in owner.text("#adapters-served"), "the served adapter")


def prompt_chosen(owner: Owner, hub: Hub, run_id: str) -> None:
    """An adapter that does not say its system prompt: a few problems under each, then the owner's choice, kept."""
    published = hub.repos["model", REPO].commits[hub.repos["model", REPO].tags[run_id]]
    hub.repo("model", PLAIN).commit({name: published[name] for name in (WEIGHTS_FILE, "adapter_config.json")})
    page = owner.page
    page.fill("#adapters-hub-name textarea, #adapters-hub-name input", PLAIN)
    page.fill("#adapters-prompt-text textarea", OWN_PROMPT)
    page.click("#adapters-prompt-compare")
    page.wait_for_selector("#adapters-trials table", timeout=WAIT_SECONDS * 1000)
    heads = [head.inner_text() for head in page.locator("#adapters-trials th").all()]
    assert heads == ["Problem", "lookthink", "r1", "a text of its own"]
    assert page.locator("#adapters-trials tbody tr").count() == 3
    owner.shoot("prompts")
    page.click("#adapters-hub-fetch")
    owner.wait_for(lambda: "plain" in owner.text("#adapters-served"), "the fetched adapter")
    owner.wait_for(lambda: "system prompt: a text of its own" in owner.text("#lt-top"), "the prompt in the header")
    owner.shoot("adapters")
    owner.open("About")
    assert OWN_PROMPT in owner.text("body")
