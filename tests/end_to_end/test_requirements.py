"""The requirements resolve for the Python of a Space, also with what the Hub installs beside them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from training.hub.space.readme_block import PYTHON_VERSION, ROOT, gradio_version

OF_THE_HUB = ("gradio[oauth,mcp]=={}", "uvicorn>=0.14.0", "websockets>=10.4", "spaces")
"""What the Hub's build of a Gradio Space adds to requirements.txt."""


@pytest.mark.torture
@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")
@pytest.mark.parametrize("names", [["requirements.txt"], ["requirements.txt", "requirements-dev.txt"]])
def test_they_resolve(names: list[str], tmp_path: Path) -> None:
    files = [ROOT / name for name in names]
    if names == ["requirements.txt"]:
        added = tmp_path / "hub.in"
        pinned = gradio_version(files[0].read_text(encoding="utf-8"))
        added.write_text("\n".join(OF_THE_HUB).format(pinned))
        files.append(added)
    command = ["uv", "pip", "compile", "--quiet", "--python-version", PYTHON_VERSION, "--output-file"]
    done = subprocess.run(
        [*command, str(tmp_path / "out"), *map(str, files)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "gradio==" in (tmp_path / "out").read_text()
