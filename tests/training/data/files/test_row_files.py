"""One file of rows: the ways in which JSON and CSV hold them, what is refused in words, and what is bounded."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.common.errors import UserError
from training.data.files import row_files
from training.data.files.row_files import open_file
from training.data.local_source import LocalSource
from training.data.refusals import Refusal

ROWS = [{"image": f"{n}.png", "problem": f'The "Stop" sign, {n}?', "solution": str(n)} for n in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
INDEXED = {name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ROWS[0]}
LISTED = [row | {"samples": [{"x": 1}], "annotations": [{"y": 2}]} for row in ROWS]


def read(path: Path, split: str = "train") -> list[Any]:
    """The rows of a file, and the reason of each that cannot be read."""
    source = LocalSource(path, [split])
    found = source.rows(split, range(source.sizes[split]), source.columns(split))
    return [raw.cells.detail if isinstance(raw.cells, Refusal) else dict(raw.cells) for raw in found]


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.json", LINES),
        ("a.jsonl", json.dumps(ROWS)),
        ("a.jsonl", "\ufeff" + json.dumps(ROWS, indent=1)),
        ("a.jsonl", "\r\n".join(json.dumps(row, indent=1) for row in ROWS)),
        ("a.json", json.dumps(INDEXED)),
        ("a.json", json.dumps(INDEXED, indent=1)),
        ("a.json", json.dumps({name: list(cells.values()) for name, cells in INDEXED.items()})),
        ("a.json", json.dumps({"data": ROWS})),
        ("a.json", json.dumps({"version": "1.0", "info": {"tags": []}, "data": ROWS, "n": 3}, indent=1)),
        ("a.json", json.dumps(ROWS).replace("\n", "").replace("},", "},\r\n\t")),
        ("a.jsonl", LINES.encode("utf-16")),
        ("a.json", json.dumps(ROWS).encode("utf-16")),
    ],
)
def test_json_as_people_have_it(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert read(written(tmp_path, name, content)) == ROWS


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_lists_in_a_row_are_no_rows(tmp_path: Path, name: str) -> None:
    assert read(written(tmp_path, name, "".join(json.dumps(row) + "\n" for row in LISTED))) == LISTED
    one = json.dumps(LISTED[0] | {"messages": [{"role": "user"}]})
    assert len(read(written(tmp_path, "b.jsonl", one))) == 1


def test_splits_in_one_file(tmp_path: Path) -> None:
    path = written(tmp_path, "all.json", json.dumps({"train": ROWS, "test": ROWS[:1], "notes": [1]}))
    for place in (path, tmp_path):
        assert LocalSource(place, []).names == ["train", "test"]
        assert (read(place, "train"), read(place, "test")) == (ROWS, ROWS[:1])
    with pytest.raises(UserError, match="no split 'dev'; it has train, test"):
        LocalSource(path, ["dev"])


def test_lists_of_other_names_are_told_apart(tmp_path: Path) -> None:
    """Of several lists none is left out unsaid; beside one with a usual name others hold no rows."""
    path = written(tmp_path, "all.json", json.dumps({"easy": ROWS, "hard": ROWS[:1], "tags": ["a"]}, indent=1))
    assert LocalSource(path, []).names == ["easy", "hard"] and read(path, "hard") == ROWS[:1]
    with pytest.raises(UserError, match="no split 'train'; it has easy, hard. Name one of them: --split easy"):
        LocalSource(path, ["train"])
    assert read(written(tmp_path, "one.json", json.dumps({"categories": [{"id": 1}], "data": ROWS}))) == ROWS


def test_what_is_no_row_among_rows_is_counted(tmp_path: Path) -> None:
    good = json.dumps(ROWS[0])
    path = written(tmp_path, "a.json", f'[null, {good}, "text", 7,[1], {good} ,true, {{"a": ')
    found = read(path)
    refused = [row.split(",")[0].split(":")[0] for row in found if isinstance(row, str)]
    assert refused == ["a NoneType", "a str", "a int", "a list", "a bool", "not JSON"]
    assert [at for at, row in enumerate(found) if row == ROWS[0]] == [1, 5]


@given(
    st.lists(
        st.recursive(
            st.none() | st.integers() | st.text(), lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside)
        )
    )
)
def test_an_array_is_read_as_python_reads_it(tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    path = tmp_path_factory.mktemp("array") / "a.json"
    path.write_text(json.dumps([*values, ROWS[0]], indent=len(values) % 3 or None))
    found = [cells for _, cells in open_file(path)[0][""].rows(range(len(values) + 1), [])]
    assert [cells for cells in found if isinstance(cells, dict)] == [
        v for v in [*values, ROWS[0]] if isinstance(v, dict)
    ]
    assert len(found) == len(values) + 1 == len(open_file(path)[0][""])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "", "train are empty: they hold no row. Write rows such as"),
        ("a.jsonl", " \n\n", "train are empty"),
        ("a.csv", "image,problem,solution\n", "train are empty"),
        ("a.csv", "", "train are empty"),
        ("a.json", "[1, 2]", r"a.json is neither an array .*\(pandas: to_json\(orient='records', lines=True\)\)"),
        ("a.json", '{"columns": ["a"], "index": [0], "data": [["x"]]}', "neither an array"),
        ("a.csv", 'image,problem,solution\n1.png,"How tall?,5\n2.png,What?,6\n', "begins at line 2: a quote is not"),
        ("a.csv", 'image,problem\n1.png,a\n2.png,"b" and c\n', "begins at line 3: .* text follows a closed one"),
        ("a.csv", "image,problem,problem\n1,2,3\n", "names the column 'problem' twice. Rename one"),
        ("a.csv", "x" * 2**20 + "x\n1\n", "a first line of more than 1,048,576 characters"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16-le"), "UTF-16 without the mark .*iconv -f UTF-16LE -t UTF-8"),
        ("a.csv", "题目,答案\n".encode("gbk") * 9, "nor plainly in Windows-1252. Convert it .* iconv -f GB18030"),
        ("a.csv", b"\xff\xfe" + b"\x00\xd8" * 9, "begins as UTF-16 does and is damaged"),
    ],
)  # fmt: skip
def test_what_is_refused_in_words(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read(written(tmp_path, name, content))


TABLE = 'image,problem,solution\n0.png,The "Stop" sign,0\n1.png,"a ""quoted"", word",1\n2.png,"two\nlines",2\n'
TABLE_ROWS = [
    {"image": "0.png", "problem": 'The "Stop" sign', "solution": "0"},
    {"image": "1.png", "problem": 'a "quoted", word', "solution": "1"},
    {"image": "2.png", "problem": "two\nlines", "solution": "2"},
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", TABLE),
        ("a.csv", "\ufeff\n" + TABLE.replace("\n", "\r\n").replace("two\r\n", "two\n")),
        ("a.csv", "sep=,\n" + TABLE),
        ("a.csv", TABLE.replace("image,problem,", "image , problem,")),
        ("a.csv", TABLE.replace(",0\n", ",0,,\n")),
        (
            "a.csv",
            TABLE.replace("solution\n", "solution,," + "," * 70_000 + "\n")
            .replace(",2\n", ",2" + "," * 70_002 + "\n")
            .replace(",0\n", ",0" + "," * 70_002 + "\n")
            .replace(",1\n", ",1" + "," * 70_002 + "\n"),
        ),
        ("a.tsv", TABLE.replace(",", "\t").replace('"\t', '",', 1)),
        ("a.csv", TABLE.encode("utf-16")),
        ("a.csv", TABLE.replace(",", "\t").replace('"\t', '",', 1)),
        ("a.csv", TABLE.replace(",", ";").replace('"";', '"",')),
        ("a.tsv", TABLE),
    ],
)
def test_tables_as_people_have_them(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert read(written(tmp_path, name, content)) == TABLE_ROWS


@pytest.mark.parametrize(
    ("content", "columns", "first"),
    [
        ('"bars, lines, dots";"What, exactly?"\n"a, b";c\n', ["bars, lines, dots", "What, exactly?"], ["a, b", "c"]),
        ("bars, lines, dots;x;y\n1;2;3\n4;5;6\n", ["bars, lines, dots", "x", "y"], ["1", "2", "3"]),
        ("problem\nWhat, then, is 5?\nWhat; is | 6?\n", ["problem"], ["What, then, is 5?"]),
        ('problem\n"What, then,\nis ""5""?"\n', ["problem"], ['What, then,\nis "5"?']),
        ("a|b,c|d\n1|2, 3, 4|5\n", ["a", "b,c", "d"], ["1", "2, 3, 4", "5"]),
    ],
)
def test_the_sign_between_cells(tmp_path: Path, content: str, columns: list[str], first: list[str]) -> None:
    assert read(written(tmp_path, "a.csv", content))[0] == dict(zip(columns, first, strict=True))


def test_quotes_between_tabs_may_be_text(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", 'image\tproblem\n1.png\t"Big" is what?\n2.png\t5" or 6"?\n')
    assert [row["problem"] for row in read(path)] == ['"Big" is what?', '5" or 6"?']
    with pytest.raises(UserError, match="begins at line 2: .* text follows a closed one"):
        read(written(tmp_path, "b.tsv", 'image\tproblem\n1.png\t"Big" is what?\n2.png\t"a ""b"" c"\n'))


def test_quotes_with_backslashes_are_refused_and_the_remedy_works(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", 'image,problem\n0.png,"The \\"Stop\\" sign, \\frac{1}{2}"\n')
    with pytest.raises(UserError, match="quotes within cells with a backslash, as in the row .* line 2") as refused:
        read(path)
    subprocess.run(str(refused.value).partition("CSV does: ")[2], shell=True, check=True, cwd=tmp_path)
    assert read(tmp_path) == [{"image": "0.png", "problem": 'The "Stop" sign, \\frac{1}{2}'}]


def test_a_table_in_another_encoding_is_said(tmp_path: Path) -> None:
    path = written(
        tmp_path, "a.csv", "image,problem\n1.png,Wie groß ist die Größe der Fläche – 5 €?\n".encode("cp1252")
    )
    assert read(path) == [{"image": "1.png", "problem": "Wie groß ist die Größe der Fläche – 5 €?"}]
    assert LocalSource(path, ["train"]).notes == ["a.csv is read as Windows-1252, not as UTF-8"]


def test_a_wrong_byte_costs_its_row(tmp_path: Path) -> None:
    content = "image,problem\n1.png,Wie groß?\n2.png,Wie hoch?\n3.png,Größe – 5 €?\n".encode()
    found = read(written(tmp_path, "a.csv", content.replace(b"hoch", b"h\xe4ch")))
    assert [row["problem"] if isinstance(row, dict) else row for row in found] == [
        "Wie groß?",
        "line 3 of a.csv holds bytes that are no UTF-8",
        "Größe – 5 €?",
    ]


def test_rows_of_other_cells_name_their_line(tmp_path: Path) -> None:
    found = read(written(tmp_path, "a.csv", 'image,problem\n1.png,"a\nb"\n2.png\n3.png,c\n4.png,d,e\n'))
    assert [row for row in found if isinstance(row, str)] == [
        "line 4 of a.csv has 1 cells, and the header names 2",
        "line 6 of a.csv has 3 cells, and the header names 2",
    ]


@given(
    st.lists(
        st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), st.integers()), min_size=1
    )
)
def test_a_table_is_read_as_pandas_wrote_it(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("table") / "a.csv"
    pd.DataFrame(cells, columns=["problem", "solution"]).to_csv(path, index=False, quoting=1)
    assert [(row["problem"], row["solution"]) for row in read(path)] == [(text, str(n)) for text, n in cells]


def zst(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zst
}  # fmt: skip


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_packed_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    pack = PACKERS[suffix]
    joined = pack(LINES.encode()) + (pack(LINES.encode()) if suffix != ".zst" else b"")
    assert read(written(tmp_path, f"a.jsonl{suffix}", joined))[:3] == ROWS
    with pytest.raises(UserError, match="is damaged: .*Download or write it again"):
        read(written(tmp_path, f"b.jsonl{suffix}", pack(LINES.encode() * 99)[:-9]))
    monkeypatch.setattr(row_files, "MAX_UNPACKED_BYTES", 10**6)
    with pytest.raises(UserError, match=f"c.jsonl{suffix} becomes more than 1 MB"):
        read(written(tmp_path, f"c.jsonl{suffix}", pack(bytes(3 * 10**6))))


def test_memory_that_xz_asks_for_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_files, "XZ_BYTES", 2**20)
    with pytest.raises(UserError, match="a.jsonl.xz is damaged: .*[Mm]emory"):
        read(written(tmp_path, "a.jsonl.xz", lzma.compress(LINES.encode(), preset=9)))


def test_a_parquet_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    cells = [bytes(20 * 2**20) + bytes([n]) for n in range(60)]
    pq.write_table(pa.table({"image": cells, "problem": ["What?"] * 60}), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 2**20
    with pytest.raises(UserError, match="a.parquet has 0.. MB and becomes 1,258 MB when it is read; at most 1,000 MB"):
        LocalSource(tmp_path / "a.parquet", ["train"])


def test_large_cells_are_read_one_row_at_a_time(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [bytes(20 * 2**20)] * 12, "problem": ["What?"] * 12}), tmp_path / "a.parquet")
    source = LocalSource(tmp_path / "a.parquet", ["train"])
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    for raw in source.rows("train", range(12), ["image", "problem"]):
        assert not isinstance(raw.cells, Refusal) and len(raw.cells["image"]) == 20 * 2**20
        assert pa.total_allocated_bytes() - before < 100e6
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


@pytest.mark.parametrize("answers", ['{"1": "b", "0": "a"}', '{"0": "a", "2": "b"}'])
def test_columns_that_name_other_rows_are_refused(tmp_path: Path, answers: str) -> None:
    """They would be joined by their places, and every answer stand at another question."""
    (tmp_path / "a.json").write_text(f'{{"problem": {{"0": "p", "1": "q"}}, "answer": {answers}}}')
    with pytest.raises(UserError, match="name their rows in other orders"):
        read(tmp_path / "a.json")
