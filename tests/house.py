"""The table of README.md with one line for each file: `python -m tests.house` writes it, its test checks it.

A Python file's line is the first sentence of its docstring; the lines of other files are kept as they stand.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
HEAD = "| file | its job |\n| --- | --- |\n"
OF_MANY = {"tests/test_*.py", "tests/benchmarks/"}
"""Lines that stand for several files."""


def table(readme: str) -> str:
    """The table as the files say it should be: Python files by folder, the others where they were."""
    kept = {name: job for name, job in rows(readme).items() if not name.endswith(".py") or name in OF_MANY}
    found = dict(python_files())
    order = ["app.py", "space.yaml", *_folder("inference", found, kept), *_folder("training", found, kept)]
    order += _folder("tests", found, kept)
    order += [name for name in kept if name not in order]
    return HEAD + "".join(f"| `{name}` | {found.get(name) or kept[name]} |\n" for name in order)


def python_files() -> list[tuple[str, str]]:
    """Each file that has a line of its own, with the first sentence of its docstring."""
    found = []
    for path in sorted(
        [ROOT / "app.py", *(p for d in ("inference", "training", "tests") for p in (ROOT / d).rglob("*.py"))]
    ):
        name = path.relative_to(ROOT).as_posix()
        if path.name == "__init__.py" or name.startswith("tests/test_") or name.startswith("tests/benchmarks/"):
            continue
        found.append((name, first_paragraph(path)))
    return found


def first_paragraph(path: Path) -> str:
    """Of a module's docstring, on one line, with the table's own sign escaped."""
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(said.split("\n\n")[0].split()).replace("|", "\\|")


def rewritten(readme: str) -> str:
    """README.md with the table made anew."""
    start = readme.index(HEAD)
    end = start + len(HEAD) + len("".join(lines(readme)))
    return readme[:start] + table(readme) + readme[end:]


def _folder(folder: str, found: dict[str, str], kept: dict[str, str]) -> list[str]:
    """Its files first, then those of its folders, then what is no Python."""
    own = sorted((name for name in found if name.startswith(f"{folder}/")), key=lambda n: (n.count("/"), n))
    return own + [name for name in kept if name.startswith(f"{folder}/")]


def lines(readme: str) -> list[str]:
    after = readme[readme.index(HEAD) + len(HEAD) :]
    return [line + "\n" for line in after[: after.index("\n\n") + 1].splitlines()]


def rows(readme: str) -> dict[str, str]:
    matches = (re.fullmatch(r"\| `(.+?)` \| (.*) \|\n", line) for line in lines(readme))
    return {match[1]: match[2] for match in matches if match}


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(0)
