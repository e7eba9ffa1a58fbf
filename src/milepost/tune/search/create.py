"""Making a searcher by its name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from milepost.api.available import require_searcher_name
from milepost.tune.named import accepted_arguments

_RANDOM = ("milepost.tune.search.basic_variant", "BasicVariantGenerator")
_NAMED = {
    "ax": ("milepost.tune.search.ax", "AxSearch"),
    "bayesopt": ("milepost.tune.search.bayesopt", "BayesOptSearch"),
    "bohb": ("milepost.tune.search.bohb", "TuneBOHB"),
    "hyperopt": ("milepost.tune.search.hyperopt", "HyperOptSearch"),
    "nevergrad": ("milepost.tune.search.nevergrad", "NevergradSearch"),
    "optuna": ("milepost.tune.search.optuna", "OptunaSearch"),
    "random": _RANDOM,
    "variant_generator": _RANDOM,
}


def create_searcher(search_alg: str, **kwargs: Any) -> Any:
    """Return a searcher or search algorithm by name. Mirrors ``ray.tune.create_searcher``.

    Args:
        search_alg: the name, in any case: ``"random"`` or ``"variant_generator"`` for random and
            grid search, or the name of a library, such as ``"optuna"``.
        **kwargs: its arguments; those it does not know are left out, with a line in the log.

    Raises:
        ValueError: this version has no searcher of that name.
        ImportError: its library is not installed.
    """
    module, name = _NAMED[require_searcher_name(search_alg)]
    kind = getattr(import_module(module), name)
    return kind(**accepted_arguments(kind, kwargs))
