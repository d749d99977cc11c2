"""A base whose weights are sharded over the processes (FSDP2), for one that fits no card beside a step's activations.

    model = load_sharded(base, revision, "bfloat16")     # each process reads and keeps its shard
    shards = Shards(model)
    with shards.gathered():
        ...                                                 # `shards.twin` has all weights: rollouts by the engine

In the loss FSDP2 gathers one layer at a time. Only the base is sharded: the LoRA matrices are ordinary tensors, the
same on each process, so that checkpoints do not depend on the number of processes; transformers' Trainer averages
their gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch.distributed.fsdp import FSDPModule
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.distributed import DistributedConfig

from inference.model.loading import model_without_weights
from inference.model.lora_layers import decoder_path
from training.grpo.distributed import connect, world_size
from training.grpo.lora import TOWERS

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_sharded(base: str, revision: str | None, dtype: str) -> PreTrainedModel:
    """The base at a local path or of a Hub id; all processes call it together."""
    connect()
    empty = model_without_weights(AutoConfig.from_pretrained(base, revision=revision))
    towers = [name for name, _ in empty.named_modules() if name.rpartition(".")[2] in TOWERS]
    parts = [f"{decoder_path(empty)}.layers.*", *(name for name in towers if name.rpartition(".")[0] not in towers)]
    config = DistributedConfig(fsdp_size=world_size(), fsdp_plan=dict.fromkeys(parts, "free_full_weight"))
    model = AutoModelForImageTextToText.from_pretrained(
        base, revision=revision, dtype=dtype, use_safetensors=True, distributed_config=config
    )
    model._is_distributed_loading_by_transformers = False
    return model


class Shards:
    """This process's shard of a model's weights, and the whole weights for as long as they are gathered."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Takes a model of `load_sharded`, before PEFT changes its layers."""
        self._parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        self._owners = {name: model.get_submodule(name.rpartition(".")[0]) for name in names}
        config = copy.deepcopy(model.config)
        del config.distributed_config
        self.twin = model_without_weights(config)
        """The same layers once more, for the engine. It has weights only while they are gathered."""
        self.twin.generation_config = model.generation_config
        for name, buffer in model.named_buffers():
            path, _, own = name.rpartition(".")
            self.twin.get_submodule(path)._buffers[own] = buffer

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """All weights on each process until the end of the block. All processes enter it together."""
        for part in self._parts:
            part.unshard()
        for name, owner in self._owners.items():
            path, _, own = name.rpartition(".")
            self.twin.get_submodule(path)._parameters[own] = owner._parameters[own]
        try:
            yield
        finally:
            for part in self._parts:
                part.reshard()
