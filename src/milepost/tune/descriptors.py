"""The driver's standard descriptors, where a script was started without them."""

from __future__ import annotations

import os

_STANDARD = (0, 1, 2)


def fill_standard_descriptors() -> None:
    """Open ``/dev/null`` in place of each of standard input, output and error that is closed.

    Otherwise the next file that is opened gets its number, and whatever a library or a child
    process prints goes into that file: into a journal, for one.
    """
    for descriptor in _STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null == descriptor:
                os.set_inheritable(null, True)
            else:
                os.dup2(null, descriptor)
                os.close(null)
