"""The step that CUDA graphs hold, run without one: the same tokens as the ordinary step, whoever comes and goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from inference.common.settings import STARTER
from inference.engine.cuda_graph import MAX_GRAPHS, StaticStep
from inference.engine.engine import Engine, Request
from inference.engine.fast_paths import FastPaths
from inference.model.lora_layers import Factors
from tests.support.samples import perturbed_adapter, problems
from tests.support.waits import check_a_step


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """With two adapters, and four slots of fixed shape."""
    model = AutoModelForImageTextToText.from_pretrained(STARTER, dtype=torch.float32)
    processor, fast = AutoProcessor.from_pretrained(STARTER), FastPaths(cuda_graphs=True)
    engine = Engine(model, processor, str(STARTER), max_num_seqs=4, fast=fast)
    return with_adapters(engine, tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="module")
def plain(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The ordinary step with the same adapters."""
    yield with_adapters(engine, tmp_path_factory.mktemp("adapters"))
    for name in ("one", "two"):
        engine.remove_adapter(name)


def with_adapters(engine: Engine, root: Path) -> Engine:
    for seed, name in enumerate(("one", "two")):
        engine.add_adapter(name, perturbed_adapter(root / name, seed=seed, strength=0.1))
    return engine


def rows() -> list[Request]:
    """Eleven of unlike length, with and without adapters, greedy and sampled, three of one prompt."""
    pictures = [(p.image.convert("RGB"), p.problem) for p in problems(5, seed=13)]
    made = []
    for i, length in enumerate([3, 30, 1, 12, 7, 40, 5, 5, 19, 2, 8]):
        image, question = pictures[min(i % 7, 4)]
        adapter = (None, "one", "two", "one")[i % 4]
        limits = {"max_new_tokens": length, "min_new_tokens": length, "temperature": float(i % 2), "seed": i}
        made.append(Request(image, question, adapter=adapter, **limits))  # type: ignore[arg-type]
    return made


@pytest.fixture(scope="module")
def expected(plain: Engine) -> list[tuple[int, ...]]:
    """What the ordinary step gives each of the eleven alone."""
    return [plain.generate([row])[0].token_ids for row in rows()]


@pytest.mark.parametrize("ahead", [False, True])
def test_rows_that_come_and_go_get_what_the_ordinary_step_gives(
    static: Engine, expected: list[tuple[int, ...]], ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows than slots, so that one joins whenever one ends, and another decode in the midst of it."""
    asked = rows()
    monkeypatch.setattr(static._scheduler, "runs_ahead", ahead)
    if ahead:
        monkeypatch.setattr(StaticStep, "_forward", as_a_graph_does(StaticStep._forward))
    first = static.stream(asked)
    for _ in range(6):
        next(first)
    second = static.stream(asked[3:5])
    for decode in (first, second):
        for _ in decode:
            pass
    assert [c.token_ids for c in first.completions] == expected
    assert [c.token_ids for c in second.completions] == expected[3:5]
    plans = static._scheduler._batch._static._graphs  # type: ignore[union-attr]
    assert 1 < len(plans) <= MAX_GRAPHS
    assert [c.token_ids for c in static.generate(asked)] == expected, "with the plans that are there"


def as_a_graph_does(forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Each step of a plan writes its logits where the last one's were."""
    places: dict[Any, torch.Tensor] = {}

    def written(self: StaticStep, plan: Any) -> torch.Tensor:
        made = forward(self, plan)
        return places.setdefault(plan, torch.empty_like(made)).copy_(made)

    return written


def test_what_a_row_left_behind_is_never_looked_at(static: Engine, plain: Engine) -> None:
    """NaN in columns that are not written yet would come through any mask."""
    asked = [replace(row, adapter=None) for row in rows()[4:8]]
    layers = plain.read_adapter(STARTER / "adapter")
    huge = {name: Factors(torch.full_like(f.a, 3e38), torch.full_like(f.b, 3e38), 1.0) for name, f in layers.items()}
    bad = replace(asked[0], adapter="huge", get_adapter=lambda: huge, max_new_tokens=30, min_new_tokens=30)
    expected = [plain.generate([row])[0].token_ids for row in asked]
    static.generate([bad, bad])
    found = static.generate([*asked, bad, asked[0]])
    assert [c.token_ids for c in found[:4]] == expected and found[5].token_ids == expected[0]


def test_a_step_waits_for_nothing(static: Engine) -> None:
    check_a_step(static, [replace(row, max_new_tokens=8, min_new_tokens=8 - i) for i, row in enumerate(rows()[:4])])


def test_the_memory_of_slots_takes_the_plans_along(static: Engine) -> None:
    static.generate(rows()[:2])
    static._scheduler.release()
    assert not static._scheduler._batch._static._graphs  # type: ignore[union-attr]
    static.generate(rows()[:2])
