"""Rollouts on record: one line a group, each picture once."""

from collections import deque

from PIL import Image

from inference.model.image_encoder import content_key
from training.config.run_config import RunConfig
from training.grpo.rollout_log import RolloutWriter
from training.runs.folder import RunFolder


def logs(pictures: list, size: int) -> dict:
    """What TRL's trainer holds after a batch: an older row first, as its logs may be longer than a batch."""
    prompt = [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "How many?"}]}]
    texts = [[{"role": "assistant", "content": f"c{i}"}] for i in range(-1, size)]
    return {
        "prompt": deque([prompt] * (size + 1)),
        "completion": deque(texts),
        "rewards": {"accuracy_reward": deque([9.0] + [float(i % 2) for i in range(size - 1)] + [float("nan")])},
        "advantages": deque([9.0] + [0.5] * size),
        "images": deque([[pictures[0]]] + [[p] for p in pictures]),
        "extra": {"accuracy_reason": deque(["old"] + ["same choice"] * size), "answer": deque(["old"] + ["B"] * size)},
    }


def test_a_batch_is_written_by_group(tmp_path) -> None:
    folder = RunFolder.create(tmp_path / "run", RunConfig())
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGBA", (8, 8), "blue")
    RolloutWriter(folder).write(3, logs([red, red, blue, blue], 4), 2, [5, 6, 7, 8], [True, True, True, False])
    first, second = folder.groups()
    assert (first["step"], first["prompt"], len(first["completions"])) == (3, "How many?", 2)
    assert [c["text"] for c in first["completions"]] == ["c0", "c1"]
    assert first["completions"][1] == {
        "text": "c1",
        "num_tokens": 6,
        "truncated": False,
        "rewards": {"accuracy_reward": 1.0},
        "answer": "B",
        "reasons": {"accuracy": "same choice"},
        "advantage": 0.5,
    }
    assert second["completions"][1]["truncated"] is True
    assert second["completions"][1]["rewards"] == {"accuracy_reward": None}  # it had nothing to say
    assert first["image"] != second["image"]
    with Image.open(folder.images / second["image"]) as kept:
        assert kept.size == (8, 8)


def test_a_picture_is_kept_once(tmp_path) -> None:
    folder = RunFolder.create(tmp_path / "run", RunConfig())
    red = Image.new("RGB", (8, 8), "red")
    for step in (1, 2):
        RolloutWriter(folder).write(step, logs([red] * 2, 2), 2, [1, 1], [True, True])
    assert [p.name for p in folder.images.iterdir()] == [f"{content_key(red).hex()}.jpg"]
    assert len(list(folder.groups())) == 2
