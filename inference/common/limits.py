"""What a visitor may send and ask for: the section `limits` of space.yaml.

>>> DEFAULT_LIMITS.max_new_tokens
1024
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from inference.common.validation import Contradiction, Section


class Limits(Section):
    """What a visitor may send and ask for."""

    max_upload_mb: float = Field(20, gt=0, le=200)
    """Largest picture file, in megabytes of 10^6 bytes."""
    max_pixels: int = Field(50_000_000, ge=1, le=150_000_000)
    """Most pixels of an uploaded picture, before it is scaled down."""
    max_side: int = Field(16_384, ge=28, le=1_000_000)
    """Longest side of an uploaded picture, in pixels."""
    max_aspect: float = Field(50, ge=1, le=190)
    """Longest side over shortest side; the processors of the family refuse 200 and more."""
    max_model_pixels: int = Field(1_003_520, ge=784, le=150_000_000)
    """Pictures are scaled down to at most this many pixels; 784 (28 x 28) make one image token."""
    max_question_chars: int = Field(4_000, ge=1, le=1_000_000)
    """Longest question, in characters."""
    default_new_tokens: int = Field(512, ge=1, le=1_000_000)
    """Length limit of a completion unless the visitor sets one, in tokens."""
    max_new_tokens: int = Field(1_024, ge=1, le=1_000_000)
    """Highest length limit a visitor may set, in tokens."""
    max_waiting: int = Field(24, ge=1, le=32)
    """Questions that may be in line beside a first one, of all visitors, answered already or waiting for a slot of the
    engine; each keeps one of the server's 40 threads."""
    questions_at_once: int = Field(8, ge=1, le=1_000_000)
    """Questions of one visitor that may wait or be answered at a time."""
    questions_per_minute: int = Field(120, ge=1, le=1_000_000)
    """Questions of one visitor in a minute, refused ones included."""
    max_request_kb: float = Field(1_000, ge=16, le=100_000)
    """Largest body of a request that uploads no file, in kilobytes of 10^3 bytes."""
    calls_per_minute: int = Field(600, ge=10, le=1_000_000)
    """Requests with a body (questions, uploads, whatever a click sends) of one visitor in a minute."""
    uploads_mb_per_hour: float = Field(500, gt=0, le=1_000_000)
    """What one visitor may upload in an hour, in megabytes; uploads are deleted after an hour."""
    all_uploads_mb_per_hour: float = Field(5_000, gt=0, le=10_000_000)
    """What all visitors may upload in an hour, in megabytes: twice this bounds the disk they take."""
    connections: int = Field(100, ge=4, le=1_000_000)
    """Requests of one visitor that may be open at a time; an open page keeps one or two."""
    all_connections: int = Field(600, ge=8, le=1_000_000)
    """Requests of all visitors that may be open at a time."""

    @model_validator(mode="after")
    def _default_is_allowed(self) -> Self:
        if self.default_new_tokens > self.max_new_tokens:
            raise Contradiction(
                f"default_new_tokens {self.default_new_tokens} is above max_new_tokens {self.max_new_tokens}",
                "default_new_tokens",
                "max_new_tokens",
            )
        return self


DEFAULT_LIMITS = Limits.model_validate({})
"""The limits of a deployment that sets none."""
