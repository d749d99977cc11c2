"""The command `grade`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.__main__ import main


def test_pairs_of_a_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("gold,answer\n24,24 cm\n24,0:0\n,7\n")
    assert main(["grade", str(file)]) == 0
    out = capsys.readouterr().out
    assert "right       gold '24'  answer '24 cm'  equal numbers" in out
    assert "1 of 3 right, 1 wrong, 1 not graded" in out


def test_pairs_of_a_jsonl_with_problems_and_what_was_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"gold": "B", "answer": "12 cm", "problem": "How long? A. 10 cm B. 12 cm", "expected": 1},
        {"gold": 7, "answer": "<think>a</think><answer>8</answer>", "expected": 1},
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert main(["grade", str(file), "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["verdict"] for line in lines] == ["right", "wrong"]
    assert main(["grade", str(file), "--tolerance", "0.2", "--wrong"]) == 0
    assert capsys.readouterr().out == "2 of 2 right, 0 wrong, 0 not graded\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "There is no file"),
        ("a.csv", "a,b\n1,2\n", "Row 1 of"),
        ("a.jsonl", "{", "cannot be read as JSONL or CSV"),
        ("b.jsonl", '{"gold": "7"}', "Row 1 of"),
    ],
)
def test_files_that_cannot_be_graded(
    name: str, content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["grade", str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err


def test_a_tolerance_is_a_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grade", str(tmp_path / "x.csv"), "--tolerance", "5"]) == 2
    assert "The tolerance is 5" in capsys.readouterr().err
