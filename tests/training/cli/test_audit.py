"""The audit of real datasets, and its command line."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoProcessor

from inference.common.errors import UserError
from inference.common.settings import STARTER
from tests.support.datasets_on_disk import rows as some_rows
from tests.support.datasets_on_disk import shards, write_folder, write_lines
from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from training import __main__ as command_line
from training.audit.page import render_page
from training.audit.scan import audit
from training.config.data_config import read_data_config


def settings(path: Path, **values: Any) -> Any:
    return read_data_config(dataset=str(path), **values)


def test_a_dataset_with_everything_wrong(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "train", 20)
    write_folder(tmp_path / "test", 4, first=18)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for at, gold in enumerate(["A", "B", "(a)", "1/2", "0.5", "isosceles", "x=3"]):
        lines[at]["solution"] = gold
    lines[7]["problem"] = ""
    lines[8]["file_name"] = "../../x.png"
    lines += [lines[10], lines[11] | {"problem": "Another question?"}]
    write_lines(folder / "metadata.jsonl", lines)
    (tmp_path / "test" / "11.png").write_bytes((folder / "11.png").read_bytes())
    with (tmp_path / "test" / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": "11.png", "problem": "And this?", "solution": "12"}) + "\n")
    found = audit(settings(tmp_path, test_split="test"), num_examples=8)
    assert found.kept_rows == {"train": 18, "validation": 0, "test": 5}
    assert found.dropped.counts() == {"also in test": 2, "no problem": 1, "picture refused": 1}
    assert found.leaks == {"train, also in test": 2}
    assert found.duplicates == {"train": 1, "validation": 0, "test": 0}
    assert found.shared_pictures == 2
    assert found.letters == {"A": 2, "B": 1}
    assert sum(found.rules.values()) == found.verified.num_rows == 23
    assert found.pictures["width"].largest == 36 and found.prompts is None
    assert len(found.examples) == 8 and len({example.rule for example in found.examples}) == len(found.rules)


def test_golds_that_no_completion_can_match_are_named(tmp_path: Path) -> None:
    """One that cannot stand between answer tags, say."""
    lines = [
        {"file_name": f"{i}.png", "problem": f"{i}?", "solution": s}
        for i, s in enumerate(["7", "red</answer> cat", "8"])
    ]
    folder = write_folder(tmp_path / "set", 3)
    write_lines(folder / "metadata.jsonl", lines)
    found = audit(settings(folder, test_share=0))
    assert [gold.gold for gold in found.unverified] == ["red</answer> cat"]
    assert found.verified.value == pytest.approx(2 / 3)
    assert "1 of 3 golds cannot be verified" in found.text()


def test_rows_with_several_pictures(tmp_path: Path) -> None:
    """Every picture counts: their sizes, those that test has too, and the tokens of all."""
    folder = write_folder(tmp_path / "train", 6)
    write_folder(tmp_path / "test", 2, first=10)
    for name, first in (("train", 0), ("test", 10)):
        (tmp_path / name / "metadata.jsonl").unlink()
        names = [f"{first + i}.png" for i in range(6 if name == "train" else 2)]
        images = [[names[i], names[i - 1]][: 1 + i % 2] for i in range(len(names))]
        lines = [{"images": some, "problem": f"{i}?", "solution": "3"} for i, some in enumerate(images)]
        write_lines(tmp_path / name / "data.jsonl", lines)
    (tmp_path / "test" / "11.png").write_bytes((folder / "4.png").read_bytes())
    found = audit(settings(tmp_path, test_split="test"), AutoProcessor.from_pretrained(STARTER), num_examples=8)
    assert found.kept_rows == {"train": 6, "validation": 0, "test": 2}
    assert found.shared_pictures == 2, "rows 4 and 5"
    assert (found.pictures["a row"].smallest, found.pictures["a row"].largest) == (1, 2)
    assert found.prompts is not None and found.prompts["picture"].largest == 2 * found.prompts["picture"].smallest
    assert sorted(len(example.images) for example in found.examples) == [1] * 4 + [2] * 4
    page = render_page(found)
    assert page.count("<img ") == 12 and page.count('alt="Picture 2 of row') == 4


def test_prompt_sizes_and_the_limit(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", 5)
    processor = AutoProcessor.from_pretrained(STARTER)
    found = audit(settings(folder, max_pixels=1_000), processor)
    assert found.prompts is not None and found.num_scaled == 5
    assert found.prompts["prompt"].largest == found.prompts["text"].largest + found.prompts["picture"].largest
    assert found.examples[0].prompt_tokens is not None
    with pytest.raises(UserError, match="is left to audit: dropped 5 rows: 5 prompt too long"):
        audit(settings(folder, max_prompt_tokens=20), processor)


def run(*options: str) -> int:
    return command_line.main(["audit", *options])


def test_the_starter_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, page = tmp_path / "audit.json", tmp_path / "audit.html"
    sizes = ["--train-rows", "12", "--test-rows", "4", "--examples", "3"]
    assert run(*sizes, "--output", str(output), "--html", str(page)) == 0
    data = json.loads(output.read_text(encoding="utf-8"))
    assert data["kept"] == {"train": 12, "validation": 0, "test": 4}
    assert data["verified"]["value"] == 1 and data["about"]["base"] == "starter"
    assert page.read_text(encoding="utf-8").count("<article>") == 3
    shown = capsys.readouterr()
    assert "Golds against themselves" in shown.out and "tokens, prompt" in shown.out
    assert "reading rows" in shown.err and "grading golds" in shown.err


def test_with_the_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "audit.json"
    sizes = [
        "--train-rows",
        "6",
        "--test-rows",
        "0",
        "--samples",
        "2",
        "--num-generations",
        "2",
        "--max-completion-length",
        "4",
    ]
    assert run(*sizes, "--with-model", "--dollars-per-hour", "2.5", "--output", str(output)) == 0
    data = json.loads(output.read_text(encoding="utf-8"))
    assert data["rollouts"]["num_prompts"] == 2 and 0 < data["rollouts"]["mean_tokens"] <= 4
    estimate = data["estimate"]
    assert estimate["steps"] == 1 and estimate["hours"] > 0 and estimate["dollars"] > 0
    shown = capsys.readouterr().out
    assert "at $2.50 an hour" in shown and f"({estimate['basis']})" in shown


def test_a_hub_dataset(hub: Hub, hub_client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    renamed = [{"image": r["image"], "frage": r["problem"], "antwort": r["original_answer"]} for r in some_rows(10)]
    commit = hub.repo("dataset", "owner/geometry").commit(shards(renamed))
    columns = ["--columns", "{problem: frage, solution: antwort}"]
    assert run("--dataset", "owner/geometry", "--split", "train[:80%]", "--test-rows", "2", *columns) == 0
    assert "train          6" in capsys.readouterr().out
    assert run("--dataset", "owner/geometry") == 2
    assert "no column 'problem' for `problem`; it has image, frage, antwort" in capsys.readouterr().err
    assert len(commit) == 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "no/such/thing"], "There is no dataset"),
        (["--split", "train[:5%]"], "the starter problems have no split"),
        (["--columns", "problem"], "columns is 'problem'"),
        (["--test-share", "0.1", "--test-rows", "3"], "both set; keep one"),
        (["--samples", "0"], "--samples is 0; give at least 1"),
        (["--num-generations", "1"], "--num-generations is 1; give at least 2"),
        (["--examples", "9999"], "at most 500"),
        (["--dollars-per-hour", "2.5"], "needs --with-model"),
        (["--with-model", "--dollars-per-hour", "nan"], "give a price"),
        (["--hardware", "2x H100"], "needs --with-model"),
        (["--with-model", "--hardware", "abacus"], "there is no hardware 'abacus'"),
        (["--html", "no/such/folder/x.html"], "no folder"),
        (["--base", "no/such/model", "--train-rows", "2", "--test-rows", "0"], "neither a folder here nor a Hub id"),
    ],
)
def test_wrong_options_end_with_a_message(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*options) == 2
    assert message in capsys.readouterr().err


def test_a_dataset_is_needed_with_its_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--dataset", str(write_folder(tmp_path / "set", 3)), "--with-model") == 2
    assert "name it with --base" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_where_the_output_is_not_utf_8_odd_characters_are_replaced(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the command keeps its own status."""
    folder = write_folder(tmp_path / "set", 6)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    lines[0] |= {"problem": "How wide is “it”? 多少 → é"}
    lines[1] |= {"problem": "", "solution": "“none”"}
    write_lines(folder / "metadata.jsonl", lines)
    for name, status in (("set", 0), ("“none”", 2)):
        output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        errors = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")  # as Python has it
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setattr(sys, "stderr", errors)
        assert run("--dataset", str(tmp_path / name)) == status
        output.flush()
        written = output.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
        assert ("?" in written) is (status == 0)
