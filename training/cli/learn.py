"""`python -m training learn`: writes the record of what a run's training changed, which the page shows under Learn."""

from __future__ import annotations

import argparse
from pathlib import Path

from inference.adapters.versions import update_records
from inference.common.errors import UserError
from inference.common.settings import STARTER, STARTER_NAME, base_source, load_settings
from inference.engine.engine import Engine
from training.evaluation.compare import validation_rows
from training.evaluation.evaluate import MIN_TOKENS, completion_limit
from training.evaluation.held_out import load_held_out
from training.learn.record import MAX_CHANGES, Recorder, kept_checkpoints, shipped_checkpoints
from training.runs.folder import RunFolder
from training.runs.store import RunStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run or its folder; without one, the shipped adapter")
    parser.add_argument("--rows", type=int, default=MAX_CHANGES, help=f"test rows, at most {MAX_CHANGES}")
    parser.add_argument("--strengths", type=int, default=0, metavar="ROWS", help="validation rows for the strengths")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    if not 1 <= args.rows <= MAX_CHANGES:
        raise UserError(f"--rows is {args.rows}; give 1 to {MAX_CHANGES}")
    config = None
    if args.run is None:
        base, revision, data, limit, adapter = STARTER_NAME, None, None, MIN_TOKENS, STARTER / "adapter"
        checkpoints = shipped_checkpoints()
    else:
        path = Path(args.run) if Path(args.run).is_dir() else RunStore(load_settings().home).get(args.run).folder
        folder, config = RunFolder.open(path)
        base, revision, data, adapter = config.base, config.base_revision, config.data, folder.adapter
        limit, checkpoints = completion_limit(config), kept_checkpoints(folder)
    test = load_held_out(data, "test", args.rows).rows
    validation = None
    if args.strengths:
        shipped = load_held_out(None, "validation", args.strengths).rows
        validation = validation_rows(config, None, args.strengths) if config else shipped
        if validation is None:
            raise UserError(f"{args.run} has no validation rows, so no strengths can be asked; leave --strengths out")
    engine = Engine.load(base_source(base), revision=revision)
    recorder = Recorder(
        engine, adapter, test, max_new_tokens=limit, tolerance=data.tolerance if data else 0.0, progress=True
    )
    recorder.write_replay(recorder.write_changes(), checkpoints)
    if validation is not None:
        recorder.write_strengths(validation)
    print(f"what the training of {adapter} changed: {recorder.folder}")
    for name in update_records(load_settings().home, adapter):
        print(f"copied beside {name}, which is the same adapter")
    return 0
