"""Makes the statistics of the pictures that the starter knows: `python -m training.starter.known_pictures [FOLDER]`.

They are of the weights in the folder (`inference/starter` by default): run it again after every change of these. It
takes about four minutes on one core. `inference.model.known_pictures` says what the statistics are.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch

from inference.common.files import write_whole
from inference.common.settings import STARTER
from inference.engine.engine import Engine
from inference.model.known_pictures import FILE, WEIGHTS, KnownPictures, pooled
from training.starter.problems import iterate_problems

NUM_PICTURES = 6_000
"""Pictures of the train split that the statistics are of."""
NUM_HELD_OUT = 3_000
"""Pictures of the test split that the limit is of."""
_BATCH = 48


def features_of(engine: Engine, split: str, count: int, seed: int) -> torch.Tensor:
    """Pooled features (count, D) of new pictures of a split."""
    problems = iterate_problems(split, seed)
    rows: list[torch.Tensor] = []
    while len(rows) < count:
        images = [problem.image for problem in itertools.islice(problems, min(_BATCH, count - len(rows)))]
        rows += [pooled(encoding.features) for encoding in engine.encode(images)]
    return torch.stack(rows)


def make(folder: Path, num_pictures: int = NUM_PICTURES, num_held_out: int = NUM_HELD_OUT, seed: int = 77) -> None:
    """Writes the statistics beside the weights in a folder."""
    engine = Engine.load(folder)
    pictures = features_of(engine, "train", num_pictures, seed)
    known = KnownPictures.fit(pictures, features_of(engine, "test", num_held_out, seed))
    write_whole(folder / FILE, known.to_bytes(folder / WEIGHTS))


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else STARTER)
