"""Adapters as files: folders that are refused, and what is read of others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.common.errors import UserError
from inference.engine.engine import Engine
from inference.model.lora_file import read_adapter, same_base
from tests.support.samples import random_adapter


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_adapter(tmp_path_factory.mktemp("adapters") / "good")


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy of a good adapter, to spoil."""
    return Path(shutil.copytree(good, tmp_path / "spoiled"))


def depth(engine: Engine) -> int:
    return engine._model.config.get_text_config().num_hidden_layers


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)


def only_pickle(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    torch.save(tensors, folder / "adapter_model.bin")


def half_a_pair(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in tensors.items() if not k.endswith("layers.0.mlp.up_proj.lora_A.weight")}


def without_the_last_layer(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    last = max(int(key.split("layers.")[1].split(".")[0]) for key in tensors)
    return {key: tensor for key, tensor in tensors.items() if f"layers.{last}." not in key}


def renamed(tensors: dict[str, torch.Tensor], old: str, new: str) -> dict[str, torch.Tensor]:
    return {k.replace(old, new): v for k, v in tensors.items()}


def narrowed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v[:, :-1].contiguous() for k, v in tensors.items()}


def of_rank(tensors: dict[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    """Each pair filled up with zeros."""
    filled = {}
    for key, tensor in tensors.items():
        side = 0 if "lora_A" in key else 1
        more = [rank - n if i == side else n for i, n in enumerate(tensor.shape)]
        filled[key] = torch.cat([tensor, torch.zeros(more)], dim=side)
    return filled


def no_rank(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v[:0] if "lora_A" in k else v[:, :0].contiguous() for k, v in tensors.items()}


def huge(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v.double() * 1e300 for k, v in tensors.items()}


def cast(dtype: torch.dtype) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda tensors: {k: v.to(dtype) for k, v in tensors.items()}


SPOILS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "adapter_config.json").unlink(), "adapter_config.json is missing"),
    "config is no JSON": (lambda f: (f / "adapter_config.json").write_text("{"), "not JSON"),
    "another method": (lambda f: change_config(f, peft_type="IA3"), "not a PEFT LoRA"),
    "pickle alone": (only_pickle, "pickles .* are never read"),
    "weights cut": (lambda f: (f / "adapter_model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{"), "cannot be read"),
    "no weights in it": (lambda f: change_tensors(f, lambda t: {}), "empty"),
    "another base": (lambda f: change_config(f, base_model_name_or_path="a/b"), "trained on a/b.*serves .*starter"),
    "DoRA": (lambda f: change_config(f, use_dora=True), "use_dora=True"),
    "a method of tomorrow": (lambda f: change_config(f, tomorrow_config={"x": 1}), "tomorrow_config"),
    "alpha by layer": (lambda f: change_config(f, alpha_pattern={"q_proj": 3}), "alpha_pattern"),
    "no scale": (lambda f: change_config(f, lora_alpha=None), "lora_alpha"),
    "biases": (lambda f: change_config(f, bias="all"), "bias='all'"),
    "whole modules": (lambda f: change_config(f, modules_to_save=["lm_head"]), "modules_to_save"),
    "PiSSA changes the base": (lambda f: change_config(f, init_lora_weights="pissa"), "init_lora_weights='pissa'"),
    "vision tower": (lambda f: change_tensors(f, lambda t: renamed(t, "language_model", "visual")), "model.visual"),
    "more layers": (lambda f: change_tensors(f, lambda t: renamed(t, "layers.3", "layers.99")), "layers.99"),
    "fewer layers": (lambda f: change_tensors(f, without_the_last_layer), r"changes \d layers, .* base has \d: it"),
    "half a pair": (lambda f: change_tensors(f, half_a_pair), "half of the LoRA pair of .*layers.0.mlp.up_proj"),
    "another width": (lambda f: change_tensors(f, narrowed), "does not fit"),
    "a huge rank": (lambda f: change_tensors(f, lambda t: of_rank(t, 513)), "has rank 513 in .*; at most 512"),
    "NaN": (lambda f: change_tensors(f, lambda t: {k: v * torch.nan for k, v in t.items()}), "NaN"),
    "too large for its dtype": (lambda f: change_tensors(f, huge), "NaN"),
    "rank 0": (lambda f: change_tensors(f, no_rank), "does not fit"),
    "scalars": (lambda f: change_tensors(f, lambda t: {k: torch.ones(()) for k in t}), "does not fit"),
    "integers": (lambda f: change_tensors(f, cast(torch.int8)), "torch.int8"),
    "eight bits": (lambda f: change_tensors(f, cast(torch.float8_e4m3fn)), "float8"),
    "complex": (lambda f: change_tensors(f, cast(torch.complex64)), "complex64"),
    "a scale of text": (lambda f: change_config(f, lora_alpha="8"), "lora_alpha 8; it must be a number"),
    "a scale of lists": (lambda f: change_config(f, lora_alpha=[8]), "must be a number"),
    "a scale without end": (lambda f: change_config(f, lora_alpha=float("inf")), "must be a number"),
    "no number as a scale": (lambda f: change_config(f, lora_alpha=float("nan")), "must be a number"),
    "a scale below 0": (lambda f: change_config(f, lora_alpha=-5), "above 0"),
    "a huge scale": (lambda f: change_config(f, lora_alpha=10**400), "at most 1,000,000"),
    "a base of lists": (lambda f: change_config(f, base_model_name_or_path=["x"]), "names no base .*but list"),
    "a base of figures": (lambda f: change_config(f, base_model_name_or_path=5), "but int"),
    "a deep config": (lambda f: (f / "adapter_config.json").write_text("[" * 200_000), "is not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_folder_that_cannot_be_served_is_refused(engine: Engine, folder: Path, spoil: str) -> None:
    before = engine.adapters
    spoiling, message = SPOILS[spoil]
    spoiling(folder)
    with pytest.raises(UserError, match=message):
        engine.add_adapter("spoiled", folder)
    assert engine.adapters == before


@pytest.mark.parametrize("earlier", [False, True])
def test_an_adapter_of_the_cookbook_recipe_is_served(engine: Engine, tmp_path: Path, earlier: bool) -> None:
    """LoRA on all `q_proj` and `v_proj`, with the names that today's transformers gives or those before 4.52."""
    recipe = {"r": 8, "lora_alpha": 32, "lora_dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}
    folder = random_adapter(tmp_path / "cookbook", task_type="CAUSAL_LM", **recipe)
    expected = read_adapter(folder, engine._model, engine.base_name)
    assert len(expected) == depth(engine) * 2
    if earlier:
        change_tensors(folder, lambda t: renamed(t, "model.language_model.layers", "model.layers"))
    found = read_adapter(folder, engine._model, engine.base_name)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name].b, expected[name].b) for name in found)


