"""Makes or updates the Space: `python -m training deploy OWNER/NAME [--dry-run]`.

It prints a plan with the price an hour, asks, and carries out only the steps that are missing, so it can be repeated.
space.yaml describes the Space; its files are those that git tracks here, in one commit.

    python -m training deploy me/lookthink --dry-run
    LOOKTHINK_SPACE_TOKEN=hf_… python -m training deploy me/lookthink     # a token of its own for the Space
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from inference.common.errors import UserError
from inference.common.hub_errors import limit_waiting
from inference.common.hub_names import is_hub_name
from inference.common.space_file import SPACE_YAML, STARTER_NAME, SpaceFile, read_space_file
from training.hub.space import readme_block
from training.hub.space.apply import SpaceOnHub
from training.hub.space.plan import (
    ROOT,
    STATE_FOLDER,
    Checkout,
    Deployment,
    SpaceState,
    Step,
    digest,
    plan,
    read_checkout,
)
from training.hub.space.prices import Prices
from training.hub.space.setup import address_of, token_here, token_trouble
from training.hub.space.ways import comparison

SPACE_TOKEN = "LOOKTHINK_SPACE_TOKEN"
"""The variable with the token that the Space gets; without it, the one that deploys."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("space", metavar="OWNER/NAME", help="the Space to make or to update")
    parser.add_argument("--dry-run", action="store_true", help="print the plan with its prices, and do nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--private", action="store_true", help="make a new Space that only its owner can see")
    parser.add_argument("--renew-token", action="store_true", help="set the Space's token again, even if it has one")


def main(args: argparse.Namespace, ask: Callable[[str], str] | None = None) -> int:
    """Prints the plan, asks, carries it out; `ask` replaces the question at the terminal."""
    limit_waiting()
    file, checkout = read_space_file(ROOT / SPACE_YAML.name), read_checkout(ROOT)
    deployment = deployment_of(args.space, file, checkout, private=args.private, renew_token=args.renew_token)
    hub = SpaceOnHub(deployment, checkout, *_tokens())
    state = hub.look()
    if state.exists and not state.is_ours:
        raise UserError(
            f"{deployment.space} is another Space, since it has no space.yaml. Choose another name, or delete it first."
        )
    steps = plan(deployment, state)
    print("\n".join(_plan_lines(deployment, file, checkout, state, steps)))
    if args.dry_run or not steps:
        return 0
    if not args.yes:
        _confirm(ask or _terminal())
    for number, step in enumerate(steps, 1):
        print(f"{number}/{len(steps)} {step.words} …", flush=True)
        hub.do(step)
    if missing := plan(replace(deployment, renew_token=False), hub.look()):  # a proxy may answer with success
        raise UserError(
            f"The Hub accepted every step, but does not show them all yet; missing: "
            f"{'; '.join(step.words for step in missing)}. Run the same command again in a minute."
        )
    print(f"Done. {address_of(deployment.space)}")
    return 0


def deployment_of(
    name: str, file: SpaceFile, checkout: Checkout, *, private: bool = False, renew_token: bool = False
) -> Deployment:
    """The deployment that space.yaml and the checkout ask for. Raises `UserError`."""
    if not is_hub_name(name):
        raise UserError(f"{name[:200]!r} is not a name of a Space; write OWNER/NAME.")
    if (checkout.folder / "README.md").read_text(encoding="utf-8") != readme_block.expected_readme(checkout.folder):
        raise UserError("README.md's block for the Hub differs from space.yaml. Run make space, and commit both.")
    named = {"model.base": file.model.base, "model.adapter": file.model.adapter}
    for key, value in (named | {"training.dataset": file.training.dataset}).items():
        _check_is_there(key, value, checkout)
    bucket = file.training.bucket or f"{name}-state"
    if not is_hub_name(bucket):
        raise UserError(f"{bucket!r} is too long a name for its bucket; name one under training in space.yaml.")
    return Deployment(
        space=name,
        files={path: digest(checkout.path(path).read_bytes()) for path in checkout.files},
        hardware=file.space.hardware,
        sleep_seconds=file.space.sleep_minutes * 60 or -1,
        bucket=bucket,
        variables={"LOOKTHINK_STATE": STATE_FOLDER, "LOOKTHINK_BUCKET": bucket},
        private=private,
        renew_token=renew_token,
    )


def _check_is_there(key: str, value: str | None, checkout: Checkout) -> None:
    """Raises `UserError` for a path of this machine that git does not track: the Space would not have it."""
    path = Path(value or "").expanduser()
    if value in (None, STARTER_NAME) or not path.exists():
        return
    inside = f"{os.path.normpath(path)}/"
    if path.is_absolute() or not any(f"{name}/".startswith(inside) for name in checkout.files):
        raise UserError(
            f"{key} in space.yaml is {value}, a {'folder' if path.is_dir() else 'file'} of this machine that the Space "
            "would not have. Publish it on the Hub and name it owner/name, or track it in git."
        )


def _tokens() -> tuple[str, str]:
    """The token that deploys, and the one for the Space."""
    own = token_here()
    if not own:
        raise UserError(
            "There is no token of the Hub here. Run `hf auth login`, or set HF_TOKEN to a token that may write."
        )
    of_space = os.environ.get(SPACE_TOKEN, "").strip() or own
    for token, what in {own: "The token here", of_space: SPACE_TOKEN if of_space != own else "The token here"}.items():
        trouble = token_trouble(token)
        if trouble.network:
            raise UserError(f"{what} could not be tested: {trouble.network}. Nothing was changed.")
        if trouble.token:
            raise UserError(
                f"{what} cannot be used: {trouble.token}. Make one that may write, at the Hub under Access Tokens. "
                "Nothing was changed."
            )
    return own, of_space


def _plan_lines(
    deployment: Deployment, file: SpaceFile, checkout: Checkout, state: SpaceState, steps: list[Step]
) -> list[str]:
    """The plan as lines of text."""
    lines = [f"LookThink {checkout.commit} to the Space {deployment.space}"]
    lines += [f"  {number}. {step.words}" for number, step in enumerate(steps, 1)]
    if not steps:
        lines.append("  Nothing to do: the Space is up to date.")
    if checkout.changed:
        lines.append(f"Changed since that commit, and deployed as they stand: {', '.join(checkout.changed)}.")
    if any(step.kind in ("create", "secret") for step in steps):
        whose = SPACE_TOKEN if os.environ.get(SPACE_TOKEN, "").strip() else "this login"
        lines.append(f"The secret is the token of {whose}; the Space publishes, trains and stays awake with it.")
    if state.exists and deployment.private and not state.is_private:
        lines.append(
            f"The Space is public and stays so: --private is for a new one. Make it private on its page, "
            f"{address_of(deployment.space)}, under Settings."
        )
    if state.bucket_is_public:
        lines.append(f"The bucket {deployment.bucket} is public: everybody can read the runs in it, pictures included.")
    if state.stage == "PAUSED":
        lines.append(f"The Space is paused; start it again on its page, {address_of(deployment.space)}.")
    return lines + comparison(file, Prices())


def _terminal() -> Callable[[str], str]:
    if not sys.stdin.isatty():
        raise UserError("Nothing was done: there is no terminal to ask at. Add --yes to go on without asking.")
    return input


def _confirm(ask: Callable[[str], str]) -> None:
    if ask("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("Nothing was done.")
