"""The examples in docstrings, run as they stand."""

from __future__ import annotations

import doctest
import importlib
from types import ModuleType

import pytest

from tests import ROOT

NAMES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for half in ("inference", "training")
    for path in (ROOT / half).rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)


def run(module: ModuleType) -> doctest.TestResults:
    """The examples of a module and its definitions; a name of the module needs no import in them."""
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(test)
    return runner.summarize(verbose=False)


@pytest.mark.parametrize("name", NAMES)
def test_examples_hold(name: str) -> None:
    result = run(importlib.import_module(name))
    assert result.attempted and not result.failed


def test_a_wrong_example_fails() -> None:
    module = ModuleType("wrong", ">>> 1 + 1\n3\n")
    assert run(module).failed == 1
