"""Versions of promoted adapters: what is copied, what they are called, and what never becomes one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from inference.adapters.record import adapter_digest, comparison_of, evaluation_of, read_record
from inference.adapters.versions import NAME, Stored, _source_name, store_version, update_records
from inference.common.errors import UserError
from inference.common.settings import STARTER
from tests.support.samples import perturbed_adapter

BASE = str(STARTER)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run, its adapter evaluated and compared."""
    folder = tmp_path / "home" / "runs" / "20261122-143000-a1b2"
    perturbed_adapter(folder / "adapter")
    (folder / "metrics.jsonl").write_text("")
    (folder / "adapter" / "evaluation.json").write_text('{"about": {"num_rows": 480}}')
    digest = adapter_digest(folder / "adapter")
    (folder / "adapter" / "comparison.json").write_text(json.dumps({"reason": "it is better", "adapter": digest}))
    (folder / "adapter" / "optimizer.pt").write_bytes(b"pickle")
    learn = folder / "adapter" / "learn"
    learn.mkdir()
    for name in ("changes.json", "0.jpg", "run.sh"):
        (learn / name).write_text("{}")
    (learn / "1.jpg").symlink_to("/etc/passwd")
    return folder


def store(home: Path, adapter: Path) -> Stored:
    return store_version(home, adapter, BASE, "alice")


def test_what_is_put_on_record_later_is_copied_too(tmp_path: Path, run: Path) -> None:
    home = tmp_path / "home"
    stored = store(home, run / "adapter")
    other = store(home, perturbed_adapter(tmp_path / "other", seed=1))
    (run / "adapter" / "learn" / "checkpoints.json").write_text('{"k": 8}')
    (run / "adapter" / "evaluation.json").write_text('{"about": {"num_rows": 960}}')
    (stored.folder / "learn" / "0.jpg").write_text("newer here")
    assert update_records(home, run / "adapter") == [stored.name]
    assert json.loads((stored.folder / "learn" / "checkpoints.json").read_text()) == {"k": 8}
    assert json.loads((stored.folder / "evaluation.json").read_text())["about"]["num_rows"] == 960
    assert (stored.folder / "learn" / "0.jpg").read_text() == "newer here"
    assert not (other.folder / "learn").exists() and update_records(home, tmp_path / "none") == []


def test_a_version_has_what_serving_takes_and_what_is_known_of_it(tmp_path: Path, run: Path) -> None:
    stored = store(tmp_path / "home", run / "adapter")
    assert sorted(path.name for path in stored.folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "comparison.json",
        "evaluation.json",
        "learn",
        "promotion.json",
    ]
    assert sorted(path.name for path in (stored.folder / "learn").iterdir()) == ["0.jpg", "changes.json"]
    about = json.loads((stored.folder / "promotion.json").read_text())
    assert about.pop("at").endswith("Z")
    digest = adapter_digest(run / "adapter")
    assert stored.name == f"20261122-143000-a1b2-{digest[:8]}" and stored.digest == digest
    assert about == {"name": stored.name, "digest": digest, "run": run.name, "source": run.name, "by": "alice"}


def test_figures_of_other_weights_are_left_behind(tmp_path: Path, run: Path) -> None:
    beside = run / "adapter"
    perturbed_adapter(beside, seed=5)  # somebody has put other weights there
    about = {"num_rows": 480, "adapter_digest": "0" * 64}
    (beside / "evaluation.json").write_text(json.dumps({"about": about}))
    assert evaluation_of(beside) == comparison_of(beside) == {} and read_record(beside).num_rows is None
    stored = store(tmp_path / "home", beside)
    assert not {"evaluation.json", "comparison.json", "learn"} & {path.name for path in stored.folder.iterdir()}
    about["adapter_digest"] = adapter_digest(beside)
    (beside / "evaluation.json").write_text(json.dumps({"about": about}))
    assert evaluation_of(beside)["about"] == about and read_record(beside).num_rows == 480


def test_the_same_content_is_one_version_and_another_one_another(tmp_path: Path, run: Path) -> None:
    home = tmp_path / "home"
    first = store(home, run / "adapter")
    assert store(home, run / "adapter") == first == store(home, first.folder)
    perturbed_adapter(run / "adapter", seed=1)  # the run was trained on
    second = store(home, run / "adapter")
    assert second.name != first.name and first.folder.is_dir() and second.folder.is_dir()
    shutil.copyfile(second.folder / "adapter_model.safetensors", first.folder / "adapter_model.safetensors")
    perturbed_adapter(run / "adapter")
    third = store(home, run / "adapter")
    assert third.name.startswith(first.name) and third.name != first.name, "the spoiled one keeps its name"
    assert third.digest == first.digest == adapter_digest(third.folder)


