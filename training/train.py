"""A GRPO run from start to adapter: `python -m training train`.

Trains a LoRA adapter on the starter problems' train side, shows the rewards as they move, evaluates base and
adapter on held-out problems, and leaves a run folder: `config.json`, `metrics.jsonl`, `rewards.png`,
`evaluation.json` and `adapter/`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import transformers
from tqdm import tqdm
from transformers import TrainerCallback

from inference.errors import UserError
from inference.settings import STARTER, load_settings
from training.config import RunConfig
from training.problems import load_problems
from training.trainer import build_trainer

METRICS = ("reward", "rewards/format_reward/mean", "rewards/accuracy_reward/mean")


class Progress(TrainerCallback):
    """Writes `metrics.jsonl` and shows step, remaining time and rewards."""

    def __init__(self, folder: Path, max_steps: int) -> None:
        self.file = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self.bar = tqdm(total=max_steps, unit="step", dynamic_ncols=True)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        """One line a step."""
        if not logs or "reward" not in logs:
            return
        self.file.write(json.dumps({"step": state.global_step, **logs}) + "\n")
        self.file.flush()
        reward, form, accuracy = (logs[name] for name in METRICS)
        self.bar.set_postfix_str(
            f"reward {reward:.2f} format {form:.2f} accuracy {accuracy:.2f} "
            f"{logs['completions/mean_length']:.0f} tokens, no signal in {logs['frac_reward_zero_std']:.0%} of groups"
        )
        self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        """Close the bar and the file."""
        self.bar.close()
        self.file.close()


def run(config: RunConfig, folder: Path) -> Path:
    """Train as `config` says, keep everything in `folder`, and return the adapter's folder."""
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"the run folder {folder} is not empty; name another one, or delete it first")
    folder.mkdir(parents=True, exist_ok=True)
    config.write(folder)
    transformers.set_seed(config.seed)
    print(f"drawing {config.max_steps * config.prompts_per_step} problems …", flush=True)
    problems = load_problems("train", config.max_steps * config.prompts_per_step, seed=1_000_000 + config.seed)
    base = STARTER if config.base == "starter" else config.base
    trainer = build_trainer(config, base, problems, folder, [Progress(folder, config.max_steps)])
    trainer.remove_callback(transformers.PrinterCallback)
    started = time.monotonic()
    trainer.train()
    minutes = (time.monotonic() - started) / 60
    print(f"trained {config.max_steps} steps in {minutes:.1f} minutes")
    adapter = folder / "adapter"
    save_adapter(trainer.model, adapter, config.base)
    draw_curve(folder / "metrics.jsonl", folder / "rewards.png")
    return adapter


def save_adapter(model, folder: Path, base_name: str) -> None:
    """The adapter alone, safetensors, naming its base by id and not by a path of this machine."""
    for peft_config in model.peft_config.values():
        peft_config.base_model_name_or_path = base_name
    model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)


def draw_curve(metrics: Path, picture: Path) -> None:
    """The rewards by step as a PNG: each step pale, the mean of the ten around it strong."""
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    names = {METRICS[1]: ("format", "#2a78d6"), METRICS[2]: ("accuracy (strict)", "#e08a1e")}
    for key, (label, colour) in names.items():
        values = [row[key] for row in rows]
        smooth = [sum(values[max(0, i - 5) : i + 5]) / len(values[max(0, i - 5) : i + 5]) for i in range(len(values))]
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
        axes.plot(steps, smooth, color=colour, linewidth=2, label=label)
    axes.set(xlabel="step", ylabel="mean reward of the step's completions", ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(picture, dpi=110)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option for each field of `RunConfig`, and the run folder."""
    for name, field in RunConfig.model_fields.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            help=f"{field.description} (%(default)s)",
        )
    parser.add_argument("--folder", type=Path, help="the run folder (default: a new one under LOOKTHINK_HOME/runs)")


def main(args: argparse.Namespace) -> int:
    """Train, evaluate, and say where everything is."""
    from pydantic import ValidationError

    try:
        config = RunConfig(**{name: getattr(args, name) for name in RunConfig.model_fields})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{'.'.join(map(str, first['loc'])) or 'configuration'}: {first['msg']} (got {first['input']!r})"
        ) from None
    folder = args.folder or load_settings().home / "runs" / time.strftime("%Y%m%d-%H%M%S")
    adapter = run(config, folder)
    if config.eval_rows:
        from training import evaluate

        evaluate.report(
            base=config.base, adapter=adapter, num_rows=config.eval_rows, target=adapter / "evaluation.json"
        )
    print(f"run folder: {folder}\nserve it: LOOKTHINK_ADAPTER={adapter} make app")
    return 0
