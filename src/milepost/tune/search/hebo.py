"""Search with HEBO, which is not maintained any more."""

from __future__ import annotations

from typing import ClassVar

from milepost.tune.search.discontinued import Discontinued

__all__ = ["HEBOSearch"]


class HEBOSearch(Discontinued):
    """Not available: HEBO is not maintained any more. Making one says what to use instead.

    Raises:
        ImportError: always; also an ``AssertionError``, which Ray raises without the library.
    """

    named: ClassVar[str] = "hebo"
