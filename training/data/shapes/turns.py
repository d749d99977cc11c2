"""Chat turns in a cell, of ms-swift, LLaMA-Factory, LLaVA, OpenAI, TRL, verl, Qwen-VL and The Cauldron."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from training.data.shapes.cells import is_empty
from training.data.shapes.options import MAX_TEXT

_TAGGED_PICTURE = re.compile(r"(?:Picture \d+: ?)?<img>([^<\n]{1,1000})</img>\n?")
"""A picture in the text of a turn, as the first Qwen-VL has it."""

TURN_NAMES = ("messages", "conversations", "conversation", "message", "prompt", "turns", "texts")
"""Columns of chat turns."""
USERS, ASSISTANTS = ("user", "human"), ("assistant", "gpt", "model", "bot", "chatbot")
"""Roles in chat turns, in lower case."""


def turns_of(cell: object) -> list[tuple[str, str]]:
    """Role and text of chat turns; none if the cell holds no turns."""
    if isinstance(cell, str) and cell.lstrip().startswith("[") and len(cell) < MAX_TEXT:
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return []
    if not isinstance(cell, list) or not cell or not all(isinstance(turn, Mapping) for turn in cell):
        return []
    found = []
    for turn in cell:
        if isinstance(turn.get("user"), str) and isinstance(turn.get("assistant"), str):  # of The Cauldron
            found += [("user", turn["user"]), ("assistant", turn["assistant"])]
            continue
        role, content = turn.get("role") or turn.get("from"), turn.get("content", turn.get("value"))
        if not isinstance(role, str):
            return []
        found.append((role, "".join(_texts(content))))
    return found


def _texts(content: object) -> Iterator[str]:
    """The texts of a turn's content, which is a text or a list of parts, with marks for its pictures."""
    if isinstance(content, str):
        yield _TAGGED_PICTURE.sub("<image>", content)
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, str):
                yield part
            elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
                yield part["text"]
            elif isinstance(part, Mapping) and part.get("type") in ("image", "image_url"):
                yield "<image>"


def pictures_in_turns(cell: object) -> list[object]:
    """The pictures that chat turns hold themselves, in their order."""
    if isinstance(cell, str) and turns_of(cell):
        cell = json.loads(cell)
    if not isinstance(cell, list) or not all(isinstance(turn, Mapping) for turn in cell):
        return []
    found: list[object] = []
    for content in (turn.get("content", turn.get("value")) for turn in cell):
        if isinstance(content, str):
            found += _TAGGED_PICTURE.findall(content)
        for part in content if isinstance(content, list) else ():
            if isinstance(part, Mapping):
                names = ("image", "image_url", "url", "path", "data")
                found += [part[name] for name in names if not is_empty(part.get(name))][:1]
    return found


def text_of_turns(cell: object) -> tuple[object, object, int]:
    """The last user turn, the assistant's turn after it, and the number of earlier user turns; else the cell itself."""
    turns = turns_of(cell)
    users = [at for at, (role, _) in enumerate(turns) if role.strip().lower() in USERS]
    if not users:
        return cell, None, 0
    after = [text for role, text in turns[users[-1] + 1 :] if role.strip().lower() in ASSISTANTS]
    return turns[users[-1]][1], after[0] if after else None, len(users) - 1


def unknown_roles(cell: object) -> str:
    """The roles of chat turns without one of a user, in words; empty for other turns and cells."""
    roles = dict.fromkeys(role.strip() for role, _ in turns_of(cell))
    if not roles or any(role.lower() in USERS for role in roles):
        return ""
    found = ", ".join(repr(role[:40]) for role in list(roles)[:8])
    return f"none is the user's; the roles are {found}, and known are {', '.join((*USERS, *ASSISTANTS))} and system"


def has_system_turn(cell: object) -> bool:
    """True for chat turns with one of the system."""
    return any(role.lower() == "system" and text.strip() for role, text in turns_of(cell))


def num_earlier_turns(row: Mapping[str, object]) -> int:
    """The number of rounds before the problem that a row has apart, as ms-swift's `history` of question and answer."""
    history = row.get("history")
    if isinstance(history, str) and history.startswith("[") and len(history) < MAX_TEXT:
        try:
            history = json.loads(history)
        except (ValueError, RecursionError):
            return 0
    return len(history) if isinstance(history, list) else 0
