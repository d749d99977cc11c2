"""Rows of a loss batch: selected, replaced, and trimmed to what is not padding; metrics weighed by tokens."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trl.trainer.utils import split_pixel_values_by_grid as split
from trl.trainer.utils import unsplit_pixel_values_by_grid as unsplit

from training.grpo.micro_batches import TokenMeans, arrange, replace_groups, select_rows, weighted_mean

PAD = 0


def batch(prompts: list[list[int]], completions: list[list[int]], advantages: list[float], patches: list[int]) -> dict:
    """A batch as TRL makes it, with `patches[i]` rows of pixels for row i, all of value i."""

    def padded(rows: list[list[int]], left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(map(len, rows))
        fill = [[PAD] * (width - len(r)) for r in rows]
        ids = [f + r if left else r + f for f, r in zip(fill, rows)]
        ones = [[0] * len(f) + [1] * len(r) if left else [1] * len(r) + [0] * len(f) for f, r in zip(fill, rows)]
        return torch.tensor(ids), torch.tensor(ones)

    prompt_ids, prompt_mask = padded(prompts, True)
    completion_ids, completion_mask = padded(completions, False)
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "mm_token_type_ids": torch.cat([prompt_mask * 2, completion_mask * 3], 1),
        "advantages": torch.tensor(advantages),
        "num_items_in_batch": completion_mask.sum(),
        "pixel_values": torch.cat([torch.full((n, 4), float(p[0])) for n, p in zip(patches, prompts)]),
        "image_grid_thw": torch.tensor([[1, 1, n] for n in patches]),
        "num_images": [1] * len(patches),
    }


FIRST = batch(
    [[11, 11, 11], [11, 11, 11], [12], [12]],
    [[1, 2, 3, 4], [1], [5, 6], [7]],
    [0.0, 0.0, 1.0, -1.0],
    [2, 2, 3, 3],
)


def test_selected_rows_are_trimmed_and_keep_their_pictures() -> None:
    part = unsplit(select_rows(split(FIRST), [2, 3]))
    assert part["prompt_ids"].tolist() == [[12], [12]]
    assert part["completion_ids"].tolist() == [[5, 6], [7, PAD]]
    assert part["mm_token_type_ids"].tolist() == [[2, 3, 3], [2, 3, 0]]
    assert part["pixel_values"].shape == (6, 4) and set(part["pixel_values"].flatten().tolist()) == {12.0}
    assert part["image_grid_thw"].tolist() == [[1, 1, 3]] * 2 and part["num_images"] == [1, 1]
    assert part["num_items_in_batch"] == FIRST["num_items_in_batch"]  # the loss is still divided by all tokens


def test_a_dead_group_is_replaced_by_one_with_a_signal() -> None:
    fresh = batch(
        [[13, 13], [13, 13], [14, 14, 14, 14, 14], [14, 14, 14, 14, 14]],
        [[9], [9], [8, 8, 8, 8, 8, 8], [8]],
        [0.0, 0.0, 0.5, -0.5],
        [1, 1, 4, 4],
    )
    merged = unsplit(replace_groups(split(FIRST), split(fresh), [0], 2, PAD))
    assert merged["prompt_ids"].tolist() == [[14] * 5, [14] * 5, [PAD] * 4 + [12], [PAD] * 4 + [12]]
    assert merged["completion_ids"].tolist() == [[8] * 6, [8] + [PAD] * 5, [5, 6] + [PAD] * 4, [7] + [PAD] * 5]
    assert merged["advantages"].tolist() == [0.5, -0.5, 1.0, -1.0]
    assert merged["image_grid_thw"].tolist() == [[1, 1, 4], [1, 1, 4], [1, 1, 3], [1, 1, 3]]
    assert merged["pixel_values"][:, 0].tolist() == [14.0] * 8 + [12.0] * 6
    assert merged["num_items_in_batch"] == 6 + 1 + 2 + 1
    assert FIRST["advantages"].tolist() == [0.0, 0.0, 1.0, -1.0]  # the old batch is left alone


def test_nothing_better_leaves_the_batch_as_it_is() -> None:
    fresh = batch([[13]] * 2, [[9], [9]], [0.0, 0.0], [1, 1])
    whole = split(FIRST)
    assert replace_groups(whole, split(fresh), [0], 2, PAD) is whole


def tiled(prompts: list[list[int]], advantages: list[float], tiles: list[int], most: int) -> dict:
    """A batch as TRL makes it of SmolVLM's pictures: `tiles[i]` tiles of value i + 1 for row i, and blank ones."""
    made = batch(prompts, [[1]] * len(prompts), advantages, [1] * len(prompts))
    del made["image_grid_thw"], made["mm_token_type_ids"]
    made["pixel_values"] = torch.zeros(len(prompts), most, 3, 2, 2)
    for i, number in enumerate(tiles):
        made["pixel_values"][i, :number] = prompts[i][0]
    made["pixel_attention_mask"] = (made["pixel_values"][:, :, 0] != 0).long()
    return made


