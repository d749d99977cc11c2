"""Sets of one's own: every change is on the disk, training reads what the page shows, and nothing half made stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from inference.common.errors import UserError
from tests.inference.prompt.test_image import encoded, gradient
from training.config.data_config import read_data_config
from training.data.dataset import load_rows
from training.data.own_sets.sets import MAX_PROBLEM_CHARS, OwnSets, seen
from training.data.pictures import Folders
from training.data.refusals import Refusal

ANSWERS = ["3", "1", "B", "12 cm", "1/2"]


@pytest.fixture
def sets(home: Path) -> OwnSets:
    return OwnSets(home)


@pytest.fixture
def labelled(sets: OwnSets, tmp_path: Path) -> OwnSets:
    for number, answer in enumerate(ANSWERS):
        path = tmp_path / f"{number}.png"
        path.write_bytes(encoded(gradient(size=(40 + number, 30))))
        sets.add("bars", path, f"How high is bar {number}?", answer, "3 cm\n4 cm" if answer == "B" else "")
    return sets


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != ".lock")


def test_a_set_is_a_dataset(labelled: OwnSets) -> None:
    """What was typed is what a run reads, by another process too."""
    assert labelled.names() == ["bars"] and labelled.num_rows("bars") == len(ANSWERS)
    splits = load_rows(read_data_config(dataset=str(labelled.path("bars")), test_rows=1))
    rows = {row["problem"]: row for split in (splits.train, splits.test) for row in split}
    assert sorted(row["solution"] for row in rows.values()) == sorted(ANSWERS)
    assert "How high is bar 2?\nA. 3 cm\nB. 4 cm" in rows
    assert [rows[f"How high is bar {n}?"]["image"].size for n in (0, 4)] == [(40, 30), (44, 30)]
    assert OwnSets(labelled.folder.parent).rows("bars") == labelled.rows("bars")


def test_rows_are_corrected_and_left_out(labelled: OwnSets) -> None:
    first, second, *_ = labelled.rows("bars")
    labelled.correct("bars", first.key, " How wide?\n", "7")
    labelled.leave_out("bars", second.key)
    assert labelled.num_rows("bars") == len(ANSWERS) - 1
    *_, last = labelled.rows("bars")
    assert last.key == second.key and last.is_left_out
    labelled.correct("bars", second.key, "Other?", "8")
    splits = load_rows(read_data_config(dataset=str(labelled.path("bars")), test_rows=0))
    texts = {row["problem"]: row["solution"] for row in splits.train}
    assert texts["How wide?"] == "7" and "Other?" not in texts and len(texts) == len(ANSWERS) - 1
    labelled.leave_out("bars", second.key, False)
    assert [row.problem for row in labelled.rows("bars")][-1] == "Other?" and labelled.num_rows("bars") == len(ANSWERS)
    with pytest.raises(UserError, match="no longer in the set"):
        labelled.correct("bars", "../../etc/passwd", "a", "b")


def test_a_kill_between_two_writes_loses_no_row(labelled: OwnSets, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.data.own_sets import sets as module

    first, written, write = labelled.rows("bars")[0], [], module._write

    def killed(path: Path, rows: list[object]) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(path, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        labelled.leave_out("bars", first.key)
    monkeypatch.undo()
    assert sorted(row.key for row in labelled.rows("bars")).count(first.key) == 1
    labelled.leave_out("bars", first.key)
    assert labelled.num_rows("bars") == len(ANSWERS) - 1 and len(labelled.rows("bars")) == len(ANSWERS)


@pytest.mark.parametrize(
    ("content", "problem", "solution", "options", "words"),
    [
        (b"no picture", "q", "a", "", "not a picture"),
        (b"", "q", "a", "", "0 bytes"),
        (encoded(gradient()), " ", "a", "", "question is empty"),
        (encoded(gradient()), "q", "", "", "answer is empty"),
        (encoded(gradient()), "q", "a", "one", "1 options; give 2 to 10"),
        (encoded(gradient()), "q" * (MAX_PROBLEM_CHARS + 1), "a", "", "at most 20,000"),
        (encoded(Image.new("1", (30_000, 30))), "q", "a", "", "a side may have at most"),
    ],
)
def test_what_is_no_row_leaves_nothing(
    sets: OwnSets, tmp_path: Path, content: bytes, problem: str, solution: str, options: str, words: str
) -> None:
    (tmp_path / "upload.png").write_bytes(content)
    with pytest.raises(UserError, match=words):
        sets.add("bars", tmp_path / "upload.png", problem, solution, options)
    assert sets.names() == [] and (not sets.folder.exists() or files(sets.folder) == [])


@pytest.mark.parametrize("name", ["", ".", "..", "../runs", "a/b", ".hidden", "a b", "x" * 41, "ä", "a.", "-a"])
def test_a_name_leads_nowhere_else(sets: OwnSets, name: str) -> None:
    with pytest.raises(UserError):
        sets.path(name)


def test_rows_are_taken_in_all_or_none(sets: OwnSets, tmp_path: Path) -> None:
    """Unlabelled ones are kept, what has no picture is counted, and an error in the middle leaves nothing."""
    (tmp_path / "1.png").write_bytes(encoded(gradient()))
    folders = Folders.of(tmp_path)
    cells = {"image": "1.png", "problem": "How many?", "solution": 3, "kind": "count", "label": "no column of ours"}
    rows = [
        (cells, folders),
        ({"image": "1.png", "problem": None, "solution": ["a", "b"]}, folders),
        ({"image": "../1.png", "problem": "q", "solution": "a"}, folders),
        ({"image": ["1.png", "1.png"], "problem": "q", "solution": "a"}, folders),
        (Refusal("row unreadable", "x"), None),
    ]
    counts = sets.take_in("mixed", rows)
    assert counts == {"": 2, "picture refused": 1, "too many pictures": 1, "row unreadable": 1}
    assert seen(*rows[3]).refusal == Refusal("too many pictures", "2 pictures; a set that is made here has one a row")
    first, second = sets.rows("mixed")
    assert first.cells == {"file_name": first.file_name, "problem": "How many?", "solution": "3", "kind": "count"}
    assert (second.problem, second.solution) == ("", "")
    assert sets.seen("mixed", first).gold == "3" and sets.seen("mixed", first).is_gold_matched
    refusal = sets.seen("mixed", second).refusal
    assert refusal is not None and refusal.reason == "no problem" and sets.seen("mixed", second).picture

    def breaks() -> object:
        yield rows[0]
        raise UserError("the table is damaged")

    before = files(sets.folder)
    for name in ("mixed", "new"):
        with pytest.raises(UserError, match="damaged"):
            sets.take_in(name, breaks())  # type: ignore[arg-type]
    assert files(sets.folder) == before


def test_a_set_is_deleted_whole(labelled: OwnSets) -> None:
    labelled.delete("bars")
    assert labelled.names() == [] and files(labelled.folder) == []
    with pytest.raises(UserError, match="no set"):
        labelled.delete("bars")
