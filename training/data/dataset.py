"""Loads any dataset as clean rows `image`, `problem`, `solution`, split and filtered, and counts the dropped rows.

Where a row has several pictures, those after the first are in the column `more_images`.

    >>> from training.config.data_config import read_data_config
    >>> splits = load_rows(read_data_config(train_rows=8, test_rows=2))
    >>> splits.train.column_names[:3]
    ['image', 'problem', 'solution']

Train, validation and test share no pictures with the same problem: equality is of the decoded pixels (after scaling to
`max_pixels`) and of the problem in one case, Unicode form and spacing. It is exact, so a picture that was compressed
again or cropped counts as another one; a perceptual hash would catch it, but would also confuse different drawings of
one textbook figure.

`order_by_difficulty` orders train rows by pass rates of `python -m training audit --with-model --output FILE`: those
that the base sometimes solves, the easiest first. A row that it always or never solves gives every completion of its
group the same reward, so there is nothing to learn from it yet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from PIL import Image
from tqdm import tqdm

from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.settings import home_folder
from inference.model.tokenizer import chat_markers
from inference.prompt.format import THINK_PROMPT, build_messages, neutralise
from training.config.data_config import DataConfig
from training.data.open_source import open_source
from training.data.prepare import FACTS, Prepared, prepare
from training.data.refusals import Drop, Dropped
from training.data.source import Source, group_keys
from training.data.splits import ROLES, assign_rows, splits_to_open

if TYPE_CHECKING:
    from transformers import ProcessorMixin

_PROBE_SIDE = 224
"""Side, in pixels, of the picture with which the count is calibrated."""


@dataclass(frozen=True)
class Splits:
    """The rows of a run. Pictures are RGB and are decoded on access, from a memory-mapped file."""

    train: Dataset
    validation: Dataset
    """For decisions: which checkpoint to keep, and whether to promote it."""
    test: Dataset
    """For the report only."""
    dropped: Dropped
    about: Json
    """`dataset`, `revision` (the commit of a Hub dataset), and the numbers of rows `allotted` and `kept`, by split."""


def load_rows(
    config: DataConfig,
    processor: ProcessorMixin | None = None,
    *,
    system_prompt: str = THINK_PROMPT,
    source: Source | None = None,
    home: Path | None = None,
    progress: bool = False,
) -> Splits:
    """The rows that `config` names, with the columns `image`, `problem`, `solution`, `row_id`, and `original_question`,
    `original_answer` and `kind` if the dataset has them.

    With a `processor`, rows beyond `max_prompt_tokens`, with `system_prompt`, are dropped. `source` is the dataset if
    it is open already; `home` is LOOKTHINK_HOME unless given. Raises `UserError` if the dataset cannot be read or no
    train row is left.
    """
    prepared = prepare_rows(config, source=source, home=home, progress=progress)
    if processor is not None and config.max_prompt_tokens is not None:
        prepared = drop_long_prompts(prepared, processor, config.max_prompt_tokens, progress, system_prompt)
    if not prepared.roles["train"]:
        raise UserError(f"No row of {config.dataset} is left to train on: {prepared.dropped}.")
    rows = {role: prepared.role(role).remove_columns(list(FACTS)) for role in ROLES}
    about = prepared.about | {"kept": {role: len(rows[role]) for role in ROLES}}
    return Splits(rows["train"], rows["validation"], rows["test"], prepared.dropped, about)


def prepare_rows(
    config: DataConfig, *, source: Source | None = None, home: Path | None = None, progress: bool = False
) -> Prepared:
    """The rows with their `FACTS`, before the limit on prompts; the audit uses them."""
    source = source or open_source(config, splits_to_open(config))
    groups = None if config.group_by is None else group_keys(config, source)
    assignment = assign_rows(config, source.sizes, groups)
    return prepare(config, source, assignment, home or home_folder(), progress)


def drop_long_prompts(
    prepared: Prepared,
    processor: ProcessorMixin,
    max_tokens: int,
    progress: bool = False,
    system_prompt: str = THINK_PROMPT,
) -> Prepared:
    """`prepared` without the rows whose prompt takes more than `max_tokens` with this processor."""
    sizer = PromptSizer(processor, system_prompt)
    facts = prepared.rows.select_columns(["problem", "sizes", "row_id"])
    used = {index for indices in prepared.roles.values() for index in indices}
    long: dict[int, Drop] = {}
    for index, row in enumerate(tqdm(facts, desc="measuring prompts", unit="row", disable=not progress)):
        if index not in used:
            continue
        tokens = sizer.measure(row["problem"], *row["sizes"]).total
        if tokens > max_tokens:
            split, position, _ = row["row_id"].rsplit("-", 2)
            place = f"{split}[{int(position)}]"
            long[index] = Drop("train", place, "prompt too long", f"{tokens:,} tokens, {max_tokens:,} are allowed")
    drops = [
        Drop(role, long[index].place, long[index].reason, long[index].detail)
        for role, indices in prepared.roles.items()
        for index in indices
        if index in long
    ]
    roles = {role: [i for i in indices if i not in long] for role, indices in prepared.roles.items()}
    return Prepared(prepared.rows, roles, prepared.dropped.with_more(drops), prepared.about)


def order_by_difficulty(rows: Dataset, file: Path) -> Dataset:
    """`rows` (with `row_id`) by falling pass rate, then those without one, in their order.

    Rows with a pass rate of 0 or 1 are left out. Raises `UserError` if the file has no pass rates of these rows.
    """
    rates = read_pass_rates(file)
    all_rates = [(rates.get(row_id), index) for index, row_id in enumerate(rows["row_id"])]
    measured = [(rate, index) for rate, index in all_rates if rate is not None]
    if not measured:
        raise UserError(
            f"the curriculum {file} has pass rates of {len(rates)} rows, none of which is a train row of this run; "
            "audit the same dataset with the same settings, or leave curriculum out"
        )
    useful = sorted(((rate, index) for rate, index in measured if 0 < rate < 1), key=lambda pair: (-pair[0], pair[1]))
    order = [index for _, index in useful] + [index for rate, index in all_rates if rate is None]
    if not order:
        raise UserError(
            f"by the curriculum {file} the base always or never solves each of the {len(measured)} train rows: "
            "there is nothing to learn from; give other problems, or a larger num_generations to the audit"
        )
    return rows.select(order)


def read_pass_rates(file: Path) -> dict[str, float]:
    """Pass rates by row id, from an audit's JSON. Raises `UserError` if there are none."""
    try:
        rates = json.loads(file.expanduser().read_text(encoding="utf-8"))["rollouts"]["pass_rates"]
        return {str(row_id): float(rate) for row_id, rate in rates.items()}
    except OSError as error:
        raise UserError(f"the curriculum {file} cannot be read ({error.strerror}); name an audit's JSON") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"the curriculum {file} has no pass rates; make it with `audit --with-model --output FILE`"
        ) from None


