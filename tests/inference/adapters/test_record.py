"""Which adapters there are, and what their records say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inference.adapters.record import AdapterRecord, NotFetched, available_adapters, read_record, resolve
from inference.common.errors import UserError
from inference.common.settings import STARTER, Settings

EVALUATION = {
    "about": {"num_rows": 480},
    "conditions": {
        "adapter-thinking": {"overall": {"lenient": {"value": 0.94}}},
        "base-thinking": {"overall": {"lenient": {"value": 0.78}}},
    },
}


def make_folder(folder: Path, base: str | None = "inference/starter", evaluation: object = None) -> Path:
    """The files of an adapter; its weights are not looked at here."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    if evaluation is not None:
        (folder / "evaluation.json").write_text(json.dumps(evaluation))
    return folder


def settings(home: Path, adapter: Path | str | None = None) -> Settings:
    named = str(STARTER)
    return Settings(base=named, base_reason="", named_base=named, adapter=str(adapter) if adapter else None, home=home)


def test_an_empty_home_has_no_adapters(tmp_path: Path) -> None:
    assert available_adapters(settings(tmp_path / "nowhere")) == {}


def test_the_served_one_comes_first_then_home_then_runs(tmp_path: Path) -> None:
    served = make_folder(tmp_path / "starter" / "adapter")
    make_folder(tmp_path / "home" / "adapters" / "mine")
    make_folder(tmp_path / "home" / "runs" / "20260102-030405" / "adapter")
    (tmp_path / "home" / "runs" / "unfinished").mkdir()
    found = available_adapters(settings(tmp_path / "home", served))
    assert list(found) == ["starter-adapter", "mine", "20260102-030405-adapter"]
    assert found["starter-adapter"].path == served


def test_others_that_are_unusable_are_left_out_with_a_line_in_the_log(tmp_path: Path, caplog) -> None:
    make_folder(tmp_path / "adapters" / "of-another-base", base="Qwen/Qwen2.5-VL-3B-Instruct")
    make_folder(tmp_path / "adapters" / "no-weights").joinpath("adapter_model.safetensors").unlink()
    make_folder(tmp_path / "adapters" / "broken").joinpath("adapter_config.json").write_text("{")
    make_folder(tmp_path / "adapters" / "good", base=None)
    assert list(available_adapters(settings(tmp_path))) == ["good"]
    assert "no-weights" in caplog.text and "broken" in caplog.text


def test_of_two_with_one_name_the_first_stays(tmp_path: Path, caplog) -> None:
    first = make_folder(tmp_path / "adapters" / "night-adapter")
    make_folder(tmp_path / "runs" / "night" / "adapter")
    assert available_adapters(settings(tmp_path))["night-adapter"].path == first
    assert "already" in caplog.text


def test_the_served_one_must_be_usable(tmp_path: Path) -> None:
    (tmp_path / "hollow").mkdir()
    with pytest.raises(UserError, match=r"adapter_config\.json is missing"):
        available_adapters(settings(tmp_path, tmp_path / "hollow"))


def test_what_is_no_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFetched, match="owner/adapter has not been fetched"):
        resolve("owner/adapter", tmp_path)
    with pytest.raises(UserError, match="no folder nowhere.*owner/name"):
        resolve("nowhere", tmp_path)
    assert resolve(str(tmp_path), tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("evaluation", "scores"),
    [
        (EVALUATION, "test 94 % (base 78 %)"),
        ({"conditions": {"adapter-thinking": {"overall": {"lenient": {"value": 1}}}}}, "test 100 %"),
        ({"conditions": {}}, ""),
        ({"conditions": "none"}, ""),
        (None, ""),
    ],
)
def test_scores_for_the_header(tmp_path: Path, evaluation: object, scores: str) -> None:
    assert read_record(make_folder(tmp_path / "a", evaluation=evaluation)).scores == scores


def test_a_record_holds_what_the_files_say(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", evaluation=EVALUATION)
    assert read_record(folder) == AdapterRecord("a", folder, "inference/starter", 0.94, 0.78, 480)


@pytest.mark.parametrize("name", ["adapter_config.json", "evaluation.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "\udcff"])
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    folder = make_folder(tmp_path / "a", evaluation=EVALUATION)
    (folder / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=name):
        read_record(folder)


@pytest.mark.skipif(not (STARTER / "adapter").is_dir(), reason="the starter has no adapter yet")
def test_the_shipped_adapter_has_its_scores() -> None:
    record = read_record(STARTER / "adapter")
    assert record.name == "starter-adapter" and record.base and Path(record.base).name == "starter"
    assert record.test_accuracy is not None and record.base_accuracy is not None


def test_no_adapter_takes_the_name_of_the_base(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="called base.*rename its folder"):
        read_record(make_folder(tmp_path / "base"))
