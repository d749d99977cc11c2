"""Prepared copies: found again by content, whole after a kill, held by one process at a time, bounded."""

from __future__ import annotations

import io
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from inference.common.errors import UserError
from tests.support.datasets_on_disk import picture, write_folder
from tests.support.small_disk import fill, small_disk
from training.__main__ import main
from training.config.data_config import read_data_config
from training.data import prepare, prepared_copies
from training.data.dataset import Splits, load_rows

__all__ = ["small_disk"]  # a fixture
ROOT = Path(__file__).parents[3]
LOAD = "from tests.training.data.test_prepared_copies import load; import sys; load(sys.argv[1])"


def load(path: Path | str) -> Splits:
    return load_rows(read_data_config(dataset=str(path), test_rows=2))


def ids(splits: Splits) -> list[str]:
    return [*splits.train["row_id"], *splits.test["row_id"]]


def copies(home: Path) -> list[str]:
    return [copy.name for copy in prepared_copies.copies(home)]


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("rows-*")}


def started(*words: str, home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, *words]
    env = os.environ | {"LOOKTHINK_HOME": str(home)}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def many_rows(file: Path, num: int) -> Path:
    """A Parquet file of one row group, whose rows all have another picture."""
    pictures = pa.array([{"bytes": picture(i), "path": None} for i in range(num)])
    problems = [f"What is {i} + 1?" for i in range(num)]
    table = pa.table({"image": pictures, "problem": problems, "solution": [str(i + 1) for i in range(num)]})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=num)
    return file


def test_a_copy_is_found_by_content_wherever_and_whenever_its_files_are(tmp_path: Path, home: Path) -> None:
    folder = write_folder(tmp_path / "set", 6)
    before = ids(load(folder))
    shutil.copytree(folder, tmp_path / "elsewhere" / "set")
    for path in folder.iterdir():
        os.utime(path)
    assert ids(load(tmp_path / "elsewhere" / "set")) == ids(load(folder)) == before
    assert len(copies(home)) == 1


@pytest.mark.parametrize("name", ["3.png", "metadata.jsonl"])
def test_other_content_of_the_same_size_and_time_is_read_anew(tmp_path: Path, home: Path, name: str) -> None:
    folder = write_folder(tmp_path / "set", 6)
    buffer = io.BytesIO()
    Image.open(folder / "3.png").save(buffer, "BMP")
    (folder / "3.png").write_bytes(buffer.getvalue())
    load(folder)
    file = folder / name
    status, content = file.stat(), file.read_bytes()
    other = content.replace(b"What is 3", b"What is 9") if name.endswith("l") else content[:-8] + bytes(8)
    assert other != content and len(other) == len(content)
    file.write_bytes(other)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = load(folder)
    rows = [row for split in (again.train, again.test) for row in split if row["row_id"].startswith("train-000003-")]
    seen = rows[0]["problem"] if name.endswith("l") else rows[0]["image"].tobytes()
    assert seen == ("What is 9 + 1?" if name.endswith("l") else Image.open(file).convert("RGB").tobytes())
    assert len(copies(home)) == 2


def test_a_file_that_changes_while_it_is_read_is_said(tmp_path: Path, home: Path, monkeypatch) -> None:
    file = many_rows(tmp_path / "set.parquet", 40)
    clean = prepare.clean_row

    def meanwhile(*args, **options):
        file.write_bytes(file.read_bytes())
        return clean(*args, **options)

    monkeypatch.setattr(prepare, "clean_row", meanwhile)
    with pytest.raises(UserError, match="set.parquet changed while it was read. Start again"):
        load(file)
    assert copies(home) == []


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("rows-00001.arrow", lambda file: file.write_bytes(file.read_bytes()[:-100])),
        ("rows-00001.arrow", lambda file: file.write_bytes(b"")),
        ("rows-00001.arrow", lambda file: file.write_bytes(bytes(file.stat().st_size))),
        ("rows-00001.arrow", lambda file: file.unlink()),
        ("state-00001.json", lambda file: file.write_bytes(file.read_bytes()[:30])),
        ("state-00001.json", lambda file: file.write_text('{"kept": 3, "bytes": 7}')),
        ("state-00001.json", lambda file: file.write_text(file.read_text().replace('"kept": [[', '"kept": [[1], ['))),
    ],
)
def test_a_damaged_part_is_made_anew_and_no_other(tmp_path: Path, home: Path, monkeypatch, name, damage) -> None:
    monkeypatch.setattr(prepare, "PART_ROWS", 4)
    folder = write_folder(tmp_path / "set", 10)
    before = ids(load(folder))
    [copy] = (home / "data").iterdir()
    untouched = times(copy)
    damage(copy / name)
    assert ids(load(folder)) == before
    now = times(copy)
    assert {n for n in now if now[n] != untouched[n]} == {"rows-00001.arrow"}


def test_two_processes_at_once_make_one_copy(tmp_path: Path, home: Path) -> None:
    file = many_rows(tmp_path / "set.parquet", 1_100)
    both = [started("-c", LOAD, str(file), home=home) for _ in range(2)]
    [folder] = until(lambda: [path.parent for path in (home / "data").glob("*/state-00000.json")], both[0])
    first = times(folder)["rows-00000.arrow"]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert times(folder)["rows-00000.arrow"] == first and len(load(file).train) == 1_098


