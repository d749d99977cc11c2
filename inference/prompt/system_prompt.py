"""System prompts: the named ones, and the one of an adapter, in `prompt.json` beside it.

    {"system_prompt": "A picture and a question are given. …"}

An adapter without the file is asked with `inference.prompt.format.THINK_PROMPT`: it was trained with that, or nobody
said with which.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from inference.common.errors import UserError
from inference.common.files import write_json
from inference.prompt.format import THINK_PROMPT

R1_PROMPT = (
    "What follows is a dialogue of a User and an Assistant. The User sets a problem and the Assistant works it out. "
    "Before it replies, the Assistant goes through its reasoning step by step; after that it tells the User the "
    "result. It encloses its reasoning in <think> </think> tags and the result in <answer> </answer> tags, like this: "
    "<think> the reasoning </think><answer> the result </answer>"
)
"""The structure of DeepSeek-R1's prompt in words of our own: roles, reasoning before the answer, tags, the form."""
NAMED_PROMPTS = {"lookthink": THINK_PROMPT, "r1": R1_PROMPT}
"""System prompts that settings may name; the first is the project's own."""
PROMPT_FILE = "prompt.json"
MAX_CHARS = 4_000
_MAX_BYTES = 100_000
_SPECIAL = re.compile(
    r"<[|｜][^<>\n]{0,80}[|｜]>|</?s>|<(?:bos|eos|pad|unk|image|img|video|start_of_turn|end_of_turn)>"
)
"""Special tokens of these families; the base's own are checked before an adapter is loaded."""


def check_system_prompt(text: object, subject: str = "its system prompt") -> str:
    """Returns the text. Raises `UserError`, about the `subject`, for anything but plain text of a bounded length.

    >>> check_system_prompt("Look first, then answer.")
    'Look first, then answer.'
    """
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{subject} is not a text. Give a text, or none.")
    if len(text) > MAX_CHARS:
        raise UserError(f"{subject} has {len(text):,} characters; at most {MAX_CHARS:,} are taken. Shorten it.")
    if bad := next((c for c in text if not (c.isprintable() or c in "\n\t ")), None):
        raise UserError(f"{subject} has the control character U+{ord(bad):04X}. Take it out.")
    if special := _SPECIAL.search(text):
        raise UserError(f"{subject} has {special[0]!r}, which steers a model and is no text. Take it out.")
    return text


def prompt_text(name_or_text: str) -> str:
    """The text of a named prompt; any other text is a prompt itself.

    >>> prompt_text("lookthink") == THINK_PROMPT
    True
    """
    return NAMED_PROMPTS.get(name_or_text, name_or_text)


def prompt_name(text: str) -> str:
    """The name of a prompt, or `a text of its own`.

    >>> prompt_name(R1_PROMPT)
    'r1'
    """
    return next((name for name, named in NAMED_PROMPTS.items() if named == text), "a text of its own")


def prompts_with(text: str | None) -> dict[str, str]:
    """The named prompts, and `text` if it is another one, by name."""
    return NAMED_PROMPTS | ({prompt_name(text): text} if text is not None else {})


def chosen_prompt(value: object, may_be_file: bool = True) -> str:
    """A prompt as somebody chose it: the name of one, the content of a file of that path, or the text itself.

    Raises `UserError` for a text that cannot be a system prompt, and for a single word that is neither name nor file.

    >>> chosen_prompt(" r1 ")
    'r1'
    """
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text in NAMED_PROMPTS:
        return text
    if may_be_file and isinstance(text, str) and (file := _file_of(text)) is not None:
        text = _content(file)
    elif isinstance(text, str) and len(text.split()) == 1:
        names = ", ".join(NAMED_PROMPTS)
        file_too = (" and no file", " or a file") if may_be_file else ("", "")
        raise UserError(
            f"there is no system prompt{file_too[0]} {text[:80]!r}; name {names}{file_too[1]}, or give a text"
        )
    return check_system_prompt(text, "the system prompt")


def _file_of(text: str) -> Path | None:
    """The file of that path; `None` if there is none."""
    try:
        path = Path(text).expanduser()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long for a path, or a null character in it
        return None


def _content(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return content.read(_MAX_BYTES).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the system prompt in {file} cannot be read ({error}); give a text file in UTF-8") from error


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
