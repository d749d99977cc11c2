"""`RunConfig`: everything that decides a GRPO run, validated once.

The page and the command line start runs through it.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator


class RunConfig(BaseModel):
    """One GRPO run on the starter problems; the defaults are what `make train` runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str = Field("starter", description="local folder or Hub id of the base; `starter` is the shipped one")
    max_steps: int = Field(150, ge=1, description="optimizer steps")
    prompts_per_step: int = Field(8, ge=1, description="different prompts in a step")
    num_generations: int = Field(8, ge=2, description="completions of one prompt (the size of a group)")
    max_completion_length: int = Field(96, ge=1, le=4096, description="tokens a completion may have")
    temperature: float = Field(1.0, gt=0, le=5, description="sampling temperature of the rollouts")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate; decays linearly after the warm-up")
    warmup_steps: int = Field(10, ge=0, description="steps until the peak learning rate")
    beta: float = Field(0.0, ge=0, description="weight of the KL penalty; 0 needs no reference model")
    lora_rank: int = Field(16, ge=1, le=512, description="rank of the LoRA matrices")
    lora_alpha: int = Field(32, ge=1, description="LoRA scale times rank")
    format_weight: float = Field(0.5, ge=0, description="weight of `format_reward`")
    accuracy_weight: float = Field(1.0, ge=0, description="weight of `accuracy_reward`")
    seed: int = Field(0, ge=0, description="seeds problems, sampling and LoRA weights")
    eval_rows: int = Field(480, ge=0, description="held-out problems for the evaluation at the end; 0 skips it")

    @model_validator(mode="after")
    def _has_a_reward(self) -> RunConfig:
        if self.format_weight == self.accuracy_weight == 0:
            raise ValueError("format_weight and accuracy_weight are both 0; give at least one reward a weight above 0")
        return self

    @property
    def completions_per_step(self) -> int:
        return self.prompts_per_step * self.num_generations

    def write(self, folder: Path) -> None:
        """Keep the configuration in the run folder."""
        (folder / "config.json").write_text(self.model_dump_json(indent=2) + "\n")
