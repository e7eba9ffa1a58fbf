"""Search with ZOOpt, which is not maintained any more."""

from __future__ import annotations

from typing import ClassVar

from milepost.tune.search.discontinued import Discontinued

__all__ = ["ZOOptSearch"]


class ZOOptSearch(Discontinued):
    """Not available: ZOOpt is not maintained any more. Making one says what to use instead.

    Raises:
        ImportError: always; also an ``AssertionError``, which Ray raises without the library.
    """

    named: ClassVar[str] = "zoopt"
