"""Finished completions of an evaluation under way, kept beside its output so that it goes on after a kill.

    evaluation.json                     the output, written at the end
    evaluation.1f3a9c02.parts.jsonl     a line for each finished batch of a condition; then deleted

The number in the name is a fingerprint of base, adapter, rows and settings, so that each evaluation has its own file.
The file has completions without grades; these are made anew.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from inference.common.errors import UserError
from inference.common.files import Json, Timeout, exclusive, json_object
from training.evaluation.conditions import Condition


@dataclass(frozen=True)
class KeptCompletion:
    """The parts of a completion that an evaluation needs."""

    text: str
    num_tokens: int
    truncated: bool


class Parts:
    """The finished batches of one evaluation, in a file that one process at a time may open."""

    def __init__(self, path: Path, header: Json) -> None:
        """Opens or makes the file; raises `UserError` if another process has it open or it cannot be written."""
        self.path = path
        self._batches: dict[str, list[KeptCompletion]] = {}
        with ExitStack() as stack:
            try:
                self._file = stack.enter_context(path.open("a+b"))
                stack.enter_context(exclusive(path))
            except Timeout:
                raise UserError(
                    f"another process makes this evaluation, in {path}; wait for it to end, or name another --output"
                ) from None
            except OSError as error:
                raise UserError(f"{path} cannot be written ({error.strerror}); name another --output") from error
            self._read()
            if self._file.tell() == 0:
                self._append({"fingerprint": header})
            self._stack = stack.pop_all()

    @classmethod
    def beside(cls, target: Path, fingerprint: Json) -> Self:
        """The parts of the output `target`; `fingerprint` has by name everything that a completion depends on."""
        text = json.dumps(fingerprint, sort_keys=True)
        number = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        return cls(target.with_name(f"{target.stem}.{number}.parts.jsonl"), fingerprint)

    @property
    def num_completions(self) -> int:
        """Completions in the file."""
        return sum(map(len, self._batches.values()))

    def get(self, condition: Condition, sample: int, first: int) -> list[KeptCompletion] | None:
        """The batch that begins with row `first`, if it is finished."""
        return self._batches.get(_key(condition, sample, first))

    def add(self, condition: Condition, sample: int, first: int, completions: Sequence[KeptCompletion]) -> None:
        """Adds a finished batch; it is on disk when this returns."""
        key = _key(condition, sample, first)
        self._batches[key] = list(completions)
        self._append({"key": key, "said": [asdict(completion) for completion in completions]})

    def close(self) -> None:
        """Closes the file and keeps it, so that the evaluation can go on later."""
        self._stack.close()

    def delete(self) -> None:
        """Deletes the file, once the evaluation is written."""
        self.path.unlink(missing_ok=True)
        self.close()

    def _append(self, row: Json) -> None:
        try:
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}); what is finished is kept: free some space and "
                "give the same command again"
            ) from error

    def _read(self) -> None:
        """Reads the complete lines, but for damaged ones; removes a line that a kill cut short."""
        self._file.seek(0)
        end = 0
        while (line := self._file.readline()).endswith(b"\n"):
            end = self._file.tell()
            row = json_object(line) or {}
            if isinstance(row.get("key"), str) and (batch := _batch(row.get("said"))) is not None:
                self._batches[row["key"]] = batch
        self._file.seek(end)
        self._file.truncate()


def _batch(said: object) -> list[KeptCompletion] | None:
    """The completions of a line; `None` if one of them is none."""
    kinds = {"text": str, "num_tokens": int, "truncated": bool}
    rows = [row for row in said if isinstance(row, dict)] if isinstance(said, list) else []
    are_whole = all({name: type(value) for name, value in row.items()} == kinds for row in rows)
    if not isinstance(said, list) or len(rows) < len(said) or not are_whole:
        return None
    return [KeptCompletion(**row) for row in rows]


def others_beside(target: Path, own: Path) -> list[str]:
    """Unfinished evaluations of the same output with another fingerprint: their files, and the differences."""
    others = []
    header = _header(own)
    for path in sorted(target.parent.glob(f"{glob.escape(target.stem)}.*.parts.jsonl")):
        if path != own:
            other = _header(path)
            differing = [name for name in header if header[name] != other.get(name)]
            others.append(f"{path.name} (another {', another '.join(differing) or 'version'})")
    return others


def _header(path: Path) -> Json:
    try:
        with path.open("rb") as file:
            fingerprint = (json_object(file.readline()) or {}).get("fingerprint")
    except OSError:
        return {}
    return fingerprint if isinstance(fingerprint, dict) else {}


def _key(condition: Condition, sample: int, first: int) -> str:
    return json.dumps([asdict(condition), sample, first], sort_keys=True)
