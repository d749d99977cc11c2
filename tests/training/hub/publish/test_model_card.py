"""The card is one the Hub accepts, says what the run's files say and no more, and its code loads the adapter."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.common.settings import STARTER
from inference.prompt.format import THINK_PROMPT
from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from tests.support.run_folders import add_checkpoint, begun_run, finished_run
from training.hub.publish.model_card import Licence, evaluation_tables, make_card, plain, table
from training.hub.publish.package import Facts, make_package
from training.hub.publish.queue import PublishQueue, queue_run
from training.hub.publish.upload import send
from training.runs.folder import RunFolder

BASE, DATA, COMMIT = "Qwen/Qwen2.5-VL-3B-Instruct", "lmms-lab/multimodal-open-r1-8k-verified", "c" * 40
EVALUATION = json.loads((STARTER / "adapter" / "evaluation.json").read_text(encoding="utf-8"))


def facts_of(run: RunFolder) -> Facts:
    queue_run(run.path, "ann/tuned")
    queue = PublishQueue(run.path)
    return make_package(queue.waiting()[-1], queue.key()).facts


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Of a run on a base and a dataset of the Hub."""
    tmp_path = tmp_path_factory.mktemp("run")
    data = {"dataset": DATA, "revision": COMMIT, "split": "train[:5%]"}
    return facts_of(finished_run(tmp_path / "night", rewards=True, base=BASE, base_revision=COMMIT, data=data))


def test_the_metadata_are_what_the_hub_reads(facts: Facts) -> None:
    card = ModelCard(make_card(facts, "ann/tuned", "night", Licence("other", "qwen-research", "LICENSE"), None))
    found = card.data.to_dict()
    assert found["base_model"] == BASE and found["datasets"] == [DATA] and found["base_model_relation"] == "adapter"
    assert (found["library_name"], found["pipeline_tag"]) == ("peft", "image-text-to-text")
    assert (found["license"], found["license_name"]) == ("other", "qwen-research")
    results = {result.metric_name: result for result in card.data.eval_results or []}
    strict = EVALUATION["conditions"]["adapter-thinking"]["overall"]["strict"]
    assert results["strict accuracy"].metric_value == strict["value"]
    assert results["strict accuracy"].metric_args == {
        "low_95": strict["low"],
        "high_95": strict["high"],
        "num_rows": 480,
    }
    assert results["strict accuracy"].dataset_type == DATA and results["strict accuracy"].dataset_revision == COMMIT
    assert "license" not in ModelCard(make_card(facts, "ann/tuned", "night", None, None)).data.to_dict()


def test_the_text_says_what_a_reader_asks(facts: Facts) -> None:
    text = make_card(facts, "ann/tuned", "night", Licence("other", "qwen-research", "LICENSE"), Licence("mit"))
    for said in (
        f"revision `{COMMIT}`",
        "split `train[:5%]`",
        "| **this adapter**, asked to think first |",
        "87.9 % (84.6 to 91.0)",
        "+42.5 (+36.7 to +47.9)",
        "4 of 4, 8 prompts × 8 completions each",
        "a small machine, 2 cores",
        "| began from | a new LoRA |",
        "- Base: qwen-research (LICENSE)\n- Data: mit",
        "![Rewards by step](lookthink/rewards.png)",
        'AutoProcessor.from_pretrained("ann/tuned", revision="night")',
        f'from_pretrained("{BASE}", revision="{COMMIT}", dtype="auto")',
        "LOOKTHINK_ADAPTER=ann/tuned@night make app",
    ):
        assert said in text, said
    about = {"about": {"num_rows": 480, "max_new_tokens": 96, "repetition_penalty": 1.05}}
    said = evaluation_tables(facts.evaluation | about)
    assert "greedy, at most 96 tokens, with the base's repetition penalty, 1.05; with 95 %" in said
    assert "penalty" not in text


def test_it_states_the_lora_that_was_trained_and_where_it_began(tmp_path: Path) -> None:
    """Of the adapter's own settings: a run that goes on from an adapter keeps its LoRA, whatever the run's is."""
    run = finished_run(tmp_path / "night", start_adapter=str(tmp_path / "private" / "earlier"))
    settings = json.loads((run.adapter / "adapter_config.json").read_text())
    settings |= {"r": 4, "lora_alpha": 8, "use_rslora": True, "rank_pattern": {"k_proj": 2}}
    settings["target_modules"] = r".*\blanguage_model\b.*\.(q_proj|k_proj)"
    (run.adapter / "adapter_config.json").write_text(json.dumps(settings))
    text = make_card(facts_of(run), "ann/tuned", "night", None, None)
    assert "| LoRA | rank 2 to 4, alpha 8 over the root of the rank, on k_proj, q_proj |" in text
    assert "| began from | `earlier` |" in text and str(tmp_path) not in text