def test_a_copy_that_somebody_holds_stays(tmp_path: Path, home: Path, monkeypatch, capsys) -> None:
    load(write_folder(tmp_path / "set0", 4))
    [name] = copies(home)
    monkeypatch.setattr(prepared_copies, "MAX_COPIES", 1)
    with prepared_copies.held(home / "data" / name):
        load(write_folder(tmp_path / "set1", 5))
        assert len(copies(home)) == 2
        assert main(["data", "--delete", name]) == 2
        assert "is being made or opened by another process" in capsys.readouterr().err
    rows = load(tmp_path / "set1").train
    assert name not in copies(home)
    assert main(["data", "--delete", "all"]) == 0 and copies(home) == []
    assert [row["image"].size for row in rows] == [(36, 30)] * 3, "rows that are open stay readable"


def test_copies_are_bounded_in_size(tmp_path: Path, home: Path, monkeypatch) -> None:
    load(write_folder(tmp_path / "set0", 4))
    monkeypatch.setattr(prepared_copies, "MAX_SHARE", 0.0)
    load(write_folder(tmp_path / "set1", 5))
    assert [copy.dataset for copy in prepared_copies.copies(home)] == ["set1"]


def test_a_full_disk_keeps_what_is_whole(tmp_path: Path, small_disk: Callable[[str], Path], monkeypatch) -> None:
    monkeypatch.setattr(prepare, "PART_ROWS", 100)
    file = many_rows(tmp_path / "set.parquet", 2_000)
    home = small_disk("400k")
    monkeypatch.setenv("LOOKTHINK_HOME", str(home))
    with pytest.raises(UserError, match="The disk is full.*LOOKTHINK_HOME"):
        load(file)
    [copy] = (home / "data").iterdir()
    whole = times(copy)
    assert whole and not list(copy.glob("partial-*"))
    small_disk("24m")
    assert len(load(file).train) == 1_998
    assert whole.items() <= times(copy).items()
    fill(home)
    assert main(["data", "--delete", "all"]) == 0 and copies(home) == []


def until(found: Callable[[], list[Path]], process: subprocess.Popen[str], seconds: float = 300) -> list[Path]:
    end = time.monotonic() + seconds
    while not (paths := found()):
        assert time.monotonic() < end and process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    return paths


def kill_at(num_parts: int, command: tuple[str, ...], home: Path) -> dict[str, int]:
    """Kills a command when it has written so many parts; returns the times of those that are whole."""
    process = started(*command, home=home)

    def enough() -> list[Path]:
        found = list((home / "data").glob("*/state-*.json"))
        return found if len(found) >= num_parts else []

    [folder] = {path.parent for path in until(enough, process)}
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return {name: at for name, at in times(folder).items() if (folder / f"state-{name[5:10]}.json").exists()}


def test_an_audit_without_a_base_loads_no_torch_and_goes_on_after_a_kill(tmp_path: Path, home: Path) -> None:
    file = many_rows(tmp_path / "set.parquet", 2_100)
    audit = f"from training.__main__ import main; main(['audit', '--dataset', {str(file)!r}]); import sys"
    command = ("-c", f"{audit}; print('heavy:', [n for n in ('torch', 'transformers', 'gradio') if n in sys.modules])")
    whole = kill_at(1, command, home)
    process = started(*command, home=home)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0 and "heavy: []" in said, said
    [folder] = (home / "data").iterdir()
    assert whole.items() <= times(folder).items() and len(times(folder)) == 3
    assert not list(folder.glob("partial-*"))


def memory(command: tuple[str, ...], home: Path) -> tuple[list[float], float]:
    """Resident MB of a command and its workers, at each part that it has written, and their peak."""
    process = started(*command, home=home)
    said = ThreadPoolExecutor(1).submit(process.communicate)  # so that its progress never fills the pipe
    used: dict[int, float] = {}
    peak = 0.0
    while not said.done():
        parts = len(list((home / "data").glob("*/state-*.json")))
        with suppress(psutil.Error):
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            now = sum(member.memory_info().rss for member in family) / 1e6
            peak = max(peak, now)
            used.setdefault(parts, now)
        time.sleep(0.1)
    assert process.returncode == 0, said.result()[0]
    return [used[parts] for parts in sorted(used) if parts], peak


@pytest.mark.torture
def test_a_hundred_thousand_rows_in_flat_memory_with_kills(
    tmp_path: Path, home: Path, figure: Callable[[str], None]
) -> None:
    """Killed after 5, 10, 15 and 20 of its 100 parts, the audit goes on; its memory does not grow with the rows."""
    file = many_rows(tmp_path / "set.parquet", 100_000)
    command = ("-m", "training", "audit", "--dataset", str(file))
    whole: dict[str, int] = {}
    for num_parts in (5, 10, 15, 20):
        now = kill_at(num_parts, command, home)
        assert whole.items() <= now.items()
        whole = now
    began = time.monotonic()
    used, peak = memory(command, home)
    [folder] = (home / "data").iterdir()
    assert whole.items() <= times(folder).items() and len(times(folder)) == 100
    early, late = statistics.median(used[1:11]), statistics.median(used[-10:])
    figure(
        f"100,000 rows, killed 4 times: then over {1000 * len(used):,} rows the memory was "
        f"{early:.0f} MB at first, {late:.0f} MB at last, {peak:.0f} MB at its peak; {time.monotonic() - began:.0f} s"
    )
    assert late < 1.15 * early and peak < 700
