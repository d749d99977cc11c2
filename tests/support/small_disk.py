"""A real disk in memory, of a size that is given and changed, or for reading only."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`small_disk("5m")` mounts it, or gives it another size; `small_disk("ro")` and `small_disk("rw")` afterwards."""
    place = tmp_path / "disk"
    place.mkdir()

    def sized(size: str) -> Path:
        option = size if size in ("ro", "rw") else f"size={size}"
        how = f"remount,{option}" if place.is_mount() else option
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(place)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        return place

    yield sized
    if place.is_mount():
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # what is still open goes with the process


def fill(folder: Path, name: str = "filler") -> None:
    """Fills the disk of a folder to the last byte."""
    with (folder / name).open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
