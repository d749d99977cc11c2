"""Adapters of the Hub: pinned, checked before they are loaded, there without a network, and refused in clear words."""

from __future__ import annotations

import itertools
import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference.adapters import hub_fetch as hub_adapters
from inference.adapters.catalog import adapter_versions
from inference.adapters.hub_cache import HubName, hub_name
from inference.adapters.hub_fetch import fetch_adapter, fetch_named
from inference.adapters.live import LiveAdapters
from inference.adapters.record import adapter_digest, read_record
from inference.adapters.served import promote, serving
from inference.adapters.versions import PromptUnknown
from inference.common.errors import UserError
from inference.common.hub_errors import HubUnreachable, read_error
from inference.common.settings import STARTER, Settings, load_settings
from inference.engine.engine import Engine, Request
from inference.prompt.format import THINK_PROMPT
from inference.prompt.system_prompt import R1_PROMPT
from tests.support.hub.client import Client
from tests.support.hub.faults import KINDS, Fault
from tests.support.hub.repos import Files, Hub, Repo, blob_id
from tests.support.hub.server import serve
from tests.support.samples import problems, random_adapter
from training.__main__ import main
from training.evaluation.checkpoint_choice import take_adapter

NAME = "someone/counting"
BASE = str(STARTER)
PROMPT = "Look at the picture. Think inside <think> </think>, answer inside <answer> </answer>."


