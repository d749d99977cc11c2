"""JSON documents with several lists, and what only looks like JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from inference.common.errors import UserError
from tests.training.data.files.test_row_files import LINES, ROWS, read, written
from training.data.local_source import LocalSource

QUESTIONS = [{"question": "How high?", "id": 1}]
ROW = {"question": "How high?", "answer": "7", "image": "0.png"}
LISTS: dict[str, tuple[object, list[str], object, str]] = {
    "rows by their columns": (
        {"categories": [{"id": 1, "name": "bar"}], "annotations": [ROW]}, ["train"], [ROW],
        "a.json: rows are those of 'annotations', and not of 'categories'",
    ),
    "rows of another name": (
        {"info": {"text": "mine"}, "data": [{"id": 1}], "plots": [ROW]}, ["train"], [ROW],
        "a.json: rows are those of 'plots', and not of 'data'",
    ),
    "two lists of rows": ({"easy": [ROW], "hard": [ROW, ROW]}, ["easy", "hard"], [ROW, ROW], ""),
    "two of usual names": ({"items": [ROW], "hard": [ROW, ROW]}, ["items", "hard"], [ROW, ROW], ""),
    "questions and answers apart": (
        {"questions": QUESTIONS, "annotations": [{"answer": "7", "id": 1}]}, ["questions", "annotations"],
        [{"answer": "7", "id": 1}], "",
    ),
    "a description with rows": ({"text": "mine", "label": "x", "data": [ROW]}, ["train"], [ROW], ""),
    "columns of rows with names": (
        {name: {"a1": cell, "b 2": cell, "": cell} for name, cell in ROW.items()}, ["train"], [ROW, ROW, ROW], "",
    ),
    "objects by names": (
        {"a1": ROW, 'b "2": ': ROW | {"id": 7}, "": ROW}, ["train"],
        [ROW | {"id": "a1"}, ROW | {"id": 7}, ROW | {"id": " "}], "",
    ),
    "one row": (ROW, ["train"], [ROW], ""),
    "one row with lists": (ROW | {"shapes": [{"label": "bar"}], "tags": ["a"]}, ["train"], None, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("indent", [None, 1])
def test_the_rows_of_a_document_with_several_lists(tmp_path: Path, name: str, indent: int | None) -> None:
    document, names, expected, note = LISTS[name]
    path = written(tmp_path, "a.json", json.dumps(document, indent=indent))
    source = LocalSource(path, names[-1:])
    assert source.names == names and source.notes == ([note] if note else [])
    assert read(path, names[-1]) == (expected or [document])


def test_a_document_of_lists_among_other_files_is_refused(tmp_path: Path) -> None:
    written(tmp_path, "train.json", json.dumps({"easy": [ROW], "hard": [ROW]}))
    written(tmp_path, "test.json", json.dumps([ROW]))
    with pytest.raises(UserError, match="train.json holds several lists of rows, easy and hard. Give .*--split easy"):
        LocalSource(tmp_path, ["train"])
    written(tmp_path, "train.json", json.dumps({"train": [ROW, ROW], "test": [ROW]}))
    assert LocalSource(tmp_path, ["train"]).sizes == {"train": 2}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{'problem': 'How?', 'solution': '7'}\n" * 3, r"Python prints .*\[print.* in sys.stdin\].* mv rows a.jsonl$"),
        ("[{'problem': 'How?', 'ok': None},\n{'problem': 'How?'}]", r"Python .*sys.stdin.read\(\).* mv rows a.jsonl$"),
        (LINES.encode("utf-16-le"), "a.jsonl is written in UTF-16 without the mark .*iconv -f UTF-16LE"),
        (LINES.encode("utf-16-be"), "a.jsonl is written in UTF-16 without the mark .*iconv -f UTF-16BE"),
        ('{"problem": "题目有多高", "solution": "7"}\n'.encode("gbk") * 9, "a.jsonl is not written in UTF-8, .*iconv"),
    ],
)  # fmt: skip
def test_json_that_is_none_says_what_it_is(tmp_path: Path, content: str | bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read(written(tmp_path, "a.jsonl", content))


def test_the_remedy_for_dictionaries_of_python_works(tmp_path: Path) -> None:
    for name, content in (("a.jsonl", "".join(f"{row}\n" for row in ROWS)), ("b.json", repr(ROWS))):
        path = written(tmp_path, name, content)
        with pytest.raises(UserError) as refused:
            read(path)
        command = re.search(r"python -c .*", str(refused.value))
        assert command
        subprocess.run(command[0].replace("python", sys.executable, 1), shell=True, check=True, cwd=tmp_path)
        assert read(path) == ROWS
