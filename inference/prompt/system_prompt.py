"""An adapter's own system prompt, in `prompt.json` beside it: plain text of bounded length.

    {"system_prompt": "A picture and a question are given. …"}

An adapter without one was trained with `inference.prompt.format.THINK_PROMPT`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from inference.common.errors import UserError
from inference.common.files import write_json

PROMPT_FILE = "prompt.json"
MAX_CHARS = 4_000
_MAX_BYTES = 100_000
_SPECIAL = re.compile(
    r"<[|｜][^<>\n]{0,80}[|｜]>|</?s>|<(?:bos|eos|pad|unk|image|img|video|start_of_turn|end_of_turn)>"
)
"""Special tokens of these families; the base's own are checked before an adapter is loaded."""


def check_system_prompt(text: object) -> str:
    """Returns the text. Raises `UserError` for anything but plain text of a bounded length.

    >>> check_system_prompt("Look first, then answer.")
    'Look first, then answer.'
    """
    if not isinstance(text, str) or not text.strip():
        raise UserError("its system prompt is not a text. Publish it with one, or with none.")
    if len(text) > MAX_CHARS:
        raise UserError(f"its system prompt has {len(text):,} characters; at most {MAX_CHARS:,} are taken. Shorten it.")
    if bad := next((c for c in text if not (c.isprintable() or c in "\n\t ")), None):
        raise UserError(f"its system prompt has the control character U+{ord(bad):04X}. Take it out.")
    if special := _SPECIAL.search(text):
        raise UserError(f"its system prompt has {special[0]!r}, which steers a model and is no text. Take it out.")
    return text


def read_system_prompt(folder: Path) -> str | None:
    """The adapter's own system prompt; `None` if it has none. Raises `UserError` for one that cannot be used."""
    path = folder / PROMPT_FILE
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}). Save the adapter again.") from error
    try:
        return check_system_prompt(content.get("system_prompt") if isinstance(content, dict) else None)
    except UserError as error:
        raise UserError(f"The adapter {folder.name} cannot be used: {error}") from error


def write_system_prompt(folder: Path, text: str) -> None:
    """Write a checked text beside an adapter."""
    write_json(folder / PROMPT_FILE, {"system_prompt": text})