@pytest.mark.parametrize(
    ("link", "is_kept"),
    [
        ("LICENSE", True),
        ("https://huggingface.co/Qwen/x/blob/main/LICENSE", True),
        ("javascript:alert(1)", False),
        ("//evil/x", False),
        ("data:text/html,x", False),
        ("", False),
    ],
)
def test_a_licence_links_to_an_address_or_a_file(link: str, is_kept: bool) -> None:
    found = Licence.of({"license": "other", "license_name": "own", "license_link": link})
    assert found is not None and found.link == (link if is_kept else None)


@pytest.mark.parametrize(
    ("dataset", "kind"), [("starter", "lookthink-starter"), ("my-pictures", "local"), (DATA, DATA)]
)
def test_figures_name_the_data_they_are_of(dataset: str, kind: str, facts: Facts) -> None:
    data = facts.config.data.model_copy(update={"revision": None, "dataset": dataset})
    changed = replace(facts, config=facts.config.model_copy(update={"data": data}))
    results = ModelCard(make_card(changed, "ann/tuned", "night", None, None)).data.eval_results or []
    assert len(results) == 3 and {result.dataset_type for result in results} == {kind}


def test_what_is_not_known_is_not_said(tmp_path: Path) -> None:
    run = begun_run(tmp_path / "night")
    add_checkpoint(run, 2)
    text = make_card(facts_of(run), "ann/tuned", "main", None, None)
    assert "This is a checkpoint" in text and "It was not evaluated" in text and "2 of 4" in text
    assert "model-index" not in text and "base_model" not in text and "%" not in text


def test_the_code_of_the_card_loads_the_adapter(
    hub: Hub, hub_client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run as it stands, in a checkout, against the Hub that it was published to."""
    hub.tokens["hf_ann_token"] = "ann"
    hub_client.log_in("hf_ann_token")
    run = finished_run(tmp_path / "night")
    queue_run(run.path, "ann/tuned")
    queue = PublishQueue(run.path)
    send(huggingface_hub.HfApi(), queue, queue.waiting()[0])
    repo = hub.repos["model", "ann/tuned"]
    text = repo.commits[repo.tags["night"]]["README.md"].decode()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    monkeypatch.chdir(STARTER.parents[1])
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    names: dict[str, Any] = {}
    exec(code[1], names)  # noqa: S102
    assert names["system_prompt"] == THINK_PROMPT
    assert type(names["processor"]).__name__ == "Qwen2_5_VLProcessor"
    loaded = {name: value for name, value in names["model"].named_parameters() if "lora_B" in name}
    assert loaded and all(value.abs().sum() > 0 for value in loaded.values())


HOSTILE = (
    "x\n\n# Own heading",
    "<script>alert(1)</script>",
    "a | b",
    "`](http://evil)",
    "---\nbase_model: evil",
    "$title",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_words_stay_words(text: str, facts: Facts) -> None:
    evil = {
        "verdict": text,
        "about": {"num_rows": text},
        "conditions": {"adapter-thinking": {"overall": {"strict": text}}},
    }
    data = facts.config.data.model_copy(update={"revision": None, "dataset": text, "split": text})
    config = facts.config.model_copy(update={"data": data, "base": f"/srv/{text}", "rewards": {text: 1.0}})
    versions = {"hardware": text, "torch": text}
    changed = replace(facts, evaluation=evil, config=config, versions=versions, run=text)
    licence = Licence.of({"license": "mit", "license_name": text, "license_link": text})
    card = make_card(changed, "ann/tuned", "night", licence, licence)
    block = ModelCard(card).data.to_dict()
    assert block["library_name"] == "peft" and block["license"] == "mit" and "base_model" not in block
    assert Licence.of({"license": text}) is None
    assert block.get("license_link") in (None, text), "an address or a file"
    body = card.split("\n---\n", 1)[1]
    code = re.search(r"```python\n(.*?)```", body, re.DOTALL)
    assert code is not None and len(ast.parse(code[1]).body) == 6, "the code is what it was"
    body = re.sub(r"`[^`\n]*`", "", body)  # as code, anything goes
    assert "<script" not in body and "# Own heading" not in body.splitlines() and "](http://evil)" not in body
    assert "\n---\n" not in body


_WORDS = st.text(max_size=12)


@settings(max_examples=40)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.floats(), _WORDS),
        lambda s: st.dictionaries(_WORDS, s, max_size=3),
        max_leaves=8,
    )
)
def test_any_file_makes_a_table_or_none(value: Any) -> None:
    for broken in (
        value,
        {"conditions": {"adapter-thinking": {"overall": value}}, "differences": value, "about": value},
    ):
        if isinstance(broken, dict):
            for line in evaluation_tables(broken).splitlines():
                assert not line.startswith("| ") or line.count("|") in (6,)


@given(st.text(max_size=400))
def test_plain_text_keeps_a_table_whole(text: str) -> None:
    assert len(table(["a"], [[plain(text)]]).splitlines()) == 3 and "|" not in plain(text) and len(plain(text)) <= 200
