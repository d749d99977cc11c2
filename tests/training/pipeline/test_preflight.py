"""What is refused before a run has a folder: impossible combinations, and what is not there or does not fit."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.common.errors import UserError
from inference.common.settings import STARTER
from tests.support.datasets_on_disk import rows, shards, write_folder, write_lines
from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from tests.support.samples import SMALL_RUN
from training.__main__ import main
from training.config.run_config import RunConfig, load_config
from training.data import hub_source
from training.data.local_source import LocalSource
from training.pipeline.preflight import check_run
from training.pipeline.run import run
from training.runs.failures import REFUSED, UNREACHABLE

QUIET = {"report_to": [], "data": {"train_rows": 8}}
ADAPTER = STARTER / "adapter"


def refused(values: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        check_run(load_config("starter", QUIET | values))
    return str(caught.value)


def test_what_is_possible_is_let_through(tmp_path: Path) -> None:
    check_run(load_config("starter", QUIET | {"start_adapter": str(ADAPTER)}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"prompts_per_step": 3, "num_generations": 2, "micro_batch_size": 6, "resample_rounds": 1},
            "resample_rounds is 1, and 3 prompts a step leave 2 processes no whole groups; make prompts_per_step a",
        ),
        ({"prompts_per_step": 3, "num_generations": 3, "micro_batch_size": 9}, "9 completions a step cannot be shared"),
    ],
)
def test_what_several_processes_cannot_do(values: dict[str, Any], said: str, monkeypatch) -> None:
    check_run(load_config("starter", QUIET | values))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert said in refused(values)


def test_weights_are_sharded_in_the_engine_s_rollouts_alone() -> None:
    assert "set shard_weights to false" in refused({"shard_weights": True, "trl": {"top_k": 5}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read (No such file or directory); name an audit's JSON"),
        ("not JSON", "has no pass rates; make it with `audit --with-model --output FILE`"),
        ('{"rollouts": {"pass_rates": [1]}}', "has no pass rates"),
    ],
)
def test_a_curriculum_that_is_none(text: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "audit.json"
    if text is not None:
        file.write_text(text)
    assert said in refused({"curriculum": str(file)})


def test_a_dataset_that_is_not_there_or_does_not_fit(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert "There is no dataset" in refused({"data": {"dataset": str(folder)}})
    folder.mkdir()
    assert "There is no data in the folder" in refused({"data": {"dataset": str(folder)}})
    lines = [{"file_name": f"{i}.png", "frage": "?", "solution": "1"} for i in range(8)]
    write_lines(folder / "metadata.jsonl", lines)
    here = {"dataset": str(folder), "test_rows": 2}
    assert "has no column 'problem'" in refused({"data": here})
    mapped = here | {"columns": {"problem": "frage"}}
    assert "no split 'dev'" in refused({"data": mapped | {"split": "dev"}})
    assert "test_rows is 9" in refused({"data": mapped | {"test_rows": 9}})
    assert "eval_rows is 480" in refused({"data": mapped | {"test_rows": 0}})
    assert "eval_rows is 480" in refused({"data": mapped | {"test_rows": None, "test_share": 0}})
    check_run(load_config("starter", QUIET | {"data": mapped | {"test_rows": 0}, "eval_rows": 0}))


def test_fewer_rows_than_a_step_takes(tmp_path: Path) -> None:
    here = {"dataset": str(write_folder(tmp_path / "pictures", 9)), "test_rows": 3}
    for values in ({}, {"max_steps": 0, "num_epochs": 3.0}):
        said = refused(values | {"data": here})
        assert "pictures has 6 train rows, and each step takes prompts_per_step 8" in said
        assert "set prompts_per_step to at most 6, or give more rows" in said
    check_run(load_config("starter", QUIET | {"data": here, "prompts_per_step": 6, "micro_batch_size": 48}))


@pytest.mark.parametrize(
    ("variables", "login", "refuses"),
    [
        ({}, "", True),
        ({}, "machine api.wandb.ai login user password key\n", False),
        ({}, "machine elsewhere.example login user password key\n", True),
        ({"WANDB_BASE_URL": "https://elsewhere.example"}, "machine elsewhere.example login u password k\n", False),
        ({"WANDB_API_KEY": "key"}, "", False),
        ({"WANDB_MODE": "offline"}, "", False),
        ({"WANDB_MODE": "online"}, "", True),
    ],
)
def test_wandb_without_a_login(
    variables: dict[str, str], login: str, refuses: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "netrc").write_text(login)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr("training.pipeline.preflight.find_spec", lambda name: name)
    values = {"report_to": ["wandb"], "data": {"train_rows": 8}}
    if refuses:
        assert "wandb, which is not logged in on this machine; set WANDB_API_KEY, run `wandb login`" in refused(values)
    else:
        check_run(load_config("starter", values))


def changed_adapter(folder: Path, **settings: Any) -> Path:
    shutil.copytree(ADAPTER, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


def test_an_adapter_that_does_not_fit(tmp_path: Path) -> None:
    assert "there is no such folder" in refused({"start_adapter": str(tmp_path / "none")})
    assert "adapter_config.json is missing" in refused({"start_adapter": str(tmp_path)})
    other = changed_adapter(tmp_path / "other", base_model_name_or_path="Qwen/Qwen2.5-VL-3B-Instruct")
    assert "was trained on Qwen/Qwen2.5-VL-3B-Instruct" in refused({"start_adapter": str(other)})
    pissa = changed_adapter(tmp_path / "pissa", init_lora_weights="pissa")
    assert "only plain LoRA" in refused({"start_adapter": str(pissa)})
    larger = changed_adapter(tmp_path / "larger")
    weights = larger / "adapter_model.safetensors"
    wide = {n: torch.cat([w, w], 1) if "lora_A" in n else w for n, w in load_file(weights).items()}
    save_file(wide, weights)
    assert "does not fit this base" in refused({"start_adapter": str(larger)})
    weights.write_bytes(b"no safetensors")
    assert "cannot be read as safetensors" in refused({"start_adapter": str(larger)})
    weights.unlink()
    assert "has no adapter_model.safetensors" in refused({"start_adapter": str(larger)})


def train(*words: str, folder: Path) -> int:
    return main(["train", "--report-to", "[]", *words, "--folder", str(folder)])


@pytest.fixture
def kinds(hub: Hub) -> dict[str, tuple[str, ...]]:
    """The options that name a gated base and a gated dataset."""
    hub.tokens |= {"hf_ann": "ann", "hf_bob": "bob"}
    config = (STARTER / "config.json").read_bytes()
    hub.repo("model", "owner/base", gated=True, readers={"ann"}).commit({"config.json": config})
    hub.repo("dataset", "owner/data", gated=True, readers={"ann"}).commit(shards(rows(4)))
    return {"base": ("--base", "owner/base"), "dataset": ("--dataset", "owner/data")}


@pytest.mark.parametrize("kind", ["base", "dataset"])
def test_a_hub_that_refuses(kind: str, kinds, hub_client: Client, capsys, tmp_path: Path) -> None:
    """A gated repository without a token, with another's token, and with one that is none: status 6."""
    for token in (None, "hf_bob", "hf_unknown"):
        if token:
            hub_client.log_in(token)
        assert train(*kinds[kind], folder=tmp_path / "run") == REFUSED, token
        said = capsys.readouterr().out
        assert f"owner/{'data' if kind == 'dataset' else 'base'}" in said and "HF_TOKEN" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["base", "dataset"])
