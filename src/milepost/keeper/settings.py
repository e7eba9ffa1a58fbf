"""What users can set for the keeper, by environment variables."""

from __future__ import annotations

import os

from milepost.api.environment import seconds

STAGING_BYTES_VARIABLE = "MILEPOST_STAGING_BYTES"
DRAIN_VARIABLE = "MILEPOST_DRAIN_S"
DEFAULT_STAGING_BYTES = 16 << 30
DEFAULT_DRAIN_S = 60.0


def staging_bytes(place: str) -> int:
    """How many bytes may wait in staging on this node.

    It is ``$MILEPOST_STAGING_BYTES``, or 16 GiB, or a quarter of what is free in ``place`` if that
    is less.

    Raises:
        ValueError: the variable is set and is not a positive whole number.
    """
    configured = os.environ.get(STAGING_BYTES_VARIABLE)
    if configured:
        if not configured.isdecimal() or int(configured) == 0:
            raise ValueError(
                f"{STAGING_BYTES_VARIABLE}={configured!r} is not a positive number of bytes"
            )
        return int(configured)
    disk = os.statvfs(place)
    return min(DEFAULT_STAGING_BYTES, disk.f_bavail * disk.f_frsize // 4)


def drain_s() -> float:
    """How long a keeper works on when its driver has ended: ``$MILEPOST_DRAIN_S``, or 60 s.

    Raises:
        ValueError: the variable is set and is not a number of seconds.
    """
    return seconds(DRAIN_VARIABLE, DEFAULT_DRAIN_S)