@dataclass(frozen=True)
class PromptSize:
    """Number of tokens of one prompt."""

    text: int
    """Tokens of the chat template, the system prompt and the problem."""
    image: int
    """Tokens of the pictures, including separators between their tiles."""

    @property
    def total(self) -> int:
        return self.text + self.image


class PromptSizer:
    """Counts the tokens of prompts as a processor would, without decoding a picture.

        sizer = PromptSizer(AutoProcessor.from_pretrained("inference/starter"))
        sizer.measure("How many circles?", 448, 448).total

    It works for every family whose processor can tell the number of a picture's tokens from its size.
    """

    def __init__(self, processor: ProcessorMixin, system_prompt: str | None = THINK_PROMPT) -> None:
        """Calls the processor on a blank picture. Raises `UserError` for a processor that cannot count."""
        self._processor: Any = processor  # the classes differ by family
        self._is_tiled = hasattr(getattr(processor, "image_processor", None), "max_image_size")
        if not self._can_count():
            raise UserError(
                f"A {type(processor).__name__} cannot tell how many tokens a picture takes; leave "
                "max_prompt_tokens out, or choose a base of another family."
            )
        self._system_prompt = system_prompt
        self._markers = chat_markers(processor.tokenizer)
        self._by_size: dict[tuple[int, int], int] = {}
        self._around: dict[int, int] = {}
        """By number of pictures the tokens that the processor adds to text and pictures; negative if it removes
        placeholders."""
        self.measure("?", _PROBE_SIDE, _PROBE_SIDE)

    def measure(self, problem: str, *sizes: int) -> PromptSize:
        """The tokens of a training prompt, by the width and the height of each of its pictures, in pixels."""
        pairs = list(zip(sizes[::2], sizes[1::2], strict=True))
        if len(pairs) not in self._around:
            self._calibrate(len(pairs))
        text = self._num_tokens(self._text(problem, len(pairs))) + self._around[len(pairs)]
        return PromptSize(text, sum(self._image_tokens(*pair) for pair in pairs))

    def _calibrate(self, num_pictures: int) -> None:
        images = [Image.new("RGB", (_PROBE_SIDE, _PROBE_SIDE))] * num_pictures
        text = self._text("?", num_pictures)
        ids = self._processor(text=[text], images=[images], return_tensors="np")["input_ids"]
        counted = self._num_tokens(text) + num_pictures * self._image_tokens(_PROBE_SIDE, _PROBE_SIDE)
        self._around[num_pictures] = len(ids[0]) - counted

    def _num_tokens(self, text: str) -> int:
        return len(self._processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _text(self, problem: str, num_pictures: int) -> str:
        messages = build_messages(neutralise(problem, self._markers), self._system_prompt, num_pictures)
        return self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _can_count(self) -> bool:
        """True if `_image_tokens` is correct for this processor.

        For tiled pictures (SmolVLM) it is if the longest edge is a whole number of tiles, as in published models.
        """
        if not self._is_tiled:
            return hasattr(self._processor, "_get_num_multimodal_tokens")
        images = self._processor.image_processor
        return not images.size["longest_edge"] % images.max_image_size["longest_edge"]

    def _image_tokens(self, width: int, height: int) -> int:
        if (width, height) not in self._by_size:
            count = self._count_tiled if self._is_tiled else self._count_patches
            self._by_size[width, height] = count(width, height)
        return self._by_size[width, height]

    def _count_patches(self, width: int, height: int) -> int:
        return self._processor._get_num_multimodal_tokens(image_sizes=[(height, width)])["num_image_tokens"][0]

    def _count_tiled(self, width: int, height: int) -> int:
        _, rows, columns = self._processor.image_processor.get_number_of_image_patches(height, width, {})
        placeholder = self._processor.replace_image_token({"rows": [[rows]], "cols": [[columns]]}, 0)
        return self._num_tokens(placeholder)
