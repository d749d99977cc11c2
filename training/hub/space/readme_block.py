"""Writes README.md's block for the Hub from space.yaml: `make space`, or `python -m training.hub.space.readme_block`.

The Hub configures a Space by the block and does not read space.yaml. Gradio's version is that of requirements.txt.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.hub_names import is_hub_name
from inference.common.space_file import ZERO_GPU, SpaceFile, has_gpu, read_space_file

ROOT = Path(__file__).parents[3]
PYTHON_VERSION = "3.11"
"""The oldest version that works; the requirements are tested with it."""
ZERO_GPU_PYTHON_VERSION = "3.12.12"
"""ZeroGPU offers this one and 3.10.13, which is too old."""
SCOPES = ("read-memberships",)
"""A login lets the app see only the memberships: it must know who belongs to the owner of the Space."""
STARTUP_TIMEOUT = "1h"
"""The time to load a base of several gigabytes before the page answers questions."""
_FENCE = "---\n"


def front_matter(file: SpaceFile, requirements: str) -> Json:
    """The block's values, in the order in which they are written."""
    space, base, adapter = file.space, file.model.base, (file.model.adapter or "").split("@")[0]
    on_hub = [name for name in (base, adapter) if is_hub_name(name)]
    values = {
        "title": space.title,
        "emoji": space.emoji,
        "colorFrom": space.color_from,
        "colorTo": space.color_to,
        "sdk": "gradio",
        "sdk_version": gradio_version(requirements),
        "python_version": ZERO_GPU_PYTHON_VERSION if space.hardware == ZERO_GPU else PYTHON_VERSION,
        "app_file": "app.py",
        "short_description": space.short_description,
        "license": space.license,
        "suggested_hardware": space.hardware,
        "startup_duration_timeout": STARTUP_TIMEOUT,
        "hf_oauth": file.admin.oauth,
        "hf_oauth_scopes": list(SCOPES) if file.admin.oauth else None,
        "models": on_hub or None,
        "datasets": [file.training.dataset] if is_hub_name(file.training.dataset) else None,
        # Loaded while the Space is built, so that it answers soon after it was woken.
        "preload_from_hub": [base] if is_hub_name(base) and has_gpu(space.hardware) else None,
    }
    return {key: value for key, value in values.items() if value is not None}


def gradio_version(requirements: str) -> str:
    """The version of Gradio that `requirements` pins."""
    pinned = re.search(r"^gradio(?:\[[\w,]*\])?==([\w.]+)\s*$", requirements, re.MULTILINE)
    if pinned is None:
        raise UserError("requirements.txt pins no version of gradio; write gradio[oauth]==<version>.")
    return pinned[1]


def with_block(readme: str, block: Json) -> str:
    """The README with this block on top instead of its own."""
    body = readme
    if readme.startswith(_FENCE):
        _, fence, rest = readme.removeprefix(_FENCE).partition("\n" + _FENCE)
        if not fence:
            raise UserError("README.md begins with --- and has no second one; close the block, or delete it.")
        body = rest.lstrip("\n")
    written = yaml.safe_dump(block, sort_keys=False, allow_unicode=True, width=110)
    return f"{_FENCE}{written}{_FENCE}\n{body}"


def expected_readme(folder: Path = ROOT) -> str:
    """README.md of a checkout as it should be, by its space.yaml and its requirements.txt."""
    requirements = (folder / "requirements.txt").read_text(encoding="utf-8")
    block = front_matter(read_space_file(folder / "space.yaml"), requirements)
    return with_block((folder / "README.md").read_text(encoding="utf-8"), block)


def main(folder: Path = ROOT) -> int:
    """Writes the block, and prints whether it has changed."""
    readme = folder / "README.md"
    try:
        text = expected_readme(folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    is_new = text != readme.read_text(encoding="utf-8")
    readme.write_text(text, encoding="utf-8")
    print("README.md has a new block for the Hub." if is_new else "README.md's block for the Hub is right.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
