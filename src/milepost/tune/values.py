"""Values of recorded configs that cannot be loaded, taken from a search space instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from milepost.errors import JournalError
from milepost.tune.likeness import plain_text
from milepost.tune.search.domains import Categorical, Domain
from milepost.tune.search.space import Grid, variable_of
from milepost.tune.space_diff import Unloadable

if TYPE_CHECKING:
    from milepost.journal.image import TrialImage

# As the codec writes a value that it pickled, and a large array.
_PICKLED = re.compile(rb'"\$":"object","v":"([0-9a-f]{32})"')
_ARRAY = re.compile(rb'"object":"([0-9a-f]{32})"')
_MOST_TRIALS = 10


class Supply:
    """Gives values of configs that cannot be loaded, from the same keys of a search space.

    Args:
        space: the search space. A constant is taken as it is; of a choice or grid, the one value
            that shows as the recorded one did.
    """

    def __init__(self, space: dict[str, Any]) -> None:
        self._space = space

    def __call__(self, trial_id: str, where: str, text: str, error: Exception) -> Any:
        """Return the value for a place in a trial's config, such as ``model/encoder``.

        Raises:
            ValueError: the space has none.
        """
        found = list(self._candidates(self._space, where.split("/"), text))
        if not found:
            raise ValueError(_not_had([f"{where} of trial {trial_id}, which was {text} ({error})"]))
        return found[0]

    def missing(self, path: str, trials: Iterable[TrialImage]) -> list[str]:
        """Return a line for each value that neither the record nor the space has.

        Args:
            path: the experiment's directory.
            trials: those whose configs are needed.
        """
        from milepost.journal.objects import Objects
        from milepost.storage import codec

        objects = Objects(path)
        usable: dict[bytes, bool] = {}
        lines: list[str] = []
        for trial in trials:
            raw = bytes(trial.config)
            if all(_is_usable(objects, usable, *found) for found in _digests(raw)):
                continue

            def note(where: str, text: str, error: Exception, owner: str = trial.trial) -> None:
                if next(self._candidates(self._space, where.split("/"), text), None) is None:
                    lines.append(f"{where} of trial {owner}, which was {text} ({error})")

            codec.decode(raw, objects.get, note)
        return lines

    def _candidates(self, space: Any, path: list[str], text: str) -> Iterator[Any]:
        """Yield the values that a space has at a path; a variable only if exactly one fits."""
        variable = variable_of(space, ())
        if variable is not None:
            values = _values_of(variable)
            if not path:
                fitting = [value for value in values if _shows_as(value, text)]
                yield from fitting if len(fitting) == 1 else []
            else:  # a value that was chosen, and has the place inside of it
                for value in values:
                    yield from self._candidates(value, path, text)
        elif not path:
            if not isinstance(space, Unloadable):
                yield space
        elif isinstance(space, dict):
            # A key may have slashes itself.
            for key, value in space.items():
                steps = str(key).split("/")
                if path[: len(steps)] == steps:
                    yield from self._candidates(value, path[len(steps) :], text)
        elif isinstance(space, list | tuple) and path[0].isdecimal() and int(path[0]) < len(space):
            yield from self._candidates(space[int(path[0])], path[1:], text)


def require(lines: list[str]) -> None:
    """Raise if values are missing.

    Raises:
        ValueError: with each key and trial.
    """
    if lines:
        raise ValueError(_not_had(lines))


def _not_had(lines: list[str]) -> str:
    shown = "".join(f"\n  - {line}" for line in lines[:_MOST_TRIALS])
    more = f"\n  - {len(lines) - _MOST_TRIALS} more" if len(lines) > _MOST_TRIALS else ""
    return (
        "Values in the configs of trials cannot be loaded, and the search space does not have "
        f"them:{shown}{more}\nMake their modules importable, or pass param_space=... with these "
        "keys, as when the experiment was started. Nothing was changed."
    )


def _digests(raw: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield what a config refers to: the digest, and whether it is a pickle."""
    yield from ((digest, True) for digest in _PICKLED.findall(raw))
    yield from ((digest, False) for digest in _ARRAY.findall(raw))


def _is_usable(objects: Any, known: dict[bytes, bool], digest: bytes, is_pickle: bool) -> bool:
    if digest not in known:
        try:
            (objects.get_value if is_pickle else objects.get)(digest.decode())
        except JournalError:
            known[digest] = False
        except Exception:  # noqa: BLE001 - unpickling imports and runs users' code
            known[digest] = False
        else:
            known[digest] = True
    return known[digest]


def _values_of(variable: Any) -> tuple[Any, ...]:
    if isinstance(variable, Grid):
        return variable.values
    if isinstance(variable, Domain) and isinstance(variable, Categorical):
        return tuple(variable.categories)
    return ()


def _shows_as(value: Any, text: str) -> bool:
    shown = plain_text(value)
    recorded = re.sub(r"\b0x[0-9a-f]+\b", "0x...", text)
    return shown == recorded or (recorded.endswith("...") and shown.startswith(recorded[:-3]))
