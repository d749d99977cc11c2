"""Reward functions by name: the project's own, or a user's from `module:function`.

>>> load_reward("format_reward")(["7"])
[0.0]
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from inference.common.errors import UserError
from training.grading.rewards import (
    accuracy_reward,
    format_reward,
    length_reward,
    repetition_reward,
    soft_format_reward,
)

Reward = Callable[..., Any]

REWARDS: dict[str, Reward] = {
    "format_reward": format_reward,
    "accuracy_reward": accuracy_reward,
    "soft_format_reward": soft_format_reward,
    "length_reward": length_reward,
    "repetition_reward": repetition_reward,
}
"""The project's own reward functions."""


def load_reward(name: str, **settings: Any) -> Reward:
    """The reward function called `name`, with `settings` (such as `max_tokens`) fixed.

    A `module:function` is imported, so it runs with the rights of the run: name only code you trust. What it returns
    is checked at every call: one number or `None` for each completion. Its metrics go by the function's name.
    Raises `UserError` for an unknown name, a module that cannot be imported, or something that is no reward function.
    """
    if name in REWARDS:
        return _with_settings(REWARDS[name], settings) if settings else REWARDS[name]
    if ":" not in name:
        raise UserError(f"there is no reward {name!r}; use one of {', '.join(REWARDS)}, or your own as module:function")
    return _checked(_imported(name), name, settings)


def _imported(name: str) -> Reward:
    module_name, _, function_name = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), function_name)):
        raise UserError(f"the reward {name!r} is not of the form module:function, such as my_rewards:brevity_reward")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything at import; the message says what
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


def _with_settings(function: Reward, settings: dict[str, Any]) -> Reward:
    unknown = set(settings) - set(inspect.signature(function).parameters)
    if unknown:
        raise UserError(f"the reward {function.__name__!r} has no setting {', '.join(sorted(unknown))}")
    return functools.update_wrapper(functools.partial(function, **settings), function)


def _checked(function: Reward, name: str, settings: dict[str, Any]) -> Reward:
    """The function with its settings, checking what it returns; an async one stays async, as TRL asks."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def reward_async(completions: Sequence[Any], **columns: Any) -> list[float | None]:
            return _rewards(await function(completions=completions, **columns | settings), name, len(completions))

        return _named(reward_async, name)

    @functools.wraps(function)
    def reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        return _rewards(function(completions=completions, **columns | settings), name, len(completions))

    return _named(reward, name)


def _named(function: Reward, name: str) -> Reward:
    """A callable object has no name of its own, and TRL's metrics want one."""
    function.__name__ = name.partition(":")[2]
    return function


def _rewards(returned: Any, name: str, num_completions: int) -> list[float | None]:
    if isinstance(returned, str | bytes) or not isinstance(returned, Sequence):
        raise UserError(f"the reward {name!r} returned {type(returned).__name__!r}; return a list of numbers or None")
    if len(returned) != num_completions:
        raise UserError(
            f"the reward {name!r} returned {len(returned)} rewards for {num_completions} completions; "
            "return one for each"
        )
    for reward in returned:
        is_number = isinstance(reward, int | float) and math.isfinite(reward)
        if reward is not None and not is_number:
            raise UserError(f"the reward {name!r} returned {reward!r}; each must be a finite number, or None to skip")
    return [None if reward is None else float(reward) for reward in returned]
