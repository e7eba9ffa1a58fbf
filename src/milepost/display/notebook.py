"""Progress as a table in a notebook cell."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from milepost.display.html import render
from milepost.display.picture import Picture, final_picture, live_picture
from milepost.display.surface import Surface

if TYPE_CHECKING:
    from milepost.control.view import RunView

#: Seconds between two drawings: each one is a message to the browser.
PERIOD_S = 1.0
#: Rows of trials while the run goes on.
ROWS = 20


def in_notebook() -> bool:
    """Tell whether this process is a notebook's kernel (not a terminal with IPython)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


class Notebook(Surface):
    """Keeps one table in the cell's output; lines appear below it as the cell's own output."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(period_s=PERIOD_S, clock=clock)
        self._handle: Any = None

    def draw(self, view: RunView) -> None:
        """Draw the table anew, in its place."""
        self._show(live_picture(view, max_rows=ROWS))

    def finish(self, view: RunView) -> None:
        """Draw the final table, in its place."""
        self._show(final_picture(view))

    def _show(self, now: Picture) -> None:
        from IPython.display import display

        from milepost.display import text

        formats = {"text/html": render(now), "text/plain": text.render(now, width=100)}
        if self._handle is None:
            self._handle = display(formats, raw=True, display_id=True)
        else:
            self._handle.update(formats, raw=True)
