"""Orders rows by measured difficulty: those that the base sometimes solves, the easiest first.

The pass rates are those of `python -m training audit --with-model --output FILE`. A row that the base always or never
solves gives every completion of its group the same reward, so there is nothing to learn from it yet.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from inference.common.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset


def order_by_difficulty(rows: Dataset, file: Path) -> Dataset:
    """`rows` (with `row_id`) by falling pass rate, then those without one, in their order.

    Rows with a pass rate of 0 or 1 are left out. Raises `UserError` if the file has no pass rates of these rows.
    """
    rates = read_pass_rates(file)
    all_rates = [(rates.get(row_id), index) for index, row_id in enumerate(rows["row_id"])]
    measured = [(rate, index) for rate, index in all_rates if rate is not None]
    if not measured:
        raise UserError(
            f"the curriculum {file} has pass rates of {len(rates)} rows, none of which is a train row of this run; "
            "audit the same dataset with the same settings, or leave curriculum out"
        )
    useful = sorted(((rate, index) for rate, index in measured if 0 < rate < 1), key=lambda pair: (-pair[0], pair[1]))
    order = [index for _, index in useful] + [index for rate, index in all_rates if rate is None]
    if not order:
        raise UserError(
            f"by the curriculum {file} the base always or never solves each of the {len(measured)} train rows: "
            "there is nothing to learn from; give other problems, or a larger num_generations to the audit"
        )
    return rows.select(order)


def read_pass_rates(file: Path) -> dict[str, float]:
    """Pass rates by row id, from an audit's JSON. Raises `UserError` if there are none."""
    try:
        rates = json.loads(file.expanduser().read_text(encoding="utf-8"))["rollouts"]["pass_rates"]
        return {str(row_id): float(rate) for row_id, rate in rates.items()}
    except OSError as error:
        raise UserError(f"the curriculum {file} cannot be read ({error.strerror}); name an audit's JSON") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"the curriculum {file} has no pass rates; make it with `audit --with-model --output FILE`"
        ) from None