def test_selected_rows_keep_their_tiles() -> None:
    part = unsplit(select_rows(tiled([[11], [12], [13]], [0.0, 1.0, -1.0], [3, 1, 2], 3), [1, 2]))
    assert part["pixel_values"].shape == (2, 3, 3, 2, 2)
    assert part["pixel_values"][:, :, 0, 0, 0].tolist() == [[12, 0, 0], [13, 13, 0]]
    assert torch.equal(part["pixel_attention_mask"], (part["pixel_values"][:, :, 0] != 0).long())


def test_a_group_with_more_tiles_or_fewer_takes_the_place_of_another() -> None:
    one, other = [[11], [11], [12], [12]], [[14], [14]]
    few, many = tiled(one, [0.0, 0.0, 1.0, -1.0], [2, 2, 1, 1], 2), tiled(other, [0.5, -0.5], [5, 5], 5)
    merged = unsplit(replace_groups(split(few), split(many), [0], 2, PAD))
    assert merged["pixel_values"][:, :, 0, 0, 0].tolist() == [[14] * 5] * 2 + [[12, 0, 0, 0, 0]] * 2
    assert torch.equal(merged["pixel_attention_mask"], (merged["pixel_values"][:, :, 0] != 0).long())
    merged = unsplit(replace_groups(split(many), split(tiled([[13], [13]], [1.0, -1.0], [1, 1], 1)), [0], 2, PAD))
    assert merged["pixel_values"][:, :, 0, 0, 0].tolist() == [[13, 0, 0, 0, 0]] * 2


def test_rows_are_shared_out_by_prompt_and_length() -> None:
    """Three groups of two, shuffled: the rows of each meet, the group without a signal apart, long ones first."""
    one, two, dead = object(), object(), object()
    rows = [(one, 1, 1.0), (dead, 9, 0.0), (two, 5, 1.0), (one, 2, -1.0), (two, 6, 0.0), (dead, 8, 0.0)]
    whole = batch(
        [[7]] * 6, [[i + 1] * length for i, (_, length, _) in enumerate(rows)], [a for *_, a in rows], [1] * 6
    )
    whole = {
        k: v for k, v in whole.items() if k in ("prompt_ids", "prompt_mask", "advantages", "num_items_in_batch")
    } | {k: v for k, v in whole.items() if k.startswith("completion")}
    whole["rollout_prompts"] = [prompt for prompt, *_ in rows]
    figures = {"num_items_in_batch": whole["num_items_in_batch"]}
    batches = [
        {k: v[i : i + 2] for k, v in whole.items() if k not in figures} | figures for i in range(0, len(rows), 2)
    ]
    made = arrange(batches)
    assert [b["rollout_prompts"] for b in made] == [[two, two], [one, one], [dead, dead]]
    assert [b["completion_ids"].shape[1] for b in made] == [6, 2, 9]
    assert [b["completion_ids"][:, 0].tolist() for b in made] == [[5, 3], [4, 1], [2, 6]]
    assert all(b["num_items_in_batch"] == whole["num_items_in_batch"] for b in made)


def reduce_of(processes: int):
    """An accelerator whose other processes have as many tokens as this one."""
    return SimpleNamespace(reduce=lambda tensor, reduction: tensor * processes)


@pytest.mark.parametrize(
    ("values", "counts", "mean"),
    [
        ([2.0], [5], 2.0),
        ([1.0, 4.0], [30, 10], 1.75),
        ([1.0, math.nan], [30, 10], 1.0),
        ([0.0], [0], 0.0),
        ([1.0, 3.0], [0, 7], 3.0),
    ],
)
def test_a_mean_by_weights(values, counts, mean) -> None:
    assert weighted_mean(values, counts) == pytest.approx(mean)


def test_no_number_at_all_stays_none() -> None:
    assert math.isnan(weighted_mean([math.nan], [3]))


@given(st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=9), min_size=1, max_size=6))
def test_parts_come_to_the_mean_of_the_whole(parts: list[list[float]]) -> None:
    means, counts = [sum(part) / len(part) for part in parts], [len(part) for part in parts]
    tokens = [value for part in parts for value in part]
    assert weighted_mean(means, counts) == pytest.approx(sum(tokens) / len(tokens), abs=1e-9)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_trl_noted_becomes_one_figure_and_the_next_step_begins_anew(processes: int) -> None:
    means = TokenMeans(reduce_of(processes))
    means.add(torch.tensor([[1, 1, 1], [1, 0, 0]]))
    means.add(torch.tensor([[1, 0], [0, 0]]))
    metrics = {"entropy": [1.0, 6.0], "reward": [0.5], "clip_ratio/low_mean": [0.0, 1.0]}
    means.settle(metrics)
    assert metrics == {"entropy": [pytest.approx(2.0)], "reward": [0.5], "clip_ratio/low_mean": [pytest.approx(0.2)]}
    metrics = {"entropy": [3.0]}
    means.settle(metrics)
    assert metrics == {"entropy": [3.0]}, "nothing was counted since"
    means.add(torch.tensor([[1]]))
    means.settle(metrics)
    assert metrics == {"entropy": [3.0]}
