"""A finished run's adapter against the served one, on the validation rows, and whether it takes that one's place.

    compare_with_served(Path("runs/20261122-143000-a1b2"))      # writes adapter/comparison.json
    conclude(Path("runs/20261122-143000-a1b2"))                 # and promotes, if that was asked for and it is better

Both answer the same rows greedily with the thinking prompt; where no adapter is served, the base alone is the other
side. The rule is `training.evaluation.promotion_rule`. A comparison that was killed goes on where it was; one that has been made
of the same two adapters on the same rows is not made again.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from inference.adapters.record import COMPARISON_FILE, adapter_digest, read_beside, same_base
from inference.adapters.served import ServedMeanwhile, Serving, serving
from inference.adapters.served import promote as promote_version
from inference.adapters.versions import now
from inference.common.errors import UserError
from inference.common.settings import Settings, base_source, load_settings
from inference.engine.engine import Engine
from inference.model.lora_file import WEIGHTS_FILE
from training.evaluation.promotion_rows import ask_both, conditions, difference, figures, validation_rows
from training.evaluation.promotion_rule import asks_for_promotion, is_better, read_request, reason, summary
from training.evaluation.scoring import Progress
from training.runs.folder import RunFolder, write_whole

NO_ROWS = (
    "{} has no validation rows as it is split, and test rows are not for choosing. Train with, say, "
    "--validation-rows 200, or promote it by hand."
)
log = logging.getLogger(__name__)
_ATTEMPTS = 3
"""So often it is compared anew because another adapter came to be served meanwhile."""


def compare_with_served(
    run_folder: Path,
    *,
    settings: Settings | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The comparison as it stands in `adapter/comparison.json` afterwards.

    `is_better` is the rule's verdict, `None` where nothing could be compared, and `reason` says why in words. `engine`
    holds the run's base and is loaded unless given; `settings` are `load_settings()`. Raises `UserError` for a folder
    that holds no finished run.
    """
    folder, config = RunFolder.open(run_folder)
    if not (folder.adapter / WEIGHTS_FILE).is_file():
        raise UserError(f"the run in {run_folder} has no adapter yet; finish it with train --resume {run_folder}")
    settings = settings or load_settings()
    before, earlier = serving(settings), _earlier(folder)
    about = _about(folder, before)
    if about["adapter"] == about["served"]["digest"]:  # it was compared before it was promoted
        return earlier or _write(folder, about, None, "This adapter is the served one itself.")
    if not same_base(config.base, settings.base):
        served = Path(settings.base).name
        return _write(folder, about, None, f"It is an adapter of {config.base}, and {served} is served here.")
    rows = validation_rows(config)
    if rows is None:
        return _write(folder, about, None, NO_ROWS.format(config.data.dataset))
    about |= {"dataset": Path(config.data.dataset).name, "num_rows": len(rows), "conditions": conditions(config, rows)}
    if earlier and _key(earlier) == _key(about):
        return earlier
    engine = engine or Engine.load(base_source(config.base))
    sides = {"new": folder.adapter, "served": before.path}
    digests = {"new": about["adapter"], "served": about["served"]["digest"]}
    new, served_now = ask_both(
        engine, rows, sides, digests, about["conditions"], folder.adapter / COMPARISON_FILE, progress
    )
    strict, lenient = (difference(new, served_now, measure) for measure in ("strict", "lenient"))
    why = reason(strict, lenient, about["served"]["name"])
    if config.choose_checkpoint:
        why += " Its checkpoint was chosen on the same rows, which flatters it a little."
    return _write(folder, about | figures(new, served_now), is_better(strict, lenient), why)


def conclude(
    run_folder: Path,
    promote: bool | None = None,
    *,
    settings: Settings | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare, then promote if that was asked for and the rule allows it; to be called at the end of a run, after its
    evaluation (which the version takes along). Returns the comparison, whose `decision` is `promoted` or `waits`.

    Whether it was asked for stands in `request.json` of the run folder unless given. What is in the way (a full disk,
    `LOOKTHINK_ADAPTER`, an adapter that is served since a moment ago) makes it wait with its numbers, and is told.
    Raises `UserError` where nothing can be compared at all; the run has ended well nonetheless.
    """
    settings = settings or load_settings()
    asked, by = asks_for_promotion(run_folder) if promote is None else promote, read_request(run_folder).get("asked_by")
    for _ in range(_ATTEMPTS):
        found = compare_with_served(run_folder, settings=settings, engine=engine, progress=progress)
        if found["decision"] == "promoted" or found["adapter"] == serving(settings).digest:
            return _decided(run_folder, found, "promoted", "It is the served one.")
        if not asked:
            return _decided(run_folder, found, "waits", "It waits: nobody asked for it to be promoted by itself.")
        if not found["is_better"]:
            return _decided(run_folder, found, "waits", "It waits: it was to be promoted only if it is better.")
        try:
            name = _promote(run_folder, found, settings, by)
            return _decided(run_folder, found, "promoted", f"It was promoted, as asked: {name}.")
        except ServedMeanwhile:
            continue  # it is compared with that one, too
        except UserError as error:
            return _decided(run_folder, found, "waits", f"It waits, since it could not be promoted: {error}")
    return _decided(run_folder, found, "waits", "It waits: each time, another adapter had come to be served meanwhile.")


def conclude_aloud(run_folder: Path) -> None:
    """`conclude` as a trainer does it: what keeps the adapter from being compared is said, and is no failure."""
    try:
        print(summary(conclude(run_folder)), flush=True)
    except UserError as error:
        log.error("not compared with the served adapter: %s", error)


def _promote(run_folder: Path, found: dict[str, Any], settings: Settings, asked_by: Any) -> str | None:
    name = Path(run_folder).absolute().name
    by = f"{asked_by}, by the run {name}" if isinstance(asked_by, str) and asked_by else f"the run {name}"
    return promote_version(
        settings.home,
        RunFolder(run_folder).adapter,
        by[:200],
        settings=settings,
        instead_of=found["served"]["digest"],
        digest=found["adapter"],
    ).name


def _earlier(folder: RunFolder) -> dict[str, Any] | None:
    """The comparison that was made before, if it is whole."""
    found = read_beside(folder.adapter, COMPARISON_FILE)
    return found if {"adapter", "served", "is_better", "decision", "reason"} <= found.keys() else None


def _key(comparison: dict[str, Any]) -> tuple[Any, ...]:
    """What decides its figures; the served one's name does not."""
    served = comparison["served"]
    return comparison["adapter"], isinstance(served, dict) and served.get("digest"), comparison.get("conditions")


def _about(folder: RunFolder, before: Serving) -> dict[str, Any]:
    return {
        "run": folder.path.absolute().name,
        "adapter": adapter_digest(folder.adapter),
        "served": {"name": before.name or "the base alone", "digest": before.digest},
    }


def _write(folder: RunFolder, about: dict[str, Any], better: bool | None, why: str) -> dict[str, Any]:
    record = {**about, "is_better": better, "decision": "waits", "reason": why, "at": now()}
    write_whole(folder.adapter / COMPARISON_FILE, json.dumps(record, indent=1) + "\n")
    return record


def _decided(run_folder: Path, found: dict[str, Any], decision: str, why: str) -> dict[str, Any]:
    """What became of it, in the record."""
    if found["decision"] == decision == "promoted" or found.get("outcome") == why:
        return found
    record = {**found, "decision": decision, "outcome": why}
    write_whole(RunFolder(run_folder).adapter / COMPARISON_FILE, json.dumps(record, indent=1) + "\n")
    return record