@pytest.mark.parametrize(
    "choice", [{"layers_to_transform": [0, 1]}, {"target_modules": r".*\.layers\.[01]\..*\.q_proj"}]
)
def test_an_adapter_of_some_layers_that_it_names_is_served(engine: Engine, tmp_path: Path, choice: dict) -> None:
    folder = random_adapter(tmp_path / "some", **({"target_modules": ["q_proj"]} | choice))
    assert len(read_adapter(folder, engine._model, engine.base_name)) == 2


def test_ranks_may_differ_by_layer(engine: Engine, tmp_path: Path) -> None:
    folder = random_adapter(tmp_path / "mixed", rank_pattern={"q_proj": 2}, init_lora_weights="gaussian")
    layers = read_adapter(folder, engine._model, engine.base_name)
    assert len(layers) == depth(engine) * 7
    for name, layer in layers.items():
        assert layer.scaling == (8 if name.endswith("q_proj") else 2) and torch.isfinite(layer.a).all()


def test_adapters_come_and_go(engine: Engine, good: Path) -> None:
    before = engine.adapters
    engine.add_adapter("mine", good)
    assert engine.adapters == (*before, "mine")
    engine.add_adapter("mine", good)  # in the place of the first
    assert engine.adapters == (*before, "mine")
    engine.remove_adapter("mine")
    assert engine.adapters == before
    with pytest.raises(UserError, match="no adapter 'mine'"):
        engine.remove_adapter("mine")


QWEN = "Qwen/Qwen2.5-VL-3B-Instruct"


@pytest.mark.parametrize(
    ("name", "base", "is_same"),
    [
        ("/cache/hub/models--acme--starter/snapshots/0123456789abcdef", "/app/inference/starter", True),
        ("/cache/hub/models--Qwen--Qwen2.5-VL-3B-Instruct/snapshots/66285546", QWEN, True),
        ("D:\\weights\\starter\\", "/app/inference/starter", True),
        ("/data/modelscope/models/Qwen/Qwen2___5-VL-3B-Instruct", QWEN, True),
        ("qwen/qwen2.5-vl-3b-instruct", QWEN, True),
        ("unsloth/Qwen2.5-VL-3B-Instruct-bnb-4bit", QWEN, True),
        ("unsloth/Qwen2.5-VL-3B-Instruct-unsloth-bnb-4bit", QWEN, True),
        (None, QWEN, True),
        ("Qwen/Qwen2.5-VL-7B-Instruct", QWEN, False),
        ("Qwen/Qwen2-VL-3B-Instruct", QWEN, False),
        ("/cache/hub/models--Qwen--Qwen2.5-VL-7B-Instruct/snapshots/66285546", QWEN, False),
        ("acme/my-sft", QWEN, False),
    ],
)
def test_a_base_under_another_name(name: str | None, base: str, is_same: bool) -> None:
    assert same_base(name, base) is is_same
