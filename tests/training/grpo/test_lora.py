"""LoRA's term added in place gives PEFT's own results and gradients; an adapter to start from is read whole."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForImageTextToText

from inference.common.errors import UserError
from inference.common.settings import STARTER
from inference.model.lora_file import read_lora
from tests.support.samples import random_adapter
from training.grpo.lora import add_in_place, load_adapter


class Net(nn.Module):
    """Two layers; the input of the first one wants no gradient, as embeddings of a frozen base."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 10, bias=bias), nn.Linear(10, 4, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(torch.nn.functional.silu(self.one(x)))


def pair(bias: bool = True, dtype: torch.dtype = torch.float32, **options: Any) -> tuple[Any, Any]:
    """The same model as PEFT computes it and as we do."""
    torch.manual_seed(0)
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["one", "two"], init_lora_weights=False, **options)
    theirs = get_peft_model(Net(bias).to(dtype), config, autocast_adapter_dtype=dtype == torch.float32)
    ours = copy.deepcopy(theirs)
    return theirs, ours


def gradients(model: Any, x: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    (model(x) ** 2).sum().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 6), (1, 1, 6), (2, 2, 2, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_results_and_gradients_are_pefts(shape: tuple[int, ...], bias: bool) -> None:
    theirs, ours = pair(bias)
    assert add_in_place(ours) == 2 and add_in_place(ours) == 0
    x = torch.randn(shape)
    torch.testing.assert_close(ours(x), theirs(x))
    made, wanted = gradients(ours, x), gradients(theirs, x)
    assert len(made) == len(wanted) == 4
    for mine, other in zip(made, wanted):
        torch.testing.assert_close(mine, other)
    with ours.disable_adapter(), theirs.disable_adapter():
        torch.testing.assert_close(ours(x), theirs(x))


def test_dropout_draws_the_same() -> None:
    theirs, ours = pair(lora_dropout=0.5)
    add_in_place(ours)
    x = torch.randn(4, 6)
    results = []
    for model in (theirs, ours):
        torch.manual_seed(3)
        results.append(model.train()(x))
    torch.testing.assert_close(*results)


def test_mixed_precision_is_pefts_own_formula() -> None:
    theirs, ours = pair()
    add_in_place(ours)
    x = torch.randn(4, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(ours(x), theirs(x), rtol=0.02, atol=0.05)


def test_what_is_more_than_plain_lora_stays() -> None:
    _, dora = pair(use_dora=True)
    _, biased = pair(lora_bias=True)
    assert add_in_place(dora) == add_in_place(biased) == 0


def earlier_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As transformers before 4.52 named the layers."""
    return {name.replace("model.language_model.layers", "model.layers"): t for name, t in tensors.items()}


def only_some(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: t for name, t in tensors.items() if ".layers.0." in name and ".up_proj." in name}


def as_they_are(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors


WIDE = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""As most trainers write it: the vision tower has layers of these names too."""


@pytest.fixture(scope="module")
def base() -> Any:
    return AutoModelForImageTextToText.from_pretrained(STARTER, dtype=torch.float32)


@pytest.mark.parametrize(
    ("options", "change", "settings"),
    [
        ({}, as_they_are, {"target_modules": WIDE}),
        ({"target_modules": ["q_proj", "v_proj"]}, earlier_names, {}),
        ({"use_rslora": True, "lora_alpha": 8, "rank_pattern": {"q_proj": 2}}, as_they_are, {}),
        ({}, only_some, {"target_modules": r".*language_model\.layers\.0\..*up_proj"}),
    ],
)
def test_an_adapter_to_start_from_is_trained_as_it_is_served(
    options: dict[str, Any],
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    settings: dict[str, Any],
    base: Any,
    tmp_path: Path,
) -> None:
    """Every tensor of its file is trained, and nothing else; what is saved of it is the same adapter."""
    folder = random_adapter(tmp_path / "given", **options)
    weights = folder / "adapter_model.safetensors"
    save_file(change(load_file(weights)), weights)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    given = read_lora(folder, base, "starter")
    model = load_adapter(copy.deepcopy(base), str(folder), "starter")
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * len(given.pairs) and not any("visual" in name for name in trained)
    model.save_pretrained(str(tmp_path / "saved"))
    saved = read_lora(tmp_path / "saved", base, "starter")
    assert saved.pairs.keys() == given.pairs.keys()
    for name, pair in given.pairs.items():
        assert torch.equal(saved.pairs[name]["A"], pair["A"]) and torch.equal(saved.pairs[name]["B"], pair["B"])
        assert saved.scaling(name) == pytest.approx(given.scaling(name))


def test_an_adapter_with_a_tensor_that_has_no_layer_is_refused(base: Any, tmp_path: Path) -> None:
    folder = random_adapter(tmp_path / "given", target_modules=["q_proj"])
    weights = folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file({name.replace("language_model.layers.0", "other.layers.0"): t for name, t in tensors.items()}, weights)
    with pytest.raises(UserError, match=r"changes 'base_model.model.model.other.layers.0"):
        load_adapter(copy.deepcopy(base), str(folder), "starter")
