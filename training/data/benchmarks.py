"""Public benchmarks of the Hub by name, read through the same reader as every other dataset, and never split.

    >>> benchmark_configs("chartqa")[0].dataset
    'HuggingFaceM4/ChartQA'

Their rows are for testing alone: all rows of the split with public answers are test rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.settings import home_folder
from training.config.data_config import DataConfig, read_data_config
from training.data.open_source import open_source
from training.data.prepare import FACTS, prepare
from training.data.splits import RowAssignment

if TYPE_CHECKING:
    from datasets import Dataset

_MMMU = (
    *("Accounting", "Agriculture", "Architecture_and_Engineering", "Art", "Art_Theory", "Basic_Medical_Science"),
    *("Biology", "Chemistry", "Clinical_Medicine", "Computer_Science", "Design", "Diagnostics_and_Laboratory_Medicine"),
    *("Economics", "Electronics", "Energy_and_Power", "Finance", "Geography", "History", "Literature", "Manage"),
    *("Marketing", "Materials", "Math", "Mechanical_Engineering", "Music", "Pharmacy", "Physics", "Psychology"),
    *("Public_Health", "Sociology"),
)


@dataclass(frozen=True)
class Benchmark:
    """A dataset of the Hub and the names of its columns."""

    dataset: str
    split: str
    """The split whose answers are public."""
    columns: dict[str, str]
    subsets: tuple[str, ...] = ()
    """Its configurations, one after the other, each a kind of problem; none where it has only one."""
    options: Json = field(default_factory=dict)
    """Further settings of the data."""


BENCHMARKS = {
    "mathvista": Benchmark(
        "AI4Math/MathVista",
        "testmini",
        {"image": "decoded_image", "problem": "question", "options": "choices", "solution": "answer"},
    ),
    "mmmu": Benchmark(
        "MMMU/MMMU", "validation", {"problem": "question", "options": "options", "solution": "answer"}, _MMMU
    ),
    "chartqa": Benchmark(
        "HuggingFaceM4/ChartQA",
        "test",
        {"image": "image", "problem": "query", "solution": "label"},
        options={"tolerance": 0.05},
    ),
}
"""By name; ChartQA's own measure lets a number be wrong by five percent."""
SETTINGS = ("subset", "revision", "max_pixels", "tolerance")
"""The settings of the data that may be given beside a benchmark."""


def benchmark_configs(name: str, **settings: object) -> list[DataConfig]:
    """The data of a benchmark, one for each of its subsets. Raises `UserError` for an unknown name or setting."""
    if name not in BENCHMARKS:
        raise UserError(f"there is no benchmark {name!r}; choose from {', '.join(BENCHMARKS)}")
    found = BENCHMARKS[name]
    if wrong := sorted(set(settings) - set(SETTINGS)):
        raise UserError(f"{wrong[0]} is fixed for the benchmark {name}; only {', '.join(SETTINGS)} can be given")
    subset = settings.pop("subset", None)
    if subset is not None and subset not in found.subsets:
        raise UserError(
            f"{name} has no subset {subset!r}; choose from {', '.join(found.subsets) or 'none: it has one'}"
        )
    fixed = {"dataset": found.dataset, "split": found.split, "columns": found.columns, **found.options, **settings}
    subsets = (subset,) if subset else found.subsets or (None,)
    return [read_data_config(**fixed, subset=each) for each in subsets]


def load_benchmark(configs: list[DataConfig], progress: bool = False) -> tuple[Dataset, Json]:
    """All rows of these data as clean rows, and what is known of them: `revision`, and `dropped` rows in words.

    With several subsets each is a `kind`. Raises `UserError` where they cannot be read, or none is left.
    """
    from datasets import concatenate_datasets

    parts, revisions, dropped = [], set(), []
    for config in configs:
        source = open_source(config, [config.split])
        keys = [(config.split, position) for position in range(source.sizes[config.split])]
        assignment = RowAssignment({"train": [], "validation": [], "test": keys})
        prepared = prepare(config, source, assignment, home_folder(), progress)
        rows = prepared.role("test").remove_columns(list(FACTS))
        if config.subset:
            rows = rows.remove_columns([n for n in rows.column_names if n == "kind"])
            rows = rows.add_column("kind", [config.subset.replace("_", " ")] * len(rows))
        parts.append(rows)
        revisions.add(prepared.about["revision"])
        dropped += [words] if (words := prepared.dropped.words("test")) else []
    whole = concatenate_datasets(parts)
    if not len(whole):
        raise UserError(f"no row of {configs[0].dataset} is left to ask: {'; '.join(dropped)}")
    about: Json = {"dataset": configs[0].dataset, "split": configs[0].split, "role": "test"}
    about["revision"] = revisions.pop() if len(revisions) == 1 else None
    return whole, about | ({"dropped": "; ".join(dropped)} if dropped else {})
