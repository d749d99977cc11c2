"""The rollouts of any step of a run: `rollouts.jsonl` read where the step stands in it, in bounded memory.

    rollouts = RolloutFile(record.folder)
    rollouts.steps()                    # [1, 2, 3, 4]
    rollouts.groups(3)                  # the lines of step 3, each with `images` as paths inside the run folder

The file may have been edited by hand, and its texts come from a model: lines that are no group are left out, and texts
must be escaped where they are shown.
"""

from __future__ import annotations

import re
from pathlib import Path

from inference.common.files import Json, json_object
from training.runs.metrics import step_in

MAX_GROUPS = 64
"""Groups of one step that are read."""
MAX_STEPS = 100_000
"""Steps that are found again; of a longer run the newest."""
MAX_PICTURES = 64
_STEP_BYTES = 4 << 20
"""Of one step's lines."""
_READ_BYTES = 1 << 20
_LINE_START = re.compile(rb'\{"step": ?(\d{1,12})[,}]')
_PICTURE = re.compile(r"\w+\.jpg")


class RolloutFile:
    """Follows the file of one run; use it from one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / "rollouts.jsonl"
        self._begin()

    def _begin(self) -> None:
        self._places: dict[int, int] = {}
        """For each step the first byte of its first line."""
        self._offset = 0
        self._newest: int | None = None
        self._start = b""

    def steps(self) -> list[int]:
        """The steps that have rollouts, from the first on."""
        self._read_on()
        return sorted(self._places)

    def groups(self, step: int) -> list[Json]:
        """The groups of a step, at most `MAX_GROUPS`; none where it has none."""
        self._read_on()
        if step not in self._places:
            return []
        try:
            with self._path.open("rb") as file:
                file.seek(self._places[step])
                lines = file.read(_STEP_BYTES).split(b"\n")[:-1]
        except OSError:
            return []
        found: list[Json] = []
        for line in lines:
            row = json_object(line)
            if row is not None and row.get("step") != step:
                break
            if row is not None and is_group(row):
                found.append(row | {"images": pictures_of(self._folder, row)})
        return found[:MAX_GROUPS]

    def _read_on(self) -> None:
        """Finds the steps of the lines that were added, or of all if a resume has written the file anew."""
        try:
            with self._path.open("rb") as file:
                if file.read(len(self._start)) != self._start or file.seek(0, 2) < self._offset:
                    self._begin()
                if not self._start:
                    file.seek(0)
                    self._start = file.read(200)
                file.seek(self._offset)
                rest, position = b"", self._offset
                while chunk := file.read(_READ_BYTES):
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        self._take(line, position)
                        position += len(line) + 1
                    rest, position = (b"", position + len(rest)) if len(rest) > _STEP_BYTES else (rest, position)
                self._offset = position
        except OSError:
            self._begin()  # none yet

    def _take(self, line: bytes, position: int) -> None:
        match = _LINE_START.match(line)
        step = int(match[1]) if match else step_in(json_object(line) or {})
        if step is None or step == self._newest:
            return
        self._places[step] = position
        self._newest = step
        if len(self._places) > MAX_STEPS:
            del self._places[min(self._places)]


def is_group(row: Json) -> bool:
    """True for a line with a prompt and completions that can be shown."""
    completions = row.get("completions")
    return (
        isinstance(row.get("prompt"), str)
        and isinstance(completions, list)
        and all(isinstance(c, dict) and isinstance(c.get("text"), str) for c in completions)
    )


def pictures_of(folder: Path, row: Json) -> list[Path | None]:
    """The pictures of a group, in the folder `images` and nowhere else; `None` for one that is not there."""
    more = row.get("more_images")
    names = [row["image"]] if row.get("image") else []
    return [_picture(folder, name) for name in [*names, *(more if isinstance(more, list) else [])][:MAX_PICTURES]]


def _picture(folder: Path, name: object) -> Path | None:
    if not isinstance(name, str) or not _PICTURE.fullmatch(name):
        return None
    path = folder / "images" / name
    return path if path.is_file() and not path.is_symlink() else None
