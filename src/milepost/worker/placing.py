"""Where the checkpoints of a run go: the names of their directories, and what is there already."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from milepost.worker.captures import directory_name

if TYPE_CHECKING:
    from milepost.checkpoint.handle import Checkpoint

log = logging.getLogger("milepost.worker")

#: A file system takes 255; a number may follow, and what is damaged or deleted is renamed.
MOST_BYTES: Final = 200


class Placing(NamedTuple):
    """What a report says of the place of its checkpoint.

    Attributes:
        name: of its directory; None for the usual one.
        stays: it lies in the run's directory already and is not copied.
        upload: brings it there: the checkpoint and its name -> what it is there.
    """

    name: str | None = None
    stays: bool = False
    upload: Callable[[Checkpoint, str], Checkpoint] | None = None


def check_name(name: Any, what: str) -> str:
    """Return the name of a directory that a user gave.

    Args:
        name: what was passed.
        what: as what, for the error.

    Raises:
        TypeError: it is no string.
        ValueError: no directory of a run can be called so.
    """
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a string, got {name!r}.")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        problem = "is not UTF-8"
    else:
        if not name:
            problem = "is empty"
        elif "/" in name or "\0" in name:
            problem = "is not one part of a path"
        elif name.startswith("."):
            problem = "begins with a dot, as what is no checkpoint does"
        elif size > MOST_BYTES:
            problem = f"has {size} bytes, of {MOST_BYTES} that it may have"
        else:
            return name
    raise ValueError(
        f"{what} {problem}: {name!r}. Give the plain name of a directory, such as 'epoch-3'; it is "
        "made in the run's own directory. Nothing was reported."
    )


class Names:
    """Finds names that are free, in the worker whose word counts.

    Args:
        run_dir: the run's directory, in which checkpoints are.
        is_first: whether there was no attempt before, whose names could be there.
    """

    def __init__(self, run_dir: str, *, is_first: bool) -> None:
        self._given_dir = run_dir
        self._looks = not is_first  # else nothing can have the usual name
        self._used: set[str] = set()
        self._numbers: dict[str, int] = {}

    @functools.cached_property
    def _run_dir(self) -> str:
        return os.path.realpath(self._given_dir)

    def free(self, index: int, wanted: str = "", path: str = "") -> str:
        """Return the name for the next checkpoint, with a number if it is taken.

        Args:
            index: the checkpoint's number.
            wanted: what it should be; empty for the usual one.
            path: a directory that will become the checkpoint, and does not stand in its own way.
        """
        wanted = wanted or directory_name(index)
        if not self._looks and wanted == directory_name(index):
            return wanted
        name, number = wanted, self._numbers.get(wanted, 0)
        if number:
            name = f"{wanted}-{number}"
        while self._is_taken(name, path):
            number += 1
            name = f"{wanted}-{number}"
        return name

    def look(self) -> None:
        """From now on the usual name may be taken too: user code works in the run's directory."""
        self._looks = True

    def use(self, name: str, index: int, wanted: str = "") -> None:
        """Take note that a checkpoint gets a name that was free; say so once if it is another."""
        usual = directory_name(index)
        if name == usual and not self._looks:
            return
        self._looks = True
        self._used.add(name)
        wanted = wanted or usual
        if name == wanted:
            return
        if wanted not in self._numbers:
            log.warning(
                "%s is taken in %s, so the checkpoint gets the name %s; further ones are numbered "
                "on. Nothing that is there was changed",
                wanted,
                self._run_dir,
                name,
            )
        self._numbers[wanted] = int(name.rpartition("-")[2])

    def _is_taken(self, name: str, path: str) -> bool:
        if name in self._used or name in _own_names():
            return True
        there = os.path.join(self._run_dir, name)
        return there != path and os.path.lexists(there)


def inside(path: str, run_dir: str, what: str) -> str:
    """Return the real path of a directory that may become a checkpoint where it is.

    Args:
        path: as it was given.
        run_dir: the run's directory.
        what: where it was given, for the error.

    Raises:
        ValueError: it may not.
    """
    from milepost.checkpoint.manifest import MANIFEST_NAME
    from milepost.storage.names import PREFIX

    real, run = os.path.realpath(path), os.path.realpath(run_dir)
    if real == run or run.startswith(real.rstrip(os.sep) + os.sep):
        problem = "is the run's own directory, or holds it"
    elif not real.startswith(run + os.sep):
        problem = "is not in the run's directory"
    else:
        parts = os.path.relpath(real, run).split(os.sep)
        above = [os.path.join(run, *parts[:depth]) for depth in range(1, len(parts) + 1)]
        if any(part.startswith(PREFIX) for part in parts):
            problem = "is where Milepost keeps its own files"
        elif any(os.path.lexists(os.path.join(each, MANIFEST_NAME)) for each in above):
            problem = "is a committed checkpoint already, or part of one"
        else:
            return real
    raise ValueError(
        f"{what}: {path} {problem}. What is not copied must be a directory of its own below {run}; "
        "get_context().get_storage().build_checkpoint_path_from_name(name) is a path there. Leave "
        "the option out to have any directory copied. Nothing was reported."
    )


def uploaded(
    function: Callable[[Checkpoint, str], Checkpoint],
    checkpoint: Checkpoint,
    name: str,
    run_dir: str,
) -> str:
    """Have a user's function bring a checkpoint to the run's directory; where it is then.

    Args:
        function: the user's.
        checkpoint: for the function.
        name: for the function: of the directory that the checkpoint gets.
        run_dir: the run's directory.

    Raises:
        ValueError: it returned no checkpoint, or one that is somewhere else.
        Exception: of the function, which a note names.
    """
    from milepost.checkpoint.handle import Checkpoint

    what = f"checkpoint_upload_fn={getattr(function, '__qualname__', function)!r}"
    try:
        found = function(checkpoint, name)
    except Exception as error:
        error.add_note(
            f"It was raised by train.report({what}). Nothing was reported; what it has written is "
            "still there."
        )
        raise
    if not isinstance(found, Checkpoint):
        raise ValueError(
            f"train.report({what}): it returned {found!r}, which is no Checkpoint. Let it return "
            "Checkpoint.from_directory(path) with the path that it has written. Nothing was "
            "reported."
        )
    return inside(found.path, run_dir, f"what train.report({what}) returned")


@functools.cache
def _own_names() -> frozenset[str]:
    """The names of files that Milepost writes into a run's directory, maybe later."""
    from milepost.journal.files import failures, params, policy, progress_csv, result_json

    return frozenset(
        {
            result_json.NAME,
            progress_csv.NAME,
            params.JSON_NAME,
            params.PICKLE_NAME,
            failures.TEXT_NAME,
            failures.PICKLE_NAME,
            policy.GLOBAL_NAME,
        }
    )
