"""The strip of example pictures to click."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from PIL import Image

from inference.server.service import Example

THUMBNAIL_PIXELS = 112
"""Side of a thumbnail; it is shown at half of that, for sharp screens."""
EXAMPLES_JS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-index]');
  if (button) trigger('select', { index: Number(button.dataset.index) });
});
"""


def examples_html(examples: Sequence[Example]) -> str:
    """A button with a thumbnail for each example, named by its question."""
    buttons = "".join(
        f'<button type="button" data-index="{i}" title="{html.escape(example.question)}">'
        f'<img src="{_thumbnail(example.image)}" alt="Example: {html.escape(example.question)}" '
        f'width="{THUMBNAIL_PIXELS // 2}" height="{THUMBNAIL_PIXELS // 2}"></button>'
        for i, example in enumerate(examples)
    )
    return f'<div class="lt-examples" role="group" aria-label="Examples">{buttons}</div>'


def _thumbnail(image: Image.Image) -> str:
    """The picture, small, as a data address."""
    small = image.convert("RGB").resize((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=82)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
