"""A base whose weights are sharded over the processes (FSDP2), for one that fits no card beside a step's activations.

    model = load_sharded(base, revision, "bfloat16")        # each process reads and keeps its shard
    shards = Shards(model)
    with shards.sampling():
        ...                                                 # `shards.twin` works: rollouts by the engine

In a forward one layer of the language model is gathered at a time, to sample as in the loss. Only the base is sharded:
the LoRA matrices are ordinary tensors, the same on each process, so that checkpoints do not depend on the number of
processes; transformers' Trainer averages their gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.distributed.fsdp import FSDPModule
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.distributed import DistributedConfig

from inference.model.loading import model_without_weights
from inference.model.lora_layers import decoder_path
from training.grpo.distributed import any_process, connect, world_size
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
    # Else `Trainer` would refuse to save the optimizer, which here has ordinary tensors alone.
    model._is_distributed_loading_by_transformers = False
    return model


class Shards:
    """A model of `load_sharded`, and its layers once more, which gather the weights that they need."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Takes the model before PEFT changes its layers."""
        config = copy.deepcopy(model.config)
        del config.distributed_config
        self.twin = model_without_weights(config)
        """For the engine. It works only in a block of `sampling`."""
        self.twin.generation_config = model.generation_config
        for name, buffer in model.named_buffers():
            path, _, own = name.rpartition(".")
            self.twin.get_submodule(path)._buffers[own] = buffer
        path = f"{decoder_path(model)}.layers."
        parts = [(name, module) for name, module in model.named_modules() if isinstance(module, FSDPModule)]
        self._layers: list[FSDPModule] = [module for name, module in parts if name.startswith(path)]
        self._others: list[FSDPModule] = [module for name, module in parts if not name.startswith(path)]
        for _, module in parts:
            module.unshard()
        for name, _ in self.twin.named_parameters(remove_duplicate=False):
            path_of, _, own = name.rpartition(".")
            whole = model.get_submodule(path_of)._parameters[own]  # FSDP2 fills it each time it gathers the layer
            self.twin.get_submodule(path_of)._parameters[own] = whole
        for _, module in parts:
            module.reshard()
        for number, layer in enumerate(self.twin.get_decoder().layers):
            layer.register_forward_pre_hook(lambda *_, number=number: self._gather(number))
            layer.register_forward_hook(lambda *_, number=number: self._layers[number].reshard())

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Lets the twin work until the end of the block. All processes enter it together.

        They gather each layer together, so that those which have no more to sample take part in the others' forwards.
        """
        for part in self._others:
            part.unshard()
        yield
        while any_process(False)[0]:
            for layer in self._layers:
                layer.unshard()
                layer.reshard()
        for part in self._others:
            part.reshard()

    def _gather(self, number: int) -> None:
        with torch.inference_mode(False):
            if number == 0:
                any_process(True)
            self._layers[number].unshard()
