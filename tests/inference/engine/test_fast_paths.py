"""Which fast paths an engine may take: those that a report for this very machine, code and base has seen right."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from inference.common.settings import STARTER, load_settings, report_folders
from inference.engine.engine import Engine
from inference.engine.fast_paths import (
    NAMES,
    NO_DRIVER,
    PLAIN,
    FastPaths,
    MachineKey,
    base_name,
    code_digest,
    driver_version,
    machine_key,
    proven,
    proven_here,
)
from inference.model.device import hardware_name

KEY = MachineKey("NVIDIA A100-SXM4-80GB", "550.54.15", "2.15.0", "5.23.0", "0123456789abcdef")


def write(folder: Path, key: MachineKey, base: str, found: object, time: float = 1.0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / key.file_name(base_name(base))
    path.write_text(json.dumps({"key": asdict(key), "base": base_name(base), "proven": found, "time": time}))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_what_was_seen_right_is_used_and_nothing_else(name: str, tmp_path: Path) -> None:
    write(tmp_path, KEY, "me/base", [name])
    fast, words = proven("me/base", KEY, [tmp_path / "nowhere", tmp_path])
    assert fast == replace(PLAIN, **{name: True})
    assert words.startswith("fast path on NVIDIA A100") and "not used, as it did not: " in words


@pytest.mark.parametrize(
    "other",
    [{"card": "NVIDIA L4"}, {"driver": "560.1"}, {"torch": "2.16.0"}, {"transformers": "6.0.0"}, {"code": "f" * 16}],
    ids=lambda change: next(iter(change)),
)
def test_a_report_counts_for_its_own_key_alone(other: dict[str, str], tmp_path: Path) -> None:
    path = write(tmp_path, KEY, "me/base", list(NAMES))
    assert proven("me/base", KEY, [tmp_path])[0] == FastPaths(True, True, True)
    key = replace(KEY, **other)
    assert proven("me/base", key, [tmp_path]) == (PLAIN, proven("me/base", key, [])[1])
    shutil.copyfile(path, tmp_path / key.file_name("me/base"))  # one that was renamed
    fast, words = proven("me/base", key, [tmp_path])
    assert fast == PLAIN and "there is no report of the doctor" in words
    assert proven("me/other", KEY, [tmp_path])[0] == PLAIN


@pytest.mark.parametrize("found", [None, "cuda_graphs", {"cuda_graphs": True}, [], ["something else"]])
def test_what_is_no_list_of_names_proves_nothing(found: object, tmp_path: Path) -> None:
    write(tmp_path, KEY, "me/base", found)
    fast, words = proven("me/base", KEY, [tmp_path])
    assert fast == PLAIN and words.startswith("plain path on")


def test_a_damaged_report_proves_nothing_and_the_newest_counts(tmp_path: Path) -> None:
    home, bucket = tmp_path / "home", tmp_path / "bucket"
    write(home, KEY, "me/base", ["runs_ahead"], time=2.0)
    write(bucket, KEY, "me/base", ["cuda_graphs"], time=1.0)
    assert proven("me/base", KEY, [bucket, home])[0] == FastPaths(runs_ahead=True)
    (home / KEY.file_name("me/base")).write_text('{"key": ')
    assert proven("me/base", KEY, [bucket, home])[0] == FastPaths(cuda_graphs=True)


@pytest.mark.parametrize(
    ("listing", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\n", "535.129.03"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release Build\n", "560.35.03"),
        ("something else", "unknown"),
    ],
)
def test_the_driver_by_its_own_listing(listing: str, version: str, tmp_path: Path) -> None:
    assert driver_version(tmp_path / "version") == NO_DRIVER
    (tmp_path / "version").write_text(listing)
    assert driver_version(tmp_path / "version") == version


def test_the_code_is_known_by_its_files_wherever_they_lie(tmp_path: Path) -> None:
    for copy in ("one", "two"):
        for half in ("inference", "training"):
            (tmp_path / copy / half).mkdir(parents=True)
            (tmp_path / copy / half / "a.py").write_text("a = 1\n")
    (tmp_path / "two" / "README.md").write_text("another")
    assert code_digest(tmp_path / "one") == code_digest(tmp_path / "two")
    (tmp_path / "two" / "training" / "a.py").write_text("a = 2\n")
    assert code_digest(tmp_path / "one") != code_digest(tmp_path / "two")


def test_a_base_has_one_name_on_every_machine(tmp_path: Path) -> None:
    assert base_name("starter") == base_name(str(STARTER)) == "starter"
    assert base_name("me/base") == "me/base"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copyfile(STARTER / "config.json", tmp_path / name / "config.json")
    assert base_name(str(tmp_path / "one")) == base_name(str(tmp_path / "two")) != "starter"


def test_this_machine(home: Path) -> None:
    """A processor has the plain path whatever was written; a card would read the report of its own key."""
    key = machine_key()
    assert (key.card, key.torch) == (hardware_name(), torch.__version__) and len(key.code) == 16
    [folder] = report_folders(load_settings())
    write(folder, key, "starter", list(NAMES))
    assert proven_here("starter", torch.device("cpu")) == (PLAIN, "plain path: the fast ones need a card")
    assert proven_here(str(STARTER), torch.device("cuda"))[0] == FastPaths(True, True, True)


def test_an_engine_takes_the_paths_that_it_is_told(engine: Engine) -> None:
    assert not engine._scheduler.runs_ahead and engine._batch._static is None and engine.num_graphs == 0  # type: ignore[union-attr]
