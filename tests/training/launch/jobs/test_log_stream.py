"""A run's records through a log: whatever is written, rewound or cut off, the folder at home becomes the same."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.common.files import write_whole
from training.launch.jobs.log_stream import GROWING, MARK, Listener, Place, Teller

LAUNCH = "0123456789abcdef"
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=40)
ROWS = st.lists(st.tuples(st.sampled_from(["add", "rewind", "half", "tell"]), st.sampled_from(GROWING[:2]), TEXTS))


def told(teller: Teller, out: io.StringIO) -> list[str]:
    teller.tell()
    lines = out.getvalue().split("\n")[:-1]
    out.seek(0)
    out.truncate()
    return lines


def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("job", "home"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path / "job", tmp_path / "home"


@given(ROWS, st.integers(0, 3))
def test_records_come_home_as_they_are(tmp_path_factory, steps: list[tuple[str, str, str]], replays: int) -> None:
    job, home = folders(tmp_path_factory.mktemp("run"))
    out, log = io.StringIO(), list[str]()
    teller = Teller(job, LAUNCH, out)
    for what, name, text in [*steps, ("tell", "", "")]:
        if what == "tell":
            log += told(teller, out)
            continue
        path = job / name
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines() if path.exists() else []
        if what == "rewind":
            write_whole(path, "".join(f"{line}\n" for line in whole[: len(whole) // 2]))
        else:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(text) + ("\n" if what == "add" else ""))
    listener = Listener(home, LAUNCH)
    for line in log:
        listener.take(line)
    for _ in range(replays):  # the last lines once more, as after a kill between two notes of the place
        for line in log[-3:]:
            listener.take(line)
    for name in GROWING:
        mine = (job / name).read_bytes() if (job / name).exists() else b""
        here = (home / name).read_bytes() if (home / name).exists() else b""
        assert here == mine[: mine.rfind(b"\n") + 1]


def test_what_is_printed_and_small_files_come_too(tmp_path: Path) -> None:
    job, home = folders(tmp_path)
    (job / "output.log").write_text("of an earlier start\n")
    out = io.StringIO()
    teller = Teller(job, LAUNCH, out)
    with (job / "output.log").open("a") as file:
        file.write("10 %\r20 %\r30 %\nnext\nhalf a li")
    (job / "status.json").write_text(json.dumps({"reason": "😀" * 5000}))
    lines = told(teller, out)
    assert max(len(line.encode()) for line in lines) < 16_000
    listener = Listener(home, LAUNCH)
    for line in lines:
        listener.take(line)
    assert (home / "output.log").read_text() == "30 %\nnext\n" and listener.has_begun
    assert json.loads((home / "status.json").read_text())["reason"] == "😀" * 5000
    assert told(teller, out) == []


@pytest.mark.parametrize(
    "line",
    [
        f"{MARK} ffffffffffffffff {{}}",
        f"{MARK} {LAUNCH} " + "[" * 100_000,
        f"{MARK} {LAUNCH} " + json.dumps({"file": "../../evil", "at": 0, "text": "x"}),
        f"{MARK} {LAUNCH} " + json.dumps({"file": "request.json", "part": 1, "of": 1, "text": "{}"}),
        f"{MARK} {LAUNCH} " + json.dumps({"file": "metrics.jsonl", "at": -5, "text": "x"}),
        f"{MARK} {LAUNCH} " + json.dumps({"file": "metrics.jsonl", "size": 10**18}),
        f"{MARK} {LAUNCH} " + json.dumps({"file": ["metrics.jsonl"], "at": 0, "text": "x"}),
        f"{MARK} {LAUNCH} " + json.dumps({"file": "exit.json", "part": 2, "of": 2, "text": "x"}),
    ],
)
def test_lines_that_make_no_sense_change_nothing(line: str, tmp_path: Path) -> None:
    Listener(tmp_path, LAUNCH).take(line)
    assert list(tmp_path.iterdir()) == []


def test_a_text_that_looks_like_a_record_is_none_without_the_starts_name(tmp_path: Path) -> None:
    listener = Listener(tmp_path, LAUNCH)
    listener.take(f'{MARK} guessed {{"file": "exit.json", "part": 1, "of": 1, "text": "{{}}"}}')
    listener.take("a line of the trainer")
    assert [path.name for path in tmp_path.iterdir()] == ["output.log"] and not listener.has_begun


def test_the_place_in_a_log_is_that_of_its_job(tmp_path: Path) -> None:
    Place(tmp_path, "one").keep(7, True)
    assert (Place(tmp_path, "one").lines, Place(tmp_path, "one").has_begun) == (7, True)
    assert (Place(tmp_path, "two").lines, Place(tmp_path, "two").has_begun) == (0, False)
