"""Public benchmarks by name, read from small repositories of the same columns on the local Hub."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from inference.common.errors import UserError
from tests.support.datasets_on_disk import picture
from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from training import __main__ as command_line
from training.data.benchmarks import BENCHMARKS, benchmark_configs, load_benchmark

NUM = 6


def shard(columns: dict[str, list[Any]]) -> bytes:
    """A Parquet file in which columns of picture bytes are pictures."""
    rows = {
        name: [{"bytes": cell, "path": None} if isinstance(cell, bytes) else cell for cell in cells]
        for name, cells in columns.items()
    }
    kinds = {
        name: datasets.Image() for name, cells in columns.items() if any(isinstance(cell, bytes) for cell in cells)
    }
    made = datasets.Dataset.from_dict(rows)
    for name, kind in kinds.items():
        made = made.cast_column(name, kind)
    buffer = io.BytesIO()
    made.to_parquet(buffer)
    return buffer.getvalue()


def math_vista(hub: Hub) -> None:
    """As AI4Math/MathVista has it: every second row offers choices, whose answer is the text of one."""
    choices = [["3", str(n + 10), "14", "1"] if n % 2 else None for n in range(NUM)]
    columns = {
        "pid": [str(n) for n in range(NUM)],
        "question": [f"How high is bar {n}?" for n in range(NUM)],
        "image": [f"images/{n}.jpg" for n in range(NUM)],
        "decoded_image": [picture(n) for n in range(NUM)],
        "choices": choices,
        "unit": [None] * NUM,
        "precision": [1.0] * NUM,
        "answer": [str(n + 10) for n in range(NUM)],
        "question_type": ["multi_choice" if each else "free_form" for each in choices],
        "answer_type": ["integer"] * NUM,
        "metadata": [{"category": "math-targeted-vqa", "task": "figure question answering"}] * NUM,
        "query": [f"Hint: answer with an integer.\nQuestion: How high is bar {n}?" for n in range(NUM)],
    }
    test = {name: (cells if name != "answer" else [""] * NUM) for name, cells in columns.items()}
    head = "configs:\n- config_name: default\n  data_files:\n" + "".join(
        f"  - split: {split}\n    path: data/{split}-*\n" for split in ("testmini", "test")
    )
    hub.repo("dataset", "AI4Math/MathVista").commit(
        {
            "README.md": f"---\n{head}---\n# MathVista\n".encode(),
            "data/testmini-00000-of-00001-725687bf7a18d64b.parquet": shard(columns),
            "data/test-00000-of-00001-d4e4e3cb2e1ae8e1.parquet": shard(test),
        }
    )


def mmmu(hub: Hub) -> None:
    """As MMMU/MMMU has it: a folder for each subject; options as the text of a list; an open question; two pictures."""

    def columns(subject: str, split: str) -> dict[str, list[Any]]:
        return {
            "id": [f"{split}_{subject}_{n}" for n in range(NUM)],
            "question": [f"<image 1> Which {subject} is it, {n}?" for n in range(NUM - 1)]
            + ["Is <image 2> after <image 1>?"],
            "options": ["['a red one', 'a blue one', 'a green one']"] * (NUM - 2) + ["[]", "['yes', 'no']"],
            "explanation": [""] * NUM,
            **{f"image_{i}": [picture(n + 10 * i) if i == 1 else None for n in range(NUM)] for i in range(1, 8)},
            "image_2": [None] * (NUM - 1) + [picture(99)],
            "answer": ["B"] * (NUM - 2) + ["12", "A"] if split != "test" else ["?"] * NUM,
            "question_type": ["multiple-choice"] * (NUM - 2) + ["open", "multiple-choice"],
        }

    files = {}
    for subject in BENCHMARKS["mmmu"].subsets:
        for split in ("dev", "validation", "test") if subject in ("Art", "Math") else ("validation",):
            files[f"{subject}/{split}-00000-of-00001.parquet"] = shard(columns(subject, split))
    head = "configs:\n" + "".join(
        f"- config_name: {subject}\n  data_files:\n  - split: validation\n    path: {subject}/validation-*\n"
        for subject in BENCHMARKS["mmmu"].subsets
    )
    hub.repo("dataset", "MMMU/MMMU").commit({**files, "README.md": f"---\n{head}---\n# MMMU\n".encode()})


def chart_qa(hub: Hub) -> None:
    columns = {
        "image": [picture(n) for n in range(NUM)],
        "query": [f"What is the value of {n}?" for n in range(NUM)],
        "label": [[str(n * 100)] if n else ["Yes"] for n in range(NUM)],
        "human_or_machine": [n % 2 for n in range(NUM)],
    }
    names = ("train", "val", "test")
    hub.repo("dataset", "HuggingFaceM4/ChartQA").commit(
        {f"data/{name}-00000-of-00001-0123456789abcdef.parquet": shard(columns) for name in names}
    )


def test_math_vista(hub: Hub, hub_client: Client) -> None:
    math_vista(hub)
    rows, about = load_benchmark(benchmark_configs("mathvista"))
    assert rows["problem"][0] == "How high is bar 0?", "the question, not the query with its hint"
    assert rows["problem"][1] == "How high is bar 1?\nA. 3\nB. 11\nC. 14\nD. 1"
    assert list(rows["solution"])[:4] == ["10", "B", "12", "B"]
    assert about["revision"] == hub.repo("dataset", "AI4Math/MathVista").refs["main"] and len(rows) == NUM
    assert rows[0]["image"].size == (36, 30)


def test_mmmu(hub: Hub, hub_client: Client) -> None:
    mmmu(hub)
    rows, about = load_benchmark(benchmark_configs("mmmu"))
    assert len(rows) == 30 * NUM and about["split"] == "validation"
    assert len(set(rows["kind"])) == 30 and rows["kind"][0] == "Accounting" and "Art Theory" in rows["kind"]
    problems, solutions = list(rows["problem"])[:NUM], list(rows["solution"])[:NUM]
    assert problems[0] == "Which Accounting is it, 0?\nA. a red one\nB. a blue one\nC. a green one"
    assert solutions == ["B"] * 4 + ["12", "A"]
    assert [len(more or []) for more in rows["more_images"]][:NUM] == [0] * 5 + [1]
    art, _ = load_benchmark(benchmark_configs("mmmu", subset="Art"))
    assert len(art) == NUM and set(art["kind"]) == {"Art"}


def test_chart_qa(hub: Hub, hub_client: Client) -> None:
    chart_qa(hub)
    (config,) = benchmark_configs("chartqa")
    rows, about = load_benchmark([config])
    assert list(rows["solution"]) == ["Yes", "100", "200", "300", "400", "500"] and config.tolerance == 0.05
    assert about["dataset"] == "HuggingFaceM4/ChartQA" and about["split"] == "test"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["mathvision"], "there is no benchmark 'mathvision'; choose from mathvista, mmmu, chartqa"),
        (["mmmu", "--subset", "Alchemy"], "mmmu has no subset 'Alchemy'; choose from Accounting, "),
        (["chartqa", "--subset", "Art"], "chartqa has no subset 'Art'"),
        (["chartqa", "--split", "train"], "split is fixed for the benchmark chartqa; only subset, revision"),
    ],
)
def test_what_there_is_not(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["evaluate", "--benchmark", *options]) == 2
    assert message in capsys.readouterr().err
    with pytest.raises(UserError, match="no benchmark"):
        benchmark_configs("gsm8k")


def test_the_command_asks_a_benchmark(hub: Hub, hub_client: Client, tmp_path: Path) -> None:
    """The starter, which knows nothing of it, on three rows of ChartQA."""
    chart_qa(hub)
    target = tmp_path / "chartqa.json"
    command = ["evaluate", "--benchmark", "chartqa", "--rows", "3", "--max-new-tokens", "8", "--output", str(target)]
    assert command_line.main([*command, "--conditions", "base-direct", "--adapter", "none", "--plots", "none"]) == 0
    found = json.loads(target.read_text())
    assert found["about"]["benchmark"] == "chartqa" and found["about"]["num_rows"] == 3
    assert found["about"]["dataset"] == "HuggingFaceM4/ChartQA" and found["about"]["split"] == "test"
