"""The owner's choice of the adapters that visitors see, and their names on the page: `shown.json` in the home folder.

Visitors see the base and the served adapter; the owner may show more. A name on the page is a label: files, runs and
programs go on using the adapter's own name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from inference.common.errors import UserError
from inference.common.files import exclusive, read_json, write_json

FILE = "shown.json"
MAX_TITLE_CHARS = 60
LOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Shown:
    """By the adapters' own names."""

    names: frozenset[str] = frozenset()
    """Adapters that visitors see beside the served one."""
    titles: dict[str, str] = field(default_factory=dict)
    deleted: frozenset[str] = frozenset()
    """Adapters that were deleted on purpose, and so are missed by nobody."""

    def title(self, name: str) -> str:
        """The name on the page."""
        return self.titles.get(name, name)


def read_shown(home: Path) -> Shown:
    """The choice; of a file that was edited by hand, what makes sense."""
    values = read_json(home / FILE) or {}
    titles = values.get("titles")
    return Shown(
        _names(values.get("names")),
        {str(name): title[:MAX_TITLE_CHARS] for name, title in titles.items() if isinstance(title, str) and title}
        if isinstance(titles, dict)
        else {},
        _names(values.get("deleted")),
    )


def change_shown(home: Path, name: str, *, is_shown: bool | None = None, title: str | None = None) -> Shown:
    """Shows an adapter to visitors or hides it, or gives it a name on the page (empty: its own). Raises `UserError`."""
    if title is not None:
        title = " ".join(title.split())
        if len(title) > MAX_TITLE_CHARS:
            raise UserError(f"The name has {len(title)} characters; at most {MAX_TITLE_CHARS} are shown. Shorten it.")

    def change(before: Shown) -> Shown:
        names, titles = set(before.names), {**before.titles, name: title or ""}
        if title is None:
            titles = dict(before.titles)
        if is_shown is not None:
            (names.add if is_shown else names.discard)(name)
        return Shown(frozenset(names), {of: text for of, text in titles.items() if text}, before.deleted - {name})

    return _change(home, change)


def forget_shown(home: Path, name: str) -> Shown:
    """Notes that an adapter was deleted."""

    def change(before: Shown) -> Shown:
        titles = {of: text for of, text in before.titles.items() if of != name}
        return Shown(before.names - {name}, titles, before.deleted | {name})

    return _change(home, change)


def _change(home: Path, change: Callable[[Shown], Shown]) -> Shown:
    with exclusive(home / f"{FILE}.lock", wait_seconds=LOCK_SECONDS):
        after = change(read_shown(home))
        values = {"names": sorted(after.names), "titles": after.titles, "deleted": sorted(after.deleted)}
        try:
            write_json(home / FILE, values, indent=2)
        except OSError as error:
            raise UserError(f"{home / FILE} cannot be written ({error.strerror}). Make room there.") from error
    return after


def _names(value: object) -> frozenset[str]:
    return frozenset(name for name in value if isinstance(name, str)) if isinstance(value, list) else frozenset()
