"""Writes every rollout of a run: one line per group in `rollouts.jsonl`, each picture once, named by its hash."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL import Image

from inference.common.files import append_line, write_whole
from inference.model.image_encoder import content_key
from training.grading.rewards import completion_text
from training.runs.folder import RunFolder

REASON_SUFFIX = "_reason"
"""Ending of the columns in which reward functions log the reasons for their rewards."""


class RolloutWriter:
    """Writes the groups of a step from TRL's own logs, which have the gathered batch of all processes in order."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def write(
        self, step: int, logs: Mapping[str, Any], group_size: int, num_tokens: Sequence[int], ended: Sequence[bool]
    ) -> None:
        """One line for each group of the newest batch; `num_tokens` and `ended` (by an end token) are by completion."""
        size = len(num_tokens)  # the logs may have an earlier batch too
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
            picture = self._write_picture(images[first]) if first < len(images) else None
            question = completion_text(prompts[first])  # the last message's text
            line = {"step": step, "prompt": question, "image": picture, "completions": completions}
            append_line(self.folder.rollouts, line)

    def _write_picture(self, pictures: Sequence[Image.Image] | None) -> str | None:
        """The name of the file with a row's picture."""
        if not pictures:
            return None
        picture = pictures[0].convert("RGB")
        name = f"{content_key(picture).hex()}.jpg"
        path = self.folder.images / name
        if not path.exists():
            content = io.BytesIO()
            picture.save(content, "JPEG", quality=85)
            write_whole(path, content.getvalue())
        return name


def _last(values: Iterable[Any], size: int) -> list[Any]:
    return list(values)[-size:]


def _number(value: float | None) -> float | None:
    """A reward as JSON; `None` for NaN, by which a reward function gives no reward."""
    return None if value is None or value != value else round(value, 6)
