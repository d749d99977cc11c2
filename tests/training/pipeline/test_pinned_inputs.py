"""What a run reads is pinned when it begins, and a start that finds something else is refused."""

import json
import os
from pathlib import Path

import pytest

from inference.common.errors import UserError
from inference.common.settings import STARTER
from inference.engine.engine import Engine
from tests.support.datasets_on_disk import rows, shards, write_folder
from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from training.config.run_config import RunConfig, load_config
from training.data.dataset import Splits, load_rows
from training.pipeline.pinned_inputs import check_sources
from training.pipeline.preflight import check_run
from training.runs.folder import RunFolder
from training.runs.provenance import model_digest
from training.runs.snapshot import RunWatch


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pictures", 10)


def begun(tmp_path: Path, config: RunConfig) -> tuple[RunFolder, Splits]:
    folder, splits = RunFolder.create(tmp_path / "run", config), load_rows(config.data)
    check_sources(config, folder, splits)
    return folder, splits


def test_the_same_sources_are_let_through(pictures: Path, tmp_path: Path) -> None:
    config = load_config(None, {"data": {"dataset": str(pictures)}})
    folder, splits = begun(tmp_path, config)
    kept = (folder.path / "sources.json").read_bytes()
    check_sources(config, folder, splits)
    assert (folder.path / "sources.json").read_bytes() == kept
    assert json.loads(kept)["train rows"]["num"] == 8 and str(tmp_path) not in kept.decode()


def test_what_was_dropped_is_in_the_folder(pictures: Path, tmp_path: Path) -> None:
    (pictures / "3.png").unlink()
    config = load_config(None, {"data": {"dataset": str(pictures)}})
    folder, splits = begun(tmp_path, config)
    kept = json.loads((folder.path / "dropped.json").read_text())
    assert (kept["num"], kept["words"]) == (1, "1 picture missing") == (len(splits.dropped), splits.dropped.words())
    assert kept["first"][0]["place"] == "train[3]" and RunWatch(folder.path).look().dropped == "1 picture missing"


def test_other_rows_are_refused(pictures: Path, tmp_path: Path) -> None:
    config = load_config(None, {"data": {"dataset": str(pictures)}})
    folder, _ = begun(tmp_path, config)
    lines = pictures / "metadata.jsonl"
    lines.write_text(lines.read_text().replace("What is", "How much is"))
    with pytest.raises(UserError, match=r"train rows of the run in .* was 8 rows .*Put it back as it was, or start a"):
        check_sources(config, folder, load_rows(config.data))


def test_another_adapter_or_curriculum_is_refused(pictures: Path, tmp_path: Path) -> None:
    adapter, curriculum = tmp_path / "adapter", tmp_path / "audit.json"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"one")
    curriculum.write_text("{}")
    values = {"start_adapter": str(adapter), "curriculum": str(curriculum), "data": {"dataset": str(pictures)}}
    config = load_config(None, values)
    folder, splits = begun(tmp_path, config)
    (adapter / "evaluation.json").write_text("{}")
    check_sources(config, folder, splits)  # an evaluation beside an adapter is no part of it
    (adapter / "adapter_model.safetensors").write_bytes(b"two")
    with pytest.raises(UserError, match=f"start_adapter of the run .*{adapter}"):
        check_sources(config, folder, splits)
    (adapter / "adapter_model.safetensors").write_bytes(b"one")
    curriculum.write_text("[]")
    with pytest.raises(UserError, match="curriculum of the run"):
        check_sources(config, folder, splits)


def test_an_edited_reward_is_refused(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "reward_that_is_edited.py"
    code.write_text("def mine(completions, **columns): return [i % 2 for i, _ in enumerate(completions)]")
    monkeypatch.syspath_prepend(tmp_path)
    rewards = {"format_reward": 0.5, "reward_that_is_edited:mine": 1.0}
    config = load_config(None, {"rewards": rewards, "data": {"dataset": str(pictures)}})
    folder, splits = begun(tmp_path, config)
    check_sources(config, folder, splits)
    code.write_text(code.read_text().replace("i % 2", "100 * (i % 2)"))
    with pytest.raises(UserError, match=r"reward reward_that_is_edited:mine of the run.*the code of reward_that_is_ed"):
        check_sources(config, folder, splits)


def test_rows_that_are_missing_at_the_end_are_asked_for_at_the_beginning(pictures: Path, tmp_path: Path) -> None:
    for name in ("8.png", "9.png"):
        (pictures / name).unlink()
    config = load_config(None, {"data": {"dataset": str(pictures), "split": "train[:8]", "test_split": "train[8:]"}})
    with pytest.raises(UserError, match=r"has no test rows .*2 picture missing .*--eval-rows 0"):
        begun(tmp_path, config)


def test_paths_are_kept_whole(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = {"start_adapter": "adapter", "curriculum": "~/audit.json", "data": {"dataset": "pictures"}}
    config = load_config(None, values | {"base": os.path.relpath(STARTER)})
    assert (config.data.dataset, config.start_adapter) == (str(pictures), str(tmp_path / "adapter"))
    assert config.curriculum == str(Path.home() / "audit.json") and config.base == str(Path(os.path.abspath(STARTER)))
    assert load_config("recipe").base == "Qwen/Qwen2.5-VL-3B-Instruct" and load_config().base == "starter"


def test_a_dataset_of_the_hub_is_pinned(hub: Hub, hub_client: Client) -> None:
    commit = hub.repo("dataset", "owner/geometry").commit(shards(rows(10)))
    config = load_config(None, {"report_to": [], "data": {"dataset": "owner/geometry"}})
    pinned = check_run(config).config
    assert pinned.data.revision == commit and pinned.base_revision is None
    hub.repo("dataset", "owner/geometry").commit(shards(rows(10, 50)))
    assert check_run(pinned).config == pinned and check_run(config).config.data.revision != commit
    with pytest.raises(UserError, match="There is no dataset owner/other"):
        check_run(load_config(None, {"report_to": [], "data": {"dataset": "owner/other"}}))


def test_a_base_of_the_hub_is_read_at_its_revision(hub: Hub, hub_client: Client) -> None:
    """The tag is a model, what the main branch holds since is none."""
    repo = hub.repo("model", "me/starter")
    commit = repo.commit({path.name: path.read_bytes() for path in STARTER.iterdir() if path.is_file()})
    repo.refs["v1"] = commit
    repo.commit({"config.json": json.dumps({"model_type": "bert"}).encode()})
    pinned = check_run(load_config(None, {"report_to": [], "base": "me/starter", "base_revision": "v1"})).config
    assert pinned.base_revision == commit
    assert model_digest("me/starter", "v1") == f"me/starter@{commit}"
    repo.refs["v1"] = repo.refs["main"]
    assert Engine.load("me/starter", revision=pinned.base_revision).num_parameters > 3_000_000
    with pytest.raises(UserError, match="me/starter is of the family bert"):
        Engine.load("me/starter")
