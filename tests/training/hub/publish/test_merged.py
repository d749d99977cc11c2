"""Merged weights answer as base and adapter do, and load without PEFT."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inference.common.errors import UserError
from inference.common.settings import STARTER
from inference.engine.engine import Engine
from inference.model.request import Request
from tests.support.samples import problems
from training.hub.publish.merged import base_bytes, vllm_line, write_merged


def test_merged_weights_answer_as_base_and_adapter_do(engine: Engine, tmp_path: Path) -> None:
    write_merged("starter", STARTER / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    adapter = engine.read_adapter(STARTER / "adapter")
    asked = [Request(p.image.convert("RGB"), p.problem, max_new_tokens=24) for p in problems(4, seed=1)]
    tuned = [
        Request(one.image, one.question, adapter="a", get_adapter=lambda: adapter, max_new_tokens=24) for one in asked
    ]
    expected = [completion.token_ids for completion in engine.generate(tuned)]
    merged = Engine.load(str(tmp_path / "merged"))
    assert [completion.token_ids for completion in merged.generate(asked)] == expected
    assert [completion.token_ids for completion in engine.generate(asked)] != expected, "the adapter changes something"
    with pytest.raises(UserError, match="is not empty"):
        write_merged("starter", STARTER / "adapter", tmp_path / "merged")
    assert torch.is_grad_enabled()


def test_what_cannot_be_merged_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    with pytest.raises(UserError, match="cannot be merged into starter"):
        write_merged("starter", tmp_path / "broken", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_the_command_for_vllm_has_the_rank_and_is_quoted(tmp_path: Path) -> None:
    folder = tmp_path / "my adapter"
    folder.mkdir()
    assert vllm_line("me/base", "it", folder) == f"vllm serve me/base --enable-lora --lora-modules 'it={folder}'"
    (folder / "adapter_config.json").write_text('{"r": 32}')
    assert "--max-lora-rank 32" in vllm_line("me/base", "it", folder)
    assert base_bytes("me/base") is None and (base_bytes("starter") or 0) > 1_000_000
