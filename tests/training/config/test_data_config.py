"""Data settings: what is taken, what is refused with which words, and slices as `datasets` cuts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import ReadInstruction
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from inference.common.errors import UserError
from training.config.data_config import DataConfig, Slice, read_data_config
from training.config.run_config import RECIPE_DATA

REFUSED = [
    ({"dataset": ""}, "dataset is '': give `starter`"),
    ({"dataset": "https://example.org/x.parquet"}, "addresses are not fetched"),
    (
        {"datasett": "x"},
        "datasett is not a setting; there are columns, dataset, drop_repeats, drop_unreadable, group_by, image_root, "
        "max_pixels",
    ),
    ({"split": "train[:5"}, "'train[:5' is not a split; write train"),
    ({"split": "train[:5%]+test"}, "is not a split"),
    ({"split": "train[5:10%]"}, "mixes rows and percent"),
    ({"split": "train[:500%]"}, "more than 100 %"),
    ({"test_share": 1.0}, "test_share is 1.0: Input should be less than 1"),
    ({"test_share": 0.3, "test_rows": 10}, "test_share 0.3 and test_rows 10 are both set; keep one"),
    ({"dataset": "a/b", "test_share": 0.3, "test_split": "test"}, "test_split test and test_share 0.3 are both set"),
    ({"dataset": "a/b", "test_split": "train"}, "test_split is train, the same as split"),
    ({"dataset": "a/b", "validation_split": "dev"}, "validation_rows 0; ask for at least 1 row"),
    ({"train_rows": 0}, "train_rows is 0"),
    ({"seed": -1}, "seed is -1"),
    ({"columns": {"picture": "img"}}, "picture is not a column of a row; map some of image, problem, solution"),
    ({"columns": {"image": " "}}, "the column for image has no name"),
    ({"max_pixels": 100}, "max_pixels is 100"),
    ({"max_prompt_tokens": 3}, "max_prompt_tokens is 3"),
    ({"revision": "main"}, "the starter problems have no revision"),
    ({"split": "train[:5%]"}, "the starter problems have no split"),
    ({"columns": {"problem": "q"}}, "the starter problems have no columns"),
    ({"dataset": "./data.jsonl", "revision": "main"}, "revision is for datasets of the Hub"),
    ({"dataset": "./data.jsonl", "subset": "en"}, "subset is for datasets of the Hub"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_wrong_settings_are_refused_with_the_remedy(values: dict, message: str) -> None:
    with pytest.raises(UserError) as refused:
        read_data_config(**values)
    assert message in str(refused.value)


def test_the_recipes_data() -> None:
    config = read_data_config(**RECIPE_DATA)
    assert (config.source_kind, config.slice) == ("hub", Slice("train", None, 5, True))
    assert len(config.slice.positions(7_689)) == 384
    assert (config.test_share, config.seed, config.validation_rows) == (0.2, 42, 200)


def test_where_a_dataset_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    places = {"starter": "starter", "owner/name": "local", "owner/other": "hub", "x.jsonl": "local", "/a/b": "local"}
    assert {name: DataConfig(dataset=name).source_kind for name in places} == places


def test_it_is_frozen_and_survives_json() -> None:
    config = read_data_config(dataset="owner/name", columns={"problem": "question"}, test_rows=5)
    assert DataConfig.model_validate_json(config.model_dump_json(exclude_unset=True)) == config
    with pytest.raises(ValidationError):
        config.seed = 3


ends = st.none() | st.integers(-120, 120)


@given(ends, ends, st.booleans(), st.integers(0, 9_000))
def test_a_slice_takes_the_rows_that_datasets_takes(
    start: int | None, stop: int | None, percent: bool, num: int
) -> None:
    if percent:
        start, stop = (None if end is None else max(-100, min(100, end)) for end in (start, stop))
    unit = "%" if percent else ""
    shown = ["" if end is None else f"{end}{unit}" for end in (start, stop)]
    spec = f"train[{shown[0]}:{shown[1]}]"
    theirs = ReadInstruction.from_spec(spec).to_absolute({"train": num})[0]
    assert list(Slice.parse(spec).positions(num)) == list(range(theirs.from_, theirs.to))


@given(st.text(max_size=40))
def test_any_text_is_a_slice_or_refused(text: str) -> None:
    try:
        Slice.parse(text).positions(10)
    except ValueError as error:
        assert "write" in str(error)


def test_a_mistyped_path_is_refused_within_a_second(tmp_path: Path) -> None:
    """For every command, and before its modules load."""
    (tmp_path / "run.yaml").write_text("data: {dataset: ./nowhere}")
    wrong = [[command, "--dataset", "./nowhere"] for command in ("train", "audit", "evaluate", "estimate", "start")]
    wrong += [["audit", "--base", "./nowhere"], ["train", "--image-root", "nowhere"], ["train", "--config", "no.yaml"]]
    wrong += [["train", "--config", "run.yaml"], ["evaluate", "--run", "nowhere"], ["train", "--resume", "nowhere"]]
    wrong.append(["data", "--delete", "nowhere"])
    code = f"""
import sys, time
from training.__main__ import main
assert [main(words) for words in {wrong!r}] == [2] * {len(wrong)}
print(time.process_time(), "torch" in sys.modules)
"""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    seconds, has_torch = done.stdout.split()
    assert float(seconds) < len(wrong) and has_torch == "False", done.stderr
    assert done.stderr.count("nowhere") >= len(wrong) - 1