def test_an_evaluation_that_comes_later_is_taken_along_later(tmp_path: Path, run: Path) -> None:
    (run / "adapter" / "evaluation.json").rename(tmp_path / "later.json")
    stored = store(tmp_path / "home", run / "adapter")
    assert not (stored.folder / "evaluation.json").exists()
    (tmp_path / "later.json").rename(run / "adapter" / "evaluation.json")
    assert store(tmp_path / "home", run / "adapter") == stored and (stored.folder / "evaluation.json").exists()


def test_what_lies_in_adapters_by_hand_becomes_a_version_of_its_own(tmp_path: Path) -> None:
    mine = perturbed_adapter(tmp_path / "adapters" / "mine")
    stored = store(tmp_path, mine)
    assert stored.folder != mine and stored.name.startswith("mine-")
    (mine / "promotion.json").write_text(json.dumps({"name": "mine", "digest": "of something else"}))
    assert store(tmp_path, mine) == stored


def _set(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _rewrite(folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({name: change(tensor) for name, tensor in load_file(path).items()}, path)


def _fifo(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    os.mkfifo(folder / "adapter_model.safetensors")


def _only_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


def _sparse(folder: Path) -> None:
    with (folder / "adapter_model.safetensors").open("r+b") as file:
        file.truncate(8_000_000_001)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "adapter_config.json").unlink(), "adapter_config.json is missing"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "adapter_model.safetensors is missing"),
    "pickle alone": (_only_pickle, "adapter_model.safetensors is missing"),
    "a pipe for weights": (_fifo, "adapter_model.safetensors is missing"),
    "another base": (lambda f: _set(f, base_model_name_or_path="a/b"), "was trained on a/b, but starter answers"),
    "DoRA": (lambda f: _set(f, use_dora=True), "use_dora=True"),
    "another method": (lambda f: _set(f, peft_type="IA3"), "not a PEFT LoRA"),
    "a config of 16 MB": (lambda f: (f / "adapter_config.json").write_text(" " * 16_000_001), "larger than 16 MB"),
    "a config nested deep": (lambda f: (f / "adapter_config.json").write_text("[" * 100_000), "cannot be read as J"),
    "cut short": (lambda f: (f / "adapter_model.safetensors").write_bytes(b"no tensors"), "cannot be read as sa"),
    "other shapes": (lambda f: _rewrite(f, lambda t: t[:, :-1].contiguous()), "does not fit"),
    "not a number": (lambda f: _rewrite(f, lambda t: t * torch.nan), "NaN or infinity"),
}  # fmt: skip


@pytest.mark.parametrize("spoil", REFUSED)
def test_what_cannot_be_served_never_becomes_a_version(tmp_path: Path, spoil: str) -> None:
    folder = perturbed_adapter(tmp_path / "candidate")
    spoiling, message = REFUSED[spoil]
    spoiling(folder)
    with pytest.raises(UserError, match=message) as caught:
        store(tmp_path / "home", folder)
    assert ".incoming" not in str(caught.value)
    assert not list((tmp_path / "home").glob("adapters/*"))


def test_weights_that_are_too_large_are_not_even_copied(tmp_path: Path) -> None:
    folder = perturbed_adapter(tmp_path / "candidate")
    _sparse(folder)
    with pytest.raises(UserError, match="at most 8 GB"):
        store(tmp_path / "home", folder)
    assert not list((tmp_path / "home").glob("adapters/*"))


@given(st.text(alphabet=st.sampled_from("aZ9_-. é\u200b\n~:|"), min_size=1, max_size=80))
def test_a_version_of_any_folder_has_a_plain_name(name: str) -> None:
    assert NAME.fullmatch(f"{_source_name(Path('/somewhere') / name)}-0123abcd")


def test_only_the_content_that_was_compared_becomes_one(tmp_path: Path, run: Path) -> None:
    compared = adapter_digest(run / "adapter")
    perturbed_adapter(run / "adapter", seed=7)
    with pytest.raises(UserError, match="have changed since it was compared"):
        store_version(tmp_path / "home", run / "adapter", BASE, "alice", compared)
    assert list((tmp_path / "home" / "adapters").iterdir()) == []
