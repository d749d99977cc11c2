"""Rollouts by the engine on the weights that are being trained (nothing is copied or merged), and their record.

twin = share_weights(model)                      # before PEFT wraps the model
policy = PolicyEngine(Engine(twin, processor, "base"), trainer.model)
prompts = policy.prompts(messages, images)
completions = policy.generate(prompts, seeds, max_new_tokens=96, temperature=1.0)

Each group of rollouts becomes one line in the run's `rollouts.jsonl`, each picture one file, named by its hash.
"""

from __future__ import annotations

import copy
import hashlib
import io
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import torch
from datasets import Dataset
from datasets import Image as ImageColumn
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from PIL import Image
from torch import nn
from torch.distributed.tensor import DTensor

from inference.common.errors import UserError
from inference.common.files import append_line, write_whole
from inference.engine.engine import Engine
from inference.model.families import ImageEncoding, join_encodings
from inference.model.lora_layers import Adapter, Factors
from inference.model.request import Request
from inference.prompt.format import PLACE, THINK_PROMPT, build_messages, neutralise
from inference.prompt.image import content_key
from training.data.copied_rows import ROW_ID, Row
from training.data.pictures import MORE_IMAGES
from training.data.prepare import OTHERS
from training.grading.rewards import completion_text
from training.runs.estimate.memory import WHOLE_BYTES
from training.runs.folder import RunFolder

_Model = TypeVar("_Model", bound=nn.Module)
_Entry = TypeVar("_Entry")
_POLICY = "policy"
REASON_SUFFIX = "_reason"
"""Ending of the columns in which reward functions log the reasons for their rewards."""


@dataclass(frozen=True)
class RolloutPrompt:
    """A prompt that is ready to be completed, and then to be trained on."""

    images: tuple[Image.Image, ...] = field(repr=False)
    """RGB, in their order."""
    question: str
    system_prompt: str | None
    ids: tuple[int, ...] = field(repr=False)
    picture: ImageEncoding = field(repr=False)
    """Features that a loss can be computed with: ordinary tensors without gradient."""


@dataclass
class Rollouts:
    """One batch under generation: the pictures of each row (B), and its prompts once they are made."""

    pictures: list[list[Image.Image]]
    round_number: int
    """Number of times that the step's groups without a signal were sampled anew."""
    prompts: list[RolloutPrompt] = field(default_factory=list)


