"""The tokenizer: prompts in the model's own chat template to token ids, and new tokens back to text.

Typed text stays text to the tokenizer: chat markers in it are broken (`inference.prompt.format.neutralise`).
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inference.common.errors import UserError
from inference.model.request import Request
from inference.prompt.format import THINK_PROMPT, build_messages, neutralise

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase, ProcessorMixin


@dataclass(frozen=True)
class Vocabulary:
    """The token ids that steer generation."""

    image: int
    pad: int
    ends: frozenset[int]
    """Any of these ends a completion."""
    suppressed: tuple[int, ...]
    """Never generated: picture, video and padding tokens, and rows of the embedding that no token has."""


class ChatTokenizer:
    """A processor's tokenizer with its chat template and vocabulary."""

    def __init__(
        self, processor: ProcessorMixin, config: PreTrainedConfig, generation_config: GenerationConfig
    ) -> None:
        """Raises `UserError` for a base whose template or vocabulary cannot be served."""
        self.processor = processor
        self.hf_tokenizer: PreTrainedTokenizerBase = processor.tokenizer
        vocabulary, added = self.hf_tokenizer.get_vocab(), self.hf_tokenizer.get_added_vocab()
        self._check_letters(set().union(*(vocabulary.keys() - added.keys())))
        self.vocabulary = _read_vocabulary(self.hf_tokenizer, config, generation_config)
        self.markers = chat_markers(self.hf_tokenizer)
        self._special_ids = frozenset(self.hf_tokenizer.convert_tokens_to_ids(list(self.markers)))
        self._image_marker = str(self.hf_tokenizer.convert_ids_to_tokens(self.vocabulary.image))
        self._bytes: dict[int, bytes] = {}
        self._check_template()

    def prompt_ids(self, request: Request, placeholders: Sequence[str]) -> list[int]:
        """The request's prompt with a placeholder for each of its pictures, the assistant's turn opened and the prefix
        begun. Raises `UserError` if the base's template does not write that many pictures."""
        text = self._prompt(self.safe_text(request.question), request.system_prompt, len(placeholders))
        first, *rest = text.split(self._image_marker)
        if len(rest) != len(placeholders):
            raise UserError(
                f"The base's chat template writes {len(rest)} of the {len(placeholders)} pictures; ask about "
                "one, or choose another base."
            )
        text = first + "".join(picture + part for picture, part in zip(placeholders, rest))
        return self._encode(text) + self.prefix_ids(request)

    def prefix_ids(self, request: Request) -> list[int]:
        """The tokens of the request's prefix."""
        return self._encode(self.safe_text(request.prefix)) if request.prefix else []

    def prefix_pieces(self, prefix: str) -> list[str]:
        """The text of each token of a request's prefix; a character that tokens share belongs to the last of them."""
        stream = TextStream(self)
        return [stream.feed(token) for token in self._encode(self.safe_text(prefix))]

    def safe_text(self, text: str) -> str:
        """`text` without chat markers, control characters and lone surrogates."""
        return neutralise(text.encode("utf-8", "replace").decode("utf-8"), self.markers)

    def check_is_text(self, system_prompt: str) -> None:
        """Raises `UserError` for an adapter's system prompt that contains a special token."""
        if marker := next((marker for marker in self.markers if marker and marker in system_prompt), None):
            raise UserError(f"The adapter's system prompt has {marker!r}, a special token of this base. Take it out.")

    def token_bytes(self, token_id: int) -> bytes:
        """The UTF-8 bytes of one token, which may end or begin within a character; none for special tokens."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._look_up(token_id)
        return known

    def _has_byte_letters(self, letters: set[str]) -> bool:
        """True if the characters of all tokens are those by which byte-level BPE writes bytes."""
        return letters <= _BYTE_OF.keys()

    def _check_letters(self, letters: set[str]) -> None:
        """Raises `UserError` for a vocabulary whose text cannot be streamed."""
        if not self._has_byte_letters(letters):
            raise UserError(
                f"The base's tokenizer has tokens with {min(letters - _BYTE_OF.keys())!r}: it is not a byte-level BPE, "
                "the only kind whose text can be streamed here. Choose another base."
            )

    def _prompt(self, question: str, system_prompt: str | None, num_pictures: int = 1) -> str:
        messages = build_messages(question, system_prompt, num_pictures)
        return str(self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _check_template(self) -> None:
        """The chat template must accept each kind of prompt and write the picture's marker once."""
        for system_prompt in (None, THINK_PROMPT):
            try:
                count = self._prompt("?", system_prompt).count(self._image_marker)
            except Exception as error:  # the template is a program of the base's own, and may raise anything
                raise UserError(f"The base's chat template fails: {error} Choose an instruct model.") from error
            if count != 1:
                raise UserError(
                    f"The base's chat template writes {self._image_marker} {count} times for one picture; it has to "
                    "be once. Choose an instruct model."
                )

    def _encode(self, text: str) -> list[int]:
        return self.hf_tokenizer(text, add_special_tokens=False).input_ids

    def _look_up(self, token_id: int) -> bytes:
        token = self.hf_tokenizer.convert_ids_to_tokens(token_id)
        if token is None or token_id in self._special_ids:
            return b""
        if token_id in self.hf_tokenizer.added_tokens_decoder:
            return str(token).encode("utf-8")
        return bytes(_BYTE_OF[character] for character in token)


def chat_markers(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """The special tokens of a tokenizer, which no typed text may contain (`inference.prompt.format.neutralise`)."""
    added = tokenizer.added_tokens_decoder.values()
    return frozenset(tokenizer.all_special_tokens) | {token.content for token in added if token.special}


class TextStream:
    """Turns one sequence's tokens into text as they come; half a character is held back until it is whole."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.text = ""

    def feed(self, token_id: int) -> str:
        """The new text that this token completes."""
        return self._add(self._decoder.decode(self._tokenizer.token_bytes(token_id)))

    def close(self) -> str:
        """The text held back: a replacement character if the text ends within a character."""
        return self._add(self._decoder.decode(b"", final=True))

    def _add(self, new: str) -> str:
        self.text += new
        return new


def _read_vocabulary(
    tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, generation_config: GenerationConfig
) -> Vocabulary:
    """The ids that steer generation. Raises `UserError` if tokenizer and model do not belong together."""
    ends = generation_config.eos_token_id
    ends = {ends} if isinstance(ends, int) else set(ends or ())
    ends |= {tokenizer.eos_token_id} - {None}
    if not ends:
        raise UserError("The base names no end token: set eos_token_id in its generation_config.json.")
    size = config.get_text_config().vocab_size
    if len(tokenizer) > size:
        raise UserError(
            f"The base's tokenizer has {len(tokenizer):,} tokens and its model {size:,}: they do not belong together. "
            "Take both from the same place."
        )
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    image = getattr(config, "image_token_id", None)
    if image is None:
        raise UserError("The base names no image token: its config.json has no image_token_id. Choose a vision model.")
    suppressed = {getattr(config, name, None) for name in names} | {tokenizer.pad_token_id}
    suppressed |= {tokenizer.get_vocab().get("<|vision_pad|>")}
    suppressed |= set(range(len(tokenizer), size))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends)
    never = {token for token in suppressed if token is not None} - ends
    return Vocabulary(image, pad, frozenset(ends), tuple(sorted(never)))


def _byte_of_characters() -> dict[str, int]:
    """Byte-level BPE writes a byte as a printable character: itself, or one from U+0100 on, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_of_characters()
