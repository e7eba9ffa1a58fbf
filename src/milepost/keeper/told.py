"""What a person was told of captures that wait, so that it is said once on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Final

import msgspec

from milepost.storage import posix

log = logging.getLogger("milepost.keeper")

NAME: Final = "told.json"

# Made once, at import: msgspec crashes when two threads decode a type for the first time at once.
_DECODE: Final = msgspec.json.Decoder(dict[str, str]).decode


def news(root: str, found: Mapping[str, str]) -> set[str]:
    """Return which of these nobody was told of, and note that it is done now.

    What was noted of anything else is forgotten. Of two keepers that look at the same time both
    may tell.

    Args:
        root: the node root.
        found: where something waits -> what it is; told again when that changes.
    """
    path = os.path.join(root, NAME)
    before = _read(path)
    after = dict(found)
    if after != before:
        try:
            if after:
                posix.durable_replace(path, msgspec.json.encode(after) + b"\n", 0o600)
            else:
                posix.unlink(path)
        except OSError as error:
            log.info("%s cannot be written (%s); it will be said again", path, error.strerror)
    return {place for place, what in after.items() if before.get(place) != what}


def _read(path: str) -> dict[str, str]:
    try:
        with open(path, "rb") as file:
            return _DECODE(file.read())
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.info("%s cannot be read (%s); what it was about is said again", path, error)
        return {}