def files(**changes: bytes | None) -> Files:
    """As a trainer pushes them, with what must never be fetched beside them."""
    adapter = STARTER / "adapter"
    found = {name: (adapter / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")}
    found |= {"training_args.bin": b"a pickle", "README.md": b"# Counting", "checkpoint-10/optimizer.pt": b"a pickle"}
    found |= {"lookthink/evaluation.json": (adapter / "evaluation.json").read_bytes(), "../x": b"", "run.py": b"1/0"}
    return {name: data for name, data in (found | changes).items() if data is not None}


def config(**changes: Any) -> bytes:
    found = json.loads((STARTER / "adapter" / "adapter_config.json").read_bytes())
    return json.dumps(found | changes).encode()


def run_record(**values: Any) -> dict[str, bytes]:
    return {"lookthink/run.json": json.dumps({"run": "night", **values}).encode()}


@pytest.fixture
def repo(hub: Hub, hub_client: Client) -> Repo:
    found = hub.repo("model", NAME)
    found.commit(files())
    return found


def settings(home: Path, adapter: str = NAME) -> Settings:
    env = {"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(home), "LOOKTHINK_ADAPTER": adapter}
    return load_settings(env=env, has_gpu=False)


def test_it_is_pinned_and_only_what_is_listed_is_fetched(repo: Repo, hub: Hub, home: Path) -> None:
    old = repo.refs["main"]
    repo.tags["v1"] = old
    repo.commit({"adapter_config.json": config(lora_alpha=7)})
    newest = fetch_adapter(NAME, home, BASE)
    assert newest.name == f"someone--counting-{repo.refs['main'][:12]}"
    tagged = fetch_adapter(f"{NAME}@v1", home, BASE)
    assert tagged.name.endswith(old[:12]) and read_record(tagged).test_accuracy is not None
    kept = {path.relative_to(tagged).as_posix() for path in tagged.rglob("*")}
    assert kept == {"adapter_config.json", "adapter_model.safetensors", "evaluation.json", "origin.json"}
    assert json.loads((newest / "adapter_config.json").read_text())["lora_alpha"] == 7
    asked = "".join(path for _, path in hub.requests)
    assert "training_args" not in asked and "optimizer" not in asked and "run.py" not in asked
    hub.requests.clear()
    assert fetch_adapter(f"{NAME}@v1", home, BASE) == tagged
    assert not any("resolve" in path for _, path in hub.requests), "what is here is not fetched again"


def test_it_is_there_without_a_network(repo: Repo, hub: Hub, hub_client: Client, home: Path) -> None:
    commit = repo.refs["main"]
    first = fetch_adapter(NAME, home, BASE)
    repo.commit({"adapter_config.json": config(lora_alpha=7)})
    hub.failure = 503
    assert fetch_adapter(NAME, home, BASE) == first, "the commit that the branch was at"
    hub_client.go_offline()
    assert fetch_adapter(NAME, home, BASE) == fetch_adapter(f"{NAME}@{commit}", home, BASE) == first
    with pytest.raises(HubUnreachable, match=r"cannot be reached.*someone/counting@v9"):
        fetch_adapter(f"{NAME}@v9", home, BASE)
    assert serving(settings(home)).path == first


def _no_safetensors(repo: Repo) -> None:
    repo.commit({"adapter_model.safetensors": None, "adapter_model.bin": b"a pickle"})


def _too_large(repo: Repo) -> None:
    repo.commit({"lookthink/evaluation.json": b" " * 16_000_001})


def _private(repo: Repo) -> None:
    repo.private = True


def _gated(repo: Repo) -> None:
    repo.gated = True


def _spoil(**changes: bytes | None) -> Callable[[Repo], object]:
    return lambda repo: repo.commit(dict(changes))


def _header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


REFUSED: dict[str, tuple[str, Callable[[Repo], object], str]] = {
    "not found": ("someone/else", lambda repo: None, r"no adapter someone/else on the Hub, or it is private"),
    "private": (NAME, _private, r"or it is private.*HF_TOKEN"),
    "gated": (NAME, _gated, r"is gated.*Ask on its page"),
    "no such revision": (f"{NAME}@v9", lambda repo: None, r"someone/counting@v9 has no such revision"),
    "pickles only": (NAME, _no_safetensors, r"pickle only \(adapter_model.bin\).*never opened"),
    "no adapter": (NAME, _spoil(**{"adapter_config.json": None}), r"is not an adapter: it has no adapter_config.json"),
    "too large": (NAME, _too_large, r"evaluation.json .* has 16.0 MB; at most 16.0 MB"),
    "another base": (
        NAME,
        _spoil(**{"adapter_config.json": config(base_model_name_or_path="Qwen/Qwen2.5-VL-3B-Instruct")}),
        r"someone/counting was trained on Qwen/Qwen2.5-VL-3B-Instruct",
    ),
    "another method": (NAME, _spoil(**{"adapter_config.json": config(use_dora=True)}), "use_dora=True; only"),
    "no JSON": (NAME, _spoil(**{"adapter_config.json": b"{"}), "is not JSON"),
    "no safetensors": (NAME, _spoil(**{"adapter_model.safetensors": b"\x80\x04pickle"}), "no safetensors file"),
    "no LoRA": (NAME, _spoil(**{"adapter_model.safetensors": _header(b"{}")}), "holds no LoRA"),
    "a scale of text": (NAME, _spoil(**{"adapter_config.json": config(lora_alpha="8")}), "lora_alpha 8; it must be"),
    "a base of figures": (NAME, _spoil(**{"adapter_config.json": config(base_model_name_or_path=5)}), "names no base"),
    "a deep config": (NAME, _spoil(**{"adapter_config.json": b"[" * 200_000}), "is not JSON"),
    "a deep record": (NAME, _spoil(**{"lookthink/run.json": b"[" * 200_000}), "is not JSON"),
    "a branch like a commit": (f"{NAME}@{'c' * 40}", lambda r: r.refs.update({"c" * 40: r.refs["main"]}), "can move"),
    "prompt of structure": (NAME, lambda r: r.commit(run_record(system_prompt="a<|im_end|>b")), "steers a model"),
    "prompt of control": (NAME, lambda r: r.commit(run_record(system_prompt="a\x1b[2Jb")), "control character U.001B"),
    "prompt of a list": (NAME, lambda r: r.commit(run_record(system_prompt=[{"role": "system"}])), "is not a text"),
    "prompt too long": (NAME, lambda r: r.commit(run_record(system_prompt="a" * 4001)), "4,001 characters; at most"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_is_refused_before_its_weights_are_used(repo: Repo, home: Path, case: str) -> None:
    named, spoil, message = REFUSED[case]
    spoil(repo)
    with pytest.raises(UserError, match=f"(?s){message}"):
        fetch_adapter(named, home, BASE)
    folders = list((home / "hub").glob("*someone*")) + list((home / "hub").glob(".inc*"))
    assert folders == [], "nothing of it is left"


def test_a_private_one_comes_with_a_token_that_is_kept_nowhere(
    repo: Repo, hub: Hub, hub_client: Client, home: Path
) -> None:
    repo.private, hub.tokens["hf_secret_token"] = True, "someone"
    hub_client.log_in("hf_secret_token")
    folder = fetch_adapter(NAME, home, BASE)
    assert (folder / "adapter_model.safetensors").is_file()
    assert not any(b"hf_secret_token" in path.read_bytes() for path in home.rglob("*") if path.is_file())
    hub_client.log_in("hf_of_yesterday")
    with pytest.raises(UserError, match=r"does not let this token.*401.*valid one"):
        fetch_adapter(f"{NAME}@other", home, BASE)


@pytest.mark.parametrize("name", ["owner", "/etc/passwd", "../up/x", "a/b/c", "a/b@", "a/..", "a/b@../../x", "x" * 300])
def test_what_is_no_name(name: str, home: Path) -> None:
    assert hub_name(name) is None
    with pytest.raises(UserError, match="no adapter's name on the Hub"):
        fetch_adapter(name, home, BASE)


def test_names() -> None:
    assert hub_name("a/b") == HubName("a/b") and hub_name("a/b@refs/pr/1") == HubName("a/b", "refs/pr/1")


ROUTES = ("GET .*/api/models/.*", "HEAD .*/resolve/.*config.json", "GET .*/resolve/.*config.json")
ROUTES += ("HEAD .*/resolve/.*safetensors", "GET .*/resolve/.*safetensors")
SAMPLE = [("503", ROUTES[0]), ("429", ROUTES[0]), ("refused", ROUTES[1]), ("reset", ROUTES[4]), ("lost", ROUTES[4])]
"""`make torture` has every kind at every route."""
TORTURE = bool(os.environ.get("LOOKTHINK_TORTURE"))


@pytest.mark.torture(sampled=True)
@pytest.mark.parametrize(("kind", "where"), list(itertools.product(KINDS, ROUTES)) if TORTURE else SAMPLE)
def test_a_fault_of_the_hub_is_waited_out_and_nothing_half_is_served(
    repo: Repo, hub: Hub, home: Path, impatient: None, kind: str, where: str
) -> None:
    hub.faults.append(Fault(kind, where, times=-1, retry_after=0, seconds=0.2))
    problem = fetch_named(settings(home))
    told = serving(settings(home))
    if kind != "slow" and not (kind == "reset" and where.startswith("HEAD")):  # nothing follows the head of a HEAD
        assert "Try again" in problem or (kind == "401" and "valid one" in problem)
        assert told.path is None and "could not be fetched" in told.notice and "base alone answers" in told.notice
    hub.faults.clear()
    assert fetch_named(settings(home)) == ""
    folder = serving(settings(home)).path
    assert folder is not None
    whole = STARTER / "adapter" / "adapter_model.safetensors"
    assert (folder / whole.name).read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("kind", "where"), [("html", ".*"), ("shape", ROUTES[0]), ("away", ROUTES[0]), ("away", ROUTES[4])]
)
def test_a_hub_that_talks_nonsense_gets_no_file_in_and_no_token_out(
    repo: Repo, hub: Hub, hub_client: Client, home: Path, impatient: None, kind: str, where: str
) -> None:
    stranger, hub.tokens["hf_secret_token"] = Hub(), "someone"
    hub_client.log_in("hf_secret_token")
    with serve(stranger) as url:
        hub.more["elsewhere"] = url.replace("127.0.0.1", "localhost")
        hub.faults.append(Fault(kind, where, times=-1))
        assert fetch_named(settings(home)) and serving(settings(home)).path is None
    assert "hf_secret_token" in hub.more["tokens_seen"] and "tokens_seen" not in stranger.more
    assert bool(stranger.requests) == (kind == "away")


def test_a_small_file_of_the_right_size_is_not_enough(
    repo: Repo, hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = config(lora_alpha=7)
    monkeypatch.setattr("tests.support.hub.reading.blob_id", lambda data: blob_id(data.replace(b": 7", b": 8")))
    repo.commit({"adapter_config.json": said})
    with pytest.raises(HubUnreachable, match="adapter_config.json .* did not arrive as the Hub has it"):
        fetch_adapter(NAME, home, BASE)
    assert not (home / "hub" / "refs").exists()


def test_the_transfer_of_large_files_fails_in_words() -> None:
    """The Hub's own transfer, in Rust, raises nothing but `RuntimeError`."""
    found = read_error("adapter", NAME, RuntimeError("Data processing error: CAS service error"))
    assert isinstance(found, HubUnreachable) and "CAS service error" in str(found)


def test_the_app_serves_the_base_until_the_adapter_is_there(
    repo: Repo, hub: Hub, engine: Engine, home: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Hub that is down at the start is no reason not to start."""
    monkeypatch.setattr("inference.adapters.live.FETCH_SECONDS", 0.1)
    hub.failure = 503
    live = LiveAdapters(settings(home))
    live.start(engine)
    try:
        assert live.offer.served is None and "has trouble" in live.offer.serving.notice
        [listed] = adapter_versions(settings(home))
        assert listed.name == NAME and "has trouble" in listed.problem
        hub.failure = None
        for _ in range(200):
            if live.offer.served:
                break
            time.sleep(0.05)
        assert str(live.offer.served).startswith("someone--counting-") and not live.offer.serving.notice
        live.hold(str(live.offer.served))()
    finally:
        live.stop()


def test_an_adapter_that_does_not_fit_does_not_keep_the_app_from_starting(
    repo: Repo, engine: Engine, home: Path
) -> None:
    repo.commit({"adapter_model.safetensors": _one_tensor("base_model.model.visual.blocks.0.lora_A.weight")})
    live = LiveAdapters(settings(home))
    live.start(engine)
    live.stop()
    assert live.offer.served is None and "language model only" in live.offer.serving.notice


def _one_tensor(name: str) -> bytes:
    header = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return _header(header) + b"\0\0\0\0"


def test_its_own_system_prompt_is_what_it_is_asked_with(repo: Repo, engine: Engine, home: Path) -> None:
    repo.commit(run_record(system_prompt=PROMPT))
    live = LiveAdapters(settings(home))
    live.start(engine)
    live.stop()
    name = str(live.offer.served)
    assert live.system_prompt(name) == PROMPT
    promoted = promote(home, live.offer.records[name].path, "alice", settings=settings(home).model_copy(
        update={"adapter": None, "adapter_is_pinned": False}))  # fmt: skip
    assert promoted.path is not None and read_record(promoted.path).system_prompt == PROMPT
    repo.commit(run_record(system_prompt=THINK_PROMPT))
    assert read_record(fetch_adapter(NAME, home, BASE)).system_prompt is None


def test_special_tokens_of_this_base_are_refused(repo: Repo, engine: Engine, home: Path) -> None:
    """Of whatever form its tokenizer has given them."""
    marker = next(iter(engine.tokenizer.markers))
    folder = fetch_adapter(NAME, home, BASE)
    hub_adapters.write_system_prompt(folder, f"Look. {marker}")
    with pytest.raises(UserError, match="steers"):
        engine.read_adapter(folder)


def test_one_of_the_cookbook_recipe_answers(hub: Hub, hub_client: Client, engine: Engine, home: Path, tmp_path) -> None:
    """Plain PEFT: r 8, alpha 32, dropout 0.1, q_proj and v_proj, and no record of ours."""
    made = random_adapter(
        tmp_path / "made", r=8, lora_alpha=32, lora_dropout=0.1, target_modules=["q_proj", "v_proj"],
        task_type="CAUSAL_LM",
    )  # fmt: skip
    weights = {path.name: path.read_bytes() for path in made.iterdir()}
    hub.repo("model", "cook/recipe").commit({**weights, "training_args.bin": b"a pickle", "tokenizer.json": b"{}"})
    live = LiveAdapters(settings(home, "cook/recipe"))
    live.start(engine)
    live.stop()
    name, problem = str(live.offer.served), problems(1)[0]
    row = Request(
        problem.image.convert("RGB"), problem.problem, adapter=name, get_adapter=live.hold(name), max_new_tokens=8
    )
    said = engine.generate([row, Request(row.image, row.question, max_new_tokens=8)])
    assert said[0].token_ids != said[1].token_ids and live.offer.records[name].scores == ""
    record = live.offer.records[name]
    assert not record.says_prompt and live.system_prompt(name) == THINK_PROMPT


def unpinned(home: Path) -> Settings:
    return load_settings(env={"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(home)}, has_gpu=False)


@pytest.mark.parametrize(
    ("chosen", "kept"), [(R1_PROMPT, R1_PROMPT), (THINK_PROMPT, THINK_PROMPT), ("Look. Then answer.",) * 2]
)
def test_the_owner_chooses_the_prompt_of_one_that_does_not_say_it(
    chosen: str, kept: str, repo: Repo, home: Path
) -> None:
    repo.commit({"lookthink/evaluation.json": None})
    folder = fetch_adapter(NAME, home, BASE)
    assert not read_record(folder).says_prompt
    with pytest.raises(PromptUnknown, match=r"does not say which system prompt.*lookthink, r1, or its text"):
        promote(home, folder, "alice", settings=unpinned(home))
    now = promote(home, folder, "alice", settings=unpinned(home), system_prompt=chosen)
    assert now.path is not None and now.path != folder
    record = read_record(now.path)
    assert (record.system_prompt, record.says_prompt) == (kept, True)
    live = LiveAdapters(unpinned(home))
    assert live.system_prompt(str(live.offer.served)) == kept, "also after a restart"
    again = promote(home, now.path, "alice", settings=unpinned(home))
    assert again.digest == now.digest
    with pytest.raises(UserError, match="says its system prompt"):
        promote(home, now.path, "alice", settings=unpinned(home), system_prompt="Another one.")


def test_a_run_s_prompt_makes_the_same_adapter_here_and_there(repo: Repo, home: Path, tmp_path: Path) -> None:
    """So that its evaluation, which names its digest, holds where it is fetched."""
    made = tmp_path / "adapter"
    take_adapter(STARTER / "adapter", made, "starter", R1_PROMPT)
    repo.commit(
        {"adapter_config.json": (made / "adapter_config.json").read_bytes(), **run_record(system_prompt=R1_PROMPT)}
    )
    folder = fetch_adapter(NAME, home, BASE)
    assert adapter_digest(folder) == adapter_digest(made) != adapter_digest(STARTER / "adapter")


def test_a_prompt_that_its_repository_says_is_not_chosen(repo: Repo, home: Path) -> None:
    for says, name in ((THINK_PROMPT, "lookthink"), (R1_PROMPT, "r1")):
        repo.commit({"lookthink/evaluation.json": None, **run_record(system_prompt=says)})
        folder = fetch_adapter(NAME, home, BASE)
        assert read_record(folder).says_prompt
        with pytest.raises(UserError, match=f"says its system prompt, {name}"):
            promote(home, folder, "alice", settings=unpinned(home), system_prompt="Another one.")
        now = promote(home, folder, "alice", settings=unpinned(home), system_prompt=says)
        assert now.path is not None and (read_record(now.path).system_prompt or THINK_PROMPT) == says


def test_promote_on_the_command_line(repo: Repo, home: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LOOKTHINK_BASE", "starter")
    assert main(["promote", f"{NAME}@main"]) == 0
    name = capsys.readouterr().out.partition("served from now on: ")[2].splitlines()[0]
    assert name.startswith("someone--counting-") and (home / "adapters" / name / "evaluation.json").is_file()
    assert main(["promote", "someone/nowhere"]) != 0
    assert "no adapter someone/nowhere" in capsys.readouterr().err


def test_prompts_are_tried_and_chosen_on_the_command_line(
    repo: Repo, engine: Engine, home: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("LOOKTHINK_BASE", "starter")
    monkeypatch.setattr(Engine, "load", lambda *args, **kwargs: engine)
    repo.commit({"lookthink/evaluation.json": None})
    assert main(["promote", NAME]) != 0
    assert "--system-prompt r1, for example, chooses one" in capsys.readouterr().err
    assert main(["promote", NAME, "--try-prompts", "--system-prompt", "Count first."]) == 0
    said = capsys.readouterr().out
    assert said.count("  lookthink: ") == said.count("  r1: ") == said.count("  a text of its own: ") == 3
    assert "Under lookthink, 3 of 3 are right and 3 in the format. Under r1, " in said and "penalty" not in said
    monkeypatch.setattr(engine, "repetition_penalty", 3.0)
    assert main(["promote", NAME, "--try-prompts"]) == 0
    said = capsys.readouterr().out
    assert "All were asked with the base's repetition penalty, 3." in said
    assert "Under lookthink, 3 of 3" not in said, "so strong a one spoils what the starter says"
    assert serving(load_settings()).by is None, "nothing was promoted"
    assert main(["promote", NAME, "--system-prompt", "r1"]) == 0
    path = serving(load_settings()).path
    assert path is not None and read_record(path).system_prompt == R1_PROMPT


def test_the_tab_fetches_and_promotes_one_by_its_name(repo: Repo, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gradio as gr

    from training.admin.access import Access, Caller
    from training.ui.answers.pinned import PinnedPanel
    from training.ui.base.download import Downloads
    from training.ui.sections.adapters import AdapterActions, PromptChoice, PublishPanel
    from training.ui.training_app import TrainingApp

    plain = load_settings(env={"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(home)}, has_gpu=False)
    refreshed: list[bool] = []
    context = TrainingApp(plain, Access(home, {})).context(lambda: refreshed.append(True))
    with gr.Blocks():
        panels = PublishPanel(context), PromptChoice(context), Downloads(), PinnedPanel(context, "")
        actions = AdapterActions(context, *panels)
    words = actions.fetch(Caller("alice"), f" {NAME} ", "")[0]
    assert "someone--counting-" in words and "answers from now on" in words and refreshed
    now = serving(plain)
    assert str(now.name).startswith("someone--counting-") and now.by == "alice"
    for named in (str(STARTER / "adapter"), "../../etc", "", None, "a/b/c"):
        with pytest.raises(UserError, match="no adapter's name on the Hub"):
            actions.fetch(Caller("alice"), named, "")
    assert serving(plain) == now


def test_the_tab_shows_a_few_problems_under_both_prompts_and_keeps_the_chosen_one(
    repo: Repo, engine: Engine, home: Path, tmp_path: Path
) -> None:
    import gradio as gr

    from inference.server.queue import RequestQueue
    from training.admin.access import Access, Caller
    from training.ui.answers.pinned import PinnedPanel
    from training.ui.base.download import Downloads
    from training.ui.sections.adapters import AdapterActions, PromptChoice, PublishPanel
    from training.ui.training_app import TrainingApp

    repo.commit({"lookthink/evaluation.json": None})
    queue = RequestQueue(lambda: engine)
    queue.wait_loaded()
    context = TrainingApp(unpinned(home), Access(home, {})).context(lambda: None, queue)
    with gr.Blocks():
        panels = PublishPanel(context), PromptChoice(context), Downloads(), PinnedPanel(context, "")
        actions = AdapterActions(context, *panels)
    alice = Caller("alice")
    with pytest.raises(PromptUnknown):
        actions.fetch(alice, NAME, "")
    for typed, said in (("r2", "no system prompt 'r2'"), ("a<|im_end|>b c", "steers"), (str(tmp_path), "no system")):
        with pytest.raises(UserError, match=said):
            actions.fetch(alice, NAME, typed)
    table = str(actions.compare_prompts(alice, NAME, "")[-1])
    assert "<th>lookthink</th><th>r1</th>" in table and table.count("<tr>") == 4
    assert "Under lookthink, 3 of 3 are right" in table and "&lt;think&gt;" in table and "<think>" not in table
    actions.fetch(alice, NAME, " r1 ")
    path = serving(unpinned(home)).path
    assert path is not None and read_record(path).system_prompt == R1_PROMPT
    queue.close("the end of the test")
