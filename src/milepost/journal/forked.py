"""Descriptors that a forked child must not keep.

A child that user code forks off the driver shares its descriptors. While it lives, a lock would
stay held and a socket open after the driver's death, so they are closed in it at once.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class _Owner(Protocol):
    def forget(self) -> None: ...


_owners: weakref.WeakSet[_Owner] = weakref.WeakSet()


def register(owner: _Owner) -> None:
    """Call ``owner.forget()`` in every child that is forked while ``owner`` lives."""
    _owners.add(owner)


def _in_child() -> None:
    for owner in list(_owners):
        owner.forget()


os.register_at_fork(after_in_child=_in_child)
