"""Makes or updates the Space: `python -m training deploy OWNER/NAME [--dry-run]`.

It says first what it will do and what that costs an hour, asks, and does only what differs: safe to repeat. space.yaml
says what the Space is; its files are those that git tracks here, in one commit.

    python -m training deploy me/lookthink --dry-run
    LOOKTHINK_SPACE_TOKEN=hf_… python -m training deploy me/lookthink     # a token of its own for the Space
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from inference.errors import UserError
from inference.space_file import HUB_ID, SPACE_YAML, SpaceFile, read_space_file
from training.hub_words import hub_errors, limit_waiting, said
from training.space import front_matter
from training.space.checkout import ROOT, Checkout, digest, read_checkout
from training.space.hub import SpaceOnHub
from training.space.plan import FREE_HARDWARE, STATE_FOLDER, Found, Step, Wanted, plan
from training.space.prices import Prices

SPACE_TOKEN = "LOOKTHINK_SPACE_TOKEN"
"""The variable with the token that the Space gets; without it, the one that deploys."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("space", metavar="OWNER/NAME", help="the Space to make or to update")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and what it costs; do nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--private", action="store_true", help="a new Space is seen by its owner only")
    parser.add_argument(
        "--renew-token", action="store_true", help="give the Space its token again, where it has one already"
    )


def main(args: argparse.Namespace, ask: Callable[[str], str] | None = None) -> int:
    """Plan, ask, do; `ask` is how to ask at the terminal, where there is one."""
    limit_waiting()
    file, checkout = read_space_file(ROOT / SPACE_YAML.name), read_checkout(ROOT)
    wanted = wanted_of(args.space, file, checkout, private=args.private, renew_token=args.renew_token)
    hub = SpaceOnHub(wanted, checkout, *_tokens())
    found = hub.look()
    steps = plan(wanted, found)
    print("\n".join(_words(wanted, file, checkout, found, steps)))
    if found.exists and not found.is_ours:
        raise UserError(
            f"{wanted.space} is a Space of something else: it has no space.yaml. Take another name, or delete it first."
        )
    if args.dry_run or not steps:
        return 0
    if not args.yes:
        _confirm(ask or _terminal())
    for number, step in enumerate(steps, 1):
        print(f"{number}/{len(steps)} {step.words} …", flush=True)
        hub.do(step)
    print(f"Done. {address_of(wanted.space)}")
    return 0


def wanted_of(
    name: str, file: SpaceFile, checkout: Checkout, *, private: bool = False, renew_token: bool = False
) -> Wanted:
    """What space.yaml and the checkout ask for. Raises `UserError`."""
    if not HUB_ID.fullmatch(name):
        raise UserError(f"{name!r} is no name of a Space; write OWNER/NAME.")
    if (checkout.folder / "README.md").read_text(encoding="utf-8") != front_matter.made(checkout.folder):
        raise UserError("README.md's block for the Hub is not that of space.yaml. Run make space, and commit both.")
    bucket = file.training.bucket or f"{name}-state"
    return Wanted(
        space=name,
        files={path: digest(checkout.path(path).read_bytes()) for path in checkout.files},
        hardware=file.space.hardware,
        sleep_seconds=file.space.sleep_minutes * 60 or -1,
        bucket=bucket,
        variables={"LOOKTHINK_STATE": STATE_FOLDER, "LOOKTHINK_BUCKET": bucket},
        private=private,
        renew_token=renew_token,
    )


def address_of(space: str) -> str:
    """Where its page is."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/spaces/{space}"


def _tokens() -> tuple[str, str]:
    """The token that deploys, and the one that the Space gets."""
    from huggingface_hub import get_token, whoami

    own = get_token()
    if not own:
        raise UserError(
            "There is no token of the Hub here. Run `hf auth login`, or set HF_TOKEN to a token that may write."
        )
    given = os.environ.get(SPACE_TOKEN, "").strip() or own
    for token, what in {own: "The token here", given: SPACE_TOKEN if given != own else "The token here"}.items():
        try:
            about = whoami(token)
        except hub_errors() as error:
            raise UserError(f"{what} could not be tried: {said(error)}. Nothing was changed.") from error
        if ((about.get("auth") or {}).get("accessToken") or {}).get("role") == "read":
            raise UserError(f"{what} may only read. Make one that may write, at the Hub under Access Tokens.")
    return own, given


def _words(wanted: Wanted, file: SpaceFile, checkout: Checkout, found: Found, steps: list[Step]) -> list[str]:
    """The plan as it is shown."""
    lines = [f"LookThink {checkout.commit} to the Space {wanted.space}"]
    lines += [f"  {number}. {step.words}" for number, step in enumerate(steps, 1)]
    if not steps:
        lines.append("  Nothing to do: all is as space.yaml and the checkout say.")
    if checkout.changed:
        lines.append(f"Changed since that commit, and deployed as they stand: {', '.join(checkout.changed)}.")
    if any(step.kind in ("create", "secret") for step in steps):
        whose = SPACE_TOKEN if os.environ.get(SPACE_TOKEN, "").strip() else "this login"
        lines.append(f"The secret is the token of {whose}; the Space publishes, trains and stays awake with it.")
    if found.stage == "PAUSED":
        lines.append(f"The Space is paused; start it again on its page, {address_of(wanted.space)}.")
    return lines + cost_words(wanted.hardware, file, Prices())


def cost_words(hardware: str, file: SpaceFile, prices: Prices) -> list[str]:
    """What it costs an hour: the Space, and a run."""
    awake = f"Cost: {hardware}, {prices.of_spaces().words(hardware)}"
    if hardware != FREE_HARDWARE:
        minutes = file.space.sleep_minutes
        awake += " while it is awake, and nothing while it sleeps" if minutes else ", day and night: sleep_minutes is 0"
    lines = [awake + "."]
    if file.training.trainer == "job":
        job = file.training.job_hardware
        lines.append(f"A run is a Job on {job}: {prices.of_jobs().words(job)} besides, while it trains.")
    else:
        lines.append("A run trains in the Space, which stays awake for it.")
    return lines


def _terminal() -> Callable[[str], str]:
    if not sys.stdin.isatty():
        raise UserError("Nothing was done: there is no terminal to ask at. Add --yes to go on without asking.")
    return input


def _confirm(ask: Callable[[str], str]) -> None:
    if ask("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("Nothing was done.")
