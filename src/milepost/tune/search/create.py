"""Making a searcher by its name."""

from __future__ import annotations

from typing import Any

from milepost.api.available import require_searcher_name
from milepost.tune.named import accepted_arguments
from milepost.tune.search.basic_variant import BasicVariantGenerator

_NAMED = {"random": BasicVariantGenerator, "variant_generator": BasicVariantGenerator}


def create_searcher(search_alg: str, **kwargs: Any) -> Any:
    """Return a search algorithm by name. Mirrors ``ray.tune.create_searcher``.

    Args:
        search_alg: ``"random"`` or ``"variant_generator"``, in any case: random and grid search.
        **kwargs: its arguments; those it does not know are left out, with a line in the log.

    Raises:
        ValueError: this version has no search algorithm of that name.
    """
    kind = _NAMED[require_searcher_name(search_alg)]
    return kind(**accepted_arguments(kind, kwargs))
