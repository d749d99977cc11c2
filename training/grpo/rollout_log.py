"""Keeps every rollout of a run: one line a group in `rollouts.jsonl`, and each picture once, named by its hash."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from inference.common.files import append_line
from inference.model.image_encoder import content_key
from training.grading.rewards import completion_text
from training.runs.folder import RunFolder

REASON_SUFFIX = "_reason"
"""What a reward function logs in a column of this ending is why it gave what it gave."""


class RolloutWriter:
    """Writes the groups of a step from TRL's own logs, which hold the gathered batch of all processes in order."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def write(
        self, step: int, logs: Mapping[str, Any], group_size: int, num_tokens: Sequence[int], ended: Sequence[bool]
    ) -> None:
        """One line for each group of the newest batch; `num_tokens` and `ended` (by an end token) are by completion."""
        size = len(num_tokens)  # the logs may hold an earlier batch too
        texts = [completion_text(completion) for completion in _last(logs["completion"], size)]
        rewards = {name: _last(values, size) for name, values in logs["rewards"].items()}
        extra = {name: _last(values, size) for name, values in logs["extra"].items()}
        reasons = {name.removesuffix(REASON_SUFFIX): extra[name] for name in extra if name.endswith(REASON_SUFFIX)}
        answers = extra.get("answer", [None] * size)
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
            picture = self._keep(images[first]) if first < len(images) else None
            question = completion_text(prompts[first])  # the last message's text
            line = {"step": step, "prompt": question, "image": picture, "completions": completions}
            append_line(self.folder.rollouts, line)

    def _keep(self, pictures: Sequence[Image.Image] | None) -> str | None:
        """The name of the file that holds a row's picture."""
        if not pictures:
            return None
        picture = pictures[0].convert("RGB")
        name = f"{content_key(picture).hex()}.jpg"
        path = self.folder.images / name
        if not path.exists():
            part = Path(f"{path}.part")
            picture.save(part, "JPEG", quality=85)
            part.replace(path)
        return name


def _last(values: Iterable[Any], size: int) -> list[Any]:
    return list(values)[-size:]


def _number(value: float | None) -> float | None:
    """A reward as JSON knows it: a reward function that had nothing to say gave NaN."""
    return None if value is None or value != value else round(value, 6)
