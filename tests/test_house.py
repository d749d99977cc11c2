"""README.md has one line for each file, and no line for a file that is gone."""

from tests import house


def test_the_table_of_files_is_that_of_the_files() -> None:
    readme = house.README.read_text(encoding="utf-8")
    assert house.rewritten(readme) == readme, "run python -m tests.house"


def test_what_a_line_names_is_there() -> None:
    readme = house.README.read_text(encoding="utf-8")
    for name in house.rows(readme):
        for part in name.split(", "):
            assert list(house.ROOT.glob(part.rstrip("/"))), name


def test_every_python_file_says_what_it_is_for() -> None:
    assert [name for name, job in house.python_files() if not job.endswith((".", "…"))] == []


def test_styles_and_scripts_have_a_line() -> None:
    named = house.rows(house.README.read_text(encoding="utf-8"))
    for folder in ("inference", "training"):
        for path in (house.ROOT / folder).rglob("*.*"):
            if path.suffix in (".css", ".js", ".html"):
                assert path.relative_to(house.ROOT).as_posix() in named
