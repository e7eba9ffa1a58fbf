"""What class trainables put into a checkpoint directory, and get from it."""

from __future__ import annotations

import os
from typing import Any

from milepost.worker.protocol import dump, load

DICT_NAME = "_dict_checkpoint.pkl"


def write(saved: Any, directory: str, owner: str) -> None:
    """Complete a checkpoint directory with what ``save_checkpoint`` returned.

    Args:
        saved: a dict, which is pickled; or ``directory`` or None when files are there already.
        directory: what ``save_checkpoint`` was given.
        owner: name of the class, for messages.

    Raises:
        ValueError: it returned another path, or something else.
    """
    if isinstance(saved, dict):
        with open(os.path.join(directory, DICT_NAME), "wb") as file:
            file.write(dump(saved))
    elif isinstance(saved, str | os.PathLike):
        if os.path.realpath(saved) != os.path.realpath(directory):
            raise ValueError(
                f"{owner}.save_checkpoint() must return the directory that it was given, "
                f"{directory!r}, but returned {os.fspath(saved)!r}. Write the files into that "
                "directory."
            )
    elif saved is not None:
        raise ValueError(
            f"{owner}.save_checkpoint() must return a dict, the directory that it was given, or "
            f"None, but returned {type(saved).__name__}."
        )


def read(directory: str) -> Any:
    """What ``load_checkpoint`` is given: the dict if there is one, else the directory."""
    path = os.path.join(directory, DICT_NAME)
    if not os.path.exists(path):
        return directory
    with open(path, "rb") as file:
        return load(file.read())


def committed_metrics(directory: str) -> dict[str, Any]:
    """The result row in a checkpoint's manifest; empty for a directory without one."""
    from milepost.checkpoint import manifest
    from milepost.storage import codec

    if not os.path.exists(os.path.join(directory, manifest.MANIFEST_NAME)):
        return {}
    row: dict[str, Any] = codec.preview(manifest.read(directory).metrics)
    return row
