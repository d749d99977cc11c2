"""The adapters on this machine: `python -m training adapters` lists them, `promote` puts another one into service,
`merge ADAPTER FOLDER` writes one and its base as one model.

    python -m training promote RUN_OR_FOLDER      # or owner/name, or owner/name@revision of the Hub
    python -m training promote owner/name --try-prompts
    python -m training promote owner/name --system-prompt r1
    python -m training promote owner/name --same-base
    python -m training promote --roll-back

After a promotion the lines say what the adapter before and the new one answer to the pinned questions, what broke, and
what else changed. One whose repository does not say its system prompt is promoted with the one that is chosen. An
adapter on the Hub is fetched, checked and served from its copy. A running app changes to a promoted adapter within two
seconds; answers under way end on the adapter they began with.
"""

from __future__ import annotations

import argparse
import getpass
import textwrap
from pathlib import Path

from inference.adapters.catalog import Version, adapter_versions
from inference.adapters.hub_cache import hub_name
from inference.adapters.hub_fetch import fetch_adapter
from inference.adapters.record import comparison_of, comparison_text, read_record
from inference.adapters.served import Serving, promote, roll_back, serving
from inference.adapters.versions import PromptUnknown
from inference.common.errors import UserError
from inference.common.settings import STARTER_NAME, Settings, load_settings
from inference.model.lora_file import CONFIG_FILE
from inference.prompt.system_prompt import NAMED_PROMPTS, chosen_prompt, prompt_text, prompts_with
from training.hub.publish.licence import licence_words
from training.hub.publish.merged import write_merged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command that the parser is for, by the last word of its name."""
    command = parser.prog.rpartition(" ")[2]
    parser.set_defaults(run={"promote": _promote, "merge": _merge}.get(command, _list))
    if command == "merge":
        parser.add_argument("adapter", metavar="ADAPTER", help="a run, a version, or an adapter's folder")
        parser.add_argument(
            "folder", type=Path, help="that the model is written to; it must not exist yet, or be empty"
        )
        parser.add_argument("--base", help="the base, where it is not that of the adapter's own settings")
    if command == "promote":
        parser.add_argument(
            "adapter",
            nargs="?",
            metavar="ADAPTER",
            help="a run, a version, an adapter's folder, or owner/name[@revision] of the Hub",
        )
        parser.add_argument(
            "--system-prompt",
            metavar="PROMPT",
            help=f"of an adapter that does not say its own: {', '.join(NAMED_PROMPTS)}, a text file, or a text",
        )
        parser.add_argument(
            "--try-prompts", action="store_true", help="ask it a few problems under each prompt, and promote nothing"
        )
        parser.add_argument(
            "--same-base",
            action="store_true",
            help="the base that its settings name is the one here under another name; its shapes are checked",
        )
        parser.add_argument("--roll-back", action="store_true", help="serve the adapter before this one again")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    return args.run(args)


def listing(now: Serving, versions: list[Version]) -> str:
    """The served adapter, then a paragraph for each adapter."""
    since = f" since {now.since}, by {now.by}" if now.since else ""
    lines = [f"served: {now.name or 'the base alone'}{since}"]
    if now.notice:
        lines.append(_wrapped(now.notice))
    for version in versions:
        marks = [word for word, holds in (("served", version.is_served), ("before", version.is_before)) if holds]
        facts = [version.origin, *marks, *([version.scores] if version.scores else [])]
        if version.promoted_at:
            facts.append(f"promoted {version.promoted_at} by {version.promoted_by}")
        lines.append(f"\n{version.name}: {', '.join(facts)}")
        lines += [_wrapped(text) for text in (version.verdict, version.problem) if text]
    return "\n".join(lines)


def find_adapter(adapter: str, home: Path) -> Path:
    """The folder of an adapter, given by its path, its run, or its name in the list. Raises `UserError`."""
    folders = _adapter_folders(adapter, home)
    if not folders:
        raise UserError(f"there is no run and no adapter {adapter!r}; `python -m training adapters` lists them")
    return folders[0]


def is_here(adapter: str, home: Path) -> bool:
    """True if `find_adapter` finds it; else a name with a slash is one on the Hub."""
    return bool(_adapter_folders(adapter, home))


def _list(args: argparse.Namespace) -> int:
    settings = load_settings()
    now = serving(settings)
    print(listing(now, adapter_versions(settings, now)))
    return 0


def _merge(args: argparse.Namespace) -> int:
    """Writes an adapter and its base as one model, which needs no PEFT."""
    settings = load_settings(has_gpu=False)
    adapter = find_adapter(args.adapter, settings.home)
    base = args.base or read_record(adapter).base or settings.base
    print(licence_words(STARTER_NAME if base == STARTER_NAME else base), flush=True)
    write_merged(base, adapter, args.folder)
    print(f"{adapter.name} merged into {base}: {args.folder}")
    return 0


def _promote(args: argparse.Namespace) -> int:
    """Promotes or rolls back, and prints the served adapter; or tries prompts."""
    if bool(args.adapter) == args.roll_back:
        raise UserError("name one run or adapter to promote, or give --roll-back alone")
    settings = load_settings()
    home, by = settings.home, f"{getpass.getuser()}, on the command line"
    if args.roll_back:
        now = roll_back(home, by)
    else:
        on_hub = hub_name(args.adapter) is not None and not is_here(args.adapter, home)
        base = None if args.same_base else settings.base
        folder = fetch_adapter(args.adapter, home, base) if on_hub else find_adapter(args.adapter, home)
        chosen = prompt_text(chosen_prompt(args.system_prompt)) if args.system_prompt is not None else None
        if args.try_prompts:
            return _try_prompts(settings, folder, chosen)
        if comparison := comparison_of(folder):
            print(comparison_text(comparison))
        try:
            now = promote(home, folder, by, system_prompt=chosen, same_base=args.same_base)
        except PromptUnknown as error:
            options = "--try-prompts shows a few problems under each; --system-prompt r1, for example, chooses one"
            raise UserError(f"{error} ({options}.)") from error
    print(f"served from now on: {now.name or 'the base alone'}", flush=True)
    if not args.roll_back:
        _tell_what_broke(settings)
    return 0


def _tell_what_broke(settings: Settings) -> None:
    """Prints what the new adapter and the one before it say; the promotion stands whatever becomes of that."""
    from training.learn.asking import answers_here  # torch, which promoting does not need

    if text := answers_here(settings):
        print(text)


def _try_prompts(settings: Settings, folder: Path, chosen: str | None) -> int:
    """Prints the side-by-side of the named prompts, and of the chosen one."""
    from inference.engine.engine import Engine  # torch, which promoting does not need
    from training.evaluation.prompt_trial import trial_problems, trials_text, try_prompts

    engine = Engine.load(settings.base)
    problems = trial_problems(settings.is_starter)
    print(trials_text(try_prompts(engine, engine.generate, folder, problems, prompts_with(chosen))))
    return 0


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="  ")


def _adapter_folders(adapter: str, home: Path) -> list[Path]:
    path = Path(adapter).expanduser()
    plain = len(path.parts) == 1
    run = adapter.removesuffix("-adapter")
    folders = [path, path / "adapter"]
    folders += (
        [home / "adapters" / adapter, *(home / "runs" / name / "adapter" for name in (adapter, run))] if plain else []
    )
    return [folder for folder in folders if (folder / CONFIG_FILE).is_file()]
