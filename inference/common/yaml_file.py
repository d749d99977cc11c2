"""YAML with the line number of each setting, and without YAML's surprises.

>>> LinedYaml.parse("a:\\n  b: 1", "x.yaml").line(("a", "b"))
2

Text that YAML reads otherwise than people do is refused: aliases (`*name`), and numbers that are not written in plain
figures (`030` means 24 there, and `1:30` means 90).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from inference.common.errors import UserError

MAX_DEPTH = 20
"""The deepest nesting of settings."""
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_PLAIN_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})")
_PLAIN_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class LinedYaml:
    """A file's content and its lines."""

    content: Any
    lines: dict[tuple[str, ...], int]
    """The path of a setting to its line, from 1."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises `UserError` for invalid YAML and for a setting that is there twice."""
        try:
            return cls.parse(path.read_text(encoding="utf-8"), path.name)
        except UnicodeDecodeError as error:
            raise UserError(f"{path.name} is not YAML: {error}. Save it as UTF-8.") from error

    @classmethod
    def parse(cls, text: str, name: str) -> Self:
        """As `read`, from a text; messages call the file `name`."""
        try:
            _check_shape(text, name)
            loader = yaml.SafeLoader(text)
            try:
                root = loader.get_single_node()
                lines: dict[tuple[str, ...], int] = {}
                if root is not None:
                    _walk(root, (), lines, name)
                return cls(loader.construct_document(root) if root is not None else None, lines)
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f", line {mark.line + 1}" if mark else ""
            raise UserError(f"{name}{line}: it is not YAML: {_words(error)}. Correct it there.") from error
        except UserError:
            raise
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(f"{name} is not YAML: {' '.join(str(error).split())}. Correct it there.") from error

    def line(self, path: Sequence[str]) -> int | None:
        """The line of the setting at `path`; `None` if the file does not have it."""
        return self.lines.get(tuple(path))


def _words(error: yaml.MarkedYAMLError) -> str:
    """The error on one line."""
    words = " ".join(" ".join(filter(None, (error.context, error.problem))).split())
    return f"{words}; indent with spaces, not with tabs" if "'\\t'" in words else words


def _check_shape(text: str, name: str) -> None:
    """Refuse aliases and deep nesting."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"{name}, line {line}: *{event.anchor} stands for another part of the file. Write it out.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UserError(f"{name}, line {line}: it is nested more than {MAX_DEPTH} deep; no setting is.")


def _walk(node: yaml.Node, path: tuple[str, ...], lines: dict[tuple[str, ...], int], name: str) -> None:
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node, path, name)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        here = (*path, str(key.value))
        line = key.start_mark.line + 1
        if here in lines:
            raise UserError(
                f"{name}, line {line}: {'.'.join(here)} is there twice, on line {lines[here]} too. Delete one of them."
            )
        lines[here] = line
        _walk(value, here, lines, name)


def _check_scalar(node: yaml.ScalarNode, path: tuple[str, ...], name: str) -> None:
    """Refuse numbers that are not in plain figures, and values that YAML cannot construct."""
    where = f"{name}, line {node.start_mark.line + 1}: {'.'.join(path)} is {node.value[:80]}"
    plain = {_INT: _PLAIN_INT, _FLOAT: _PLAIN_FLOAT}.get(node.tag)
    if plain is not None and not plain.fullmatch(node.value):
        raise UserError(f"{where}, which YAML reads as another number than it looks like. Write it in plain figures.")
    try:
        yaml.constructor.SafeConstructor().construct_object(node)
    except (ValueError, KeyError, yaml.YAMLError) as error:  # an impossible date, for example
        raise UserError(f"{where}, which YAML cannot read ({error}). Put it in quotes, or correct it.") from error
