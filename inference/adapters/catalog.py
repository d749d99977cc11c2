"""The list of all adapters on this machine, for the admin tab and the command line.

for version in adapter_versions(load_settings()):
    print("served" if version.is_served else "", version.name, version.scores, version.verdict)
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from inference.adapters.record import (
    AdapterRecord,
    NotFetched,
    adapter_folders,
    adapter_name,
    base_problem,
    comparison_of,
    comparison_text,
    promotion_of,
    read_record,
    resolve,
)
from inference.adapters.served import Serving, serving
from inference.adapters.shown import forget_shown, read_shown
from inference.adapters.versions import version_folder
from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.settings import Settings

Origin = Literal["settings", "promoted", "run", "folder"]


@dataclass(frozen=True)
class Version:
    """One adapter on this machine. A run's result that was promoted is listed once, as the version it became."""

    name: str
    path: Path
    """The folder that `promote` takes."""
    origin: Origin
    """Named by the settings (the shipped one, say); promoted; a run's result; put into `adapters/` by hand."""
    record: AdapterRecord | None
    """Its scores on test rows, if it can be read."""
    run: str | None = None
    """The run that made it."""
    comparison: Json = field(default_factory=dict)
    """With the adapter served when the run ended (`training.evaluation.compare`); empty if there is none."""
    promoted_at: str | None = None
    """The time of its newest promotion that is remembered."""
    promoted_by: str | None = None
    is_served: bool = False
    is_before: bool = False
    """True if a roll back returns to it."""
    problem: str = ""
    """The reason why it cannot be promoted; empty if none is known."""

    @property
    def scores(self) -> str:
        """As the header shows them: `test 94 % (base 78 %)`; empty without an evaluation."""
        return self.record.scores if self.record else ""

    @property
    def verdict(self) -> str:
        """The comparison's result and its consequence, in words; empty if there was none.

        The consequence, that it waited, say, is left out once it was promoted.
        """
        return comparison_text(self.comparison | {"outcome": None} if self.origin == "promoted" else self.comparison)


def adapter_versions(settings: Settings, now: Serving | None = None) -> list[Version]:
    """All versions: the served one first, then the promoted ones from the newest on, then the others. Those that cannot
    be served (incomplete, of another base, gone) are listed with their problem.

    `now` is `serving(settings)`, if the caller has it already. Raises `UserError` if the settings name no folder.
    """
    now = now or serving(settings)
    versions: dict[Path, Version] = {}
    if settings.adapter is not None:
        try:
            path = resolve(settings.adapter, settings.home)
            versions[path] = _version(path, "settings", settings, now)
        except NotFetched as error:
            path = Path(settings.adapter)
            versions[path] = Version(settings.adapter, path, "settings", None, problem=str(error))
    for path in adapter_folders(settings.home):
        is_run = path.name == "adapter"
        origin: Origin = "run" if is_run else "folder"
        if path not in versions:
            versions[path] = _version(path, "promoted" if promotion_of(path) else origin, settings, now)
    once = {now.before.adapter if now.before else None, *(change.adapter for change in now.history)}
    for name in once - {None} - read_shown(settings.home).deleted:
        path = version_folder(settings.home, str(name))
        if path not in versions:
            problem = f"Its folder {path} is gone. Promote its run again."
            versions[path] = Version(
                str(name), path, "promoted", None, problem=problem, is_before=_is_before(path, now)
            )
    order = {"promoted": 0, "settings": 1, "run": 2, "folder": 3}
    newest = sorted(versions.values(), key=lambda v: (v.promoted_at or "", v.name), reverse=True)
    return sorted(newest, key=lambda v: (not v.is_served, order[v.origin]))


def can_delete(version: Version, home: Path) -> bool:
    """True for a copy of its own that neither answers nor would after a roll back; a run's goes with its run."""
    is_copy = version.origin in ("promoted", "folder") and version.path.parent == home / "adapters"
    return is_copy and version.path.is_dir() and not version.is_served and not version.is_before


def delete_version(home: Path, version: Version) -> None:
    """Deletes the files of an adapter. Raises `UserError` for one that must stay."""
    if not can_delete(version, home):
        raise UserError(f"{version.name} answers now, or would after a roll back, or belongs to a run; it stays.")
    try:
        shutil.rmtree(version.path)
    except OSError as error:
        words = f"{version.path} cannot be deleted ({error.strerror}); change its permissions"
        raise UserError(f"{words}, or mount the disk for writing") from error
    forget_shown(home, version.name)


def _version(path: Path, origin: Origin, settings: Settings, now: Serving) -> Version:
    about = promotion_of(path) if origin == "promoted" else {}
    promotions = [one for one in now.history if origin == "promoted" and one.action == "promote"]
    newest = next((one for one in reversed(promotions) if one.adapter == path.name), None)
    record, problem = None, ""
    try:
        record = read_record(path)
        if problem := base_problem(record, settings.base):
            problem = f"{problem[:1].upper()}{problem[1:]}."
    except UserError as error:
        problem = str(error)
    run = path.absolute().parent.name if origin == "run" else about.get("run")
    return Version(
        name=adapter_name(path),
        path=path,
        origin=origin,
        record=record,
        run=_text(run),
        comparison=comparison_of(path),
        promoted_at=newest.at if newest else _text(about.get("at")),
        promoted_by=newest.by if newest else _text(about.get("by")),
        is_served=path == now.path,
        is_before=_is_before(path, now, origin == "settings"),
        problem=problem,
    )


def _is_before(path: Path, now: Serving, is_set: bool = False) -> bool:
    if now.before is None:
        return False
    return is_set if now.before.adapter is None else path.name == now.before.adapter


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
