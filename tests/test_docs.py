"""Keeps README and docs/ short, their links and commands valid."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from tests import ROOT
from tests.benchmarks import __main__ as benchmarks
from training.__main__ import COMMANDS, module_of

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = ("tests.support.screenshot", "training.hub.space.readme_block")
"""Modules with a command of their own that the documents name."""
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


def commands(page: Path) -> list[list[str]]:
    """The words of each `python -m …` and `make …` in a page's code, without what stands behind a `#`."""
    text = page.read_text(encoding="utf-8")
    code = re.findall(r"^```\w*\n(.*?)^```|`([^`\n]+)`|^    (\S.*)$", text, flags=re.S | re.M)
    lines = [line for match in code for part in match for line in part.splitlines()]
    starts = (re.match(r"(?:[A-Z_]+=\S+ )*((?:python -m|make) .*)", line.strip()) for line in lines)
    return [shlex.split(start[1].replace("…", ""), comments=True) for start in starts if start]


def slug(heading: str) -> str:
    """The anchor that a heading has on the Hub."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_page_is_short(page: Path) -> None:
    assert page.read_text(encoding="utf-8").count("\n") <= 200


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_resolve(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists() and linked.is_relative_to(ROOT), target
        if anchor:
            assert anchor in map(slug, re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), flags=re.M)), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_that_are_named_exist(page: Path) -> None:
    """Every path with a folder of ours in backticks."""
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:inference|training|tests|docs|\.ci)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_parse(page: Path) -> None:
    """Each command of ours is one there is, and takes these options."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    for words in commands(page):
        if words[0] == "make":
            assert words[1] in targets, words
        elif words[2] == "training":
            parse(words[3:])
        elif words[2] == "tests.benchmarks":
            assert set(words[3:]) & set(benchmarks.PARTS) or all(
                w.startswith("--") or w in ("2",) or "qwen" in w for w in words[3:]
            )
        elif words[2] not in OTHERS:
            assert importlib.util.find_spec(words[2]), words


def parse(words: list[str]) -> None:
    """Parses a command of `python -m training` without running it; its help ends with status 0."""
    if words[0].startswith("-"):
        return
    assert words[0] in COMMANDS, words
    parser = argparse.ArgumentParser(f"python -m training {words[0]}")  # a command of runs looks at its name
    module_of(words[0]).add_arguments(parser)
    try:
        parser.parse_args(words[1:])
    except SystemExit as end:
        assert end.code == 0, words


def test_every_page_of_the_documents_is_linked_from_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"docs/{page.name}" not in text] == []


def test_what_is_no_command_is_found() -> None:
    with pytest.raises(AssertionError):
        parse(["train", "--no-such-option", "1"])
    with pytest.raises(AssertionError):
        parse(["no-such-command"])
