"""What has to be known before a run of Weights & Biases can begin: key, project, hooks."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

KEY: Final = "WANDB_API_KEY"
PROJECT: Final = "WANDB_PROJECT_NAME"
GROUP: Final = "WANDB_GROUP_NAME"
#: Import path of a function that returns the key.
KEY_HOOK: Final = "WANDB_SETUP_API_KEY_HOOK"
#: Import path of a function that sets ``WANDB_PROJECT_NAME`` and ``WANDB_GROUP_NAME``.
LOCATION_HOOK: Final = "WANDB_POPULATE_RUN_LOCATION_HOOK"
#: Import path of a function that is given each run that has begun.
RUN_HOOK: Final = "WANDB_PROCESS_RUN_INFO_HOOK"


def refuse_two_keys(api_key_file: str | None, api_key: str | None) -> None:
    """Make sure that there is one source of the key.

    Raises:
        ValueError: both are given.
    """
    if api_key_file and api_key:
        raise ValueError("Give either api_key or api_key_file of Weights & Biases, not both.")


def provide_api_key(api_key_file: str | None, api_key: str | None, mode: str) -> None:
    """Set ``WANDB_API_KEY``, from where a key can be found first.

    That is an argument, the variable itself, ``wandb login``, the hook
    ``WANDB_SETUP_API_KEY_HOOK``.

    Args:
        api_key_file: its first line is the key.
        api_key: the key.
        mode: of wandb; ``"offline"`` and ``"disabled"`` need no key.

    Raises:
        ValueError: there is none.
    """
    if mode in ("offline", "disabled", "dryrun"):
        return
    if api_key_file:
        with open(os.path.expanduser(api_key_file), encoding="utf-8") as file:
            api_key = file.readline().strip()
    if not api_key and not os.environ.get(KEY):
        if _logged_in():
            return
        if hook := _hook(KEY_HOOK):
            api_key = hook()
    if api_key:
        os.environ[KEY] = api_key
    elif not os.environ.get(KEY):
        raise ValueError(
            f"There is no key for Weights & Biases: run `wandb login`, set {KEY} or {KEY_HOOK}, "
            "give api_key or api_key_file, or set WANDB_MODE=offline to log to files."
        )


def project(name: str | None) -> str | None:
    """Return the project: the name, or what the environment or its hook says."""
    if not name and not os.environ.get(PROJECT) and (hook := _hook(LOCATION_HOOK)):
        hook()
    return name or os.environ.get(PROJECT)


def tell_about(run: Any) -> None:
    """Call the hook of ``WANDB_PROCESS_RUN_INFO_HOOK`` with a run that has begun."""
    if hook := _hook(RUN_HOOK):
        hook(run)


def plain(value: Any) -> Any:
    """Return a config as wandb takes it: what JSON cannot hold becomes text."""
    if isinstance(value, Mapping):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(member) for member in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if getattr(value, "size", None) == 1 and hasattr(value, "item"):
        return plain(value.item())
    return str(value)


def _logged_in() -> bool:
    """Whether ``wandb login`` was run; nobody is asked anything."""
    import wandb

    if "prompt" in inspect.signature(wandb.login).parameters:
        return bool(wandb.login(prompt=False))
    return bool(wandb.api.api_key)  # releases that would ask


def _hook(variable: str) -> Any:
    path = os.environ.get(variable)
    if not path:
        return None
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{variable}={path!r} is not the import path of a function, such as "
            f"mypackage.hooks.function ({error})."
        ) from error
