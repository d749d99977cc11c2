"""YAML that remembers on which line each of its settings stands.

>>> LinedYaml.parse("a:\\n  b: 1", "x.yaml").line(("a", "b"))
2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from inference.errors import UserError


@dataclass(frozen=True)
class LinedYaml:
    """A file's content and its lines."""

    content: Any
    lines: dict[tuple[str, ...], int]
    """The names on the way to a setting, to its line, from 1."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises `UserError` for what is not YAML, and for a setting that is there twice."""
        try:
            return cls.parse(path.read_text(encoding="utf-8"), path.name)
        except UnicodeDecodeError as error:
            raise UserError(f"{path.name} is not YAML: {error}. Save it as UTF-8.") from error

    @classmethod
    def parse(cls, text: str, name: str) -> Self:
        """The same from a text; `name` is what messages call the file."""
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            lines: dict[tuple[str, ...], int] = {}
            if root is not None:
                _walk(root, (), lines, name)
            return cls(loader.construct_document(root) if root is not None else None, lines)
        except yaml.YAMLError as error:
            raise UserError(f"{name} is not YAML: {error}. Correct it there.") from error
        finally:
            loader.dispose()

    def line(self, place: Sequence[str]) -> int | None:
        """Where the setting of that name stands; `None` where the file does not have it."""
        return self.lines.get(tuple(place))


def _walk(node: yaml.Node, place: tuple[str, ...], lines: dict[tuple[str, ...], int], name: str) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        here = (*place, str(key.value))
        line = key.start_mark.line + 1
        if here in lines:
            raise UserError(
                f"{name}, line {line}: {'.'.join(here)} is there twice, on line {lines[here]} too. Delete one of them."
            )
        lines[here] = line
        _walk(value, here, lines, name)