def test_a_hub_that_is_not_reached(kind: str, kinds, hub: Hub, hub_client: Client, capsys, tmp_path, monkeypatch):
    """Out of order, switched off, and not there: status 7."""
    import huggingface_hub

    def check() -> None:
        assert train(*kinds[kind], folder=tmp_path / "run") == UNREACHABLE
        said = capsys.readouterr().out
        assert "cannot be reached" in said and ("onnect this machine" in said)

    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between its attempts
    hub.failure = 503
    check()
    hub.failure = None
    for name, value in (
        ("ENDPOINT", "http://127.0.0.1:9"),
        ("HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"),
    ):
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    check()
    hub_client.go_offline()
    check()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [("--base", "owner/none"), ("--dataset", "owner/none")])
def test_a_name_that_is_not_there_is_wrong_input(words: tuple[str, ...], hub_client: Client, capsys, tmp_path) -> None:
    assert train(*words, folder=tmp_path / "run") == 2
    assert "owner/none" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def short_run(dataset: str, **values: Any) -> RunConfig:
    """One step, then the choice of the checkpoint, an evaluation and a comparison: every stage that reads rows."""
    data = {"dataset": dataset, "test_rows": 2, "validation_rows": 2}
    whole = {"max_steps": 1, "max_completion_length": 8, "eval_rows": 2, "choose_checkpoint": True, "data": data}
    return load_config("starter", SMALL_RUN | whole | values)


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """The calls of a function from now on, by their first argument."""
    calls, function = [], getattr(owner, name)

    def counting(first: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(first)
        return function(first, *args, **kwargs)

    monkeypatch.setattr(owner, name, counting)
    return calls


@pytest.mark.slow
def test_a_run_walks_its_local_dataset_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = short_run(str(write_folder(tmp_path / "pictures", 16)))
    walks = counted(monkeypatch, LocalSource, "__init__")
    adapter = run(config, tmp_path / "run")
    assert len(walks) == 1
    assert (adapter / "evaluation.json").is_file() and (adapter / "comparison.json").is_file()


@pytest.mark.slow
def test_a_run_looks_its_dataset_and_its_base_up_once(
    hub: Hub, hub_client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both by the names of their main branches, which may move: one look-up each, and all is read at that commit."""
    files = {path.name: path.read_bytes() for path in STARTER.iterdir() if path.is_file()}
    base = hub.repo("model", "owner/base").commit(files)
    commit = hub.repo("dataset", "owner/data").commit(shards(rows(16)))
    lookups = counted(monkeypatch, hub_source, "resolve_commit")
    run(short_run("owner/data", base="owner/base"), tmp_path / "run")
    assert lookups == ["owner/data"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["base_revision"], config["data"]["revision"]) == (base, commit)
    by_branch = [path for _, path in hub.requests if "owner/base/resolve/main/config.json" in path]
    assert len(by_branch) == 2, "one look-up, and PEFT's own when it saves the checkpoint"
