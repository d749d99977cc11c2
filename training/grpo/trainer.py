"""TRL's `GRPOTrainer` for a vision-language model, with the engine's rollouts, fewer passes and a record."""

from __future__ import annotations

import logging
import random
import traceback
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import AutoModelForImageTextToText, AutoProcessor, ProcessorMixin, TrainerCallback
from trl import GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

from inference.common.errors import UserError
from inference.common.settings import base_source
from inference.engine.engine import Engine
from inference.engine.fast_paths import PLAIN, proven_here
from inference.model.families import is_known
from inference.model.tokenizer import chat_markers
from training.config.run_config import RunConfig
from training.data.copied_rows import Row, with_columns
from training.data.pictures import undecoded
from training.grading.reward_loading import load_reward, reward_settings
from training.grpo.arguments import grpo_config, rolls_out_by_trl
from training.grpo.distributed import world_size
from training.grpo.fitting import SmallerPasses, keep_in, settled
from training.grpo.log_probs import Passes, use_grouped_attention
from training.grpo.lora import add_in_place, load_adapter, lora_config, stop_tower_gradient
from training.grpo.micro_batches import Batch, TokenMeans, arrange, has_signal, replace_groups, select_rows
from training.grpo.rollouts import (
    PolicyEngine,
    Rollouts,
    RolloutWriter,
    decode_pictures,
    prompt_rows,
    rollout_seed,
    row_for_trl,
    share_weights,
)
from training.grpo.sharding import Shards, load_sharded
from training.runs.estimate.memory import BatchChoice
from training.runs.failures import is_out_of_memory
from training.runs.folder import RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel


log = logging.getLogger(__name__)