class PolicyEngine:
    """An engine beside a PEFT model, with the same base weights and the same LoRA matrices."""

    def __init__(self, engine: Engine, model: PeftModel) -> None:
        self.engine = engine
        self._model = model

    def prompts(
        self, messages: Sequence[Sequence[Mapping[str, str]]], images: Sequence[list[Image.Image]]
    ) -> list[RolloutPrompt]:
        """One for each conversation of plain messages (`{"role", "content"}`) and its list of pictures.

        Neighbours with equal messages and the same list share one, so that a group's pictures are encoded and its
        prompt written once.
        """
        firsts = [
            i for i in range(len(messages)) if not i or images[i] is not images[i - 1] or messages[i] != messages[i - 1]
        ]
        rgb = [tuple(one if one.mode == "RGB" else one.convert("RGB") for one in images[i]) for i in firsts]
        rows: list[RolloutPrompt] = []
        for first, end, of_row, picture in zip(firsts, [*firsts[1:], len(messages)], rgb, self._encode(rgb)):
            rows += [self._prompt(messages[first], of_row, picture)] * (end - first)
        return rows

    def generate(
        self,
        prompts: Sequence[RolloutPrompt],
        seeds: Sequence[int],
        *,
        max_new_tokens: int,
        min_new_tokens: int = 0,
        temperature: float = 1.0,
        top_p: float = 1.0,
    ) -> list[list[int]]:
        """Token ids of a completion of each prompt by its seed, with the end token where it ended; no dropout.

        Raises `UserError` for a prompt that leaves too little room for its completion.
        """
        self._check_length(max(len(prompt.ids) for prompt in prompts), max_new_tokens)
        adapter = live_adapter(self._model)
        rows = [
            Request(
                prompt.images[0],
                prompt.question,
                prompt.system_prompt,
                adapter=_POLICY,
                get_adapter=lambda: adapter,
                max_new_tokens=max_new_tokens,
                min_new_tokens=min_new_tokens,
                temperature=temperature,
                top_p=top_p,
                seed=seed,
                encoding=prompt.picture,
                more_images=prompt.images[1:],
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        ids = self.engine.token_ids(rows)
        self.engine.release()  # the loss, which comes next, needs the memory
        return ids

    def _check_length(self, longest: int, max_new_tokens: int) -> None:
        limit = self.engine.max_length
        if longest + max_new_tokens > limit:
            raise UserError(
                f"a prompt takes {longest:,} tokens with its pictures; with max_completion_length {max_new_tokens:,} "
                f"that is more than the {limit:,} positions of the base; lower max_completion_length, or leave such "
                f"rows out with data.max_prompt_tokens, at most {max(1, limit - max_new_tokens):,}"
            )

    def _prompt(
        self, messages: Sequence[Mapping[str, str]], images: tuple[Image.Image, ...], picture: ImageEncoding
    ) -> RolloutPrompt:
        by_role = {message["role"]: message["content"] for message in messages}
        assert list(by_role) in (["user"], ["system", "user"]), "`prompt_rows` writes these"
        row = Request(images[0], by_role["user"], by_role.get("system"), more_images=images[1:])
        ids = tuple(self.engine.tokenizer.prompt_ids(row, picture.placeholders))
        return RolloutPrompt(images, row.question, row.system_prompt, ids, picture)

    def _encode(self, images: Sequence[tuple[Image.Image, ...]]) -> list[ImageEncoding]:
        """Each row's encoding in ordinary tensors: autograd refuses to save those of inference mode."""
        ordinary: dict[tuple[int, ...], ImageEncoding] = {}
        parts = iter(self.engine.encode(list(itertools.chain.from_iterable(images))))
        encodings = []
        for of_row in images:
            own = [next(parts) for _ in of_row]
            key = tuple(map(id, own))
            if key not in ordinary:
                whole = join_encodings(own)
                deep = tuple(features.clone() for features in whole.deep_features)
                ordinary[key] = replace(whole, features=whole.features.clone(), deep_features=deep)
            encodings.append(ordinary[key])
        return encodings


def prompt_rows(rows: Dataset, markers: Collection[str], system_prompt: str = THINK_PROMPT) -> Dataset:
    """Rows as TRL takes them: `prompt` (plain messages, TRL adds the pictures), `image`, `more_images` if there are
    any, `solution`, `problem`, and `row_id`, which is recorded.

    `markers` are the base's special tokens. Raises `UserError` for a system prompt that has one.
    """
    if marker := next((marker for marker in markers if marker and marker in system_prompt), None):
        raise UserError(f"the system prompt has {marker!r}, a special token of this base; take it out")

    def row(problem: str) -> dict[str, list[dict[str, str]]]:
        user = {"role": "user", "content": neutralise(problem, markers)}
        return {"prompt": [{"role": "system", "content": system_prompt}, user]}

    needed = ("image", MORE_IMAGES, "solution", "problem", ROW_ID, OTHERS)
    unneeded = [name for name in rows.column_names if name not in needed]
    return rows.map(row, input_columns=["problem"], remove_columns=unneeded)


def decode_pictures(rows: Sequence[Row], group_size: int, first: int) -> list[Row]:
    """Copies of a step's rows with the list `images`, one object for a group, and its first one as `image`.

    `first` is the first row's number among those of all processes.
    """
    decoded: list[Row] = []
    for i, row in enumerate(rows):
        is_new = not i or (first + i) % group_size == 0
        cells = [row["image"], *(row.get(MORE_IMAGES) or ())]
        images = [ImageColumn().decode_example(cell) for cell in cells] if is_new else decoded[-1]["images"]
        others = {name: value for name, value in row.items() if name != MORE_IMAGES}
        decoded.append(others | {"image": images[0], "images": images})
    return decoded


def row_for_trl(row: Row) -> Row:
    """A row for TRL's own generation, which puts its `images` before the text: a question with places is in parts."""
    *before, user = row["prompt"]
    if PLACE not in user["content"]:
        return row
    return row | {"prompt": [*before, *build_messages(user["content"], None, len(row["images"]))]}


def share_weights(model: _Model) -> _Model:
    """A second model on the very same parameters, with modules and buffers of its own.

    PEFT and the engine each replace linear layers in their own model.
    """
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def live_adapter(model: PeftModel) -> Adapter:
    """The LoRA that is being trained, for the engine: views of PEFT's own matrices, which change with them.

    Matrices of another dtype than the base's are cast, and so copied. A small model in fp32 gets whole weights too, of
    this moment: one product a layer instead of three. In bf16 they would lose what a LoRA adds, which is small.
    """
    name = model.active_adapter
    adapter: Adapter = {}
    weights: dict[str, torch.Tensor] = {}
    for path, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer) and name in module.lora_A:
            weight = weights[path] = cast(nn.Linear, module.get_base_layer()).weight
            factors = [side[name].get_parameter("weight") for side in (module.lora_A, module.lora_B)]
            a, b = (factor.detach().to(weight.dtype).t() for factor in factors)
            adapter[path] = Factors(a, b, module.scaling[name])
    if all(weight.dtype == torch.float32 and not isinstance(weight, DTensor) for weight in weights.values()):
        if sum(weight.nbytes for weight in weights.values()) <= WHOLE_BYTES:
            return {path: _with_whole(factors, weights[path]) for path, factors in adapter.items()}
    return adapter


def _with_whole(factors: Factors, weight: torch.Tensor) -> Factors:
    whole = torch.addmm(weight.detach(), factors.b.t(), factors.a.t(), alpha=factors.scaling)  # (out, in)
    return replace(factors, merged=whole)


def rollout_seed(run_seed: int, step: int, round_number: int, row: int) -> int:
    """The seed of one completion, from 0 to 2^63 - 1: a resumed run draws the same ones.

    `row` counts the step's completions over all processes, `round_number` the times it was sampled anew.
    """
    digest = hashlib.blake2b(f"{run_seed}-{step}-{round_number}-{row}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class RolloutWriter:
    """Writes the groups of a step from TRL's own logs, which have the gathered batch of all processes in order."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def write(
        self,
        step: int,
        logs: Mapping[str, Any],
        group_size: int,
        num_tokens: Sequence[int],
        ended: Sequence[bool],
        origins: Sequence[tuple[object, object]] = (),
    ) -> None:
        """One line for each group of the newest batch; `num_tokens`, `ended` (by an end token) and `origins` (the row's
        id in its dataset, and its solution) are by completion."""
        size = len(num_tokens)  # the logs may have an earlier batch too
        texts = [completion_text(completion) for completion in _last(logs["completion"], size)]
        rewards = {name: _last(values, size) for name, values in logs["rewards"].items()}
        extra = {name: _last(values, size) for name, values in logs["extra"].items()}
        reasons = {name.removesuffix(REASON_SUFFIX): extra[name] for name in extra if name.endswith(REASON_SUFFIX)}
        answers, golds = extra.get("answer", [None] * size), extra.get("gold", [])
        advantages, images, prompts = (_last(logs[name], size) for name in ("advantages", "images", "prompt"))
        for first in range(0, len(texts), group_size):
            completions = [
                {
                    "text": texts[i],
                    "num_tokens": num_tokens[i],
                    "truncated": not ended[i],
                    "rewards": {name: _number(values[i]) for name, values in rewards.items()},
                    "answer": answers[i],
                    "reasons": {name: values[i] for name, values in reasons.items() if i < len(values)},
                    "advantage": round(advantages[i], 5),
                }
                for i in range(first, min(first + group_size, len(texts)))
            ]
            pictures = [self._write_picture(one) for one in images[first] or ()] if first < len(images) else []
            question = completion_text(prompts[first])  # the last message's text
            line = {"step": step, "prompt": question, "image": pictures[0] if pictures else None}
            line |= {MORE_IMAGES: pictures[1:]} if len(pictures) > 1 else {}
            line["completions"] = completions
            if first < len(golds):
                line["gold"] = golds[first]
            if first < len(origins):
                line |= {
                    name: str(value) for name, value in zip(("row", "solution"), origins[first]) if value is not None
                }
            append_line(self.folder.rollouts, line)

    def _write_picture(self, picture: Image.Image) -> str:
        """The name of the file with a row's picture."""
        picture = picture.convert("RGB")
        name = f"{content_key(picture).hex()}.jpg"
        path = self.folder.images / name
        if not path.exists():
            content = io.BytesIO()
            picture.save(content, "JPEG", quality=85)
            write_whole(path, content.getvalue())
        return name


def _last(values: Iterable[_Entry], size: int) -> list[_Entry]:
    return list(values)[-size:]


def _number(value: float | None) -> float | None:
    """A reward as JSON; `None` for NaN, by which a reward function gives no reward."""
    return None if value is None or value != value else round(value, 6)
