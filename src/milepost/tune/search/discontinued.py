"""Searchers whose library is not maintained any more."""

from __future__ import annotations

from typing import Any, ClassVar

from milepost.api.available import DISCONTINUED
from milepost.api.searcher import Searcher
from milepost.tune.search.library import MissingLibraryError


class Discontinued(Searcher):
    """A name that Ray has; making one says what to use instead."""

    #: Its name in :func:`milepost.tune.create_searcher`.
    named: ClassVar[str] = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise MissingLibraryError(f"{type(self).__name__}: {DISCONTINUED[self.named]}")
