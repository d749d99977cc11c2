"""What a run under way may change of its configuration, and what two configurations differ in.

>>> before = load_config("starter")
>>> differences(before, change_config(before, {"micro_batch_size": 8}))
{'micro_batch_size': 'micro_batch_size: 64, not 8'}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.config.run_config import RunConfig, check_config

CHANGEABLE = (
    "micro_batch_size",
    "gradient_checkpointing",
    "keep_checkpoints",
    "save_steps",
    "report_to",
    "max_hours",
    "publish_to",
    "publish_every_minutes",
    "publish_public",
)
"""Settings that a run under way may change: what is sampled and what is learnt of it in a step stays the same."""
PINNED = ("base_revision", "data.revision")
"""Settings that a run resolves when it begins; `None` then means what was resolved."""


def change_config(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """`config` with some values changed (`data` may be partial), checked anew; raises `UserError`."""
    data = config.data.model_dump() | dict(values.get("data", {}))
    return check_config(config.model_dump() | dict(values) | {"data": data})


def differences(stored: RunConfig, other: RunConfig) -> dict[str, str]:
    """What two configurations differ in, by the setting's name, as `name: stored, not other`."""
    one, two = (_flat(config.model_dump(mode="json")) for config in (stored, other))
    names = [name for name in one | two if one.get(name) != two.get(name)]
    differing = [name for name in names if name not in PINNED or two.get(name) is not None]
    return {name: f"{name}: {one.get(name)!r}, not {two.get(name)!r}" for name in differing}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found