class RunTrainer(GRPOTrainer):
    """Rolls out with the project's engine, records every rollout, and leaves out passes that change nothing.

    `twin` is the base model once more, on the same parameters (`share_weights`, or that of `shards`). With `by_trl`,
    for mixtures of experts with a loss of their own, and for families that the engine does not know, generation and
    passes are TRL's.
    """

    def __init__(
        self,
        *,
        twin: PreTrainedModel,
        writer: RolloutWriter,
        skip_zero_signal: bool,
        share_prompts: bool,
        resample_rounds: int,
        passes: SmallerPasses,
        by_trl: bool = False,
        shards: Shards | None = None,
        **kwargs: Any,
    ) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You are using 'rollout_func'")  # it may change; tests would tell
            super().__init__(**kwargs, rollout_func=None if by_trl else cast(Any, self._roll_out))
        self.is_distributed_loading_by_transformers = shards is not None
        self.args: Any
        self.model: Any
        self.train_dataset: Dataset
        self.num_generations: int
        self.max_completion_length: int
        self.writer = writer
        self.skip_zero_signal = skip_zero_signal
        self.share_prompts = share_prompts
        self.resample_rounds = resample_rounds
        stop_tower_gradient(self.model)
        if self.accelerator.device.type == "cpu":
            use_grouped_attention(self.model.get_base_model().get_decoder())
        self.shards = shards
        self.policy = self._make_policy(twin)
        self.token_means = TokenMeans(self.accelerator)
        self.smaller = passes
        self._before_losses: tuple[dict[str, int], int] | None = None
        """Lengths of the metrics when the losses of a step begin; `None` while there is no step to redo."""
        self._is_redone = False
        self._is_checkpointing = passes.batch.gradient_checkpointing
        self._rollouts: Rollouts | None = None
        """The batch while it is generated: TRL asks for a reference's log-probabilities without handing it on."""

    def _sampling(self) -> AbstractContextManager[None]:
        return nullcontext() if self.shards is None else self.shards.sampling()

    def _make_policy(self, twin: PreTrainedModel) -> PolicyEngine | None:
        is_plain = not is_known(self.model.config.model_type)
        if self.rollout_func is None or self.aux_loss_enabled or is_plain:
            if self.shards is not None:
                raise UserError("shard_weights is for the engine's rollouts, and these are TRL's; set it to false")
            self.rollout_func = None
            return None
        add_in_place(self.model)
        base, completions = self.model.config.name_or_path, self._train_batch_size * self.args.steps_per_generation
        device = self.accelerator.device
        fast, words = PLAIN, "plain path: the weights are shared"
        if self.shards is None:
            fast, words = proven_here(base, device)
            twin.to(device)  # type: ignore[arg-type]  # transformers' own annotation is of the bare function
        log.info("rollouts: %s", words)
        engine = Engine(twin, cast(ProcessorMixin, self.processing_class), base, completions, fast)
        # Of sharded weights all processes gather each layer together, so that they need the same number of passes.
        share = self.share_prompts and not self.args.gradient_checkpointing and self.shards is None
        self.passes = Passes(engine.family, engine.tokenizer.vocabulary.image, share_prompts=share)
        return PolicyEngine(engine, self.model)

    def _generate_and_score_completions(self, inputs: list[Row]) -> Batch:
        """TRL's batch, with groups without a signal replaced. Of several processes each replaces its own groups.

        All draw as many new prompts as the one that needs most, since TRL gathers their rewards.
        """
        output = self._generate_and_record(inputs, 0)
        if not self.model.training or not self.resample_rounds:
            return output
        for attempt in range(self.resample_rounds):
            dead = (~has_signal(output["advantages"]).view(-1, self.num_generations).any(1)).nonzero()[:, 0].tolist()
            count = max(self.accelerator.gather(torch.tensor([len(dead)], device=self.accelerator.device)).tolist())
            if not count:
                break
            fresh = self._generate_and_record(self._other_prompts(count, attempt), attempt + 1)
            if dead:
                both = split_pixel_values_by_grid(output), split_pixel_values_by_grid(fresh)
                merged = replace_groups(*both, dead, self.num_generations, int(self._tokenizer.pad_token_id))
                output = unsplit_pixel_values_by_grid(merged)
        output["num_items_in_batch"] = self.accelerator.gather(output["completion_mask"].sum()).sum()
        return output

    def _other_prompts(self, count: int, attempt: int) -> list[Row]:
        """Rows of the dataset drawn anew, each as often as a group needs it; a resumed run draws the same."""
        number = self.accelerator.process_index
        rng = random.Random(f"{self.args.seed}-{self.state.global_step}-{attempt}" + (f"-{number}" if number else ""))
        rows = [self.train_dataset[rng.randrange(len(self.train_dataset))] for _ in range(count)]
        return [dict(row) for row in rows for _ in range(self.num_generations)]

    def _roll_out(self, conversations: list[list[dict[str, str]]], trainer: GRPOTrainer) -> dict[str, object]:
        """TRL's `rollout_func`: completions by the engine, each by a seed of its own that a resumed run draws again.

        The pictures go along as the columns `image` (the first) and `images` of the reward functions.
        """
        batch = self._rollouts
        assert self.policy is not None and batch is not None
        first, step = self.accelerator.process_index * len(conversations), self.state.global_step
        with self._sampling():
            batch.prompts = self.policy.prompts(conversations, batch.pictures)
            completions = self.policy.generate(
                batch.prompts,
                [rollout_seed(self.args.seed, step, batch.round_number, first + i) for i in range(len(batch.prompts))],
                max_new_tokens=self.args.max_completion_length,
                min_new_tokens=self.generation_kwargs.get("min_new_tokens", 0),
                temperature=self.temperature,
                top_p=self.top_p,
            )
        ids = [list(prompt.ids) for prompt in batch.prompts]
        columns = {"image": [images[0] for images in batch.pictures], "images": batch.pictures}
        return {"prompt_ids": ids, "completion_ids": completions, "logprobs": None} | columns

    def _generate_and_record(self, inputs: list[Row], round_number: int) -> Batch:
        rows = decode_pictures(with_columns(inputs), self.num_generations, self.accelerator.process_index * len(inputs))
        if self.policy is None:
            output = super()._generate_and_score_completions(list(map(row_for_trl, rows)))
        else:
            # Without pictures TRL neither processes them again nor gives them to the model. `_roll_out` hands them on
            # to the reward functions, and `_loss_of` their features to the model.
            batch = self._rollouts = Rollouts([row.pop("images") for row in rows], round_number)
            for row in rows:
                del row["image"]
            output = super()._generate_and_score_completions(rows)
            self._rollouts = None
            output["rollout_prompts"] = batch.prompts
            images: Any = self._logs["images"]
            images.extend(gather_object(batch.pictures))
        width = min(output["completion_ids"].shape[1], self.max_completion_length)
        lengths = output["completion_mask"].sum(1)  # (B,), 0 for a truncated one that is masked
        lengths = lengths.masked_fill(lengths == 0, width)
        last = output["completion_ids"].gather(1, (lengths - 1).clamp(min=0)[:, None])[:, 0]
        ended = torch.isin(last, torch.tensor(self.eos_token_ids, device=last.device))
        lengths, ended = (self.accelerator.gather(t).tolist() for t in (lengths, ended))
        origins = gather_object([(row.get("row_id"), row.get("solution")) for row in inputs])
        if self.accelerator.is_main_process:
            step = self.state.global_step + 1
            self.writer.write(step, self._logs, self.num_generations, lengths, ended, origins)
        return output

    def _prepare_inputs(self, generation_batch: Batch) -> Batch:
        """TRL's micro-batches, with the rows of a step distributed anew (`arrange`).

        `bnpo` divides by the tokens of a micro-batch, and `top_entropy_quantile` compares them, so that rows must stay
        in theirs.
        """
        if self._is_redone:
            return self._buffered_inputs[self._step % self.args.steps_per_generation]
        before = self._buffered_inputs
        if before is None and self.model.training:  # a resumed run generates at the same steps (`num_iterations`)
            self._step = self.state.global_step * self.args.gradient_accumulation_steps
        inputs = super()._prepare_inputs(generation_batch)
        batches: list[Batch] | None = self._buffered_inputs
        stay = self.policy is None or self.loss_type == "bnpo" or self.top_entropy_quantile < 1.0
        if batches is before or not batches or len(batches) == 1 or stay:
            return inputs
        self._buffered_inputs: Any = arrange(batches)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, **kwargs
    ):
        """TRL's log-probabilities, by `Passes`: pictures' features from the rollouts, each prompt once per group."""
        if self.policy is None:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **kwargs
            )
        prompts = kwargs["pixel_values"] if self._rollouts is None else self._rollouts.prompts
        pictures = [prompt.picture for prompt in prompts]
        size = batch_size or len(input_ids)
        with self.accelerator.autocast():
            parts = [
                self.passes(model, input_ids[i : i + size], attention_mask[i : i + size], logits_to_keep, of_part)
                for i in range(0, len(input_ids), size)
                if (of_part := pictures[i : i + size])
            ]
        log_probs, entropies = (torch.cat(t) for t in zip(*((part.log_probs, part.entropies) for part in parts)))
        return log_probs, entropies if compute_entropy else None, None

    def training_step(self, model, inputs, num_items_in_batch=None):
        """TRL's micro-step; if memory runs out in a loss, the whole step begins anew with smaller passes.

        Of several processes none can do that alone, since the others wait for it: there the error ends the run.
        """
        target = self._step
        while True:
            try:
                while self._step < target:  # micro-batches whose gradient was dropped
                    super().training_step(model, inputs, num_items_in_batch)
                loss = super().training_step(model, inputs, num_items_in_batch)
                self._is_redone = False
                if self._step % self.current_gradient_accumulation_steps == 0:
                    self._before_losses = None  # memory that runs out in the next rollouts is another matter
                return loss
            except Exception as error:
                can_begin_anew = self._before_losses is not None and self.top_entropy_quantile == 1.0
                if not is_out_of_memory(error) or not can_begin_anew or self.accelerator.num_processes > 1:
                    raise
                traceback.clear_frames(error.__traceback__)  # they hold the tensors of the failed pass
                if not self.smaller.shrink():
                    raise
                target = max(target, self._step)  # a resumed run begins to count when it has its first inputs
            self._begin_step_anew(model, target)

    def _begin_step_anew(self, model: Any, target: int) -> None:
        """Drop the gradient and the metrics of a step's losses, and go back to its first micro-batch."""
        assert self._before_losses is not None
        lengths, num_counts = self._before_losses
        metrics = self._metrics["train"]
        for name in metrics:
            del metrics[name][lengths.get(name, 0) :]
        self.token_means.drop_after(num_counts)
        model.zero_grad(set_to_none=True)
        if self.smaller.batch.gradient_checkpointing and not self._is_checkpointing:
            self._is_checkpointing = True
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
            if self.policy is not None:
                self.passes = replace(self.passes, share_prompts=False)
        self._is_redone = True
        self._step = target - target % self.current_gradient_accumulation_steps

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """TRL's loss of a micro-batch, in passes that fit: each but the last goes backward here."""
        if self.model.training and self._step % self.current_gradient_accumulation_steps == 0:
            lengths = {name: len(values) for name, values in self._metrics["train"].items()}
            self._before_losses = lengths, self.token_means.num_counts
        parts = self.smaller.parts(len(inputs["advantages"]))
        if len(parts) == 1:
            return super().compute_loss(model, inputs)
        rows, total = split_pixel_values_by_grid(inputs), torch.zeros((), device=self.accelerator.device)
        for number, part in enumerate(parts, 1):
            batch = unsplit_pixel_values_by_grid(select_rows(rows, part))
            loss = super().compute_loss(model, batch) * self._share_of(batch, inputs)
            if number < len(parts):
                self.accelerator.backward(loss)  # TRL has scaled it for accumulation already
                total += loss.detach()
        return loss + total

    def _share_of(self, part: Batch, whole: Batch) -> float:
        """The factor that makes a part's loss its term in the loss of the whole."""
        if self.loss_type in ("grpo", "dr_grpo"):
            return len(part["advantages"]) / len(whole["advantages"])
        if self.loss_type == "bnpo":
            return float(part["completion_mask"].sum() / whole["completion_mask"].sum().clamp(min=1))
        return 1.0

    def _compute_loss(self, model, inputs):
        """TRL's loss on the rows that have an advantage, scaled to the value for all rows.

        A row whose advantage is 0 adds nothing to the policy's gradient. The mean over rows (`grpo`, `dr_grpo`) or over
        tokens (`bnpo`) is brought back to the full batch's; `dapo` divides by the whole batch's tokens anyway.

        The metrics `entropy`, `kl` and `clip_ratio/*` are of these rows too. If a micro-batch has none with an
        advantage, one other row is used. All rows are read where those without an advantage count too: for the KL
        penalty, an entropy bonus, and the quantile of `top_entropy_quantile`.
        """
        all_count = self.beta != 0.0 or self._entropy_bonus_enabled or self.top_entropy_quantile < 1.0
        if not self.skip_zero_signal or all_count or not self.model.training:
            return self._loss_of(model, inputs)
        rows = self._rows_to_train(inputs["advantages"])
        total = len(inputs["advantages"])
        self._metrics["train"]["frac_rows_trained"].append(len(rows) / total)
        if len(rows) == total:
            return self._loss_of(model, inputs)
        part = unsplit_pixel_values_by_grid(select_rows(split_pixel_values_by_grid(inputs), rows))
        return self._loss_of(model, part) * self._share_of(part, inputs)

    def _loss_of(self, model, inputs):
        if "rollout_prompts" in inputs:  # TRL hands `pixel_values` on to the log-probabilities as they are
            inputs = inputs | {"pixel_values": inputs["rollout_prompts"]}
        if self.model.training:
            self.token_means.add(inputs["completion_mask"])
        return super()._compute_loss(model, inputs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log TRL's metrics, those over tokens as means over all tokens trained on."""
        if self.model.training:
            self.token_means.settle(self._metrics["train"])
        super().log(logs, start_time)

    def _rows_to_train(self, advantages: torch.Tensor) -> list[int]:
        """Rows with a signal, filled up with others to the same number on each process, at least one."""
        rows = has_signal(advantages).nonzero()[:, 0].tolist()
        count = int(self.accelerator.gather(torch.tensor([max(1, len(rows))], device=advantages.device)).max())
        others = [i for i in range(len(advantages)) if i not in set(rows)]
        return sorted(rows + others[: count - len(rows)])

    def create_model_card(self, *args: object, **kwargs: object) -> None:
        """Nothing in checkpoints: the card is written when an adapter is published."""


def build_trainer(config: RunConfig, rows: Dataset, folder: RunFolder, callbacks: list[TrainerCallback]) -> RunTrainer:
    """A trainer for `rows` (columns `image`, `problem`, `solution`) that writes its files to `folder`."""
    config = settled(config)
    on_gpu = torch.cuda.is_available()
    bf16 = config.precision == "bf16" or config.precision == "auto" and on_gpu
    args = grpo_config(config, folder.path, on_gpu, bf16)
    base = base_source(config.base)
    processor = AutoProcessor.from_pretrained(base, revision=config.base_revision)
    processor.tokenizer.padding_side = "left"
    dtype = "bfloat16" if bf16 else "float32"
    shards = None
    if config.shard_weights and world_size() > 1:
        model = load_sharded(base, config.base_revision, dtype)
        shards = Shards(model)
    else:
        model = AutoModelForImageTextToText.from_pretrained(
            base, revision=config.base_revision, dtype=dtype, use_safetensors=True
        )
    settings = reward_settings(config.max_completion_length, config.data.tolerance)
    twin = share_weights(model) if shards is None else shards.twin
    prompts = prompt_rows(rows, chat_markers(processor.tokenizer), config.system_prompt_text)
    return RunTrainer(
        model=load_adapter(model, config.start_adapter, base) if config.start_adapter else model,
        processing_class=processor,
        reward_funcs=[load_reward(name, **settings.get(name, {})) for name in config.rewards],
        train_dataset=undecoded(prompts),
        peft_config=None if config.start_adapter else lora_config(config, model),
        callbacks=callbacks,
        args=args,
        twin=twin,
        writer=RolloutWriter(folder),
        skip_zero_signal=config.skip_zero_signal,
        share_prompts=config.share_prompts,
        resample_rounds=config.resample_rounds,
        passes=SmallerPasses(
            BatchChoice(args.per_device_train_batch_size, config.gradient_checkpointing is True), keep_in(folder)
        ),
        by_trl=rolls_out_by_trl(config),
        shards=shards,
    )
