"""Finds reward functions by name, a user's own by `module:function`, and checks what those return.

    load_reward("accuracy_reward", tolerance=0.01)
    load_reward("my_rewards:brevity_reward")        # `def brevity_reward(completions, **columns)`

A user's own gets every column of the dataset (`RESERVED` names excepted), and may be asynchronous.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import inspect
import math
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from inference.common.errors import UserError
from training.grading.rewards import REWARDS, Completion, Reward

_OF_TRL = (
    "prompt prompts completion completions completion_ids image images environment environments trainer_state "
    "log_extra log_metric"
).split()
RESERVED = frozenset(_OF_TRL).union(*(inspect.signature(function).parameters for function in REWARDS.values()))
"""Names that a dataset's further columns cannot have where reward functions get them: parameters of TRL's and ours."""


def load_reward(name: str, **settings: object) -> Reward:
    """The reward function called `name`, with `settings` (such as `max_tokens`) fixed.

    A `module:function` is imported, so it runs with the rights of the run: name only code you trust. What it returns
    is checked at every call: one number or `None` for each completion, Python's, numpy's or torch's. Its metrics go by
    the function's name.
    Raises `UserError` for an unknown name, a module that cannot be imported, or something that is no reward function.
    """
    check_name(name)
    if name in REWARDS:
        return _with_settings(REWARDS[name], settings) if settings else REWARDS[name]
    return _with_checks(_imported(name), name, settings)


def check_name(name: str) -> None:
    """Raises `UserError` for a name that is neither of ours nor of the form module:function. Imports nothing."""
    if name in REWARDS:
        return
    if ":" not in name:
        raise UserError(f"there is no reward {name!r}; use one of {', '.join(REWARDS)}, or your own as module:function")
    module_name, _, function_name = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), function_name)):
        raise UserError(f"the reward {name!r} is not of the form module:function, such as my_rewards:brevity_reward")


def reward_settings(max_completion_length: int, tolerance: float) -> dict[str, dict[str, object]]:
    """The settings that a run gives to each of our functions that has some, by its name."""
    exactness: dict[str, object] = {"tolerance": tolerance} if tolerance else {}
    return {"accuracy_reward": exactness, "length_reward": {"max_tokens": max_completion_length, **exactness}}


def _imported(name: str) -> Reward:
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything at import; the message says what
        raise UserError(
            f"the reward {name!r} cannot be imported ({type(error).__name__}: {error}); "
            "the module must be installed, or lie in the folder from which the run starts"
        ) from error
    function = getattr(module, function_name, None)
    if function is None:
        raise UserError(f"the module {module_name!r} has no {function_name!r}, which the reward {name!r} names")
    if not callable(function) or inspect.isclass(function):
        raise UserError(f"the reward {name!r} is {type(function).__name__!r}, not a function; name a function")
    if not _takes_columns(function):
        raise UserError(
            f"the reward {name!r} cannot be called as TRL calls it; "
            "define it as `def my_reward(completions, **columns)`, returning a list of one number a completion"
        )
    return function


def _takes_columns(function: Reward) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # built into the interpreter
        return False
    kinds = [parameter.kind for parameter in parameters.values()]
    return "completions" in parameters and inspect.Parameter.VAR_KEYWORD in kinds


def _with_settings(function: Reward, settings: dict[str, object]) -> Reward:
    unknown = set(settings) - set(inspect.signature(function).parameters)
    if unknown:
        raise UserError(f"the reward {function.__name__!r} has no setting {', '.join(sorted(unknown))}")
    return functools.update_wrapper(functools.partial(function, **settings), function)


def _with_checks(function: Reward, name: str, settings: dict[str, object]) -> Reward:
    """The function with its settings, checking what it returns; an async one stays async, as TRL asks."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def reward_async(completions: Sequence[Completion], **columns: object) -> list[float | None]:
            with _named_errors(name):
                returned = await function(completions=completions, **columns | settings)
            return _checked_rewards(returned, name, len(completions))

        return _named(reward_async, name)

    @functools.wraps(function)
    def reward(completions: Sequence[Completion], **columns: object) -> list[float | None]:
        with _named_errors(name):
            returned = function(completions=completions, **columns | settings)
        return _checked_rewards(returned, name, len(completions))

    return _named(reward, name)


@contextlib.contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Raises what a user's reward function raises as a `UserError` that names it and the line; memory errors stay."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"the reward {name!r} raised {type(error).__name__} ({error}) in {Path(last.filename).name}, line "
            f"{last.lineno}; correct it, and try it on a few completions before the run"
        ) from error


def code_digest(name: str) -> str | None:
    """The digest (32 hexadecimal digits) of the file that a user's own reward is in; `None` for ours."""
    if name in REWARDS:
        return None
    path = inspect.getsourcefile(importlib.import_module(name.partition(":")[0]))
    if path is None:
        return None
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:32]


def _named(function: Reward, name: str) -> Reward:
    """A callable object has no name of its own, and TRL's metrics want one."""
    function.__name__ = name.partition(":")[2]
    return function


def _checked_rewards(returned: object, name: str, num_completions: int) -> list[float | None]:
    if hasattr(returned, "tolist"):  # an array of numpy's, a tensor of torch's
        returned = returned.tolist()
    if isinstance(returned, str | bytes) or not isinstance(returned, Sequence):
        raise UserError(f"the reward {name!r} returned {type(returned).__name__!r}; return a list of numbers or None")
    if len(returned) != num_completions:
        raise UserError(
            f"the reward {name!r} returned {len(returned)} rewards for {num_completions} completions; "
            "return one for each"
        )
    return [_number(reward, name) for reward in returned]


def _number(reward: Any, name: str) -> float | None:
    """A reward as Python's number, also one of numpy's or torch's."""
    value = reward
    if hasattr(reward, "item"):
        with contextlib.suppress(ValueError, RuntimeError):  # several numbers are no reward, as the message says
            value = reward.item()
    if value is None:
        return None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"the reward {name!r} returned {reward!r}; each must be a finite number, or None to skip")
    return float(value)
