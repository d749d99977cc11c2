"""The subject of an examination: a run's configuration on this machine, with the model loaded when it is asked for."""

from __future__ import annotations

import contextlib
import functools
import gc
import math
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from transformers import GenerationConfig

from inference.common.settings import Settings, base_source
from inference.engine.engine import Engine, Request
from inference.engine.fast_paths import PLAIN, FastPaths
from inference.model.loading import load_base
from inference.prompt.format import DIRECT_PROMPT, THINK_PROMPT, build_messages
from training.config.run_config import RunConfig
from training.grpo.rollouts import share_weights
from training.grpo.trainer import RunTrainer
from training.starter.everyday import EVERYDAY_KINDS, everyday_problem
from training.starter.problems import make_problem

LENGTHS = (24, 9, 17, 24)
"""New tokens of the requests that are compared; they leave the batch at different times."""
_SEED = 5
_PROMPTS = (THINK_PROMPT, DIRECT_PROMPT, None, THINK_PROMPT)


@dataclass(frozen=True)
class Reference:
    """A request as transformers' `generate` answers it greedily."""

    tokens: list[int]
    logits: torch.Tensor
    """(T, V) of each new token."""


@dataclass
class Subject:
    """A run on this machine; whatever is loaded for a line stays for the next ones until `free`."""

    config: RunConfig
    settings: Settings
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    proven: set[str] = field(default_factory=set)
    """Names of the fast paths that were seen right and faster."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    """Measured steps, as `training.runs.estimate.measured` reads them."""
    trainer: tuple[RunTrainer, RunConfig] | None = None
    """The run's trainer, once a line has built it, and its configuration without `auto`."""
    resources: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """Closed by `free`."""

    @property
    def base(self) -> str:
        """The folder or Hub id of the base."""
        return base_source(self.config.base)

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @functools.cached_property
    def loaded(self) -> tuple[Any, Any]:
        """Model and processor as they are served: in bf16 on a card, in fp32 on a processor. Raises `UserError`."""
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        model, processor = load_base(self.base, self.config.base_revision, dtype)
        return model.to(self.device).eval(), processor  # type: ignore[arg-type]

    @functools.cached_property
    def engine(self) -> Engine:
        """The engine on the same weights, on its plain path."""
        return self.engine_with(PLAIN)

    @functools.cached_property
    def references(self) -> list[Reference]:
        """The requests answered by `generate`, each alone."""
        return [self._generate(request) for request in self.requests]

    @functools.cached_property
    def requests(self) -> list[Request]:
        """Requests of several pictures, prompts and lengths, greedy."""
        return [
            Request(problem.image, problem.problem, prompt, max_new_tokens=length)
            for problem, prompt, length in zip(self.problems(len(LENGTHS)), _PROMPTS, LENGTHS)
        ]

    def problems(self, num: int) -> list[Any]:
        """Problems for the base, their pictures as large as the run lets them be (the starter's as they are)."""
        rng = random.Random(_SEED)
        if self.config.data.is_starter:
            return [make_problem(rng, "train") for _ in range(num)]
        kinds = list(EVERYDAY_KINDS)
        found = [everyday_problem(kinds[number % len(kinds)], rng) for number in range(num)]
        limit = self.config.data.max_pixels or self.settings.limits.max_model_pixels
        return [type(one)(scaled(one.image, limit), one.problem, one.answer) for one in found]

    def engine_with(self, fast: FastPaths) -> Engine:
        """Another engine on the same weights."""
        model, processor = self.loaded
        twin = share_weights(model)
        twin.config.name_or_path = self.base
        return Engine(twin, processor, self.base, fast=fast)

    def processor_inputs(self, request: Request) -> dict[str, Any]:
        """The tensors that the base's own processor and template make of a request, (1, T)."""
        images = iter(request.images)
        messages = build_messages(request.question, request.system_prompt, len(request.images))
        for message in messages:
            for part in message["content"]:
                if part["type"] == "image":
                    part["image"] = next(images)
        made = self.loaded[1].apply_chat_template(
            messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        return {name: value for name, value in made.items() if isinstance(value, torch.Tensor)}

    def free(self) -> None:
        """Let go of model and trainer."""
        held = [name for name in ("loaded", "engine", "references") if name in self.__dict__]
        if held or self.trainer is not None:
            self.trainer = None
            for name in held:
                del self.__dict__[name]
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        self.resources.close()

    def _generate(self, request: Request) -> Reference:
        model = self.loaded[0]
        inputs = {
            name: value.to(self.device, model.dtype if value.is_floating_point() else None)
            for name, value in self.processor_inputs(request).items()
        }
        vocabulary = self.engine.tokenizer.vocabulary
        greedy = GenerationConfig(
            max_new_tokens=request.max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(vocabulary.ends),
            pad_token_id=vocabulary.pad,
            suppress_tokens=list(vocabulary.suppressed),
            repetition_penalty=1.0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        with torch.inference_mode():
            made = model.generate(**inputs, generation_config=greedy)
        tokens = made.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        return Reference(tokens, torch.cat(made.logits).float().cpu())


def scaled(image: Image.Image, max_pixels: int) -> Image.Image:
    """The picture in RGB with just under `max_pixels`, in its own shape."""
    factor = math.sqrt(max_pixels / (image.width * image.height))
    size = (max(1, int(image.width * factor)), max(1, int(image.height * factor)))
    return image.convert("RGB").resize(size)
