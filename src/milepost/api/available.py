"""What this version has, and errors that name it to somebody who asks for more."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import PathFinder
from typing import Final

from milepost import __version__

#: Schedulers and search algorithms that can be chosen by name, in lower case.
SCHEDULERS: Final = (
    "async_hyperband",
    "asynchyperband",
    "fifo",
    "hb_bohb",
    "hyperband",
    "median_stopping_rule",
    "medianstopping",
    "pb2",
    "pbt",
    "pbt_replay",
    "resource_changing",
)
SEARCH_ALGORITHMS: Final = (
    "ax",
    "bayesopt",
    "bohb",
    "hyperopt",
    "nevergrad",
    "optuna",
    "random",
    "variant_generator",
)
#: Search algorithms of Ray whose library is not maintained any more, and what to use instead.
DISCONTINUED: Final = {
    "hebo": "HEBO is not maintained any more. Use OptunaSearch; for a Gaussian process, AxSearch "
    "or BayesOptSearch.",
    "zoopt": "ZOOpt is not maintained any more. Use NevergradSearch, which has many methods "
    "without derivatives, or OptunaSearch.",
}

#: Other names that schedulers go by.
ALSO_CALLED: Final = {"asha": "async_hyperband", "ashascheduler": "async_hyperband"}

# Only a slip of the pen: ASHAScheduler is not a misspelt FIFOScheduler.
_CLOSE = 0.85
# More names than these are no help in an error.
_MOST_NAMES = 16


def require_scheduler_name(name: str) -> str:
    """Return the name of a scheduler in lower case.

    Raises:
        ValueError: this version has no scheduler of that name.
    """
    return _required(name, "scheduler", SCHEDULERS, "milepost.tune.schedulers.TrialScheduler")


def require_searcher_name(name: str) -> str:
    """Return the name of a search algorithm in lower case.

    Raises:
        ValueError: this version has no search algorithm of that name.
    """
    if str(name).lower() in DISCONTINUED:
        raise ValueError(f"The search algorithm {name!r}: {DISCONTINUED[str(name).lower()]}")
    return _required(name, "search algorithm", SEARCH_ALGORITHMS, "milepost.tune.search.Searcher")


def _required(name: str, kind: str, known: tuple[str, ...], base: str) -> str:
    lowered = str(name).lower()
    if lowered not in known:
        called = ALSO_CALLED.get(lowered)
        meant = f" Did you mean {called!r}?" if called in known else ""
        raise ValueError(
            f"There is no {kind} {name!r} in this version ({__version__}) of Milepost."
            f"{meant}{_hint(lowered, known)} An object whose class derives from {base} can be used "
            "as well."
        )
    return lowered


def missing(
    module: str, name: str, available: Iterable[str], advice: Mapping[str, str] | None = None
) -> AttributeError | ImportError:
    """Return the error for a name that a module does not have, for its ``__getattr__`` to raise.

    Args:
        module: its name.
        name: what was asked for.
        available: the names that it has.
        advice: what to do instead, by name.

    Returns:
        An ``AttributeError``; an ``ImportError`` when a ``from`` import asks, whose own error
        would not tell more than the name.
    """
    if name.startswith("__"):  # asked for by the import system and by copy and pickle
        return AttributeError(f"module {module!r} has no attribute {name!r}")
    names = [one for one in available if not one.startswith("__")]
    told = f" {advice[name]}" if advice and name in advice else _hint(name, names)
    text = (
        f"module {module!r} has no attribute {name!r} in this version ({__version__}) of Milepost."
        + told
    )
    # A `from` import asks from this function of Python's, and goes on to look for a submodule.
    asks = sys._getframe(2).f_code
    if asks.co_name != "_handle_fromlist" or _has_submodule(module, name):
        return AttributeError(text)
    return ImportError(text, name=module)


def _has_submodule(package: str, name: str) -> bool:
    return PathFinder.find_spec(f"{package}.{name}", sys.modules[package].__path__) is not None


def _hint(name: str, names: Iterable[str]) -> str:
    known = sorted(set(names), key=str.lower)
    if close := difflib.get_close_matches(name, known, n=1, cutoff=_CLOSE):
        return f" Did you mean {close[0]!r}?"
    return f" Available are: {', '.join(known)}." if len(known) <= _MOST_NAMES else ""
